"""Measurements of `gpu.py`: speed, memory, the cost of callbacks and scaling; names of the GPU and of PyTorch."""

import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from compare import Ended, Worker, nvidia_smi

CARDS = ["b200", "h200", "h100", "a100", "l40s", "l4", "5090", "4090", "3090"]
"""GPUs that have a known peak, by a word in their names."""
VARIANTS = ["nvl", "pcie"]
"""Slower variants of the H200 and the H100."""


class Notes:
    """Sentences below the table. Each is printed once."""

    def __init__(self):
        self.all = []

    def add(self, sentence):
        if sentence not in self.all:
            self.all.append(sentence)

    def __str__(self):
        return "".join(f"- {sentence}\n" for sentence in self.all)


def speed(options, side, preset):
    """Measures a process that trains `preset` on one side."""
    print(f"{preset}, {options.precision}, {side} …", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="bdh-inductor-") as cache:
        worker = None
        try:
            worker = Worker(options, side, preset, cache)
            worker.run(options.warmup)
            return {
                "seconds": statistics.median(worker.run(options.steps) for _ in range(options.rounds)),
                "memory": worker.peak_memory(),
                "first_step": worker.first_step,
                "flops_per_token": worker.flops_per_token,
                "loss": worker.loss,
            }
        finally:
            if worker:
                worker.close()


def overhead(options, preset):
    """Measures the reads a step without callbacks and with all of them, and the callbacks' cost in percent."""
    command = [options.bdh, "overhead", preset, "--device", options.device, "--precision", options.precision]
    told = json.loads(output(command + ["--steps", str(options.overhead_steps)]).splitlines()[-1])
    medians = {key: {name: statistics.median(all) for name, all in of.items()} for key, of in told.items()}
    none, all = medians["none"], medians["all"]
    percent = 100 * (all["seconds"] / none["seconds"] - 1)
    return {"reads": [none["reads"], all["reads"]], "percent": percent, "told": told}


def tokens_per_second(options, count):
    """Returns the median speed in the second half of a short run of nanochat_sweep. Each device has its own rows."""
    depth, rows, length = (2, 2, 128) if options.is_try else (12, 8, 2048)
    flags = {
        "device": options.device, "devices": count, "precision": options.precision, "depth": depth,
        "max-seq-len": length, "device-batch-size": rows, "total-batch-size": rows * length * count,
        "num-iterations": 40, "log-every": 5, "data": "synthetic", "tokenizer": "bytes", "weight-decay-override": 0.1,
        "eval-every": -1, "eval-tokens": rows * length, "early-save": "off", "log-backend": "none", "name": "scaling",
    }
    if options.is_try:
        flags |= {"n-embd-override": 64}
    with tempfile.TemporaryDirectory(prefix="bdh-scaling-") as runs:
        output([options.sweep, "--quiet", f"--runs={runs}", *(f"--{flag}={value}" for flag, value in flags.items())])
        records = map(json.loads, (Path(runs) / "scaling" / "metrics.jsonl").read_text().splitlines())
        rates = [record["train/tok_per_sec"] for record in records if "train/tok_per_sec" in record]
    if not rates:
        raise Ended("metrics.jsonl has no train/tok_per_sec")
    return statistics.median(rates[len(rates) // 2 :])


def output(command):
    """Returns the output of a program. Raises `Ended` with the last line of its errors if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise Ended(str(error)) from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise Ended(said[-1] if said else f"exit code {done.returncode}")
    return done.stdout


def card(options, notes):
    """Returns the GPU's name and its peak in bf16, in operations a second; None if the peak is not known."""
    if options.device == "cpu":
        return "the CPU", options.peak_flops
    names = nvidia_smi("--query-gpu=name")
    if not names:
        notes.add("nvidia-smi is missing or found no GPU, so MFU needs --peak-flops")
        return "an unknown GPU", options.peak_flops
    return names[0], options.peak_flops or peak_of(options, names[0], notes)


def peak_of(options, name, notes):
    words = re.findall("[a-z0-9]+", name.lower())
    known = next((card for card in CARDS if card in words), None)
    if known is None or "laptop" in words:
        notes.add(f"the peak of `{name}` is not known, so MFU needs --peak-flops")
        return None
    variant = "".join(f"-{part}" for part in VARIANTS if part in words and known in ("h100", "h200"))
    series = "rtx" if known.endswith("90") else ""
    try:
        return float(output([options.bdh, "peak", f"{series}{known}{variant}-bf16"]))
    except Ended as ended:
        notes.add(f"MFU is left out: {ended}")
        return None


def pytorch(options, notes):
    """Returns PyTorch's version. Leaves its sides out if it is missing or finds no GPU."""
    try:
        asks = "import torch; print(torch.__version__, torch.cuda.is_available())"
        version, sees_gpu = output([options.python or "no-python", "-c", asks]).split()
        if options.device == "cpu" or sees_gpu == "True":
            return f"PyTorch {version}"
        notes.add(f"PyTorch {version} finds no GPU, so its sides are left out")
    except Ended:
        notes.add("PyTorch is missing, so its sides are left out; BDH_TORCH_VENV names an environment that has it")
    options.sides = [side for side in options.sides if side == "bdh"]
    return "no PyTorch"
