"""Members of an archive: what they are called, where their bytes are, what may be read of them.

Nothing a header says is believed. A member is never read past the sizes it declares, so that the
sum of the declared sizes, which is limited here, bounds all that is ever read.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from labelwise.data.decode import MAX_BYTES, Decoded, decode, set_aside, sniff, too_many_bytes

MAX_MEMBERS = 1_000_000
#: Bytes of all members of an archive together, uncompressed.
MAX_TOTAL = 64 * 2**30
#: A member above RATIO_FROM bytes may not be more than this many times its compressed size.
MAX_RATIO = 200
RATIO_FROM = 16 * 2**20

OVERLAP = "damaged: it overlaps another member"

_CHUNK = 2**16
_HEAD = 512  # bytes that tell an image, or an archive inside the archive
_NESTED = (b"PK\3\4", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07")


class DamagedError(Exception):
    """Bytes are not those of an archive, or no longer."""


class LimitError(Exception):
    """An archive is larger than labelwise reads; the message completes 'the archive ...'."""


class Extent(NamedTuple):
    """Where the bytes of a member are: packed bytes from `offset` on, all of them below `end`."""

    offset: int
    packed: int
    size: int
    end: int
    deflated: bool = False
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A name in an archive, and where its bytes are or why it is not used."""

    name: str
    extent: Extent | None = None
    problem: str | None = None
    folder: bool = False


@dataclass
class Listing:
    """The members of an archive in their order, within the limits, and sentences for the user."""

    members: list[Member] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _total: int = 0

    def add(self, member: Member) -> None:
        """Take a member; one that is too large is kept as a name with the reason.

        Raises:
            LimitError: there are more than MAX_MEMBERS.
        """
        if len(self.members) >= MAX_MEMBERS:
            raise LimitError(f"has more than {MAX_MEMBERS:,} members")
        if member.extent and not member.problem and (problem := self._problem(member.extent)):
            member = Member(member.name, problem=problem)
        self.members.append(member)

    def _problem(self, extent: Extent) -> str | None:
        if extent.size > MAX_BYTES:
            return too_many_bytes(extent.size).reason
        if extent.size > RATIO_FROM and extent.size > MAX_RATIO * extent.packed:
            return f"too large: it expands to more than {MAX_RATIO} times its compressed size"
        if self._total + extent.size > MAX_TOTAL:
            return f"too large: the members before it fill the limit of {MAX_TOTAL // 2**30} GB"
        self._total += extent.size
        return None


def read_member(file: IO[bytes], extent: Extent) -> bytes | Decoded:
    """The image in a member, or the decision that there is none; never more than it declares."""
    if extent.offset + extent.packed > extent.end:
        return set_aside(OVERLAP)
    head = _read(file, extent, min(extent.size, _HEAD))
    if head and sniff(head) is None:
        nested = head.startswith(_NESTED) or head[257:262] == b"ustar"
        if nested:
            return set_aside("not an image: an archive inside the archive")
        return decode(head)  # says what it is not
    data = _read(file, extent, extent.size + 1)
    if len(data) != extent.size:
        said = "more" if len(data) > extent.size else "fewer"
        return set_aside(f"damaged: it holds {said} bytes than its header says")
    if extent.crc is not None and zlib.crc32(data) != extent.crc:
        return set_aside("damaged: its checksum does not fit its bytes")
    return data


def _read(file: IO[bytes], extent: Extent, most: int) -> bytes:
    """The first bytes of a member, at most `most` of them; fewer where its data are damaged."""
    file.seek(extent.offset)
    if not extent.deflated:
        return file.read(min(most, extent.packed))
    engine, left, found = zlib.decompressobj(-zlib.MAX_WBITS), extent.packed, bytearray()
    while len(found) < most and not engine.eof:
        data = engine.unconsumed_tail
        if not data:
            data = file.read(min(_CHUNK, left))
            left -= len(data)
        if not data:
            break
        try:
            found += engine.decompress(data, most - len(found))
        except zlib.error:
            break
    return bytes(found)
