"""The data: a sample of every class, what was decided about the files, and duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from labelwise.data.dataset import SET_ASIDE, UNLABELED, Dataset
from labelwise.report.text import path as shown_path
from labelwise.report.text import plain

CLASSES_SHOWN = 40  # classes with a sample
PER_CLASS = 8  # images of a class in the sample; twice as many if there are few classes
FEW_CLASSES = 12
LISTED = 200  # files set aside
REASONS = 30
GROUPS, PER_GROUP = 8, 6  # duplicates with thumbnails


def samples(dataset: Dataset, sealed: np.ndarray, seed: int) -> list[dict[str, Any]]:
    """A few images of every class, drawn by seed; of unlabeled ones as well.

    Args:
        sealed: rows of the test part: who looks at these has none left.
    """
    usable, labels = dataset.usable, dataset.labels
    names = dataset.class_names[:CLASSES_SHOWN]
    each = PER_CLASS * (2 if len(names) <= FEW_CLASSES else 1)
    rng = np.random.default_rng([seed, 6])
    result = []
    for label, name in [*enumerate(names), (UNLABELED, "without a label")]:
        rows = usable[labels[usable] == label]
        if not len(rows):
            continue
        seen = np.setdiff1d(rows, sealed)
        drawn = rng.choice(seen, min(each, len(seen)), replace=False)
        result.append(
            {
                "name": plain(name),
                "unlabeled": label == UNLABELED,
                "n": len(rows),
                "rows": sorted(drawn.tolist()),
            }
        )
    return result


def decisions(table: pd.DataFrame) -> dict[str, Any]:
    """How many files were used, converted, set aside, and why; the list of those set aside."""
    reasons = table["reason"].astype(object).where(table["reason"].notna(), "")
    grouped = Counter(zip(table["decision"].astype(str), reasons, strict=True))
    ranked = sorted(grouped.items(), key=lambda item: (-item[1], item[0]))
    aside = table[table["decision"] == SET_ASIDE]
    return {
        "counts": [
            {"decision": plain(decision), "reason": plain(reason), "n": n}
            for (decision, reason), n in ranked[:REASONS]
        ],
        "more": max(len(grouped) - REASONS, 0),
        "aside": [
            {"path": shown_path(path), "reason": plain(reason)}
            for path, reason in zip(aside["path"][:LISTED], aside["reason"][:LISTED], strict=True)
        ],
        "aside_total": len(aside),
        "total": len(table),
    }


def duplicates(dataset: Dataset, sealed: np.ndarray) -> dict[str, Any]:
    """How many groups of equal images there are, and some of them to look at, conflicts first.

    Args:
        sealed: rows of the test part; groups with any of these are counted only.
    """
    groups, hidden = dataset.duplicates, frozenset(sealed.tolist())
    shown = [group for group in groups if hidden.isdisjoint(group.rows)]
    shown.sort(key=lambda g: (not g.conflict, not g.enforced, g.kind, g.rows))
    counts = [
        _count("exact", "equal pixels", [g.rows for g in groups if g.kind == "exact"]),
        _count("near", "confirmed by correlation", [g.rows for g in groups if g.kind == "near"]),
        _count("with different labels", "look at these", [g.rows for g in groups if g.conflict]),
        _count(
            "too large to enforce",
            "reported only; may straddle a split",
            [g.rows for g in groups if not g.enforced],
        ),
    ]
    names = dataset.class_names
    labels = dataset.labels
    return {
        "total": len(groups),
        "counts": counts,
        "groups": [
            {
                "kind": group.kind,
                "conflict": group.conflict,
                "enforced": group.enforced,
                "size": len(group.rows),
                "rows": list(group.rows[:PER_GROUP]),
                "labels": [
                    plain(names[label]) if (label := int(labels[row])) >= 0 else "no label"
                    for row in group.rows[:PER_GROUP]
                ],
            }
            for group in shown[:GROUPS]
        ],
    }


def _count(name: str, told: str, groups: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    return {
        "name": name,
        "told": told,
        "groups": len(groups),
        "images": sum(len(rows) for rows in groups),
    }
