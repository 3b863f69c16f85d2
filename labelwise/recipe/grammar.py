"""Grammar: the text of variants, `name=recipe(field=value, other=recipe(...)), ...`, as calls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from labelwise.errors import OptionError
from labelwise.recipe import RECIPES

DEEPEST = 20  # recipes inside of each other
_TOKEN = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([(),=])|([^\s(),="']+))""")


@dataclass(frozen=True)
class Call:
    """A recipe as it was written: its name and its fields, values still text or calls."""

    recipe: str
    fields: Mapping[str, str | Call]


def read_variants(text: str, option: str) -> list[tuple[str, Call]]:
    """The names and calls that a text consists of.

    Args:
        option: that the text was given with, for messages.

    Raises:
        OptionError: the text cannot be read; says where, and what was expected there.
    """
    return _Reader(text, option).variants()


class _Reader:
    """Reads `name=recipe(field=value, ...)` one token after the other."""

    def __init__(self, text: str, option: str) -> None:
        self.text, self.place = text, 0
        self.given = f"{option} {text!r}"
        self.tokens: list[tuple[str, str]] = []  # (kind, text): mark, word or quoted
        while text[self.place :].strip():
            match = _TOKEN.match(text, self.place)
            if match is None:
                raise OptionError(f"{self.given}: a quotation mark is not closed.")
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
                f"{self.given}: more than {DEEPEST} recipes stand inside of each other. Name fewer."
            )
        if not self._next("("):
            return Call(recipe, fields)
        while not self._next(")"):
            name = self._take("word", "a field")
            self._expect("=")
            if name in fields:
                raise OptionError(f"{self.given}: {name!r} is given twice.")
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
            raise OptionError(f"{self.given}: expected {mark!r} {self._where()}.")

    def _token(self, what: str) -> tuple[str, str]:
        if self.place == len(self.tokens) or self.tokens[self.place][0] == "mark":
            raise OptionError(f"{self.given}: expected {what} {self._where()}.")
        self.place += 1
        return self.tokens[self.place - 1]

    def _take(self, kind: str, what: str) -> str:
        found, value = self._token(what)
        if found != kind:
            raise OptionError(f"{self.given}: expected {what}, not {value!r} in quotes.")
        return value

    def _where(self) -> str:
        if self.place == len(self.tokens):
            return "at the end"
        return f"before {self.tokens[self.place][1]!r}"
