"""Front and tail: a backbone cut before a block, the first part frozen, the second learning.

What crosses the cut for an image is a row of numbers: the maps that the first block of the tail
gets, height by width by channels, and the means of the earlier stages that the embedding has.
"""

from __future__ import annotations

from math import prod

import torch
from torch import nn

from labelwise.nn.network import Network
from labelwise.nn.taps import Taps

PARTS = ("conv_stem", "bn1", "blocks", "conv_head", "bn2")  # of a net that can be cut, in order


def blocks_of(body: nn.Module) -> int:
    """Number of blocks that a backbone can be cut before; 0 if it cannot be cut.

    Cut are timm's efficientnets, whose blocks are the stages that `Taps` knows.
    """
    if not isinstance(body, Taps) or "efficientnet" not in body.name:
        return 0
    return len(body.net.blocks) if all(hasattr(body.net, part) for part in PARTS) else 0


class Front(nn.Module):
    """Normalized images -> rows for the tail that starts at the same block, float32 (N, L).

    Attributes:
        shape: (H, W, C) of the maps in a row.
        length: numbers of a row, L.
    """

    def __init__(self, taps: Taps, first: int, size: tuple[int, int]) -> None:
        """
        Args:
            first: block of the cut.
            size: height and width of the images.
        """
        super().__init__()
        self.stem = nn.Sequential(taps.net.conv_stem, taps.net.bn1)
        self.blocks = nn.ModuleList(taps.net.blocks[:first])
        self.chosen = taps.chosen
        with torch.inference_mode():
            blank = next(taps.parameters()).new_zeros(1, 3, *size)
            maps, means = self._maps(blank)
        self.shape = (*maps.shape[2:], maps.shape[1])
        self.length = prod(self.shape) + sum(part.shape[1] for part in means)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps, means = self._maps(images)
        return torch.cat([maps.permute(0, 2, 3, 1).flatten(1), *means], 1)

    def _maps(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        x, means = self.stem(images), []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.chosen:
                means.append(x.mean((2, 3)))
        return x, means


class Tail(nn.Module):
    """Rows of a front -> (maps, embedding); the embedding is that of the whole backbone.

    Attributes:
        width: of the embedding.
    """

    def __init__(self, taps: Taps, front: Front) -> None:
        super().__init__()
        net, stages = taps.net, len(taps.net.blocks)
        self.first, self.shape = len(front.blocks), front.shape
        self.chosen, self.width = taps.chosen, taps.width
        self.blocks = nn.ModuleList(net.blocks[self.first : max(taps.chosen) + 1])
        whole = stages in taps.chosen
        self.end = nn.Sequential(net.conv_head, net.bn2) if whole else None

    def forward(self, rows: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        cut = prod(self.shape)
        x = rows[:, :cut].view(-1, *self.shape).permute(0, 3, 1, 2)
        maps, parts = [], [rows[:, cut:]]
        for index, block in enumerate(self.blocks, self.first):
            x = block(x)
            if index in self.chosen:
                maps.append(x)
        if self.end is not None:
            maps.append(self.end(x))
        return tuple(maps), torch.cat([*parts, *(part.mean((2, 3)) for part in maps)], 1)


class Tuned(Network):
    """A network whose batch norms stay in inference mode while it learns."""

    def train(self, mode: bool = True) -> Tuned:
        """As of any module, but for the batch norms."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


class TunedTail(Tuned):
    """The same for a tail: rows of a front, of any float type, take the place of images."""

    def normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float()
