"""Variants: what is compared. `name=recipe(field=value, other=recipe(...))`, read from text."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic

from labelwise.errors import OptionError
from labelwise.recipe import RECIPES
from labelwise.recipe.base import Recipe

DEEPEST = 20  # recipes inside of each other
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TOKEN = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([(),=])|([^\s(),="']+))""")


@dataclass(frozen=True)
class Call:
    """A recipe as it was written: its name and its fields, values still text or calls."""

    recipe: str
    fields: Mapping[str, str | Call]


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
) -> tuple[Variant, ...]:
    """Read variants.

    Args:
        texts: "cnn, pool=cnn(preset=mammals-pool)", or a list of such texts and of recipes.
        settings: "variant.field=value" each, overriding what the text says.
        defaults: field -> value for every variant whose recipe has the field and does not give it.

    Raises:
        OptionError, LayerError: names what could not be read, with what was expected there.
    """
    written: list[tuple[str, Call | Recipe]] = []
    for text in [texts] if isinstance(texts, str) else texts:
        written += [(text.name, text)] if isinstance(text, Recipe) else _Reader(text).variants()
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
            recipe = call
            if changes[name]:
                values = {field: _value(type(call), field, text) for field, text in changes[name]}
                recipe = dataclasses.replace(call, **values)
        else:
            fields = {**call.fields, **dict(changes[name])}
            recipe = make_recipe(Call(call.recipe, fields), defaults or {})
        variants.append(Variant(name, recipe))
    return tuple(variants)


def given_fields(variant: str | Recipe) -> frozenset[str]:
    """Fields that one variant gives: those of its text, or of a recipe those not at their default.

    Raises:
        OptionError: the text cannot be read, or names several variants.
    """
    if isinstance(variant, Recipe):
        return frozenset(_changed(variant))
    found = _Reader(variant).variants()
    if len(found) != 1:
        raise OptionError(f"{variant!r}: give one recipe, as cnn(epochs=5).")
    return frozenset(found[0][1].fields)


def variant_text(variant: Variant) -> str:
    """The text that `parse_variants` reads a variant from; fields at their default are left out."""
    recipe = variant.recipe
    fields = ", ".join(f"{name}={_text(value)}" for name, value in _changed(recipe).items())
    call = f"{recipe.name}({fields})" if fields else recipe.name
    return call if variant.name == recipe.name else f"{variant.name}={call}"


def _changed(recipe: Recipe) -> dict[str, Any]:
    """Fields of a recipe that are not what its preset, if it has any, makes of them."""
    preset = {"preset": recipe.preset} if hasattr(recipe, "preset") else {}
    usual = type(recipe)(**preset)
    changed = {name: getattr(recipe, name) for name in _fields(type(recipe))}
    changed = {name: v for name, v in changed.items() if v != getattr(usual, name)}
    if preset and recipe.preset != type(recipe)().preset:  # type: ignore[attr-defined]
        changed = {**preset, **changed}
    return changed


def _text(value: Any) -> str:
    """A field's value as a variant has it; in quotes where it would not be one word."""
    if isinstance(value, Recipe):
        return variant_text(Variant(value.name, value))
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    text = "none" if value is None else str(value)
    if re.fullmatch(r"""[^\s(),='"]+""", text) and text not in RECIPES:
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'


def make_recipe(call: Call, defaults: Mapping[str, Any]) -> Recipe:
    """The recipe of a call; fields it does not give come from `defaults` where it has them.

    Raises:
        OptionError: unknown recipe or field, or a value that does not fit.
    """
    kind = RECIPES.get(call.recipe)
    if kind is None:
        raise OptionError(_unknown("recipe", call.recipe, RECIPES))
    known = _fields(kind)
    values: dict[str, Any] = {
        name: value for name, value in defaults.items() if name in known and value is not None
    }
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


class _Reader:
    """Reads `name=recipe(field=value, ...)` one token after the other."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0
        self.tokens: list[tuple[str, str]] = []  # (kind, text): mark, word or quoted
        while text[self.place :].strip():
            match = _TOKEN.match(text, self.place)
            if match is None:
                raise OptionError(f"--recipes {text!r}: a quotation mark is not closed.")
            double, single, mark, word = match.groups()
            quoted = double if double is not None else single
            if quoted is not None:
                self.tokens.append(("quoted", quoted))
            else:
                self.tokens.append(("mark", mark) if mark else ("word", word))
            self.place = match.end()
        self.place = 0

    def variants(self) -> list[tuple[str, Call]]:
        found = []
        while True:
            first = self._take("word", "a recipe")
            if self._next("="):
                found.append((first, self._call(self._take("word", "a recipe"))))
            else:
                found.append((first, self._call(first)))
            if self.place == len(self.tokens):
                return found
            self._expect(",")

    def _call(self, recipe: str, depth: int = 0) -> Call:
        fields: dict[str, str | Call] = {}
        if depth > DEEPEST:
            raise OptionError(
                f"--recipes {self.text!r}: more than {DEEPEST} recipes stand inside of each "
                "other. Name fewer."
            )
        if not self._next("("):
            return Call(recipe, fields)
        while not self._next(")"):
            name = self._take("word", "a field")
            self._expect("=")
            if name in fields:
                raise OptionError(f"--recipes {self.text!r}: {name!r} is given twice.")
            kind, value = self._token("a value")
            if kind == "word" and (value in RECIPES or self._peek("(")):
                fields[name] = self._call(value, depth + 1)
            else:
                fields[name] = value
            if not self._peek(")"):
                self._expect(",")
        return Call(recipe, fields)

    def _peek(self, mark: str) -> bool:
        return self.place < len(self.tokens) and self.tokens[self.place] == ("mark", mark)

    def _next(self, mark: str) -> bool:
        found = self._peek(mark)
        self.place += found
        return found

    def _expect(self, mark: str) -> None:
        if not self._next(mark):
            raise OptionError(f"--recipes {self.text!r}: expected {mark!r} {self._where()}.")

    def _token(self, what: str) -> tuple[str, str]:
        if self.place == len(self.tokens) or self.tokens[self.place][0] == "mark":
            raise OptionError(f"--recipes {self.text!r}: expected {what} {self._where()}.")
        self.place += 1
        return self.tokens[self.place - 1]

    def _take(self, kind: str, what: str) -> str:
        found, value = self._token(what)
        if found != kind:
            raise OptionError(f"--recipes {self.text!r}: expected {what}, not {value!r} in quotes.")
        return value

    def _where(self) -> str:
        if self.place == len(self.tokens):
            return "at the end"
        return f"before {self.tokens[self.place][1]!r}"
