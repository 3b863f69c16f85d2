"""Grad-CAM: maps weighted by what the logit gains when they grow; for any head behind maps."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from labelwise.attribution.spread import spread
from labelwise.nn.network import Body, Network


def grad_cam(network: Network, pixels: torch.Tensor, classes: torch.Tensor) -> torch.Tensor | None:
    """What speaks for a class, by the last maps (Selvaraju et al. 2017, arXiv:1610.02391).

    Args:
        network: in inference mode, with a head.
        pixels: uint8 (N, C, H, W) at its input size.
        classes: int64 (N,).

    Returns:
        float32 (N, H, W), not negative; None where there are no maps of several places.
    """
    with torch.enable_grad():
        images = network.normalized(pixels).requires_grad_()
        maps, embedding = cast(Body, network.body)(images)
        if not maps or maps[-1].shape[2] * maps[-1].shape[3] == 1 or not maps[-1].requires_grad:
            return None
        logits = cast(nn.Module, network.head)(embedding)
        chosen = logits.gather(1, classes[:, None]).sum()
        found: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
            chosen, maps[-1], allow_unused=True
        )
    gradient = found[0]
    if gradient is None:  # of a transformer whose last patch tokens nobody asks
        return None
    weights = gradient.mean((2, 3), keepdim=True)
    heat = (weights * maps[-1].detach()).sum(1).clamp(min=0)
    return spread(heat, (pixels.shape[2], pixels.shape[3])).clamp(min=0)
