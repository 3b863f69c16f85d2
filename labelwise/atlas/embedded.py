"""Embedded: where a model puts images, and what it takes them for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelwise import bundle
from labelwise.data.dataset import Dataset
from labelwise.data.preprocess import Preprocessing
from labelwise.data.source import Advance
from labelwise.embedding import embedder
from labelwise.features import AT_ONCE, input_of, load_body
from labelwise.files import expanded, is_folder
from labelwise.model import Model
from labelwise.transfer import familiar, find_backbone, with_backbone

# What decides about an embedding beside the weights.
OF_BODY = ("kind", "layers", "name", "chosen", "count", "side", "project", "members")


@dataclass(frozen=True)
class Embedded:
    """Some images of a data set as a model sees them.

    Attributes:
        vectors: embeddings, float32 (N, D).
        model: hash of all that decides about the embeddings.
        class_names: that the model knows, none without a head.
        predicted: index of the likeliest class, int64 (N,); None without a head.
        confidence: its probability, float32 (N,); None without a head.
        warning: what to know about the predictions, or None.
    """

    vectors: np.ndarray
    model: str
    class_names: tuple[str, ...] = ()
    predicted: np.ndarray | None = None
    confidence: np.ndarray | None = None
    warning: str | None = None


def embedded(
    model: Model | str | Path, dataset: Dataset, rows: np.ndarray, progress: Advance | None
) -> Embedded:
    """Embed some rows of a data set, and predict them where the model has a head.

    Args:
        model: a Model, the folder of one or of a run, or the name of a backbone.

    Raises:
        BackboneError, BundleError: there is no such model.
    """
    place = None if isinstance(model, Model) else expanded(model)
    known: Model | str
    if place is None or is_folder(place):
        known = _opened(model)
        fingerprint = _hash(known.network.body, known.architecture, known.preprocessing)
    else:
        known = str(model)
        fingerprint = _backbone_hash(known, dataset)
    vectors = embedder(known, dataset, len(rows), progress)
    found, predicted, confidence = [], [], []
    for start in range(0, len(rows), AT_ONCE):
        images = dataset.images(rows[start : start + AT_ONCE])
        if not isinstance(known, Model):
            found.append(vectors(images, start))
            continue
        embeddings, logits = known.outputs(images)
        found.append(embeddings)
        if known.class_names:
            proba = known.probabilities(logits)
            predicted.append(proba.argmax(1))
            confidence.append(proba.max(1).astype(np.float32))
        if progress is not None:
            progress(min(start + AT_ONCE, len(rows)), len(rows), "embedding")
    if not isinstance(known, Model) or not predicted:
        return Embedded(np.concatenate(found), fingerprint)
    learned = familiar(place, known.facts, dataset, rows)
    return Embedded(
        np.concatenate(found),
        fingerprint,
        known.class_names,
        np.concatenate(predicted),
        np.concatenate(confidence),
        learned and f"The model {learned}: it is more confident there than on new ones.",
    )


def _opened(model: Model | str | Path) -> Model:
    """A frozen backbone's embeddings then come from the store."""
    return with_backbone(model if isinstance(model, Model) else bundle.load(expanded(model)))


def _backbone_hash(name: str, dataset: Dataset) -> str:
    backbone = find_backbone(name)
    body = load_body(backbone)
    preprocessing = input_of(backbone, dataset.images(dataset.usable))
    return _hash(body, {**body.architecture, **backbone.scaling}, preprocessing)


def _hash(
    body: torch.nn.Module, architecture: Mapping[str, Any], preprocessing: Preprocessing
) -> str:
    """Equal for what gives equal embeddings, wherever it was read from."""
    kept = {name: architecture[name] for name in (*OF_BODY, "mean", "std") if name in architecture}
    text = json.dumps({**kept, "preprocessing": vars(preprocessing)}, sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(body.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
