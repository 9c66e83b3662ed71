"""What both sides train: `presets.json` and `presets-gpu.json`, as models, optimizers and batches."""

import importlib
import json
from pathlib import Path

import torch

import optim

PRESETS = {}
for file in ["presets.json", "presets-gpu.json"]:
    PRESETS |= json.loads((Path(__file__).parent / file).read_text())
TEXT = 100_000
HORIZON = 100_000
"""Steps of the run, as far as schedules go by it: more than anybody takes."""


def tune():
    """Makes PyTorch as fast as we know how, still in float32.

    Matrix products go to MKL by default, which takes AVX2 kernels on processors that are not Intel's. The precision
    "medium" sends them to oneDNN, which may round to bfloat16 then, and does where a processor has units for it (AMX);
    elsewhere it computes in float32 with AVX-512, at twice the speed. So it is taken back where a product is less exact
    than one of float32. The fused attention is slow with it, so that is left to plain products.
    """
    torch.set_float32_matmul_precision("medium")
    a, b = torch.randn(2, 256, 256)
    apart = ((a @ b).double() - a.double() @ b.double()).abs().max()
    if apart > 1e-3:  # float32: 6e-5; bfloat16: 2e-1
        torch.set_float32_matmul_precision("highest")
    else:
        torch.backends.cuda.enable_flash_sdp(False)  # whatever it is called, it is for CPUs as well


def compiled(model, tuned):
    # Compiled dropout draws its numbers one by one; that of eager mode is half again as fast.
    options = {"fallback_random": True} if tuned else None
    return torch.compile(model, fullgraph=True, dynamic=False, options=options)


def model_of(kind, settings):
    """The model `kind` of `models/`, with weights drawn from PyTorch's generator."""
    module = importlib.import_module(f"models.{kind}")
    return module.Model(module.Config(**settings))


def optimizer_of(preset, model, compile=False, dtype=torch.float32):
    """`dtype` is that of Muon's products."""
    make = getattr(optim, preset["model"])
    tokens = preset["rows"] * preset["seq_len"]
    return make(model, horizon=HORIZON, tokens=tokens, compile=compile, dtype=dtype)


class Crops:
    """Random windows of one text, with the tokens that follow them."""

    def __init__(self, preset, device="cpu"):
        self.device = device
        at = torch.arange(TEXT)
        self.text = (at * at + at // 7) % preset["config"]["vocab_size"]
        self.windows = self.text.unfold(0, preset["seq_len"] + 1, 1)
        self.rows = preset["rows"]

    def batch(self):
        rows = self.windows[torch.randint(len(self.windows), (self.rows,))]
        inputs, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        if self.device == "cpu":
            return inputs, targets
        # Pinned, so that the copies wait for nothing.
        return tuple(part.pin_memory().to(self.device, non_blocking=True) for part in (inputs, targets))
