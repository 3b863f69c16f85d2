"""Makes pictures and odd image files for tests."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int = 0, width: int = 40, height: int = 30, gray: bool = False) -> np.ndarray:
    """A smooth random picture, uint8 (height, width, 3) or (height, width)."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image.convert("L") if gray else image)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(path: Path, seed: int = 0, **options: Any) -> Path:
    """An image file, of the format its name says; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, **options)).save(path)
    return path


def class_folders(root: Path, counts: dict[str, int]) -> Path:
    """A folder with class folders of different PNG pictures."""
    seed = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            write(root / name / f"{number:03}.png", seed)
            seed += 1
    return root


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header claims any size, with hardly any pixels behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def upright_and_turned(orientation: int) -> tuple[np.ndarray, bytes]:
    """A picture, and the PNG of a camera that was held so that this EXIF orientation rights it."""
    from PIL import ImageOps

    stored = Image.fromarray(picture(1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image)), data
