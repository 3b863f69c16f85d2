"""The members of a tar archive that is not compressed: ustar, pax and GNU headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

from labelwise.data.members import DamagedError, Extent, Listing, Member

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_CHUNK = 2**20
#: Bytes of an extended header; a path has at most some thousands.
_MAX_EXTENDED = 2**20

_REGULAR = b"0\x007"
_FOLDER, _SPARSE, _VOLUME_LABEL = b"5", b"S", b"V"
_WITHOUT_DATA = b"123456"
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"xX", b"g", b"L", b"K"
_PROBLEMS = {
    b"1": "a link: links in archives are not followed",
    b"2": "a link: links in archives are not followed",
    b"3": "not an image: not a regular file",
    b"4": "not an image: not a regular file",
    b"6": "not an image: not a regular file",
    b"M": "a part of a file from another volume",
    _SPARSE: "a sparse file: its parts are not put together",
}


@dataclass
class _Ahead:
    """What extended headers say about the member that follows them."""

    name: bytes | None = None
    size: int | None = None
    problem: str | None = None


def list_tar(file: IO[bytes]) -> Listing:
    """The members of a tar archive; one block after the other, none is looked at twice.

    Raises:
        DamagedError: there is not one.
        LimitError: there are too many.
    """
    listing, ahead = Listing(), _Ahead()
    length, position, found = file.seek(0, 2), 0, False
    while len(block := _block(file, position)) == _BLOCK and block != _ZEROS:
        data = position + _BLOCK
        try:
            size = _size(block)
        except DamagedError as error:
            listing.add(Member(f"(header at byte {position})", problem=f"damaged: {error}"))
            position, ahead = _next_header(file, data), _Ahead()
            continue
        found, kind = True, block[156:157]
        if kind in _PAX + _PAX_GLOBAL + _LONG_NAME + _LONG_LINK:
            ahead = _extended(file, kind, size, ahead)
        elif kind != _VOLUME_LABEL:
            size = 0 if kind in _WITHOUT_DATA else size if ahead.size is None else ahead.size
            data += _sparse_blocks(file, kind, block)
            extent = Extent(data, size, size, data + size)
            listing.add(_member(block, ahead, extent, length))
            ahead = _Ahead()
        # Where the data would reach beyond the end, the size may be the lie.
        beyond = data + size > length
        position = _next_header(file, data) if beyond else data + -(-size // _BLOCK) * _BLOCK
    if not found:
        raise DamagedError("it has no header of a member")
    if len(block) < _BLOCK:
        listing.warnings.append("the archive has no end mark: it may be truncated")
    return listing


def _block(file: IO[bytes], position: int) -> bytes:
    file.seek(position)
    return file.read(_BLOCK)


def _size(header: bytes) -> int:
    """Bytes of data behind a header that is sound."""
    checksum = _number(header[148:156])
    if checksum != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]):
        raise DamagedError("the checksum of a header does not fit")
    if (size := _number(header[124:136])) < 0:
        raise DamagedError("a header gives a negative size")
    return size


def _number(field: bytes) -> int:
    """A number in octal digits, or in binary where the first byte says so."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (field[0] == 0xFF) * 256 ** (len(field) - 1)
    digits = field.split(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise DamagedError("a header holds a number that is none")
    return int(digits or b"0", 8)


def _member(header: bytes, ahead: _Ahead, extent: Extent, length: int) -> Member:
    kind = header[156:157]
    name = _text(_name(header) if ahead.name is None else ahead.name)
    if kind == _FOLDER or (kind in _REGULAR and name.endswith("/")):
        return Member(name, folder=True)
    problem = ahead.problem or _PROBLEMS.get(kind)
    if problem is None and kind not in _REGULAR:
        problem = "not an image: a member of an unknown kind"
    if problem is None and extent.end > length:
        problem = "truncated: the archive ends before it does"
    return Member(name, None if problem else extent, problem)


def _name(header: bytes) -> bytes:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    is_posix = header[257:263] == b"ustar\0"  # GNU has other things where POSIX has the prefix
    return prefix + b"/" + name if is_posix and prefix else name


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _extended(file: IO[bytes], kind: bytes, size: int, ahead: _Ahead) -> _Ahead:
    """Add what an extended header, whose data come next in the file, says."""
    if kind in _LONG_LINK + _PAX_GLOBAL:
        return ahead
    if size > _MAX_EXTENDED:
        ahead.problem = f"damaged: its extended header has {size} bytes"
        return ahead
    if len(data := file.read(size)) < size:
        ahead.problem = "truncated: its extended header is not complete"
    elif kind == _LONG_NAME:
        ahead.name = data.split(b"\0")[0]
    else:
        try:
            _read_records(data, ahead)
        except DamagedError as error:
            ahead.problem = f"damaged: {error}"
    return ahead


def _read_records(data: bytes, ahead: _Ahead) -> None:
    """The records of a pax header, each 'LENGTH KEY=VALUE' and a line feed."""
    position = 0
    while position < len(data):
        digits = data[position : position + 8].split(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        key, equals, value = data[position + len(digits) + 1 : position + length - 1].partition(
            b"="
        )
        if not equals or data[position + length - 1 : position + length] != b"\n":
            raise DamagedError("a record of its extended header is broken")
        if key == b"path":
            ahead.name = value
        elif key == b"size":
            if not value.isdigit() or len(value) > 18:
                raise DamagedError("its extended header holds a size that is none")
            ahead.size = int(value)
        elif key.startswith(b"GNU.sparse."):
            ahead.problem = _PROBLEMS[_SPARSE]
            ahead.name = value if key == b"GNU.sparse.name" else ahead.name
        position += length


def _sparse_blocks(file: IO[bytes], kind: bytes, header: bytes) -> int:
    """Bytes of the blocks with a map of holes that stand before the data of a sparse file."""
    more, count = kind == _SPARSE and header[482], 0
    while more:
        block = file.read(_BLOCK)
        count += len(block)
        more = len(block) == _BLOCK and block[504]
    return count


def _next_header(file: IO[bytes], position: int) -> int:
    """The next block that is marked as a header, or the end of the file."""
    file.seek(position)
    while chunk := file.read(_CHUNK):
        at = chunk.find(b"ustar")
        while at >= 0:
            if (at - 257) % _BLOCK == 0:
                return position + at - 257
            at = chunk.find(b"ustar", at + 1)
        position += len(chunk)
    return position
