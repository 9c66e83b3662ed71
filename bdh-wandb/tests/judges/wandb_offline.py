"""Logs a run offline with W&B's own client, into a folder: a nested configuration, NaN, a missing value."""

import os
import sys

os.environ["WANDB_SILENT"] = "true"
import wandb

run = wandb.init(
    project="p", mode="offline", dir=sys.argv[1], config={"lr": 0.001, "model": {"depth": 4}, "name": "x"}
)
for step in range(5):
    row = {"train/loss": 5.0 - step}
    if step % 2 == 0:
        row["val_bpb"] = 3.0 - step / 4 if step < 4 else float("nan")
    run.log(row, step=step * 10)
run.finish(exit_code=int(sys.argv[2]))
print("{}")
