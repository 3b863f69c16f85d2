"""Arrays of images: any accepted shape and type, read as 8-bit pictures one by one.

An array in memory is brought to 8 bits at once. One that is mapped from a file stays there, and
each picture is brought to 8 bits when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelwise.data.convert import as_gray, scale_integers
from labelwise.data.dataset import Size
from labelwise.data.scan import THUMB_SIDE, thumbnail
from labelwise.errors import DataError

_CHUNK_BYTES = 64 * 2**20

_AS_IT_IS, _FROM_16_BIT, _FROM_BOOL, _FROM_UNIT, _FROM_WHOLE = range(5)


@dataclass(frozen=True, eq=False)
class Block:
    """Images of one size: values (N, H, W) or (N, H, W, 3), and how to bring them to 8 bits.

    A pickle holds the values too, unless a file can give them back.
    """

    values: np.ndarray
    scale: int
    note: str | None
    file: Path | None = None
    name: str = ""

    def __len__(self) -> int:
        return len(self.values)

    def read(self, row: int) -> np.ndarray:
        """A copy of an image: uint8, (H, W) or (H, W, 3)."""
        return np.array(_to_8_bit(self.values[row], self.scale), order="C")

    def chunks(self) -> Iterator[np.ndarray]:
        """All images in order, some at a time: uint8 (n, H, W) or (n, H, W, 3)."""
        for chunk in _chunks(self.values):
            yield np.ascontiguousarray(_to_8_bit(chunk, self.scale))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "values": None} if self.file else self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.file:
            values = _as_shape(open_array(self.file, self.name), self.name)
            self.__dict__["values"] = _kept(values, self.scale)


class ArrayPixels:
    """The images of several blocks, one block after the other."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = tuple(blocks)
        self._ends = np.cumsum([len(block) for block in blocks])

    def read(self, row: int, at_least: Size | None = None) -> np.ndarray:
        """A copy of the image of a row: uint8, (H, W) or (H, W, 3)."""
        which = int(np.searchsorted(self._ends, row, side="right"))
        block = self._blocks[which]
        return block.read(row - int(self._ends[which]) + len(block))


def open_array(file: Path, name: str) -> np.ndarray:
    """The array of an .npy file, mapped, not loaded; or an array of an .npz file, by its name.

    Raises:
        DataError: the file is damaged, or the array holds Python objects.
    """
    try:
        if file.suffix.lower() == ".npz":
            with file.open("rb") as raw, np.load(raw, allow_pickle=False) as opened:
                return opened[name]
        return np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # zip, zlib and the header's parser have their own ones
        if "Python objects" in str(error) or "allow_pickle" in str(error):
            raise DataError(
                f"the array {name!r} in {str(file)!r} holds Python objects, which are not read "
                "because loading them could run code. Save it as numbers or text, for example "
                "np.array(values, dtype=...), with np.save or np.savez."
            ) from None
        kind = file.suffix.lower()
        raise DataError(f"{str(file)!r} cannot be read as an {kind} file: {error}") from None


def as_block(values: np.ndarray, name: str, warnings: list[str], file: Path | None = None) -> Block:
    """An array of images of any accepted shape and type.

    Args:
        values: (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W).
        name: what the array is called.
        warnings: a sentence is added if a scale had to be guessed.
        file: holds the array under this name.

    Raises:
        DataError: the shape or the type is none of an image's.
    """
    values = _as_shape(values, name)
    scale, note = _scale(values, name, warnings)
    return Block(_kept(values, scale), scale, note, file, name)


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
        gray[start : start + 4096] = as_gray(images[start : start + 4096])
    return gray


def _kept(values: np.ndarray, scale: int) -> np.ndarray:
    """Mapped values as they are, others as uint8."""
    if isinstance(values, np.memmap):
        return values
    if scale == _AS_IT_IS:
        return np.ascontiguousarray(values)
    kept = np.empty(values.shape, dtype=np.uint8)
    done = 0
    for chunk in _chunks(values):
        kept[done : done + len(chunk)] = _to_8_bit(chunk, scale)
        done += len(chunk)
    return kept


def _to_8_bit(values: np.ndarray, scale: int) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if scale == _FROM_16_BIT:
        return scale_integers(values, 65535)[0]
    if scale == _FROM_BOOL:
        return values.astype(np.uint8) * 255
    if scale == _FROM_UNIT:
        return np.rint(values * np.float32(255)).astype(np.uint8)
    return values.astype(np.uint8)


def _scale(values: np.ndarray, name: str, warnings: list[str]) -> tuple[int, str | None]:
    kind, width = values.dtype.kind, values.dtype.itemsize
    if (kind, width) == ("u", 1):
        return _AS_IT_IS, None
    if (kind, width) == ("u", 2):
        return _FROM_16_BIT, "16-bit values scaled to 8-bit"
    if kind == "b":
        return _FROM_BOOL, "true and false to 255 and 0"
    if kind not in "iuf":
        raise DataError(
            f"{name} has the type {values.dtype}. Expected uint8 (0..255), uint16 (0..65535) "
            "or floating point (0..1)."
        )
    return _scale_of_numbers(values, name, warnings)


def _scale_of_numbers(values: np.ndarray, name: str, warnings: list[str]) -> tuple[int, str | None]:
    if values.size == 0:
        return _FROM_WHOLE, None
    ends = np.array([(chunk.min(), chunk.max()) for chunk in _chunks(values)], dtype=float)
    low, high = float(ends.min()), float(ends.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        warnings.append(f"{name} holds values from {low:g} to {high:g}: they are multiplied by 255")
        return _FROM_UNIT, "0..1 scaled to 8-bit"
    if low >= 0 and high <= 255 and (values.dtype.kind != "f" or _whole(values)):
        return _FROM_WHOLE, f"{values.dtype} to 8-bit"
    raise DataError(
        f"{name} holds {values.dtype} values from {low:g} to {high:g}. Expected uint8, "
        "whole numbers 0..255, or floating point 0..1: undo the normalization before saving."
    )


def _whole(values: np.ndarray) -> bool:
    return all(bool((chunk % 1 == 0).all()) for chunk in _chunks(values))


def _chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(_CHUNK_BYTES * len(values) // max(values.nbytes, 1), 1)
    for start in range(0, len(values), rows):
        yield values[start : start + rows]


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
