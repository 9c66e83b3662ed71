"""Models, optimizers and batches of the presets in `presets.json` and `presets-gpu.json`."""

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
"""Steps of a run in its schedules. Measured runs take fewer steps."""


def tune():
    """Selects the fastest settings of PyTorch that we found, still in float32.

    By default PyTorch uses MKL for matrix products, which takes AVX2 kernels on processors of other makers than Intel.
    The precision "medium" selects oneDNN. On a processor with AMX, oneDNN then rounds to bfloat16; others compute in
    float32 with AVX-512, at twice the speed. This function measures the error of a product, and restores full
    precision if the error is larger than float32's. Fused attention is slow with oneDNN, so plain products replace it.
    """
    torch.set_float32_matmul_precision("medium")
    a, b = torch.randn(2, 256, 256)
    apart = ((a @ b).double() - a.double() @ b.double()).abs().max()
    if apart > 1e-3:  # float32: 6e-5; bfloat16: 2e-1
        torch.set_float32_matmul_precision("highest")
    else:
        torch.backends.cuda.enable_flash_sdp(False)  # despite its name, it also applies to CPUs


def compiled(model, tuned):
    # Compiled dropout draws its numbers one by one; the dropout of eager mode is 1.5 times as fast.
    options = {"fallback_random": True} if tuned else None
    return torch.compile(model, fullgraph=True, dynamic=False, options=options)


def model_of(kind, settings):
    """Returns the model `kind` of `models/`, with weights drawn from PyTorch's generator."""
    module = importlib.import_module(f"models.{kind}")
    return module.Model(module.Config(**settings))


def optimizer_of(preset, model, compile=False, dtype=torch.float32):
    """Returns the optimizer of a preset. `dtype` is the data type of Muon's products."""
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
        # Pinned memory, so that the copies do not wait for the GPU.
        return tuple(part.pin_memory().to(self.device, non_blocking=True) for part in (inputs, targets))
