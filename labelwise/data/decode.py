"""One decision per file: used, used after conversion, or set aside with the reason."""

from __future__ import annotations

import io
import stat
import struct
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from labelwise.data.convert import UPRIGHT, NotFiniteError, convert
from labelwise.data.dataset import CONVERTED, SET_ASIDE, USED, Size
from labelwise.data.quiet import quiet

#: Part of the cache key: raise it whenever a decision or a pixel could come out differently.
DECODER_VERSION = 2

#: Part of the key of all that comes of images decoded at a smaller scale; see `_shrink`.
SCALING_VERSION = 1
SCALED_FROM = 512  # pixels of the short side; of smaller images a scale would be seen
# At the next scale above the size asked for, embeddings of photos differ up to a cosine of 0.987
# (41 photos, 64 to 224 px); from twice that size, 0.998, for 20 to 50 % more time.
MARGIN = 2

MAX_PIXELS = 100_000_000
MAX_BYTES = 256 * 2**20

EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
}
_FORMAT_OF = {suffix: name for name, suffixes in EXTENSIONS.items() for suffix in suffixes}
_NAMES = {"WEBP": "WebP"}  # as people write it, where that differs from Pillow's name

_HEAD = 32  # bytes that tell the format
_NOT_AN_IMAGE = "not an image: none of JPEG, PNG, GIF, BMP, WebP, TIFF"
_ORIENTATION = 0x0112
_TIFF_BITS = 258


@dataclass(frozen=True, eq=False)
class Decoded:
    """What came of one file.

    Attributes:
        pixels: uint8, (H, W) if gray or (H, W, 3) if RGB, upright; None if set aside.
        decision: "used", "converted" or "set aside".
        reason: what was converted, several joined by "; ", or why it was set aside.
        width, height: pixels of the upright image at full size; None if not known.
        mode: "L" or "RGB"; None if set aside.
    """

    pixels: np.ndarray | None
    decision: str
    reason: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None

    @property
    def full(self) -> Size | None:
        """Height and width at full size; None if not known."""
        return None if self.width is None or self.height is None else (self.height, self.width)


def set_aside(reason: str, size: tuple[int, int] | None = None) -> Decoded:
    """The decision for a file that cannot be used."""
    width, height = size or (None, None)
    return Decoded(None, SET_ASIDE, reason, width, height)


def decode(source: Path | bytes, name: str | None = None, at_least: Size | None = None) -> Decoded:
    """Decode an image completely and decide about it. Never raises for the file's content.

    Args:
        source: the path of a file, or its bytes.
        name: the file's name, to notice a wrong extension; by default that of the path.
        at_least: height and width that do: a JPEG of SCALED_FROM pixels or more is decoded at 1/2,
            1/4 or 1/8 of its size, the smallest with MARGIN times that; left open: at full size.

    Returns:
        A `Decoded`: pixels and a decision, or "set aside" and the reason.
    """
    if isinstance(source, Path):
        name = source.name if name is None else name
        loaded = read_bytes(source)
        if isinstance(loaded, Decoded):
            return loaded
        source = loaded
    if not source:
        return set_aside("empty: the file has 0 bytes")
    if len(source) > MAX_BYTES:
        return too_many_bytes(len(source))
    format_name = sniff(source)
    if format_name is None:
        return set_aside(_NOT_AN_IMAGE)
    try:
        with quiet:
            return _decode(source, format_name, wrong_extension(format_name, name), at_least)
    except MemoryError:
        return set_aside("too large: decoding it needs more memory than there is")
    except Image.DecompressionBombError:
        return set_aside(f"too large: more than {MAX_PIXELS // 10**6} million pixels")
    except NotFiniteError as error:
        return set_aside(f"unreadable: {error}")
    except UnidentifiedImageError:
        return set_aside(f"unreadable: a {_say(format_name)} whose header is damaged")
    except Exception as error:  # on hostile bytes Pillow raises nearly every type there is
        return set_aside(_unreadable(error))


