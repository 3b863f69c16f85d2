"""A metric embedding on a frozen network, and answers by neighbors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import labelwise
from labelwise import bundle
from labelwise.errors import BundleError, OptionError
from labelwise.features import embeddings as frozen_embeddings
from labelwise.measure.retrieval import retrieval
from labelwise.nn.neighbor_head import SHARPNESS, VOTERS, NeighborHead
from labelwise.recipe.base import Context, Task
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.metric import Metric
from labelwise.recipe.nearness import Coded, answering_head
from labelwise.transfer import find_backbone, with_backbone
from tests.resumed import resumed
from tests.tasks import grating_data, task_from


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return grating_data(tmp_path_factory.mktemp("gratings"), per_class=24)


@pytest.fixture(scope="module")
def backbone(data, tmp_path_factory):
    """A network that has learned next to nothing."""
    layers = "conv16 3x3 relu, max 2, conv16 3x3 relu, gap"
    model = Cnn(layers=layers, epochs=1, lr=1e-9).fit(task_from(data), Context()).model
    return str(bundle.save(model, tmp_path_factory.mktemp("backbone")))


@pytest.fixture(scope="module")
def task(data):
    rows = np.arange(len(data.labels))
    train, held = rows[rows % 4 > 0], rows[rows % 4 == 0]
    validation = (data.images(held), data.labels[held])
    return Task(data.images(train), data.labels[train], data.class_names, validation)


@pytest.fixture(scope="module")
def recipe(backbone):
    return Metric(backbone=backbone, size=6, epochs=10, steps=20, batch=12, images=4, lr=1e-2)


def test_the_layer_brings_images_of_a_class_closer_than_the_frozen_network_does(recipe, task):
    fitted = recipe.fit(task, Context())
    images, labels = task.validation
    points = fitted.model.embed(images)
    assert points.shape == (len(labels), 6)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-5)
    frozen = find_backbone(recipe.backbone)
    before = frozen_embeddings(images, frozen, fitted.model.preprocessing).numpy()
    gain = retrieval(points, labels).means["map@r"] - retrieval(before, labels).means["map@r"]
    assert gain > 0.05
    assert fitted.history[-1]["validation_map@r"] == pytest.approx(
        retrieval(points, labels).means["map@r"], abs=1e-6
    )


def test_stored_embeddings_and_the_network_itself_say_the_same(recipe, task):
    model = recipe.fit(task, Context()).model
    direct = dataclasses.replace(model, backbone=None)
    for made in ("embed", "logits"):
        a, b = getattr(model, made)(task.images), getattr(direct, made)(task.images)
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("answers", ["prototypes", "neighbors"])
def test_a_saved_one_answers_as_before_and_finds_its_backbone_again(
    recipe, task, answers, tmp_path
):
    model = dataclasses.replace(recipe, answers=answers).fit(task, Context()).model
    loaded = bundle.load(bundle.save(model, tmp_path))
    assert loaded.backbone is None
    found = with_backbone(loaded)
    assert found.backbone == model.backbone
    for read in (loaded, found):
        np.testing.assert_allclose(
            read.logits(task.images), model.logits(task.images), rtol=1e-3, atol=1e-4
        )


def test_the_saved_embedding_is_a_backbone_itself(recipe, task, tmp_path):
    model = recipe.fit(task, Context()).model
    folder = bundle.save(model, tmp_path / "model")
    table = labelwise.embed(folder, task.images.dataset)
    found = table[[f"e_{i}" for i in range(6)]].to_numpy()
    expected = model.embed(task.images.dataset.images(task.images.dataset.usable))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(OptionError, match="not made of layers"):
        Cnn(backbone=str(folder)).fit(task, Context())


def test_labels_of_classes_that_are_not_seen_have_no_part_in_the_layer(recipe, task):
    first, second, _ = task.class_names
    recipe = dataclasses.replace(recipe, seen_classes=f"{first}, {second}", epochs=1)
    kept = np.flatnonzero(task.labels != 2)
    alone = Task(task.images.subset(kept), task.labels[kept], task.class_names)
    images = task.validation[0]
    with_others = recipe.fit(task, Context()).model.embed(images)
    np.testing.assert_array_equal(recipe.fit(alone, Context()).model.embed(images), with_others)


@pytest.mark.usefixtures("kept_every_epoch")
def test_a_fit_that_was_killed_goes_on_exactly(recipe, task, tmp_path):
    kept = dataclasses.replace(task, checkpoint=tmp_path / "unfinished")
    fitted, seen = resumed(recipe, kept, seed=1)
    assert seen == list(range(3, 11))
    np.testing.assert_array_equal(
        fitted.model.logits(task.images),
        recipe.fit(task, Context(seed=1)).model.logits(task.images),
    )


def coded(count=40, classes=3):
    generator = torch.Generator().manual_seed(0)
    codes = normalize(torch.randn(count, 5, generator=generator), dim=1)
    return Coded(codes, torch.arange(count) % classes)


def test_neighbors_vote_by_their_cosines():
    own = coded()
    head = answering_head("neighbors", 4, own, None)
    asked = coded(7).codes
    cosines = asked @ own.codes.T
    for row, found in zip(cosines, head(asked).softmax(1), strict=True):
        nearest = row.topk(VOTERS)
        heavy = torch.exp(SHARPNESS * nearest.values)
        votes = torch.zeros(4)
        for weight, place in zip(heavy, nearest.indices, strict=True):
            votes[own.labels[place]] += VOTERS * weight / heavy.sum()
        torch.testing.assert_close(found, (votes + 0.25) / (VOTERS + 1))


def test_too_many_neighbors_are_thinned_out_evenly(monkeypatch):
    monkeypatch.setattr("labelwise.recipe.nearness.MOST_HELD", 12)
    head = answering_head("neighbors", 3, coded(), None)
    assert torch.bincount(head.labels).tolist() == [4, 3, 3]  # every fourth of 14, 13, 13


def test_labels_of_neighbors_that_there_are_not_are_refused(recipe, task, tmp_path):
    model = dataclasses.replace(recipe, answers="neighbors", epochs=1).fit(task, Context()).model
    assert isinstance(model.network.head, NeighborHead)
    model.network.head.labels[0] = 3
    with pytest.raises(BundleError, match="classes that there are not"):
        bundle.load(bundle.save(model, tmp_path))


def test_a_network_from_scratch_has_no_backbone(backbone):
    with pytest.raises(OptionError, match="Leave one of the two out"):
        Metric(backbone=backbone, preset="embedding")
    with pytest.raises(OptionError, match="Leave one of the two out"):
        Metric(preset="frozen", layers="gap")
    assert Metric(preset="frozen").backbone == "efficientnet-lite0"
