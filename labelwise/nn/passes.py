"""Passes: the images of an epoch in batches, in a new order every time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

SMALLEST_BATCH = 8  # that few images shrink a batch to


@dataclass(frozen=True)
class Passes:
    """What an epoch goes through.

    Attributes:
        count: N, images that there are.
        batch: images per step, at most.
        repeats: passes of an epoch over all images; it ends with the images of its last step.
        images: of an epoch.
    """

    count: int
    batch: int
    repeats: int
    images: int

    @staticmethod
    def of(count: int, batch: int, least_steps: int = 0, share: float = 1.0) -> Passes:
        """The passes of `pace`, of which an epoch does a share of the steps, in (0, 1]."""
        batch, repeats = pace(count, batch, least_steps)
        steps = math.ceil(share * math.ceil(repeats * count / batch))
        return Passes(count, batch, repeats, min(steps * batch, repeats * count))

    def steps(self, generator: torch.Generator, device: torch.device) -> list[torch.Tensor]:
        """Numbers of the images of every step, int64 (n,) each, on the device."""
        shuffled = [torch.randperm(self.count, generator=generator) for _ in range(self.repeats)]
        order = torch.cat(shuffled)[: self.images].to(device)
        steps = list(torch.split(order, self.batch))
        if len(steps) > 1 and len(steps[-1]) == 1 < self.batch:
            steps[-2:] = [torch.cat(steps[-2:])]  # batch norm cannot learn from one image
        return steps


def pace(images: int, batch: int, least_steps: int) -> tuple[int, int]:
    """Images per step, and passes of an epoch, with which few images still make so many steps."""
    if not least_steps:
        return batch, 1
    batch = min(batch, max(SMALLEST_BATCH, images // least_steps))
    return batch, math.ceil(max(least_steps * batch / max(images, 1), 1))
