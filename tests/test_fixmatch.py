"""fixmatch: what it may see, what it is judged beside, and both of its ways to learn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from labelwise.data.dataset import UNLABELED
from labelwise.errors import OptionError, TrainingError
from labelwise.estimator import ImageClassifier
from labelwise.features import embedding_store, input_of
from labelwise.recipe.base import Context, Task
from labelwise.recipe.fixmatch import FixMatch
from labelwise.recipe.inner import STUDENT, TWIN
from labelwise.recipe.probe import Probe
from labelwise.recipe.self_training import SelfTraining
from labelwise.recipe.variants import parse_variants
from labelwise.transfer import find_backbone
from tests.resumed import resumed
from tests.rows import dataset_of
from tests.tasks import gratings

IMAGES, LABELS = gratings(12)
GIVEN = np.arange(len(LABELS)) % 4 == 0  # the labeled images, three of each class
SCRATCH = FixMatch(layers="conv8 3x3 same relu, gap", epochs=2, width=1.0)
FROZEN = FixMatch(image_size=32, epochs=2, looks=1)
both = pytest.mark.parametrize("recipe", [SCRATCH, FROZEN], ids=["scratch", "frozen"])


def task_of(truth=LABELS, **changes):
    """Some labels are given, the others only known to the data set."""
    data = dataset_of(truth, images=list(IMAGES))
    labels = np.where(GIVEN, LABELS, UNLABELED)
    return Task(data.images(data.usable), labels, data.class_names, **changes)


def logits_of(recipe, task):
    return recipe.fit(task, Context(seed=1)).model.logits(task.images)


@both
def test_labels_that_are_not_given_are_never_read(recipe):
    others = np.where(GIVEN, LABELS, (LABELS + 1) % 3)
    np.testing.assert_array_equal(logits_of(recipe, task_of()), logits_of(recipe, task_of(others)))


@both
def test_labels_that_are_given_stay_as_they_are(recipe):
    task = task_of()
    before = task.labels.copy()
    recipe.fit(task, Context())
    np.testing.assert_array_equal(task.labels, before)


@both
def test_the_unlabeled_images_have_a_say(recipe):
    task = task_of()
    few = np.flatnonzero(GIVEN)
    alone = Task(task.images.subset(few), task.labels[few], task.class_names)
    found = recipe.fit(alone, Context(seed=1)).model.logits(task.images)
    assert not np.allclose(found, logits_of(recipe, task), atol=1e-3)


@both
def test_the_history_says_what_the_pool_contributed(recipe):
    history = recipe.fit(task_of(), Context()).history
    assert [record["epoch"] for record in history] == [1, 2]
    for record in history:
        assert record["pool_loss"] > 0
        assert 0 <= record["pool_weight"] <= 1
        assert 0 <= record["pool_used"] <= 1


@both
def test_validation_judges_and_teaches_nothing(recipe):
    task = task_of()
    held = np.flatnonzero(~GIVEN)[:5]
    judged = dataclasses.replace(task, validation=(task.images.subset(held), LABELS[held]))
    fitted = recipe.alone(judged, Context(seed=1))
    np.testing.assert_array_equal(fitted.model.logits(task.images), logits_of(recipe, task))
    confusion = np.reshape(fitted.history[-1]["validation_confusion"], (3, 3))
    np.testing.assert_array_equal(confusion.sum(1), np.bincount(LABELS[held], minlength=3))


@both
@pytest.mark.usefixtures("kept_every_epoch")
def test_a_fit_that_was_killed_goes_on_exactly(recipe, tmp_path):
    recipe = dataclasses.replace(recipe, epochs=4)
    task = task_of(checkpoint=tmp_path / "unfinished")
    fitted, seen = resumed(recipe, task, seed=1)
    assert seen == [3, 4]
    np.testing.assert_array_equal(fitted.model.logits(task.images), logits_of(recipe, task_of()))


@both
def test_its_cost_is_that_of_the_whole_pool(recipe):
    cost = recipe.cost(task_of(), Context())
    assert cost.everything
    assert cost.epoch > 0


def test_views_are_embedded_once():
    task = task_of()
    FROZEN.fit(task, Context())
    backbone = find_backbone(FROZEN.backbone)
    preprocessing = input_of(backbone, task.images, image_size=32)
    weak, strong = FROZEN._frozen(task, Context())._views(preprocessing)
    assert [len(weak), len(strong)] == [2, 1]
    for view in (*weak, *strong):
        assert not len(embedding_store(backbone, preprocessing, view).missing(task.images.contents))
    assert FROZEN.cost(task, Context()).once == 0


def test_its_twin_is_the_probe_of_the_same_network():
    twin = FixMatch(image_size=96, color="gray").twin
    assert twin.recipe == Probe(image_size=96, color="gray")


def test_from_scratch_its_twin_does_the_same_steps_with_the_labels_only():
    twin = SCRATCH.twin.recipe
    assert twin == dataclasses.replace(SCRATCH, strength=0.0)
    assert twin.twin is None
    task = task_of()
    (first, _), (own, _) = (r.fit(task, Context()).history for r in (twin, SCRATCH))
    assert "pool_loss" not in first
    seen = [np.sum(record["train_confusion"]) for record in (first, own)]
    assert seen[0] == seen[1] == first["images"]


@both
def test_where_held_labels_say_that_the_twin_is_better_it_is_the_result(recipe):
    recipe = dataclasses.replace(recipe, strength=50.0, lr=1.0)  # learns mostly from the pool
    task, held = task_of(), np.flatnonzero(~GIVEN)
    twin = recipe.twin.recipe.fit(task, Context(seed=1)).model
    answers = twin.predict_proba(task.images.subset(held)).argmax(1)
    judged = dataclasses.replace(task, validation=(task.images.subset(held), answers))
    fitted = recipe.fit(judged, Context(seed=1))
    assert fitted.chosen["verdict"] == "hurt"
    again = recipe.twin.recipe.fit(judged, Context(seed=1)).model
    np.testing.assert_array_equal(fitted.model.logits(task.images), again.logits(task.images))


def decided(verdict, returned):
    """What a fit decided; the twin has its own best epoch."""
    twin = {"twin": {"best_epoch": 7}} if returned == TWIN else {}
    return {"best_epoch": 2, "verdict": verdict, "returned": returned, **twin}


HURT, UNCLEAR, HELPED = decided("hurt", TWIN), decided("cannot tell", TWIN), decided("x", STUDENT)


@pytest.mark.parametrize(
    ("folds", "epochs", "said"),
    [
        ((HURT, HURT, HELPED), None, "hurt in 2 of 3 fits"),
        ((HURT, UNCLEAR, HELPED), None, "hurt in 1 and helped too little to tell in 1 of 3 fits"),
        ((HURT, HELPED, HELPED), 2, "hurt in 1 of 3 fits"),
        ((HELPED, HELPED), 2, None),
        (({"best_epoch": 2}, {"best_epoch": 2}), 2, "too few labels to tell"),
    ],
)
def test_the_final_fit_does_what_most_folds_say(folds, epochs, said):
    own = dataclasses.replace(SCRATCH, epochs=epochs or 7)
    assert SCRATCH.settled(folds) == (own if epochs else own.twin.recipe)
    remark = SCRATCH.remark(folds)
    assert remark is None if said is None else said in remark


def test_its_twin_decides_nothing():
    twin = SCRATCH.twin.recipe
    assert SCRATCH.decides_on_validation
    assert not twin.decides_on_validation
    assert twin.remark([{"best_epoch": 2}]) is None


@pytest.mark.parametrize(
    ("text", "backbone", "preset"),
    [
        ("fixmatch", "efficientnet-lite0", "frozen"),
        ("fixmatch(backbone=resnet18)", "resnet18", "frozen"),
        ("fixmatch(preset=small)", None, "small"),
        ("fixmatch(layers='conv8 3x3, gap')", None, "fast"),
    ],
)
def test_a_preset_or_layers_are_for_a_network_from_scratch(text, backbone, preset):
    recipe = parse_variants(text)[0].recipe
    assert (recipe.backbone, recipe.preset) == (backbone, preset)


def test_a_backbone_for_all_recipes_is_none_for_a_network_from_scratch():
    found = parse_variants("fixmatch(preset=fast), a=fixmatch", defaults={"backbone": "resnet18"})
    assert [variant.recipe.backbone for variant in found] == [None, "resnet18"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"backbone": "resnet18", "preset": "fast"}, "no backbone"),
        ({"ratio": 0}, "at least 1"),
        ({"looks": 0}, "at least 1"),
        ({"augment": "mixup 0.2"}, "mixup"),
        ({"strong": "mixup 0.2"}, "mixup"),
        ({"strong": "paint"}, "not a part"),
        ({"preset": "none-such"}, "no such preset"),
    ],
)
def test_fields_that_cannot_be_used_are_refused(fields, said):
    with pytest.raises(OptionError, match=said):
        FixMatch(**fields)


def test_without_any_label_nothing_is_learned():
    task = dataclasses.replace(task_of(), labels=np.full(len(LABELS), UNLABELED))
    with pytest.raises(TrainingError, match="no labeled image"):
        SCRATCH.fit(task, Context())


def test_it_is_no_base_of_self_training():
    with pytest.raises(OptionError, match="supervised"):
        SelfTraining(base=SCRATCH)


def test_an_image_classifier_takes_minus_one_for_no_label():
    labels = np.where(GIVEN, LABELS, -1)
    classifier = ImageClassifier(SCRATCH).fit(IMAGES, labels)
    assert set(classifier.predict(IMAGES)) <= {0, 1, 2}
    assert "pool_loss" in classifier.history_[0]
