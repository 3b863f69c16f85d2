"""Images in arrays with their labels: the arrays of an .npz file."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelwise.data.blocks import ArrayPixels, Block, as_block, open_array, thumbnails
from labelwise.data.cache import Record
from labelwise.data.classes import name_of
from labelwise.data.dataset import CONVERTED, UNLABELED, USED
from labelwise.data.scan import content_hash
from labelwise.errors import DataError
from labelwise.plain import counted

#: The names that arrays of images have, and the split each is.
PARTS = {"x_train": "train", "x_val": "val", "x_test": "test", "x_unlabeled": None}
_KNOWN = {*PARTS, "y_train", "y_val", "y_test", "class_names"}


@dataclass(frozen=True)
class ArraySource:
    """Blocks of images, and what is known about each image, in their order."""

    blocks: tuple[Block, ...]
    paths: list[str]
    labels: list[str | None]
    splits: Sequence[str | None] = ()
    groups: Sequence[str | None] = ()
    class_names: tuple[str, ...] | None = None
    target: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def pixels(self) -> ArrayPixels:
        """Reads the image of a row."""
        return ArrayPixels(self.blocks)

    def records(self) -> list[Record]:
        """One record per image: the arrays are hashed and shrunk without Pillow where small."""
        return [record for block in self.blocks for record in _records(block)]


def _records(block: Block) -> list[Record]:
    decision = CONVERTED if block.note else USED
    mode = "L" if block.values.ndim == 3 else "RGB"
    height, width = block.values.shape[1:3]
    return [
        Record(decision, block.note, width, height, mode, content_hash(image), thumb)
        for images in block.chunks()
        for image, thumb in zip(images, thumbnails(images), strict=True)
    ]


def read_npz(file: Path) -> ArraySource:
    """The arrays x_train, y_train, x_val, y_val, x_test, y_test, x_unlabeled, class_names.

    Raises:
        DataError: the file is damaged, an array holds Python objects or has a shape or type that
            is none of an image's, or labels do not fit the images.
    """
    found = _names(file)
    present = [name for name in PARTS if name in found]
    if not present:
        raise DataError(
            f"{str(file)!r} holds the arrays {', '.join(sorted(found)) or 'none'}. "
            "Expected x_train and y_train, and optionally x_val, y_val, x_test, y_test, "
            "x_unlabeled, class_names."
        )
    warnings = [f"the array {name!r} is not used" for name in sorted(found - _KNOWN)]
    names = None
    if "class_names" in found:
        names = tuple(map(str, open_array(file, "class_names").reshape(-1).tolist()))
    blocks, paths, labels, splits = [], [], [], []
    for name in present:
        block = as_block(open_array(file, name), name, warnings, file.resolve())
        labels_name = name.replace("x_", "y_")
        given = open_array(file, labels_name) if labels_name in found else None
        blocks.append(block)
        paths += rows_of(name, block)
        labels += as_labels(given, len(block), name, names)
        splits += [PARTS[name]] * len(block)
    return ArraySource(
        tuple(blocks), paths, labels, splits, class_names=names, warnings=tuple(warnings)
    )


def rows_of(name: str, block: Block) -> list[str]:
    """What names each image of an array to the user."""
    return [f"{name}[{row}]" for row in range(len(block))]


def as_labels(
    values: np.ndarray | None, count: int, name: str, class_names: tuple[str, ...] | None
) -> list[str | None]:
    """Class names of the images of an array; None where the label is -1, empty or missing."""
    labels_name = name.replace("x_", "y_")
    if values is None:
        return [None] * count
    values = values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values
    if values.shape != (count,):
        raise DataError(
            f"{labels_name} has the shape {values.shape}, but {name} holds "
            f"{counted(count, 'image')}. "
            f"Expected one label per image: the shape ({count},)."
        )
    if values.dtype.kind in "US":
        texts = values.astype(str).tolist()
        return [_known_name(text, class_names, labels_name) if text else None for text in texts]
    whole = values.dtype.kind in "iub" or (
        values.dtype.kind == "f" and bool((values % 1 == 0).all())
    )
    if not whole:
        raise DataError(
            f"{labels_name} holds {values.dtype} values that are no whole numbers. "
            f"Expected class numbers, {UNLABELED} for an image without a label, or names."
        )
    return [name_of(int(value), class_names, labels_name) for value in values.tolist()]


def _known_name(text: str, names: tuple[str, ...] | None, where: str) -> str:
    if names is not None and text not in names:
        raise DataError(
            f"{where} holds the label {text!r}, which is not among the {len(names)} class_names. "
            "Add it there, or leave class_names out."
        )
    return text


def _names(file: Path) -> set[str]:
    """The names of the arrays in an .npz file."""
    try:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as opened:
            return set(opened.files)
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{str(file)!r} cannot be read as an .npz file: {error}") from None
