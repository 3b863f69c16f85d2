"""Data sets that are objects of another package: `datasets` (Hugging Face) and `torchvision`.

Neither is imported here: where a package was not imported, no object can be one of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from labelwise.data.classes import name_of
from labelwise.data.dataset import Size
from labelwise.data.decode import Decoded
from labelwise.data.hub import HubRows
from labelwise.data.source import SPLIT_NAMES, Source, Stamp, read_encoded
from labelwise.data.vision import VisionRows
from labelwise.errors import DataError
from labelwise.plain import counted


class Rows(Protocol):
    """The images of an object, and their labels."""

    name: str
    target: str | None
    class_names: tuple[str, ...] | None
    warnings: tuple[str, ...]

    def __len__(self) -> int: ...

    def labels(self) -> Sequence[int | str | None]:
        """A class number or name per image; None or UNLABELED where there is no label."""
        ...

    def encoded(self, row: int) -> bytes | Decoded:
        """The bytes of an image, or a decoded one."""
        ...


@dataclass(frozen=True)
class ObjectPixels:
    """The images of several objects, one object after the other."""

    parts: tuple[Rows, ...]
    firsts: tuple[int, ...]
    paths: tuple[str, ...]

    def read(self, row: int, at_least: Size | None = None) -> np.ndarray:
        """The image of a row: uint8, (H, W) or (H, W, 3), upright."""
        return read_encoded(self.encoded(row), self.paths[row], at_least)

    def encoded(self, row: int) -> bytes | Decoded:
        """What the object holds: an image file, or a picture."""
        part = int(np.searchsorted(self.firsts, row, side="right")) - 1
        return self.parts[part].encoded(row - self.firsts[part])

    def file_name(self, row: int) -> str | None:
        """None: there are no files."""
        return None

    def stamp(self, row: int) -> Stamp | None:
        """None: an object may change at any time."""
        return None


def read_object(source: Any, target: str | None) -> Source:
    """The images of a data set of another package, or of a dict of them by split.

    Raises:
        DataError: it is no such object, or has no images or no such label column.
    """
    given = source if isinstance(source, Mapping) else {None: source}
    parts = {split: _rows(part, target) for split, part in given.items()}
    if not parts:
        raise DataError("the dict holds no data set. Expected one per split: train, val, test.")
    first = next(iter(parts.values()))
    labels: list[str | None] = []
    paths: list[str] = []
    splits: list[str | None] = []
    warnings = list(dict.fromkeys(said for rows in parts.values() for said in rows.warnings))
    firsts = []
    for split, rows in parts.items():
        firsts.append(len(paths))
        known = split is None or str(split).casefold() in SPLIT_NAMES
        if not known:
            warnings.append(
                f"{str(split)!r} is none of the splits train, validation, test: "
                f"used without labels: {counted(len(rows), 'image')}"
            )
        labels += _names(rows, first.class_names) if known else [None] * len(rows)
        splits += [SPLIT_NAMES.get(str(split).casefold())] * len(rows)
        paths += [f"{first.name if split is None else split}[{row}]" for row in range(len(rows))]
    return Source(
        name=first.name,
        paths=paths,
        labels=labels,
        splits=splits,
        pixels=ObjectPixels(tuple(parts.values()), tuple(firsts), tuple(paths)),
        class_names=first.class_names,
        target=first.target,
        warnings=tuple(warnings),
    )


def _names(rows: Rows, names: tuple[str, ...] | None) -> list[str | None]:
    if rows.class_names != names:
        raise DataError(
            f"the parts of {rows.name} name their classes differently. All parts of a data set "
            "need the same classes in the same order."
        )
    return [
        (label or None) if isinstance(label, str) else name_of(label, names, rows.name)
        for label in rows.labels()
    ]


def _rows(part: Any, target: str | None) -> Rows:
    if _is(part, "datasets", "Dataset"):
        return HubRows(part, target)
    inner = part
    while _is(inner, "torch.utils.data", "Subset"):
        inner = inner.dataset
    if _is(inner, "torchvision.datasets", "VisionDataset"):
        return VisionRows(part, target)
    kind = f"{type(part).__module__}.{type(part).__qualname__}"
    hint = "Load it without streaming. " if type(part).__name__ == "IterableDataset" else ""
    raise DataError(
        f"an object of the type {kind} is no data set of images. {hint}Expected a path, a Dataset "
        "of labelwise or of the package datasets, or a data set of torchvision."
    )


def _is(value: Any, module: str, name: str) -> bool:
    """True for an instance of a class whose module has been imported."""
    return module in sys.modules and isinstance(value, getattr(sys.modules[module], name))
