"""Sprites: small copies of many images on a few sheets, within a number of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from labelwise.data.dataset import Images
from labelwise.data.scan import threads
from labelwise.errors import LabelwiseError

SIDES = (128, 96, 64, 48, 32)  # pixels of a tile's side, the first that fits
SHEET = 512  # pixels of a sheet's side, at most: decoded in a few milliseconds
QUALITY = 80
TINY = 40  # up to this side a sheet may be smaller as PNG, which then is exact
TRIED = 256  # images by which the size of all is estimated
SPARE = 0.97  # of the bytes: an estimate is none too exact
SEED = 0


@dataclass(frozen=True)
class Sheet:
    """Tiles in rows, as base64 of an image file of type `kind`."""

    kind: str
    text: str


@dataclass(frozen=True)
class Sprites:
    """Small copies of N images.

    Attributes:
        side: of a tile in pixels.
        columns: tiles in a row of a sheet, and rows in a sheet.
        sheets: filled one after another.
        slots: number of every image's tile, counted over all sheets; int64 (N,), -1 without one.
        sizes: width and height of the image within its tile, from the tile's top left corner;
            int64 (N, 2).
    """

    side: int
    columns: int
    sheets: tuple[Sheet, ...]
    slots: np.ndarray
    sizes: np.ndarray


def sprites(images: Images, limit: int, advance: Callable[[int, int], object]) -> Sprites:
    """Tiles as large as the limit allows; if not even the smallest fit, those of a sample.

    Args:
        limit: bytes of all sheets as base64.
        advance: told the number of images done and of all.
    """
    order = np.random.default_rng(SEED).permutation(len(images))
    side = _side(images, order, limit)
    columns = max(1, SHEET // side)
    slots = np.full(len(images), -1)
    sizes = np.zeros((len(images), 2), np.int64)
    sheets: list[Sheet] = []
    each, size = columns * columns, 0
    for number, (positions, sheet, drawn) in enumerate(_sheets(images, order, side, columns)):
        size += len(sheet.text)
        if size > limit:
            break
        sheets.append(sheet)
        there = drawn[:, 0] > 0
        slots[positions] = np.where(there, number * each + np.arange(len(positions)), -1)
        sizes[positions] = drawn
        advance(min((number + 1) * each, len(images)), len(images))
    return Sprites(side, columns, tuple(sheets), slots, sizes)


def _side(images: Images, order: np.ndarray, limit: int) -> int:
    """The largest side at which all tiles are expected to fit, else the smallest."""
    largest = int(images.sizes.max(initial=1))
    own = min(SIDES[0], -(-largest // 8) * 8)  # whole blocks of JPEG, and no image is enlarged
    sides = [own, *(side for side in SIDES if side < own)]
    some = order[:TRIED]
    for side in sides[:-1]:
        columns = max(1, SHEET // side)
        size = sum(len(sheet.text) for _, sheet, _ in _sheets(images, some, side, columns))
        if size * len(images) <= SPARE * limit * max(len(some), 1):
            return side
    return sides[-1]


def _sheets(
    images: Images, order: np.ndarray, side: int, columns: int
) -> Iterator[tuple[list[int], Sheet, np.ndarray]]:
    """Sheets in order: positions of the images, the sheet, sizes of the tiles (n, 2)."""

    def one(positions: Sequence[int]) -> tuple[list[int], Sheet, np.ndarray]:
        found = [tile(images, position, side) for position in positions]
        return list(positions), *_assembled(found, side, columns)

    each = columns * columns
    parts = [order[start : start + each].tolist() for start in range(0, len(order), each)]
    with ThreadPoolExecutor(threads(), "labelwise-sprites") as pool:
        for start in range(0, len(parts), threads()):  # only these are in memory
            yield from pool.map(one, parts[start : start + threads()])


def tile(images: Images, position: int, side: int) -> np.ndarray | None:
    """A small copy of an image, uint8 (h, w) or (h, w, 3) with sides up to `side`; None if the
    file is gone or has changed."""
    try:
        pixels = images.read(position, (side, side))
    except (LabelwiseError, OSError, ValueError):
        return None
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    # Of a large photo every k-th pixel, four times more than needed, is enough to begin with.
    step = max(1, max(height, width) // (4 * side))
    small = Image.fromarray(np.ascontiguousarray(pixels[::step, ::step]))
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(small.resize(size, Image.Resampling.LANCZOS))


def _assembled(
    tiles: Sequence[np.ndarray | None], side: int, columns: int
) -> tuple[Sheet, np.ndarray]:
    """The sheet of some tiles, and their sizes, int64 (n, 2)."""
    color = any(found is not None and found.ndim == 3 for found in tiles)
    rows, used = -(-len(tiles) // columns), min(columns, len(tiles))
    sheet = np.zeros((rows * side, used * side, *((3,) if color else ())), np.uint8)
    sizes = np.zeros((len(tiles), 2), np.int64)
    for number, found in enumerate(tiles):
        if found is None:
            continue
        if color and found.ndim == 2:
            found = np.repeat(found[:, :, None], 3, axis=2)
        height, width = found.shape[:2]
        # Its edge goes on around an image: JPEG then adds no ringing of its own.
        around = ((0, side - height), (0, side - width), *(((0, 0),) if color else ()))
        top, left = number // columns * side, number % columns * side
        sheet[top : top + side, left : left + side] = np.pad(found, around, mode="edge")
        sizes[number] = width, height
    return _encoded(sheet, side), sizes


def _encoded(sheet: np.ndarray, side: int) -> Sheet:
    image = Image.fromarray(sheet)
    files = {"image/jpeg": _file(image, "JPEG", quality=QUALITY, optimize=True)}
    if side <= TINY:
        files["image/png"] = _file(image, "PNG")
    kind = min(files, key=lambda name: len(files[name]))
    return Sheet(kind, base64.b64encode(files[kind]).decode())


def _file(image: Image.Image, kind: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
