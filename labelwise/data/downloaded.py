"""Data sets of courses and papers by name: mnist, cifar10, mammals, stl10, food.

They are the user's own download, in the folder LABELWISE_DATA: as plain files, or as torchvision
keeps them. Nothing is downloaded here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labelwise.data.arrays import ArraySource, rows_of
from labelwise.data.blocks import as_block
from labelwise.data.source import first_few
from labelwise.errors import DataError

FOLDER = "LABELWISE_DATA"  # the environment variable; without it, the folder `data` beside the user

_BY_TRAIN = {"train": {"train": True}, "test": {"train": False}}
_BY_SPLIT = {name: {"split": name} for name in ("train", "test", "unlabeled")}


@dataclass(frozen=True)
class Download:
    """A data set that is asked for by name, as the user has downloaded it.

    Attributes:
        files: names in the folder, the first that is there is read.
        vision: its class in `torchvision.datasets`, or none.
        parts: by split, how that class is called.
    """

    files: tuple[str, ...]
    vision: str | None = None
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


SETS = {
    "mnist": Download(("mnist.npz",), "MNIST", _BY_TRAIN),
    "cifar10": Download(("cifar10",), "CIFAR10", _BY_TRAIN),
    "mammals": Download(("cifar100_mammals",), "CIFAR100", _BY_TRAIN),
    "stl10": Download(("stl10", "stl10.tar"), "STL10", _BY_SPLIT),
    "food": Download(("photos_food", "photos_food.tar")),
}

#: The superclasses of CIFAR-100 that are mammals of the wild, each with its five classes.
MAMMALS = {
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
}
_LEVELS = ("fine_label", "coarse_label")


def data_folder() -> Path:
    """Where data sets that are asked for by name are looked for."""
    return Path(os.environ.get(FOLDER) or "data").expanduser()


def file_of(name: str) -> Path | None:
    """The file or folder of a data set, if it is there."""
    places = (data_folder() / file for file in SETS[name].files)
    return next((place for place in places if place.exists()), None)


def vision_parts(name: str) -> dict[str, Any]:
    """The data set as torchvision has downloaded it: an object per split.

    Raises:
        DataError: it is not there, or damaged.
    """
    data, folder = SETS[name], data_folder()
    if data.vision is None:
        raise DataError(_not_there(name))
    import torchvision.datasets

    make = getattr(torchvision.datasets, data.vision)
    try:
        return {
            split: make(str(folder), download=False, **arguments)
            for split, arguments in data.parts.items()
        }
    except RuntimeError:  # what torchvision says of data that are not there
        raise DataError(_not_there(name)) from None
    except (ValueError, OSError, EOFError, IndexError, KeyError) as error:
        raise DataError(
            f"{name!r} in the folder {str(folder)!r} is damaged ({error}). Delete it there and "
            "download it again."
        ) from None


def mammals(target: str | None) -> ArraySource:
    """The images of CIFAR-100, as torchvision has it, that show one of fifteen mammals.

    Args:
        target: `fine_label` (15 classes) or `coarse_label` (their 3 superclasses).

    Raises:
        DataError: the data are not there, or there is no such label column.
    """
    if target not in _LEVELS:
        said = "two label columns" if target is None else f"no label column {target!r}"
        raise DataError(f"'mammals' has {said}. Choose one with --target: {first_few(_LEVELS)}.")
    above = {fine: coarse for coarse, names in MAMMALS.items() for fine in names}
    blocks, paths, splits = [], [], []
    labels: list[str | None] = []
    for split, part in vision_parts("mammals").items():
        names = np.array(part.classes)[part.targets]
        rows = np.flatnonzero(np.isin(names, list(above)))
        block = as_block(np.asarray(part.data)[rows], split, [])
        blocks.append(block)
        paths += rows_of(split, block)
        labels += [above[name] if target == "coarse_label" else str(name) for name in names[rows]]
        splits += [split] * len(block)
    order = tuple(above) if target == "fine_label" else tuple(MAMMALS)
    return ArraySource(tuple(blocks), paths, labels, splits, class_names=order, target=target)


def _not_there(name: str) -> str:
    data, folder = SETS[name], data_folder()
    wanted = " or ".join(data.files)
    download = ""
    if data.vision is not None:
        first = ", ".join(f"{key}={value!r}" for key, value in data.parts["train"].items())
        made = f"{data.vision}({str(folder)!r}, {first}, download=True)"
        download = f', or download it: python -c "from torchvision.datasets import *; {made}"'
    return (
        f"{name!r} is not in the folder {str(folder)!r}, which {FOLDER} sets. "
        f"Put {wanted} there{download}."
    )
