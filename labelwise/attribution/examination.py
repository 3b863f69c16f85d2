"""Examination: the heat maps of some images, with every check of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch

from labelwise.attribution.attribute import affordable, attribute
from labelwise.attribution.checks import (
    ALIKE,
    Answer,
    Faithfulness,
    Shortcut,
    faithfulness,
    randomized,
    shares,
    shortcut,
)
from labelwise.attribution.kept import agreement
from labelwise.data.dataset import Dataset
from labelwise.features import engine_for, stored_pixels
from labelwise.model import Model
from labelwise.nn.projected import Projected


@dataclass(frozen=True)
class Examination:
    """Where a model looks in some images, for the class it answers with, and whether that holds.

    Attributes:
        rows: of the data set; int64 (N,).
        pixels: uint8 (N, C, H, W).
        predicted: int64 (N,).
        confidence: float64 (N,).
        heat: float32 (N, H, W).
        method: how it was found.
        faithfulness: deletion and insertion beside random orders.
        shuffled: mean likeness to maps of the network with shuffled weights.
        stability: mean likeness to maps of other fits; None where there are none.
        shortcut: where the heat of all images is.
    """

    rows: np.ndarray
    pixels: torch.Tensor
    predicted: np.ndarray
    confidence: np.ndarray
    heat: np.ndarray
    method: str
    faithfulness: Faithfulness
    shuffled: float
    stability: float | None
    shortcut: Shortcut

    @property
    def shows_the_model(self) -> bool:
        """Whether the maps change when the weights do."""
        return abs(self.shuffled) < ALIKE

    @property
    def stable(self) -> bool | None:
        """Whether other fits look at the same places."""
        return None if self.stability is None else self.stability >= ALIKE


def examine(
    model: Model, dataset: Dataset, rows: np.ndarray, kept: Sequence[pd.DataFrame] = ()
) -> Examination:
    """Explain and check a model's answers for some rows.

    Args:
        rows: int64 (N,), one or more; of a large network that only occlusion explains the first.
        kept: maps of other fits, see `keep_maps`.
    """
    rows = rows[: affordable(model, len(rows))]
    pixels = stored_pixels(dataset.images(rows), model.preprocessing)
    answer = _answers(model)
    proba = answer(pixels)
    predicted = proba.argmax(axis=1)
    found = attribute(model, pixels, predicted)
    return Examination(
        rows=rows,
        pixels=pixels,
        predicted=predicted,
        confidence=proba.max(axis=1),
        heat=found.heat,
        method=found.method,
        faithfulness=faithfulness(answer, pixels, found.heat, predicted),
        shuffled=float(randomized(model, pixels, predicted, found).mean()),
        stability=agreement(model, dataset, kept),
        shortcut=shortcut(shares(found.heat).mean(axis=0)),
    )


def _answers(model: Model) -> Answer:
    """Probabilities of prepared images; from the engine where the backbone is frozen."""
    if model.backbone is None:
        return lambda pixels: model.probabilities(model.pixel_logits(pixels))
    engine = engine_for(model.backbone, model.preprocessing, 0)
    body, head = model.network.body, model.require_head()

    @torch.inference_mode()
    def answer(pixels: torch.Tensor) -> np.ndarray:
        embedding = torch.from_numpy(engine(pixels))
        if isinstance(body, Projected):
            embedding = body.project(embedding)
        return model.probabilities(cast(torch.Tensor, head(embedding)).numpy())

    return answer
