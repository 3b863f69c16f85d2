"""Archives of images: read as the folder that they would be, without extracting a member."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from labelwise.data.dataset import Size
from labelwise.data.decode import Decoded, set_aside
from labelwise.data.folder import UNLABELED_FOLDER, Tree, arrange, is_hidden
from labelwise.data.members import DamagedError, Extent, LimitError, Listing, Member, read_member
from labelwise.data.source import SPLIT_NAMES, Source, Stamp, file_stamp, read_encoded, shown
from labelwise.data.tars import list_tar
from labelwise.data.unpack import compression, unpacked
from labelwise.data.zips import data_start, list_zip
from labelwise.errors import DataError

ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".tbz", ".tbz2", ".bz2", ".txz", ".xz")

_ZIP, _TAR, _COMPRESSED_TAR = "zip", "tar", "compressed tar"
_Parts = tuple[str, ...]


@dataclass(frozen=True)
class ArchivePixels:
    """Images that are members of an archive, opened again at every read.

    A pickle holds the places only: the archive's own, and where in it each row's bytes are.
    """

    file: str
    kind: str
    found: Stamp | None
    names: tuple[str, ...]
    extents: tuple[Extent | None, ...]

    def read(self, row: int, at_least: Size | None = None) -> np.ndarray:
        """The image of a row: uint8, (H, W) or (H, W, 3), upright."""
        return read_encoded(self.encoded(row), f"{self.file}: {self.names[row]}", at_least)

    def encoded(self, row: int) -> bytes | Decoded:
        """The image file in a member, or the decision that it cannot be read."""
        extent = self.extents[row]
        if extent is None or file_stamp(self.file) != self.found:
            return set_aside("unreadable: its archive has changed")
        try:
            with _opened(Path(self.file), self.kind) as (file, _):
                if self.kind == _ZIP:
                    start = data_start(file, extent.offset)
                    if start is None:
                        return set_aside("damaged: its own header is missing")
                    extent = extent._replace(offset=start)
                return read_member(file, extent)
        except (OSError, LimitError) as error:
            return set_aside(f"unreadable: {error}")

    def file_name(self, row: int) -> str | None:
        """The member's name, which may carry an extension."""
        return self.names[row]

    def stamp(self, row: int) -> Stamp | None:
        """Archive, place inside of it, size and time of the archive's last change."""
        extent = self.extents[row]
        if self.found is None or extent is None:
            return None
        return self.found._replace(place=self.found.place + f"#{extent.offset}".encode())


def read_archive(path: Path) -> Source:
    """The images in a zip or tar archive; the folder a member is in is its class.

    Raises:
        DataError: it is no such archive, holds no readable member, or is larger than the limits.
    """
    file, kind = path.absolute(), None
    found = file_stamp(str(file))
    try:
        kind = _kind(file)
        listing = _listed(file, kind)
    except LimitError as error:
        raise DataError(
            f"the archive {shown(path)!r} {error}. Extract it yourself if you trust it, and give "
            "the folder."
        ) from None
    except DamagedError as error:
        raise DataError(
            f"{shown(path)!r} cannot be read as an archive: {error}. Expected a .zip, .tar, "
            ".tar.gz, .tar.bz2 or .tar.xz of images, one folder per class."
        ) from None
    except OSError as error:
        room = " Is there room in the cache folder (LABELWISE_CACHE)?"
        raise DataError(
            f"{shown(path)!r} cannot be read: {error}.{room if kind == _COMPRESSED_TAR else ''}"
        ) from None
    return _source(path, file, kind, found, listing)


def _listed(file: Path, kind: str) -> Listing:
    with _opened(file, kind) as (opened, damage):
        try:
            listing = list_zip(opened) if kind == _ZIP else list_tar(opened)
        except DamagedError as error:
            raise DamagedError(damage or str(error)) from None
    if damage:
        listing.warnings.append(f"its compressed data are damaged ({damage}): the rest is lost")
    return listing


