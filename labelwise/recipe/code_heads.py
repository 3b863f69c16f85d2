"""Heads on codes: a logistic regression, chosen as the probe does, and a quick one to watch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from labelwise.nn.coding import encoded
from labelwise.nn.logistic import LogisticSolver
from labelwise.nn.network import Network
from labelwise.nn.supervised import Examples, answer_columns
from labelwise.recipe.base import Task
from labelwise.recipe.heads import FEW_STRENGTH, HeadSolver
from labelwise.recipe.probe import labeled_part

WATCHED = 2_000  # labeled images that the head after every epoch learns from, at most


def logistic_head(
    codes: torch.Tensor, task: Task, seed: int
) -> tuple[nn.Linear, dict[str, Any], list[dict[str, Any]]]:
    """A head on codes, its strength chosen on inner folds or by rule.

    Args:
        codes: of the labeled images of the task, then of its validation part; float32 (N, D).

    Returns:
        The head, what was decided, and a record per strength that was tried.
    """
    part = replace(labeled_part(task), places=np.arange(len(codes)))
    solver = HeadSolver(codes, [codes.shape[1]], len(task.class_names))
    choice = solver.choose(part, seed)
    weight, bias = solver.fit(part, choice)
    head = nn.Linear(*weight.shape)
    with torch.no_grad():
        head.weight.copy_(weight.T)
        head.bias.copy_(bias)
    decided = {name: value for name, value in choice.decided.items() if name != "stages"}
    return head, decided, choice.history


def head_columns(
    network: Network, images: Examples, validation: Examples, classes: int
) -> dict[str, Any]:
    """What a head on the present codes can tell apart, as history columns; it is not kept."""
    labeled = (images.labels >= 0).nonzero().flatten()
    some = labeled[:: -(-len(labeled) // WATCHED)]
    codes, labels = encoded(network, images.pixels[some]), images.labels[some].cpu()
    ones, strength = torch.ones(1, len(codes)), torch.tensor([FEW_STRENGTH])
    solver = LogisticSolver(codes, classes, [codes.shape[1]])
    head = solver.solve(labels, ones, strength, tolerance=1e-3, steps=50)
    found: dict[str, Any] = {}
    for part, some_codes, truth in (
        ("train", codes, labels),
        ("validation", encoded(network, validation.pixels), validation.labels.cpu()),
    ):
        answers = (some_codes @ head.weight[0] + head.bias[0]).argmax(1)
        found |= answer_columns(part, truth.numpy(), answers.numpy(), classes)
    return found
