"""Consistency: losses by hand, weights and alignment by their formulas, what a step is shown."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from labelwise.errors import TrainingError
from labelwise.nn.checkpoint import Checkpoint
from labelwise.nn.consistency import Consistency
from labelwise.nn.looks import ViewLooks
from labelwise.nn.softmatch import (
    IN_USE,
    MOMENTUM,
    Alignment,
    Confidence,
    above_chance,
    class_shares,
)
from labelwise.nn.train import Schedule, train

CLASSES, WIDTH = 3, 4
SCHEDULE = Schedule("adam", 0.05, "cosine", 6, None, average=0.9)


class Linear(nn.Module):
    """What learns here: a linear map of vectors."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.head = nn.Linear(WIDTH, CLASSES)

    def logits(self, vectors):
        return self.head(vectors)


@dataclass(frozen=True)
class Ordered:
    """Vectors as they are: labeled ones, and a weak and a strong view of each in the pool."""

    images: torch.Tensor
    labels: torch.Tensor
    gentle: torch.Tensor
    changed: torch.Tensor

    @property
    def pool(self):
        return len(self.gentle)

    def labeled(self, index, epoch, random):
        return self.images[index]

    def weak(self, index, epoch, random):
        return self.gentle[index]

    def strong(self, index, epoch, random):
        return self.changed[index]


def looks_of(labeled=6, pool=10, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def vectors(count):
        return 2 * torch.randn(count, WIDTH, generator=generator)

    return Ordered(vectors(labeled), torch.arange(labeled) % CLASSES, vectors(pool), vectors(pool))


def objective_of(network, looks, **changes):
    values = {"classes": CLASSES, "steps": 2, "batch": 3, "pool_batch": 5, **changes}
    return Consistency(network, looks, dict, **values)


def softmax(logits):
    powers = [math.exp(value) for value in logits]
    return [power / sum(powers) for power in powers]


def loss_by_hand(network, looks, labeled, pool, *, strength, smoothing):
    """The loss of a first step with alignment to the labels' shares, one number at a time."""
    weight, bias = (v.detach().double().tolist() for v in network.head.parameters())

    def proba(vector):
        logits = [
            sum(a * b for a, b in zip(row, vector.tolist(), strict=True)) + c
            for row, c in zip(weight, bias, strict=True)
        ]
        return softmax(logits)

    own = 0.0
    for index in labeled:
        found = proba(looks.images[index])
        target = [smoothing / CLASSES] * CLASSES
        target[int(looks.labels[index])] += 1 - smoothing
        own -= sum(t * math.log(p) for t, p in zip(target, found, strict=True)) / len(labeled)

    weak = [proba(looks.gentle[index]) for index in pool]
    counts = [sum(int(label) == k for label in looks.labels) + 1 for k in range(CLASSES)]
    wanted = [count / sum(counts) for count in counts]
    batch = [sum(found[k] for found in weak) / len(weak) for k in range(CLASSES)]
    aligned = []
    for found in weak:
        scaled = [p * w / q for p, w, q in zip(found, wanted, batch, strict=True)]
        aligned.append([value / sum(scaled) for value in scaled])
    sure = [max(found) for found in aligned]
    mean = sum(sure) / len(sure)
    variance = sum((value - mean) ** 2 for value in sure) / (len(sure) - 1)
    others = 0.0
    for index, found, value in zip(pool, aligned, sure, strict=True):
        below = min(value - mean, 0)
        above = max(value - 1 / CLASSES, 0) / (1 - 1 / CLASSES)
        counted = above**2 * math.exp(-4 * below**2 / (2 * variance))
        guessed = found.index(value)
        others -= counted * math.log(proba(looks.changed[index])[guessed]) / len(pool)
    return own + strength * others


@pytest.mark.parametrize(("strength", "smoothing"), [(1.0, 0.0), (0.5, 0.2)])
def test_the_loss_of_a_step_is_the_one_by_hand(strength, smoothing):
    network, looks = Linear(), looks_of()
    objective = objective_of(network, looks, strength=strength, smoothing=smoothing)
    labeled, pool = [0, 4, 5], [1, 2, 7, 8, 9]
    found = objective.loss((torch.tensor(labeled), torch.tensor(pool)), 0, torch.Generator())
    expected = loss_by_hand(network, looks, labeled, pool, strength=strength, smoothing=smoothing)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


def test_without_a_pool_the_loss_is_that_of_the_labels():
    network, looks = Linear(), looks_of(pool=0)
    step = objective_of(network, looks).batches(0, torch.Generator().manual_seed(0))[0]
    found = objective_of(network, looks).loss(step, 0, torch.Generator())
    given = looks.labels[step[0]]
    expected = nn.functional.cross_entropy(network.logits(looks.images[step[0]]), given)
    assert float(found.detach()) == pytest.approx(float(expected.detach()))


def test_batch_norm_names_with_its_statistics_and_learns_without():
    network, modes = Linear(), []
    network.logits = lambda vectors: modes.append(network.training) or network.head(vectors)
    objective_of(network, looks_of()).loss((torch.arange(3), torch.arange(5)), 0, torch.Generator())
    assert modes == [False, True]


def test_there_must_be_a_label():
    with pytest.raises(TrainingError, match="no labeled image"):
        objective_of(Linear(), looks_of(labeled=0))


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 7), st.integers(1, 12))
def test_an_image_comes_again_only_when_all_others_have(labeled, pool, steps, batch):
    objective = objective_of(
        Linear(), looks_of(labeled, pool), steps=steps, batch=batch, pool_batch=2 * batch
    )
    batches = objective.batches(0, torch.Generator())
    assert len(batches) == steps
    for part, count, size in ((0, labeled, batch), (1, pool, 2 * batch)):
        shown = torch.cat([step[part] for step in batches])
        assert [len(step[part]) for step in batches] == [size] * steps
        times = torch.bincount(shown, minlength=count)
        assert times.max() - times.min() <= 1


