"""Names of classes: their order, and names that a person could not tell apart."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from labelwise.data.dataset import UNLABELED
from labelwise.data.source import first_few
from labelwise.errors import DataError
from labelwise.plain import counted


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Class names sorted by code point, or by number if every one is an integer."""
    distinct = set(names)
    try:
        return tuple(sorted(distinct, key=lambda name: (_integer(name), name)))
    except ValueError:
        return tuple(sorted(distinct))


def _integer(name: str) -> int:
    if name.removeprefix("-").isascii() and name.removeprefix("-").isdigit():
        return int(name)
    raise ValueError(name)


def look_alikes(names: Sequence[str]) -> list[str]:
    """A sentence for every set of names that differ only in case, spaces or Unicode form."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        alike[unicodedata.normalize("NFKC", key)].append(name)
    return [
        f"the classes {first_few(twins)} differ only in case, spaces or Unicode form; "
        "they are kept apart: rename one if they mean the same"
        for twins in alike.values()
        if len(twins) > 1
    ]


def name_of(number: int | None, names: Sequence[str] | None, where: str) -> str | None:
    """The class name of a label number; None where there is no label.

    Args:
        number: a label; UNLABELED and None say that there is none.
        names: the classes in their order; None if the numbers are the names.
        where: what holds the label, for the message.

    Raises:
        DataError: the number is that of no class.
    """
    if number is None or number == UNLABELED:
        return None
    if names is None:
        return str(number)
    if not 0 <= number < len(names):
        raise DataError(
            f"{where} holds the label {number}, outside 0..{len(names) - 1}: there are "
            f"{counted(len(names), 'class name')}. Use {UNLABELED} for an image without a label, "
            "or add the missing name."
        )
    return names[number]
