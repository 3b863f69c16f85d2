"""The Dataset: images, labels, some missing, and what was decided about every file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd

from labelwise.errors import DataError

UNLABELED = -1

USED, CONVERTED, SET_ASIDE = "used", "converted", "set aside"

#: The columns of `Dataset.table`, and of `data.parquet`, in this order. `id` is the row number.
COLUMNS = {
    "id": "int64",
    "content": "string",  # hash of the decoded pixels; null if set aside
    "path": "string",  # what names the image to the user
    "label": "Int64",  # index into class_names, or null
    "split": "string",  # train, val, test as given by the source, or null
    "group": "string",  # images of a group never straddle a split; null: on its own
    "width": "Int64",  # pixels, upright
    "height": "Int64",
    "mode": "string",  # L or RGB, after conversion
    "decision": "string",  # used, converted, set aside
    "reason": "string",  # what was converted, or why it was set aside; null if used as it is
}

Size = tuple[int, int]  # height and width in pixels


class Pixels(Protocol):
    """Where decoded pixels come from. Safe to call from several threads; nothing is kept."""

    def read(self, row: int, at_least: Size | None = None) -> np.ndarray:
        """The image of a table row: uint8, shape (H, W) if gray or (H, W, 3) if RGB, upright.

        Args:
            at_least: height and width that do; a large JPEG is then decoded at a smaller scale.
        """
        ...


@dataclass(frozen=True)
class Duplicates:
    """Images that show the same thing.

    `kind` is "exact" (equal decoded pixels) or "near" (confirmed by correlation). `enforced` is
    False for a group so large that it is reported only. `conflict`: the labels differ.
    """

    rows: tuple[int, ...]
    kind: str
    enforced: bool
    conflict: bool


@dataclass(frozen=True)
class Dataset:
    """Images, labels, some missing: an immutable value; what is asked for is computed once.

    Attributes:
        table: one row per file, columns as in COLUMNS; files set aside are rows as well.
        class_names: names of the classes 0..K-1; empty if nothing is labeled.
        pixels: decodes the image of a row; never called for a row that was set aside.
        name: what the user called the data.
        target: the label column in use, or None where there is only one.
        warnings: sentences for the user, each naming the thing it is about.
        duplicates: groups of equal or nearly equal images.
        context: facts that the report shows next to the numbers, such as published results.
    """

    table: pd.DataFrame
    class_names: tuple[str, ...]
    pixels: Pixels
    name: str
    target: str | None = None
    warnings: tuple[str, ...] = ()
    duplicates: tuple[Duplicates, ...] = ()
    context: tuple[str, ...] = field(default=())

    @cached_property
    def usable(self) -> np.ndarray:
        """Rows of the table that were not set aside, ascending; int64 (M,)."""
        return np.flatnonzero((self.table["decision"] != SET_ASIDE).to_numpy(dtype=bool))

    @cached_property
    def labels(self) -> np.ndarray:
        """Class of every table row, UNLABELED where there is none; int64 (rows,)."""
        return self.table["label"].fillna(UNLABELED).to_numpy(dtype=np.int64)

    @cached_property
    def labeled(self) -> np.ndarray:
        """Usable rows with a label, ascending; int64 (M,)."""
        usable = self.usable
        return usable[self.labels[usable] != UNLABELED]

    @cached_property
    def groups(self) -> np.ndarray:
        """Group number of every table row; a row without a group is one of its own; int64."""
        group = self.table["group"]
        own = pd.Series("\0" + self.table["id"].astype(str), index=group.index)
        return pd.factorize(group.astype(object).where(group.notna(), own))[0].astype(np.int64)

    @cached_property
    def contents(self) -> np.ndarray:
        """Pixel hash of every table row, as Python strings (None where set aside)."""
        content = self.table["content"]
        return content.astype(object).where(content.notna(), None).to_numpy()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of pixels, labels, splits and class names: changes when the task changes."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for column in ("content", "label", "split", "group"):
            values = self.table[column].astype(object).where(self.table[column].notna(), None)
            digest.update(repr(values.tolist()).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()

    def few(self, count: int) -> Dataset:
        """The first `count` usable images of every class and given part, and no other row.

        To try something out: what is learned and judged on them takes less time.

        Raises:
            DataError: count is below 1.
        """
        if count < 1:
            raise DataError(f"few({count}): give the number of images of a class, at least 1.")
        parts = self.table.iloc[self.usable].groupby(["split", "label"], dropna=False)
        rows = np.sort(parts.head(count)["id"].to_numpy())
        place = {row: number for number, row in enumerate(rows.tolist())}
        duplicates = [
            replace(d, rows=tuple(place[row] for row in d.rows if row in place))
            for d in self.duplicates
        ]
        return replace(
            self,
            table=self.table.iloc[rows].reset_index(drop=True).assign(id=np.arange(len(rows))),
            pixels=Rows(self.pixels, rows),
            duplicates=tuple(d for d in duplicates if len(d.rows) > 1),
            warnings=(),  # they count and name what is in all of it
        )

    def in_part(self, rows: np.ndarray, split: str | None) -> np.ndarray:
        """Of some rows those of a given part ("train", "val", "test"); None: all of them."""
        if split is None:
            return rows
        return rows[(self.table["split"].fillna("").to_numpy() == split)[rows]]

    def images(self, rows: Sequence[int] | np.ndarray) -> Images:
        """The images of some table rows, decoded only when asked for."""
        return Images(self, np.asarray(rows, dtype=np.int64))


@dataclass(frozen=True)
class Rows:
    """The pixels of some rows of another table."""

    pixels: Pixels
    rows: np.ndarray  # int64 (N,)

    def read(self, row: int, at_least: Size | None = None) -> np.ndarray:
        """As `Pixels.read`."""
        return self.pixels.read(int(self.rows[row]), at_least)


@dataclass(frozen=True)
class Images:
    """Some images of a Dataset, in a given order; a value that holds no pixels."""

    dataset: Dataset
    rows: np.ndarray  # int64 (N,), rows of dataset.table

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, index: Any) -> Images:
        """The images at some positions (any numpy index)."""
        return Images(self.dataset, self.rows[index])

    @staticmethod
    def join(first: Images, second: Images) -> Images:
        """Both after one another; they must be of the same Dataset."""
        if first.dataset is not second.dataset:
            raise ValueError("images of two data sets cannot be joined")
        return Images(first.dataset, np.concatenate([first.rows, second.rows]))

    @property
    def contents(self) -> list[str]:
        """Pixel hashes, in order."""
        return [str(content) for content in self.dataset.contents[self.rows]]

    @property
    def sizes(self) -> np.ndarray:
        """Width and height in pixels; int64 (N, 2)."""
        table = self.dataset.table
        sides = [table[side].iloc[self.rows].to_numpy(np.int64) for side in ("width", "height")]
        return np.stack(sides, axis=1)

    @property
    def gray(self) -> bool:
        """True if every image is gray."""
        return bool((self.dataset.table["mode"].iloc[self.rows] == "L").all())

    def read(self, position: int, at_least: Size | None = None) -> np.ndarray:
        """Decoded pixels of one image: uint8 (H, W) or (H, W, 3); see `Pixels.read`."""
        return self.dataset.pixels.read(int(self.rows[position]), at_least)
