"""Nearness: answers of an embedding by what is near, and how near images of a class lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from labelwise.measure.retrieval import retrieval
from labelwise.nn.neighbor_head import MOST_HELD, NeighborHead
from labelwise.nn.supervised import Seen, answer_columns
from labelwise.recipe.prototypes import prototype_head

Answers = Literal["prototypes", "neighbors"]

SHOWN = ("recall@1", "map@r")  # of an embedding, after every epoch


class Coded(NamedTuple):
    """Embeddings float32 (N, D), of length 1, and labels int64 (N,), 0..K-1."""

    codes: torch.Tensor
    labels: torch.Tensor

    def some(self, most: int) -> Coded:
        """Every so many of them, so that they are no more than that, of all classes alike."""
        order = torch.argsort(self.labels, stable=True)[:: max(1, -(-len(self.labels) // most))]
        return Coded(self.codes[order], self.labels[order])


def answering_head(answers: Answers, classes: int, own: Coded, held: Coded | None) -> nn.Linear:
    """A head of K classes that answers by the images that it is made of.

    Args:
        held: what a temperature of prototypes is found on.
    """
    if answers == "prototypes":
        return prototype_head(*own, classes, held)
    kept = own.some(MOST_HELD)
    head = NeighborHead(own.codes.shape[1], len(kept.labels), classes)
    with torch.no_grad():
        head.weight.copy_(kept.codes)
        head.labels.copy_(kept.labels)
    return head


def with_head(architecture: Mapping[str, Any], head: nn.Linear) -> dict[str, Any]:
    """An architecture with what `build` needs to make such a head again."""
    if isinstance(head, NeighborHead):
        return {**architecture, "neighbors": len(head.labels)}
    return dict(architecture)


@torch.inference_mode()
def judged(
    answers: Answers, classes: int, own: Coded, held: Coded | None, unseen: np.ndarray
) -> dict[str, Any]:
    """Answers for some images and how well those of the validation part find each other, as
    history columns; besides, of classes that were learned from and of others.

    Args:
        own: what the answers are made of.
        held: the validation part.
        unseen: classes that were not learned from.
    """
    head = answering_head(answers, classes, own, held)
    own_answers = head(own.codes).argmax(1).numpy()
    found = answer_columns("train", own.labels.numpy(), own_answers, classes)
    if held is None:
        return found
    seen = Seen(classes, held.codes.device)
    seen.add(head(held.codes), held.labels, held.labels)
    found |= seen.record("validation")
    points, truth = held.codes.numpy(), held.labels.numpy()
    parts = {"": np.ones(len(truth), bool)}
    if len(unseen):
        parts |= {"_seen": ~np.isin(truth, unseen), "_unseen": np.isin(truth, unseen)}
    for name, part in parts.items():
        means = retrieval(points[part], truth[part]).means
        found |= {f"validation_{metric}{name}": means[metric] for metric in SHOWN}
    return found
