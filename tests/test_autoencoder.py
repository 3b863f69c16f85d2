from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from labelwise import bundle
from labelwise.data.blocks import as_block
from labelwise.data.memory import labeled_dataset
from labelwise.errors import LayerError, OptionError, UsageError
from labelwise.nn.code_head import train_deep_head
from labelwise.nn.supervised import Examples
from labelwise.nn.train import Schedule
from labelwise.recipe.autoencoder import Autoencoder
from labelwise.recipe.base import Context, Task
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.inner import TWIN
from tests.tasks import gratings

LAYERS = "conv8 3x3 stride 2 same relu, dense 16 relu"
SMALL = {"layers": LAYERS, "epochs": 3, "least_steps": 10, "fallback": "no"}


def task_of(images, labels, held=0):
    names = tuple("abcdefghij"[: labels.max() + 1])
    data = labeled_dataset(as_block(images, "x", []), [names[k] for k in labels], names)
    rows, validation = data.usable[held:], None
    if held:
        validation = (data.images(data.usable[:held]), data.labels[:held])
    return Task(data.images(rows), data.labels[rows], names, validation)


@pytest.fixture(scope="module")
def task():
    images, labels = gratings(20)
    order = np.random.default_rng(0).permutation(len(labels))
    return task_of(images[order], labels[order], held=15)


def codes_of(recipe, task):
    model = recipe.fit(task, Context()).model
    return model.embed(task.images), model


def test_a_deep_head_on_a_frozen_code_leaves_the_code_as_it_was(task, tmp_path):
    plain, _ = codes_of(Autoencoder(**SMALL), task)
    deep, model = codes_of(Autoencoder(**SMALL, hidden=(9, 6)), task)
    np.testing.assert_array_equal(deep, plain)
    shapes = [tuple(value.shape) for value in model.network.head.parameters()]
    assert sorted(shapes) == sorted([(9, 16), (9,), (6, 9), (6,), (3, 6), (3,)])
    loaded = bundle.load(bundle.save(model, tmp_path))
    np.testing.assert_allclose(loaded.logits(task.images), model.logits(task.images), atol=1e-4)


@pytest.mark.parametrize("hidden", [(), (9,)])
def test_a_tuned_encoder_learns_from_the_labels(task, hidden):
    plain, _ = codes_of(Autoencoder(**SMALL), task)
    fitted = Autoencoder(**SMALL, hidden=hidden, encoder="tuned").fit(task, Context())
    assert not np.allclose(fitted.model.embed(task.images), plain, atol=1e-3)
    assert [record["phase"] for record in fitted.history] == ["code"] * 3 + ["head"] * 3
    assert [record["epoch"] for record in fitted.history] == [1, 2, 3, 4, 5, 6]


def test_where_held_labels_do_not_speak_for_it_its_twin_is_the_result(task):
    recipe = Autoencoder(**{**SMALL, "fallback": "yes"})
    images, _ = task.validation
    told = recipe.twin.recipe.fit(dataclasses.replace(task, validation=None), Context()).model
    agreed = (images, told.predict_proba(images).argmax(1))  # what the twin takes them for
    fitted = recipe.fit(dataclasses.replace(task, validation=agreed), Context())
    assert fitted.chosen["returned"] == TWIN
    assert fitted.model.network.decoder is None
    alone = fitted.stages["alone"]
    plain, _ = codes_of(Autoencoder(**SMALL), task)
    np.testing.assert_array_equal(alone.embed(task.images), plain)
    assert alone.reconstruct(images).shape == (15, 1, 12, 12)
    assert isinstance(recipe.settled([fitted.chosen]), Cnn)


@pytest.mark.parametrize("fields", [{}, {"hidden": (9,)}, {"encoder": "tuned"}])
def test_a_head_that_is_judged_does_not_know_the_labels_it_is_judged_by(task, fields):
    recipe = Autoencoder(**{**SMALL, "fallback": "yes"}, **fields)
    images, labels = task.validation
    wrong = dataclasses.replace(task, validation=(images, (labels + 1) % 3))
    epochs = {"epochs": 1, "head_epochs": 1, "patience": 0}  # nor what stops a training
    own, other = (
        dataclasses.replace(recipe, **epochs).alone(given, Context()).model.logits(images)
        for given in (task, wrong)
    )
    np.testing.assert_array_equal(own, other)


