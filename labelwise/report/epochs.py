"""Over the epochs: averaged metrics of every variant as curves, and the counts behind them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from labelwise.epochs import PARTS, Epochs, epochs_of
from labelwise.measure.counts import AVERAGES, COUNTED, averages_of, per_class_of
from labelwise.report import text
from labelwise.report.charts import chart
from labelwise.report.curves import TRAIN, VALIDATION, mean_line
from labelwise.report.run_folder import RunFolder

LARGEST = 100  # classes; above that the page has curves and no counts
MOST_BYTES = 1_000_000  # of counts on the page
NAMES = {
    "precision": "precision",
    "recall": "recall",
    "f_beta": "F1",
    "specificity": "specificity",
    "fall_out": "fall-out",
}
#: F lies between what these give, as far as an axis has to know.
BETAS = (0.001, 0.25, 0.5, 1.0, 2.0, 4.0, 1000.0)

Folds = Mapping[int, Mapping[str, Epochs]]  # fold -> part -> counts


def section(run: RunFolder, names: Sequence[str]) -> dict[str, Any] | None:
    """Charts of every variant with epochs, at the number of labels that decides; None without."""
    labels = run.leaderboard["recommended_labels"]
    rows = sorted(
        (row for row in run.rows if row["labels"] == labels),
        key=lambda row: row["variant"] != run.leaderboard["recommended"],
    )
    found = {row["variant"]: folds for row in rows if (folds := _folds(run.epochs(row)))}
    if not found:
        return None
    embedded, step = _embedded(found) if len(names) <= LARGEST else (None, 1)
    return {
        "labels": text.labels_name(labels),
        "averages": AVERAGES,
        "variants": [
            {
                "variant": variant,
                "folds": ", ".join(map(str, folds)),
                "charts": {how: _charts(folds, how) for how in AVERAGES},
            }
            for variant, folds in found.items()
        ],
        "embedded": embedded,
        "step": step,
        "counts": _last(next(iter(found.values())), names) if embedded else None,
    }


def _folds(histories: Mapping[int, pd.DataFrame]) -> Folds:
    """The counts of every fold that has some."""
    found = {
        fold: {part: counts for part in PARTS if (counts := epochs_of(table, part)) is not None}
        for fold, table in histories.items()
    }
    return {fold: parts for fold, parts in found.items() if parts}


def _charts(folds: Folds, how: str) -> list[dict[str, Any]]:
    """One chart per metric, by one way of averaging."""
    tables = [_table(parts, how) for parts in folds.values()]
    return [{"live": name == "f_beta", "chart": _chart(tables, name)} for name in COUNTED]


def _table(parts: Mapping[str, Epochs], how: str) -> pd.DataFrame:
    """A row per epoch, and a column for every part and metric; for F one per beta as well."""
    columns = []
    for part, counts in parts.items():
        cells = (counts.tp, counts.fp, counts.fn)
        values = averages_of(*cells)
        found = {f"{part}_{name}": values[f"{how}_{name}"] for name in COUNTED}
        found |= {
            f"{part}_f_beta_{beta:g}": averages_of(*cells, beta=beta)[f"{how}_f_beta"]
            for beta in BETAS
        }
        columns.append(pd.DataFrame(found, index=pd.Index(counts.epoch, name="epoch")))
    return pd.concat(columns, axis=1).reset_index()


def _chart(tables: Sequence[pd.DataFrame], name: str) -> Markup:
    lines = [
        line
        for part, color in (("train", TRAIN), ("validation", VALIDATION))
        if (line := mean_line(tables, "epoch", f"{part}_{name}", part, color))
    ]
    room = [
        value
        for table in tables
        for column in (table.filter(like="_f_beta_") if name == "f_beta" else [])
        for value in table[column]
        if math.isfinite(value)
    ]
    title = f"{NAMES[name]}, %"
    return chart(
        title, lines, x_label="epoch", percent=True, limits=(0.0, 1.0), bare=True, room=room
    )


def _embedded(found: Mapping[str, Folds]) -> tuple[list[dict[str, Any]] | None, int]:
    """Counts for the script, of every m-th epoch and the last, and m: the least that fits."""
    longest = max(
        len(c.epoch) for folds in found.values() for p in folds.values() for c in p.values()
    )
    step = 1
    while True:
        values = [_variant(variant, folds, step) for variant, folds in found.items()]
        if len(json.dumps(values)) <= MOST_BYTES:
            return values, step
        if step >= longest:
            return None, step
        step *= 2


def _variant(variant: str, folds: Folds, step: int) -> dict[str, Any]:
    return {
        "name": text.plain(variant),
        "folds": [
            {"fold": fold, **{part: _listed(counts, step) for part, counts in parts.items()}}
            for fold, parts in folds.items()
        ],
    }


def _listed(counts: Epochs, step: int) -> dict[str, Any]:
    """Epochs and, per epoch, the numbers of all classes."""
    kept = (counts.epoch - 1) % step == 0
    kept[-1] = True
    return {
        "epoch": counts.epoch[kept].tolist(),
        **{name: getattr(counts, name)[kept].astype(int).tolist() for name in ("tp", "fp", "fn")},
    }


def _last(folds: Folds, names: Sequence[str]) -> dict[str, Any]:
    """The table as it stands before anyone chooses: the last epoch that was validated."""
    part = "validation" if any("validation" in parts for parts in folds.values()) else "train"
    found = [parts[part] for parts in folds.values() if part in parts]
    epoch = max(int(counts.epoch[-1]) for counts in found)
    reached = {f: p[part] for f, p in folds.items() if part in p and p[part].epoch[-1] == epoch}
    tp, fp, fn, tn = (
        np.sum([getattr(counts, name)[-1] for counts in reached.values()], axis=0)
        for name in ("tp", "fp", "fn", "tn")
    )
    classes, averages = per_class_of(tp, fp, fn), averages_of(tp, fp, fn)
    return {
        "part": part,
        "epoch": epoch,
        "folds": ", ".join(map(str, reached)),
        "rows": [
            {
                "name": name,
                "counts": [int(count[k]) for count in (tp, fp, fn, tn)],
                "values": [text.value(float(classes[what][k]), "accuracy") for what in COUNTED],
            }
            for k, name in enumerate(names)
        ],
        "averages": [
            {
                "name": how,
                "values": [
                    text.value(float(averages[f"{how}_{what}"]), "accuracy") for what in COUNTED
                ],
            }
            for how in AVERAGES
        ],
    }