def test_the_record_has_what_the_pool_contributed():
    objective = objective_of(Linear(), looks_of(), steps=1, pool_batch=10)
    (step,) = objective.batches(0, torch.Generator())
    objective.loss(step, 0, torch.Generator())
    weights = objective_of(Linear(), looks_of()).pseudo_labels(looks_of().gentle)[1]
    record = objective.record()
    assert record["pool_weight"] == pytest.approx(float(weights.mean()))
    assert record["pool_used"] == pytest.approx(float((weights >= IN_USE).float().mean()))
    assert record["images"] == 13


def test_weights_are_a_gaussian_of_the_confidence_cut_off_at_its_mean():
    confidence = Confidence(torch.device("cpu"))
    confidence.mean, confidence.variance = torch.tensor(0.7), torch.tensor(0.01)
    confidence.batches = torch.tensor(1000.0)
    before = copy.copy(confidence)
    found = confidence.weights(torch.tensor([0.95, 0.7, 0.5]))
    mean = 0.7 * MOMENTUM + (1 - MOMENTUM) * (0.95 + 0.7 + 0.5) / 3
    variance = 0.01 * MOMENTUM + (1 - MOMENTUM) * np.var([0.95, 0.7, 0.5], ddof=1)
    below = min(0.7 - mean, 0), 0.5 - mean
    expected = [1.0, *(math.exp(-(d**2) / (2 * variance / 4)) for d in below)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert before.mean is confidence.mean  # changed in place, so that a checkpoint can hold it


def test_alignment_multiplies_by_wanted_over_present_shares():
    align = Alignment(torch.tensor([0.5, 0.25, 0.25]))
    proba = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]])
    align.present, align.batches = torch.full((3,), 1 / 3), torch.tensor(1000.0)
    present = MOMENTUM / 3 + (1 - MOMENTUM) * np.array([0.7, 0.2, 0.1])
    scaled = proba.numpy() * [0.5, 0.25, 0.25] / present
    np.testing.assert_allclose(align(proba), scaled / scaled.sum(1, keepdims=True), rtol=1e-5)


def test_running_numbers_begin_as_plain_means_of_the_batches():
    confidence, align = Confidence(torch.device("cpu")), Alignment(torch.tensor([0.3, 0.7]))
    batches = torch.rand(5, 8, 2, generator=torch.Generator().manual_seed(0)).softmax(2)
    for batch in batches:
        confidence.weights(batch.amax(1))
        align(batch)
    assert float(confidence.mean) == pytest.approx(float(batches.amax(2).mean()))
    variance = batches.amax(2).var(1).mean()
    assert float(confidence.variance) == pytest.approx(float(variance))
    np.testing.assert_allclose(align.present, batches.mean((0, 1)), rtol=1e-5)


def test_a_class_without_a_label_is_never_named():
    shares = class_shares(torch.tensor([0, 0, 2]), 3)
    np.testing.assert_allclose(shares, [3 / 5, 0, 2 / 5])
    assert float(Alignment(shares)(torch.tensor([[0.1, 0.8, 0.1]]))[0, 1]) == 0


class Killed(Exception):
    pass


def test_a_training_that_was_killed_goes_on_with_the_running_numbers(tmp_path):
    def views(seed):
        looks = looks_of(pool=20, seed=seed)
        return ViewLooks(
            (looks.gentle, looks.gentle + 0.1),
            (looks.changed, looks.changed - 0.1),
            torch.arange(6),
            looks.labels,
            20,
        )

    def run(network, file, seed=0, stop=None):
        def advance(done, planned, record):
            if done == stop:
                raise Killed

        objective, kept = objective_of(network, views(1)), Checkpoint(file, every=0)
        generator = torch.Generator().manual_seed(seed)
        train(network, objective, SCHEDULE, generator=generator, advance=advance, checkpoint=kept)
        return objective

    whole, resumed = Linear(), Linear(seed=3)
    expected = run(whole, tmp_path / "whole")
    with pytest.raises(Killed):
        run(Linear(), tmp_path / "killed", stop=4)
    found = run(resumed, tmp_path / "killed", seed=8)
    assert torch.equal(whole.head.weight, resumed.head.weight)
    for name, value in expected.state.items():
        assert torch.equal(value, found.state[name]), name


def test_every_view_is_shown_in_its_turn():
    views = tuple(torch.full((50, 1), float(number)) for number in range(3))
    looks = ViewLooks(views[:2], views[2:], torch.tensor([7]), torch.tensor([0]), 50)
    index, random = torch.arange(50), torch.Generator().manual_seed(0)
    assert set(looks.weak(index, 0, random).flatten().tolist()) == {0.0, 1.0}
    assert set(looks.strong(index, 0, random).flatten().tolist()) == {2.0}


def test_a_network_that_knows_nothing_teaches_itself_nothing():
    found = above_chance(torch.tensor([0.05, 0.1, 0.55, 1.0]), 10)
    np.testing.assert_allclose(found, [0, 0, 0.25, 1], atol=1e-6)
    weights = objective_of(Linear(), looks_of()).pseudo_labels(looks_of().gentle)[1]
    assert float(weights.max()) <= 1
