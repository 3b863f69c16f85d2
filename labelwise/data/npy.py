"""Images in .npy files, with their labels in a CSV or .npy file beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labelwise.data.arrays import PARTS, ArraySource, as_labels, rows_of
from labelwise.data.blocks import Block, as_block, open_array
from labelwise.data.columns import label_column, read_label_table, split_column, text_column
from labelwise.data.source import first_few
from labelwise.data.target import choose_target, refuse_target

_BESIDE = (".npy", ".csv", ".md", ".txt", ".json", ".yaml")
_ROLES = ("split", "group")


@dataclass
class _Rows:
    """What is known about the images so far."""

    target: str | None
    blocks: list[Block] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def is_npy_folder(folder: Path) -> bool:
    """True for a folder with x_train.npy or its like, or with one .npy and nothing but tables."""
    if _parts(folder):
        return True
    items = [item for item in folder.iterdir() if not item.name.startswith(".")]
    arrays = [item for item in items if item.suffix.lower() == ".npy"]
    alone = all(item.is_file() and item.suffix.lower() in _BESIDE for item in items)
    return len(arrays) == 1 and alone


def read_npy(path: Path, target: str | None) -> ArraySource:
    """Images of an .npy file, or of the x_train.npy, x_val.npy ... in a folder, and their labels.

    The labels of x_train.npy are in y_train.csv or y_train.npy beside it, those of any NAME.npy in
    NAME.csv or in the only CSV beside it. A CSV has one row per image, in the same order; its
    columns are label columns, but for `group` and, with a single array, `split`.

    Raises:
        DataError: a file is damaged or no image array, or labels do not fit the images.
    """
    rows = _Rows(target)
    parts = _parts(path) if path.is_dir() else {}
    for file, split in parts.items():
        _add(rows, file, split)
    if not parts:
        file = next(_arrays(path)) if path.is_dir() else path
        _add(rows, file, None, single=True)
    return ArraySource(
        tuple(rows.blocks),
        rows.paths,
        rows.labels,
        rows.splits,
        rows.groups,
        target=rows.target,
        warnings=tuple(rows.warnings),
    )


def _arrays(folder: Path) -> Iterator[Path]:
    return (item for item in sorted(folder.iterdir()) if item.suffix.lower() == ".npy")


def _parts(folder: Path) -> dict[Path, str | None]:
    """The arrays with the usual names and their splits, in the order of PARTS."""
    named = {item.stem.casefold(): item for item in _arrays(folder)}
    return {named[name]: split for name, split in PARTS.items() if name in named}


def _add(rows: _Rows, file: Path, split: str | None, single: bool = False) -> None:
    name = file.stem
    block = as_block(open_array(file, name), name, rows.warnings, file.resolve())
    count = len(block)
    rows.blocks.append(block)
    rows.paths += rows_of(name, block)
    beside = _labels_file(file, single, rows.warnings)
    labels: list[str | None] = [None] * count
    splits: list[str | None] = [split] * count
    groups: list[str | None] = [None] * count
    if beside and beside.suffix.lower() == ".npy":
        refuse_target(rows.target, repr(str(beside)), only="label")
        labels = as_labels(open_array(beside, beside.stem), count, name, None)
    elif beside:
        table = read_label_table(beside, count, name)
        columns = [str(column) for column in table if column not in _ROLES]
        rows.target = choose_target(columns, rows.target, str(beside))
        if rows.target:
            labels = label_column(table, rows.target, rows.warnings)
        splits = (split_column(table) or splits) if single else splits
        groups = text_column(table, "group") or groups
    rows.labels += labels
    rows.splits += splits
    rows.groups += groups


def _labels_file(file: Path, single: bool, warnings: list[str]) -> Path | None:
    """The file with the labels of an array, or None."""
    names = [f"{file.stem}.csv"]
    if file.stem.casefold().startswith("x_"):
        names += [f"{y}{file.stem[1:]}{suffix}" for y in "yY" for suffix in (".csv", ".npy")]
    found = [file.with_name(name) for name in names if file.with_name(name).is_file()]
    if found or not single:
        return found[0] if found else None
    tables = sorted(item for item in file.parent.iterdir() if item.suffix.lower() == ".csv")
    if len(tables) > 1:
        warnings.append(
            f"{file.name!r} is taken without labels: beside it are "
            f"{first_few([item.name for item in tables])}; the one with its labels has to be "
            f"{names[0]!r}"
        )
    return tables[0] if len(tables) == 1 else None
