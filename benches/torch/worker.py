"""PyTorch's side: trains a preset some steps at a time, as `examples/benches/pytorch.rs` says.

usage: worker.py PRESET eager|compile|eager-tuned|compile-tuned
"""

import json
import sys
import time

import torch

from presets import PRESETS, Crops, compiled, model_of, optimizer_of, tune

LOSS_EVERY = 10


class Run:
    def __init__(self, preset, compile, tuned):
        torch.manual_seed(1337)
        if tuned:
            tune()
        self.crops = Crops(preset)
        model = model_of(preset["model"], preset["config"])
        self.optimizer = optimizer_of(preset, model, compile)
        self.model = compiled(model, tuned) if compile else model
        self.steps, self.loss = 0, None

    def step(self):
        loss = self.model(*self.crops.batch())
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        if self.steps % LOSS_EVERY == 0:
            self.loss = loss.item()

    def take(self, steps):
        """Seconds of each step."""
        took = []
        for _ in range(steps):
            began = time.perf_counter()
            self.step()
            took.append(time.perf_counter() - began)
        return took


def main(name, mode):
    run = Run(PRESETS[name], compile=mode.startswith("compile"), tuned=mode.endswith("-tuned"))
    steps = 1
    while True:
        print(json.dumps({"seconds": run.take(steps), "loss": run.loss}), flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        command, steps = line.split()
        if command != "run":
            sys.exit("a command is `run STEPS`")
        steps = int(steps)


if __name__ == "__main__":
    main(*sys.argv[1:])
