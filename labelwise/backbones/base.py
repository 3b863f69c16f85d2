"""Backbone: a trained network to build on, whatever it comes from."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from labelwise.data.preprocess import Preprocessing

if TYPE_CHECKING:
    from labelwise.nn.layers import Stack
    from labelwise.nn.taps import Taps


@dataclass(frozen=True)
class Backbone(ABC):
    """A trained network to build on, named and located; hashable.

    Attributes:
        name: as the user gave it.
        file: the weights.
        sha256: of that file.
        license: of the weights, as their source states it.
        mean, std: per channel, of pixels in [0, 1], that the weights were trained with.
        preprocessing: that the weights were trained with.
        resizable: whether the network takes images of other sizes.
    """

    name: str
    file: Path
    sha256: str
    license: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocessing: Preprocessing
    resizable: bool

    @abstractmethod
    def body(self) -> Taps | Stack:
        """The network without its head, with its trained weights, in inference mode.

        Raises:
            BackboneError: the file is not the one expected, or does not fit the architecture.
        """

    @property
    def scaling(self) -> dict[str, list[float]]:
        """Mean and deviation, as an architecture has them."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @property
    def origin(self) -> dict[str, str]:
        """What a record says about where weights come from."""
        return {"name": self.name, "sha256": self.sha256, "license": self.license}


def stamp_of(file: Path) -> tuple[int, ...] | None:
    """What changes when a file does, or when a relative name comes to mean another one."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; computed once per process while it stays."""
    return _sha256(file, stamp_of(file))


@lru_cache(maxsize=64)
def _sha256(file: Path, stamp: tuple[int, ...] | None) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
