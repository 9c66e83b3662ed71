"""Times what people write logs with in Python, for `sinks.rs`.

Reads lines `KIND COUNT DIRECTORY` and answers each with `took SECONDS`. KIND is one of

    scalars     tensorboardX: `add_scalar`, until the file is closed
    histograms  tensorboardX: `add_histogram` of 65,536 float32 into 64 bins, until the file is closed
    rows        wandb, offline: `run.log` of five metrics; what its service does afterwards is not counted
"""

import sys
import time

import numpy as np
import wandb
from tensorboardX import SummaryWriter

VALUES = np.sin(np.arange(65_536, dtype=np.float32) * np.float32(1.7))
METRICS = [f"group/metric_{number}" for number in range(5)]


def scalars(count, directory):
    began = time.perf_counter()
    with SummaryWriter(directory) as writer:
        for step in range(count):
            writer.add_scalar("group/metric_0", 1 / (step + 3), step)
    return time.perf_counter() - began


def histograms(count, directory):
    began = time.perf_counter()
    with SummaryWriter(directory) as writer:
        for step in range(count):
            writer.add_histogram("weights", VALUES, step, bins=64)
    return time.perf_counter() - began


def rows(count, directory):
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)
    run = wandb.init(mode="offline", dir=directory, project="bench", settings=settings)
    began = time.perf_counter()
    for step in range(count):
        run.log({metric: 1 / (step + 3) for metric in METRICS})
    took = time.perf_counter() - began
    run.finish()
    return took


KINDS = {"scalars": scalars, "histograms": histograms, "rows": rows}
for line in sys.stdin:
    kind, count, directory = line.rstrip("\n").split(" ", 2)
    print(f"took {KINDS[kind](int(count), directory)}", flush=True)
