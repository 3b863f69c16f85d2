"""Sizes: how large a network from scratch may become, and how long each should learn at least."""

from __future__ import annotations

# (width, share of the images' own side), cheapest first: about twice the work from one to the next.
LADDER = (
    (0.25, 0.5),
    (0.25, 0.75),
    (0.5, 0.75),
    (0.5, 1.0),
    (1.0, 1.0),
    (1.5, 1.0),
    (2.0, 1.0),
    (3.0, 1.0),
)
ENOUGH, MANY = 8.0, 50_000  # passes over so many images
MOST = 60.0


def enough_passes(images: int, width: float, image_size: int) -> float:
    """Passes over the images that a size should get before a larger one is worth its seconds.

    Fewer images are passed over more often, up to a limit. No size differs from the others yet.
    """
    return min(MOST, max(ENOUGH, ENOUGH * MANY / max(images, 1)))
