"""Text for a terminal or a page: what is no visible character stands as its escape."""

from __future__ import annotations

import unicodedata
from typing import Any

LONGEST_MESSAGE = 1500  # characters; a message with its value is read, not scrolled through


def plain(text: Any) -> str:
    """Text that cannot play tricks: what is no visible character stands as its escape.

    Control characters, lone surrogates and marks that change the direction of writing (a name can
    hide its true ending with them) become \\n, \\udc80, \\u202e.
    """
    return "".join(_visible(char) for char in str(text))


def message_line(text: Any) -> str:
    """A message as one line of a terminal; what is too long loses its middle.

    The beginning names the option or file, the end says what to do: the value is between them.
    """
    line = plain(text)
    if len(line) <= LONGEST_MESSAGE:
        return line
    half = LONGEST_MESSAGE // 2
    return f"{line[:half]} [...] {line[-half:]}"


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number with its noun: 1 image, 2,000 images; `several` is a plural that is not one + s."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def _visible(char: str) -> str:
    if unicodedata.category(char) in ("Cc", "Cs", "Cf", "Zl", "Zp"):
        return char.encode("unicode_escape", "surrogatepass").decode()
    return char
