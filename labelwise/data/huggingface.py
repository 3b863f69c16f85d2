"""Parquet files in the Hugging Face layout: encoded images, integer labels, names in metadata."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelwise.data.classes import name_of
from labelwise.data.dataset import Size
from labelwise.data.decode import Decoded, set_aside
from labelwise.data.source import (
    SPLIT_NAMES,
    Source,
    Stamp,
    file_stamp,
    first_few,
    read_encoded,
)
from labelwise.data.target import choose_target
from labelwise.errors import DataError
from labelwise.plain import counted

#: Encoded bytes that stay in memory: all of CIFAR-10 (106 MB), not all of ImageNet.
KEPT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Part:
    """One row group of a Parquet file and the table rows it holds."""

    file: str
    group: int
    first: int
    rows: int
    first_in_file: int


class ParquetPixels:
    """Images in the row groups of Parquet files.

    Row groups that were read last stay in memory, still encoded, up to KEPT_BYTES; a pickle
    holds only the places.
    """

    def __init__(self, parts: Sequence[Part], column: str) -> None:
        self._parts = tuple(parts)
        self._column = column
        self._firsts = np.array([part.first for part in self._parts])
        self.__setstate__({})

    def __getstate__(self) -> dict[str, Any]:
        return {"_parts": self._parts, "_column": self._column, "_firsts": self._firsts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._kept: OrderedDict[Part, pa.Array] = OrderedDict()
        self._stamps: dict[str, Stamp | None] = {}

    def read(self, row: int, at_least: Size | None = None) -> np.ndarray:
        """The image of a row: uint8, (H, W) or (H, W, 3), upright."""
        return read_encoded(self.encoded(row), self._say(row), at_least)

    def encoded(self, row: int) -> bytes | Decoded:
        """The image file inside a row, or the decision that there is none."""
        part = self._part(row)
        try:
            value = self._images(part)[row - part.first].as_py()
        except (OSError, pa.ArrowException) as error:
            return set_aside(f"unreadable: {error}")
        data = value.get("bytes") if isinstance(value, dict) else value
        return set_aside("empty: the row holds no image") if data is None else data

    def file_name(self, row: int) -> str | None:
        """None: the path beside the bytes is a remark of whoever packed the file."""
        return None

    def stamp(self, row: int) -> Stamp | None:
        """File, row, size and time of the last change of the file."""
        part = self._part(row)
        if part.file not in self._stamps:
            self._stamps[part.file] = file_stamp(part.file)
        stamp = self._stamps[part.file]
        inside = f"#{self._column}#{row - part.first + part.first_in_file}"
        return stamp and stamp._replace(place=stamp.place + inside.encode("utf-8", "replace"))

    def _part(self, row: int) -> Part:
        return self._parts[int(np.searchsorted(self._firsts, row, side="right")) - 1]

    def _say(self, row: int) -> str:
        part = self._part(row)
        return f"{Path(part.file).name}#{row - part.first + part.first_in_file}"

    def _images(self, part: Part) -> pa.Array:
        with self._lock:
            if part not in self._kept:
                with pq.ParquetFile(part.file) as file:
                    table = file.read_row_group(part.group, columns=[self._column])
                self._kept[part] = table[self._column].combine_chunks()
                while len(self._kept) > 1 and self._kept_bytes() > KEPT_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(part)
            return self._kept[part]

    def _kept_bytes(self) -> int:
        return sum(images.nbytes for images in self._kept.values())


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files of a data set: the file itself, or those in the folder or its data/."""
    if path.is_file():
        return [path]
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def image_column(file: Path) -> str | None:
    """The column that holds encoded images, or None if there is none."""
    try:
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
    except (OSError, pa.ArrowException):
        return None
    return next((field.name for field in schema if _holds_images(field.type)), None)


def read_huggingface(path: Path, target: str | None) -> Source:
    """The images of a folder of Parquet files (or one file); splits come from the file names.

    Raises:
        DataError: a file cannot be read, holds no image, or its columns differ from the others'.
    """
    files = parquet_files(path)
    column = image_column(files[0])
    if column is None:
        raise DataError(
            f"{str(files[0])!r} has no column of images. Expected a Parquet file with encoded "
            "images (a column of bytes) or a manifest with a column 'path'."
        )
    with _open(files[0]) as opened:
        schema = opened.schema_arrow
    target = choose_target(_label_columns(schema), target, str(path))
    names = _class_names(schema, target)
    parts: list[Part] = []
    paths: list[str] = []
    splits: list[str | None] = []
    labels: list[str | None] = []
    warnings: list[str] = []
    for file in files:
        split, known = split_of(file)
        numbers = _labels_of(file, target, column)
        parts += list(_parts_of(file, len(paths)))
        paths += [f"{file.name}#{row}" for row in range(len(numbers))]
        splits += [split] * len(numbers)
        labels += [name_of(number, names, repr(str(file))) if known else None for number in numbers]
        if not known:
            warnings.append(
                f"{file.name!r} is none of the splits train, validation, test: "
                f"used without labels: {counted(len(numbers), 'image')}"
            )
    return Source(
        name=str(path),
        paths=paths,
        labels=labels,
        splits=splits,
        pixels=ParquetPixels(parts, column),
        class_names=names,
        target=target,
        warnings=tuple(warnings),
    )


def split_of(file: Path) -> tuple[str | None, bool]:
    """The split that a file name states, and whether its labels count.

    `train-00000-of-00001.parquet` is train; a name without a number, such as `photos.parquet`,
    states no split; any other split, such as `extra_noisy-00000-of-00001`, is without labels.
    """
    stem = file.stem.split(".")[0]
    numbered = re.fullmatch(r"(.+)-\d+-of-\d+", stem)
    name = (numbered[1] if numbered else stem.split("-")[0]).casefold()
    if name in SPLIT_NAMES:
        return SPLIT_NAMES[name], True
    return None, numbered is None


def _open(file: Path) -> Any:
    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{str(file)!r} cannot be read as Parquet: {error}") from None


def _parts_of(file: Path, first: int) -> Iterator[Part]:
    done = 0
    with _open(file) as opened:
        for group in range(opened.metadata.num_row_groups):
            rows = opened.metadata.row_group(group).num_rows
            yield Part(str(file), group, first + done, rows, done)
            done += rows


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_images(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _label_columns(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if pa.types.is_integer(field.type)]


def _class_names(schema: pa.Schema, target: str | None) -> tuple[str, ...] | None:
    try:
        known = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in known[target]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def _labels_of(file: Path, target: str | None, column: str) -> list[int | None]:
    with _open(file) as opened:
        missing = {name for name in (target, column) if name} - set(opened.schema_arrow.names)
        if missing:
            raise DataError(
                f"{str(file)!r} has no column {first_few(sorted(missing))}, unlike the first file. "
                "All Parquet files of a data set need the same columns."
            )
        if target is None:
            return [None] * opened.metadata.num_rows
        numbers: list[int | None] = opened.read(columns=[target])[target].to_pylist()
        return numbers