def _source(path: Path, file: Path, kind: str, found: Stamp | None, listing: Listing) -> Source:
    tree = _tree(listing.members)

    def pixels(members: Sequence[Member | None]) -> ArchivePixels:
        names = tuple(member.name if member else "" for member in members)
        extents = tuple(member.extent if member else None for member in members)
        return ArchivePixels(str(file), kind, found, names, extents)

    source = arrange(str(path), tree, pixels)
    said = [f"{shown(path.name)}: {warning}" for warning in listing.warnings]
    return replace(source, warnings=(*said, *source.warnings))


def _kind(file: Path) -> str:
    if compression(file):
        return _COMPRESSED_TAR
    with file.open("rb") as opened:
        head = opened.read(512)
    is_tar = head[257:262] == b"ustar"
    return _ZIP if not is_tar and (head[:2] == b"PK" or file.suffix.lower() == ".zip") else _TAR


@contextlib.contextmanager
def _opened(file: Path, kind: str) -> Iterator[tuple[IO[bytes], str | None]]:
    """The bytes that can be read at random, and what is known to be damaged."""
    damage = None
    if kind == _COMPRESSED_TAR:
        file, damage = unpacked(file)
    with file.open("rb") as opened:
        yield opened, damage


def _tree(members: Sequence[Member]) -> Tree[Member]:
    """Members as a folder of files: hostile names and all but the last of a name set aside."""
    tree: Tree[Member] = Tree()
    folders: dict[_Parts, None] = {}
    times = Counter(_parts(member.name) for member in members if not member.folder)
    seen: Counter[_Parts] = Counter()
    for member in members:
        parts = _parts(member.name)
        seen[parts] += not member.folder
        hidden = _hidden(parts)
        if reason := _bad_name(member.name, parts):
            tree.set_aside[(member.name,)] = reason
        elif hidden:
            tree.set_aside[hidden] = "hidden"
        elif member.folder:
            folders.update((parts[:depth], None) for depth in range(1, len(parts) + 1))
        elif seen[parts] < times[parts] and parts:
            again = (*parts[:-1], f"{parts[-1]} ({seen[parts]} of {times[parts]})")
            tree.set_aside[again] = "named twice in the archive: the last one counts"
        elif not parts:
            tree.set_aside[(repr(member.name),)] = "a member without a name"
        elif member.problem:
            tree.set_aside[parts] = member.problem
        else:
            tree.files[parts] = member
            folders.update((parts[:depth], None) for depth in range(1, len(parts)))
    tree.folders = list(folders)
    return _without_top(tree)


def _parts(name: str) -> _Parts:
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _bad_name(name: str, parts: _Parts) -> str | None:
    if name.startswith(("/", "\\")) or name[1:3] in (":/", ":\\"):
        return "an absolute name: names in archives are relative"
    if ".." in parts or ".." in name.split("\\"):
        return "a name that leads out of the archive"
    return None


def _hidden(parts: _Parts) -> _Parts | None:
    """The outermost hidden folder or file on the way to a member."""
    for depth, part in enumerate(parts, start=1):
        if is_hidden(part):
            return parts[:depth]
    return None


def _without_top(tree: Tree[Member]) -> Tree[Member]:
    """The same one folder further down, where one folder holds everything and is no split."""
    tops = {parts[0] for parts in (*tree.files, *tree.folders)}
    top = next(iter(tops), "")
    if len(tops) != 1 or (top,) in tree.files or top.casefold() in {*SPLIT_NAMES, UNLABELED_FOLDER}:
        return tree

    def inner(parts: _Parts) -> _Parts:
        return parts[1:] if parts[0] == top and len(parts) > 1 else parts

    return Tree(
        {inner(parts): member for parts, member in tree.files.items()},
        [inner(parts) for parts in tree.folders if len(parts) > 1],
        {inner(parts): reason for parts, reason in tree.set_aside.items()},
    )
