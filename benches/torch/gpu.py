"""One table of the three models on one GPU, ours and PyTorch's, and one of how we scale over several.

What cannot be measured is a dash, and a sentence below the table says why. Only the standard library.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import compare
from compare import SIDES, Ended, Worker, megabytes, nvidia_smi

PRESETS = list(compare.OF_DEVICE["cuda"])
TRIED = ["gpt2", "nanochat", "bdh_tiny"]
"""Small enough for any machine."""
CARDS = [
    ("h200 nvl", "h200-nvl"), ("h200", "h200"), ("h100 nvl", "h100-nvl"), ("h100 pcie", "h100-pcie"), ("h100", "h100"),
    ("b200", "b200"), ("a100", "a100"), ("l40s", "l40s"), ("l4", "l4"), ("5090", "rtx5090"), ("4090", "rtx4090"),
    ("3090", "rtx3090"),
]
"""What a card's name has in it, and what our table of peaks calls it; the first that fits counts."""
COLUMNS = [
    "model", "", "", "tokens/s", "MFU", "ours / this", "device reads a step", "all callbacks cost", "peak memory", "to first step"
]
HEADER = """{machine}

Speeds are means over {rounds} turns of {steps} steps after {warmup}, each of which ends when the device has done all. f32 is with
matrix products in TF32 on both sides, where the device has it; bf16 has f32 parameters, gradients and moments, with PyTorch's
by autocast. MFU is by the same operations a token for all sides, and the peak of {peak}. Device reads are those that our
trainer counts, without callbacks and with the 17 default ones (PyTorch's: its `loss.item()`, every tenth step); the cost of
those callbacks is of {overhead} steps with them against as many without, in one process. Peak memory is, of PyTorch, what
tensors took up (`max_memory_allocated`), of ours, what the allocator has reserved, which is more; {memory}.
"""


class Notes:
    """Sentences below the table, each told once."""

    def __init__(self):
        self.all = []

    def add(self, sentence):
        if sentence not in self.all:
            self.all.append(sentence)

    def __str__(self):
        return "".join(f"- {sentence}\n" for sentence in self.all)


def measure(options, side, preset, cache):
    """What a process that trains `preset` on one side tells of itself."""
    worker = Worker(options, side, preset, cache)
    try:
        if options.warmup:
            worker.run(options.warmup)
        seconds = statistics.median(worker.run(options.steps) for _ in range(options.rounds))
        return {
            "seconds": seconds,
            "memory": worker.peak_memory(),
            "first_step": worker.first_step,
            "flops_per_token": worker.flops_per_token,
            "loss": worker.loss,
        }
    finally:
        worker.close()


