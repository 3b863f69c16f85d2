"""Augmentation of image batches from a line of text: flip, crop 4, cutout 8.

Parts stand between commas and are applied in their order:

    flip               left and right exchanged in half of the images
    alternate          in every other epoch of an image (Jordan 2024, arXiv:2404.00498, 3.6)
    crop 4             shifted by up to 4 pixels each way, the border reflected
    translate 4        the same with zeros
    cutout 8           a square of 8 pixels gets the image's mean (DeVries & Taylor 2017)
    rotate 10          turned by up to 10 degrees
    affine 10 0.1 0.2  turned, shifted by up to a tenth of the sides, scaled by up to a fifth
    color 0.4          brightness and contrast changed by up to 40 %
    randaugment 2 5    2 operations of strength 5 of 10 (Cubuk et al. 2020)
    mixup 0.2          pairs of images and labels mixed (Zhang et al. 2018); see `mixup`

Everything random is drawn on the CPU, so that a seed means the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from labelwise.errors import OptionError
from labelwise.nn.geometry import Frame
from labelwise.nn.parts import PARTS, Batch, Number

NUMBERS = {name: kind.numbers for name, kind in PARTS.items()} | {"mixup": (Number("alpha", 100),)}


@dataclass(frozen=True)
class Part:
    """One part as it was written, with its numbers."""

    text: str
    name: str
    numbers: tuple[float, ...]


@dataclass(frozen=True)
class Augmentation:
    """What `parse_augmentation` read; called on batches.

    Attributes:
        parts: in their order, without mixup.
        mixup: its strength; 0 without.
    """

    parts: tuple[Part, ...]
    mixup: float = 0.0

    def __call__(
        self, pixels: torch.Tensor, index: torch.Tensor, epoch: int, generator: torch.Generator
    ) -> torch.Tensor:
        """Augment a batch; mixup, which changes labels too, is left to the caller.

        Args:
            pixels: uint8 (N, C, H, W) on any device, contiguous or channels_last; not written to.
            index: int64 (N,), the images' numbers in the training set.
            epoch: how often the images have been seen.
            generator: of the CPU.

        Returns:
            uint8, of the input's shape, device and memory format; the input itself without parts.

        Raises:
            OptionError: a part does not fit images of this size.
        """
        if not self.parts:
            return pixels
        batch = Batch(Frame(pixels), index, epoch, generator)
        for part in self.parts:
            PARTS[part.name].apply(batch, *part.numbers)
        return batch.frame.pixels()


def mixup(
    images: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    alpha: float,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix every image and label with another's (Zhang et al. 2018, arXiv:1710.09412).

    Args:
        images: uint8 or float (N, C, H, W).
        labels: int64 (N,).
        alpha: positive; the batch's share of the first image is drawn from Beta(alpha, alpha).

    Returns:
        Images, float32 in the same range, and labels, float32 (N, classes) with sums of 1.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    share = np.random.default_rng(seed).beta(alpha, alpha)  # torch has no Beta with a generator
    other = torch.randperm(len(images), generator=generator).to(images.device)
    one_hot = functional.one_hot(labels, classes).float()
    images = images.float()
    return images.lerp(images[other], 1 - share), one_hot.lerp(one_hot[other], 1 - share)


def parse_augmentation(text: str) -> Augmentation:
    """Read an augmentation; empty text leaves images as they are.

    Raises:
        OptionError: names the part that could not be read and says what was expected.
    """
    parts = [_parse_part(part) for part in text.split(",")] if text.strip() else []
    mixed = [part.numbers[0] for part in parts if part.name == "mixup"]
    if len(mixed) > 1:
        raise OptionError(f"augmentation '{text}': mixup can be given once.")
    kept = tuple(part for part in parts if part.name != "mixup")
    return Augmentation(kept, *mixed)


def _parse_part(text: str) -> Part:
    name, *words = text.split() or [""]
    if name not in NUMBERS:
        raise OptionError(
            f"augmentation '{text.strip()}': {name!r} is not a part. There are "
            f"{', '.join(NUMBERS)}, with one comma between two parts."
        )
    expected = NUMBERS[name]
    try:
        numbers = tuple(map(float, words))
        good = all(number.accepts(n) for number, n in zip(expected, numbers, strict=True))
    except ValueError:
        good = False
    if not good:
        wanted = ", then ".join(map(str, expected)) or "nothing"
        raise OptionError(f"augmentation '{text.strip()}': behind {name} {wanted} is expected.")
    return Part(text.strip(), name, numbers)
