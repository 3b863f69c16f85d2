"""The store: what was computed once for an image is never computed again.

A store is a folder of *shards* for one key, where the key says everything that decides the values
(what is stored, weights, size, resize, library versions). A shard is a `.npy` file of rows and an
`.ids` file of the images' pixel hashes; the ids are published last, so a shard without ids does not
exist yet. Shards are only ever added, whole, under random names: two processes and a kill at any
moment are safe, and at worst a row is computed twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np

from labelwise.data.cache import cache_folder
from labelwise.files import remove_temporary, write_file, write_json

SHARD = 2048  # images; also the most work that a kill can cost
ABANDONED = 24 * 3600.0  # seconds after which nobody writes to a temporary file any more


@dataclass(frozen=True)
class Mapped:
    """Rows in memory-mapped shards. Emptying the store does not disturb one that is in use.

    Attributes:
        shards: arrays (n, *shape).
        places: shard and row of every image; int64 (N, 2).
        shape, dtype: of a row.
    """

    shards: tuple[np.ndarray, ...]
    places: np.ndarray
    shape: tuple[int, ...]
    dtype: str

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        """The rows of some images, (n, *shape), in memory."""
        found = [self.shards[shard][row] for shard, row in self.places[index].tolist()]
        return np.stack(found) if found else np.empty((0, *self.shape), self.dtype)


INDEXED = 10**6  # rows of all stores whose places a process remembers: about 300 MB
#: what this process has read of the stores: folder -> (shards, pixel hash -> (shard, row))
_INDEX: dict[Path, tuple[set[str], dict[str, tuple[str, int]]]] = {}

#: computes rows for the images at some positions: yields arrays (n, ...) in order
Compute = Callable[[np.ndarray], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Store:
    """Rows of one kind, by pixel hash.

    Attributes:
        folder: where the shards are.
        shape: of a row.
        dtype: of a row.
    """

    folder: Path
    shape: tuple[int, ...]
    dtype: str

    @staticmethod
    def open(
        key: Mapping[str, object], shape: Sequence[int], dtype: str, root: Path | None = None
    ) -> Store:
        """The store of one key, under `root` (default: the cache folder)."""
        text = json.dumps({**key, "shape": list(shape), "dtype": dtype}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        folder = (root or store_folder()) / digest
        if not (folder / "key.json").exists():
            try:
                write_json(folder / "key.json", json.loads(text))
            except OSError as error:
                _warn_once(store_folder(), error.strerror or str(error))
        return Store(folder, tuple(shape), dtype)

    def missing(self, contents: Sequence[str]) -> np.ndarray:
        """Positions whose rows are not there yet, each content once; int64."""
        places = self._places()
        first: dict[str, int] = {}
        for position, content in enumerate(contents):
            if content not in places:
                first.setdefault(content, position)
        return np.array(list(first.values()), dtype=np.int64)

    def mapped(self, contents: Sequence[str], compute: Compute) -> Mapped:
        """The same as `rows`, but left on disk until they are asked for.

        Raises:
            OSError: what is missing cannot be written.
        """
        missing = self.missing(contents)
        for start in range(0, len(missing), SHARD):
            part = missing[start : start + SHARD]
            rows = np.concatenate(list(compute(part))).astype(self.dtype, copy=False)
            self._add([contents[position] for position in part], rows)
        places = self._places()
        found = [places[content] for content in contents]
        shards = {name: number for number, name in enumerate(dict.fromkeys(n for n, _ in found))}
        return Mapped(
            tuple(np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in shards),
            np.array([(shards[name], row) for name, row in found], np.int64).reshape(-1, 2),
            self.shape,
            self.dtype,
        )

    def rows(self, contents: Sequence[str], compute: Compute) -> np.ndarray:
        """The rows of some images, computing and keeping those that are missing.

        Args:
            contents: N pixel hashes.
            compute: called with the positions that are missing, at most SHARD at a time.

        Returns:
            (N, *shape), in the order of `contents`. What cannot be written, as on a full disk, is
            only returned, with a warning once per process.
        """
        missing = self.missing(contents)
        unsaved: dict[str, np.ndarray] = {}
        for start in range(0, len(missing), SHARD):
            part = missing[start : start + SHARD]
            rows = np.concatenate(list(compute(part))).astype(self.dtype, copy=False)
            names = [contents[position] for position in part]
            try:
                self._add(names, rows)
            except OSError as error:
                _warn_once(store_folder(), error.strerror or str(error))
                unsaved.update(zip(names, rows, strict=True))
        return self._gather(contents, unsaved)

    def _gather(self, contents: Sequence[str], unsaved: Mapping[str, np.ndarray]) -> np.ndarray:
        """Rows in the order asked for, from the shards and from what could not be written."""
        places = self._places()
        shards: dict[str, list[tuple[int, int]]] = {}
        result = np.empty((len(contents), *self.shape), dtype=self.dtype)
        for position, content in enumerate(contents):
            if content in unsaved:
                result[position] = unsaved[content]
                continue
            name, row = places[content]
            shards.setdefault(name, []).append((position, row))
        for name, pairs in shards.items():
            to, row = np.array(pairs).T
            result[to] = np.load(self.folder / f"{name}.npy", mmap_mode="r")[row]
        return result

    def _places(self) -> dict[str, tuple[str, int]]:
        """Pixel hash -> (shard, row). A shard never changes, so that its ids are read once."""
        listed = {(path.suffix, path.stem) for path in self.folder.glob("*.[in]*")}
        names = {stem for suffix, stem in listed if suffix == ".ids" and (".npy", stem) in listed}
        known, places = _INDEX.get(self.folder, (set(), {}))
        if not known <= names:  # the stores were emptied meanwhile
            known, places = set(), {}
        for name in sorted(names - known):
            contents = (self.folder / f"{name}.ids").read_text().split()
            places.update({content: (name, row) for row, content in enumerate(contents)})
        _INDEX.pop(self.folder, None)
        _INDEX[self.folder] = (names, places)  # the one used last is at the end
        room = INDEXED
        for folder, (_, found) in reversed(list(_INDEX.items())):
            room -= len(found)
            if room < 0 and folder != self.folder:
                _INDEX.pop(folder, None)  # another thread may have done so
        return places

    def _add(self, contents: Sequence[str], rows: np.ndarray) -> None:
        name = uuid.uuid4().hex
        values = self.folder / f"{name}.npy"
        try:
            write_file(values, lambda file: _write_rows(file, rows))
            write_file(
                self.folder / f"{name}.ids", lambda file: file.write("\n".join(contents).encode())
            )
        except OSError:
            values.unlink(missing_ok=True)  # without ids it would only take space
            raise


@lru_cache(maxsize=1)  # once per process: it is the same disk every time
def _warn_once(folder: Path, said: str) -> None:
    warnings.warn(
        f"What was computed cannot be kept in {folder} ({said}): the next run computes it again. "
        "Make space, or set LABELWISE_CACHE to a folder that can be written.",
        RuntimeWarning,
        stacklevel=2,
    )


def _write_rows(file: IO[bytes], rows: np.ndarray) -> None:
    """What np.save writes; but that loses the reason when the disk is full."""
    rows = np.ascontiguousarray(rows)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(rows))
    file.write(rows.data)


def store_folder() -> Path:
    """Where all stores are."""
    return cache_folder() / "store"


def store_size() -> int:
    """Bytes on disk in all stores."""
    return sum(file.stat().st_size for file in store_folder().rglob("*") if file.is_file())


def tidy_stores() -> None:
    """Remove what processes left that were killed more than a day ago: temporary files, and rows
    without ids.

    Younger ones may be written to at this moment; a store has no lock.
    """
    before = time.time() - ABANDONED
    with contextlib.suppress(OSError):  # of another user, or the stores are emptied meanwhile
        remove_temporary(store_folder(), before=before)
        for values in store_folder().glob("*/*.npy"):
            if not values.with_suffix(".ids").exists() and values.stat().st_mtime < before:
                values.unlink()


def empty_stores() -> None:
    """Delete every store; runs compute again what they need."""
    shutil.rmtree(store_folder(), ignore_errors=True)
