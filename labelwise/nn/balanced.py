"""Balanced batches: some classes and as many images of each, for losses that compare images."""

from __future__ import annotations

import torch


def balanced_batches(
    labels: torch.Tensor, steps: int, classes: int, images: int, generator: torch.Generator
) -> torch.Tensor:
    """The batches of an epoch: positions, int64 (steps, P * K), of P classes and K images each.

    The classes of a batch are drawn anew every time. Images of a class are dealt from shuffled
    stacks, so that all come about as often, and no batch has one twice unless its class has fewer
    than K. The generator is all the state there is.

    Args:
        labels: int64 (N,), not empty.
        classes: P, or all there are if these are fewer.
        images: K.
    """
    present = torch.unique(labels)
    per_step = min(classes, len(present))
    chosen = torch.rand(steps, len(present), generator=generator).argsort(1)[:, :per_step]
    result = torch.empty(steps, per_step, images, dtype=torch.int64)
    for number, label in enumerate(present):
        places = chosen == number
        own = (labels == label).nonzero()[:, 0]
        dealt = _dealt(len(own), int(places.sum()), images, generator)
        result[places] = own[dealt]
    return result.view(steps, -1)


def _dealt(count: int, times: int, images: int, generator: torch.Generator) -> torch.Tensor:
    """`images` of `count` things, so many times; int64 (times, images)."""
    whole = count // images * images  # what is left of a stack is not dealt with the next one
    stacks = -(-times * images // (whole or count))
    orders = [torch.randperm(count, generator=generator) for _ in range(stacks)]
    dealt = torch.cat([order[: whole or count] for order in orders]) if orders else torch.empty(0)
    return dealt[: times * images].long().view(times, images)
