"""The members of a zip archive, from its directory, or from their own headers where it is lost."""

from __future__ import annotations

import itertools
import mmap
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from labelwise.data.members import (
    MAX_MEMBERS,
    OVERLAP,
    DamagedError,
    Extent,
    LimitError,
    Listing,
    Member,
)

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END_64, _LOCATOR_64, _DESCRIPTOR = b"PK\x06\x06", b"PK\x06\x07", b"PK\x07\x08"
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_CENTRAL_HEADER = struct.Struct("<4s6H3L5H2L")
_END_RECORD = struct.Struct("<4s4H2LH")
_END_RECORD_64 = struct.Struct("<4sQ2H2L4Q")
_NEXT_HEADER = re.compile(rb"PK(?:\x03\x04|\x01\x02)")

_STORED, _DEFLATED = 0, 8
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 99: "AES"}
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_STREAMED, _UTF8 = 0x8, 0x800
_UNIX = (3, 19)  # systems whose attributes hold the kind of a file
_FULL = 0xFFFFFFFF  # the value is in the zip64 field


@dataclass(frozen=True, slots=True)
class _Header:
    """What the directory, or a member's own header, says about a member."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int  # of the member's own header
    kind: int = 0  # as in st_mode; 0 if unknown


def list_zip(file: IO[bytes]) -> Listing:
    """The members of a zip archive.

    Raises:
        DamagedError: there is not one.
        LimitError: there are too many.
    """
    try:
        headers, end = _directory(file)
    except (DamagedError, struct.error) as error:
        return _recovered(file, f"its list of members is damaged ({error})")
    listing = Listing()
    ends = _ends(headers, end)
    for header, limit in zip(headers, ends, strict=True):
        listing.add(_member(header, limit))
    return listing


def data_start(file: IO[bytes], offset: int) -> int | None:
    """Where the data behind a member's own header begin; None if there is no such header."""
    file.seek(offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL):
        return None
    name, extra = _LOCAL_HEADER.unpack(header)[-2:]
    return int(offset + _LOCAL_HEADER.size + name + extra)


def _directory(file: IO[bytes]) -> tuple[list[_Header], int]:
    """The headers in the directory at the end, and where it begins."""
    start, size, shift = _directory_place(file)
    file.seek(start)
    headers: list[_Header] = []
    while file.tell() - start < size:
        if len(headers) >= MAX_MEMBERS:
            raise LimitError(f"has more than {MAX_MEMBERS:,} members")
        headers.append(_central(file, shift))
    return headers, start


def _directory_place(file: IO[bytes]) -> tuple[int, int, int]:
    """Start and size of the directory, and how many bytes stand before the archive."""
    length = file.seek(0, 2)
    file.seek(max(length - _END_RECORD.size - 0xFFFF, 0))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_RECORD.size:
        raise DamagedError("its end is missing")
    size, offset = _END_RECORD.unpack_from(tail, at)[5:7]
    end = length - len(tail) + at
    if tail[at - 20 : at - 16] == _LOCATOR_64 and at >= 20 + _END_RECORD_64.size:
        record = tail[at - 20 - _END_RECORD_64.size :]
        if record.startswith(_END_64):
            size, offset = _END_RECORD_64.unpack_from(record)[8:10]
            end -= 20 + _END_RECORD_64.size
    start = end - size
    if start < 0 or start < offset:
        raise DamagedError("its size is impossible")
    return start, size, start - offset


def _central(file: IO[bytes], shift: int) -> _Header:
    fields = _CENTRAL_HEADER.unpack(file.read(_CENTRAL_HEADER.size))
    if fields[0] != _CENTRAL:
        raise DamagedError("an entry is broken")
    (made_by, _, flags, method, _, _, crc, packed, size) = fields[1:10]
    (name_length, extra_length, comment_length, _, _, attributes, offset) = fields[10:]
    name = file.read(name_length)
    extra = file.read(extra_length)
    if len(file.read(comment_length)) < comment_length:
        raise DamagedError("it ends early")
    size, packed, offset = _zip64(extra, [size, packed, offset])
    kind = attributes >> 16 if made_by >> 8 in _UNIX else 0
    return _Header(_name(name, flags), flags, method, crc, packed, size, offset + shift, kind)


def _zip64(extra: bytes, values: list[int]) -> list[int]:
    """Sizes and offset, each from the zip64 field where 32 bits were too few."""
    while len(extra) >= 4:
        tag, length = struct.unpack_from("<2H", extra)
        if tag == 1:
            large = iter(struct.unpack_from(f"<{length // 8}Q", extra, 4))
            return [next(large, value) if value == _FULL else value for value in values]
        extra = extra[4 + length :]
    return values


