"""`load`: whatever the user points at becomes a Dataset."""

from __future__ import annotations

import difflib
from pathlib import Path

from labelwise.data import named
from labelwise.data.arrays import ArrayPixels, ArraySource, read_npz
from labelwise.data.cache import Cache, cache_folder
from labelwise.data.dataset import Dataset
from labelwise.data.folder import read_folder
from labelwise.data.huggingface import image_column, parquet_files, read_huggingface
from labelwise.data.manifest import read_manifest
from labelwise.data.scan import scan
from labelwise.data.source import Progress, Source, first_few, shown
from labelwise.data.table import build_dataset
from labelwise.errors import DataError

_TABLES = (".csv", ".tsv", ".txt")
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
_BESIDE_PARQUET = (".parquet", ".md", ".json", ".txt", ".yaml", ".gitattributes")


def load(
    source: str | Path | Dataset, *, target: str | None = None, progress: Progress | None = None
) -> Dataset:
    """Look at every image of a source and decide what can be used.

    Args:
        source: a folder of images, a manifest (.csv, .parquet), an .npz file, a folder of Parquet
            files with encoded images, the name of a data set ("digits", "elpv"), or a Dataset,
            which is returned as it is.
        target: the label column to learn, where there are several.
        progress: called with (done, total, what) while images are looked at.

    Returns:
        A Dataset. Files that cannot be used are rows of its table, with the reason.

    Raises:
        DataError: the source does not exist, is of no known kind, or holds no usable image.
        MissingExtraError: a named data set needs a package that is not installed.
    """
    if isinstance(source, Dataset):
        _no_target(target or source.target, "this Dataset", only=source.target)
        return source
    path = Path(source).expanduser()
    if str(source) in named.NAMES and not path.exists():
        return _named(str(source), target, progress)
    if not _exists(path):
        raise DataError(_not_found(path))
    if path.is_dir():
        return _folder(path, target, progress)
    return _file(path, target, progress)


def _named(name: str, target: str | None, progress: Progress | None) -> Dataset:
    if name == "elpv":
        return _scanned(named.read_elpv(target), progress)
    _no_target(target, "'digits'", only="label")
    images, labels = named.digits()
    paths = [f"digits[{row}]" for row in range(len(images))]
    found = ArraySource(
        (images,), ArrayPixels([images]), paths, labels, [], [None] * len(images), None
    )
    return _in_memory("digits", found, progress)


def _folder(path: Path, target: str | None, progress: Progress | None) -> Dataset:
    _not_ours(path)
    if _is_parquet_folder(path):
        return _scanned(read_huggingface(path, target), progress)
    _no_target(target, f"the folder {shown(path)!r}", only="label")
    return _scanned(read_folder(path), progress)


def _file(path: Path, target: str | None, progress: Progress | None) -> Dataset:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        _no_target(target, repr(shown(path)), only="label")
        return _in_memory(str(path), read_npz(path), progress)
    if suffix == ".parquet" and image_column(path):
        return _scanned(read_huggingface(path, target), progress)
    if suffix in (".parquet", *_TABLES):
        return _scanned(read_manifest(path, target), progress)
    if suffix in _ARCHIVES:
        raise DataError(
            f"{shown(path)!r} is an archive. Archives are not read yet; "
            "extract it and give the folder."
        )
    raise DataError(
        f"{shown(path)!r} is a file of an unknown kind ({suffix or 'no extension'}). Expected a "
        "folder of images, a manifest (.csv, .parquet), an .npz file, or a data set's name: "
        f"{first_few(named.NAMES)}."
    )


def _scanned(source: Source, progress: Progress | None) -> Dataset:
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


def _in_memory(name: str, found: ArraySource, progress: Progress | None) -> Dataset:
    return build_dataset(
        name=name,
        paths=found.paths,
        labels=found.labels,
        splits=found.splits,
        groups=[],
        records=found.records(),
        pixels=found.pixels,
        class_names=found.class_names,
        warnings=found.warnings,
        progress=progress,
    )


def _no_target(target: str | None, where: str, only: str | None) -> None:
    if target is not None and target != only:
        has = f"only {only!r}" if only else "one set of labels, without a name"
        raise DataError(f"{where} has no label column {target!r}: it has {has}. Leave target out.")


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
    candidates = list(named.NAMES)
    if _exists(path.parent) and path.parent.is_dir():
        candidates += [item.name for item in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, candidates, n=3)
    hint = f"Did you mean {first_few(near)}? " if near else ""
    return (
        f"{shown(path)!r} does not exist. {hint}Expected a folder of images, a manifest (.csv, "
        f".parquet), an .npz file, or one of the data sets {first_few(named.NAMES)}."
    )
