"""Checks of heat maps: whether they show what the model uses, and whether it uses a shortcut."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from labelwise.attribution.attribute import Attribution, attribute
from labelwise.measure.intervals import Interval, bca
from labelwise.measure.scoring import Floats
from labelwise.model import Model

STEPS = 6  # shares of the pixels that are taken away or put back
GRID = 16  # cells a side in which pixels go together
EDGE = 1 / 8  # of a side, that counts as border
CORNER = 1 / 3  # of a side, that counts as corner
ALIKE = 0.5  # correlation of maps from which on they are the same in essence
TOO_MUCH = 2.0  # times as much heat as the area would have by chance

Answer = Callable[[torch.Tensor], np.ndarray]  # uint8 (N, C, H, W) -> probabilities (N, K)


@dataclass(frozen=True)
class Faithfulness:
    """What becomes of the probability of the class when places are taken away or put back.

    Means over images of the mean probability along the way (Petsiuk et al. 2018,
    arXiv:1806.07421), with 95 % intervals of the difference to a random order.

    Attributes:
        deletion, insertion: hottest places first; lower, and higher, is better.
        deletion_random, insertion_random: places in random order.
        deletion_gain, insertion_gain: how much better than random; {value, low, high}.
    """

    deletion: float
    deletion_random: float
    deletion_gain: Interval
    insertion: float
    insertion_random: float
    insertion_gain: Interval


def faithfulness(
    answer: Answer, pixels: torch.Tensor, heat: np.ndarray, classes: np.ndarray, seed: int = 0
) -> Faithfulness:
    """Deletion and insertion of the hottest places first, beside a random order.

    Args:
        answer: probabilities of images.
        pixels: uint8 (N, C, H, W).
        heat: (N, H, W).
        classes: int64 (N,), that the maps are for.
    """
    order = np.argsort(-cells(heat).reshape(len(heat), -1), axis=1, kind="stable")
    chance = np.random.default_rng(seed).permuted(order, axis=1)
    found = {
        name: [_area(answer, pixels, places, classes, insert=insert) for places in (order, chance)]
        for name, insert in (("deletion", False), ("insertion", True))
    }
    (gone, gone_chance), (back, back_chance) = found["deletion"], found["insertion"]
    return Faithfulness(
        float(gone.mean()), float(gone_chance.mean()), _mean(gone_chance - gone),
        float(back.mean()), float(back_chance.mean()), _mean(back - back_chance),
    )  # fmt: skip


def _mean(values: Floats) -> Interval:
    """With a bootstrap interval over images."""
    found = bca(
        lambda weights: {"mean": weights @ values / weights.sum(axis=1)},
        np.arange(len(values)),
        seed=0,
        bounds=(-1.0, 1.0),
    )
    return found["mean"]


def _area(
    answer: Answer, pixels: torch.Tensor, order: np.ndarray, classes: np.ndarray, *, insert: bool
) -> Floats:
    """Mean probability of the class over STEPS shares of cells, in order; float64 (N,)."""
    gray = pixels.float().mean((2, 3), keepdim=True).round().to(torch.uint8).expand_as(pixels)
    height, width = pixels.shape[2:]
    rows, columns = (np.arange(length) * GRID // length for length in (height, width))
    cell = torch.from_numpy(rows[:, None] * GRID + columns)  # (H, W)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[1])[None].repeat(len(order), 0), axis=1)
    place = torch.from_numpy(rank)[:, cell.flatten()].view(len(pixels), 1, height, width)
    total = np.zeros(len(pixels))
    for step in range(1, STEPS + 1):
        first = place < round(order.shape[1] * step / (STEPS + 1))
        shown = torch.where(first, pixels, gray) if insert else torch.where(first, gray, pixels)
        total += answer(shown)[np.arange(len(pixels)), classes]
    return np.asarray(total / STEPS)


def cells(heat: np.ndarray) -> np.ndarray:
    """Means over a grid; (N, GRID, GRID)."""
    pooled = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(heat)[:, None], GRID)
    return pooled[:, 0].numpy()


def likeness(one: np.ndarray, other: np.ndarray) -> Floats:
    """Rank correlation of maps of the same images, cell by cell; (N, H, W) twice -> (N,)."""
    flat = (pd.DataFrame(cells(heat).reshape(len(heat), -1)) for heat in (one, other))
    ranks = [found.rank(axis=1).to_numpy() for found in flat]
    centered = [found - found.mean(axis=1, keepdims=True) for found in ranks]
    lengths = [np.linalg.norm(found, axis=1) for found in centered]
    product = lengths[0] * lengths[1]
    return np.divide(
        (centered[0] * centered[1]).sum(axis=1), product, out=np.zeros(len(one)), where=product > 0
    )


def randomized(
    model: Model, pixels: torch.Tensor, classes: np.ndarray, found: Attribution, seed: int = 0
) -> Floats:
    """Likeness of maps to those of the same network with its weights shuffled; (N,).

    A map that stays as it is shows the image and not the model (Adebayo et al. 2018,
    arXiv:1810.03292).
    """
    network = copy.deepcopy(model.network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in network.parameters():
            shuffled = weights.flatten()[torch.randperm(weights.numel(), generator=generator)]
            weights.copy_(shuffled.view_as(weights))
    other = Model(network, model.architecture, model.preprocessing, model.class_names, model.recipe)
    return likeness(found.heat, attribute(other, pixels, classes, found.method).heat)


@dataclass(frozen=True)
class Shortcut:
    """Where the heat of most images is, apart from what they show.

    Attributes:
        border: share of the heat in the outer EDGE of the sides.
        border_by_area: that share if heat were everywhere alike.
        corner: the largest share that one corner has, of all images together.
        corner_name: which.
        corner_by_area: as above.
    """

    border: float
    border_by_area: float
    corner: float
    corner_name: str
    corner_by_area: float

    @property
    def alarm(self) -> str | None:
        """A sentence if there is so much heat that the model may look beside the thing."""
        if self.corner > TOO_MUCH * self.corner_by_area:
            return (
                f"{self.corner:.0%} of the heat of all images is in the {self.corner_name} corner, "
                f"{self.corner_by_area:.0%} of the area: is there a mark, a date or a frame that "
                "gives the class away?"
            )
        if self.border > min(TOO_MUCH * self.border_by_area, 0.75):
            return (
                f"{self.border:.0%} of the heat of all images is at the border, "
                f"{self.border_by_area:.0%} of the area: does the background give the class away?"
            )
        return None


def shares(heat: np.ndarray) -> np.ndarray:
    """What share of an image's heat above 0 a place has; (N, H, W)."""
    hot = np.maximum(heat, 0)
    total = hot.sum(axis=(1, 2), keepdims=True)
    return np.divide(hot, total, out=np.zeros_like(hot), where=total > 0)


def shortcut(mean: np.ndarray) -> Shortcut:
    """Of the mean `shares` of many images, (H, W)."""
    height, width = mean.shape
    y, x = max(1, round(EDGE * height)), max(1, round(EDGE * width))
    inner = (height - 2 * y) * (width - 2 * x) / (height * width)
    down, right = max(1, round(CORNER * height)), max(1, round(CORNER * width))
    corners = {
        "upper left": mean[:down, :right],
        "upper right": mean[:down, -right:],
        "lower left": mean[-down:, :right],
        "lower right": mean[-down:, -right:],
    }
    name, part = max(corners.items(), key=lambda item: float(item[1].sum()))
    return Shortcut(
        float(mean.sum() - mean[y:-y, x:-x].sum()),
        1 - inner,
        float(part.sum()),
        name,
        down * right / (height * width),
    )
