"""Page: a map as one HTML file that opens offline and stays within a number of bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelwise.atlas.facets import Facet
from labelwise.atlas.sprites import Sprites
from labelwise.plain import plain
from labelwise.report.template import inlined, templates

LIMIT = 39_000_000  # bytes of the page
OF_NAMES = 12_000_000  # bytes of paths, and of class names, at most
SLACK = 20_000  # bytes: sentences, and the tags around sheets
LONGEST = 200  # characters of a name, at most
FINE = 2**16 - 1  # steps of a coordinate over the width of the map
SCRIPTS = ("points.js", "colors.js", "view.js", "tiles.js", "panel.js", "controls.js")


@dataclass(frozen=True)
class Before:
    """The M points of the map that new ones were placed on.

    Attributes:
        paths: their names.
        labels: class names, or None.
        layouts: coordinates by layout, float32 (M, 2).
    """

    paths: Sequence[str]
    labels: Sequence[str | None]
    layouts: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Content:
    """What a page shows of N images.

    Attributes:
        title: of the page.
        ids: rows of the data set, int64 (N,).
        paths: their names.
        layouts: coordinates by layout, float32 (N, 2).
        facets: what the points are colored by, the first at first.
        confidence: of the predictions, in [0, 1], float32 (N,); None without them.
        neighbors: numbers of the nearest images by angle, best first, int64 (N, k).
        notes: sentences about the map.
        before: of the map that the images were placed on, or None.
    """

    title: str
    ids: np.ndarray
    paths: Sequence[str]
    layouts: Mapping[str, np.ndarray]
    facets: Sequence[Facet]
    confidence: np.ndarray | None
    neighbors: np.ndarray
    notes: Sequence[str]
    before: Before | None = None


def render(content: Content, make_sprites: Callable[[int], Sprites]) -> str:
    """The page as text.

    Args:
        make_sprites: small copies of the images, given the bytes that their sheets may have.
    """
    count = len(content.ids)
    empty = Sprites(1, 1, (), np.full(count, -1), np.zeros((count, 2), np.int64))
    values, notes = _values(content)
    without = _page(content.title, values, empty, notes)
    found = make_sprites(max(0, LIMIT - SLACK - len(without.encode())))
    shown = int((found.slots >= 0).sum())
    if shown < count:
        notes = [*notes, f"Small copies of {shown:,} of {count:,} images are in the page."]
    return _page(content.title, values, found, notes)


def _page(title: str, values: dict[str, Any], found: Sprites, notes: Sequence[str]) -> str:
    tiles = {
        "side": found.side,
        "columns": found.columns,
        "kinds": [sheet.kind for sheet in found.sheets],
        "slots": _numbers(found.slots + 1, "u4"),  # 0: none
        "sizes": _numbers(found.sizes, "u1"),
    }
    return (
        templates("atlas")
        .get_template("map.html")
        .render(
            title=shortened([plain(title)])[0],
            embedded={**values, "tiles": tiles, "notes": list(notes)},
            sheets=found.sheets,
            style=inlined("atlas", "map.css"),
            script=inlined("atlas", *SCRIPTS),
        )
    )


def _values(content: Content) -> tuple[dict[str, Any], list[str]]:
    """All that the scripts get but the small copies, and the sentences about it."""
    before = content.before or Before((), (), {})
    paths = [plain(path) for path in (*content.paths, *before.paths)]
    short = shortened(paths)
    notes = list(content.notes)
    if short != paths:
        notes.append("Long names are cut here; the table beside the page has them whole.")
    values: dict[str, Any] = {
        "count": len(content.ids),
        "ids": _packed(content.ids),
        "paths": short,
        "facets": [_facet(facet) for facet in content.facets],
        "confidence": None,
        "neighbors": _packed(content.neighbors),
        "near": content.neighbors.shape[1],
        "layouts": {
            name: quantized(np.concatenate([found, *_of(before, name)]))
            for name, found in content.layouts.items()
        },
        "before": _before(before),
    }
    if content.confidence is not None:
        values["confidence"] = _packed(np.floor(content.confidence * FINE))
    return values, notes


def _before(before: Before) -> dict[str, Any]:
    """The labels of the points of the other map."""
    names = sorted({name for name in before.labels if name is not None})
    place = {name: number for number, name in enumerate(names)}
    numbers = [len(names) if name is None else place[name] for name in before.labels]
    return {
        "names": [*shortened([plain(name) for name in names]), "no label"],
        "labels": _packed(np.array(numbers, np.int64)),
    }


def _of(before: Before, layout: str) -> list[np.ndarray]:
    return [before.layouts[layout]] if len(before.paths) else []


def _facet(facet: Facet) -> dict[str, Any]:
    return {**facet.embedded(_packed), "names": shortened(facet.names)}


def shortened(names: Sequence[str]) -> list[str]:
    """Names that together fit into OF_NAMES bytes; of a long one the end is left."""
    longest = LONGEST
    while True:
        short = [n if len(n) <= longest else "…" + n[len(n) - longest + 1 :] for n in names]
        if longest == 1 or len(json.dumps(short)) <= OF_NAMES:
            return short
        longest //= 2


def quantized(points: np.ndarray) -> dict[str, str]:
    """Coordinates in FINE steps over the longer side of their frame, which keeps its shape."""
    low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
    side = (high - low).max() or 1.0
    steps = np.rint(((points - (low + high) / 2) / side + 0.5) * FINE).clip(0, FINE)
    return _numbers(steps, "u2")


def _packed(values: np.ndarray) -> dict[str, str]:
    """Whole numbers from 0 in as few bytes as their largest needs."""
    largest = values.max(initial=0)
    return _numbers(
        values, next(kind for kind in ("u1", "u2", "u4") if largest < 256 ** int(kind[1]))
    )


def _numbers(values: np.ndarray, kind: str) -> dict[str, str]:
    data = values.astype(f"<{kind}").tobytes()
    return {"kind": kind, "base64": base64.b64encode(data).decode()}
