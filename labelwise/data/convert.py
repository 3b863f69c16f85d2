"""From any of Pillow's modes to 8-bit gray or RGB, with a note of what was changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

#: What to do with the pixel array so that a picture with this EXIF orientation stands upright.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}

_RANGES = (255.0, 65535.0, 4294967295.0)


class NotFiniteError(ValueError):
    """A floating-point picture holds NaN or infinity."""


def convert(image: Image.Image, bits: int) -> tuple[np.ndarray, list[str]]:
    """The pixels of a loaded image as 8-bit gray or RGB, and what had to be converted.

    Args:
        image: a loaded Pillow image of any mode.
        bits: bits per channel as the file declares them, 8 if unknown.

    Returns:
        uint8 array, (H, W) if gray or (H, W, 3) if RGB, and notes such as "palette to RGB".
    """
    mode = image.mode
    if mode.startswith("I;16"):
        return scale_integers(np.asarray(image), 2**bits - 1 if 8 < bits < 16 else 65535)
    if mode in ("I", "F"):
        return _scale_unknown_range(np.asarray(image), signed_16=mode == "I" and bits == 16)
    pixels, notes = _convert_8_bit(image)
    if bits > 8:  # Pillow keeps the high bytes of colors and of gray with alpha
        notes.insert(0, f"{bits}-bit channels to 8-bit")
    return pixels, notes


def as_gray(pixels: np.ndarray) -> np.ndarray:
    """uint8 (..., 3) -> (...), the same gray values as Pillow's convert("L")."""
    return luma(*(pixels[..., k].astype(np.int32) for k in range(3))).astype(np.uint8)


def luma(red: Any, green: Any, blue: Any) -> Any:
    """Gray of colors, all 0..255 in int32, as arrays or tensors.

    ITU-R 601 in 16.16 fixed point, rounded, as Pillow has it.
    """
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16


def scale_integers(values: np.ndarray, top: int) -> tuple[np.ndarray, list[str]]:
    """Unsigned integers 0..top to 0..255, rounded to the nearest; in blocks, to spare memory."""
    scaled = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), 512):
        block = values[start : start + 512].astype(np.uint32)
        scaled[start : start + 512] = np.minimum((block * 255 + top // 2) // top, 255)
    bits = top.bit_length()
    return scaled, [f"{bits}-bit gray scaled to 8-bit"]


def _scale_unknown_range(values: np.ndarray, signed_16: bool) -> tuple[np.ndarray, list[str]]:
    """32-bit values: the file does not say what is white, so the smallest usual range that holds
    all values is taken: 0..1 (floating point only), 0..255, 0..65535, 0..2^32-1; values outside
    all of these are stretched from their minimum to their maximum."""
    if not np.isfinite(values).all():
        raise NotFiniteError("it holds values that are not finite numbers")
    low, high = float(values.min()), float(values.max())
    if signed_16:
        low, high, said = -32768.0, 32767.0, "signed 16-bit gray scaled to 8-bit"
    elif low >= 0 and high <= _RANGES[-1]:
        ranges = (1.0, *_RANGES) if values.dtype.kind == "f" else _RANGES
        low, high = 0.0, next(top for top in ranges if high <= top)
        said = f"32-bit gray scaled from 0..{high:.0f} to 8-bit"
    else:
        said = f"32-bit gray stretched from {low:g}..{high:g} to 8-bit"
    scaled = (values.astype(np.float64) - low) * (255.0 / max(high - low, 1e-300))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8), [said]


def _convert_8_bit(image: Image.Image) -> tuple[np.ndarray, list[str]]:
    mode = image.mode
    if mode in ("L", "RGB") and "transparency" not in image.info:
        return np.asarray(image), []
    notes = []
    if mode in ("P", "PA"):
        notes.append("palette to RGB")
    elif mode == "1":
        notes.append("1-bit to 8-bit gray")
    elif mode not in ("L", "LA", "La", "RGB", "RGBA", "RGBa"):
        notes.append(f"{mode} to RGB")
    if _has_alpha(image):
        notes.append("transparency on white")
        return _on_white(image, gray=mode in ("1", "L", "LA", "La")), notes
    return np.asarray(image.convert("L" if mode in ("1", "L") else "RGB")), notes


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _on_white(image: Image.Image, *, gray: bool) -> np.ndarray:
    """What a person sees on a white page; colors of fully transparent pixels do not matter."""
    if image.mode == "La":
        image = image.convert("LA")
    values: Any = np.asarray(image.convert("RGBA")).astype(np.uint16)
    alpha = values[..., 3:]
    color = values[..., :1] if gray else values[..., :3]
    mixed = (color * alpha + 255 * (255 - alpha) + 127) // 255
    result: np.ndarray = mixed.astype(np.uint8)
    return result[..., 0] if gray else result
