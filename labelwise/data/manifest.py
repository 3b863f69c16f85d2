"""A manifest: a table with a path column, label columns, and optionally split and group."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from labelwise.data.columns import label_column, read_table, split_column, text_column
from labelwise.data.source import FilePixels, Source, first_few
from labelwise.data.target import choose_target
from labelwise.errors import DataError

_ROLES = ("path", "split", "group")


def read_manifest(file: Path, target: str | None) -> Source:
    """The images that a CSV, JSON lines or Parquet file names, labeled by one of its columns.

    Raises:
        DataError: the file is no table, has no column `path`, no such label column, or a value
            that cannot be a label or a split.
    """
    table = read_table(file)
    if "path" not in table.columns:
        columns = first_few([str(name) for name in table], 20) or "none"
        raise DataError(
            f"{str(file)!r} has no column 'path'; its columns are {columns}. "
            "A manifest needs the columns 'path' and, for labeled images, a label column."
        )
    target = choose_target([str(name) for name in table if name not in _ROLES], target, str(file))
    paths = text_column(table, "path")
    warnings: list[str] = []
    labels = label_column(table, target, warnings) if target else [None] * len(table)
    splits = split_column(table)
    files = [str(file.parent / path) if path else "" for path in paths]
    return Source(
        name=str(file),
        paths=[path or "" for path in paths],
        labels=labels,
        splits=splits,
        groups=text_column(table, "group"),
        pixels=FilePixels(tuple(files)),
        set_aside=_named_twice(files, labels, splits, table.index.tolist()),
        target=target,
        warnings=tuple(warnings),
    )


def _named_twice(
    files: Sequence[str],
    labels: Sequence[str | None],
    splits: Sequence[str | None],
    numbers: Sequence[int],
) -> dict[int, str]:
    """Rows without a path, and rows whose file is named by another row as well.

    If the rows agree, the first counts (or the first with a label); if they contradict each other
    nobody can say which is right, and none counts.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, file in enumerate(files):
        rows_of[os.path.normpath(file) if file else ""].append(row)
    decided = {row: f"no path in row {numbers[row]}" for row in rows_of.pop("", [])}
    for rows in rows_of.values():
        if len(rows) == 1:
            continue
        said = " and ".join(str(numbers[row]) for row in rows[:5])
        if len({labels[row] for row in rows} - {None}) > 1:
            reason = f"different labels in rows {said} of the manifest"
            decided.update(dict.fromkeys(rows, reason))
        elif splits and len({splits[row] for row in rows}) > 1:
            reason = f"different splits in rows {said} of the manifest"
            decided.update(dict.fromkeys(rows, reason))
        else:
            first = next((row for row in rows if labels[row] is not None), rows[0])
            decided.update(
                (row, f"named twice in the manifest, rows {numbers[first]} and {numbers[row]}")
                for row in rows
                if row != first
            )
    return decided
