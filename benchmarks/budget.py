"""Seconds wanted and taken by `labelwise train --budget`, as whole processes.

python benchmarks/budget.py --data mnist.npz cifar10 --budgets 30s 60s --recipe cnn

Each run has a cache of its own, first cold and then warm. Other work on the machine while a run
is under way changes what it takes, so the share of the cores that others had is printed as well.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelwise.settings import seconds


@dataclass(frozen=True)
class Taken:
    """What one process took, cores that others kept busy meanwhile, and what was planned."""

    seconds: float
    others: float
    plan: dict[str, Any]


def busy_seconds() -> float:
    """Seconds of all cores that were not idle since the machine started (Linux)."""
    user, nice, system, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """Processor seconds of the processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(data: str, budget: str, cache: Path, out: Path, options: list[str]) -> Taken:
    """Run the command once."""
    command = [
        sys.executable,
        "-m",
        "labelwise.cli",
        "train" if "--recipe" in options else "compare",
    ]
    command += [data, "--budget", budget, "--out", str(out), "--quiet", *options]
    environment = {**os.environ, "LABELWISE_CACHE": str(cache)}
    busy, own, started = busy_seconds(), own_seconds(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    taken = time.perf_counter() - started
    others = (busy_seconds() - busy - own_seconds() + own) / taken
    return Taken(taken, max(others, 0.0), json.loads((out / "run.json").read_text())["plan"])


def main() -> None:
    """Print a line per run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--budgets", nargs="+", default=["30s", "60s", "3m"])
    parser.add_argument(
        "--runs", type=int, default=2, help="with one cache, which is cold at first"
    )
    args, options = parser.parse_known_args()  # the rest goes to the command, such as --recipe cnn
    print("| data | budget | cache | taken | ratio | cores of others | plan |")
    print("|---|---|---|---|---|---|---|")
    for data in args.data:
        for budget in args.budgets:
            with tempfile.TemporaryDirectory() as folder:
                for number in range(args.runs):
                    place = Path(folder)
                    taken = run(data, budget, place / "cache", place / f"run-{number}", options)
                    plan = "; ".join(f"{n}: {text}" for n, text in taken.plan["sentences"].items())
                    print(
                        f"| {Path(data).name} | {budget} | {'warm' if number else 'cold'} "
                        f"| {taken.seconds:.1f} s | {taken.seconds / seconds(budget):.2f} "
                        f"| {taken.others:.2f} | {plan} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
