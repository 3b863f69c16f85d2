"""SVG by hand: elements whose texts and attributes are always escaped, scales, and axis ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
    """One element. `class_` stands for class, `_` in names for `-`; None leaves one out.

    >>> print(element("text", "a<b", x=1.0, class_="tick"))
    <text x="1" class="tick">a&lt;b</text>
    """
    shown = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(escape(_text(child)) for child in children if child is not None)
    return Markup(f"<{tag}{shown}>{inside}</{tag}>")  # every part is escaped above


def _text(value: Any) -> Any:
    """Numbers to a tenth of a unit: a page of charts stays small."""
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return value


def picture(
    width: float, height: float, label: str, children: Iterable[Markup], **attributes: str
) -> Markup:
    """A drawing that scales with its box and has a name for those who do not see it."""
    box = f"0 0 {width:g} {height:g}"
    return element("svg", *children, viewBox=box, role="img", aria_label=label, **attributes)


@dataclass(frozen=True)
class Scale:
    """From values to positions, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Three to six round values within the limits."""
        return _log_ticks(self.low, self.high) if self.log else nice_ticks(self.low, self.high)


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round values within limits, in steps of 1, 2 or 5 times a power of ten.

    >>> nice_ticks(0.91, 0.985)
    [0.92, 0.94, 0.96, 0.98]
    """
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / about))
    found = [_multiples(factor * power, low, high) for factor in (1, 2, 5, 10)]
    return min(found, key=lambda ticks: abs(len(ticks) - about))


def _multiples(step: float, low: float, high: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [factor * 10.0**power for power in powers for factor in factors]
        inside = [tick for tick in found if low * 0.999 <= tick <= high * 1.001]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 6)]
    return inside or [low, high]


def padded(values: Sequence[float], limits: tuple[float, float]) -> tuple[float, float]:
    """Limits of an axis: a little more than the values need, within what is possible."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * (abs(high) or 1)
    return max(limits[0], low - room), min(limits[1], high + room)


def short(number: float) -> str:
    """A tick's label: 0.001, 0.25, 40, 10k."""
    if number == 0:
        return "0"
    if abs(number) >= 10_000:
        return f"{number / 1000:g}k"
    return f"{number:.3g}" if abs(number) >= 1e-3 else f"{number:.0e}".replace("e-0", "e-")


def path(points: Sequence[tuple[float, float]]) -> str:
    """A line through points, as the `d` of a path."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
