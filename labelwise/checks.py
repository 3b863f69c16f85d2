"""`check`: what is in the data, and what is wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from labelwise.data.dataset import UNLABELED, USED, Dataset
from labelwise.data.load import Loadable, load
from labelwise.data.source import Advance, first_few, shown
from labelwise.plain import counted, plain

FEW = 5  # images of a class below which nearly nothing can be said about it
UNEVEN = 10  # times as many images of the largest class as of the smallest
WILD = 8  # times the area of the larger images as of the smaller ones, at the 5 % ends
_NO_SPLIT = "no split"


@dataclass(frozen=True)
class Check:
    """What a look at the data found.

    Attributes:
        data: the data that were looked at.
        classes: per class, the number of usable images of every split, and "total".
        warnings: those of the data, then those about the numbers.
    """

    data: Dataset
    classes: dict[str, dict[str, int]]
    warnings: tuple[str, ...]

    @property
    def labeled(self) -> int:
        """Usable images with a label."""
        return len(self.data.labeled)

    @property
    def unlabeled(self) -> int:
        """Usable images without a label."""
        return len(self.data.usable) - self.labeled

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values that any JSON writer takes: no NaN, no lone surrogates."""
        paths = self.data.table["path"].tolist()
        return {
            "name": shown(self.data.name),
            "images": len(self.data.usable),
            "labeled": self.labeled,
            "unlabeled": self.unlabeled,
            "classes": self.classes,
            "warnings": list(self.warnings),
            "duplicates": [
                {
                    "paths": [paths[row] for row in group.rows],
                    "kind": group.kind,
                    "enforced": group.enforced,
                    "conflict": group.conflict,
                }
                for group in self.data.duplicates
            ],
            "files": self._files(),
        }

    def summary(self) -> RenderableType:
        """The same for a person: classes, decisions with examples, warnings."""
        heading = (
            f"{self.data.name}: {counted(len(self.data.usable), 'image')}, "
            f"{self.labeled:,} labeled, {self.unlabeled:,} unlabeled, "
            f"{counted(len(self.classes), 'class', 'classes')}"
        )
        parts: list[RenderableType] = [_text(heading, "bold"), self._class_table()]
        parts.append(self._decision_table())
        parts += [_text(f"warning: {warning}", "yellow") for warning in self.warnings]
        if self.data.duplicates or len(self.data.usable) < len(self.data.table):
            parts.append(_text("With --json every file and every group of copies is named."))
        return Group(*parts)

    def _files(self) -> list[dict[str, Any]]:
        table = self.data.table
        names = dict(enumerate(self.data.class_names))
        columns = {
            name: [None if missing else value for value, missing in zip(
                table[name].tolist(), table[name].isna().tolist(), strict=True)]
            for name in ("path", "decision", "reason", "width", "height", "mode", "split")
        }  # fmt: skip
        labels = [names.get(label) for label in self.data.labels.tolist()]
        rows = zip(*columns.values(), labels, strict=True)
        return [dict(zip([*columns, "label"], row, strict=True)) for row in rows]

    def _class_table(self) -> Table:
        splits = [name for name in ("train", "val", "test", _NO_SPLIT) if self._has(name)]
        table = Table("class", *([*splits] if len(splits) > 1 else []), "images")
        for name, counts in self.classes.items():
            cells = [str(counts.get(split, 0)) for split in splits] if len(splits) > 1 else []
            table.add_row(_text(name), *cells, str(counts["total"]))
        return table

    def _has(self, split: str) -> bool:
        return any(split in counts for counts in self.classes.values())

    def _decision_table(self) -> Table:
        table = Table("decision", "reason", "files", "for example")
        examples: dict[tuple[str, str], list[str]] = defaultdict(list)
        for file in self._files():
            examples[file["decision"], file["reason"] or ""].append(file["path"])
        for (decision, reason), paths in sorted(examples.items(), key=lambda item: item[0][0]):
            first = "" if decision == USED else first_few(paths, 2)
            table.add_row(decision, _text(reason), str(len(paths)), _text(first))
        return table


def check(data: Loadable, *, target: str | None = None, progress: Advance | None = None) -> Check:
    """Look at every image of a source and say what is in there and what is wrong with it.

    Args:
        data: whatever `load` takes.
        target: the label column, where there are several.
        progress: called with (done, total, what).

    Raises:
        DataError: the source cannot be read, or holds no usable image.
    """
    loaded = load(data, target=target, progress=progress)
    classes = _count(loaded)
    found = (*_label_warnings(loaded, classes), *_size_warnings(loaded))
    return Check(loaded, classes, tuple(map(shown, (*loaded.warnings, *found))))


def _count(data: Dataset) -> dict[str, dict[str, int]]:
    """Usable labeled images of every class, by split and in total."""
    splits = data.table["split"].fillna(_NO_SPLIT).to_numpy(dtype=object)
    counts: list[Counter[str]] = [Counter() for _ in data.class_names]
    labels = data.labels
    for row in data.usable:
        if labels[row] != UNLABELED:
            counts[labels[row]][splits[row]] += 1
    return {
        name: {**count, "total": count.total()}
        for name, count in zip(data.class_names, counts, strict=True)
    }


def _label_warnings(data: Dataset, classes: dict[str, dict[str, int]]) -> list[str]:
    totals = {name: counts["total"] for name, counts in classes.items() if counts["total"]}
    labeled = sum(totals.values())
    if not labeled:
        return ["no image has a label: only recipes that learn without labels can use these data"]
    warnings = []
    if labeled == len(data.usable):
        warnings.append("no image is unlabeled: recipes that use unlabeled images gain nothing")
    few = [name for name, total in totals.items() if total < FEW]
    if few:
        warnings.append(f"fewer than {FEW} images of {first_few(few)}")
    largest, smallest = max(totals, key=totals.__getitem__), min(totals, key=totals.__getitem__)
    if totals[largest] >= UNEVEN * totals[smallest]:
        warnings.append(
            f"classes are uneven: {totals[largest]} images of {largest!r}, {totals[smallest]} of "
            f"{smallest!r}; look at balanced accuracy, not at accuracy alone"
        )
    return warnings


def _size_warnings(data: Dataset) -> list[str]:
    sizes = data.table[["width", "height"]].to_numpy(dtype=float, na_value=np.nan)[data.usable]
    areas = sizes.prod(axis=1)
    low, high = np.quantile(areas, [0.05, 0.95])
    if high < WILD * low:
        return []
    small, large = sizes[areas.argmin()].astype(int), sizes[areas.argmax()].astype(int)
    return [
        f"sizes differ widely, from {small[0]} x {small[1]} to {large[0]} x {large[1]} pixels: "
        "if size goes with the class or the camera, a model may learn that instead"
    ]


def _text(text: str, style: str = "") -> Text:
    """Text as it is: no markup, and nothing that could steer a terminal."""
    return Text(plain(text), style)
