"""Thumbnails: small copies of the images that are shown, each embedded once, within limits."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from PIL import Image

from labelwise.data.dataset import Dataset
from labelwise.errors import LabelwiseError

SIDE = 96  # pixels of the longer side, at most
TINY = 40  # up to this side an image is kept as it is, and the page draws its pixels large
QUALITY = 80
MOST_IMAGES = 2_000
MOST_BYTES = 9_000_000  # of data URIs; leaves room for the page around them
MOST_PIXELS = 1_000_000_000  # decoded in all: large photos must not make the report slow
_CHUNK = 64  # images decoded between two looks at the limits


class Album:
    """Collects which images a page shows, the most important first, and embeds what fits."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._wanted: dict[int, None] = {}

    def add(self, rows: Iterable[int]) -> None:
        """Ask for the thumbnails of some table rows; those asked for first go first."""
        self._wanted.update(dict.fromkeys(int(row) for row in rows))

    @property
    def rows(self) -> list[int]:
        """What was asked for, in this order."""
        return list(self._wanted)

    def embed(self) -> dict[str, str]:
        """Data URI by row number (as text, for JSON), for as many images as the limits allow."""
        rows = self._affordable()
        found: dict[str, str] = {}
        size = 0
        with ThreadPoolExecutor(max_workers=2) as pool:  # Pillow decodes without holding the lock
            for start in range(0, len(rows), _CHUNK):
                chunk = rows[start : start + _CHUNK]
                for row, uri in zip(chunk, pool.map(self._uri, chunk), strict=True):
                    size += len(uri or "")
                    if size > MOST_BYTES:
                        return found
                    if uri is not None:
                        found[str(row)] = uri
        return found

    def _affordable(self) -> list[int]:
        """The first rows asked for whose pixels can be decoded within the limits."""
        usable = set(self.dataset.usable.tolist())
        rows = [row for row in self._wanted if row in usable][:MOST_IMAGES]
        table = self.dataset.table
        sizes = (table["width"].fillna(0) * table["height"].fillna(0)).to_numpy(dtype=np.int64)
        within = np.cumsum(sizes[rows]) <= MOST_PIXELS if rows else np.zeros(0, dtype=bool)
        return [row for row, fits in zip(rows, within, strict=True) if fits]

    def _uri(self, row: int) -> str | None:
        try:
            return data_uri(self.dataset.images([row]).read(0))
        except (LabelwiseError, OSError, ValueError):
            return None  # the file is gone or has changed; the page says that it is not there


def data_uri(pixels: np.ndarray) -> str:
    """A small copy of an image, uint8 (H, W) or (H, W, 3), as a data URI."""
    # Of a large photo every k-th pixel, four times more than needed, is enough to begin with.
    step = max(1, max(pixels.shape[:2]) // (4 * SIDE))
    image = Image.fromarray(np.ascontiguousarray(pixels[::step, ::step]))
    if max(image.size) <= TINY:
        return uri_of(image, "png")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return uri_of(image)


def uri_of(image: Image.Image, kind: Literal["jpeg", "png"] = "jpeg") -> str:
    """An image in its own size as a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=QUALITY, optimize=True)  # quality is of JPEG only
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
