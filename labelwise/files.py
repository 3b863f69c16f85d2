"""Every file labelwise publishes goes through here: whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pandas as pd

TEMPORARY = ".*.tmp"  # pattern of the names of files that are not published yet


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
