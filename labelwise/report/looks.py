"""Looks: where the recommended model looks in some images, and whether its maps can be believed."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from labelwise.attribution.attribute import METHODS
from labelwise.attribution.examination import Examination, examine
from labelwise.attribution.kept import FILE
from labelwise.attribution.picture import overlay, shown
from labelwise.data.dataset import Dataset
from labelwise.report import text
from labelwise.report.run_folder import Predictions, RunFolder
from labelwise.transfer import with_backbone

SAMPLE = 16  # images, half of them wrong ones as far as there are so many
SIDE = 224  # pixels of a picture, at most
PASSED = {True: "passed", False: "failed", None: "not made"}


def section(run: RunFolder, dataset: Dataset) -> dict[str, Any] | None:
    """The section for the recommended model; None where nothing was judged."""
    row = run.judged
    if row is None or run.model is None:
        return None
    # Never of the test part: who looks at its images and then decides again has none left.
    rows = _sample(run.predictions(row), run.record["settings"]["seed"])
    model = with_backbone(run.model)
    kept = [pd.read_parquet(f) for t in run.trials(row) if (f := t.folder / FILE).exists()]
    examined = examine(model, dataset, rows, kept)
    return {
        "meaning": METHODS[examined.method],
        "alarm": examined.shortcut.alarm,
        "figures": list(_figures(examined, dataset)),
        "checks": _checks(examined),
    }


def _sample(found: Predictions, seed: int) -> np.ndarray:
    """Rows of some images, the wrong ones first; each once."""
    order = np.random.default_rng(seed).permutation(len(found.ids))
    ids, wrong = found.ids[order], (found.predicted != found.labels)[order]
    some = list(dict.fromkeys(ids[wrong].tolist()))[: SAMPLE // 2]
    return np.array(list(dict.fromkeys([*some, *ids[~wrong].tolist()]))[:SAMPLE], dtype=np.int64)


def _figures(examined: Examination, dataset: Dataset) -> Iterator[dict[str, Any]]:
    names = [text.plain(name) for name in dataset.class_names]
    for place, row in enumerate(examined.rows):
        label, predicted = int(dataset.labels[row]), int(examined.predicted[place])
        yield {
            "input": _uri(shown(examined.pixels[place])),
            "picture": _uri(overlay(examined.pixels[place], examined.heat[place])),
            "path": text.path(dataset.table["path"].iat[int(row)]),
            "predicted": names[predicted],
            "confidence": text.percent(float(examined.confidence[place])),
            "label": None if label == predicted else names[label],
        }


def _checks(examined: Examination) -> list[dict[str, str]]:
    faithful = examined.faithfulness
    heat = examined.shortcut
    return [
        {
            "name": "without the hottest places",
            "found": f"{text.percent(faithful.deletion)} %",
            "beside": f"{text.percent(faithful.deletion_random)} % without random ones",
            "result": PASSED[faithful.deletion_gain.low > 0],
        },
        {
            "name": "with the hottest places only",
            "found": f"{text.percent(faithful.insertion)} %",
            "beside": f"{text.percent(faithful.insertion_random)} % with random ones",
            "result": PASSED[faithful.insertion_gain.low > 0],
        },
        {
            "name": "likeness to maps of shuffled weights",
            "found": f"{examined.shuffled:.2f}",
            "beside": "below 0.50: they show the model and not only the image",
            "result": PASSED[examined.shows_the_model],
        },
        {
            "name": "likeness to maps of other fits",
            "found": "" if examined.stability is None else f"{examined.stability:.2f}",
            "beside": "0.50 or more: models of other images and seeds look at the same places",
            "result": PASSED[examined.stable],
        },
        {
            "name": "heat at the border",
            "found": f"{text.percent(heat.border)} %",
            "beside": f"{text.percent(heat.border_by_area)} % of the area",
            "result": PASSED[heat.alarm is None],
        },
    ]


def _uri(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
