"""A manifest: a table with a path column, label columns, and optionally split and group."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from labelwise.data.source import SPLIT_NAMES, FilePixels, Source, first_few
from labelwise.data.target import choose_target
from labelwise.errors import DataError

_ROLES = ("path", "split", "group")
_IDENTIFIER_ROWS = 50  # this many different values, no two alike, are no classes


def read_manifest(file: Path, target: str | None) -> Source:
    """The images that a CSV or Parquet file names, with the labels of one of its columns.

    Raises:
        DataError: the file is no table, has no column `path`, no such label column, or a value
            that cannot be a label or a split.
    """
    table = _read(file)
    if "path" not in table.columns:
        columns = first_few([str(name) for name in table], 20)
        raise DataError(
            f"{str(file)!r} has no column 'path'; its columns are {columns}. "
            "A manifest needs the columns 'path' and, for labeled images, a label column."
        )
    target = choose_target([str(name) for name in table if name not in _ROLES], target, str(file))
    paths = _column(table, "path")
    warnings: list[str] = []
    labels = _labels(table, target, warnings) if target else [None] * len(table)
    splits = _splits(table)
    files = [str(file.parent / path) if path else "" for path in paths]
    return Source(
        name=str(file),
        paths=[path or "" for path in paths],
        labels=labels,
        splits=splits,
        groups=_column(table, "group"),
        pixels=FilePixels(tuple(files)),
        set_aside=_named_twice(files, labels, splits),
        target=target,
        warnings=tuple(warnings),
    )


def _read(file: Path) -> pd.DataFrame:
    try:
        if file.suffix.lower() == ".parquet":
            return _strings(pd.read_parquet(file))
        with file.open(encoding="utf-8-sig") as lines:
            header = lines.readline()
        separator = max(",;\t", key=header.count)
        return pd.read_csv(
            file, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        ).rename(columns=str.strip)
    except (OSError, ValueError, pa.ArrowException) as error:  # pandas' errors are ValueErrors
        said = str(error).strip().split("\n")[0]
        raise DataError(
            f"{str(file)!r} cannot be read as a table ({said}). "
            "Expected UTF-8 text separated by ',', ';' or tabs with a header line, or Parquet."
        ) from None


def _strings(table: pd.DataFrame) -> pd.DataFrame:
    """Every value as the text that a CSV file would hold; missing values as empty text."""
    return pd.DataFrame(
        {
            str(name): [
                "" if missing else _text(value)
                for value, missing in zip(values.tolist(), values.isna().tolist(), strict=True)
            ]
            for name, values in table.items()
        },
        dtype=object,
    )


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _column(table: pd.DataFrame, name: str) -> list[str | None]:
    if name not in table:
        return []
    return [str(value).strip() or None for value in table[name].tolist()]


def _labels(table: pd.DataFrame, target: str, warnings: list[str]) -> list[str | None]:
    values = [
        None if value is None or value.casefold() == "nan" else value
        for value in _column(table, target)
    ]
    labels = _whole_numbers(values, target)
    given = [label for label in labels if label is not None]
    if len(set(given)) == len(given) > _IDENTIFIER_ROWS:
        raise DataError(
            f"column {target!r} has {len(given)} labels and no two are alike, such as "
            f"{first_few(given, 3)}: that looks like an identifier. Choose a column of classes."
        )
    if "-1" in given and all(_number(label) is not None for label in set(given)):
        warnings.append(f"label -1 in column {target!r} is taken for an image without a label")
        labels = [None if label == "-1" else label for label in labels]
    return labels


def _whole_numbers(values: Sequence[str | None], target: str) -> list[str | None]:
    """1.0 becomes '1' if the whole column is numbers; numbers that are no integers are refused."""
    numbers = [None if value is None else _number(value) for value in values]
    if any(
        value is not None and number is None for value, number in zip(values, numbers, strict=True)
    ):
        return list(values)
    broken = [i for i, number in enumerate(numbers) if number is not None and number % 1 != 0]
    if broken:
        raise DataError(
            f"column {target!r} holds numbers that are no integers; the first is "
            f"{values[broken[0]]!r} in row {broken[0] + 2}. Classes are needed: names or whole "
            "numbers. Put the numbers into ranges first, or choose another column."
        )
    if all(value is None or value.removeprefix("-").isdigit() for value in values):
        return list(values)  # written as integers: '007' stays as it is
    return [None if number is None else str(int(number)) for number in numbers]


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < 2**53 else None


def _splits(table: pd.DataFrame) -> list[str | None]:
    splits: list[str | None] = []
    for row, value in enumerate(_column(table, "split"), start=2):
        if value is not None and value.casefold() not in SPLIT_NAMES:
            raise DataError(
                f"split {value!r} in row {row} is unknown. "
                "Expected train, val, validation or test, or nothing."
            )
        splits.append(None if value is None else SPLIT_NAMES[value.casefold()])
    return splits


def _named_twice(
    files: Sequence[str], labels: Sequence[str | None], splits: Sequence[str | None]
) -> dict[int, str]:
    """Rows without a path, and rows whose file is named by another row as well.

    If the rows agree, the first counts (or the first with a label); if they contradict each other
    nobody can say which is right, and none counts.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, file in enumerate(files):
        rows_of[os.path.normpath(file) if file else ""].append(row)
    decided = {row: f"no path in row {row + 2}" for row in rows_of.pop("", [])}
    for rows in rows_of.values():
        if len(rows) == 1:
            continue
        said = " and ".join(str(row + 2) for row in rows[:5])
        if len({labels[row] for row in rows} - {None}) > 1:
            reason = f"different labels in rows {said} of the manifest"
            decided.update(dict.fromkeys(rows, reason))
        elif splits and len({splits[row] for row in rows}) > 1:
            reason = f"different splits in rows {said} of the manifest"
            decided.update(dict.fromkeys(rows, reason))
        else:
            first = next((row for row in rows if labels[row] is not None), rows[0])
            decided.update(
                (row, f"named twice in the manifest, rows {first + 2} and {row + 2}")
                for row in rows
                if row != first
            )
    return decided
