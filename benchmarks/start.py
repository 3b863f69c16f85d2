"""How long `labelwise --help` takes, as a process, beside an empty Python. n and spread printed.

python benchmarks/start.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 15


def main() -> None:
    """Alternate the two commands and print minimum, median and maximum of each, and the ratio."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "labelwise --help": [sys.executable, "-m", "labelwise.cli", "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS + 1):  # the first fills the disk cache and does not count
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    for name, values in seconds.items():
        counted = sorted(values[1:])
        print(
            f"{name}: {counted[0]:.3f} / {statistics.median(counted):.3f} / {counted[-1]:.3f} s "
            f"(minimum, median, maximum of {RUNS})"
        )


if __name__ == "__main__":
    main()
