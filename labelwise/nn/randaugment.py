"""RandAugment (Cubuk et al. 2020, arXiv:1909.13719): random operations, all of one strength.

Strength runs from 0, where every operation leaves the image as it is, to 10, the largest values of
AutoAugment. Auto-contrast and equalization have no strength and are not among the operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from labelwise.nn import tones
from labelwise.nn.geometry import warp

STRONGEST = 10

# (images uint8 (n, C, H, W), strength as a share of the strongest, signs float32 (n,)) -> images
Operation = Callable[[torch.Tensor, float, torch.Tensor], torch.Tensor]


def randaugment(
    pixels: torch.Tensor, strength: float, operations: torch.Tensor, signs: torch.Tensor
) -> torch.Tensor:
    """Apply one operation after the other to every image.

    Args:
        pixels: uint8 (N, C, H, W), not written to.
        strength: 0 to 10.
        operations: int64 (N, operations per image), CPU: positions in OPERATIONS.
        signs: float32, the same shape: 1 or -1, the direction of an operation that has two.
    """
    pixels = pixels.clone(memory_format=torch.preserve_format)
    for drawn, sign in zip(operations.T, signs.T, strict=True):
        for number, operation in enumerate(OPERATIONS.values()):
            chosen = (drawn == number).nonzero()[:, 0]
            if len(chosen):
                at = chosen.to(pixels.device)
                ones = sign[chosen].to(pixels.device)
                pixels[at] = operation(pixels[at], strength / STRONGEST, ones)
    return pixels


def rotations(angles: torch.Tensor) -> torch.Tensor:
    """Matrices for `warp` that turn images counterclockwise by degrees, (N,) -> (N, 2, 3)."""
    cos, sin = torch.cos(torch.deg2rad(angles)), torch.sin(torch.deg2rad(angles))
    zero = torch.zeros_like(angles)
    return torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(-1, 2, 3)


def _rotate(pixels: torch.Tensor, share: float, signs: torch.Tensor) -> torch.Tensor:
    return warp(pixels, rotations(30 * share * signs))


def _entry(row: int, column: int, largest: Callable[[torch.Tensor], float]) -> Operation:
    """The operation that changes one entry of the identity matrix, by at most `largest`."""

    def operation(pixels: torch.Tensor, share: float, signs: torch.Tensor) -> torch.Tensor:
        matrices = torch.eye(2, 3, device=pixels.device).repeat(len(pixels), 1, 1)
        matrices[:, row, column] = largest(pixels) * share * signs
        return warp(pixels, matrices)

    return operation


def _enhance(tone: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Operation:
    return lambda pixels, share, signs: tone(pixels, 1 + 0.9 * share * signs)


OPERATIONS: dict[str, Operation] = {
    "rotate": _rotate,
    "shear x": _entry(0, 1, lambda pixels: 0.3),
    "shear y": _entry(1, 0, lambda pixels: 0.3),
    "translate x": _entry(0, 2, lambda pixels: 0.45 * pixels.shape[3]),
    "translate y": _entry(1, 2, lambda pixels: 0.45 * pixels.shape[2]),
    "brightness": _enhance(tones.brightness),
    "contrast": _enhance(tones.contrast),
    "saturation": _enhance(tones.saturation),
    "sharpness": _enhance(tones.sharpness),
    "posterize": lambda pixels, share, signs: tones.posterize(pixels, 8 - round(4 * share)),
    "solarize": lambda pixels, share, signs: tones.solarize(pixels, math.ceil(256 * (1 - share))),
}
