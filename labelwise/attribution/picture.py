"""Picture: an image with its heat on it, and single channels of maps, as people look at them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from labelwise.files import write_file

LARGEST, SMALLEST = 448, 224  # pixels of the longer side; small images are enlarged without blur
#: From nothing to much; dark to light, so that it reads without colors too.
STOPS = np.array(
    [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]]
)
STRONGEST = 0.75  # how far the hottest place hides the image


def overlay(pixels: torch.Tensor, heat: np.ndarray) -> Image.Image:
    """What speaks for the class, over the image.

    Args:
        pixels: uint8 (C, H, W).
        heat: float (H, W); nothing below 0 is shown, and the hottest place is full.
    """
    hot = np.maximum(heat, 0)
    hot = hot / hot.max() if hot.max() > 0 else hot
    weight = (STRONGEST * np.sqrt(hot))[..., None]
    gray = np.asarray(photo(pixels).convert("L").resize(hot.shape[::-1]), np.float64)[..., None]
    mixed = (1 - weight) * gray + weight * colors(hot)
    return _sized(Image.fromarray(mixed.round().astype(np.uint8)))


def colors(values: np.ndarray) -> np.ndarray:
    """float (H, W) in [0, 1] -> (H, W, 3) in 0..255."""
    places = np.linspace(0, 1, len(STOPS))
    return np.stack([np.interp(values, places, STOPS[:, k]) for k in range(3)], axis=-1)


def photo(pixels: torch.Tensor) -> Image.Image:
    """uint8 (C, H, W) as the network gets it."""
    values = pixels.cpu().numpy().transpose(1, 2, 0)
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).convert("RGB")


def shown(pixels: torch.Tensor) -> Image.Image:
    """The same at the size of an overlay."""
    return _sized(photo(pixels))


def channel(values: np.ndarray) -> Image.Image:
    """One channel of maps, float (h, w), from its lowest to its highest value."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return _sized(Image.fromarray(colors(scaled).round().astype(np.uint8)))


def save(file: Path, image: Image.Image) -> None:
    """Write a PNG, whole or not at all."""
    write_file(file, lambda stream: image.save(stream, "PNG"))


def _sized(image: Image.Image) -> Image.Image:
    longer = max(image.size)
    if SMALLEST <= longer <= LARGEST:
        return image
    if longer < SMALLEST:
        times = -(-SMALLEST // longer)
        return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return image
