"""What both sides train: `presets.json`, as models, optimizers and batches."""

import importlib
import json
from pathlib import Path

import torch

import optim

PRESETS = json.loads((Path(__file__).parent / "presets.json").read_text())
TEXT = 100_000
"""Steps of the run, as far as schedules go by it: more than anybody takes."""
HORIZON = 100_000


def model_of(kind, settings):
    """The model `kind` of `models/`, with weights drawn from PyTorch's generator."""
    module = importlib.import_module(f"models.{kind}")
    return module.Model(module.Config(**settings))


def optimizer_of(preset, model, compile=False):
    make = getattr(optim, preset["model"])
    return make(model, horizon=HORIZON, tokens=preset["rows"] * preset["seq_len"], compile=compile)


class Crops:
    """Random windows of one text, with the tokens that follow them."""

    def __init__(self, preset):
        at = torch.arange(TEXT)
        self.text = (at * at + at // 7) % preset["config"]["vocab_size"]
        self.windows = self.text.unfold(0, preset["seq_len"] + 1, 1)
        self.rows = preset["rows"]

    def batch(self):
        rows = self.windows[torch.randint(len(self.windows), (self.rows,))]
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
