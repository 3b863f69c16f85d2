"""Looks: what `Consistency` shows a network, changed pixels or embeddings of views."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from labelwise.nn.augment import Augmentation


@dataclass(frozen=True)
class PixelLooks:
    """Pixels in memory, changed anew whenever they are shown.

    Attributes:
        pixels: uint8 (N, C, H, W), the pool; labeled images are among them.
        given: places of the labeled ones, int64 (n,).
        labels: int64 (n,).
        gently, strongly: how they are changed.
        pool: images that are shown without their labels, N or 0.
    """

    pixels: torch.Tensor
    given: torch.Tensor
    labels: torch.Tensor
    gently: Augmentation
    strongly: Augmentation
    pool: int

    def labeled(self, index: torch.Tensor, epoch: int, random: torch.Generator) -> torch.Tensor:
        return self.weak(self.given[index], epoch, random)

    def weak(self, index: torch.Tensor, epoch: int, random: torch.Generator) -> torch.Tensor:
        return self.gently(self.pixels.index_select(0, index), index, epoch, random)

    def strong(self, index: torch.Tensor, epoch: int, random: torch.Generator) -> torch.Tensor:
        return self.strongly(self.pixels.index_select(0, index), index, epoch, random)


@dataclass(frozen=True)
class ViewLooks:
    """Vectors of a few views of every image; one of them is drawn whenever it is shown.

    Attributes:
        gentle, changed: of weak and of strong views, each float32 (N, D), in the pool's order.
        given, labels, pool: as for `PixelLooks`.
    """

    gentle: tuple[torch.Tensor, ...]
    changed: tuple[torch.Tensor, ...]
    given: torch.Tensor
    labels: torch.Tensor
    pool: int

    def labeled(self, index: torch.Tensor, epoch: int, random: torch.Generator) -> torch.Tensor:
        return self.weak(self.given[index], epoch, random)

    def weak(self, index: torch.Tensor, epoch: int, random: torch.Generator) -> torch.Tensor:
        return _drawn(self.gentle, index, random)

    def strong(self, index: torch.Tensor, epoch: int, random: torch.Generator) -> torch.Tensor:
        return _drawn(self.changed, index, random)


def _drawn(
    views: tuple[torch.Tensor, ...], index: torch.Tensor, random: torch.Generator
) -> torch.Tensor:
    """For every index the vector of one of the views, float32 (n, D)."""
    drawn = torch.randint(len(views), index.shape, generator=random).to(index.device)
    shown = views[0].index_select(0, index)
    for number, view in enumerate(views[1:], 1):
        chosen = drawn == number
        shown[chosen] = view[index[chosen]]
    return shown
