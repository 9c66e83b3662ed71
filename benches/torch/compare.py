"""Times our side and PyTorch's alternately, and prints a table of each preset.

Five processes train one preset in turns of some steps: ours, and PyTorch's eager mode and `torch.compile`, each with
default settings and tuned (`tune` in presets.py). While one process works, the others wait for their input. The script
measures the processor time of the waiting processes and of other programs in each turn. A ratio of speeds is the median
of the rounds' ratios. Time to first step and peak memory are those of new processes. On a GPU the processes run one
after the other, because they do not fit in its memory together. The script uses only the standard library.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
OF_DEVICE = {
    "cpu": json.loads((HERE / "presets.json").read_text()),
    "cuda": json.loads((HERE / "presets-gpu.json").read_text()),
}
PRESETS = OF_DEVICE["cpu"] | OF_DEVICE["cuda"]
SIDES = {
    "bdh": "bdh",
    "eager": "PyTorch, eager",
    "compile": "PyTorch, `torch.compile`",
    "eager-tuned": "PyTorch tuned, eager",
    "compile-tuned": "PyTorch tuned, `torch.compile`",
}
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
"""Lets glibc keep the memory that a tuned PyTorch frees. New pages for large tensors take 5 to 10 % of a step."""
NOISE = 0.1
"""Number of cores that other programs may keep busy before a table is marked as unreliable."""
SETTLE = 0.3
"""Seconds between turns. Threads that spin after their work go to sleep in this time."""


class Ended(Exception):
    """A worker or a program has ended with an error. The text is the last line of its errors, or its exit code."""


class Worker:
    """A process that trains `preset` on one side."""

    def __init__(self, options, side, preset, cache):
        device, precision = options.device, options.precision
        if side == "bdh":
            command = [options.bdh, "worker", preset, "--device", device, "--precision", precision]
        else:
            command = [options.python, str(HERE / "worker.py"), preset, side, device, precision]
        self.on_gpu, self.errors = device != "cpu", tempfile.TemporaryFile()
        threads = str(options.threads)
        names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"]
        environment = {**os.environ, **dict.fromkeys(names, threads)}
        environment["TORCHINDUCTOR_CACHE_DIR"] = f"{cache}/{side}"
        if side.endswith("-tuned"):
            environment |= KEEP_MEMORY
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=environment, text=True,
            start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, options.cores),
        )
        self.answer()
        self.first_step = time.perf_counter() - self.began

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise Ended(self.why())
        answer = json.loads(line)
        self.loss, self.device_memory = answer["loss"], answer["memory"]
        self.flops_per_token = answer.get("flops_per_token")
        return answer["seconds"]

    def why(self):
        """Returns the last line of the worker's errors, after it has printed all of them on the standard error."""
        self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip()
        print(f"{said}\na worker has ended: {' '.join(self.process.args)}", file=sys.stderr)
        return said.splitlines()[-1] if said else f"exit code {self.process.returncode}"

    def run(self, steps):
        """Returns the median seconds of a step; on a GPU the mean, because a turn waits only at its end."""
        try:
            self.process.stdin.write(f"run {steps}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Ended(self.why()) from None
        took = self.answer()
        return statistics.mean(took) if self.on_gpu else statistics.median(took)

    def peak_memory(self):
        """Returns the peak memory of the process so far, in bytes. Source: proc_pid_status(5), VmHWM.

        On a GPU it is the memory of the GPU: the peak that the worker reports, or else the present memory that the
        driver reports; None if neither reports it.
        """
        if self.on_gpu:
            return self.device_memory or memory_by_driver(self.process.pid)
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])

    def processor_time(self):
        """Returns the seconds of all threads of its session, which includes PyTorch's compiler processes."""
        return sum(ticks for session, ticks in sessions() if session == self.process.pid)

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def nvidia_smi(*arguments):
    """Returns the lines that nvidia-smi prints; an empty list if it is missing or fails."""
    try:
        command = ["nvidia-smi", *arguments, "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def memory_by_driver(pid):
    """Returns the bytes of a process on all GPUs; None if the driver does not know the process, as in containers."""
    rows = [line.split(", ") for line in nvidia_smi("--query-compute-apps=pid,used_memory")]
    mebibytes = [int(row[1]) for row in rows if row[0] == str(pid) and row[1].isdigit()]
    return sum(mebibytes) * 2**20 or None


def sessions():
    """Yields session and processor seconds of every process. Source: proc_pid_stat(5), fields 6, 14 and 15."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # the process has just ended
        yield int(fields[3]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine_time():
    """Returns the busy seconds of all cores together, with the time that a host stole. Source: proc_stat(5)."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Bystanders:
    """Load of the waiting workers and of other programs during the turns, in cores."""

    def __init__(self):
        self.seconds, self.waiting, self.others = 0.0, 0.0, 0.0

    def watch(self, work, worker, waiting):
        """Calls `work`, the turn of `worker`, and measures the processor time of `waiting` and of other programs."""

        def times():
            waited = sum(other.processor_time() for other in waiting)
            return time.perf_counter(), waited, worker.processor_time(), machine_time()

        before = times()
        done = work()
        seconds, waited, worked, machine = (after - before for after, before in zip(times(), before))
        self.seconds += seconds
        self.waiting += waited
        self.others += machine - worked - waited
        return done

    def shares(self):
        return {"waiting": self.waiting / self.seconds, "others": max(self.others, 0.0) / self.seconds}


def speeds(options, preset, cache):
    """Returns the seconds of a step in each round by side, the load of other processes, and the last losses."""
    if options.device != "cpu" and len(options.sides) > 1:
        return one_by_one(options, preset, cache)
    workers = {side: Worker(options, side, preset, cache) for side in options.sides}
    for worker in workers.values():
        worker.run(options.warmup)
    rounds = {side: [] for side in options.sides}
    bystanders = Bystanders()
    for number in range(options.rounds):
        order = options.sides if number % 2 == 0 else options.sides[::-1]
        for side in order:
            time.sleep(SETTLE)
            waiting = [worker for other, worker in workers.items() if other != side]
            took = bystanders.watch(lambda: workers[side].run(options.steps), workers[side], waiting)
            rounds[side].append(took)
    losses = {side: worker.loss for side, worker in workers.items()}
    for worker in workers.values():
        worker.close()
    return rounds, bystanders.shares(), losses


def one_by_one(options, preset, cache):
    """Returns what `speeds` returns, for sides that do not fit in memory together, as on a GPU."""
    rounds, shares, losses = {}, [], {}
    for side in options.sides:
        alone = argparse.Namespace(**{**vars(options), "sides": [side]})
        of_side, share, loss = speeds(alone, preset, cache)
        rounds |= of_side
        losses |= loss
        shares.append(share)
    return rounds, {key: max(share[key] for share in shares) for key in shares[0]}, losses


def fresh(options, side, preset, cache):
    """Returns the seconds to the first step of new processes, and their peak memory after twenty more steps."""
    seconds, memory = [], []
    for _ in range(options.repeats):
        worker = Worker(options, side, preset, cache)
        seconds.append(worker.first_step)
        worker.run(20)
        memory.append(worker.peak_memory())
        worker.close()
    return seconds, memory


def measure(options, preset):
    with tempfile.TemporaryDirectory(prefix="bdh-inductor-") as cache:
        cold = {}
        for side in options.sides:
            if side.startswith("compile"):
                worker = Worker(options, side, preset, cache)
                cold[side] = worker.first_step
                worker.close()
        rounds, busy, losses = speeds(options, preset, cache)
        starts = {side: fresh(options, side, preset, cache) for side in options.sides}
    return {
        "rounds": rounds,
        "busy": busy,
        "losses": losses,
        "first_step": {side: seconds for side, (seconds, _) in starts.items()},
        "first_step_cold": cold,
        "peak_memory": {side: memory for side, (_, memory) in starts.items()},
    }


def table(preset, result):
    """Returns a markdown table with a row for each side. PyTorch's rows have the ratio of our figure to theirs."""
    tokens = PRESETS[preset]["rows"] * PRESETS[preset]["seq_len"]
    lines = [
        f"### {PRESETS[preset]['title']}",
        "",
        "| | ms a step | tokens/s | ours / this | to first step | ours / this | peak memory | ours / this |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rounds, firsts, peaks = (result[key] for key in ["rounds", "first_step", "peak_memory"])
    for side in rounds:
        step, first, peak = (median(values[side]) for values in [rounds, firsts, peaks])
        cells = [SIDES[side], f"{step * 1e3:.1f}", f"{tokens / step:,.0f}"]
        theirs = side != "bdh" and "bdh" in rounds
        cells.append(ratio(rounds["bdh"], rounds[side]) if theirs else "")
        cells += [f"{first:.2f} s"]
        cells += [f"{statistics.median(firsts['bdh']) / first:.3f}" if theirs else ""]
        cells += [megabytes(peak)]
        cells += [f"{ours / peak:.2f}" if theirs and (ours := median(peaks["bdh"])) and peak else ""]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    if colds := result["first_step_cold"].values():
        colds = " and ".join(f"{cold:.1f} s" for cold in colds)
        lines.append(f"`torch.compile` with an empty cache: {colds} to the first step.")
    losses = ", ".join(f"{side} {loss:.3f}" for side, loss in result["losses"].items())
    waiting, others = result["busy"]["waiting"], result["busy"]["others"]
    lines.append(f"Last losses: {losses}. Cores busy with waiting workers {waiting:.3f}, with others {others:.2f}.")
    if others > NOISE:
        lines += ["", "**The machine was busy. PyTorch's threads wait for each other, so this table is unreliable.**"]
    return "\n".join(lines) + "\n"


def median(values):
    """Returns the median; None if one of the values is not known."""
    return None if None in values else statistics.median(values)


def megabytes(count):
    return "–" if count is None else f"{count / 1e6:,.0f} MB"


def ratio(ours, theirs):
    """Returns the speed of our side relative to the other: the median over rounds, with their quartiles."""
    ratios = [theirs / ours for ours, theirs in zip(ours, theirs)]
    if len(ratios) < 2:
        return f"{ratios[0]:.2f}"
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"**{middle:.2f}** ({low:.2f}–{high:.2f})"


def machine(options):
    """Returns a line with the processor, cores, threads, versions and load."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].split(":")[1].strip() if names else platform.machine()
    torch = subprocess.run(
        [options.python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    gpus = nvidia_smi("--query-gpu=name,driver_version") if options.device != "cpu" else []
    if options.device != "cpu":
        name = f"{gpus[0] if gpus else 'a GPU'} ({options.precision}), {name}"
    return (
        f"{name}, {os.cpu_count()} cores, {options.threads} threads each; PyTorch {torch}, "
        f"Python {platform.python_version()}; {options.rounds} rounds of {options.steps} steps; load before: {load}"
    )


def arguments():
    cores = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ", ".join(PRESETS)
    parser.add_argument(
        "presets", nargs="*", metavar="PRESET", help=f"presets to measure, of {names} [default: all of the device]"
    )
    parser.add_argument("--bdh", required=True, help="path of the program of examples/benches/pytorch.rs")
    parser.add_argument(
        "--python", default=sys.executable, help="Python that has PyTorch [default: the Python of this script]"
    )
    parser.add_argument(
        "--threads", type=int, default=len(cores), help="threads of each side [default: one for each core]"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10, help="steps of a turn [default: 10]")
    parser.add_argument("--warmup", type=int, default=20, help="steps before the first round [default: 20]")
    parser.add_argument(
        "--repeats", type=int, default=3, help="new processes for time to first step and memory [default: 3]"
    )
    parser.add_argument(
        "--sides", help="sides to run, separated by commas [default: all; on a GPU those that are not tuned]"
    )
    parser.add_argument("--device", choices=OF_DEVICE, default="cpu")
    parser.add_argument(
        "--precision", choices=["f32", "bf16"], default="f32", help="precision of both sides [default: f32]"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes every number to FILE")
    options = parser.parse_args()
    if unknown := set(options.presets) - set(PRESETS):
        parser.error(f"unknown preset {', '.join(unknown)}; the presets are {', '.join(PRESETS)}")
    if not 1 <= options.threads <= len(cores):
        parser.error(f"--threads is {options.threads}; the cores here allow 1 to {len(cores)}")
    usual = [side for side in SIDES if options.device == "cpu" or not side.endswith("-tuned")]
    options.sides = options.sides.split(",") if options.sides else usual
    if unknown := set(options.sides) - set(SIDES):
        parser.error(f"unknown side {', '.join(unknown)}; the sides are {', '.join(SIDES)}")
    options.cores = cores[: options.threads]
    return options


def main():
    options = arguments()
    results = {"machine": machine(options), "presets": {}}
    print(results["machine"], end="\n\n", flush=True)
    for preset in options.presets or OF_DEVICE[options.device]:
        try:
            results["presets"][preset] = measure(options, preset)
        except Ended as ended:
            sys.exit(f"{preset}: {ended}")
        print(table(preset, results["presets"][preset]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
