"""Inputs: the size and color that a network from scratch sees images in."""

from __future__ import annotations

import numpy as np

from labelwise.data.dataset import Images
from labelwise.data.preprocess import Color, Preprocessing, Resize


def own_input(
    images: Images,
    largest_side: int,
    image_size: int | None,
    color: Color | None,
    resize: Resize,
) -> Preprocessing:
    """Images that all have one size keep it up to the limit; others become squares.

    Args:
        images: of the data set that decides; all of it, so that every fit gets the same size.
        image_size, color: None where left open.
    """
    everything = images.dataset.images(images.dataset.usable)
    width, height = (int(side) for side in np.median(everything.sizes, axis=0))
    same = bool((everything.sizes == (width, height)).all())
    if image_size is not None or not same or max(width, height) > largest_side:
        width = height = image_size or largest_side
    return Preprocessing(height, width, color or ("gray" if everything.gray else "rgb"), resize)


def are_large(images: Images, largest_side: int) -> bool:
    """Whether most of what images show would be lost at a limit of so many pixels a side."""
    return bool(np.median(images.sizes) > 2 * largest_side)
