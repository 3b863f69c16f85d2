"""Put together the Dataset: the table with its exact columns, classes, duplicates, warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from labelwise.data.cache import Record
from labelwise.data.classes import look_alikes, ordered
from labelwise.data.dataset import COLUMNS, SET_ASIDE, Dataset, Pixels
from labelwise.data.duplicates import find_duplicates
from labelwise.data.source import Advance, first_few, shown
from labelwise.errors import DataError
from labelwise.plain import counted


def build_dataset(
    *,
    name: str,
    paths: Sequence[str],
    labels: Sequence[str | None],
    splits: Sequence[str | None],
    groups: Sequence[str | None],
    records: Sequence[Record],
    pixels: Pixels,
    class_names: tuple[str, ...] | None = None,
    target: str | None = None,
    warnings: Sequence[str] = (),
    context: tuple[str, ...] = (),
    progress: Advance | None = None,
) -> Dataset:
    """The Dataset of rows that were looked at; `labels` are class names or None.

    Raises:
        DataError: no image can be used.
    """
    used = [record.decision != SET_ASIDE for record in records]
    if not any(used):
        raise DataError(_nothing(name, paths, records))
    names = [None if label is None else shown(label) for label in labels]
    present = Counter(label for label, ok in zip(names, used, strict=True) if ok and label)
    classes = _classes(class_names, present)
    index = {label: number for number, label in enumerate(classes)}
    columns: dict[str, Any] = {
        "id": range(len(paths)),
        "content": [record.content for record in records],
        "path": [shown(path) for path in paths],
        "label": [None if label is None else index.get(label) for label in names],
        "split": list(splits) or [None] * len(paths),
        "group": [None if group is None else shown(group) for group in groups]
        or [None] * len(paths),
        "width": [record.width for record in records],
        "height": [record.height for record in records],
        "mode": [record.mode for record in records],
        "decision": [record.decision for record in records],
        "reason": [None if record.reason is None else shown(record.reason) for record in records],
    }
    found = find_duplicates(
        contents=columns["content"],
        thumbs=[record.thumb for record in records],
        labels=columns["label"],
        groups=columns["group"],
        splits=columns["split"],
        paths=columns["path"],
        progress=progress,
    )
    columns["group"] = found.groups
    return Dataset(
        table=to_table(columns),
        class_names=classes,
        pixels=pixels,
        name=shown(name),
        target=target,
        warnings=(
            *(shown(warning) for warning in warnings),
            *_set_aside_warnings(columns),
            *_class_warnings(classes, present, {label for label in names if label}),
            *look_alikes(classes),
            *found.warnings,
        ),
        duplicates=found.duplicates,
        context=context,
    )


def to_table(columns: dict[str, Any]) -> pd.DataFrame:
    """A table with exactly the columns and types of COLUMNS."""
    return pd.DataFrame(
        {column: pd.array(list(columns[column]), dtype=kind) for column, kind in COLUMNS.items()}  # type: ignore[call-overload]
    ).astype({"id": "int64"})


def _classes(given: tuple[str, ...] | None, present: Counter[str]) -> tuple[str, ...]:
    """Every class with a usable image; all that the source lists, if it lists them in order."""
    if given is None:
        return ordered(present)
    return tuple(shown(label) for label in given) if present else ()


def _set_aside_warnings(columns: dict[str, Any]) -> list[str]:
    """What could not be used, but for hidden files, which nobody misses."""
    whys = zip(columns["path"], columns["decision"], columns["reason"], strict=True)
    aside = [(path, why) for path, made, why in whys if made == SET_ASIDE and why != "hidden"]
    if not aside:
        return []
    path, why = aside[0]
    return [f"set aside: {counted(len(aside), 'file')}; the first is {path!r}: {why}"]


def _class_warnings(classes: tuple[str, ...], present: Counter[str], named: set[str]) -> list[str]:
    warnings = []
    empty = sorted((set(classes) | named) - set(present))
    if empty and present:
        warnings.append(f"no usable image of {_class(empty)}")
    single = [label for label in classes if present[label] == 1]
    if single:
        warnings.append(f"only one image of {_class(single)}: nothing can be held out to judge it")
    if len(present) == 1:
        warnings.append(f"all labeled images are of {_class(list(present))}: nothing to tell apart")
    return warnings


def _class(names: Sequence[str]) -> str:
    return f"the class {names[0]!r}" if len(names) == 1 else f"the classes {first_few(names)}"


def _nothing(name: str, paths: Sequence[str], records: Sequence[Record]) -> str:
    if not records:
        return f"{shown(name)!r} holds no file. Expected images, one folder per class."
    reasons = Counter(record.reason for record in records).most_common(3)
    said = "; ".join(f"{count} x {reason}" for reason, count in reasons)
    return (
        f"{shown(name)!r} holds no image that can be used. Set aside: "
        f"{counted(len(records), 'file')} ({shown(said)}); the first is {shown(paths[0])!r}. "
        "Expected JPEG, PNG, GIF, BMP, WebP or TIFF files."
    )
