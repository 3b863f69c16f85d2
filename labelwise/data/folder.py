"""A folder of images: one folder per class, or train/val/test folders with class folders inside."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from labelwise.data.source import SPLIT_NAMES, Encoded, FilePixels, Source, first_few

UNLABELED_FOLDER = "unlabeled"
_HIDDEN = {"__macosx", "thumbs.db", "desktop.ini"}


Place = TypeVar("Place")


@dataclass
class Tree(Generic[Place]):
    """What is in a folder: where each file is, folders, and what was not followed and why."""

    files: dict[tuple[str, ...], Place] = field(default_factory=dict)
    folders: list[tuple[str, ...]] = field(default_factory=list)
    set_aside: dict[tuple[str, ...], str] = field(default_factory=dict)


def read_folder(root: Path) -> Source:
    """The images below a folder; the folder an image is in is its class."""
    return arrange(
        str(root), walk(root), lambda files: FilePixels(tuple(file or "" for file in files))
    )


def arrange(
    name: str, tree: Tree[Place], pixels: Callable[[Sequence[Place | None]], Encoded]
) -> Source:
    """The rows of a tree: splits and classes from the folders that the files are in.

    Args:
        name: what the user called the data.
        tree: files, folders and what is set aside, each by the parts of its path.
        pixels: makes the source of pixels from the place of every row, None where set aside.
    """
    split_layout, warnings = _layout(tree)
    rows = sorted([*tree.files, *tree.set_aside])
    placed = [place(parts, split_layout) for parts in rows]
    classes = {place((*parts, ""), split_layout)[1] for parts in tree.folders}
    for empty in sorted(label for label in classes - {label for _, label in placed} if label):
        warnings.append(f"the class folder {empty!r} is empty: it is not a class of the task")
    return Source(
        name=name,
        paths=["/".join(parts) for parts in rows],
        labels=[None if parts in tree.set_aside else placed[i][1] for i, parts in enumerate(rows)],
        splits=[split for split, _ in placed],
        pixels=pixels([tree.files.get(parts) for parts in rows]),
        set_aside={i: tree.set_aside[p] for i, p in enumerate(rows) if p in tree.set_aside},
        warnings=tuple(warnings),
    )


def place(parts: tuple[str, ...], split_layout: bool) -> tuple[str | None, str | None]:
    """Split and class of a file, from the folders it is in; None where there is none."""
    split = None
    if split_layout and len(parts) > 1 and parts[0].casefold() in SPLIT_NAMES:
        split, parts = SPLIT_NAMES[parts[0].casefold()], parts[1:]
    if len(parts) == 1 or parts[0].casefold() == UNLABELED_FOLDER:
        return split, None
    return split, parts[0]


def is_hidden(name: str) -> bool:
    """True for the names that systems give to what is not for people."""
    return name.startswith(".") or name.casefold() in _HIDDEN


def walk(root: Path) -> Tree[str]:
    """Every file below a folder. Links are followed, but each real folder is read only once.

    Folders are read before links to folders, so that of the two names of a folder the real one
    counts, wherever it stands in the alphabet.
    """
    tree: Tree[str] = Tree()
    links: list[tuple[tuple[str, ...], str]] = []
    seen = {_identity(root.stat()): "."}
    waiting: list[tuple[tuple[str, ...], str]] = [((), str(root))]
    while waiting or links:
        parts, folder = waiting.pop() if waiting else links.pop(0)
        if parts and not _first_visit(parts, folder, seen, tree):
            continue
        for entry in _entries(parts, folder, tree):
            here = (*parts, entry.name)
            reason, is_folder = _look(entry)
            if reason:
                tree.set_aside[here] = reason
            elif not is_folder:
                tree.files[here] = entry.path
            elif entry.is_symlink():
                links.append((here, entry.path))
            else:
                waiting.append((here, entry.path))
    return tree


def _first_visit(
    parts: tuple[str, ...], folder: str, seen: dict[tuple[int, int], str], tree: Tree[str]
) -> bool:
    try:
        identity = _identity(Path(folder).stat())
    except OSError as error:
        tree.set_aside[parts] = f"unreadable: {error.strerror}"
        return False
    if identity in seen:
        tree.set_aside[parts] = f"link to a folder that is read already: {seen[identity]}"
        return False
    seen[identity] = "/".join(parts)
    tree.folders.append(parts)
    return True


def _entries(parts: tuple[str, ...], folder: str, tree: Tree[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        tree.set_aside[parts or (".",)] = f"unreadable: {error.strerror}"
        return []


def _look(entry: os.DirEntry[str]) -> tuple[str | None, bool]:
    """The reason why an entry is not followed, if any, and whether it is a folder."""
    if is_hidden(entry.name):
        return "hidden", False
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        return ("broken link" if entry.is_symlink() else f"unreadable: {error.strerror}"), False
    if stat.S_ISDIR(mode):
        return None, True
    return (None if stat.S_ISREG(mode) else "not an image: not a regular file"), False


def _layout(tree: Tree[Any]) -> tuple[bool, list[str]]:
    """Whether the top folders are splits. Beside other folders, 'train' is a class (a vehicle)."""
    top = [parts[0] for parts in tree.folders if len(parts) == 1]
    splits = [name for name in top if name.casefold() in SPLIT_NAMES]
    others = [name for name in top if name.casefold() not in {*SPLIT_NAMES, UNLABELED_FOLDER}]
    if splits and others:
        return False, [
            f"the folders {first_few(splits)} are taken for classes, not for splits, "
            f"because other class folders stand beside them: {first_few(others)}"
        ]
    return bool(splits), []


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