def read_bytes(path: Path) -> bytes | Decoded:
    """The bytes of a file, or the decision that it cannot be read or starts like no image."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            return set_aside("not an image: not a regular file")
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if head and sniff(head) is None:
                return set_aside(_NOT_AN_IMAGE)
            if (size := file.seek(0, io.SEEK_END)) > MAX_BYTES:
                return too_many_bytes(size)
            file.seek(0)
            return file.read()
    except MemoryError:
        return set_aside("too large: reading it needs more memory than there is")
    except FileNotFoundError:
        return set_aside("file not found")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        said = getattr(error, "strerror", None)
        return set_aside(f"unreadable: {said or 'the file cannot be opened'}")


def too_many_bytes(size: int) -> Decoded:
    """The decision for a file above the limit of bytes."""
    return set_aside(f"too large: {size / 2**20:.0f} MB; the limit is {MAX_BYTES // 2**20} MB")


def sniff(data: bytes) -> str | None:
    """The format that the first bytes announce, by Pillow's name, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    # Two letters alone would make an image of any text; the header's length is small.
    if data.startswith(b"BM") and len(data) >= 18 and struct.unpack_from("<I", data, 14)[0] < 256:
        return "BMP"
    return None


def wrong_extension(format_name: str, name: str | None) -> str | None:
    """A note if a file is named like another image format, else None."""
    suffix = PurePath(name).suffix.lower() if name else ""
    if _FORMAT_OF.get(suffix, format_name) == format_name:
        return None
    return f"is a {_say(format_name)} though named {suffix}"


def _decode(data: bytes, format_name: str, note: str | None, at_least: Size | None) -> Decoded:
    with Image.open(io.BytesIO(data), formats=(format_name,)) as image:
        if problem := _size_problem(*image.size):
            return set_aside(problem, image.size)
        full, size = None, image.size
        bits = _bits(image, data)
        turn = _orientation(image) if format_name == "TIFF" else 1  # load() turns a TIFF itself
        if format_name == "JPEG" and at_least is not None:
            full = _shrink(image, at_least)
        image.load()
        if format_name == "JPEG" and not _has_end(data):
            return set_aside("truncated: its end marker is missing", size)
        pixels, notes = convert(image, bits)
        if format_name != "TIFF" and (turn := _orientation(image)) in UPRIGHT:
            pixels = UPRIGHT[turn](pixels)
        if turn in UPRIGHT:
            notes.insert(0, "EXIF turn applied")
        notes += _frames(image)
    notes += [note] if note else []
    pixels = np.ascontiguousarray(pixels)
    height, width = full or pixels.shape[:2]
    mode = "L" if pixels.ndim == 2 else "RGB"
    decision = CONVERTED if notes else USED
    return Decoded(pixels, decision, "; ".join(notes) or None, width, height, mode)


def _shrink(image: ImageFile.ImageFile, at_least: Size) -> Size:
    """Tell the JPEG decoder which scale will do, and give the upright height and width in full.

    The mean over 2 x 2, 4 x 4 or 8 x 8 pixels comes from a block's coefficients, with less work.
    """
    width, height = image.size
    quarter_turn = _orientation(image) in (5, 6, 7, 8)
    if min(width, height) >= SCALED_FROM:
        tall, wide = (MARGIN * side for side in at_least)
        image.draft(None, (tall, wide) if quarter_turn else (wide, tall))
    return (width, height) if quarter_turn else (height, width)


def _size_problem(width: int, height: int) -> str | None:
    if width < 1 or height < 1:
        return f"unreadable: its size is {width} x {height} pixels"
    if width * height > MAX_PIXELS:
        return (
            f"too large: {width} x {height} pixels; "
            f"the limit is {MAX_PIXELS // 10**6} million pixels"
        )
    return None


def _bits(image: ImageFile.ImageFile, data: bytes) -> int:
    """Bits per channel as the file declares them."""
    if image.format == "PNG" and len(data) > 24:
        return data[24]
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(_TIFF_BITS, 8)
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    return 8


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF says nothing about the pixels: they stay as they are
        return 1


def _has_end(data: bytes) -> bool:
    """True if a JPEG's last scan has an end marker.

    A file whose tail was lost to zeros decodes without an error, partly gray.
    """
    return data.find(b"\xff\xd9", max(data.rfind(b"\xff\xda"), 0)) >= 0


def _frames(image: Image.Image) -> list[str]:
    try:
        several = bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame: the first one is whole
        several = True
    if not several:
        return []
    kind = {"TIFF": "first page of several", "MPO": "first picture of several"}
    return [kind.get(image.format or "", "first frame of an animation")]


def _say(format_name: str) -> str:
    return _NAMES.get(format_name, format_name)


def _unreadable(error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    said = said.encode("ascii", "backslashreplace").decode()[:200]
    cut = any(word in said.lower() for word in ("truncated", "unexpected end", "not enough"))
    return f"truncated: {said}" if cut else f"unreadable: {said}"
