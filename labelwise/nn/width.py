"""Width: the layers of a network's text made wider or narrower, all by one factor."""

from __future__ import annotations

import math
import re

MULTIPLE = 8  # widths that are no multiple of it leave part of a processor's vectors empty
_WIDTH = re.compile(r"\b(conv|dense)(\s*)(\d+)")


def scaled(text: str, factor: float) -> str:
    """The layers with the widths of conv and dense multiplied; everything else stays as written.

    Args:
        factor: positive; 1 leaves the text as it is, others round to multiples of 8, at least 8.

    >>> scaled("2 x [conv48 3x3 relu, max 2], dense 20", 0.5)
    '2 x [conv24 3x3 relu, max 2], dense 8'
    """
    if factor == 1:
        return text

    def wider(layer: re.Match[str]) -> str:
        kind, space, width = layer.groups()
        times = max(1, math.floor(int(width) * factor / MULTIPLE + 0.5))
        return f"{kind}{space}{times * MULTIPLE}"

    return _WIDTH.sub(wider, text)
