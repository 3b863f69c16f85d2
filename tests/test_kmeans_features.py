from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from labelwise.errors import LayerError, OptionError
from labelwise.nn.centroids import normalized_patches
from labelwise.recipe.base import Context
from labelwise.recipe.kmeans_features import KmeansFeatures
from tests.tasks import grating_data, task_from

RECIPE = KmeansFeatures(centroids=20, patch=4)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return task_from(grating_data(tmp_path_factory.mktemp("gratings"), per_class=12, unlabeled=12))


def test_the_patches_are_parts_of_the_images(task):
    preprocessing = RECIPE._input(task)
    patches = RECIPE._patches(task.images, preprocessing, torch.Generator().manual_seed(0))
    assert patches.shape == (3600, 16)
    windows = {
        task.images.read(n)[y : y + 4, x : x + 4].tobytes()
        for n in range(len(task.images))
        for y in range(9)
        for x in range(9)
    }
    found = (patches * 255).round().byte().numpy()
    assert all(patch.tobytes() in windows for patch in found[::7])


def test_patches_do_not_depend_on_how_many_images_are_read_at_once(task, monkeypatch):
    def drawn():
        return RECIPE._patches(task.images, RECIPE._input(task), torch.Generator().manual_seed(0))

    whole = drawn()
    monkeypatch.setattr("labelwise.recipe.kmeans_features.READ", 5)
    assert torch.equal(drawn(), whole)


def test_what_was_learned_are_centroids_of_whitened_patches(task):
    model = RECIPE.fit(task, Context()).model
    body = model.network.body
    generator = torch.Generator().manual_seed(0)
    patches = RECIPE._patches(task.images, RECIPE._input(task), generator)
    torch.testing.assert_close(body.mean.data, normalized_patches(patches).mean(0))
    assert model.embed(task.images).shape == (36, 80)


def test_its_twin_learns_from_patches_of_labeled_images_alone(task):
    labeled = np.flatnonzero(task.labels >= 0)
    twin = RECIPE.twin.recipe
    alone = dataclasses.replace(
        task, images=task.images.subset(labeled), labels=task.labels[labeled]
    )
    found, expected = (r.fit(t, Context()).model for r, t in ((twin, task), (RECIPE, alone)))
    np.testing.assert_array_equal(found.logits(task.images), expected.logits(task.images))
    assert twin.twin is None
    assert not twin.cost(task, Context()).everything


def test_its_strength_is_chosen_as_that_of_a_probe(tmp_path):
    task = task_from(grating_data(tmp_path, per_class=12))
    fitted = RECIPE.fit(task, Context())
    losses = {record["strength"]: record["validation_loss"] for record in fitted.history}
    assert fitted.chosen["strength"] == min(losses, key=losses.__getitem__)


def test_patches_larger_than_the_images_are_refused_before_a_run(task):
    with pytest.raises(LayerError, match="patches of 12x12 pixels are too large"):
        dataclasses.replace(RECIPE, patch=12).cost(task, Context())


@pytest.mark.parametrize("fields", [{"centroids": 1}, {"patch": 1}, {"image_size": 3}])
def test_fields_that_cannot_be_used_are_refused(fields):
    with pytest.raises(OptionError, match="must be from"):
        KmeansFeatures(**fields)


def test_large_photos_are_left_to_other_recipes(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 90, 90), dtype=np.uint8)
    np.savez(tmp_path / "large.npz", x_train=images, y_train=np.arange(4) % 2)
    from labelwise.data.load import load

    data = load(tmp_path / "large.npz")
    assert "larger than 64 pixels" in RECIPE.unsuited(data.images(data.usable))
