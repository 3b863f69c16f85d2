"""Images in memory: the arrays of an .npz file, as one uint8 array per shape."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labelwise.data.cache import Record
from labelwise.data.convert import scale_integers
from labelwise.data.dataset import CONVERTED, UNLABELED, USED
from labelwise.data.scan import THUMB_SIDE, content_hash, thumbnail
from labelwise.errors import DataError

_PARTS = {"x_train": "train", "x_val": "val", "x_test": "test", "x_unlabeled": None}
_KNOWN = {*_PARTS, "y_train", "y_val", "y_test", "class_names"}
_GRAY_WEIGHTS = np.array([19595, 38470, 7471], dtype=np.uint32)  # Pillow's, out of 65536


class ArrayPixels:
    """Images in arrays; a pickle holds them too, unless a file can give them back."""

    def __init__(self, arrays: Sequence[np.ndarray], source: Path | None = None) -> None:
        self._arrays = tuple(arrays)
        self._ends = np.cumsum([len(array) for array in arrays])
        self._source = source

    def read(self, row: int) -> np.ndarray:
        """A copy of the image of a row: uint8, (H, W) or (H, W, 3)."""
        which = int(np.searchsorted(self._ends, row, side="right"))
        image: np.ndarray = self._arrays[which][row - int(self._ends[which])]
        return image.copy()

    def __getstate__(self) -> dict[str, Any]:
        return {"_source": self._source} if self._source else self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        if source := state.get("_source"):
            read = read_npz(source)
            state = {"_arrays": read.images, "_ends": read.pixels._ends, "_source": source}
        self.__dict__.update(state)


@dataclass(frozen=True)
class ArraySource:
    """What an .npz file holds: one entry of `images` per array, the rest per image in order."""

    images: tuple[np.ndarray, ...]
    pixels: ArrayPixels
    paths: list[str]
    labels: list[str | None]
    splits: list[str | None]
    notes: list[str | None]
    class_names: tuple[str, ...] | None
    warnings: tuple[str, ...] = field(default=())

    def records(self) -> list[Record]:
        """One record per image: the arrays are hashed and shrunk without Pillow where small."""
        found: list[Record] = []
        for images in self.images:
            mode = "L" if images.ndim == 3 else "RGB"
            height, width = images.shape[1:3]
            for image, thumb in zip(images, thumbnails(images), strict=True):
                note = self.notes[len(found)]
                decision = CONVERTED if note else USED
                content = content_hash(image)
                found.append(Record(decision, note, width, height, mode, content, thumb))
        return found


def read_npz(file: Path) -> ArraySource:
    """The arrays x_train, y_train, x_val, y_val, x_test, y_test, x_unlabeled, class_names.

    Raises:
        DataError: the file is damaged, an array holds Python objects or has a shape or type that
            is none of an image's, or labels do not fit the images.
    """
    arrays = _load(file)
    present = [name for name in _PARTS if name in arrays]
    if not present:
        raise DataError(
            f"{str(file)!r} holds the arrays {', '.join(sorted(arrays)) or 'none'}. "
            "Expected x_train and y_train, and optionally x_val, y_val, x_test, y_test, "
            "x_unlabeled, class_names."
        )
    warnings = [f"the array {name!r} is not used" for name in sorted(set(arrays) - _KNOWN)]
    names = None
    if "class_names" in arrays:
        names = tuple(str(name) for name in arrays["class_names"].reshape(-1).tolist())
    images, paths, labels, splits, notes = [], [], [], [], []
    for name in present:
        pixels, note = as_images(arrays[name], name, warnings)
        images.append(pixels)
        paths += [f"{name}[{row}]" for row in range(len(pixels))]
        labels += as_labels(arrays.get(name.replace("x_", "y_")), len(pixels), name, names)
        splits += [_PARTS[name]] * len(pixels)
        notes += [note] * len(pixels)
    return ArraySource(
        tuple(images),
        ArrayPixels(images, file.resolve()),
        paths,
        labels,
        splits,
        notes,
        names,
        tuple(warnings),
    )


def as_images(values: np.ndarray, name: str, warnings: list[str]) -> tuple[np.ndarray, str | None]:
    """Images of any accepted shape and type as uint8 (N, H, W) or (N, H, W, 3), and a note."""
    values = _as_shape(values, name)
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values), None
    if values.dtype == np.uint16:
        scaled, notes = scale_integers(values, 65535)
        return scaled, notes[0].replace("gray", "values")
    if values.dtype == bool:
        return values.astype(np.uint8) * 255, "true and false to 255 and 0"
    if values.dtype.kind not in "iuf":
        raise DataError(
            f"{name} has the type {values.dtype}. Expected uint8 (0..255), uint16 (0..65535) "
            "or floating point (0..1)."
        )
    return _from_numbers(values, name, warnings)


def _from_numbers(
    values: np.ndarray, name: str, warnings: list[str]
) -> tuple[np.ndarray, str | None]:
    if values.size == 0:
        return values.astype(np.uint8), None
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        warnings.append(f"{name} holds values from {low:g} to {high:g}: they are multiplied by 255")
        return np.rint(values * np.float32(255)).astype(np.uint8), "0..1 scaled to 8-bit"
    if low >= 0 and high <= 255 and (values.dtype.kind != "f" or bool((values % 1 == 0).all())):
        return values.astype(np.uint8), f"{values.dtype} to 8-bit"
    raise DataError(
        f"{name} holds {values.dtype} values from {low:g} to {high:g}. Expected uint8, "
        "whole numbers 0..255, or floating point 0..1: undo the normalization before saving."
    )


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
            f"{labels_name} has the shape {values.shape}, but {name} holds {count} images. "
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
    return [_numbered(int(value), class_names, labels_name) for value in values.tolist()]


def _numbered(value: int, names: tuple[str, ...] | None, where: str) -> str | None:
    if value == UNLABELED:
        return None
    if names is None:
        return str(value)
    if not 0 <= value < len(names):
        raise DataError(
            f"{where} holds the label {value}, outside 0..{len(names) - 1}. Use {UNLABELED} for an "
            f"image without a label, or add the missing name to class_names ({len(names)} given)."
        )
    return names[value]


def _known_name(text: str, names: tuple[str, ...] | None, where: str) -> str:
    if names is not None and text not in names:
        raise DataError(
            f"{where} holds the label {text!r}, which is not among the {len(names)} class_names. "
            "Add it there, or leave class_names out."
        )
    return text


def _as_shape(values: np.ndarray, name: str) -> np.ndarray:
    """(N, H, W) or (N, H, W, 3), from channels first or last, as long as it is unambiguous."""
    shape = values.shape
    if values.ndim == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3):
        values = values[..., 0] if shape[3] == 1 else values
    elif values.ndim == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        values = values[:, 0] if shape[1] == 1 else values.transpose(0, 2, 3, 1)
    elif values.ndim == 4 and shape[3] in (1, 3) and shape[2] > 3:  # images of height 1 or 3
        raise DataError(f"{name} has the shape {shape}: it is unclear which axis holds the colors.")
    elif values.ndim != 3:
        raise DataError(
            f"{name} has the shape {shape}. Expected (images, height, width), "
            "(images, height, width, 1 or 3) or (images, 1 or 3, height, width)."
        )
    if 0 in values.shape[1:]:
        raise DataError(f"{name} has the shape {shape}: its images have no pixels.")
    return values


def _load(file: Path) -> dict[str, np.ndarray]:
    name = None
    try:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as opened:
            arrays = {}
            for name in opened.files:
                arrays[name] = opened[name]
            return arrays
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error) and name:
            raise DataError(
                f"the array {name!r} in {str(file)!r} holds Python objects, which are not read "
                "because loading them could run code. Save it as numbers or text, for example "
                f"np.array(values, dtype=...), with np.savez."
            ) from None
        raise DataError(f"{str(file)!r} cannot be read as an .npz file: {error}") from None


def thumbnails(images: np.ndarray) -> Any:
    """Gray thumbnails of an array of images, uint8: one array where they are small, else a list.

    Equal to `scan.thumbnail` image by image, for all images at once.
    """
    if max(images.shape[1:3]) > THUMB_SIDE:
        return [thumbnail(image) for image in images]
    if images.ndim == 3:
        return images
    gray = np.empty(images.shape[:3], dtype=np.uint8)
    for start in range(0, len(images), 4096):
        block = images[start : start + 4096].astype(np.uint32) @ _GRAY_WEIGHTS
        gray[start : start + 4096] = (block + 0x8000) >> 16
    return gray
