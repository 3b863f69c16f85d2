"""ROC and precision-recall curves of the recommended row, per class and averaged, with areas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from labelwise.data.dataset import Dataset
from labelwise.measure.bands import GRID, Band, curve_bands
from labelwise.measure.curves import Of, pr_of, roc_of, steps, thinned
from labelwise.measure.scoring import Floats, Scorer
from labelwise.report import text
from labelwise.report.charts import BOTTOM, COLORS, LEFT, RIGHT, TOP, Points, frame
from labelwise.report.run_folder import Predictions, RunFolder
from labelwise.report.svg import Scale, element, path, picture

FEW_CLASSES = COLORS  # so many are drawn together; of more the worst few
WORST = 3
MOST_CLASSES = 100  # that can be chosen, the worst first
SIDE = 300.0  # of the square that the curves are in
AVERAGES = ("macro", "micro")
TICKS = [(share / 100, str(share)) for share in range(0, 101, 20)]


@dataclass(frozen=True)
class Drawn:
    """A class, or an average, as it is drawn.

    Attributes:
        of: a class number, "micro" or "macro".
        style: its classes in the style sheet.
        shown: whether it is there before anyone chooses it.
    """

    of: Of
    name: str
    style: str
    shown: bool
    floor: float  # precision of guessing


def section(run: RunFolder, dataset: Dataset, found: Predictions | None) -> dict[str, Any] | None:
    """Both charts, what can be chosen, and the table; None where only one class has labels."""
    row = run.recommended
    if row is None or found is None or len(np.unique(found.labels)) == 1:
        return None
    scorer = Scorer(found.labels, found.proba)
    bands = curve_bands(
        found.labels,
        found.proba,
        groups=dataset.groups[found.ids],
        seed=run.record["settings"]["seed"],
    )
    drawn = _drawn(scorer, [text.plain(name) for name in dataset.class_names])
    focus = drawn[0].of
    rocs, prs = [], []
    for item in drawn:
        roc, pr = roc_of(scorer, item.of), steps(pr_of(scorer, item.of))
        level = [(0.0, item.floor), (1.0, item.floor)]
        style = f"curve {item.style}{'' if item.shown else ' unchosen'}"
        style += " focus" if item.of == focus else ""
        rocs.append(_group(item, style, np.column_stack([roc.x, roc.y]), bands[item.of][0], []))
        prs.append(_group(item, style, pr, bands[item.of][1], level))
    # The one in focus is drawn last, above the others.
    return {
        "roc": _chart("ROC: recall, %", "fall-out, %", [_chance(), *rocs[::-1]]),
        "pr": _chart("Precision-recall: precision, %", "recall, %", prs[::-1]),
        "choices": [(str(item.of), item.name) for item in drawn],
        "legend": [(item.name, item.style) for item in drawn if item.shown],
        "hidden": sum(not item.shown for item in drawn),
        "areas": _areas(row, drawn),
        "tested": row["test"] is not None,
        "left_out": len(np.unique(found.labels)) - sum(item.of not in AVERAGES for item in drawn),
        "class_1": text.plain(dataset.class_names[1]) if scorer.classes == 2 else None,
    }


def _drawn(scorer: Scorer, names: list[str]) -> list[Drawn]:
    """The one that the metrics speak of first: the macro average, or class 1 of two classes."""
    present, counts = np.unique(scorer.labels, return_counts=True)
    share = dict(zip(present.tolist(), (counts / scorer.rows).tolist(), strict=True))
    micro = Drawn("micro", "micro average", "micro", True, 1 / scorer.classes)
    worst = sorted(share, key=lambda k: pr_of(scorer, k).area)[:MOST_CLASSES]
    few = len(worst) <= FEW_CLASSES
    classes = [
        Drawn(k, names[k], f"c{(k if few else place) % COLORS}", few or place < WORST, share[k])
        for place, k in enumerate(worst)
    ]
    if scorer.classes == 2:
        return [*sorted(classes, key=lambda item: item.of != 1), micro]
    mean = sum(share.values()) / len(share)
    return [Drawn("macro", "macro average", "macro", True, mean), micro, *classes]


def _group(item: Drawn, style: str, points: Floats, band: Band, floor: Points) -> Markup:
    """A curve with its band and the precision of guessing, which show when it is in focus."""

    def at(line: Any) -> str:
        return path([(X(a), Y(b)) for a, b in line])

    around = [*zip(GRID, band.high, strict=True), *zip(GRID[::-1], band.low[::-1], strict=True)]
    return element(
        "g",
        element("title", item.name),
        element("path", d=at(around) + "Z", class_="band"),
        element("path", d=at(floor), class_="floor") if floor else None,
        element("path", d=at(thinned(points)), class_=f"line {item.style}"),
        class_=style, data_curve=str(item.of),
    )  # fmt: skip


X = Scale(0.0, 1.0, LEFT, LEFT + SIDE)
Y = Scale(0.0, 1.0, TOP + SIDE, TOP)


def _chance() -> Markup:
    ends = path([(X(0), Y(0)), (X(1), Y(1))])
    return element("path", element("title", "guessing"), d=ends, class_="floor")


def _chart(title: str, x_label: str, parts: list[Markup]) -> Markup:
    around = frame(title, X, Y, TICKS, factor=100, x_label=x_label)
    return picture(LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM, title, [*around, *parts])


def _areas(row: Mapping[str, Any], drawn: list[Drawn]) -> list[dict[str, Any]]:
    """A line per curve: both areas with their intervals, held out and of the test part."""
    tested = row["test"] is not None
    return [
        {
            "name": item.name,
            "n": _number(row["metrics"], row["per_class"], item.of, "auroc").get("n"),
            "floor": _shown({"value": item.floor}, "average_precision"),
            "numbers": [
                _shown(_number(metrics, classes, item.of, area), area)
                for area in ("auroc", "average_precision")
                for metrics, classes in (
                    (row["metrics"], row["per_class"]),
                    *([(row["test"], row.get("test_per_class"))] if tested else []),
                )
            ],
        }
        for item in drawn
    ]


def _number(
    metrics: Mapping[str, Any], classes: list[dict[str, Any]] | None, of: Of, area: str
) -> Mapping[str, Any]:
    """An area with its interval; empty where the run, being an older one, has not measured it."""
    if isinstance(of, str):
        return metrics.get(area if of == "macro" else f"micro_{area}") or {}
    return (classes[of].get(area) or {}) if classes else {}


def _shown(number: Mapping[str, Any], area: str) -> dict[str, Any]:
    value = number.get("value")
    interval = text.interval(number, area)
    return {"value": text.value(value, area), "interval": interval, "sort": value}
