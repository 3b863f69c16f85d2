"""The parts of an augmentation: the numbers each may have, what it draws and what it does then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from labelwise.errors import OptionError
from labelwise.nn.geometry import Frame, channel_means, cover, erase_bare, warp
from labelwise.nn.randaugment import OPERATIONS, STRONGEST, randaugment, rotations
from labelwise.nn.tones import bright_contrast


@dataclass
class Batch:
    """Images on their way through the parts; `frame` holds moves that no part has needed yet."""

    frame: Frame
    index: torch.Tensor
    epoch: int
    generator: torch.Generator

    @property
    def shape(self) -> tuple[int, int, int, int]:
        count, channels, height, width = self.frame.source.shape
        return count, channels, height, width

    def replace(self, change: Callable[..., torch.Tensor], *values: object) -> None:
        """Put change(pixels, *values) in the place of the pixels."""
        self.frame = Frame(change(self.frame.pixels(), *values))

    def uniform(self, limit: float) -> torch.Tensor:
        """float32 (N,) from -limit to limit, on the images' device."""
        drawn = torch.rand(self.shape[0], generator=self.generator)
        return ((2 * drawn - 1) * limit).to(self.frame.source.device)

    def whole(self, low: int, high: int) -> torch.Tensor:
        """int64 (N,) from low to high inclusive, on the images' device."""
        drawn = torch.randint(low, high + 1, (self.shape[0],), generator=self.generator)
        return drawn.to(self.frame.source.device)


@dataclass(frozen=True)
class Number:
    """What may stand behind a part's name."""

    meaning: str
    high: float
    whole: bool = False

    def accepts(self, value: float) -> bool:
        """Whether a number may stand there."""
        return 0 <= value <= self.high and (not self.whole or value.is_integer())

    def __str__(self) -> str:
        return f"{self.meaning} ({'a whole number ' * self.whole}from 0 to {self.high:g})"


@dataclass(frozen=True)
class Kind:
    """What a part of some name expects and does."""

    numbers: tuple[Number, ...]
    apply: Callable[..., None]  # (batch, *numbers)


def alternating(index: torch.Tensor, epoch: int) -> torch.Tensor:
    """Whether to mirror images in an epoch: one of 2j and 2j + 1, and the other in the next.

    A hash of j decides which, so that half of the images are mirrored, and always other halves.
    """
    mixed = (index // 2 + 1) * 0x1E3779B97F4A7C15  # wraps around, as a hash may
    mixed = (mixed ^ (mixed >> 32)) * 0x3F58476D1CE4E5B9
    return ((mixed >> 40) + index + epoch) % 2 == 0


def _flip(batch: Batch) -> None:
    batch.frame.mirror(batch.whole(0, 1) == 1)


def _alternate(batch: Batch) -> None:
    index = batch.index.to(batch.frame.source.device)
    batch.frame.mirror(alternating(index, batch.epoch))


def _crop(batch: Batch, pixels: float) -> None:
    most = _fitting("crop", pixels, min(batch.shape[2:]) - 1, batch)
    batch.frame.shift(batch.whole(-most, most), batch.whole(-most, most))


def _translate(batch: Batch, pixels: float) -> None:
    most = _fitting("translate", pixels, min(batch.shape[2:]) - 1, batch)
    down, right = batch.whole(-most, most), batch.whole(-most, most)
    batch.frame.shift(down, right)
    batch.replace(erase_bare, down, right)


def _cutout(batch: Batch, pixels: float) -> None:
    side = _fitting("cutout", pixels, min(batch.shape[2:]), batch)
    top = batch.whole(0, batch.shape[2] - 1) - side // 2
    left = batch.whole(0, batch.shape[3] - 1) - side // 2
    mean = channel_means(batch.frame.source).round_().byte()
    batch.replace(cover, top, left, side, mean)


def _rotate(batch: Batch, degrees: float) -> None:
    batch.replace(warp, rotations(batch.uniform(degrees)))


def _affine(batch: Batch, degrees: float, shift: float, scale: float) -> None:
    matrices = rotations(batch.uniform(degrees))
    x, y = batch.uniform(shift * batch.shape[3]), batch.uniform(shift * batch.shape[2])
    matrices[:, :, :2] *= (1 + batch.uniform(scale))[:, None, None]
    matrices[:, :, 2] = torch.stack([x, y], 1)
    batch.replace(warp, matrices)


def _color(batch: Batch, share: float) -> None:
    batch.replace(bright_contrast, 1 + batch.uniform(share), 1 + batch.uniform(share))


def _randaugment(batch: Batch, count: float, strength: float) -> None:
    shape = (batch.shape[0], int(count))
    drawn = torch.randint(len(OPERATIONS), shape, generator=batch.generator)
    signs = 2.0 * torch.randint(2, shape, generator=batch.generator) - 1
    batch.replace(randaugment, strength, drawn, signs)


def _fitting(part: str, pixels: float, largest: int, batch: Batch) -> int:
    """The number of pixels as an int.

    Raises:
        OptionError: it is larger than these images allow.
    """
    if pixels > largest:
        height, width = batch.shape[2:]
        raise OptionError(
            f"augmentation '{part} {pixels:g}' does not fit images of {height}x{width} pixels: "
            f"use {part} {largest} or less."
        )
    return int(pixels)


_PIXELS = Number("pixels", 1024, whole=True)
_DEGREES = Number("degrees", 180)

PARTS: dict[str, Kind] = {
    "flip": Kind((), _flip),
    "alternate": Kind((), _alternate),
    "crop": Kind((_PIXELS,), _crop),
    "translate": Kind((_PIXELS,), _translate),
    "cutout": Kind((_PIXELS,), _cutout),
    "rotate": Kind((_DEGREES,), _rotate),
    "affine": Kind(
        (_DEGREES, Number("a share of the sides", 1), Number("a share of the size", 0.9)), _affine
    ),
    "color": Kind((Number("a share", 1),), _color),
    "randaugment": Kind(
        (Number("operations", 16, whole=True), Number("their strength", STRONGEST)), _randaugment
    ),
}
