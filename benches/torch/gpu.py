"""Prints one table of three models on one GPU, ours next to PyTorch's, and one of scaling over several GPUs.

A figure that cannot be measured is a dash, and a sentence below the table gives the reason. The script uses only the
standard library.
"""

import argparse
import json
import os
from pathlib import Path

import measure
from compare import OF_DEVICE, PRESETS, SIDES, Ended, megabytes, nvidia_smi

TRIED = ["gpt2", "nanochat", "bdh_tiny"]
"""Presets that are small enough for any machine."""
COLUMNS = [
    "model", "in", "", "tokens/s", "MFU", "ours / this", "device reads a step", "callbacks cost", "peak memory",
    "to first step",
]
HEADER = """{machine}

Speeds are medians over turns ({rounds}) of {steps} steps, after {warmup} steps of warm-up. A turn ends when the device
has finished its work. f32 uses TF32 in matrix products on both sides, if the GPU supports it. bf16 has parameters,
gradients and moments in f32; PyTorch uses autocast. MFU counts the same operations a token on all sides, and {peak}.
Our device reads are counted by our trainer, without callbacks and with 17 at their defaults. PyTorch's are its
`loss.item()` at every tenth step. The callbacks' cost is the additional time of {overhead} steps with them, in one
process. Peak memory is {memory}.
"""
"""Explanation above the table."""
ON_GPU = "that of PyTorch's tensors (`max_memory_allocated`), and all that our allocator has reserved, which is more"
ON_CPU = "that of the process"


def rows(options, preset, precision, notes, results):
    """Yields a row for each side. Our side should be the first one, because the other rows are compared with it."""
    options.precision, ours = precision, {}
    for side in options.sides:
        result = results.setdefault(f"{preset}/{precision}/{side}", {})
        what = f"{preset} in {precision}, {SIDES[side]}"
        try:
            result |= measure.speed(options, side, preset)
            if side == "bdh":
                ours = result
                result["overhead"] = measure.overhead(options, preset)
        except Ended as ended:
            notes.add(f"{what}: {ended}")
        yield [preset, precision, SIDES[side], *cells(options, preset, side, result, ours)]


def cells(options, preset, side, result, ours):
    """Returns the figures of a row, with a dash for each unknown one."""
    if not result:
        return ["–", "–", "" if side == "bdh" else "–", *["–"] * (len(COLUMNS) - 6)]
    seconds, tokens = result["seconds"], PRESETS[preset]["rows"] * PRESETS[preset]["seq_len"]
    return [
        f"{tokens / seconds:,.0f}",
        mfu(options, tokens / seconds, ours.get("flops_per_token")),
        "" if side == "bdh" else f"**{seconds / ours['seconds']:.2f}**" if ours else "–",
        *(callbacks(result.get("overhead")) if side == "bdh" else ["0.10", ""]),
        megabytes(result["memory"]),
        f"{result['first_step']:.1f} s",
    ]


def mfu(options, rate, flops):
    if not flops or not options.peak:
        return "–"
    peak = options.peak / 2 if options.precision == "f32" else options.peak  # TF32 has half the peak of bf16
    return f"{100 * flops * rate / peak:.1f} %"


def callbacks(cost):
    """Returns the cells of the reads without and with callbacks, and of the callbacks' cost."""
    if not cost:
        return ["–", "–"]
    none, all = cost["reads"]
    return [f"{none:.2f}, {all:.2f}", f"{cost['percent']:+.1f} %"]


def line(cells):
    return f"| {' | '.join(cells)} |"


def scaling(options, notes, results):
    """Measures nanochat on several devices. Each of them has as much work as a single device."""
    options.precision, one = options.precisions[-1], None
    print(f"nanochat in {options.precision} on several devices:\n")
    print("| devices | tokens/s | speedup | efficiency |\n|---|---|---|---|", flush=True)
    for count in options.devices:
        try:
            rate = results[f"devices/{count}"] = measure.tokens_per_second(options, count)
        except Ended as ended:
            notes.add(f"{count} devices: {ended}")
            print(line([str(count), "–", "–", "–"]), flush=True)
            continue
        one = rate if count == 1 else one
        of_one = [f"{rate / one:.2f}", f"{100 * rate / one / count:.0f} %"] if one else ["–", "–"]
        print(line([str(count), f"{rate:,.0f}", *of_one]), flush=True)


