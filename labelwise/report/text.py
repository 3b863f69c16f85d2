"""Numbers and names as the page shows them. Percent and units only here; values stay fractions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from labelwise.measure.metrics import METRICS
from labelwise.plain import counted as counted
from labelwise.plain import plain as plain

MISSING = "–"
LONGEST_PATH = 200  # characters

Number = Mapping[str, Any]  # {value, low, high, n}, as in leaderboard.json


def path(name: Any) -> str:
    """A file's name, its middle left out if it is very long."""
    shown = plain(name)
    return shown if len(shown) <= LONGEST_PATH else f"{shown[:60]}…{shown[61 - LONGEST_PATH :]}"


def value(number: float | None, metric: str) -> str:
    """A metric's value: percent for a fraction, otherwise three digits."""
    if number is None or not math.isfinite(number):
        return MISSING
    return f"{percent(number)} %" if METRICS[metric].is_fraction else decimal(number)


def interval(number: Number | None, metric: str) -> str:
    """The limits of a metric's interval, as in `92.1 to 94.7 %`."""
    if number is None or number.get("low") is None or number.get("high") is None:
        return MISSING
    low, high = number["low"], number["high"]
    if METRICS[metric].is_fraction:
        return f"{percent(low)} to {percent(high)} %"
    return f"{decimal(low)} to {decimal(high)}"


def difference(pair: Mapping[str, Any], *, flip: bool) -> str:
    """A pair's difference with its interval, in points if the metric is a fraction.

    Args:
        flip: show b - a, how far a row lies from the best, instead of a - b.
    """
    found = [pair["difference"], pair["low"], pair["high"]]
    if any(number is None for number in found):
        return "difference undefined"
    if flip:
        found = [-found[0], -found[2], -found[1]]
    points = METRICS[pair["metric"]].is_fraction
    middle, low, high = (signed(100 * x, 1) if points else signed(x, 3) for x in found)
    return f"{middle}{' points' if points else ''} ({low} to {high})"


def chance(p: float | None) -> str:
    """A p behind a difference, as in `, p = 0.03`."""
    return "" if p is None else f", p {'< 0.001' if p < 0.001 else f'= {p:.2g}'}"


def percent(fraction: float) -> str:
    """93.5; a fraction that is not quite 1 is not rounded up to certainty."""
    text = f"{100 * fraction + 0.0:.1f}"
    if text == "100.0" and fraction < 1:
        return "99.9"
    return "100" if text == "100.0" else text


def decimal(number: float) -> str:
    """Three digits behind the point, with a true minus sign."""
    return f"{round(number, 3) + 0.0:.3f}".replace("-", "−")


def signed(number: float, digits: int) -> str:
    """+0.8, −1.2 or 0.0."""
    rounded = round(number, digits) + 0.0
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def count(number: float | None) -> str:
    """12,345"""
    return MISSING if number is None else f"{int(number):,}"


def seconds(number: float | None) -> str:
    """0.48 s, 12 s, 3:05 min"""
    from labelwise.progress import clock

    if number is None:
        return MISSING
    return f"{number:.2g} s" if number < 10 else clock(number)


def moment(stamp: str) -> str:
    """2026-11-22 13:52 UTC, from an ISO time stamp."""
    found = datetime.fromisoformat(stamp)
    zone = found.tzname() or ""
    return f"{found:%Y-%m-%d %H:%M} {zone}".strip()


def size(number: float | None) -> str:
    """Bytes in the largest unit that fits."""
    if number is None:
        return MISSING
    for unit, limit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number:.0f} bytes"


def labels_name(labels: str) -> str:
    """How a number of labels reads: all labels, 40 labels, 4 labels per class."""
    number, _, unit = labels.partition("-")
    word = "label" if number == "1" else "labels"
    return f"{number} {word} per class" if unit else f"{number} {word}"


def field(name: str, found: Any) -> tuple[str, str]:
    """A recipe's field, or a setting, as it is shown."""
    if found is None:
        shown = "not set"
    elif isinstance(found, list | tuple):
        shown = ", ".join(map(plain, found)) or "none"
    elif isinstance(found, bool):
        shown = "yes" if found else "no"
    else:
        shown = plain(found)
    return name.replace("_", " "), shown
