"""Reading: the images of a task as pixels in memory, and what is known of them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from labelwise.data.dataset import Images
from labelwise.data.preprocess import Color, Preprocessing
from labelwise.features import stored_pixels
from labelwise.nn.supervised import Examples
from labelwise.recipe.base import Context, Task

Scale = Literal["unit", "standard"]


def read_parts(
    task: Task, places: np.ndarray, preprocessing: Preprocessing, context: Context
) -> tuple[Examples, Examples | None]:
    """Images of a task, those at some places and those of its validation part."""
    weights = None if task.weights is None else task.weights[places]
    images = task.images.subset(places)
    examples = _examples(images, task.labels[places], preprocessing, context, weights)
    if task.validation is None:
        return examples, None
    return examples, _examples(*task.validation, preprocessing, context)


def _examples(
    images: Images,
    labels: np.ndarray,
    preprocessing: Preprocessing,
    context: Context,
    weights: np.ndarray | None = None,
) -> Examples:
    """Images as pixels in memory, on the device."""

    def advance(done: int, total: int) -> None:
        context.advance(0.0, "decoding")

    pixels = stored_pixels(images, preprocessing, advance=advance)
    weighed = None if weights is None else torch.from_numpy(weights).to(context.device)
    labels_there = torch.from_numpy(labels).to(context.device)
    return Examples(pixels.to(context.device), labels_there, weighed)


def color_of(pixels: torch.Tensor) -> Color:
    """What the channels of pixels (N, C, H, W) stand for."""
    return "rgb" if pixels.shape[1] == 3 else "gray"


def channel_statistics(
    pixels: torch.Tensor, scale: Scale | None
) -> tuple[list[float], list[float]]:
    """Mean and deviation of every channel, of pixels in [0, 1]."""
    channels = pixels.shape[1]
    if scale == "unit" or not len(pixels):
        return [0.0] * channels, [1.0] * channels
    counts = torch.stack(
        [torch.bincount(pixels[:, c].flatten(), minlength=256) for c in range(channels)]
    ).double()
    values = torch.arange(256, dtype=torch.float64, device=counts.device) / 255
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ values
    std = (share @ values.square() - mean.square()).clamp(min=1e-4).sqrt()
    return mean.tolist(), std.tolist()
