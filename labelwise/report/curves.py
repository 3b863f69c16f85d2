"""Sections made of curves: what was seen while training, and what more labels would buy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from labelwise.measure.metrics import METRICS
from labelwise.report import text
from labelwise.report.charts import COLORS, Line, chart
from labelwise.report.run_folder import RunFolder

TRAIN, VALIDATION = 1, 0  # colors: held-out numbers are blue everywhere, train numbers orange


def learning_curves(run: RunFolder) -> list[dict[str, Any]]:
    """Per number of labels, the largest first: a block per variant with its loss and accuracy."""
    blocks = []
    for labels in reversed(run.label_counts):
        rows = [row for row in run.rows if row["labels"] == labels]
        shown = [
            {"variant": row["variant"], "charts": charts, "note": note}
            for row in rows
            for charts, note in [_charts_of(run.histories(row))]
            if charts
        ]
        if shown:
            blocks.append({"labels": text.labels_name(labels), "variants": shown})
    return blocks


def _charts_of(histories: Sequence[pd.DataFrame]) -> tuple[list[Markup], str]:
    """Loss and accuracy of the fold fits of one variant."""
    if not histories:
        return [], ""
    histories = [_of_classifiers(table) for table in histories]
    searched = "strength" in histories[0] and "train_loss" not in histories[0]
    x = "strength" if searched else "epoch"
    label = "regularization strength" if searched else "epoch"
    charts = []
    for what in ("loss", "accuracy"):
        lines = [
            line
            for part, name, color, tables in _parts(histories)
            if (line := mean_line(tables, x, f"{part}_{what}", name, color))
        ]
        if not lines:
            continue
        accuracy = what == "accuracy"
        limits = (0.0, 1.0) if accuracy else (0.0, math.inf)
        values = [y for line in lines for part in (line.points, *line.thin) for _, y in part]
        if min(values) < 0:  # of a density, as in the bound of a vae
            limits = (-math.inf, math.inf)
        charts.append(
            chart(
                "accuracy, %" if accuracy else "loss",
                lines,
                x_label=label,
                x_log=searched,
                percent=accuracy,
                limits=limits,
            )
        )
    note = (
        "No epochs: the head is solved to the end for each strength, judged on inner folds."
        if searched
        else ""
    )
    return charts, note


def _of_classifiers(history: pd.DataFrame) -> pd.DataFrame:
    """Without the epochs that learned codes, before others did a classifier: another loss."""
    return history[history["phase"] != "code"] if "phase" in history else history


def _parts(
    histories: Sequence[pd.DataFrame],
) -> Iterator[tuple[str, str, int, Sequence[pd.DataFrame]]]:
    """Part, its name, color and histories; one per kind of stages where those were chosen too."""
    if "stages" not in histories[0]:
        yield "train", "train", TRAIN, histories
        yield "validation", "validation", VALIDATION, histories
        return
    tried = histories[0]["stages"].unique()
    for number, stages in enumerate(tried):
        name = f"validation, {stages} stage{'' if stages == 'last' else 's'}"
        tables = [table[table["stages"] == stages] for table in histories]
        yield "validation", name if len(tried) > 1 else "validation", number, tables


def mean_line(
    histories: Sequence[pd.DataFrame], x: str, column: str, name: str, color: int
) -> Line | None:
    """The mean over folds, where at least half of them are still training, and each fold thin."""
    thin = []
    for table in histories:
        if column not in table or x not in table:
            continue
        pairs = table[[x, column]].dropna().to_numpy(dtype=float)
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        if len(pairs):
            thin.append([(float(a), float(b)) for a, b in pairs])
    if not thin:
        return None
    at: dict[float, list[float]] = {}
    for points in thin:
        for a, b in points:
            at.setdefault(a, []).append(b)
    mean = [(a, sum(b) / len(b)) for a, b in sorted(at.items()) if 2 * len(b) >= len(thin)]
    return Line(name, color, mean, thin if len(thin) > 1 else ())


def efficiency(run: RunFolder) -> dict[str, Any] | None:
    """The run's metric over the number of labels, a line per variant; None for one number only."""
    variants = list(dict.fromkeys(row["variant"] for row in run.rows))
    lines = []
    for number, variant in enumerate(variants):
        found = []
        for row in run.rows:
            held = (row["metrics"] or {}).get(run.metric) or {}
            if row["variant"] != variant or held.get("value") is None:
                continue
            limits = None if held["low"] is None else (held["low"], held["high"])
            found.append((learned_from(run, row), held["value"], limits))
        found.sort(key=lambda item: item[0])
        if found:
            points = [(a, b) for a, b, _ in found]
            lines.append(Line(variant, number, points, intervals=[limits for *_, limits in found]))
    xs = sorted({x for line in lines for x, _ in line.points})
    if len(xs) < 2:
        return None
    metric = METRICS[run.metric]
    drawn = chart(
        f"{metric.label}{', %' if metric.is_fraction else ''}",
        lines,
        x_label="labels learned from (logarithmic)",
        x_log=True,
        x_ticks=[xs[0], *(b for a, b in pairwise(xs) if b > 1.15 * a)],
        percent=metric.is_fraction,
        limits=(metric.low, metric.high),
        size=(520.0, 300.0),
    )
    return {"chart": drawn, "legend": [(line.name, line.color % COLORS) for line in lines]}


def learned_from(run: RunFolder, row: dict[str, Any]) -> float:
    """Labels that a fold fit may see on average, validation included."""
    records = [record for trial in run.trials(row) if (record := trial.record())]
    counts = [r["images"]["train"] + r["images"]["validation"] for r in records]
    return float(np.round(np.mean(counts))) if counts else 1.0
