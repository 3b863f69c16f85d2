"""`load`: whatever the user points at becomes a Dataset."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Sized
from pathlib import Path

from labelwise.data import downloaded, objects, packaged
from labelwise.data.archive import ARCHIVES, read_archive
from labelwise.data.arrays import ArraySource, read_npz, rows_of
from labelwise.data.blocks import as_block
from labelwise.data.cache import Cache, cache_folder
from labelwise.data.columns import JSON_LINES
from labelwise.data.dataset import Dataset
from labelwise.data.folder import read_folder
from labelwise.data.huggingface import image_column, parquet_files, read_huggingface
from labelwise.data.manifest import read_manifest
from labelwise.data.npy import is_npy_folder, read_npy
from labelwise.data.scan import scan
from labelwise.data.source import Advance, Source, first_few, shown
from labelwise.data.table import build_dataset
from labelwise.data.target import refuse_target
from labelwise.errors import DataError
from labelwise.files import expanded

_TABLES = (".csv", ".tsv", ".txt", ".parquet", *JSON_LINES)
_OTHER_ARCHIVES = (".7z", ".rar", ".zst", ".lz4")
_NAMES = (*packaged.NAMES, *downloaded.SETS)
_EXPECTED = (
    "a folder of images, a .zip or .tar of them, a manifest (.csv, .jsonl, .parquet), an .npz or "
    f".npy file, or one of the data sets {first_few(_NAMES)}"
)
_BESIDE_PARQUET = (".parquet", ".md", ".json", ".txt", ".yaml", ".gitattributes")


#: What `load` takes: a path or name, a Dataset, or an object of `datasets` or `torchvision`.
Loadable = str | Path | Dataset | Sized


def load(
    source: Loadable, *, target: str | None = None, progress: Advance | None = None
) -> Dataset:
    """Look at every image of a source and decide what can be used.

    Args:
        source: a folder of images, an archive of one (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz), a
            manifest (.csv, .jsonl, .parquet), arrays (.npz, or .npy with a CSV beside it), a
            folder of Parquet files with encoded images, or the name of a data set ("digits",
            "elpv"; "mnist", "cifar10", "mammals", "stl10", "food" from LABELWISE_DATA); a Dataset
            or DatasetDict of the package `datasets`, a data set of `torchvision` or a Subset of
            one, or a dict of them by split; or a Dataset of labelwise, which is returned as it is.
        target: the label column to learn, where there are several.
        progress: called with (done, total, what) while images are looked at.

    Returns:
        A Dataset. Files that cannot be used are rows of its table, with the reason.

    Raises:
        DataError: the source does not exist, is of no known kind, or holds no usable image.
        MissingExtraError: a named data set needs a package that is not installed.
    """
    if isinstance(source, Dataset):
        refuse_target(target or source.target, "this Dataset", only=source.target)
        return source
    if not isinstance(source, str | Path):
        return _scanned(objects.read_object(source, target), progress)
    if not str(source):
        raise DataError(f"'' names no data. Expected {_EXPECTED}.")
    path = expanded(source)
    if str(source) in _NAMES and not path.exists():
        return _named(str(source), target, progress)
    if not _exists(path):
        raise DataError(_not_found(path))
    if path.is_dir():
        return _folder(path, target, progress)
    if not path.is_file():
        raise DataError(f"{shown(path)!r} is a pipe or a device. Expected {_EXPECTED}.")
    return _file(path, target, progress)


def _named(name: str, target: str | None, progress: Advance | None) -> Dataset:
    if name in downloaded.SETS:
        return dataclasses.replace(_downloaded(name, target, progress), name=name)
    if name == "elpv":
        return _scanned(packaged.read_elpv(target), progress)
    refuse_target(target, "'digits'", only="label")
    images, labels = packaged.digits()
    block = as_block(images, "digits", [])
    return _in_memory("digits", ArraySource((block,), rows_of("digits", block), labels), progress)


def _downloaded(name: str, target: str | None, progress: Advance | None) -> Dataset:
    if (place := downloaded.file_of(name)) is not None:
        return load(place, target=target, progress=progress)
    if name == "mammals":
        return _in_memory(name, downloaded.mammals(target), progress)
    return _scanned(objects.read_object(downloaded.vision_parts(name), target), progress)


def _folder(path: Path, target: str | None, progress: Advance | None) -> Dataset:
    _not_ours(path)
    if _is_parquet_folder(path):
        return _scanned(read_huggingface(path, target), progress)
    if is_npy_folder(path):
        return _in_memory(str(path), read_npy(path, target), progress)
    refuse_target(target, f"the folder {shown(path)!r}", only="label")
    return _scanned(read_folder(path), progress)


def _file(path: Path, target: str | None, progress: Advance | None) -> Dataset:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        refuse_target(target, repr(shown(path)), only="label")
        return _in_memory(str(path), read_npz(path), progress)
    if suffix == ".parquet" and image_column(path):
        return _scanned(read_huggingface(path, target), progress)
    if suffix == ".npy":
        return _in_memory(str(path), read_npy(path, target), progress)
    if suffix in _TABLES:
        return _scanned(read_manifest(path, target), progress)
    if suffix in ARCHIVES:
        refuse_target(target, f"the archive {shown(path)!r}", only="label")
        return _scanned(read_archive(path), progress)
    if suffix in _OTHER_ARCHIVES:
        raise DataError(
            f"{shown(path)!r} is an archive of a kind that is not read ({suffix}). Extract it and "
            "give the folder, or pack it again as .zip or .tar."
        )
    raise DataError(
        f"{shown(path)!r} is a file of an unknown kind ({suffix or 'no extension'}). "
        f"Expected {_EXPECTED}."
    )


def _scanned(source: Source, progress: Advance | None) -> Dataset:
    with Cache(cache_folder()) as cache:
        records = scan(source, cache, progress)
        warnings = [*source.warnings, *cache.warnings]
    return build_dataset(
        name=source.name,
        paths=source.paths,
        labels=source.labels,
        splits=source.splits,
        groups=source.groups,
        records=records,
        pixels=source.pixels,
        class_names=source.class_names,
        target=source.target,
        warnings=warnings,
        context=source.context,
        progress=progress,
    )


def _in_memory(name: str, found: ArraySource, progress: Advance | None) -> Dataset:
    return build_dataset(
        name=name,
        paths=found.paths,
        labels=found.labels,
        splits=found.splits,
        groups=found.groups,
        records=found.records(),
        pixels=found.pixels,
        class_names=found.class_names,
        target=found.target,
        warnings=found.warnings,
        progress=progress,
    )


def _is_parquet_folder(path: Path) -> bool:
    files = parquet_files(path)
    if not files or image_column(files[0]) is None:
        return False
    beside = [item for item in files[0].parent.iterdir() if not item.name.startswith(".")]
    return all(item.is_file() and item.suffix.lower() in _BESIDE_PARQUET for item in beside)


def _not_ours(path: Path) -> None:
    if (path / "run.json").is_file() and (path / "leaderboard.json").is_file():
        what = "a labelwise run, not images"
    elif (path / "model.json").is_file() and (path / "weights.safetensors").is_file():
        what = "a saved model, not images"
    else:
        return
    raise DataError(f"{shown(path)!r} is {what}. Expected a folder of images.")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        return False


def _not_found(path: Path) -> str:
    if os.path.islink(path):  # noqa: PTH114 (Path.is_symlink raises for a name that is too long)
        return f"{shown(path)!r} is a link to something that does not exist. Expected {_EXPECTED}."
    candidates = list(_NAMES)
    if _exists(path.parent) and path.parent.is_dir():
        candidates += [item.name for item in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, candidates, n=3)
    hint = f"Did you mean {first_few(near)}? " if near else ""
    return f"{shown(path)!r} does not exist. {hint}Expected {_EXPECTED}."
