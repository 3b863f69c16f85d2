"""Width: the layers of a network's text made wider or narrower, all by one factor."""

from __future__ import annotations

import math
import re

MULTIPLE = 16  # 24 filters take as long as 32: kernels for AVX-512 work on 16 at once
_WIDTH = re.compile(r"\b(conv|dense)(\s*)(\d+)")


def scaled(text: str, factor: float) -> str:
    """The layers with the widths of conv and dense multiplied; everything else stays as written.

    Args:
        factor: positive; 1 leaves the text as it is, others round to multiples of 16, at least 16.

    >>> scaled("2 x [conv48 3x3 relu, max 2], dense 20", 0.5)
    '2 x [conv32 3x3 relu, max 2], dense 16'
    """
    if factor == 1:
        return text

    def wider(layer: re.Match[str]) -> str:
        kind, space, width = layer.groups()
        times = max(1, math.floor(int(width) * factor / MULTIPLE + 0.5))
        return f"{kind}{space}{times * MULTIPLE}"

    return _WIDTH.sub(wider, text)
