"""The probe: strength and temperature chosen inside, embeddings computed once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from labelwise import features
from labelwise.errors import OptionError
from labelwise.recipe.base import Context, Task
from labelwise.recipe.heads import ENOUGH, FEW_STRENGTH, STRENGTHS, best_temperature
from labelwise.recipe.probe import Probe
from tests.tasks import grating_data, task_from


@pytest.fixture
def data(tmp_path):
    return grating_data(tmp_path, per_class=20)


def few_labels(data, count):
    rows = np.concatenate([np.flatnonzero(data.labels == k)[:count] for k in range(3)])
    return Task(data.images(rows), data.labels[rows], data.class_names)


def test_the_best_temperature_is_the_minimum_of_the_log_loss():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(400, 3))
    labels = np.array([rng.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in logits])
    sharp = torch.tensor(logits * 4, dtype=torch.float32)  # four times too sure

    def loss(log_t):
        logp = torch.log_softmax(sharp / np.exp(log_t), 1)
        return -float(logp[np.arange(400), labels].mean())

    exact = minimize_scalar(loss, bounds=(-2, 4), method="bounded")
    temperature, found = best_temperature(sharp, torch.tensor(labels))
    assert found == pytest.approx(exact.fun, abs=1e-3)
    assert temperature == pytest.approx(np.exp(exact.x), rel=0.13)


def test_strength_and_temperature_are_those_with_the_lowest_inner_loss(data):
    fitted = Probe(image_size=32).fit(task_from(data), Context())
    best = min(fitted.history, key=lambda record: record["validation_loss"])
    for stages in ("last", "inner", "all"):
        tried = [record for record in fitted.history if record["stages"] == stages]
        falling = sorted(STRENGTHS, reverse=True)
        assert [record["strength"] for record in tried] == falling[: len(tried)]
        losses = [record["validation_loss"] for record in tried]
        ends = [after > before or after < ENOUGH for before, after in pairwise([np.inf, *losses])]
        assert not any(ends[:-1])  # where it has risen or nothing is left, no weaker one was tried
        assert len(tried) == len(STRENGTHS) or ends[-1]
    assert {name: best[name] for name in ("stages", "strength", "temperature")} == {
        name: value for name, value in fitted.chosen.items() if name != "head"
    }


def test_below_five_labels_per_class_the_nearest_class_mean_answers(data):
    task = few_labels(data, 3)
    fitted = Probe(image_size=32).fit(task, Context())
    assert fitted.chosen == {"head": "mean", "stages": "all", "temperature": 1.0}
    assert fitted.history == []
    assert (fitted.model.logits(task.images).argmax(1) == task.labels).all()


def test_few_labels_are_answered_from_the_last_stage_at_the_own_size_of_the_backbone(data):
    fitted = Probe(image_size=224).fit(few_labels(data, 1), Context())
    assert fitted.chosen["stages"] == "last"


def test_below_five_labels_per_class_a_regression_has_a_strength_by_rule(data):
    fitted = Probe(image_size=32, head="logistic").fit(few_labels(data, 3), Context())
    assert fitted.chosen["strength"] == FEW_STRENGTH


@pytest.mark.parametrize(
    ("stages", "seen"), [("last", slice(784, 2064)), ("inner", slice(80, 784))]
)
def test_a_head_has_no_weight_for_stages_that_it_does_not_see(data, stages, seen):
    head = Probe(image_size=32, stages=stages).fit(task_from(data), Context()).model.network.head
    blind = torch.ones(2064, dtype=bool)
    blind[seen] = False
    assert not head.weight[:, blind].any()
    assert head.weight[:, ~blind].any()


def test_no_image_is_embedded_twice(data, monkeypatch):
    """However many recipes, folds and numbers of labels use it."""
    seen = []
    original = features.in_batches
    monkeypatch.setattr(
        features,
        "in_batches",
        lambda images, *a, **k: seen.extend(images.rows) or original(images, *a, **k),
    )
    recipe, task = Probe(image_size=40), task_from(data)
    model = recipe.fit(task, Context()).model
    model.predict_proba(data.images(data.usable))
    list(recipe.fit_many([task, task], Context(seed=3)))
    assert sorted(seen) == sorted(data.usable)


def test_the_frozen_network_is_not_changed_by_fitting(data):
    fitted = Probe(image_size=32).fit(task_from(data), Context())
    before = {k: v.clone() for k, v in fitted.model.network.body.state_dict().items()}
    Probe(image_size=32).fit(task_from(data), Context(seed=5))
    for name, value in fitted.model.network.body.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(p.requires_grad for p in fitted.model.network.body.parameters())


def test_small_images_are_enlarged_less_than_the_backbone_was_trained_with(data):
    from labelwise.backbones import find_pretrained

    assert (
        Probe().input(data.images(data.usable), find_pretrained("efficientnet-lite0")).width == 128
    )


@pytest.mark.parametrize(
    "fields",
    [{"strength": 0.0}, {"strength": -1.0}, {"image_size": 3}, {"head": "mean", "strength": 1.0}],
)
def test_senseless_fields_are_refused(fields):
    with pytest.raises(OptionError):
        Probe(**fields)
