"""Ranges: where a search looks for the value of a field. Declared beside the field's meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Reals:
    """Numbers from low to high, both included, drawn evenly or (`log`) evenly in the logarithm."""

    low: float
    high: float
    log: bool = True

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Integers:
    """Whole numbers from low to high, both included."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"


@dataclass(frozen=True)
class Choices:
    """Some values, each as it would stand in a variant's text."""

    values: tuple[str, ...]

    def __str__(self) -> str:
        return " | ".join(self.values)


Range = Reals | Integers | Choices


@dataclass(frozen=True)
class Parts:
    """A field whose text is put together from several ranges, such as a network's layers.

    Attributes:
        ranges: name of a part -> its range; a search narrows it as FIELD.PART.
        render: the field's text from the text of every part.
    """

    ranges: Mapping[str, Range]
    render: Callable[[Mapping[str, str]], str]


def ranges_of(field: str, declared: Range | Parts | None) -> dict[str, Range]:
    """The ranges of a field by the names that a search has for them: FIELD, or FIELD.PART each."""
    if declared is None:
        return {}
    if isinstance(declared, Parts):
        return {f"{field}.{part}": found for part, found in declared.ranges.items()}
    return {field: declared}


def choices(*values: object) -> Choices:
    """Choices from values.

    >>> choices(16, 32).values
    ('16', '32')
    """
    return Choices(tuple(map(str, values)))
