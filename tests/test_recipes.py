"""What every recipe must do: the conformance suite. A new recipe is tested by being listed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from labelwise import bundle
from labelwise.data.dataset import UNLABELED
from labelwise.errors import TrainingError
from labelwise.recipe import RECIPES
from labelwise.recipe.base import Context, Task
from labelwise.recipe.describe import recipes
from labelwise.recipe.variants import parse_variants
from tests.coders import USES_UNLABELED
from tests.tasks import grating_data, task_from

QUICK = {
    "mlp": "mlp(epochs=12)",
    "cnn": "cnn(epochs=12)",
    "metric": "metric(epochs=12)",
    "probe": "probe(image_size=32)",
    "finetune": "finetune(image_size=32, epochs=2, looks=2)",
    **USES_UNLABELED,
}


def quick(name):
    """A recipe of this name that learns the gratings in a second or two."""
    return parse_variants(QUICK.get(name, name))[0].recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return grating_data(tmp_path_factory.mktemp("gratings"), per_class=30)


@pytest.fixture(scope="module")
def fitted(data):
    """Every recipe fitted once on two thirds, the rest being the validation part."""
    rows = np.arange(len(data.labels))
    train, validation = rows[rows % 3 > 0], rows[rows % 3 == 0]
    task = Task(
        data.images(train),
        data.labels[train],
        data.class_names,
        (data.images(validation), data.labels[validation]),
    )
    return task, {name: quick(name).fit(task, Context(seed=1)) for name in RECIPES}


every = pytest.mark.parametrize("name", RECIPES)


@every
def test_it_learns_what_can_be_learned(name, fitted, data):
    model = fitted[1][name].model
    images, labels = fitted[0].validation
    accuracy = (model.predict_proba(images).argmax(1) == labels).mean()
    assert accuracy > 0.7  # one in three by chance


@every
def test_probabilities_sum_to_one_and_no_image_gives_no_row(name, fitted, data):
    model = fitted[1][name].model
    np.testing.assert_allclose(model.predict_proba(data.images(range(7))).sum(1), 1)
    assert model.predict_proba(data.images([])).shape == (0, 3)


@every
def test_the_same_seed_gives_the_same_model(name, fitted, data):
    again = quick(name).fit(fitted[0], Context(seed=1)).model
    images = data.images(range(9))
    np.testing.assert_array_equal(again.logits(images), fitted[1][name].model.logits(images))


@every
def test_a_saved_model_gives_the_same_answers(name, fitted, data, tmp_path):
    model = fitted[1][name].model
    loaded = bundle.load(bundle.save(model, tmp_path))
    images = data.images(range(9))
    np.testing.assert_allclose(loaded.logits(images), model.logits(images), rtol=1e-3, atol=1e-3)


@every
@pytest.mark.parametrize("color", ["rgb", "gray"])
@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
def test_color_and_resize_are_recorded_with_the_model(name, color, resize, data, tmp_path):
    few = np.flatnonzero(data.labels >= 0)[::6]
    task = Task(data.images(few), data.labels[few], data.class_names)
    options = {"color": color, "resize": resize, "image_size": 16}
    recipe = quick(name)
    if hasattr(recipe, "base"):
        recipe = dataclasses.replace(recipe, base=dataclasses.replace(recipe.base, **options))
    else:
        recipe = dataclasses.replace(recipe, **options)
    if hasattr(recipe, "epochs"):
        recipe = dataclasses.replace(recipe, epochs=1)
    loaded = bundle.load(bundle.save(recipe.fit(task, Context()).model, tmp_path))
    assert (loaded.preprocessing.color, loaded.preprocessing.resize) == (color, resize)
    assert loaded.preprocessing.shape == (3 if color == "rgb" else 1, 16, 16)


@every
def test_the_network_gives_maps_an_embedding_and_logits(name, fitted, data):
    model = fitted[1][name].model
    pixels = model.preprocessing(data.images([0]).read(0))[None]
    maps, embedding, logits = model.network(pixels)
    assert logits.shape == (1, 3)
    assert embedding.ndim == 2
    assert all(part.ndim == 4 for part in maps)
    assert bool(maps) == (name not in ("mlp", "self-training"))  # the one here is around an mlp


@every
def test_the_history_has_losses_accuracies_and_confusion_matrices(name, fitted):
    history = fitted[1][name].history
    assert history
    assert {"epoch", "validation_loss", "validation_accuracy", "seconds"} <= set(history[0])
    assert all(len(record["validation_confusion"]) == 9 for record in history)


@pytest.mark.parametrize("name", [n for n, kind in RECIPES.items() if not kind.uses_unlabeled])
def test_images_without_a_label_are_no_class(name, fitted, data):
    labels = data.labels.copy()
    labels[::2] = UNLABELED
    half = np.flatnonzero(labels >= 0)
    some = quick(name).fit(Task(data.images(data.usable), labels, data.class_names), Context())
    only = quick(name).fit(Task(data.images(half), data.labels[half], data.class_names), Context())
    images = data.images(range(5))
    np.testing.assert_allclose(
        some.model.logits(images), only.model.logits(images), rtol=1e-3, atol=1e-3
    )


@every
def test_nothing_labeled_is_an_error_that_says_so(name, data):
    nothing = Task(data.images([0, 1]), np.full(2, UNLABELED), data.class_names)
    with pytest.raises(TrainingError, match="no labeled image"):
        quick(name).fit(nothing, Context())


@every
def test_a_class_without_an_image_does_not_disturb(name, data):
    rows = np.flatnonzero(data.labels != 1)
    task = Task(data.images(rows), data.labels[rows], data.class_names)
    proba = quick(name).fit(task, Context()).model.predict_proba(data.images(rows))
    assert (proba.argmax(1) == data.labels[rows]).mean() > 0.7


@every
def test_several_tasks_at_once_equal_one_after_the_other(name, data):
    rows = np.arange(len(data.labels))
    parts = [rows[rows % 2 == part] for part in range(2)]
    tasks = [Task(data.images(r), data.labels[r], data.class_names) for r in parts]
    recipe, images = quick(name), data.images(range(9))
    together = [f.model.predict_proba(images) for f in recipe.fit_many(tasks, Context())]
    alone = [recipe.fit(task, Context()).model.predict_proba(images) for task in tasks]
    np.testing.assert_allclose(together, alone, atol=0.01)


@every
def test_its_fields_have_meanings_and_its_configuration_is_json_safe(name):
    import json

    (details,) = recipes(name)
    assert all(field["meaning"] for field in details["fields"])
    assert details["description"]
    json.dumps(quick(name).configuration, allow_nan=False)


@every
def test_it_is_frozen_and_knows_its_cost(name, data):
    recipe = quick(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.image_size = 3
    cost = recipe.cost(task_from(data), Context())
    assert min(cost.once, cost.fit, cost.epoch) >= 0
    assert cost.once + cost.fit + cost.epoch > 0
