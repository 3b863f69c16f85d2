"""Coding: learn codes of images from which the images can be made again; no label is needed.

Reconstruction errors are means over pixel values in [0, 1], never over 0..255.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from labelwise.errors import TrainingError
from labelwise.nn.augment import Augmentation
from labelwise.nn.layers import has_batch_norm
from labelwise.nn.network import Network
from labelwise.nn.passes import Passes
from labelwise.nn.train import Objective

JUDGED = 256  # images in a forward pass without gradients


class Coder(nn.Module, ABC):
    """A network with a decoder, and what is needed besides it while it learns."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    @property
    def decoder(self) -> nn.Module:
        """From codes to images; found anew, for a part of two modules could not be saved."""
        if self.network.decoder is None:
            raise TypeError("the network has no decoder")
        return self.network.decoder

    @abstractmethod
    def losses(self, pixels: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """What goes down, `loss`, and its parts: means over a batch uint8 (n, C, H, W)."""


class Autoencoder(Coder):
    """The loss is the mean squared error of the reconstructions."""

    def losses(self, pixels: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        code = self.network.body(self.network.normalized(pixels))[1]
        error = squared_error(self.decoder(code), pixels)
        return {"loss": error, "reconstruction": error}


def squared_error(images: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Mean squared error of images float (n, C, H, W) in [0, 1], of pixels uint8 (n, C', H, W).

    Gray pixels count as equal channels where the images have three.
    """
    target = (pixels.float() / 255).expand_as(images)
    return nn.functional.mse_loss(images, target)


class Coding(Objective[torch.Tensor]):
    """The objective of a coder: its losses on images, judged on other ones.

    Its batches are numbers of images, int64 (n,).
    """

    def __init__(
        self,
        coder: Coder,
        pixels: torch.Tensor,
        validation: torch.Tensor | None,
        passes: Passes,
        augment: Augmentation,
        also: Callable[[], Mapping[str, Any]],
    ) -> None:
        """
        Args:
            pixels, validation: uint8 (N, C, H, W); labeled or not.
            augment: changes every batch; what is to be made again is the changed image.
            also: further history columns after every epoch.

        Raises:
            TrainingError: there is no image, or one that batch norm is to learn from.
        """
        least = 2 if has_batch_norm(coder) else 1
        if min(len(pixels), passes.batch) < least:
            raise TrainingError(
                f"{len(pixels)} images in batches of {passes.batch} are too few to learn from: "
                f"at least {least} are needed."
            )
        self.coder, self.pixels, self.validation = coder, pixels, validation
        self.passes, self.augment, self.also = passes, augment, also
        self.seen: list[tuple[int, dict[str, torch.Tensor]]] = []

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[torch.Tensor]:
        """The numbers of the images of every step, in a new order."""
        self.seen.clear()
        return self.passes.steps(generator, self.coder.network.mean.device)

    def loss(self, index: torch.Tensor, epoch: int, generator: torch.Generator) -> torch.Tensor:
        """The coder's loss on a batch."""
        pixels = self.augment(self.pixels.index_select(0, index), index, epoch, generator)
        found = self.coder.losses(pixels, generator)
        self.seen.append((len(index), {name: value.detach() for name, value in found.items()}))
        return found["loss"]

    def record(self) -> dict[str, Any]:
        """The losses that were seen during the epoch."""
        return {"images": self.passes.images, **means(self.seen, "train")}

    def judge(self) -> dict[str, Any]:
        """The losses on the validation part, and the further columns."""
        if self.validation is None:
            return dict(self.also())
        return {**judged(self.coder, self.validation), **self.also()}


@torch.inference_mode()
def judged(coder: Coder, pixels: torch.Tensor) -> dict[str, float]:
    """Losses on images as they are, as history columns validation_*; always with equal noise."""
    coder.eval()
    generator = torch.Generator().manual_seed(0)
    parts = [(len(part), coder.losses(part, generator)) for part in torch.split(pixels, JUDGED)]
    return means(parts, "validation")


def means(parts: Sequence[tuple[int, Mapping[str, torch.Tensor]]], prefix: str) -> dict[str, float]:
    """Means over all images, from those over batches of so many each."""
    total = sum(count for count, _ in parts)
    return {
        f"{prefix}_{name}": float(sum(count * float(part[name]) for count, part in parts)) / total
        for name in parts[0][1]
    }


@torch.inference_mode()
def encoded(network: Network, pixels: torch.Tensor) -> torch.Tensor:
    """The codes of images; float32 (N, D) on the CPU."""
    network.eval()
    return torch.cat(
        [network.body(network.normalized(part))[1].cpu() for part in torch.split(pixels, JUDGED)]
    )
