"""The process an engine runs in: epochs on demand, timed where they run.

    python -m engines.worker MODULE FUNCTION      (started by small_nets.py)

Reads a line per request and answers with a line of JSON: first, with `net`, the net's name and the
number of its epochs; then an empty line for every epoch but the first.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from dataclasses import replace
from typing import IO, Any

from engines.nets import NETS


class Clock:
    """Answers with the seconds of the epoch that ended, and waits until the next may start."""

    def __init__(self, answers: IO[str]) -> None:
        self.answers = answers
        self._restart()

    def __call__(self) -> None:
        seconds, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        self.tell(seconds=seconds, cpu=cpu)
        sys.stdin.readline()
        self._restart()

    def tell(self, **answer: Any) -> None:
        print(json.dumps(answer), file=self.answers, flush=True)

    def _restart(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()


def main() -> None:
    """Import the engine, then train every net that is asked for."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    module, function = sys.argv[1:]
    clock = Clock(answers)
    try:
        train = getattr(importlib.import_module(f"engines.{module}"), function)
    except ImportError as error:
        clock.tell(missing=str(error))
        return
    clock.tell(seconds=time.perf_counter() - clock.wall)
    while line := sys.stdin.readline():
        request = json.loads(line)
        net = replace(NETS[request["net"]], steps=request["steps"])
        pixels, labels = net.data()
        stated = train(net, pixels, labels, request["epochs"], Clock(answers))
        clock.tell(stated=stated)


if __name__ == "__main__":
    main()
