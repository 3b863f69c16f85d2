"""Decisions about files that were seen before: an unchanged file is not opened again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import PIL

from labelwise.data.decode import DECODER_VERSION
from labelwise.data.source import Stamp

_SCHEMA = """
CREATE TABLE IF NOT EXISTS stamp (
    place BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, digest BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decision (
    digest BLOB PRIMARY KEY, decision TEXT, reason TEXT, width INTEGER, height INTEGER,
    mode TEXT, content TEXT, thumb_height INTEGER, thumb_width INTEGER, thumb BLOB);
"""
_COLUMNS = "decision, reason, width, height, mode, content, thumb_height, thumb_width, thumb"
_TIMEOUT_SECONDS = 20.0
_AT_ONCE = 500  # parameters of one query; old SQLite allows 999


@dataclass(frozen=True, eq=False, slots=True)
class Record:
    """What is known about one image: the decision, and what finds its duplicates.

    `thumb` is a gray uint8 image of at most 64 x 64 pixels; content and thumb are None for an
    image that was set aside.
    """

    decision: str
    reason: str | None
    width: int | None
    height: int | None
    mode: str | None
    content: str | None
    thumb: np.ndarray | None


def cache_folder() -> Path:
    """Where labelwise keeps what can be computed again: LABELWISE_CACHE or ~/.cache/labelwise."""
    given = os.environ.get("LABELWISE_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "labelwise"


def digest_of(data: bytes, name: str | None) -> bytes:
    """Key of a decision: the bytes, the extension, and the versions that decoded them."""
    suffix = PurePath(name).suffix.lower() if name else ""
    versions = f"{DECODER_VERSION} {PIL.__version__} {suffix}".encode("utf-8", "backslashreplace")
    return hashlib.sha256(hashlib.sha256(data).digest() + versions).digest()


class Cache:
    """A SQLite file of decisions; safe with several threads and processes, and when killed.

    Whatever goes wrong with the file, the cache turns itself off, says so once in `warnings`, and
    everything is computed as if it were empty.
    """

    def __init__(self, folder: Path) -> None:
        self.warnings: list[str] = []
        self._file = folder / "images.sqlite"
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self._file, timeout=_TIMEOUT_SECONDS, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            self._turn_off(error)

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._close()

    def by_stamp(self, stamps: Sequence[Stamp]) -> dict[Stamp, Record]:
        """Records of the stamps that are known and unchanged."""
        query = f"SELECT place, size, mtime, {_COLUMNS} FROM stamp JOIN decision USING (digest) "
        wanted, found = set(stamps), {}
        for start in range(0, len(stamps), _AT_ONCE):
            places = [stamp.place for stamp in stamps[start : start + _AT_ONCE]]
            marks = ",".join("?" * len(places))
            for row in self._select(f"{query} WHERE place IN ({marks})", places):
                if (stamp := Stamp(row[0], row[1], row[2])) in wanted:
                    found[stamp] = _record(row[3:])
        return found

    def by_digest(self, digest: bytes) -> Record | None:
        """The record of an image with the same bytes and extension, wherever it was seen."""
        rows = self._select(f"SELECT {_COLUMNS} FROM decision WHERE digest = ?", [digest])
        return _record(rows[0]) if rows else None

    def add(self, items: Iterable[tuple[Stamp, bytes, Record]]) -> None:
        """Remember decisions, all or none."""
        items = list(items)
        with self._lock:
            if self._connection is None:
                return
            try:
                with self._connection as connection:
                    connection.executemany(
                        "INSERT OR REPLACE INTO decision VALUES (?,?,?,?,?,?,?,?,?,?)",
                        [(digest, *_values(record)) for _, digest, record in items],
                    )
                    connection.executemany(
                        "INSERT OR REPLACE INTO stamp VALUES (?,?,?,?)",
                        [(*stamp, digest) for stamp, digest, _ in items],
                    )
            except sqlite3.Error as error:
                self._turn_off(error)

    def _select(self, query: str, values: Sequence[bytes]) -> list[tuple[Any, ...]]:
        with self._lock:
            if self._connection is None:
                return []
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                self._turn_off(error)
                return []

    def _turn_off(self, error: Exception) -> None:
        self.warnings.append(
            f"the cache {self._file} cannot be used ({error}), so images are decoded afresh; "
            "delete the file, or set LABELWISE_CACHE to a folder that can be written"
        )
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _values(record: Record) -> tuple[object, ...]:
    thumb = record.thumb
    shape = (None, None, None) if thumb is None else (*thumb.shape, thumb.tobytes())
    return (
        record.decision,
        record.reason,
        record.width,
        record.height,
        record.mode,
        record.content,
        *shape,
    )


def _record(values: Sequence[Any]) -> Record:
    decision, reason, width, height, mode, content, rows, columns, blob = values
    thumb = None
    if blob is not None:
        thumb = np.frombuffer(blob, dtype=np.uint8).reshape(rows, columns)
    return Record(decision, reason, width, height, mode, content, thumb)