def test_tuning_leaves_the_decoder_as_it_was(task):
    plain, tuned = (
        Autoencoder(**SMALL, encoder=encoder).fit(task, Context()).model.network.decoder
        for encoder in ("frozen", "tuned")
    )
    for before, after in zip(plain.parameters(), tuned.parameters(), strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=0)


def test_the_final_fit_runs_the_median_epochs_of_both_steps():
    recipe = Autoencoder(**SMALL, hidden=(9,))
    chosen = [{"best_epoch": a, "best_head_epoch": b} for a, b in ((2, 9), (3, 5), (1, 7))]
    settled = recipe.settled(chosen)
    assert (settled.epochs, settled.head_epochs) == (2, 7)


def test_the_plan_knows_that_an_encoder_is_tuned_as_long_again(task):
    def tried() -> list[float]:
        recipes = [Autoencoder(**SMALL, encoder=encoder) for encoder in ("frozen", "tuned")]
        return [recipe.cost(task, Context()).epoch for recipe in recipes]

    # Twice, but a busy machine may slow one of the two down: the middle of five tries counts.
    ratio = sorted(tuned / frozen for frozen, tuned in (tried() for _ in range(5)))[2]
    assert 1.3 < ratio < 3


def test_the_preset_of_the_course_is_exact():
    recipe = Autoencoder(preset="stl5")
    assert (recipe.hidden, recipe.epochs, recipe.batch, recipe.lr) == ((25, 15), 5, 32, 1e-3)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    task = task_of(pixels, np.arange(6) % 2)
    model = dataclasses.replace(recipe, epochs=1).fit(task, Context()).model
    assert model.embed(task.images).shape == (6, 32 * 11 * 11)
    with torch.inference_mode():
        head = model.network.head
        expected = head(torch.from_numpy(model.embed(task.images))).numpy()
    np.testing.assert_allclose(model.logits(task.images), expected, atol=1e-4)
    assert model.reconstruct(task.images).shape == (6, 3, 32, 32)


def test_a_decoder_that_does_not_fit_is_refused_before_training(task):
    recipe = Autoencoder(**SMALL, decoder="maps 1x4x4, up 2")
    with pytest.raises(LayerError, match="makes images of 1x8x8, where 1x12x12"):
        recipe.cost(task, Context())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden": (0,)}, "positive numbers"),
        ({"head_epochs": 0}, "head_epochs=0"),
        ({"augment": "mixup 0.2"}, "mixup mixes labels"),
        ({"preset": "nothing"}, "there is no such preset"),
    ],
)
def test_fields_that_cannot_be_used_are_refused(fields, message):
    with pytest.raises(OptionError, match=message):
        Autoencoder(**fields)


def test_a_model_without_a_decoder_says_so(task):
    model = Cnn(layers="gap", epochs=1).fit(task, Context()).model
    with pytest.raises(UsageError, match="has no decoder"):
        model.reconstruct(task.images)


def test_a_deep_head_does_not_blow_up_what_hardly_varies_among_few_images():
    codes = torch.randn(12, 40, generator=torch.Generator().manual_seed(0))
    codes[:, 20:] *= 1e-3  # nearly constant here, and not elsewhere
    examples = Examples(codes, torch.arange(12) % 3)
    schedule = Schedule("adam", 1e-2, "constant", 5, None)
    head, _, _ = train_deep_head(
        examples, None, (8,), 3, schedule, torch.Generator(), batch=4, least_steps=0
    )
    first = next(m for m in head.hidden if isinstance(m, torch.nn.Linear)).weight
    assert first[:, 20:].abs().max() < 10 * first[:, :20].abs().max()