def _name(raw: bytes, flags: int) -> str:
    """UTF-8 where it is, flagged or not; else what the format says, the letters of an old PC."""
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        name = raw.decode("utf-8", "surrogateescape") if flags & _UTF8 else raw.decode("cp437")
    return name if "/" in name else name.replace("\\", "/")  # some Windows programs


def _ends(headers: list[_Header], directory: int) -> list[int]:
    """Where the next member begins, for each: what reaches beyond overlaps, a way to hide bombs."""
    order = sorted(range(len(headers)), key=lambda row: headers[row].offset)
    ends = [directory] * len(headers)
    for row, following in itertools.pairwise(order):
        ends[row] = min(headers[following].offset, directory)
    return ends


def _member(header: _Header, end: int) -> Member:
    if header.name.endswith("/") or stat.S_ISDIR(header.kind):
        return Member(header.name, folder=True)
    if problem := _problem(header, end):
        return Member(header.name, problem=problem)
    deflated = header.method == _DEFLATED
    extent = Extent(header.offset, header.packed, header.size, end, deflated, header.crc)
    return Member(header.name, extent)


def _problem(header: _Header, end: int) -> str | None:
    if header.offset + header.packed > end:
        return OVERLAP
    if stat.S_ISLNK(header.kind):
        return "a link: links in archives are not followed"
    if stat.S_IFMT(header.kind) not in (0, stat.S_IFREG):
        return "not an image: not a regular file"
    if header.flags & _ENCRYPTED:
        return "encrypted"
    if header.method not in (_STORED, _DEFLATED):
        name = _METHODS.get(header.method, f"method {header.method}")
        return f"unsupported compression: {name}; only stored and deflated members are read"
    if header.method == _STORED and header.packed != header.size:
        return "damaged: its two sizes differ"
    return None


def _recovered(file: IO[bytes], why: str) -> Listing:
    """The members of an archive without a directory: each has a header of its own as well."""
    listing = Listing()
    if file.seek(0, 2):
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for member in _by_own_headers(data):
                listing.add(member)
    if not listing.members:
        raise DamagedError(why)
    listing.warnings.append(f"{why}: the members are found by their own headers")
    return listing


def _by_own_headers(data: mmap.mmap) -> Iterator[Member]:
    position = data.find(_LOCAL)
    while position >= 0:
        try:
            header, start = _own_header(data, position)
        except (DamagedError, struct.error):
            yield Member(f"(header at byte {position})", problem="truncated")
            position = data.find(_LOCAL, position + 4)
            continue
        if start + header.packed > len(data):
            yield Member(header.name, problem="truncated: the archive ends before it does")
            position = data.find(_LOCAL, start)
        else:
            yield _member(header, start + header.packed)
            position = data.find(_LOCAL, start + header.packed)


def _own_header(data: mmap.mmap, position: int) -> tuple[_Header, int]:
    """A member's own header, and where its data begin."""
    fields = _LOCAL_HEADER.unpack(data[position : position + _LOCAL_HEADER.size])
    flags, method = fields[2:4]
    crc, packed, size, name_length, extra_length = fields[6:]
    name_at = position + _LOCAL_HEADER.size
    start = name_at + name_length + extra_length
    extra = data[name_at + name_length : start]
    if len(extra) < extra_length:
        raise DamagedError("it ends early")
    size, packed = _zip64(extra, [size, packed])
    if flags & _STREAMED:
        crc, packed, size = _descriptor(data, position, start)
    name = _name(data[name_at : name_at + name_length], flags)
    return _Header(name, flags, method, crc, packed, size, position), start


def _descriptor(data: mmap.mmap, position: int, start: int) -> tuple[int, int, int]:
    """Checksum and sizes behind data whose header was written before they were known.

    Looked for up to the next header only, so that no byte of a hostile file is looked at twice.
    """
    following = _NEXT_HEADER.search(data, position + 4)
    limit = following.start() if following else len(data)
    at = data.find(_DESCRIPTOR, start, limit)
    while at >= 0:
        if at + 16 <= limit:
            crc, packed, size = struct.unpack_from("<3L", data, at + 4)
            if packed == at - start:
                return crc, packed, size
        at = data.find(_DESCRIPTOR, at + 4, limit)
    raise DamagedError("its end is missing")
