"""Candidate: a variant that is being planned, with the sizes it may have and what each costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from labelwise.estimate import Workload
from labelwise.progress import clock
from labelwise.recipe.base import Context, Cost, Recipe, Task

FEWEST_PASSES = 1.0  # over the images


@dataclass(frozen=True)
class Planned:
    """What became of a candidate; see the attributes of Plan."""

    fields: dict[str, Any]
    sentence: str
    seconds: float


class Candidate:
    """A recipe, its sizes, and their costs, which are measured only when they are asked for."""

    def __init__(self, recipe: Recipe, task: Task, context: Context) -> None:
        """Measures the cheapest size.

        Raises:
            LabelwiseError: the recipe cannot run on this data or machine.
        """
        self.recipe, self.task, self.context = recipe, task, context
        self.sizes = recipe.sizes(task)
        self._costs: dict[int, Cost] = {}
        self._cost(0)

    @property
    def measured(self) -> int:
        """How many sizes have been measured."""
        return len(self._costs)

    def least(self, load: Workload) -> float:
        """Seconds of the cheapest size with as few epochs as are planned."""
        return self._seconds(0, FEWEST_PASSES, load)

    def most(self, load: Workload) -> float:
        """Seconds that it has use for; without an end if a larger size may have."""
        return math.inf if len(self.sizes) > 1 else self._seconds(0, self._most(0), load)

    def planned(self, load: Workload, seconds: float) -> Planned:
        """The largest size that learns enough in so many seconds, for as long as they last."""
        number = 0
        while number + 1 < len(self.sizes) and self._fits(number + 1, load, seconds):
            number += 1
        passes = highest(
            lambda passes: self._seconds(number, passes, load) <= seconds,
            min(FEWEST_PASSES, self._most(number)),
            self._most(number),
        )
        recipe = self.sizes[number].planned(passes)
        taken = self._seconds(number, passes, load)
        changed = {
            field.name: value.configuration if isinstance(value, Recipe) else value
            for field in fields(recipe)
            if (value := getattr(recipe, field.name)) != getattr(self.recipe, field.name)
        }
        sentence = f"{self._what(recipe)}about {clock(taken)}{self._why(number, passes)}"
        return Planned(changed, sentence, taken)

    def _cost(self, number: int) -> Cost:
        if number not in self._costs:
            self._costs[number] = self.sizes[number].cost(self.task, self.context)
        return self._costs[number]

    def _most(self, number: int) -> float:
        return float(self.sizes[number].open_epochs or FEWEST_PASSES)

    def _enough(self, number: int) -> float:
        return min(self.sizes[number].enough_passes(self.task), self._most(number))

    def _fits(self, number: int, load: Workload, seconds: float) -> bool:
        """Whether a size can learn enough; asked upwards, so that none far too large is timed."""
        return self._seconds(number, self._enough(number), load) <= seconds

    def _seconds(self, number: int, passes: float, load: Workload) -> float:
        epochs, share = _length(self.sizes[number].planned(passes))
        return load.seconds(self._cost(number), epochs * share, epochs)

    def _what(self, recipe: Recipe) -> str:
        epochs, share = _length(recipe)
        words = [f"{epochs} epoch{'s' if epochs > 1 else ''}"] if epochs else []
        words += [f"of {share:.0%} of the images"] if share < 0.995 else []
        if len(self.sizes) > 1:
            own = _learner(recipe)
            width, side = (getattr(own, name, None) for name in ("width", "image_size"))
            words += [f"at width {width:g}, {side} pixels" if width else f"at {side} pixels"]
        return f"{' '.join(words)}, " if words else ""

    def _why(self, number: int, passes: float) -> str:
        place = f"size {number + 1} of {len(self.sizes)}: the largest"
        if len(self.sizes) > 1 and not self._enough(number):
            return f" ({place} there is time for)"
        if len(self.sizes) > 1:
            enough = f"{self._enough(number):.3g} passes over the images"
            if self._enough(number) > passes:
                return f" (the smallest size; there is no time for {enough})"
            return f" ({place} with at least {enough})"
        if self.sizes[0].open_epochs is None:
            return ""
        if round(passes, 2) <= FEWEST_PASSES:  # a share has four digits
            return " (the least there is)"
        return " (all it has use for)" if passes >= self._most(0) else " (as the budget allows)"


def highest(fits: Callable[[float], bool], low: float, high: float) -> float:
    """The highest number from `low` to `high` that fits, if those below it do; else `low`."""
    if fits(high):
        return high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _learner(recipe: Recipe) -> Recipe:
    """The recipe that has epochs and sizes: of one around another, the other."""
    inside: Recipe = getattr(recipe, "base", recipe)
    return inside


def _length(recipe: Recipe) -> tuple[int, float]:
    """Epochs, 0 for a recipe without any, and the share of the images of each."""
    own = _learner(recipe)
    return int(getattr(own, "epochs", None) or 0), float(getattr(own, "share", None) or 1.0)
