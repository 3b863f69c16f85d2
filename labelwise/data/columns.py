"""Tables of text: CSV, JSON lines and Parquet, and what their columns say about images.

The index of a table holds the number of each row as a person counts it, for the messages.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from labelwise.data.source import SPLIT_NAMES, first_few
from labelwise.errors import DataError
from labelwise.plain import counted

JSON_LINES = (".jsonl", ".ndjson")

_IDENTIFIER_ROWS = 50  # this many different values, no two alike, are no classes


def read_table(file: Path) -> pd.DataFrame:
    """The rows of a CSV, JSON lines or Parquet file, every value as text, missing ones empty.

    Raises:
        DataError: the file is no such table.
    """
    with _readable(file):
        if file.suffix.lower() in JSON_LINES:
            return _json_lines(file)
        if file.suffix.lower() == ".parquet":
            return _numbered(_strings(pd.read_parquet(file)), first=2)
        return _numbered(_csv(file, header=0).rename(columns=str.strip), first=2)


def read_label_table(file: Path, count: int, of: str) -> pd.DataFrame:
    """The rows of a CSV with one row per image, in their order, with or without a header.

    The number of lines tells: one more than there are images, and the first names the columns;
    else these are column1, column2 and so on. An empty line is an image without a label. A first
    column without a name that only counts the rows is left out.

    Args:
        file: the CSV.
        count: how many images there are.
        of: what the images are called, for the message.

    Raises:
        DataError: the file is no table, or has another number of rows.
    """
    with _readable(file):
        lines = _count_lines(file)
        if lines not in (count, count + 1):
            raise DataError(
                f"{str(file)!r} has {counted(lines, 'line')}, but {of} holds "
                f"{counted(count, 'image')}. Expected one line per image, in the same order, and "
                "optionally a header."
            )
        if lines == count:
            table = _csv(file, header=None, skip_blank_lines=False)[:count]
            table.columns = pd.Index([f"column{number + 1}" for number in range(table.shape[1])])
            return _numbered(table, first=1)
        table = _csv(file, header=0, skip_blank_lines=False)[:count].rename(columns=str.strip)
        numbers = table.iloc[:, 0].tolist() == [str(row) for row in range(count)]
        if str(table.columns[0]).startswith("Unnamed") and numbers:  # written by pandas
            table = table.iloc[:, 1:]
        return _numbered(table, first=2)


def text_column(table: pd.DataFrame, name: str) -> list[str | None]:
    """The values of a column, None where empty; no values if there is no such column."""
    if name not in table:
        return []
    return [str(value).strip() or None for value in table[name].tolist()]


def label_column(table: pd.DataFrame, target: str, warnings: list[str]) -> list[str | None]:
    """The class names in a column, None where there is no label.

    Raises:
        DataError: the values are no classes: fractions, or identifiers.
    """
    values = [
        None if value is None or value.casefold() == "nan" else value
        for value in text_column(table, target)
    ]
    labels = _whole_numbers(values, target, table.index)
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


def split_column(table: pd.DataFrame) -> list[str | None]:
    """The splits in the column `split`, by their usual names; no values without that column.

    Raises:
        DataError: a value is no split.
    """
    splits: list[str | None] = []
    for row, value in zip(table.index, text_column(table, "split"), strict=False):
        if value is not None and value.casefold() not in SPLIT_NAMES:
            raise DataError(
                f"split {value!r} in row {row} is unknown. "
                "Expected train, val, validation or test, or nothing."
            )
        splits.append(None if value is None else SPLIT_NAMES[value.casefold()])
    return splits


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Every error of the readers as one that says what was expected."""
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:  # pandas': ValueErrors
        said = str(error).strip().split("\n")[0]
        raise DataError(
            f"{str(file)!r} cannot be read as a table ({said}). Expected UTF-8 text separated by "
            "',', ';' or tabs with a header line, JSON lines (.jsonl), or Parquet."
        ) from None


def _csv(file: Path, header: int | None, **options: bool) -> pd.DataFrame:
    return pd.read_csv(
        file,
        sep=_separator(file),
        header=header,
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig",
        **options,  # type: ignore[call-overload]
    )


def _count_lines(file: Path) -> int:
    """Lines of a CSV up to the last one that is not empty; a quoted line break ends none."""
    last = 0
    with file.open(encoding="utf-8-sig", newline="") as lines:
        for number, row in enumerate(csv.reader(lines, delimiter=_separator(file)), start=1):
            last = number if row else last
    return last


def _separator(file: Path) -> str:
    with file.open(encoding="utf-8-sig") as lines:
        first = lines.readline()
    return max(",;\t", key=first.count)


def _json_lines(file: Path) -> pd.DataFrame:
    rows: dict[int, dict[str, str]] = {}
    for number, line in enumerate(io.BytesIO(file.read_bytes()), start=1):
        if line.strip():
            rows[number] = _json_line(line, f"line {number} of {str(file)!r}")
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    values = {name: [row.get(name, "") for row in rows.values()] for name in columns}
    return pd.DataFrame(values, index=pd.Index(list(rows), dtype="int64"), dtype=object)


def _json_line(line: bytes, where: str) -> dict[str, str]:
    try:
        values = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is no JSON ({error}). Expected one object per line, such as "
            '{"path": "images/1.jpg", "label": "cat"}.'
        ) from None
    if not isinstance(values, dict) or any(isinstance(v, dict | list) for v in values.values()):
        raise DataError(
            f"{where} is no flat object. Expected names with text or numbers, such as "
            '{"path": "images/1.jpg", "label": "cat"}.'
        )
    return {name.strip(): "" if value is None else _text(value) for name, value in values.items()}


def _numbered(table: pd.DataFrame, first: int) -> pd.DataFrame:
    return table.set_axis(pd.RangeIndex(first, first + len(table)), axis=0)


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


def _whole_numbers(
    values: Sequence[str | None], target: str, rows: Sequence[Any] | pd.Index[Any]
) -> list[str | None]:
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
            f"{values[broken[0]]!r} in row {rows[broken[0]]}. Classes are needed: names or whole "
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
