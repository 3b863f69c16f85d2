"""What all recipes have in common that learn from unlabeled images by codes."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import labelwise
from labelwise import bundle, cli
from labelwise.data.dataset import UNLABELED
from labelwise.data.load import load
from labelwise.errors import OptionError
from labelwise.recipe.base import Context, Task
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.variants import parse_variants
from labelwise.report.curves import _charts_of
from labelwise.twins import twins_of, with_twins
from tests.coders import EVERY, WITH_DECODER, WITHOUT_LABELS
from tests.resumed import resumed
from tests.tasks import grating_data, gratings

SECTION = 'id="reconstructions"'

every = pytest.mark.parametrize("text", EVERY.values(), ids=EVERY)
with_decoder = pytest.mark.parametrize("text", WITH_DECODER.values(), ids=WITH_DECODER)
without_labels = pytest.mark.parametrize("text", WITHOUT_LABELS.values(), ids=WITHOUT_LABELS)


def recipe_of(text):
    return parse_variants(text)[0].recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return grating_data(tmp_path_factory.mktemp("gratings"), per_class=20, unlabeled=30)


@pytest.fixture(scope="module")
def nameless(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "nameless.npz"
    np.savez(file, x_train=gratings(20)[0])
    return load(file)


def task_of(data, rows=None):
    rows = data.usable if rows is None else rows
    return Task(data.images(rows), data.labels[rows], data.class_names)


@every
def test_images_without_a_label_have_a_say(text, data):
    """The same labeled images with and without the others give different models."""
    labeled = np.flatnonzero(data.labels != UNLABELED)
    images = data.images(range(9))
    some = recipe_of(text).fit(task_of(data), Context()).model.embed(images)
    only = recipe_of(text).fit(task_of(data, labeled), Context()).model.embed(images)
    assert not np.allclose(some, only, rtol=1e-3, atol=1e-3)


@every
def test_its_seconds_do_not_depend_on_the_number_of_labels(text, data):
    assert recipe_of(text).cost(task_of(data), Context()).everything


@without_labels
def test_without_a_label_the_model_embeds_and_comes_back_from_disk(text, nameless, tmp_path):
    model = recipe_of(text).fit(task_of(nameless), Context()).model
    assert model.network.head is None
    loaded = bundle.load(bundle.save(model, tmp_path))
    images = nameless.images(range(5))
    np.testing.assert_allclose(loaded.embed(images), model.embed(images), rtol=1e-4, atol=1e-5)


@without_labels
def test_a_run_without_labels_ends_in_a_backbone_for_the_probe(text, nameless, tmp_path):
    images, labels = gratings(12, seed=2)
    np.savez(tmp_path / "nameless.npz", x_train=images)
    np.savez(tmp_path / "labeled.npz", x_train=images, y_train=labels)

    def train(data, recipe, out, *options):
        words = ["train", tmp_path / data, "--recipe", recipe, "--out", tmp_path / out, *options]
        found = CliRunner().invoke(cli.app, [*map(str, words), "--quiet"])
        assert found.exit_code == 0
        return labelwise.Run(tmp_path / out)

    run = train("nameless.npz", text, "run")
    probe = train("labeled.npz", "probe", "probe", "--backbone", run.folder / "model")
    some = nameless.images(range(7))
    np.testing.assert_allclose(probe.model.embed(some), run.model.embed(some), rtol=1e-4, atol=1e-5)
    assert probe.model.network.head is not None
    assert (SECTION in run.report.read_text()) == (not text.startswith("kmeans"))


def test_a_loss_below_zero_stays_inside_of_its_chart():
    losses = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [50.0, -120.0, -300.0]})
    (drawn,), _ = _charts_of([losses])
    heights = [float(y) for y in re.findall(r'cy="([-\d.]+)"', drawn)]
    assert len(heights) == 3
    assert max(heights) < float(re.findall(r'viewBox="0 0 \d+ (\d+)"', drawn)[0])


@with_decoder
def test_the_twin_is_a_cnn_of_the_same_encoder_and_schedule(text):
    recipe = recipe_of(text)
    twin = recipe.twin.recipe
    assert isinstance(twin, Cnn)
    names = [item.name for item in dataclasses.fields(Cnn) if hasattr(recipe, item.name)]
    assert {n: getattr(twin, n) for n in names} == {n: getattr(recipe, n) for n in names}


def test_the_twin_of_a_preset_is_the_preset_of_cnn():
    variants = parse_variants("a=autoencoder(preset=stl5), joint-autoencoder(preset=stl5)")
    found = with_twins((*variants, *parse_variants("cnn(preset=stl5)")))
    assert [variant.name for variant in found] == ["a", "joint-autoencoder", "cnn"]
    assert {(pair.twin, pair.gain) for pair in twins_of(found)} == {("cnn", "the unlabeled images")}


def test_a_comparison_says_what_the_unlabeled_images_were_worth(tmp_path):
    data = grating_data(tmp_path, per_class=12)
    recipes = f"{WITH_DECODER['autoencoder']}, {EVERY['kmeans-features']}"
    run = labelwise.compare(data, recipes=recipes, out=tmp_path / "run", folds=2, labels="3/class")
    pairs = {(pair["a"], pair["b"]) for pair in run.results["pairs"] if pair["gain"]}
    assert pairs == {(name, f"{name}-supervised") for name in ("autoencoder", "kmeans-features")}
    assert "What the unlabeled images brought" in run.report.read_text()


def test_no_recipe_puts_pseudo_labels_around_one_that_uses_unlabeled_images_itself():
    with pytest.raises(OptionError, match="give a supervised recipe"):
        parse_variants("self-training(base=vae)")


def test_a_search_does_not_compare_losses_that_say_nothing_of_classes(data):
    seen = []
    task = task_of(data)
    task = dataclasses.replace(task, validation=(task.images, task.labels.clip(0)))
    recipe_of(WITH_DECODER["vae"]).fit(task, Context(observe=seen.append))
    assert all("train_loss" in record and "validation_loss" not in record for record in seen)


@with_decoder
@pytest.mark.usefixtures("kept_every_epoch")
def test_a_training_that_was_killed_goes_on_exactly(text, data, tmp_path):
    recipe, images = recipe_of(text), data.images(range(5))
    whole = recipe.fit(task_of(data), Context(seed=3))
    task = dataclasses.replace(task_of(data), checkpoint=tmp_path / "checkpoint.safetensors")
    again, seen = resumed(recipe, task, seed=3)
    assert seen == [3, 4]
    np.testing.assert_array_equal(again.model.logits(images), whole.model.logits(images))
    losses = [[record["train_loss"] for record in fit.history] for fit in (whole, again)]
    assert losses[0] == losses[1]


@with_decoder
def test_a_saved_model_makes_the_same_reconstructions(text, data, tmp_path):
    model = recipe_of(text).fit(task_of(data), Context()).model
    images = data.images(range(6))
    made = model.reconstruct(images)
    assert made.shape == (6, 1, 12, 12)
    assert 0 <= made.min() <= made.max() <= 1
    loaded = bundle.load(bundle.save(model, tmp_path))
    np.testing.assert_allclose(loaded.reconstruct(images), made, atol=1e-5)


@with_decoder
def test_the_history_has_reconstruction_errors_of_both_parts(text, data):
    labeled = np.flatnonzero(data.labels != UNLABELED)
    held = labeled[::3]
    task = task_of(data, np.setdiff1d(data.usable, held))
    task = dataclasses.replace(task, validation=(data.images(held), data.labels[held]))
    fitted = recipe_of(text).alone(task, Context())
    errors = [record["validation_reconstruction"] for record in fitted.history]
    images = data.images(held)
    pixels = np.stack([images.read(n) for n in range(len(held))]) / 255
    made = fitted.model.reconstruct(images)[:, 0]
    best = errors[fitted.chosen["best_epoch"] - 1]
    if not text.startswith("vae"):  # whose error is that of codes with noise
        assert best == pytest.approx(np.square(made - pixels).mean(), rel=1e-3)
    assert {"train_reconstruction", "train_accuracy"} <= set(fitted.history[0])
    assert all(("train_kl" in r) == text.startswith("vae") for r in fitted.history)


@with_decoder
def test_the_report_shows_images_beside_their_reconstructions(text, tmp_path):
    data = grating_data(tmp_path, per_class=20, unlabeled=10)
    run = labelwise.train(data, recipe=text, out=tmp_path / "run", folds=2)
    page = run.report.read_text()
    block = page[page.index(SECTION) :].partition("</section>")[0]
    assert block.count('alt="reconstruction"') == 10
    assert block.count('alt="sample"') == (24 if text.startswith("vae") else 0)
    assert "held out from the first fold" in block
    assert "reconstruction error" in block
