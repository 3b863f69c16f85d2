"""Space: the fields a search varies and their ranges, declared by the recipe or given as text.

lr=1e-4..1e-2          from low to high, evenly in the logarithm if the recipe declares it so
batch=16|32|64         one of these, each as it would stand in a variant
layers.depth=2..4      a part of a field that the recipe puts together
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labelwise.errors import OptionError, UsageError
from labelwise.recipe.base import Recipe
from labelwise.recipe.ranges import Choices, Integers, Parts, Range, Reals, ranges_of
from labelwise.recipe.variants import parse_variants

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SPENT = "epochs"  # what successive halving spends cannot be searched at the same time
DIGITS = 3  # significant ones of a real number: what is tried is what the variant's text says


@dataclass(frozen=True)
class Base:
    """The variant that a search begins with, and fields that are fixed in every trial.

    Attributes:
        variant: text of one variant, or a recipe.
        fixed: "field=value" each.
        defaults: as `parse_variants` takes them.
    """

    variant: str | Recipe
    fixed: Sequence[str] = ()
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for text in self.fixed:
            name, equals, _ = text.partition("=")
            if not equals or not name.strip().isidentifier():
                raise OptionError(f"--set {text!r}: expected field=value, as in epochs=5.")

    def recipe(self, fields: Mapping[str, str] | None = None) -> Recipe:
        """The recipe with some more fields, given as text.

        Raises:
            OptionError, LayerError: a field or value does not fit.
        """
        (found,) = parse_variants([self.variant], option="--recipe")
        changes = [*self.fixed, *(f"{name}={text}" for name, text in (fields or {}).items())]
        settings = [f"{found.name}.{change.strip()}" for change in changes]
        return parse_variants([self.variant], settings=settings, defaults=self.defaults)[0].recipe


@dataclass(frozen=True)
class Space:
    """What a search varies.

    Attributes:
        ranges: field, or FIELD.PART -> range.
        renders: field -> how its text is made of its parts.
    """

    ranges: Mapping[str, Range]
    renders: Mapping[str, Callable[[Mapping[str, str]], str]]

    def fields(self, values: Mapping[str, Any]) -> dict[str, str]:
        """The text of every searched field, from a value of every range."""
        texts = {name: _text(values[name]) for name in self.ranges}
        fields = {name: text for name, text in texts.items() if "." not in name}
        for field, render in self.renders.items():
            parts = {n.partition(".")[2]: t for n, t in texts.items() if n.startswith(f"{field}.")}
            fields[field] = render(parts)
        return fields

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The ranges as optuna has them."""
        return {name: _distribution(found) for name, found in self.ranges.items()}

    @property
    def texts(self) -> dict[str, str]:
        """The ranges as people read them."""
        return {name: str(found) for name, found in self.ranges.items()}

    def __str__(self) -> str:
        return "\n".join(f"  {name}: {text}" for name, text in self.texts.items())


def make_space(base: Base, fixed: Collection[str], searches: Sequence[str]) -> Space:
    """The ranges that a recipe declares, without fixed fields, changed by what a user says.

    Args:
        fixed: names of fields that the user gave.
        searches: "field=low..high", "field=a|b" or "field.part=..." each.

    Raises:
        OptionError: a search cannot be read, or nothing is left to search.
    """
    recipe = base.recipe()
    ranges: dict[str, Range] = {}
    renders: dict[str, Callable[[Mapping[str, str]], str]] = {}
    for item in dataclasses.fields(recipe):
        declared = item.metadata.get("search")
        if declared is None or item.name in fixed or not recipe.searchable(item.name):
            continue
        ranges |= ranges_of(item.name, declared)
        if isinstance(declared, Parts):
            renders[item.name] = declared.render
    for search in searches:
        name, found = _read(search, recipe, ranges, fixed)
        if name in renders:  # values of the whole field instead of its parts
            del renders[name]
            ranges = {key: r for key, r in ranges.items() if not key.startswith(f"{name}.")}
        if "." in name:
            _check_part(search, found, ranges[name])
        else:
            _check(search, base, name, found)
        ranges[name] = found
    if not ranges:
        raise OptionError(
            f"{recipe.name}: every field that it declares a range for is fixed. Fix fewer fields, "
            "or give a range, as in --search lr=1e-4..1e-2."
        )
    return Space(ranges, renders)


