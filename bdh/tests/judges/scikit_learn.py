"""Prints the metrics of each case of a JSON file as scikit-learn computes them: `[{name: value, ...}, ...]`.

A case has all rows of an eval: `outputs`, `[rows * outputs]`, and `targets`, `[rows]`. Its `kind` is
`["classes", classes, k]`, `["ranks"]` or `["errors"]`.
"""

import json
import sys

import numpy as np
from sklearn import metrics


def floats(values):
    """The values, which are in single precision, in double precision."""
    return np.array(values, dtype=np.float32).astype(np.float64)


def classes(outputs, targets, count, k):
    logits, targets = outputs.reshape(-1, count), targets.astype(int)
    predicted = logits.argmax(axis=1)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        targets, predicted, average="macro", zero_division=0
    )
    labels = range(count)
    return {
        "accuracy": metrics.accuracy_score(targets, predicted),
        f"top_{k}": metrics.top_k_accuracy_score(targets, logits, k=k, labels=labels),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "confusion": metrics.confusion_matrix(targets, predicted, labels=labels).tolist(),
    }


def ranks(scores, labels):
    return {
        "auroc": metrics.roc_auc_score(labels, scores),
        "average_precision": metrics.average_precision_score(labels, scores),
    }


def errors(predictions, targets):
    return {
        "mae": metrics.mean_absolute_error(targets, predictions),
        "rmse": metrics.root_mean_squared_error(targets, predictions),
        "r2": metrics.r2_score(targets, predictions),
    }


KINDS = {"classes": classes, "ranks": ranks, "errors": errors}

with open(sys.argv[1]) as file:
    cases = json.load(file)
answers = []
for case in cases:
    kind, *settings = case["kind"]
    outputs, targets = floats(case["outputs"]), floats(case["targets"])
    answers.append(KINDS[kind](outputs, targets, *settings))
print(json.dumps(answers))
