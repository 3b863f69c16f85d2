"""Processes that take turns: each has prepared its work and does it when asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any


class Worker:
    """A process that runs `python -m MODULE NAME`; a line of JSON answers every line."""

    def __init__(self, module: str, name: str, request: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, name, json.dumps(request)],
            cwd=Path(__file__).parent.parent,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()  # it is ready

    def turn(self) -> tuple[float, float]:
        """Wall-clock and CPU seconds of the work, done once."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self._answer()
        return answer["wall"], answer["cpu"]

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"A worker ended: {self.process.args}. Its last words stand above.")
        return json.loads(line)


def alternate(workers: dict[str, Worker], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Wall-clock and CPU seconds of every worker in every round; a first round is not counted."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
    for turn in range(1 + rounds):
        for name, worker in workers.items():
            seconds = worker.turn()
            if turn:
                found[name].append(seconds)
    return found


def spread(values: list[float], form: str = ".2f") -> str:
    """Minimum, median and maximum as text."""
    return "  ".join(f"{value:{form}}" for value in (min(values), median(values), max(values)))