def _read(
    search: str, recipe: Recipe, declared: Mapping[str, Range], fixed: Collection[str]
) -> tuple[str, Range]:
    """The field, or part of one, that a search names, and its range."""
    name, equals, text = (part.strip() for part in search.partition("="))
    if not (name and equals and text):
        raise OptionError(
            f"--search {search!r}: expected field=low..high or field=a|b, as in lr=1e-4..1e-2 or "
            "'batch=16|32'."
        )
    fields = [item.name for item in dataclasses.fields(recipe)]
    if name not in fields and name not in declared:
        known = sorted({*fields, *declared} - set(fixed) - {SPENT})
        raise OptionError(
            f"--search {search!r}: {name!r} cannot be searched here. Choose from "
            f"{', '.join(known)}."
        )
    if name == SPENT:
        raise OptionError(
            f"--search {search!r}: epochs are what the search spends, stopping bad trials early. "
            "Fix them: --set epochs=20."
        )
    if name in fixed:
        raise OptionError(f"--search {search!r}: {name!r} is also given a value. Leave one out.")
    if ".." not in text:
        return name, Choices(tuple(part.strip() for part in text.split("|")))
    return name, _interval(search, text, _kind(recipe, name, declared), declared.get(name))


def _kind(recipe: Recipe, name: str, declared: Mapping[str, Range]) -> type | None:
    """int or float if a field or part has such numbers."""
    found = declared.get(name)
    if isinstance(found, Integers) or (
        isinstance(found, Choices) and all(text.isdecimal() for text in found.values)
    ):
        return int
    if name not in {item.name for item in dataclasses.fields(recipe)}:
        return None
    hint = typing.get_type_hints(type(recipe))[name]
    return next((kind for kind in (int, float) if kind in (hint, *typing.get_args(hint))), None)


def _interval(search: str, text: str, kind: type | None, declared: Range | None) -> Range:
    try:
        if kind is None:
            raise ValueError
        low, high = (kind(limit) for limit in re.split(r"\.\.", text, maxsplit=1))
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError
    except ValueError:
        what = {int: "two whole numbers", float: "two numbers"}.get(kind or str)
        expected = f"low..high, {what} that ascend" if what else "values, as in 'a|b'"
        raise OptionError(f"--search {search!r}: {text!r} is not {expected}.") from None
    if kind is int:
        return Integers(int(low), int(high))
    return Reals(low, high, log=low > 0 and (not isinstance(declared, Reals) or declared.log))


def _check(search: str, base: Base, name: str, found: Range) -> None:
    """Refuse values that the field does not take before anything is trained."""
    for text in _ends(found):
        try:
            base.recipe({name: text})
        except UsageError as error:
            raise OptionError(f"--search {search!r}: {error}") from None


def _check_part(search: str, found: Range, declared: Range) -> None:
    """Parts are positive whole numbers, or some of the declared words."""
    words = declared.values if isinstance(declared, Choices) else ()
    numbers = all(word.isdecimal() for word in words)
    for text in _ends(found):
        if text not in words and not (numbers and text.isdecimal() and int(text) > 0):
            expected = "a positive whole number" if numbers else f"one of {', '.join(words)}"
            raise OptionError(f"--search {search!r}: {text!r} is not {expected}.")


def _ends(found: Range) -> tuple[str, ...]:
    return found.values if isinstance(found, Choices) else (_text(found.low), _text(found.high))


def _text(value: Any) -> str:
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)


def _distribution(found: Range) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(found, Choices):
        return CategoricalDistribution(list(found.values))
    if isinstance(found, Integers):
        return IntDistribution(found.low, found.high)
    return FloatDistribution(found.low, found.high, log=found.log)
