"""Spread: a small map over all pixels of an image, with the same sum."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def spread(heat: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """float32 (N, h, w) -> (N, *size), bilinear; what a pixel gets is its share."""
    share = heat.shape[1] * heat.shape[2] / (size[0] * size[1])
    large = share * F.interpolate(heat[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    # At the edges of sizes that do not divide each other a little is lost or gained.
    missing = heat.sum((1, 2)) - large.sum((1, 2))
    return large + missing[:, None, None] / (size[0] * size[1])
