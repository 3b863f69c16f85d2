"""Novelty of models: what they remember of images they have learned from."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import torch

from labelwise.architecture import build
from labelwise.model import Model
from labelwise.nn.bank import Bank, most_points
from labelwise.nn.network import Body


def remembered(model: Model, labels: np.ndarray) -> np.ndarray:
    """Which of some images a model remembers: of every class alike; int64, ascending.

    Args:
        labels: int64 (N,), of images it has learned from; none for a model without a head.
    """
    if model.network.head is None or not len(labels):
        return np.zeros(0, np.int64)
    count = min(len(labels), most_points(cast(Body, model.network.body).widths[-1]))
    places = np.linspace(0, len(labels) - 1, count).round().astype(np.int64)
    return np.sort(np.argsort(labels, kind="stable")[places])


def with_bank(model: Model, embedding: np.ndarray) -> Model:
    """A model that remembers some images it has learned from; as it is without any.

    Args:
        embedding: its own of these images, float32 (N, D).
    """
    if not len(embedding):
        return model
    architecture = {**model.architecture, "bank": len(embedding)}
    # Another network of the same parts: the model, which others may hold, stays as it is.
    own, classes, shape = model.network, len(model.class_names), model.preprocessing.shape
    network = build(architecture, classes, shape, own.body)
    network.head, network.decoder = own.head, own.decoder
    assert isinstance(network.bank, Bank)
    network.bank.fill(torch.from_numpy(embedding))
    return dataclasses.replace(model, network=network.eval(), architecture=architecture)
