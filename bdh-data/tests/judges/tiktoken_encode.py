"""Prints the ids of texts as JSON: tiktoken_encode.py TOKENIZER TEXTS.

TOKENIZER is a pickled encoding (`.pkl`), or a tokenizer that bdh has saved (`.json`).
"""

import json
import pickle
import sys

import tiktoken


def load(path):
    if path.endswith(".pkl"):
        with open(path, "rb") as file:
            return pickle.load(file)
    with open(path, encoding="utf-8") as file:
        saved = json.load(file)
    ranks = {bytes.fromhex(token): id for id, token in enumerate(saved["tokens"]) if token}
    return tiktoken.Encoding(
        "saved",
        pat_str=saved["pattern"],
        mergeable_ranks=ranks,
        special_tokens=saved["special"],
    )


encoding = load(sys.argv[1])
with open(sys.argv[2], encoding="utf-8") as file:
    texts = json.load(file)
json.dump([encoding.encode_ordinary(text) for text in texts], sys.stdout)
