"""Answers of W&B's own `sweeps` package on search spaces, grids and early termination.

Reads a JSON file of questions and prints a JSON list of answers. Numbers must be finite.
"""

import json
import sys

import numpy as np
import sweeps
import yaml
from sweeps.params import HyperParameter


def plain(value):
    """Converts NumPy's types to Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value]
    return value


def quantiles(question):
    parameter = HyperParameter("x", question["parameter"])
    return [plain(parameter.ppf(p)) for p in question["at"]]


def grid(question):
    runs = sweeps.next_runs(question["sweep"], [], validate=False, n=question["count"] + 1)
    assert runs.pop() is None, "the grid has more points"
    return [{name: entry["value"] for name, entry in run.config.items()} for run in runs]


def ends(question):
    name = question["sweep"]["metric"]["name"]
    runs = [
        sweeps.SweepRun(
            name=str(index),
            state=sweeps.RunState.running if run["is_running"] else sweeps.RunState.finished,
            history=[{name: value} for value in run["history"]],
        )
        for index, run in enumerate(question["runs"])
    ]
    ended = sweeps.stop_runs(question["sweep"], runs)
    return sorted(int(run.name) for run in ended)


def is_valid(question):
    violations = sweeps.config.schema_violations_from_proposed_config(question["sweep"])
    return len(violations) == 0


def spelled(question):
    return [str(value) for value in question["values"]]


def words_of_yaml(question):
    """Reads words as `wandb sweep` reads a file."""
    return [yaml.safe_load(f"value: {word}")["value"] for word in question["words"]]


ANSWERS = {"yaml": words_of_yaml, "spelled": spelled, "quantiles": quantiles, "grid": grid, "ends": ends, "is_valid": is_valid}

with open(sys.argv[1]) as file:
    questions = json.load(file)
print(json.dumps([ANSWERS[question["ask"]](question) for question in questions]))
