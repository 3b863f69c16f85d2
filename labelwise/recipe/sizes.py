"""Sizes: how large a network from scratch may become, and how long each should learn at least."""

from __future__ import annotations

import math

# (width, share of the images' own side), cheapest first: about twice the work from one to the next.
LADDER = (
    (0.25, 0.5),
    (0.25, 0.75),
    (0.25, 1.0),
    (0.5, 1.0),
    (1.0, 1.0),
    (1.5, 1.0),
    (2.0, 1.0),
    (3.0, 1.0),
)
FEWEST_EPOCHS = 3  # so that a learning rate can fall and a validation part decide
ENOUGH, MANY = 4.0, 50_000  # passes at width 1 over so many images
MOST = 20.0


def enough_passes(images: int, width: float) -> float:
    """Passes over the images that a size should get before a larger one is worth its seconds.

    Wider networks and fewer images need more, up to a limit. The numbers are a judgement from the
    few runs of cnn(preset=fast) in docs/results.md, not from a study.
    """
    return min(MOST, ENOUGH * width * max(1.0, MANY / max(images, 1)))


def spread(passes: float, most: float) -> tuple[int, float]:
    """Epochs of one length that come to so many passes, and the share of the images of each.

    Args:
        most: the largest share.
    """
    epochs = max(FEWEST_EPOCHS, math.ceil(passes / most))
    return epochs, min(round(passes / epochs, 4), most)
