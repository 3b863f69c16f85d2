"""Who is taken for whom: the matrix, the images behind its cells, and the confident mistakes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from labelwise.report.run_folder import Predictions
from labelwise.report.text import plain

LARGEST_MATRIX = 100  # classes; above that the most frequent confusions stand alone
PER_CELL = 12  # images listed behind a cell
GALLERY = 36  # confident mistakes
PAIRS = 10  # most frequent confusions

Entry = tuple[int, int, int, float]  # row number, label, predicted, probability of the predicted


def _rounded(probability: float) -> float:
    """Six digits, rounded down: only a probability of 1 is shown as certain."""
    return math.floor(1e6 * float(probability)) / 1e6


def cells(found: Predictions) -> dict[tuple[int, int], list[Entry]]:
    """The images behind every (label, predicted), most confident first, each image once."""
    confidence = found.confidence
    order = np.lexsort((found.ids, -confidence))
    result: dict[tuple[int, int], list[Entry]] = {}
    seen: set[tuple[int, int]] = set()  # an image can be in one cell several times, with repeats
    for row in order:
        image, label = int(found.ids[row]), int(found.labels[row])
        predicted = int(found.predicted[row])
        entries = result.setdefault((label, predicted), [])
        if len(entries) < PER_CELL and (image, predicted) not in seen:
            seen.add((image, predicted))
            entries.append((image, label, predicted, _rounded(confidence[row])))
    return result


def by_importance(listed: dict[tuple[int, int], list[Entry]]) -> list[int]:
    """Rows whose thumbnails matter most: mistakes before hits, the first of each cell first."""
    ranked = sorted(
        (label == predicted, place, label, predicted, entry[0])
        for (label, predicted), entries in listed.items()
        for place, entry in enumerate(entries)
    )
    return [item[-1] for item in ranked]


def matrix(counts: list[list[int]], names: tuple[str, ...]) -> dict[str, Any] | None:
    """The heat map: per label a row of cells with count, share of the row and depth of color."""
    if len(names) > LARGEST_MATRIX:
        return None
    rows = []
    for label, row in enumerate(counts):
        total = sum(row)
        shown = [
            {
                "predicted": predicted,
                "count": count,
                "share": count / total if total else 0.0,
                # The square root keeps a share of 1 % visible.
                "depth": round(100 * float(np.sqrt(count / total))) if total else 0,
            }
            for predicted, count in enumerate(row)
        ]
        rows.append({"label": label, "name": plain(names[label]), "total": total, "cells": shown})
    columns = [
        {"name": plain(name), "total": sum(row[k] for row in counts)}
        for k, name in enumerate(names)
    ]
    return {"rows": rows, "columns": columns, "size": _size(names)}


def _size(names: tuple[str, ...]) -> str:
    """Style classes: how large the cells are, and whether the names above them are turned."""
    longest, classes = max(map(len, names)), len(names)
    for size, most, room in (("large", 6, 0), ("medium", 12, 6), ("small", 30, 3)):
        if classes <= most:
            return f"{size} turned" if longest > room and size != "large" else size
    return "tiny turned"


def pairs(counts: list[list[int]], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The most frequent confusions, in both directions apart."""
    found = [
        (count, label, predicted, count / sum(row))
        for label, row in enumerate(counts)
        for predicted, count in enumerate(row)
        if label != predicted and count
    ]
    found.sort(key=lambda item: (-item[0], item[1], item[2]))
    return [
        {
            "label": label,
            "predicted": predicted,
            "label_name": plain(names[label]),
            "predicted_name": plain(names[predicted]),
            "count": count,
            "share": share,
        }
        for count, label, predicted, share in found[:PAIRS]
    ]


def mistakes(found: Predictions) -> list[Entry]:
    """The most confident mistakes: highest probability of a wrong class, each image once."""
    wrong = np.flatnonzero(found.predicted != found.labels)
    confidence = found.confidence
    order = wrong[np.lexsort((found.ids[wrong], -confidence[wrong]))]
    best: dict[int, Entry] = {}
    for row in order:
        image = int(found.ids[row])
        if image not in best:
            label, predicted = int(found.labels[row]), int(found.predicted[row])
            best[image] = (image, label, predicted, _rounded(confidence[row]))
        if len(best) == GALLERY:
            break
    return list(best.values())
