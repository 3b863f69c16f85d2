"""Images that are given in Python, as an array or as paths, become a Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labelwise.data.arrays import ArraySource, rows_of
from labelwise.data.blocks import Block
from labelwise.data.cache import Cache, Record, cache_folder
from labelwise.data.dataset import Dataset
from labelwise.data.scan import scan
from labelwise.data.source import FilePixels, Source
from labelwise.data.table import build_dataset, to_table

Given = Block | Sequence[str]


def labeled_dataset(
    images: Given, labels: Sequence[str | None], class_names: tuple[str, ...]
) -> Dataset:
    """A Dataset to learn from: duplicates are found and kept together.

    Args:
        images: a block of N, or N paths.
        labels: class names, None where there is none.
        class_names: all of them.

    Raises:
        DataError: no image can be used.
    """
    paths, pixels, records = _looked_at(images)
    return build_dataset(
        name="images",
        paths=paths,
        labels=labels,
        splits=[],
        groups=[],
        records=records,
        pixels=pixels,
        class_names=class_names,
    )


def nameless_dataset(images: Given) -> Dataset:
    """A Dataset to be answered for: without labels, and without a search for duplicates."""
    paths, pixels, records = _looked_at(images)
    empty = [None] * len(paths)
    columns: dict[str, Any] = dict.fromkeys(("label", "split", "group"), empty)
    columns |= {
        name: [getattr(record, name) for record in records]
        for name in ("content", "width", "height", "mode", "decision", "reason")
    }
    table = to_table({**columns, "id": range(len(paths)), "path": paths})
    return Dataset(table, (), pixels, "images")


def _looked_at(images: Given) -> tuple[list[str], Any, list[Record]]:
    """Names, pixels and decisions of images."""
    count = len(images)
    nothing: list[str | None] = [None] * count
    if isinstance(images, Block):
        names = rows_of("images", images)
        source = ArraySource((images,), names, nothing)
        return names, source.pixels, source.records()
    names = list(images)
    files = FilePixels(tuple(names))
    with Cache(cache_folder()) as cache:
        records = scan(Source("images", names, nothing, files), cache)
    return names, files, records
