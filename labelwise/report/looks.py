"""Looks: where the recommended model looks in some images, and whether its maps can be believed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from labelwise.attribution.attribute import METHODS
from labelwise.attribution.examination import Examination, examine
from labelwise.attribution.kept import FILE
from labelwise.attribution.picture import overlay, shown
from labelwise.data.dataset import Dataset
from labelwise.features import stored_pixels
from labelwise.fitting import bank_rows
from labelwise.model import Model
from labelwise.nn.bank import Bank
from labelwise.report import text
from labelwise.report.run_folder import Predictions, RunFolder
from labelwise.report.thumbnails import uri_of
from labelwise.transfer import with_backbone

SAMPLE = 16  # images, half of them wrong ones as far as there are so many
SIDE = 224  # pixels of a picture, at most
NEAR, SMALL = 3, 72  # images learned from that are shown beside each, and their pixels
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
    near = _near(model, run.learned, dataset, examined)
    shown_beside = np.unique([row for rows in near for row in rows]).astype(np.int64)
    beside = stored_pixels(dataset.images(shown_beside), model.preprocessing)
    small = dict(zip(shown_beside.tolist(), map(shown, beside), strict=True))
    return {
        "meaning": METHODS[examined.method],
        "alarm": examined.shortcut.alarm,
        "figures": list(_figures(examined, dataset, near, small)),
        "checks": _checks(examined),
    }


def _sample(found: Predictions, seed: int) -> np.ndarray:
    """Rows of some images, the wrong ones first; each once."""
    order = np.random.default_rng(seed).permutation(len(found.ids))
    ids, wrong = found.ids[order], (found.predicted != found.labels)[order]
    some = list(dict.fromkeys(ids[wrong].tolist()))[: SAMPLE // 2]
    return np.array(list(dict.fromkeys([*some, *ids[~wrong].tolist()]))[:SAMPLE], dtype=np.int64)


def _near(
    model: Model, learned: np.ndarray, dataset: Dataset, examined: Examination
) -> list[list[int]]:
    """Rows that are most like each image among those that the model remembers, without itself."""
    bank = model.network.bank
    known = bank_rows(model, learned, dataset.labels)
    if not isinstance(bank, Bank) or len(known) != len(bank.points):  # of an older labelwise
        return [[] for _ in examined.rows]
    asked = torch.from_numpy(model.embed(dataset.images(examined.rows)))
    with torch.inference_mode():
        cosines = bank.cosines(asked.to(bank.points.device)).cpu().numpy()
    contents = dataset.contents
    cosines[contents[examined.rows][:, None] == contents[known]] = -np.inf
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :NEAR]
    return [
        known[places[np.isfinite(cosines[place, places])]].tolist()
        for place, places in enumerate(order)
    ]


def _figures(
    examined: Examination, dataset: Dataset, near: list[list[int]], small: dict[int, Image.Image]
) -> Iterator[dict[str, Any]]:
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
            "near": [
                {
                    "picture": _uri(small[image], SMALL),
                    "path": text.path(dataset.table["path"].iat[image]),
                    "label": names[int(dataset.labels[image])],
                }
                for image in near[place]
            ],
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


def _uri(image: Image.Image, side: int = SIDE) -> str:
    small = image.copy()
    small.thumbnail((side, side))
    return uri_of(small)
