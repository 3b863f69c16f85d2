"""Compressed tars: one pass writes the plain tar into the cache, where it is read at random.

A compressed tar can only be read from its beginning. The copy has a name of our own, and no path
inside of the archive ever becomes one on the disk.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import filelock

from labelwise.data.cache import cache_folder
from labelwise.data.members import MAX_RATIO, MAX_TOTAL, LimitError
from labelwise.data.source import file_stamp
from labelwise.files import remove_temporary, write_file, write_text

#: Bytes of plain tars that stay in the cache; beyond, those that were used longest ago are removed.
KEPT_BYTES = 32 * 2**30
#: Up to so many bytes any compression is believed.
RATIO_FROM = 256 * 2**20

_CHUNK = 2**18
_XZ_MEMORY = 512 * 2**20  # the strongest preset needs 65 MB; a header may ask for gigabytes
_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}


def compression(file: Path) -> str | None:
    """How a file is compressed as a whole, by its first bytes: gzip, bzip2, xz or None."""
    with file.open("rb") as opened:
        head = opened.read(8)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def unpacked(file: Path) -> tuple[Path, str | None]:
    """The plain copy of a compressed tar, and what is damaged: all before the damage is there.

    Raises:
        LimitError: it expands beyond MAX_TOTAL, or by more than MAX_RATIO.
        OSError: the archive cannot be read, or the cache folder cannot take the copy.
    """
    folder = cache_folder() / "archives"
    copy = folder / f"{hashlib.sha256(repr(file_stamp(str(file))).encode()).hexdigest()[:32]}.tar"
    if not copy.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock"):
            if not copy.exists():
                remove_temporary(folder)
                write_file(copy, lambda target: _expand(file, target, copy))
                _remove_oldest(folder, copy)
    os.utime(copy)
    note = copy.with_suffix(".txt")
    return copy, note.read_text("utf-8") if note.exists() else None


def _expand(file: Path, target: IO[bytes], copy: Path) -> None:
    written = 0
    with file.open("rb") as source:
        chunks = _chunks(source, compression(file))
        while True:
            try:
                chunk = next(chunks, b"")
            except _ERRORS as error:
                said = " ".join(str(error).split()) or type(error).__name__
                write_text(copy.with_suffix(".txt"), said)
                return
            if not chunk:
                return
            written += len(chunk)
            _check_limits(written, source.tell())
            target.write(chunk)


def _check_limits(written: int, read: int) -> None:
    if written > MAX_TOTAL:
        raise LimitError(f"expands to more than {MAX_TOTAL // 2**30} GB")
    if written > RATIO_FROM and written > MAX_RATIO * read:
        raise LimitError(f"expands to more than {MAX_RATIO} times its size")


def _chunks(source: IO[bytes], kind: str | None) -> Iterator[bytes]:
    """The decompressed bytes, never more than a chunk at once."""
    if kind == "gzip":
        with gzip.GzipFile(fileobj=source) as opened:
            yield from iter(
                lambda: opened.read1(_CHUNK), b""
            )  # read() would drop what precedes damage
    elif kind == "bzip2":
        yield from _streams(source, bz2.BZ2Decompressor)
    else:
        yield from _streams(
            source, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        )


def _streams(source: IO[bytes], make: Callable[[], Any]) -> Iterator[bytes]:
    """One compressed stream after the other: parallel compressors write several."""
    data = source.read(_CHUNK)
    while data:
        engine = make()
        while not engine.eof:
            if chunk := engine.decompress(data, _CHUNK):
                yield chunk
            data = source.read(_CHUNK) if engine.needs_input and not engine.eof else b""
            if engine.needs_input and not engine.eof and not data:
                raise EOFError("the compressed data end early")
        data = (engine.unused_data or source.read(_CHUNK)).lstrip(b"\0")


def _remove_oldest(folder: Path, newest: Path) -> None:
    kept = 0
    for copy in sorted(folder.glob("*.tar"), key=lambda path: -path.stat().st_mtime):
        kept += copy.stat().st_size
        if copy != newest and kept > KEPT_BYTES:
            copy.unlink(missing_ok=True)
            copy.with_suffix(".txt").unlink(missing_ok=True)
