"""CORE as nanochat evaluates it, in CPython: order, few-shot examples, prompts, what is judged, who is right.

Reads a JSON file of questions and prints a JSON list of answers. Tokens are bytes after a 256, and in the place of a
model stands a sum of theirs: what is compared is everything around the model.
"""

import json
import random
import sys


def draws(question):
    generator = random.Random(question["seed"])
    items = list(range(question["shuffle"]))
    generator.shuffle(items)
    samples = [generator.sample(range(n), k) for n, k in question["samples"]]
    return [items, samples, [generator.random() for _ in range(5)]]


def spaces(_):
    return [code for code in range(0x110000) if chr(code).isspace()]


def prompts(kind, between, item, shots):
    """The texts of an item, after the examples."""
    shown = ""
    for shot in shots:
        if kind == "mc":
            pair = shot["query"], shot["choices"][shot["gold"]]
        elif kind == "schema":
            pair = shot["context_options"][shot["gold"]], shot["continuation"]
        else:
            pair = shot["context"].strip(), shot["continuation"]
        shown += between.join(pair) + "\n\n"
    if kind == "mc":
        return [shown + item["query"] + between + choice for choice in item["choices"]]
    if kind == "schema":
        return [shown + context + between + item["continuation"] for context in item["context_options"]]
    start = shown + item["context"].strip() + between
    return [start.strip(), start + item["continuation"]]


def in_common(rows):
    length = 0
    for column in zip(*rows):
        if len(set(column)) > 1:
            break
        length += 1
    return length


def judged(kind, texts):
    """Rows of ids, each with the place where the judged part begins."""
    rows = [[256, *text.encode()] for text in texts]
    if kind == "mc":
        start = in_common(rows)
        return [(row, start) for row in rows]
    if kind == "schema":
        end = in_common([row[::-1] for row in rows])
        return [(row, len(row) - end) for row in rows]
    without, whole = rows
    assert whole[: len(without)] == without and len(whole) > len(without)
    return [(whole, len(without))]


def cropped(row, start, context):
    cut = max(0, len(row) - context)
    return row[cut:], max(1, start - cut)


def nats(row, t):
    return (row[t] * 31 + row[t - 1] * 7 + t * 13) % 64 / 16


def is_likeliest(row, t):
    return (row[t] * 3 + row[t - 1] + t) % 8 != 0


def mean_nats(row, start):
    losses = [nats(row, t) for t in range(start, len(row))]
    return sum(losses) / len(losses) if losses else float("nan")


def is_right(kind, rows, item):
    if kind == "lm":
        return all(is_likeliest(row, t) for row, start in rows for t in range(start, len(row)))
    losses = [mean_nats(row, start) for row, start in rows]
    return losses.index(min(losses)) == item["gold"]


def digest(row):
    value = 0
    for token in row:
        value = (value * 1000003 + token + 1) % (2**61 - 1)
    return value


def task(question):
    kind, between = question["kind"], question["delimiter"]
    with open(question["file"], encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    random.Random(1337).shuffle(items)
    items = items[: question["max_per_task"]]
    seen, right, cut = [], [], 0
    for index, item in enumerate(items):
        others = [other for other in range(len(items)) if other != index]
        chosen = random.Random(1234 + index).sample(others, question["shots"])
        texts = prompts(kind, between, item, [items[other] for other in chosen])
        whole = judged(kind, texts)
        rows = [cropped(row, start, question["context"]) for row, start in whole]
        # Of what is judged, the first token needs one before it.
        room = question["context"] - 1
        cut += any(len(row) > room + 1 and len(row) - start > room for row, start in whole)
        seen.append([[digest(row), start] for row, start in rows])
        right.append(is_right(kind, rows, item))
    return [seen, right, cut]


ANSWERS = {"draws": draws, "spaces": spaces, "task": task}

with open(sys.argv[1]) as file:
    questions = json.load(file)
print(json.dumps([ANSWERS[question["ask"]](question) for question in questions]))
