"""Novelty of models: what they remember of images they have learned from."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import torch

from labelwise.data.dataset import Dataset
from labelwise.model import Model, build
from labelwise.nn.bank import most_points
from labelwise.nn.network import Body


def with_bank(model: Model, dataset: Dataset, rows: np.ndarray) -> Model:
    """A model that remembers some images it has learned from, of every class alike.

    Args:
        rows: of the labeled images, int64; none leave the model as it is, as one without a head.
    """
    if model.network.head is None or not len(rows):
        return model
    by_class = rows[np.argsort(dataset.labels[rows], kind="stable")]
    count = min(len(rows), most_points(cast(Body, model.network.body).widths[-1]))
    chosen = by_class[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]
    architecture = {**model.architecture, "bank": count}
    # Another network of the same parts: the model, which others may hold, stays as it is.
    own, classes, shape = model.network, len(model.class_names), model.preprocessing.shape
    network = build(architecture, classes, shape, own.body)
    network.head, network.decoder = own.head, own.decoder
    assert network.bank is not None
    network.bank.fill(torch.from_numpy(model.embed(dataset.images(np.sort(chosen)))))
    return dataclasses.replace(model, network=network.eval(), architecture=architecture)
