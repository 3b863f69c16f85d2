"""Views: logits averaged over slightly different looks at every image (test-time augmentation)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from labelwise.errors import OptionError
from labelwise.nn.geometry import origins

LARGEST_SHIFT = 1024  # pixels


def parse_views(text: str) -> tuple[bool, int]:
    """Read "mirror, shift 1" or a part of it: whether to mirror, and pixels to shift by (0: not).

    Raises:
        OptionError: names what could not be read.
    """
    mirror, shift = False, 0
    for part in text.split(",") if text.strip() else []:
        words = part.split()
        if words == ["mirror"] and not mirror:
            mirror = True
        elif words[:1] == ["shift"] and not shift:
            shift = _pixels(part, words[1:])
        else:
            raise OptionError(
                f"views '{text}': '{part.strip()}' cannot be used. Give mirror, shift 1, or both "
                "with a comma, each once."
            )
    return mirror, shift


def predict_views(
    forward: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor, views: str
) -> torch.Tensor:
    """Average logits over views (Jordan 2024, arXiv:2404.00498, section 3.5).

    "shift 1" adds the image shifted by one pixel to the upper left and to the lower right, the
    border reflected; both together count as much as the image itself. "mirror" takes every view
    mirrored as well. "mirror, shift 1" are six views, so six times the work.

    Args:
        forward: images -> logits, float (N, K).
        pixels: (N, C, H, W) of any dtype.
        views: see `parse_views`; empty for the image alone.

    Returns:
        float (N, K).

    Raises:
        OptionError: the views cannot be read, or the shift is not smaller than the images.
    """
    mirror, shift = parse_views(views)
    height, width = pixels.shape[2:]
    if shift >= min(height, width):
        raise OptionError(
            f"views '{views}': images of {height}x{width} pixels cannot be shifted by {shift}. "
            f"Use shift {min(height, width) - 1} or less."
        )

    def logits(images: torch.Tensor) -> torch.Tensor:
        return (forward(images) + forward(images.flip(3))) / 2 if mirror else forward(images)

    plain = logits(pixels)
    if not shift:
        return plain
    corners = logits(_shifted(pixels, -shift)) + logits(_shifted(pixels, shift))
    return plain / 2 + corners / 4


def _shifted(pixels: torch.Tensor, by: int) -> torch.Tensor:
    """All images down and right by some pixels (negative: up and left), the border reflected."""
    shift = torch.tensor([by], device=pixels.device)
    rows, columns = (origins(size, shift)[0] for size in pixels.shape[2:])
    return pixels.index_select(2, rows).index_select(3, columns)


def _pixels(part: str, words: list[str]) -> int:
    word = " ".join(words)
    if not word.isdecimal() or len(word) > 4 or not 1 <= int(word) <= LARGEST_SHIFT:
        raise OptionError(
            f"views '{part.strip()}': a whole number of pixels from 1 to {LARGEST_SHIFT} is "
            f"expected behind shift, not {word!r}."
        )
    return int(word)
