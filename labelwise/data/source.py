"""What the source modules (folder, manifest, ...) hand to the scan: rows of names and labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from labelwise.data.dataset import Pixels, Size
from labelwise.data.decode import Decoded, decode, read_bytes
from labelwise.errors import DataError

#: Told how far it is: the number of images done, of all, and what is done with them.
Advance = Callable[[int, int, str], object]

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


class Stamp(NamedTuple):
    """Names the bytes of an image without reading them: an unchanged file has an equal stamp."""

    place: bytes
    size: int
    mtime: int  # nanoseconds


class Encoded(Pixels, Protocol):
    """Pixels that come from encoded bytes: files on a disk, or rows of a Parquet file."""

    def encoded(self, row: int) -> bytes | Decoded:
        """The bytes of a row, or the decision that there are none to be had."""
        ...

    def file_name(self, row: int) -> str | None:
        """The name that may carry an extension."""
        ...

    def stamp(self, row: int) -> Stamp | None:
        """Names the bytes for the cache; None if there is nothing to stamp."""
        ...


@dataclass(frozen=True)
class Source:
    """The rows of a source before any image was opened.

    Attributes:
        name: what the user called the data.
        paths: what names each image to the user; any text (N,).
        labels: class name of each image, None where unlabeled (N,).
        pixels: where the encoded images are.
        splits, groups: one per image or empty if the source has none.
        set_aside: rows that are decided already, with the reason.
        class_names: the classes in their order, if the source states one.
        target: the label column, if the source has named ones.
        warnings: sentences for the user.
    """

    name: str
    paths: Sequence[str]
    labels: Sequence[str | None]
    pixels: Encoded
    splits: Sequence[str | None] = ()
    groups: Sequence[str | None] = ()
    set_aside: dict[int, str] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    target: str | None = None
    warnings: tuple[str, ...] = ()
    context: tuple[str, ...] = ()


@dataclass(frozen=True)
class FilePixels:
    """Images that are files, opened again at every read."""

    files: tuple[str, ...]

    def read(self, row: int, at_least: Size | None = None) -> np.ndarray:
        """The image of a row: uint8, (H, W) or (H, W, 3), upright."""
        return pixels_of(decode(Path(self.files[row]), at_least=at_least), self.files[row])

    def encoded(self, row: int) -> bytes | Decoded:
        """The file's bytes, or the decision that it cannot be read."""
        return read_bytes(Path(self.files[row]))

    def file_name(self, row: int) -> str | None:
        """The file's name."""
        return Path(self.files[row]).name

    def stamp(self, row: int) -> Stamp | None:
        """Path, size and time of the last change."""
        return file_stamp(self.files[row])


def file_stamp(path: str, inside: str = "") -> Stamp | None:
    """The stamp of a file, or of something inside of it; None if the file cannot be looked at."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    place = os.fsencode(str(Path(path).absolute()) + inside)
    return Stamp(place, found.st_size, found.st_mtime_ns)


def pixels_of(decoded: Decoded, path: str) -> np.ndarray:
    """The pixels of an image that could be decoded when the data were loaded."""
    if decoded.pixels is None:
        raise DataError(
            f"{shown(path)!r} could be decoded when the data were loaded; now it is "
            f"{decoded.reason}. Load the data again."
        )
    return decoded.pixels


def read_encoded(data: bytes | Decoded, path: str, at_least: Size | None) -> np.ndarray:
    """The pixels of what `Encoded.encoded` gave; see `Pixels.read`."""
    decoded = data if isinstance(data, Decoded) else decode(data, at_least=at_least)
    return pixels_of(decoded, path)


def shown(text: Any) -> str:
    """Text that can be written anywhere: bytes of a name that are no Unicode are escaped."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def first_few(names: Sequence[str], limit: int = 5) -> str:
    """A short enumeration for a message: 'a', 'b' and 3 more."""
    quoted = ", ".join(repr(shown(name)) for name in names[:limit])
    return quoted + (f" and {len(names) - limit} more" if len(names) > limit else "")
