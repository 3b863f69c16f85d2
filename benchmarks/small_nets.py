"""How fast small nets learn: labelwise beside Keras and plain PyTorch, in images per second.

    python benchmarks/small_nets.py --peer-python PATH        PATH: a Python with the peers
    python benchmarks/small_nets.py --quick --nets A,B --engines labelwise,torch-slices

Every engine runs in a process of its own, bound to as many cores as it may use threads; all take
turns, one epoch each per round, on the same random images. OpenMP's threads wait asleep, as the
command line of labelwise has it: threads that spin slow down whoever's turn it is. The first epoch
(with what is built and compiled before it) is told apart, and the second is not counted. The
seconds of labelwise are those of its history. `labelwise is` tells how many times as fast as the
engine: the median over the rounds. The peers of --peer-python are no dependencies of labelwise:

    python3.11 -m venv peers && peers/bin/pip install tensorflow-cpu keras "jax[cpu]"
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from engines.nets import GEMM_COUNT, GEMM_SIDE, NETS, Net

UNCOUNTED = 2  # epochs: the first, which builds, and one to warm up


@dataclass(frozen=True)
class Engine:
    """Where an engine's training function is, and what its process needs."""

    module: str
    function: str
    environment: tuple[tuple[str, str], ...] = ()
    install: str = ""  # what --peer-python must have; nothing: it runs in this Python


_TF = ((("KERAS_BACKEND", "tensorflow"),), "tensorflow-cpu keras")
_JAX = ((("KERAS_BACKEND", "jax"), ("JAX_PLATFORMS", "cpu")), '"jax[cpu]" keras')

ENGINES = {
    "gemm": Engine("with_torch", "gemm"),
    "labelwise": Engine("with_labelwise", "train"),
    "torch-loader": Engine("with_torch", "loader"),
    "torch-slices": Engine("with_torch", "slices"),
    "torch-compile": Engine("with_torch", "compiled"),
    "keras-tf": Engine("with_keras", "fit", *_TF),
    "keras-tf-steps": Engine("with_keras", "fit_steps", *_TF),
    "keras-tf-steps-nojit": Engine("with_keras", "fit_plain", *_TF),
    "keras-jax": Engine("with_keras", "fit", *_JAX),
    "keras-jax-steps": Engine("with_keras", "fit_steps", *_JAX),
}


@dataclass
class Timing:
    """Of one engine on one net, in seconds.

    Attributes:
        imported, first: of the import and the first epoch.
        seconds, cpu: wall-clock time and CPU time of all threads, of every counted epoch.
        uncounted_cpu: CPU time of the epochs before.
    """

    imported: float
    first: float
    uncounted_cpu: float
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


