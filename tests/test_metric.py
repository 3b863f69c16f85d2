"""Metric learning: balanced batches, losses against their equations, classes never seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

import labelwise
from labelwise import bundle
from labelwise.data.load import load
from labelwise.errors import OptionError, TrainingError
from labelwise.measure.retrieval import retrieval
from labelwise.nn.balanced import balanced_batches
from labelwise.nn.metric import MetricLoss
from labelwise.nn.supervised import Examples
from labelwise.recipe.base import Context, Task
from labelwise.recipe.metric import Metric
from labelwise.recipe.prototypes import prototype_head
from tests.resumed import resumed
from tests.tasks import grating_data, task_from

QUICK = Metric(
    layers="conv16 5x5 same relu, gap", size=8, epochs=6, batch=12, images=4, steps=12, lr=1e-2
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 9),
)
def test_a_batch_has_as_many_images_of_each_of_its_classes(labels, classes, images, steps):
    labels = torch.tensor(labels)
    found = balanced_batches(labels, steps, classes, images, generator())
    present = len(labels.unique())
    assert found.shape == (steps, min(classes, present) * images)
    for batch in found:
        own, counts = labels[batch].unique(return_counts=True)
        assert len(own) == min(classes, present)
        assert (counts == images).all()
        for k in own:
            times = batch[labels[batch] == k]
            if (labels == k).sum() >= images:
                assert len(times.unique()) == images


def test_images_come_about_equally_often_and_a_generator_is_all_the_state():
    labels = torch.arange(60) % 3
    found = balanced_batches(labels, 100, 3, 5, generator(4))
    counts = torch.bincount(found.flatten(), minlength=60)
    assert counts.max() - counts.min() <= 1
    again = balanced_batches(labels, 100, 3, 5, generator(4))
    assert torch.equal(found, again)


def embeddings(requires_grad=False):
    points = normalize(torch.randn(12, 5, generator=generator(1)), dim=1)
    return points.requires_grad_(requires_grad), torch.arange(12) % 3


def test_the_contrastive_loss_is_that_of_the_paper():
    points, labels = embeddings()
    logits = points @ points.T / 0.1
    logits.fill_diagonal_(-torch.inf)
    logp = logits.log_softmax(1)
    positive = (labels[:, None] == labels) & ~torch.eye(12, dtype=torch.bool)
    expected = -torch.stack([logp[i][positive[i]].mean() for i in range(12)]).mean()
    torch.testing.assert_close(MetricLoss("contrastive", 3, 5)(points, labels), expected)


def test_the_triplet_loss_is_that_of_the_hardest_images():
    points, labels = embeddings()
    far = torch.cdist(points, points)
    same = labels[:, None] == labels
    losses = []
    for i in range(12):
        others = same[i] & (torch.arange(12) != i)
        losses.append(far[i][others].max() - far[i][~same[i]].min() + 0.2)
    kept = [loss for loss in losses if loss > 0]
    expected = torch.stack(kept).mean()
    torch.testing.assert_close(MetricLoss("triplet", 3, 5)(points, labels), expected)


def test_the_multi_similarity_loss_is_that_of_the_mined_pairs():
    points, labels = embeddings()
    s, same = points @ points.T, labels[:, None] == labels
    losses = []
    for i in range(12):
        others = torch.arange(12) != i
        positive, negative = s[i][same[i] & others], s[i][~same[i]]
        hard = positive[positive - 0.1 < negative.max()]
        near = negative[negative + 0.1 > positive.min()]
        pulled = torch.log1p(torch.exp(-2 * (hard - 0.5)).sum()) / 2
        losses.append(pulled + torch.log1p(torch.exp(50 * (near - 0.5)).sum()) / 50)
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(MetricLoss("multi-similarity", 3, 5)(points, labels), expected)


def test_the_proxy_anchor_loss_is_that_of_the_paper_and_teaches_its_proxies():
    points, labels = embeddings(requires_grad=True)
    loss = MetricLoss("proxy-anchor", 3, 5)
    found = loss(points, labels)
    proxies = normalize(next(loss.parameters()), dim=1)
    s = points @ proxies.T
    own = torch.nn.functional.one_hot(labels, 3).bool()
    pulled = torch.log1p(torch.where(own, torch.exp(-32 * (s - 0.1)), 0.0).sum(0)).mean()
    pushed = torch.log1p(torch.where(own, 0.0, torch.exp(32 * (s + 0.1))).sum(0)).mean()
    torch.testing.assert_close(found, pulled + pushed)
    found.backward()
    assert next(loss.parameters()).grad.abs().sum() > 0


def test_prototypes_answer_with_the_nearest_mean_by_angle():
    points, labels = embeddings()
    head = prototype_head(points, labels, 4)
    means = torch.stack([normalize(points[labels == k].mean(0), dim=0) for k in range(3)])
    answers = head(points).argmax(1)
    torch.testing.assert_close(answers, (points @ means.T).argmax(1))
    assert not (answers == 3).any()


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    data = grating_data(tmp_path_factory.mktemp("gratings"), per_class=20)
    rows = np.arange(len(data.labels))
    train, held = rows[rows % 4 > 0], rows[rows % 4 == 0]
    validation = (data.images(held), data.labels[held])
    return Task(data.images(train), data.labels[train], data.class_names, validation)


@pytest.mark.parametrize("loss", ["multi-similarity", "triplet", "contrastive", "proxy-anchor"])
def test_every_loss_brings_images_of_a_class_together(task, loss):
    fitted = dataclasses.replace(QUICK, loss=loss).fit(task, Context())
    images, labels = task.validation
    points = fitted.model.embed(images)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-5)
    untrained = dataclasses.replace(QUICK, loss=loss, lr=1e-9).fit(task, Context()).model
    before = retrieval(untrained.embed(images), labels).means["map@r"]
    assert retrieval(points, labels).means["map@r"] > max(0.8, before)


def test_a_class_that_was_not_learned_from_is_answered_and_judged(task):
    first, second, unseen = task.class_names
    recipe = dataclasses.replace(QUICK, seen_classes=f"{first}, {second}")
    fitted = recipe.fit(task, Context())
    last = fitted.history[-1]
    for part in ("", "_seen", "_unseen"):
        assert 0 <= last[f"validation_map@r{part}"] <= 1
    images, labels = task.validation
    answers = fitted.model.predict_proba(images).argmax(1)
    assert (answers[labels == task.class_names.index(unseen)] == 2).mean() > 0.5
    # Its labels have no part in the embedding.
    changed = np.where(task.labels == 2, 0, task.labels)
    kept = task.labels != 2
    alone = Task(task.images.subset(np.flatnonzero(kept)), changed[kept], task.class_names)
    own = dataclasses.replace(recipe, epochs=1)
    without = own.fit(alone, Context()).model.embed(images)
    np.testing.assert_array_equal(own.fit(task, Context()).model.embed(images), without)


def test_turned_images_are_classes_of_their_own(task, monkeypatch):
    shown = []

    class Watched(MetricLoss):
        def forward(self, embeddings, labels):
            shown.append(labels)
            return super().forward(embeddings, labels)

    monkeypatch.setattr("labelwise.recipe.metric.MetricLoss", Watched)
    recipe = dataclasses.replace(QUICK, turns=4, epochs=1, steps=3, batch=48, loss="proxy-anchor")
    fitted = recipe.fit(task, Context())
    assert torch.cat(shown).unique().tolist() == list(range(12))
    assert fitted.model.class_names == task.class_names
    examples = Examples(torch.arange(2 * 9, dtype=torch.uint8).view(2, 1, 3, 3), torch.arange(2))
    network = FirstPixel()
    embed = dataclasses.replace(recipe, augment="")._embed(network, examples)
    found = embed(torch.tensor([0, 3, 4, 7]), 0, generator())
    assert found[:, 0].tolist() == [0, 11, 8, 15]  # upper left of 0, 1 turned, 0 twice, 1 thrice


def test_images_that_are_not_square_cannot_be_turned(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 12, 16), dtype=np.uint8)
    np.savez(tmp_path / "wide.npz", x_train=pixels, y_train=np.arange(24) % 3)
    recipe = Metric(layers="conv4 3x3 relu, gap", epochs=1, turns=4)
    with pytest.raises(OptionError, match="16 x 12 pixels. Give an image_size"):
        recipe.fit(task_from(load(tmp_path / "wide.npz")), Context())
    square = dataclasses.replace(recipe, image_size=12)
    assert square.fit(task_from(load(tmp_path / "wide.npz")), Context()).model.class_names


@pytest.mark.parametrize("turns", [1, 4])
def test_the_cost_is_measured_also_where_a_batch_has_room_for_more_classes(task, turns):
    recipe = Metric(layers="conv4 3x3 relu, gap", loss="proxy-anchor", turns=turns)
    assert recipe.batch // recipe.images > len(task.class_names)
    assert recipe.cost(task, Context()).epoch > 0


class FirstPixel:
    def normalized(self, pixels):
        return pixels

    def body(self, pixels):
        return (), pixels[:, 0, 0, :1]


def test_a_saved_one_embeds_and_answers_as_before(task, tmp_path):
    model = QUICK.fit(task, Context()).model
    loaded = bundle.load(bundle.save(model, tmp_path))
    for made in ("embed", "logits"):
        before, after = getattr(model, made)(task.images), getattr(loaded, made)(task.images)
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("loss", ["multi-similarity", "proxy-anchor"])
@pytest.mark.usefixtures("kept_every_epoch")
def test_a_fit_that_was_killed_goes_on_exactly(task, loss, tmp_path):
    recipe = dataclasses.replace(QUICK, loss=loss)
    kept = dataclasses.replace(task, checkpoint=tmp_path / "unfinished")
    fitted, seen = resumed(recipe, kept, seed=1)
    assert seen == [3, 4, 5, 6]
    np.testing.assert_array_equal(
        fitted.model.logits(task.images),
        recipe.fit(task, Context(seed=1)).model.logits(task.images),
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"batch": 3}, "two classes"),
        ({"images": 1}, "at least two images"),
        ({"smoothing": 0.1}, "Leave them out"),
        ({"augment": "mixup 0.2"}, "Leave them out"),
        ({"size": 0}, "from 1 to 65536"),
        ({"turns": 5}, "from 1 to 4"),
        ({"turns": 2, "backbone": "efficientnet-lite0"}, "not shown turned"),
    ],
)
def test_fields_that_cannot_be_used_are_refused(fields, said):
    with pytest.raises(OptionError, match=said):
        Metric(**fields)


def test_seen_classes_are_refused_where_nothing_can_learn_from_some_only(tmp_path):
    with pytest.raises(OptionError, match="use metric"):
        labelwise.train("digits", recipe="mlp", out=tmp_path / "run", seen_classes="1, 2")
    assert not (tmp_path / "run").exists()


def test_classes_that_there_are_not_and_single_ones_are_refused(task):
    with pytest.raises(OptionError, match="no class 'zebra'"):
        dataclasses.replace(QUICK, seen_classes="zebra").fit(task, Context())
    with pytest.raises(TrainingError, match="fewer than two"):
        dataclasses.replace(QUICK, seen_classes=task.class_names[0]).fit(task, Context())
