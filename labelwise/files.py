"""Every file labelwise publishes goes through here: whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pandas as pd

from labelwise.errors import DataError, OptionError

TEMPORARY = ".*.tmp"  # pattern of the names of files that are not published yet


def as_path(value: Any, what: str) -> Path:
    """What a caller gave as a path.

    Raises:
        OptionError: it is none; `what` names the argument.
    """
    if not isinstance(value, str | Path):
        raise OptionError(f"{what} {value!r}: a {type(value).__name__} is no path. Give a path.")
    return Path(value)


def expanded(text: str | Path) -> Path:
    """A path with ~ as the home folder; where nobody knows that, ~ is a name like others."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser raises instead)


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there; False for what can be no path: too long, or with a NUL."""
    return os.path.isdir(path)  # noqa: PTH112 (Path.is_dir raises instead)


def write_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Publish a file in one step: a reader sees the old file or the whole new one, never a part.

    The bytes go to a temporary file in the same folder, are forced to the disk, and replace `path`;
    then the folder itself is forced to the disk, so that the new name survives a power cut.

    Args:
        path: where the file shall stand; missing folders are made.
        write: gets the open binary file and writes all of it.

    Raises:
        OSError: the disk is full, for example; it names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)  # what a write to an open file leaves out
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Publish a UTF-8 text file. Lone surrogates from file names are escaped, not refused."""
    write_file(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def write_json(path: Path, value: Any) -> None:
    """Publish a JSON document: readable, sorted by nothing but the order it was built in."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Publish a table as Parquet, without the index."""
    write_file(path, lambda file: table.to_parquet(file, index=False))


def append_line(path: Path, value: Any) -> None:
    """Add one JSON line to a log. The log is rewritten whole, so no half line is ever seen."""
    before = path.read_text("utf-8") if path.exists() else ""
    write_text(path, before + json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def intact(file: Path, advice: str) -> Iterator[None]:
    """Around reading a file that labelwise has written, and what is taken out of it.

    Args:
        advice: what to do if it cannot be understood.

    Raises:
        DataError: the file is not there, is damaged, or was written by another version.
    """
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(
            f"{file} is damaged, or from another version of labelwise ({said}). {advice}"
        ) from None


def read_json(path: Path) -> Any:
    """The document in a JSON file."""
    return json.loads(path.read_text("utf-8"))


def remove_temporary(folder: Path, *, before: float = math.inf) -> None:
    """Remove what killed processes left behind.

    Args:
        before: only files that were last written to before this time, in seconds since 1970; to be
            left out only while holding the folder's lock, for another process may be writing.
    """
    for leftover in folder.rglob(TEMPORARY):
        with contextlib.suppress(FileNotFoundError):  # another process removes them as well
            if leftover.stat().st_mtime < before:
                leftover.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
