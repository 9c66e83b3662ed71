"""One table of three models on one GPU, ours beside PyTorch's, and one of how we scale over several.

What cannot be measured is a dash, and a sentence below the table says why. Only the standard library.
"""

import argparse
import json
import os
from pathlib import Path

import measure
from compare import OF_DEVICE, PRESETS, SIDES, Ended, megabytes, nvidia_smi

TRIED = ["gpt2", "nanochat", "bdh_tiny"]
"""Small enough for any machine."""
COLUMNS = [
    "model", "in", "", "tokens/s", "MFU", "ours / this", "device reads a step", "callbacks cost", "peak memory",
    "to first step",
]
HEADER = """{machine}

Speeds are medians over turns ({rounds}) of {steps} steps after {warmup}; a turn ends when the device has done it all.
f32 has matrix products in TF32 on both sides where a GPU has it. bf16 has parameters, gradients and moments in f32;
PyTorch's is by autocast. MFU is by the same operations a token on all sides, and {peak}.
Device reads are those that our trainer counts, without callbacks and with 17 at their defaults; PyTorch's are its
`loss.item()` at every tenth step. Those callbacks cost what {overhead} steps took longer with them, in one process.
Peak memory is {memory}.
"""
"""What a reader has to know, above the table."""
ON_GPU = "what PyTorch's tensors took up (`max_memory_allocated`), and what our allocator has reserved, which is more"
ON_CPU = "that of the process"


def rows(options, preset, precision, notes, results):
    """A row for each side; ours first, so that the others have something to be compared with."""
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
    """The figures of a row; a dash for what is not known."""
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
    peak = options.peak / 2 if options.precision == "f32" else options.peak  # tensor cores do half as much in TF32
    return f"{100 * flops * rate / peak:.1f} %"


def callbacks(cost):
    """Reads without and with them, and what they cost."""
    if not cost:
        return ["–", "–"]
    none, all = cost["reads"]
    return [f"{none:.2f}, {all:.2f}", f"{cost['percent']:+.1f} %"]


def line(cells):
    return f"| {' | '.join(cells)} |"


def scaling(options, notes, results):
    """nanochat on several devices, each of which has as much to do as one alone."""
    options.precision, one = options.precisions[-1], None
    print(f"nanochat in {options.precision} on several devices:\n")
    print("| devices | tokens/s | of one | efficiency |\n|---|---|---|---|", flush=True)
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
    parser.add_argument("presets", nargs="*", metavar="PRESET", help=f"some of {names} [default: the device's]")
    parser.add_argument("--bdh", required=True, help="the program of examples/benches/pytorch.rs")
    parser.add_argument("--sweep", default="nanochat_sweep", help="the program nanochat_sweep, for --devices")
    parser.add_argument("--python", help="a Python that has PyTorch")
    parser.add_argument("--device", choices=OF_DEVICE, default="cuda", help="[default: cuda]")
    parser.add_argument("--precisions", default="f32,bf16", help="[default: f32,bf16]")
    parser.add_argument("--sides", default="bdh,eager,compile", help="[default: bdh,eager,compile]")
    parser.add_argument("--rounds", type=int, help="turns [default: 5, to try 1]")
    parser.add_argument("--steps", type=int, help="of a turn [default: 20, to try 10]")
    parser.add_argument("--warmup", type=int, help="steps before the first turn [default: 20, to try 1]")
    parser.add_argument("--overhead-steps", type=int, help="with and without callbacks [default: 100, to try 10]")
    parser.add_argument("--peak-flops", type=float, help="of the device in bf16 [default: by its name]")
    parser.add_argument("--devices", type=int, nargs="+", default=[], help="to see how we scale: 1 2 4 8")
    parser.add_argument("--try", dest="is_try", action="store_true", help="small models and few steps")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where every number goes")
    options = parser.parse_args()
    complete(options)
    of = [(options.presets, PRESETS), (options.precisions, ["f32", "bf16"]), (options.sides, SIDES)]
    for given, known in of:
        if unknown := set(given) - set(known):
            parser.error(f"unknown {', '.join(unknown)}; there are {', '.join(known)}")
    return options


def complete(options):
    """Puts in what was not given."""
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
    peak = "no peak is known here"
    if options.peak:
        peak = f"a peak of {options.peak / 1e12:.1f} TFLOP/s in bf16, half of that in f32"
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
        notes.add("this only tries whether everything works: speeds of so few steps say nothing")
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
