"""Variants: what is compared. Recipes with names, from text and back."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic

from labelwise.errors import OptionError
from labelwise.recipe import RECIPES
from labelwise.recipe.base import Recipe
from labelwise.recipe.grammar import Call, read_variants

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Variant:
    """A named recipe; the name keys leaderboard, folders and --set."""

    name: str
    recipe: Recipe


def parse_variants(
    texts: str | Iterable[str | Recipe],
    *,
    settings: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    option: str = "--recipes",
) -> tuple[Variant, ...]:
    """Read variants.

    Args:
        texts: "cnn, pool=cnn(preset=mammals-pool)", or a list of such texts and of recipes.
        settings: "variant.field=value" each, overriding what the text says.
        defaults: field -> value for every variant whose recipe has the field and does not give it
            (a recipe given as a value: has it at its own default).
        option: that the texts were given with, for messages.

    Raises:
        OptionError, LayerError: names what could not be read, with what was expected there.
    """
    written: list[tuple[str, Call | Recipe]] = []
    for text in [texts] if isinstance(texts, str) else texts:
        written += [(text.name, text)] if isinstance(text, Recipe) else read_variants(text, option)
    if not written:
        raise OptionError(f"No recipe is named. Choose from {', '.join(RECIPES)}.")
    names = [name for name, _ in written]
    for name in names:
        if not _NAME.fullmatch(name):
            raise OptionError(
                f"Variant name {name!r}: use lower-case letters, digits, '.', '_' and '-', at most "
                "64, beginning with a letter or digit."
            )
        if names.count(name) > 1:
            raise OptionError(
                f"Two variants are named {name!r}. Name them apart: first={name}(...), second=..."
            )
    changes = _settings(settings, names)
    variants = []
    for name, call in written:
        if isinstance(call, Recipe):
            values = _left_open(call, defaults or {})
            values |= {field: _value(type(call), field, text) for field, text in changes[name]}
            recipe = dataclasses.replace(call, **values) if values else call
        else:
            fields = {**call.fields, **dict(changes[name])}
            recipe = make_recipe(Call(call.recipe, fields), defaults or {})
        variants.append(Variant(name, recipe))
    return tuple(variants)


def given_fields(variant: str | Recipe) -> frozenset[str]:
    """Fields that the one variant of --recipe gives: in its text, or of a recipe off their default.

    Raises:
        OptionError: it is neither, the text cannot be read, or names several variants.
    """
    if isinstance(variant, Recipe):
        return frozenset(_changed(variant))
    if not isinstance(variant, str):
        raise OptionError(not_a_recipe("--recipe", variant))
    found = read_variants(variant, "--recipe")
    if len(found) != 1:
        raise OptionError(f"--recipe {variant!r} names {len(found)} recipes. Give one.")
    return frozenset(found[0][1].fields)


def not_a_recipe(option: str, value: object) -> str:
    """What is said of a value that is neither text nor a recipe."""
    return (
        f"{option} {value!r}: expected the text of a recipe, such as 'cnn(epochs=5)', or a Recipe."
    )


def variant_text(variant: Variant) -> str:
    """The text that `parse_variants` reads a variant from; fields at their default are left out."""
    recipe = variant.recipe
    fields = ", ".join(f"{name}={value_text(value)}" for name, value in _changed(recipe).items())
    call = f"{recipe.name}({fields})" if fields else recipe.name
    return call if variant.name == recipe.name else f"{variant.name}={call}"


def _changed(recipe: Recipe) -> dict[str, Any]:
    """Fields of a recipe that are not what its preset, if it has any, makes of them."""
    preset = {"preset": recipe.preset} if hasattr(recipe, "preset") else {}
    values = {name: getattr(recipe, name) for name in _fields(type(recipe))}
    needed = {  # a recipe of the user's own may have fields without a default
        field.name: values[field.name]
        for field in dataclasses.fields(recipe)
        if field.default is field.default_factory is dataclasses.MISSING
    }
    usual = type(recipe)(**preset, **needed)
    changed = {n: v for n, v in values.items() if n in needed or v != getattr(usual, n)}
    if preset and recipe.preset != type(recipe)(**needed).preset:  # type: ignore[attr-defined]
        changed = {**preset, **changed}
    return changed


def value_text(value: Any) -> str:
    """A field's value as a variant has it; in quotes where it would not be one word."""
    if isinstance(value, Recipe):
        return variant_text(Variant(value.name, value))
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    text = "none" if value is None else str(value)
    if re.fullmatch(r"""[^\s(),='"]+""", text) and text not in RECIPES:
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'


