from __future__ import annotations

import numpy as np
import pytest

from labelwise.data.blocks import as_block
from labelwise.data.memory import nameless_dataset
from labelwise.errors import OptionError, UsageError
from labelwise.recipe.autoencoder import Autoencoder
from labelwise.recipe.base import Context, Task
from labelwise.recipe.vae import Vae
from tests.tasks import gratings

LAYERS = "conv8 3x3 stride 2 same relu, dense 32 relu"


@pytest.fixture(scope="module")
def task():
    data = nameless_dataset(as_block(gratings(40)[0], "x", []))
    return Task(data.images(data.usable), np.full(len(data.usable), -1), ())


@pytest.fixture(scope="module")
def model(task):
    return (
        Vae(layers=LAYERS, epochs=20, least_steps=30, latent=6, lr=3e-3).fit(task, Context()).model
    )


def test_samples_come_by_seed_and_differ(model):
    first, again, other = model.sample(5, seed=1), model.sample(5, seed=1), model.sample(5, seed=2)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert first.shape == (5, 1, 12, 12)


def test_samples_are_as_bright_as_the_images(model, task):
    """About: the mean over many samples, of images whose means lie close together."""
    pixels = np.stack([task.images.read(n) for n in range(len(task.images))]) / 255
    assert model.sample(200).mean() == pytest.approx(pixels.mean(), abs=0.05)
    assert model.sample(200).std() > pixels.std() / 4


def test_the_code_has_as_many_entries_as_it_was_given(model, task):
    assert model.embed(task.images).shape[1] == 6
    assert model.architecture["prior"] == "normal"


def test_a_code_without_a_distribution_cannot_be_drawn_from(task):
    model = Autoencoder(layers=LAYERS, epochs=1).fit(task, Context()).model
    with pytest.raises(UsageError, match="only the codes of a vae"):
        model.sample(3)


def test_a_code_has_at_least_one_entry():
    with pytest.raises(OptionError, match=r"vae\(latent=0\)"):
        Vae(latent=0)
