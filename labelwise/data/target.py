"""Which of several label columns is the one to learn."""

from __future__ import annotations

from collections.abc import Sequence

from labelwise.data.source import first_few
from labelwise.errors import DataError

DEFAULT = "label"


def choose_target(columns: Sequence[str], target: str | None, where: str) -> str | None:
    """The label column in use: the one asked for, `label`, or the only one; None if none exists.

    Raises:
        DataError: the column does not exist, or several do and none was chosen.
    """
    if target is not None:
        if target not in columns:
            have = f"Its label columns are {first_few(columns, 20)}." if columns else "It has none."
            raise DataError(f"{where!r} has no label column {target!r}. {have}")
        return target
    if DEFAULT in columns:
        return DEFAULT
    if len(columns) > 1:
        raise DataError(
            f"{where!r} has {len(columns)} label columns: {first_few(columns, 20)}. "
            f"Say which one to learn: --target {columns[0]} (in Python: target={columns[0]!r})."
        )
    return columns[0] if columns else None


def refuse_target(target: str | None, where: str, only: str | None) -> None:
    """Refuse a label column that does not exist where there are none to choose from.

    Raises:
        DataError: `target` is given, and is not `only`, the name of the only labels there are.
    """
    if target is not None and target != only:
        has = f"only {only!r}" if only else "one set of labels, without a name"
        raise DataError(f"{where} has no label column {target!r}: it has {has}. Leave target out.")