class Worker:
    """A process with one engine in it."""

    def __init__(self, engine: Engine, python: str, threads: int, cache: str) -> None:
        variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
        environment = {
            **os.environ,
            **dict.fromkeys(variables, str(threads)),
            **dict(engine.environment),
            "LABELWISE_CACHE": cache,
            "OMP_WAIT_POLICY": "PASSIVE",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self.process = subprocess.Popen(
            [python, "-m", "engines.worker", engine.module, engine.function],
            cwd=Path(__file__).parent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: bind(threads),
        )
        self.imported = self.answer()

    def ask(self, request: str = "") -> dict[str, Any]:
        """Send a line and wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line the worker says; SystemExit if it says none."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"A worker ended: {self.process.args}. Its last words stand above.")
        return json.loads(line)

    def close(self) -> None:
        """End the process, in the middle of an epoch if need be."""
        self.process.kill()
        self.process.communicate()


def bind(threads: int) -> None:
    """Keep this process on so many cores: every thread pool takes its size from that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def start(names: list[str], python: str, threads: int, cache: str) -> dict[str, Worker]:
    """The engines that can run here; a line for every other one."""
    workers = {}
    for name in names:
        engine = ENGINES[name]
        worker = Worker(engine, python if engine.install else sys.executable, threads, cache)
        if "missing" in worker.imported:
            hint = f"pip install {engine.install or 'labelwise'}"
            print(f"{name} is left out ({worker.imported['missing']}): {hint}")
            worker.close()
        else:
            workers[name] = worker
    return workers


def measure(workers: dict[str, Worker], letter: str, net: Net, rounds: int) -> dict[str, Timing]:
    """Alternate the engines epoch by epoch."""
    request = {"net": letter, "steps": net.steps, "epochs": UNCOUNTED + rounds}
    timings = {}
    for name, worker in workers.items():
        first = worker.ask(json.dumps(request))
        timings[name] = Timing(worker.imported["seconds"], first["seconds"], first["cpu"])
    for turn in range(1, UNCOUNTED + rounds):
        for name, worker in workers.items():
            answer, timing = worker.ask(), timings[name]
            if turn < UNCOUNTED:
                timing.uncounted_cpu += answer["cpu"]
                continue
            timing.seconds.append(answer["seconds"])
            timing.cpu.append(answer["cpu"])
    for name, worker in workers.items():
        if stated := worker.ask()["stated"]:
            timings[name].seconds = stated[UNCOUNTED:]
    return timings


def busy_seconds() -> float:
    """CPU seconds of all processes since the machine started; 0 where that cannot be known."""
    try:
        ticks = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    return sum(int(ticks[i]) for i in (0, 1, 2, 5, 6, 7)) / os.sysconf("SC_CLK_TCK")


def table(net: Net, timings: dict[str, Timing]) -> str:
    """Markdown: a row per engine."""
    peak = 0.0
    if gemm := timings.get("gemm"):
        peak = 2 * GEMM_SIDE**3 * GEMM_COUNT / median(gemm.seconds) / 1e9
    ours = timings.get("labelwise")
    lines = [
        "| engine | images/s | min | max | labelwise is | GFLOP/s | of GEMM | CPU µs/image "
        "| import s | first epoch s |",
        "|---|" + "--:|" * 9,
    ]
    for name, timing in timings.items():
        if name == "gemm":
            continue
        speeds = sorted(net.images / seconds for seconds in timing.seconds)
        rate = median(speeds) * net.flops / 1e9
        pairs = zip(ours.seconds, timing.seconds, strict=True) if ours else ()
        ratio = f"{median(b / a for a, b in pairs):.2f} x" if ours else ""
        share = f"{rate / peak:.1%}" if peak else ""
        cpu = f"{1e6 * median(timing.cpu) / net.images:.1f}"
        lines.append(
            f"| {name} | {median(speeds):,.0f} | {speeds[0]:,.0f} | {speeds[-1]:,.0f} | {ratio} "
            f"| {rate:.1f} | {share} | {cpu} | {timing.imported:.1f} | {timing.first:.1f} |"
        )
    if peak:
        lines.append(f"\nGEMM ({GEMM_SIDE} x {GEMM_SIDE}, float32): {peak:.0f} GFLOP/s")
    return "\n".join(lines)


def options() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=cores)
    parser.add_argument("--quick", action="store_true", help="3 rounds of short epochs")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--json", type=Path, help="write all seconds there")
    return parser.parse_args()


def main() -> None:
    """Measure and print a table per net."""
    args = options()
    rounds = 3 if args.quick else args.rounds
    print(f"{platform.machine()}, {args.threads} thread(s), {rounds} rounds\n")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        workers = start(args.engines.split(","), args.peer_python, args.threads, cache)
        try:
            for letter in args.nets.split(","):
                net = NETS[letter]
                net = replace(net, steps=10) if args.quick else net
                busy, started = busy_seconds(), time.perf_counter()
                timings = measure(workers, letter, net, rounds)
                ours = sum(timing.uncounted_cpu + sum(timing.cpu) for timing in timings.values())
                others = (busy_seconds() - busy - ours) / (time.perf_counter() - started)
                print(f"\n## {letter}: {net.text}\n")
                print(f"{net.images} images an epoch, {net.flops / 1e6:.3f} MFLOP each\n")
                print(table(net, timings), flush=True)
                print(f"Other processes kept {max(others, 0):.2f} cores busy meanwhile", flush=True)
                found[letter] = {name: asdict(timing) for name, timing in timings.items()}
        finally:
            for worker in workers.values():
                worker.close()
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
