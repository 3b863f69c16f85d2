"""Activations: what the frozen front of a backbone makes of several looks at every image.

They lie on disk in 16 bits, in stores of their own beside the store, shared by folds,
repeats and runs. There is a limit: before new ones are written, those that were not used for the
longest time go.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from labelwise.backbones import Backbone
from labelwise.data.dataset import Images
from labelwise.data.preprocess import BATCH, Preprocessing, prepared
from labelwise.features import embedding_store, load_body, normalized
from labelwise.store import Mapped, Store, store_folder

if TYPE_CHECKING:
    import torch

    from labelwise.nn.tail import Front
    from labelwise.nn.taps import Taps

GIGABYTE = 2**30
SHIFT = 8  # a look is shifted by up to an eighth of the side
LARGEST = 65504.0  # that 16 bits hold


@dataclass(frozen=True)
class Looks:
    """How images look to the front of a backbone, one way after another.

    Look 0 is the image itself. Of the others each second one is mirrored, if mirroring is safe, and
    all but a plainly mirrored one are shifted, every image by an amount of its own.

    Attributes:
        first: block behind the front.
        mirrored: whether mirroring is safe.
        most: looks at an image, at most.
        gigabytes: of disk for all activations.
    """

    backbone: Backbone
    preprocessing: Preprocessing
    first: int
    mirrored: bool
    most: int
    gigabytes: float

    @cached_property
    def front(self) -> Front:
        """The part of the backbone that stays as it is."""
        import torch

        from labelwise.nn.fold import folded
        from labelwise.nn.tail import Front

        size = (self.preprocessing.height, self.preprocessing.width)
        front = Front(cast("Taps", load_body(self.backbone)), self.first, size)
        return folded(front, torch.zeros(1, 3, *size))

    def affordable(self, images: Images) -> int:
        """How many looks at these images the disk has room for."""
        each = max(1, len(images)) * self.front.length * 2
        return min(self.most, int(self.gigabytes * GIGABYTE / each))

    def missing(self, images: Images, count: int) -> int:
        """How many rows of the first looks at some images are not known yet."""
        return sum(len(self._store(look).missing(images.contents)) for look in range(count))

    def rows(
        self, images: Images, count: int, advance: Callable[[int], None]
    ) -> tuple[Mapped, ...]:
        """The rows of images in the first looks, computed where they are not known.

        Args:
            advance: told the number of rows just computed.
        """
        for look in range(count):
            os.utime(self._store(look).folder)  # the last to be removed
        needed = self.missing(images, count) * self.front.length * 2
        _make_room(needed, int(self.gigabytes * GIGABYTE))
        return tuple(self._rows(images, look, advance) for look in range(count))

    def compute(self, pixels: torch.Tensor) -> np.ndarray:
        """The rows of prepared pixels as they are; float16 (N, L)."""
        import torch

        with torch.inference_mode():
            rows = self.front(normalized(pixels, self.backbone))
            return rows.clamp(-LARGEST, LARGEST).half().numpy()

    def _rows(self, images: Images, look: int, advance: Callable[[int], None]) -> Mapped:
        store = self._store(look)

        def compute(positions: np.ndarray) -> Iterator[np.ndarray]:
            some, done = images.subset(positions), 0
            contents = some.contents
            for pixels in prepared(some, self.preprocessing, batch=BATCH):
                yield self.compute(self._moved(pixels, contents[done : done + len(pixels)], look))
                done += len(pixels)
                advance(len(pixels))

        return store.mapped(images.contents, compute)

    def _store(self, look: int) -> Store:
        mirror, shift = self._moves(look)
        key = {
            "what": "activation",
            # All that decides an embedding decides this as well.
            "embedding": embedding_store(self.backbone, self.preprocessing).folder.name,
            "first block": self.first,
            "view": {"mirror": mirror, "shift": [SHIFT, look] if shift else None},
        }
        return Store.open(key, [self.front.length], "float16", activation_folder())

    def _moves(self, look: int) -> tuple[bool, bool]:
        """Whether a look is mirrored, and whether it is shifted."""
        return self.mirrored and look % 2 == 1, look > self.mirrored

    def _moved(self, pixels: torch.Tensor, contents: Sequence[str], look: int) -> torch.Tensor:
        """Prepared pixels of images as they are seen in a look."""
        import torch

        from labelwise.nn.geometry import Frame

        mirror, shift = self._moves(look)
        frame = Frame(pixels)
        if shift:
            most = torch.tensor([pixels.shape[2] // SHIFT, pixels.shape[3] // SHIFT])
            drawn = torch.tensor([_drawn(content, look) for content in contents])
            down, right = (drawn % (2 * most + 1) - most).T
            frame.shift(down, right)
        if mirror:
            frame.mirror(torch.ones(len(pixels), dtype=torch.bool))
        return frame.pixels()


@dataclass(frozen=True)
class Activations:
    """Labeled rows for a tail; an image is learned from in all of its looks, one per epoch.

    Attributes:
        looks: the rows of the images in every look.
        labels: int64 (N,).
    """

    looks: tuple[Mapped, ...]
    labels: torch.Tensor
    weights: None = None

    def __len__(self) -> int:
        return len(self.labels)

    def look(self, index: torch.Tensor, epoch: int) -> torch.Tensor:
        """float16 (n, L) on the labels' device."""
        import torch

        chosen = index.cpu().numpy()
        which = (chosen + epoch) % len(self.looks)
        rows = np.empty((len(chosen), *self.looks[0].shape), np.float16)
        for number, look in enumerate(self.looks):
            rows[which == number] = look[chosen[which == number]]
        return torch.from_numpy(rows).to(self.labels.device)

    def plain(self, part: slice) -> torch.Tensor:
        """float16 (n, L) on the labels' device."""
        import torch

        return torch.from_numpy(self.looks[0][part]).to(self.labels.device)


def activation_folder() -> Path:
    """Where activations are; part of what `labelwise doctor` counts and empties."""
    return store_folder() / "activations"


def _make_room(needed: int, limit: int) -> None:
    """Remove the activations that were used longest ago, until so many bytes more fit the limit.

    A process that is using them keeps what it has mapped into memory.
    """
    stores = sorted(activation_folder().glob("*/"), key=lambda store: store.stat().st_mtime)
    sizes = {store: sum(file.stat().st_size for file in store.iterdir()) for store in stores}
    excess = sum(sizes.values()) + needed - limit
    for store, size in sizes.items():
        if excess <= 0:
            break
        shutil.rmtree(store, ignore_errors=True)
        excess -= size


def _drawn(content: str, look: int) -> tuple[int, int]:
    """Two numbers of an image in a look, whatever other images there are."""
    digest = hashlib.sha256(f"{content} {look}".encode()).digest()
    return int.from_bytes(digest[:4]), int.from_bytes(digest[4:8])
