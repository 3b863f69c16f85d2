"""Progress: what is running and how long it will take, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol


class Progress(Protocol):
    """Told by a run what it does; a run has steps with estimated seconds."""

    def plan(self, seconds: Sequence[float]) -> None:
        """The estimated seconds of every step to come."""

    def begin(self, what: str) -> None:
        """The next step begins."""

    def advance(self, fraction: float, note: str = "") -> None:
        """A fraction of the running step is done, in [0, 1]."""

    def end(self, note: str = "") -> None:
        """The running step is done."""

    def say(self, text: str) -> None:
        """A sentence for the user."""

    def close(self) -> None:
        """Nothing more comes."""


class Silent:
    """No progress at all."""

    def plan(self, seconds: Sequence[float]) -> None: ...
    def begin(self, what: str) -> None: ...
    def advance(self, fraction: float, note: str = "") -> None: ...
    def end(self, note: str = "") -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class Timeline:
    """Time left, from the estimates and from how right they have been so far."""

    def __init__(self) -> None:
        self.estimates: list[float] = []
        self.step = -1
        self.started = 0.0
        self.fraction = 0.0
        self.expected = 0.0  # estimated seconds of the steps that are done
        self.taken = 0.0  # what these steps took

    def begin(self) -> None:
        self.step += 1
        self.started, self.fraction = time.monotonic(), 0.0

    def end(self) -> None:
        if self.step < len(self.estimates):
            self.expected += self.estimates[self.step]
            self.taken += time.monotonic() - self.started

    @property
    def done(self) -> float:
        """Fraction of all estimated work that is done."""
        current = self.fraction * self._estimate(self.step)
        return min(1.0, (sum(self.estimates[: max(self.step, 0)]) + current) / self.total)

    @property
    def total(self) -> float:
        return max(sum(self.estimates), 1e-9)

    @property
    def left(self) -> float:
        """Seconds that remain."""
        # One estimated second of experience counts for the estimate itself.
        pace = (self.taken + 1) / (self.expected + 1)
        running = time.monotonic() - self.started if self.step >= 0 else 0.0
        rest = pace * self._estimate(self.step) - running
        if self.fraction > 0.1:
            rest = running * (1 / self.fraction - 1)
        return max(rest, 0.0) + pace * sum(self.estimates[self.step + 1 :])

    def _estimate(self, step: int) -> float:
        return self.estimates[step] if 0 <= step < len(self.estimates) else 0.0


class Lines:
    """A line per finished step, for logs and pipes."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.what = ""

    def plan(self, seconds: Sequence[float]) -> None:
        self.timeline = Timeline()
        self.timeline.estimates = list(seconds)

    def begin(self, what: str) -> None:
        self.timeline.begin()
        self.what = what

    def advance(self, fraction: float, note: str = "") -> None:
        self.timeline.fraction = fraction

    def end(self, note: str = "") -> None:
        took = time.monotonic() - self.timeline.started
        self.timeline.end()
        self.timeline.fraction = 1.0
        note = f", {note}" if note else ""
        left = f"; about {clock(self.timeline.left)} left" if self.timeline.estimates else ""
        self.say(f"{self.what}: {took:.0f} s{note}{left}")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None: ...


class Live:
    """One moving line in a terminal: what is running, a bar, and the time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self.timeline = Timeline()
        self.console = Console(stderr=True)
        self.bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[left]}", markup=False),
            console=self.console,
            transient=True,
        )
        self.task = self.bar.add_task("looking at the data", total=1.0, left="")
        self.what = ""
        self.bar.start()

    def plan(self, seconds: Sequence[float]) -> None:
        self.timeline = Timeline()
        self.timeline.estimates = list(seconds)

    def begin(self, what: str) -> None:
        self.timeline.begin()
        self.what = what
        self._show(what)

    def advance(self, fraction: float, note: str = "") -> None:
        self.timeline.fraction = fraction
        self._show(f"{self.what}, {note}" if note else self.what)

    def end(self, note: str = "") -> None:
        self.timeline.end()
        self.timeline.fraction = 1.0
        self._show(self.what)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self.bar.stop()

    def _show(self, text: str) -> None:
        left = f"{clock(self.timeline.left)} left" if self.timeline.estimates else ""
        self.bar.update(self.task, description=text, completed=self.timeline.done, left=left)


def make_progress(quiet: bool = False) -> Progress:
    """The display for this process: none, a moving line, or plain lines without a terminal."""
    if quiet:
        return Silent()
    return Live() if sys.stderr.isatty() else Lines()


def scanning(progress: Progress) -> Callable[[int, int, str], None]:
    """What `load` tells while it looks at the data, shown."""

    def scanned(done: int, total: int, what: str) -> None:
        progress.advance(done / max(total, 1), f"{what} {done} of {total}")

    return scanned


def clock(seconds: float) -> str:
    """45 s, 3:05 min, 1:02:03 h"""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"
