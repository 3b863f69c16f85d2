"""Tones of uint8 image batches: brightness, contrast, saturation, sharpness and their kin.

Enhancement by a factor f is a blend f * image + (1 - f) * reference, as in Pillow's ImageEnhance:
f = 1 keeps the image, 0 gives the reference, more than 1 exaggerates. Factors are float32 (N,).
"""

from __future__ import annotations

import torch
from torch.nn import functional

from labelwise.nn.geometry import channel_means

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as Pillow's mode L


def brightness(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend with black."""
    return _bytes(pixels.float().mul_(_each(factor)))


def contrast(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend with the mean luma of the image."""
    return _blend(pixels, _mean_luma(pixels), factor)


def bright_contrast(
    pixels: torch.Tensor, bright: torch.Tensor, contrasted: torch.Tensor
) -> torch.Tensor:
    """Brightness, then contrast, in one pass and without rounding or clipping in between."""
    offset = _each(bright * (1 - contrasted)) * _mean_luma(pixels)
    return _bytes(pixels.float().mul_(_each(bright * contrasted)).add_(offset))


def saturation(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend with the luma of every pixel; without three channels nothing changes."""
    return _blend(pixels, luma(pixels), factor) if pixels.shape[1] == 3 else pixels


def sharpness(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blend with a smoothed image: 3x3, weight 5 in the middle and 1 around; the border stays."""
    channels = pixels.shape[1]
    smooth = pixels.float()
    if min(pixels.shape[2:]) > 2:
        kernel = torch.ones(channels, 1, 3, 3, device=pixels.device)
        kernel[:, :, 1, 1] = 5
        middle = functional.conv2d(smooth, kernel / 13, groups=channels)
        smooth[:, :, 1:-1, 1:-1] = middle
    return _blend(pixels, smooth, factor)


def posterize(pixels: torch.Tensor, bits: int) -> torch.Tensor:
    """Keep the highest bits of every value, 0 to 8."""
    return pixels & (256 - 2 ** (8 - bits))


def solarize(pixels: torch.Tensor, threshold: int) -> torch.Tensor:
    """Invert values from the threshold up, 0 to 256."""
    return torch.where(pixels.short() >= threshold, 255 - pixels, pixels)  # 256 is no byte


def luma(pixels: torch.Tensor) -> torch.Tensor:
    """float32 (N, 1, H, W): how bright a pixel is; the channels' mean unless they are three."""
    if pixels.shape[1] != 3:
        return pixels.float().mean(1, keepdim=True)
    red, green, blue = (pixels[:, c : c + 1] * weight for c, weight in enumerate(LUMA))
    return red + green + blue


def _mean_luma(pixels: torch.Tensor) -> torch.Tensor:
    """float32 (N, 1, 1, 1)."""
    return luma(channel_means(pixels)[:, :, None, None])


def _blend(pixels: torch.Tensor, reference: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    factor = _each(factor)
    return _bytes(pixels.float().mul_(factor).add_(reference * (1 - factor)))


def _each(factor: torch.Tensor) -> torch.Tensor:
    return factor[:, None, None, None]


def _bytes(values: torch.Tensor) -> torch.Tensor:
    """Rounded and clipped to uint8 in the same memory format; the values are overwritten."""
    return values.round_().clamp_(0, 255).byte()
