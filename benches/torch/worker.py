"""Trains a preset with PyTorch, some steps at a time, with the protocol of `examples/benches/pytorch.rs`.

usage: worker.py PRESET eager|compile|eager-tuned|compile-tuned [cpu|cuda [f32|bf16]]

In bf16, autocast selects the operations that use bf16; parameters, gradients and moments are f32. On a GPU, f32 uses
TF32 in matrix products, as our side does.
"""

import contextlib

import json
import sys
import time

import torch

from presets import PRESETS, Crops, compiled, model_of, optimizer_of, tune

LOSS_EVERY = 10


class Run:
    def __init__(self, preset, compile, tuned, device, precision):
        torch.manual_seed(1337)
        self.device, self.on_gpu = device, device != "cpu"
        if tuned:
            tune()
        if self.on_gpu:
            torch.set_float32_matmul_precision("high")
        self.crops = Crops(preset, device)
        model = model_of(preset["model"], preset["config"]).to(device)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.optimizer = optimizer_of(preset, model, compile, dtype)
        self.autocast = contextlib.nullcontext()
        if precision == "bf16":
            self.autocast = torch.autocast(device.split(":")[0], dtype)
        self.model = compiled(model, tuned) if compile else model
        self.steps, self.loss = 0, None

    def step(self):
        with self.autocast:
            loss = self.model(*self.crops.batch())
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        if self.steps % LOSS_EVERY == 0:
            self.loss = loss.item()

    def take(self, steps):
        """Returns the seconds of each step. The last one includes the work that a GPU still has to finish."""
        took = []
        for step in range(steps):
            began = time.perf_counter()
            self.step()
            if self.on_gpu and step == steps - 1:
                torch.cuda.synchronize()
            took.append(time.perf_counter() - began)
        return took

    def memory(self):
        """Returns the peak bytes of tensors on the GPU; None on the CPU, where compare.py measures the process."""
        return torch.cuda.max_memory_allocated() if self.on_gpu else None


def main(name, mode, device="cpu", precision="f32"):
    compile, tuned = mode.startswith("compile"), mode.endswith("-tuned")
    run = Run(PRESETS[name], compile, tuned, device, precision)
    steps = 1
    while True:
        print(json.dumps({"seconds": run.take(steps), "loss": run.loss, "memory": run.memory()}), flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        command, steps = line.split()
        if command != "run":
            sys.exit(f"unknown command `{command}`; expected `run STEPS`")
        steps = int(steps)


if __name__ == "__main__":
    main(*sys.argv[1:])
