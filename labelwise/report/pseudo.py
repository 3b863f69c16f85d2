"""Pseudo-labels: how many were given from round to round, and a sample to check by eye."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from labelwise.data.dataset import UNLABELED
from labelwise.report import text
from labelwise.report.run_folder import RunFolder

SAMPLE = 24  # images shown of a variant


def section(run: RunFolder, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """A block per variant and number of labels that has given some; of its first fit
    that has.

    Args:
        names: of the classes, fit to be shown.
    """
    blocks = []
    for row in run.rows:
        files = [trial.folder / "pseudo.parquet" for trial in run.trials(row)]
        files = [file for file in files if file.exists()]  # none where the twin was returned
        if row["metrics"] is None or not files:
            continue
        table = pd.read_parquet(files[0])
        blocks.append(
            {
                "variant": row["variant"],
                "labels": text.labels_name(row["labels"]),
                "rounds": [_round(n, part, names) for n, part in table.groupby("round")],
                "sample": _sample(table, names, run.record["settings"]["seed"]),
            }
        )
    return blocks


def _round(number: Any, given: pd.DataFrame, names: tuple[str, ...]) -> dict[str, Any]:
    counts = np.bincount(given["label"], minlength=len(names))
    return {
        "number": int(number),
        "adopted": len(given),
        "classes": ", ".join(f"{name} {n:,}" for name, n in zip(names, counts, strict=True)),
        "right": _right(given),
    }


def _right(given: pd.DataFrame) -> str:
    """The share found right among those whose label the data knows; empty if it knows none."""
    known = given[given["truth"] != UNLABELED]
    if not len(known):
        return ""
    share = float((known["truth"] == known["label"]).mean())
    return f"{text.percent(share)} % of {text.counted(len(known), 'known label')}"


def _sample(table: pd.DataFrame, names: tuple[str, ...], seed: int) -> list[dict[str, Any]]:
    """Some of the last round's, drawn by seed, the least sure first."""
    last = table[table["round"] == table["round"].max()]
    drawn = last.sample(min(SAMPLE, len(last)), random_state=seed).sort_values("confidence")
    return [
        {
            "row": int(item.id),
            "label": names[int(item.label)],
            "confidence": text.percent(float(item.confidence)),
            "truth": "" if item.truth in (UNLABELED, item.label) else names[int(item.truth)],
        }
        for item in drawn.itertuples()
    ]
