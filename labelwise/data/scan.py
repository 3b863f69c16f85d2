"""Look at every image of a source once: decide, hash the pixels, keep a thumbnail."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from labelwise.data.cache import Cache, Record, digest_of
from labelwise.data.dataset import SET_ASIDE, Size
from labelwise.data.decode import Decoded, decode
from labelwise.data.quiet import quiet
from labelwise.data.source import Advance, Encoded, Source, Stamp

THUMB_SIDE = 64
# Photos are looked at from twice this size on, so that a JPEG of 12 megapixels takes a third of the
# time: enough for a thumbnail, and for a hash that tells all but equal pictures apart.
LOOKED_AT = (256, 256)
_CHUNK = 32  # images of one task: much smaller than a source, much longer than starting a task
_REMEMBER = 1024  # images written to the cache in one go
_WHAT = "looking at images"

_Found = tuple[int, Stamp | None, bytes | None, Record]


def scan(source: Source, cache: Cache, progress: Advance | None = None) -> list[Record]:
    """One record per row of a source, in order; unchanged files come from the cache."""
    records: dict[int, Record] = {
        row: Record(SET_ASIDE, reason, None, None, None, None, None)
        for row, reason in source.set_aside.items()
    }
    rows = [row for row in range(len(source.paths)) if row not in records]
    stamps = {row: source.pixels.stamp(row) for row in rows}
    known = cache.by_stamp([stamp for stamp in stamps.values() if stamp])
    records.update((row, known[stamp]) for row, stamp in stamps.items() if stamp in known)
    new = [row for row in rows if row not in records]
    remember: list[tuple[Stamp, bytes, Record]] = []
    try:
        for found in _look(source.pixels, cache, [(row, stamps[row]) for row in new]):
            records.update((row, record) for row, _, _, record in found)
            remember += [(stamp, key, record) for _, stamp, key, record in found if stamp and key]
            if len(remember) >= _REMEMBER:
                cache.add(remember)
                remember = []
            if progress:
                progress(len(records) - len(source.set_aside), len(rows), _WHAT)
    finally:  # an interrupted scan goes on where it stopped
        cache.add(remember)
    if progress and not new:
        progress(len(rows), len(rows), _WHAT)
    return [records[row] for row in range(len(source.paths))]


def _look(
    pixels: Encoded, cache: Cache, rows: Sequence[tuple[int, Stamp | None]]
) -> Iterator[list[_Found]]:
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]

    def work(chunk: Sequence[tuple[int, Stamp | None]]) -> list[_Found]:
        return [(row, stamp, *_one(pixels, row, cache)) for row, stamp in chunk]

    with quiet, ThreadPoolExecutor(threads(), "labelwise-scan") as pool:
        try:
            yield from pool.map(work, chunks)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _one(pixels: Encoded, row: int, cache: Cache) -> tuple[bytes | None, Record]:
    data = pixels.encoded(row)
    if isinstance(data, Decoded):
        return None, record_of(data)
    digest = digest_of(data, pixels.file_name(row))
    known = cache.by_digest(digest)
    return digest, known or record_of(decode(data, pixels.file_name(row), LOOKED_AT))


def threads() -> int:
    """The cores that this process may use, with a thread that decodes on each."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def record_of(decoded: Decoded) -> Record:
    """What is kept of a decoded image: everything but its pixels."""
    content = thumb = None
    if decoded.pixels is not None:
        content, thumb = content_hash(decoded.pixels, decoded.full), thumbnail(decoded.pixels)
    return Record(
        decoded.decision,
        decoded.reason,
        decoded.width,
        decoded.height,
        decoded.mode,
        content,
        thumb,
    )


def content_hash(pixels: np.ndarray, full: Size | None = None) -> str:
    """Equal for equal decoded pixels: BLAKE2b-128 over mode, width, height and the pixel bytes.

    Args:
        full: height and width of an image that was decoded at a smaller scale.
    """
    height, width = full or pixels.shape[:2]
    mode = "L" if pixels.ndim == 2 else "RGB"
    digest = hashlib.blake2b(f"{mode} {width} {height} ".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Gray uint8 copy of at most 64 x 64 pixels; a side that is smaller keeps its length.

    Each pixel is the mean over its area, so a re-encoded or resized copy gives nearly the same.
    """
    image = Image.fromarray(pixels)
    if pixels.ndim == 3:
        image = image.convert("L")
    size = (min(image.width, THUMB_SIDE), min(image.height, THUMB_SIDE))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BOX)
    return np.array(image)