def overhead(options, preset):
    """Reads of a step without callbacks and with all, and what those cost, in percent."""
    command = [options.bdh, "overhead", preset, "--device", options.device, "--precision", options.precision]
    command += ["--steps", str(options.overhead_steps)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Ended(last_line(done.stderr))
    told = json.loads(done.stdout.splitlines()[-1])
    none, all = (statistics.median(told[key]["seconds"]) for key in ["none", "all"])
    reads = tuple(statistics.median(told[key]["reads"]) for key in ["none", "all"])
    return {"reads": reads, "percent": 100 * (all / none - 1), "told": told}


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def rows(options, preset, precision, notes, results):
    """A row for each side; ours first, so that the others have something to be compared with."""
    options.precision = precision
    title, tokens = compare.PRESETS[preset]["title"], tokens_of(preset)
    ours = None
    for side in options.sides:
        result = results.setdefault(f"{preset}/{precision}/{side}", {})
        what = f"{preset}, {precision}, {SIDES[side]}"
        with tempfile.TemporaryDirectory(prefix="bdh-inductor-") as cache:
            print(f"{what} …", file=sys.stderr, flush=True)
            try:
                result |= measure(options, side, preset, cache)
            except Ended as ended:
                notes.add(f"{what}: {ended}")
        if side == "bdh":
            ours = result
            try:
                result["overhead"] = overhead(options, preset)
            except Ended as ended:
                notes.add(f"{what}, with callbacks: {ended}")
        yield [title if side == options.sides[0] and precision == options.precisions[0] else "", precision, SIDES[side]] + cells(
            options, result, ours, tokens, side
        )


def tokens_of(preset):
    return compare.PRESETS[preset]["rows"] * compare.PRESETS[preset]["seq_len"]


def cells(options, result, ours, tokens, side):
    """The figures of a row; a dash for what is not known."""
    seconds = result.get("seconds")
    flops = (ours or {}).get("flops_per_token")
    peak = options.peak and (options.peak / 2 if options.precision == "f32" else options.peak)  # TF32 is half of bf16
    cost = result.get("overhead")
    mfu = f"{100 * flops * tokens / seconds / peak:.1f} %" if flops and seconds and peak else "–"
    is_ours, our_seconds = side == "bdh", (ours or {}).get("seconds")
    return [
        f"{tokens / seconds:,.0f}" if seconds else "–",
        mfu,
        "" if is_ours else f"**{seconds / our_seconds:.2f}**" if seconds and our_seconds else "–",
        "{:.2f}, {:.2f}".format(*cost["reads"]) if cost else "–" if is_ours else "0.10",
        f"{cost['percent']:+.1f} %" if cost else "–" if is_ours else "",
        megabytes(result.get("memory")),
        f"{result['first_step']:.1f} s" if seconds else "–",
    ]


def line(cells):
    return f"| {' | '.join(cells)} |"


def scaling(options, notes, results):
    """nanochat on several devices, of which each has as much to do as one alone: tokens a second."""
    print("| devices | tokens/s | of one | efficiency |\n|---|---|---|---|", flush=True)
    one = None
    for count in options.devices:
        try:
            rate = tokens_per_second(options, count)
        except Ended as ended:
            notes.add(f"{count} devices: {ended}")
            print(line([str(count), "–", "–", "–"]), flush=True)
            continue
        results[f"devices/{count}"] = rate
        one = one or (rate if count == 1 else None)
        times = f"{rate / one:.2f}" if one else "–"
        print(line([str(count), f"{rate:,.0f}", times, f"{100 * rate / one / count:.0f} %" if one else "–"]), flush=True)


def tokens_per_second(options, count):
    """The median of what nanochat_sweep records in the second half of a short run."""
    depth, rows, length = (2, 2, 128) if options.is_try else (12, 8, 2048)
    flags = {
        "device": options.device, "devices": count, "precision": options.precisions[-1], "depth": depth,
        "max-seq-len": length, "device-batch-size": rows, "total-batch-size": rows * length * count,
        "num-iterations": 40, "log-every": 5, "data": "synthetic", "tokenizer": "bytes", "eval-every": -1,
        "eval-tokens": rows * length, "early-save": "off", "log-backend": "none", "name": "scaling",
    }
    if options.is_try:
        flags |= {"n-embd-override": 64}
    with tempfile.TemporaryDirectory(prefix="bdh-scaling-") as runs:
        command = [options.sweep, "--quiet", f"--runs={runs}", *(f"--{flag}={value}" for flag, value in flags.items())]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Ended(last_line(done.stderr))
        records = (Path(runs) / "scaling" / "metrics.jsonl").read_text().splitlines()
    rates = [(record["step"], rate) for record in map(json.loads, records) if (rate := record.get("train/tok_per_sec"))]
    if not rates:
        raise Ended("metrics.jsonl has no train/tok_per_sec")
    return statistics.median(rate for step, rate in rates if step > 20)


def card(options, notes):
    """The GPU's name, and the peak of its tensor cores in bf16 if that is known."""
    names = nvidia_smi("--query-gpu=name")
    if options.device == "cpu":
        return "the CPU", options.peak_flops
    if not names:
        notes.add("there is no nvidia-smi, or it found no GPU: no name, so no MFU without --peak-flops")
        return "a GPU without a name", options.peak_flops
    name = names[0].strip()
    known = next((known for part, known in CARDS if part in name.lower()), None)
    if options.peak_flops or known is None:
        if not options.peak_flops:
            notes.add(f"no MFU: the peak of `{name}` is not in our table; give --peak-flops")
        return name, options.peak_flops
    told = subprocess.run([options.bdh, "peak", f"{known}-bf16"], capture_output=True, text=True)
    return name, float(told.stdout) if told.returncode == 0 else None


def pytorch(options, notes):
    """Its version; without it, or without the device, its sides are left out."""
    asks = "import torch; print(torch.__version__, torch.cuda.is_available())"
    told = None
    if options.python:
        told = subprocess.run([options.python, "-c", asks], capture_output=True, text=True)
    if told is None or told.returncode != 0:
        notes.add("PyTorch is not there: its sides are left out (BDH_TORCH_VENV names a virtual environment that has it)")
    elif options.device == "cpu" or told.stdout.split()[1] == "True":
        return f"PyTorch {told.stdout.split()[0]}"
    else:
        notes.add(f"PyTorch {told.stdout.split()[0]} sees no GPU: its sides are left out")
    options.sides = [side for side in options.sides if side == "bdh"]
    return "no PyTorch"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", metavar="PRESET", help=f"some of {', '.join(compare.PRESETS)}")
    parser.add_argument("--bdh", required=True, help="the program of examples/benches/pytorch.rs")
    parser.add_argument("--sweep", help="the program nanochat_sweep, for --devices")
    parser.add_argument("--python", help="a Python that has PyTorch")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda", help="[default: cuda]")
    parser.add_argument("--precisions", default="f32,bf16", help="[default: f32,bf16]")
    parser.add_argument("--sides", default="bdh,eager,compile", help="[default: bdh,eager,compile]")
    parser.add_argument("--rounds", type=int, help="turns [default: 5; 1 to try]")
    parser.add_argument("--steps", type=int, help="of a turn [default: 20; 10 to try]")
    parser.add_argument("--warmup", type=int, help="steps before the first turn [default: 20; 1 to try]")
    parser.add_argument("--overhead-steps", type=int, help="with and without callbacks [default: 100; 10 to try]")
    parser.add_argument("--peak-flops", type=float, help="of the device in bf16 [default: by its name]")
    parser.add_argument("--devices", type=int, nargs="*", default=[], help="numbers of GPUs, to see how we scale: 1 2 4 8")
    parser.add_argument("--try", dest="is_try", action="store_true", help="small models and few steps: does all work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where every number goes")
    options = parser.parse_args()
    usual, small = (5, 20, 20, 100), (1, 10, 1, 10)
    for name, value in zip(["rounds", "steps", "warmup", "overhead_steps"], small if options.is_try else usual):
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.presets = options.presets or (TRIED if options.is_try else PRESETS)
    options.precisions, options.sides = options.precisions.split(","), options.sides.split(",")
    for given, known in [
        (options.presets, compare.PRESETS), (options.precisions, ["f32", "bf16"]), (options.sides, SIDES),
    ]:
        if unknown := set(given) - set(known):
            parser.error(f"unknown {', '.join(unknown)}; there are {', '.join(known)}")
    cores = sorted(os.sched_getaffinity(0))
    options.cores, options.threads = cores, len(cores)
    return options


def main():
    options, notes, results = arguments(), Notes(), {}
    name, options.peak = card(options, notes)
    driver = (nvidia_smi("--query-gpu=driver_version") or ["unknown"])[0]
    version = pytorch(options, notes)
    peak = f"{options.peak / 1e12:.1f} TFLOP/s in bf16, half of that in TF32" if options.peak else "an unknown device"
    on_cpu = options.device == "cpu"
    machine = f"{name}, {options.threads} cores; {version}" + ("" if on_cpu else f"; driver {driver}")
    memory = "on a CPU both are that of the process (VmHWM)" if on_cpu else "kernels and the driver's own are in neither"
    print(HEADER.format(
        machine=machine, rounds=options.rounds, steps=options.steps, warmup=options.warmup + 1, peak=peak,
        overhead=options.overhead_steps, memory=memory,
    ))
    print(line(COLUMNS) + "\n" + "|---" * len(COLUMNS) + "|", flush=True)
    for preset in options.presets:
        for precision in options.precisions:
            for row in rows(options, preset, precision, notes, results):
                print(line(row), flush=True)
                save(options, machine, results)
    print(flush=True)
    if options.devices:
        scaling(options, notes, results)
        save(options, machine, results)
        print()
    print(notes, end="")


def save(options, machine, results):
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1))


if __name__ == "__main__":
    main()
