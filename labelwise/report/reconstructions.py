"""Reconstructions: what decoders make of images, how far off that is, and samples."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image

from labelwise.data.split import FINAL
from labelwise.pictures import PICTURES
from labelwise.report import text
from labelwise.report.charts import chart
from labelwise.report.curves import TRAIN, VALIDATION, mean_line
from labelwise.report.run_folder import RunFolder
from labelwise.report.thumbnails import data_uri

CURVES = (("reconstruction", "reconstruction error"), ("kl", "KL divergence, nats"))


def section(run: RunFolder) -> list[dict[str, Any]]:
    """A block per variant with a decoder, at the number of labels that decides."""
    labels = run.leaderboard["recommended_labels"]
    rows = [row for row in run.rows if row["labels"] == labels]
    return [block for row in rows if (block := _block(run, row)) is not None]


def _block(run: RunFolder, row: dict[str, Any]) -> dict[str, Any] | None:
    places = [trial for trial in run.trials(row) if (trial.folder / PICTURES).exists()]
    if not places:
        return None
    table = pd.read_parquet(places[0].folder / PICTURES)
    made = table[table["kind"] == "reconstruction"]
    shown = made.dropna(subset=["made"])
    names = run.table["path"]
    return {
        "variant": row["variant"],
        "held_out": places[0].fold != FINAL,
        "n": len(made),
        "error": f"{made['error'].mean():.4f}",
        "pairs": [
            {
                "path": text.path(names.iat[image]),
                "error": f"{error:.4f}",
                "original": _uri(original),
                "made": _uri(picture),
            }
            for image, error, original, picture in zip(
                *(shown[column] for column in ("id", "error", "original", "made")), strict=True
            )
        ],
        "samples": [_uri(picture) for picture in table[table["kind"] == "sample"]["made"]],
        "charts": _charts(run.histories(row)),
    }


def _charts(histories: list[pd.DataFrame]) -> list[Markup]:
    """What was lost over the epochs, of every kind that the histories have."""
    charts = []
    for column, title in CURVES:
        lines = [
            line
            for part, color in (("train", TRAIN), ("validation", VALIDATION))
            if (line := mean_line(histories, "epoch", f"{part}_{column}", part, color))
        ]
        if lines:
            charts.append(chart(title, lines, x_label="epoch", limits=(0.0, math.inf)))
    return charts


def _uri(png: bytes) -> str:
    return data_uri(np.asarray(Image.open(io.BytesIO(png))))