def arguments():
    parser = argparse.ArgumentParser(prog="benches/gpu.sh", description=__doc__.splitlines()[0])
    names = ", ".join(PRESETS)
    parser.add_argument(
        "presets", nargs="*", metavar="PRESET",
        help=f"presets to measure, of {names} [default: a GPU's; with --try small ones]",
    )
    parser.add_argument("--bdh", required=True, help="path of the program of examples/benches/pytorch.rs")
    parser.add_argument("--sweep", default="nanochat_sweep", help="path of the program nanochat_sweep, for --devices")
    parser.add_argument("--python", help="Python that has PyTorch [default: none, which leaves PyTorch out]")
    parser.add_argument("--device", choices=OF_DEVICE, default="cuda", help="device to measure on [default: cuda]")
    parser.add_argument("--precisions", default="f32,bf16", help="precisions, separated by commas [default: f32,bf16]")
    parser.add_argument(
        "--sides", default="bdh,eager,compile", help="sides to run, separated by commas [default: bdh,eager,compile]"
    )
    parser.add_argument("--rounds", type=int, help="turns [default: 5; with --try 1]")
    parser.add_argument("--steps", type=int, help="steps of a turn [default: 20; with --try 10]")
    parser.add_argument("--warmup", type=int, help="steps before the first turn [default: 20; with --try 1]")
    parser.add_argument("--overhead-steps", type=int, help="steps to measure callbacks [default: 100; with --try 10]")
    parser.add_argument("--peak-flops", type=float, help="peak of the device in bf16, for MFU [default: by its name]")
    parser.add_argument(
        "--devices", type=int, nargs="+", default=[], help="numbers of devices to measure scaling with, such as 1 2 4 8"
    )
    parser.add_argument(
        "--try", dest="is_try", action="store_true",
        help="only checks that everything works, with small models and few steps",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes every number to FILE")
    options = parser.parse_args()
    complete(options)
    of = [(options.presets, PRESETS), (options.precisions, ["f32", "bf16"]), (options.sides, SIDES)]
    for given, known in of:
        if unknown := set(given) - set(known):
            parser.error(f"unknown {', '.join(unknown)}; expected some of {', '.join(known)}")
    return options


def complete(options):
    """Fills in the defaults, and splits lists at their commas."""
    steps = {"rounds": (5, 1), "steps": (20, 10), "warmup": (20, 1), "overhead_steps": (100, 10)}
    for name, usual in steps.items():
        if getattr(options, name) is None:
            setattr(options, name, usual[options.is_try])
    options.presets = options.presets or (TRIED if options.is_try else list(OF_DEVICE["cuda"]))
    options.precisions, options.sides = options.precisions.split(","), options.sides.split(",")
    options.cores = sorted(os.sched_getaffinity(0))
    options.threads = len(options.cores)


def header(options, notes):
    name, options.peak = measure.card(options, notes)
    machine = f"{name}, {options.threads} cores; {measure.pytorch(options, notes)}"
    if options.device != "cpu":
        machine += f"; driver {(nvidia_smi('--query-gpu=driver_version') or ['unknown'])[0]}"
    peak = "the peak of this device is not known"
    if options.peak:
        peak = f"the peak is {options.peak / 1e12:.1f} TFLOP/s in bf16, half of that in f32"
    return HEADER.format(
        machine=machine, rounds=options.rounds, steps=options.steps, warmup=options.warmup + 1, peak=peak,
        overhead=options.overhead_steps, memory=ON_CPU if options.device == "cpu" else ON_GPU,
    )


def main():
    options, notes, results = arguments(), measure.Notes(), {}

    def save():
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))

    if options.is_try:
        notes.add("--try only checks that everything works; its few steps give no reliable speeds")
    print(header(options, notes))
    print(line(COLUMNS) + "\n|" + "---|" * len(COLUMNS), flush=True)
    for preset in options.presets:
        for precision in options.precisions:
            for row in rows(options, preset, precision, notes, results):
                print(line(row), flush=True)
                save()
    print()
    for preset in options.presets:
        print(f"{preset} is {PRESETS[preset]['title']}.")
    if options.devices:
        print()
        scaling(options, notes, results)
        save()
    print(f"\n{notes}", end="")


if __name__ == "__main__":
    main()
