"""Times tiktoken for `tokenizers.rs`: tiktoken_worker.py TOKENIZER TEXT.

TOKENIZER is a file that bdh has saved. Each line of the input is answered with `took SECONDS IDS`: the time of encoding
the text once, on one thread, and the number of ids.
"""

import json
import sys
import time

import tiktoken

with open(sys.argv[1], encoding="utf-8") as file:
    saved = json.load(file)
encoding = tiktoken.Encoding(
    "saved",
    pat_str=saved["pattern"],
    mergeable_ranks={bytes.fromhex(token): id for id, token in enumerate(saved["tokens"]) if token},
    special_tokens=saved["special"],
)
with open(sys.argv[2], encoding="utf-8", newline="") as file:
    text = file.read()

for _ in sys.stdin:
    began = time.perf_counter()
    ids = encoding.encode_ordinary(text)
    print(f"took {time.perf_counter() - began} {len(ids)}", flush=True)
