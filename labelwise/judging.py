"""Judging an embedding: how near images of a class lie, beside what needed no learning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from labelwise.architecture import build
from labelwise.data.dataset import Images
from labelwise.features import stored_pixels
from labelwise.measure import Interval, interval_json
from labelwise.measure.retrieval import retrieval
from labelwise.model import Model
from labelwise.nn.layers import initialize
from labelwise.nn.projected import Projected

SEEN, UNSEEN, ALL = "seen", "unseen", "all"
EMBEDDING, UNTRAINED, FROZEN, PIXELS = "embedding", "untrained", "frozen network", "plain pixels"


@dataclass(frozen=True)
class Nearness:
    """How well some images find others of their class by one kind of vectors.

    Attributes:
        part: classes that the embedding learned from ("seen"), others ("unseen"), or "all"; images
            are found among those of the same part.
        vectors: "embedding", or a floor: "untrained", "frozen network" or "plain pixels".
        count: images.
        metrics: see `retrieval`, with intervals by bootstrap over groups of copies.
    """

    part: str
    vectors: str
    count: int
    metrics: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """{"part", "vectors", "n", "metrics"}"""
        metrics = {name: interval_json(value) for name, value in self.metrics.items()}
        return {"part": self.part, "vectors": self.vectors, "n": self.count, "metrics": metrics}


def judge_embedding(
    model: Model, images: Images, labels: np.ndarray, class_names: tuple[str, ...]
) -> list[Nearness]:
    """A model's embedding of labeled images, beside floors on the same images.

    Floors are plain pixels at the model's input size and the same network before it learned: with
    fresh weights, or the frozen network alone where only a layer on it was learned.

    Args:
        labels: int64 (N,), 0..K-1; the classes need not be those of the model.
        class_names: of the K classes.
    """
    learned = np.array([_learned_from(model, name) for name in class_names], bool)[labels]
    parts = {ALL: np.ones(len(labels), bool)}
    if learned.any() and not learned.all():
        parts = {SEEN: learned, UNSEEN: ~learned} | parts
    found, groups = [], images.dataset.groups[images.rows]
    for name, vectors in _vectors(model, images):
        for part, kept in parts.items():
            judged = retrieval(vectors[kept], labels[kept], groups=groups[kept])
            metrics = judged.intervals() if len(judged.queries) else {}
            found.append(Nearness(part, name, int(kept.sum()), metrics))
    return sorted(found, key=lambda row: list(parts).index(row.part))


def _learned_from(model: Model, name: str) -> bool:
    seen = model.recipe.get("seen_classes")
    taught = [part.strip() for part in seen.split(",")] if seen else model.class_names
    return name in taught


def _vectors(model: Model, images: Images) -> Iterator[tuple[str, np.ndarray]]:
    """What images are compared by, floors last; float32 (N, D)."""
    yield EMBEDDING, model.embed(images)
    body = model.network.body
    if isinstance(body, Projected):
        bare = replace(model, network=_network(model, body.base))
        yield FROZEN, bare.embed(images)
    elif model.architecture["kind"] == "layers":
        network = _network(model, None)
        initialize(network, torch.Generator().manual_seed(0))
        yield UNTRAINED, replace(model, network=network.eval()).embed(images)
    pixels = stored_pixels(images, model.preprocessing)
    yield PIXELS, pixels.flatten(1).float().div(255).numpy()


def _network(model: Model, body: torch.nn.Module | None) -> Any:
    """A network like the model's without a head, with another body."""
    plain = {"project", "neighbors", "bank", "decoder", "prior"}
    architecture = {k: v for k, v in model.architecture.items() if k not in plain}
    return build(architecture, None, model.preprocessing.shape, body)
