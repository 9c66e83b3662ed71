"""Times our side and PyTorch's alternately, and prints a table of each preset. Only the standard library.

Five processes train one preset and take turns of some steps: ours, and PyTorch's eager mode and `torch.compile`, each
as it comes and tuned (`tune` in presets.py). While one works the others wait for their input; what they and anybody
else do meanwhile is measured. A ratio of speeds is the median of the rounds' ratios. Time to first step and peak memory
are those of fresh processes. On a GPU, whose memory would not do for all of them, one comes after the other.
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
"""Lets glibc keep what a tuned PyTorch frees: otherwise every large tensor is new pages, 5 to 10 % of a step."""
NOISE = 0.1
"""Cores that others may keep busy before a figure is doubted."""
SETTLE = 0.3
"""Seconds between turns, in which threads that spin after their work go to sleep."""


class Ended(Exception):
    """A worker is no more; its text says why, as far as it told."""


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
        """What it said last, after all of it on the standard error."""
        self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip()
        print(f"{said}\na worker has ended: {' '.join(self.process.args)}", file=sys.stderr)
        return said.splitlines()[-1] if said else f"exit code {self.process.returncode}"

    def run(self, steps):
        """Seconds of one of `steps` steps: the median, or the mean on a GPU, which is done with them at the end."""
        try:
            self.process.stdin.write(f"run {steps}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Ended(self.why()) from None
        took = self.answer()
        return statistics.mean(took) if self.on_gpu else statistics.median(took)

    def peak_memory(self):
        """The most memory that it has held so far, in bytes. Source: proc_pid_status(5), VmHWM.

        On a GPU that of the GPU: as the worker tells it, or as the driver does at this moment; None if neither does.
        """
        if self.on_gpu:
            return self.device_memory or memory_by_driver(self.process.pid)
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])

    def processor_time(self):
        """Seconds on all threads of its session, PyTorch's compiler processes included."""
        return sum(ticks for session, ticks in sessions() if session == self.process.pid)

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def nvidia_smi(*arguments):
    """The lines that it prints; none where there is none."""
    try:
        command = ["nvidia-smi", *arguments, "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def memory_by_driver(pid):
    """Bytes that a process has on all GPUs; None if the driver does not know it, as in containers."""
    rows = [line.split(", ") for line in nvidia_smi("--query-compute-apps=pid,used_memory")]
    mebibytes = [int(row[1]) for row in rows if row[0] == str(pid) and row[1].isdigit()]
    return sum(mebibytes) * 2**20 or None


def sessions():
    """Session and processor seconds of every process. Source: proc_pid_stat(5), fields 6, 14 and 15."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has just ended
        yield int(fields[3]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine_time():
    """Seconds that all cores together were busy, with what a host took away. Source: proc_stat(5)."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Bystanders:
    """How many cores were busy with something else while a worker had its turn."""

    def __init__(self):
        self.seconds, self.waiting, self.others = 0.0, 0.0, 0.0

    def watch(self, work, worker, waiting):
        """Does `work`, which is `worker`'s, while `waiting` should wait."""

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
    """Seconds of a step in each round, by side; and what else the machine did meanwhile."""
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
    """The same where they would not fit beside each other, as on a GPU."""
    rounds, shares, losses = {}, [], {}
    for side in options.sides:
        alone = argparse.Namespace(**{**vars(options), "sides": [side]})
        of_side, share, loss = speeds(alone, preset, cache)
        rounds |= of_side
        losses |= loss
        shares.append(share)
    return rounds, {key: max(share[key] for share in shares) for key in shares[0]}, losses


def fresh(options, side, preset, cache):
    """Seconds to the first step of new processes, and the most memory that one of them held in twenty steps more."""
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
    """Rows of markdown: a side each, with our ratio to it where it is another's."""
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
        lines += ["", "**The machine was not quiet: PyTorch's threads wait for each other, so this says little.**"]
    return "\n".join(lines) + "\n"


def median(values):
    """None if one of them is not known."""
    return None if None in values else statistics.median(values)


def megabytes(count):
    return "–" if count is None else f"{count / 1e6:,.0f} MB"


def ratio(ours, theirs):
    """How many times as fast we are: the median over rounds, with the quarter and three quarters of them."""
    ratios = [theirs / ours for ours, theirs in zip(ours, theirs)]
    if len(ratios) < 2:
        return f"{ratios[0]:.2f}"
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"**{middle:.2f}** ({low:.2f}–{high:.2f})"


def machine(options):
    """One line: processor, cores, threads, versions."""
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
    parser.add_argument("presets", nargs="*", metavar="PRESET", help=f"some of {names} [default: the device's]")
    parser.add_argument("--bdh", required=True, help="the program of examples/benches/pytorch.rs")
    parser.add_argument("--python", default=sys.executable, help="a Python that has PyTorch")
    parser.add_argument("--threads", type=int, default=len(cores), help="of each side [default: a core each]")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10, help="of a turn")
    parser.add_argument("--warmup", type=int, default=20, help="steps before the first round")
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes for start and memory")
    parser.add_argument("--sides", help="which to run, with commas [default: all; on a GPU those that are not tuned]")
    parser.add_argument("--device", choices=OF_DEVICE, default="cpu")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="[default: f32]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where every number goes")
    options = parser.parse_args()
    if unknown := set(options.presets) - set(PRESETS):
        parser.error(f"unknown preset {', '.join(unknown)}; there are {', '.join(PRESETS)}")
    if not 1 <= options.threads <= len(cores):
        parser.error(f"--threads {options.threads}: there are {len(cores)} cores")
    usual = [side for side in SIDES if options.device == "cpu" or not side.endswith("-tuned")]
    options.sides = options.sides.split(",") if options.sides else usual
    if unknown := set(options.sides) - set(SIDES):
        parser.error(f"unknown side {', '.join(unknown)}; there are {', '.join(SIDES)}")
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
