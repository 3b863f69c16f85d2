"""Run folders: begun once, continued with the same options and data, one process at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelwise.data.dataset import Dataset
from labelwise.data.load import Loadable
from labelwise.errors import DataError, OptionError
from labelwise.files import TEMPORARY, as_path, expanded, intact, is_folder, read_json
from labelwise.settings import S, option_name, settings_of

RUN_FILE = "run.json"
ANOTHER = "Begin a new run with another --out."
# All that is there before run.json:
PREPARED = (".lock", "data.parquet", "folds.parquet", TEMPORARY)


def run_folder(out: Any, data: Loadable) -> Path:
    """The folder that a run is to be kept in.

    Raises:
        OptionError: it is no path, or lies within the images: its files would be taken for data.
    """
    folder = as_path(out, "--out")
    if isinstance(data, str | Path) and is_folder(source := expanded(data)):
        real = _real(source)
        if real in _real(folder).parents:
            raise OptionError(
                f"--out {folder}: this is inside of the data, {real}. Give a folder outside of it."
            )
    return folder


def _real(path: Path) -> Path:
    """Without links and `..`, which can make a folder beside the data look as if it were inside."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # a name that no folder can have; `locked` refuses it
        return path


def asked_settings(
    kind: type[S],
    folder: Path,
    given: Mapping[str, Any],
    resume: bool,
    called: Mapping[str, str] | None = None,
) -> S:
    """The settings of this run; on resume those it began with, and no option may differ.

    Args:
        called: field -> option that gave it, where they are not of one name.
    """
    settings = settings_of(kind, given)
    try:
        there = folder.exists()
    except OSError as error:  # the name is too long, or a folder above it is closed to us
        raise OptionError(
            f"--out {folder}: there can be no such folder ({error.strerror}). Give another one."
        ) from None
    if there and not folder.is_dir():
        raise OptionError(f"--out {folder}: this is a file. Give a folder that does not exist yet.")
    if not blank(folder) and not resume:
        hint = (
            "Add --resume to continue it, or give another --out."
            if (folder / RUN_FILE).exists()
            else "Give a folder that does not exist yet."
        )
        raise OptionError(f"--out {folder}: the folder exists already. {hint}")
    if not (folder / RUN_FILE).exists():
        return settings
    with intact(folder / RUN_FILE, ANOTHER):
        began = settings_of(kind, read_json(folder / RUN_FILE)["settings"])
    for name, value in given.items():
        option = (called or {}).get(name, option_name(name))
        if value is not None and getattr(settings, name) != getattr(began, name):
            raise OptionError(
                f"{option} {_said(getattr(settings, name))}: this run began with "
                f"{_said(getattr(began, name))}. Resume it without the option, or begin a new run."
            )
    return began


def _said(value: object) -> str:
    """A value as an option has it: of several, one after the other."""
    return ", ".join(map(repr, value)) or "none" if isinstance(value, tuple) else repr(value)


def data_record(data: Loadable, dataset: Dataset) -> dict[str, Any]:
    """What run.json says about the data."""
    return {
        "source": str(data) if isinstance(data, str | Path) else dataset.name,
        "name": dataset.name,
        "target": dataset.target,
        "fingerprint": dataset.fingerprint,
        "class_names": list(dataset.class_names),
        "images": len(dataset.usable),
        "labeled": len(dataset.labeled),
        "context": list(dataset.context),
    }


def check_same_data(folder: Path, record: Mapping[str, Any], dataset: Dataset) -> None:
    """Refuse to continue a run with other data than it began with."""
    if record["data"]["fingerprint"] != dataset.fingerprint:
        raise DataError(
            f"{folder}: the data has changed since this run began ({record['data']['images']} "
            f"images then, {len(dataset.usable)} now, or other labels). Begin a new run with "
            "another --out."
        )


def blank(folder: Path) -> bool:
    """Whether a folder has nothing of a run that began, nor anything else."""
    names = folder.iterdir() if folder.exists() else ()
    return all(any(path.match(pattern) for pattern in PREPARED) for path in names)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder: two processes cannot write the same run.

    A folder that was made here goes again if the run does not begin.
    """
    import filelock

    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise OptionError(
            f"--out {folder}: another process is writing this run. Wait for it, or give another "
            "folder."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", error)
        raise OptionError(
            f"--out {folder}: this folder cannot be written ({why}). Give another one."
        ) from None
    try:
        yield
    finally:
        if new and blank(folder):
            shutil.rmtree(folder, ignore_errors=True)  # still locked, or it could be another's run
        lock.release()