def _left_open(recipe: Recipe, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults for the fields that a recipe, and one that it is around, has left as they are."""
    values = _meant(type(recipe), defaults, _changed(recipe))
    for name in _fields(type(recipe)):
        around = getattr(recipe, name)
        if isinstance(around, Recipe) and (inner := _left_open(around, defaults)):
            values[name] = dataclasses.replace(around, **inner)
    return values


def _meant(
    kind: type[Recipe], defaults: Mapping[str, Any], given: Collection[str]
) -> dict[str, Any]:
    """The defaults that are meant for fields that are not given."""
    return {
        name: value
        for name, value in defaults.items()
        if name in _fields(kind) and name not in given and value is not None
        if kind.is_meant(name, value, given)
    }


def make_recipe(call: Call, defaults: Mapping[str, Any]) -> Recipe:
    """The recipe of a call; fields it does not give come from `defaults` where it has them.

    Raises:
        OptionError: unknown recipe or field, or a value that does not fit.
    """
    kind = RECIPES.get(call.recipe)
    if kind is None:
        raise OptionError(_unknown("recipe", call.recipe, RECIPES))
    values = _meant(kind, defaults, call.fields)
    for field in dataclasses.fields(kind):
        if isinstance(field.default, Recipe):
            values[field.name] = make_recipe(Call(field.default.name, {}), defaults)
    for name, value in call.fields.items():
        made = make_recipe(value, defaults) if isinstance(value, Call) else value
        values[name] = _value(kind, name, made)
    return kind(**values)


def _fields(kind: type[Recipe]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def recipe_of(configuration: Mapping[str, Any]) -> Recipe:
    """The recipe of a configuration, as `Recipe.configuration` gives it and run.json keeps it.

    Raises:
        OptionError: the recipe is not one of labelwise's own.
    """
    name = configuration["name"]
    if name not in RECIPES:
        raise OptionError(f"The recipe {name!r} is not one of labelwise's own: give it again.")
    values = {}
    for field, value in configuration.items():
        if isinstance(value, dict):
            value = recipe_of(value)
        values[field] = tuple(value) if isinstance(value, list) else value
    del values["name"]
    return RECIPES[name](**values)


def _value(kind: type[Recipe], name: str, text: str | Recipe) -> Any:
    """The text of a field, or the recipe that it names, as the type that the field has."""
    if name not in _fields(kind):
        raise OptionError(_unknown(f"field of {kind.name}", name, _fields(kind)))
    hint = typing.get_type_hints(kind)[name]
    value: Any = text
    if text == "none" and type(None) in typing.get_args(hint):
        return None
    if any(typing.get_origin(part) is tuple for part in (hint, *typing.get_args(hint))):
        value = [part for part in re.split(r"[-\s]+", str(text)) if part]
    try:
        return pydantic.TypeAdapter(hint).validate_python(value)
    except pydantic.ValidationError as error:
        wrong = error.errors()[0]["msg"].partition(", unable to parse")[0]
        raise OptionError(
            f"{kind.name}({name}={getattr(text, 'name', text)}): {wrong[0].lower()}{wrong[1:]}. "
            f"See: labelwise recipes {kind.name}"
        ) from None


def _settings(settings: Sequence[str], names: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    changes: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
    for setting in settings:
        target, equals, value = setting.partition("=")
        name, dot, field = target.strip().rpartition(".")
        if not equals or not dot:
            raise OptionError(
                f"--set {setting!r}: expected variant.field=value, as in cnn.epochs=5"
            )
        if name not in changes:
            raise OptionError(f"--set {setting!r}: " + _unknown("variant", name, names))
        changes[name].append((field, value.strip().strip("\"'")))
    return changes


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"there is no {what} {name!r}; {hint}choose from {', '.join(known)}."
