from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from labelwise.errors import OptionError, TrainingError
from labelwise.recipe.base import Context
from labelwise.recipe.joint_autoencoder import WEIGHTS, JointAutoencoder
from tests.tasks import grating_data, task_from

RECIPE = JointAutoencoder(
    layers="conv8 3x3 stride 2 same relu, dense 16 relu", epochs=2, least_steps=10
)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    data = grating_data(tmp_path_factory.mktemp("gratings"), per_class=12, unlabeled=12)
    held = np.flatnonzero(data.labels >= 0)[::3]
    rows = np.setdiff1d(data.usable, held)
    return dataclasses.replace(
        task_from(data),
        images=data.images(rows),
        labels=data.labels[rows],
        validation=(data.images(held), data.labels[held]),
    )


def test_the_weight_with_the_least_validation_loss_is_chosen(task, tmp_path):
    task = dataclasses.replace(task, checkpoint=tmp_path / "checkpoint.safetensors")
    fitted = RECIPE.fit(task, Context())
    each = {w: dataclasses.replace(RECIPE, weight=w).fit(task, Context()) for w in WEIGHTS}
    losses = {
        weight: fit.history[fit.chosen["best_epoch"] - 1]["validation_loss"]
        for weight, fit in each.items()
    }
    assert fitted.chosen["weight"] == min(losses, key=losses.__getitem__)
    images = task.images
    np.testing.assert_array_equal(
        fitted.model.logits(images), each[fitted.chosen["weight"]].model.logits(images)
    )
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.usefixtures("kept_every_epoch")
def test_a_fit_killed_in_its_second_training_goes_on_exactly(task, tmp_path):
    whole, seen = RECIPE.fit(task, Context()), []

    def killed(record):
        seen.append(record["epoch"])
        if len(seen) == 4:  # the last epoch of the second weight
            raise KeyboardInterrupt

    kept = dataclasses.replace(task, checkpoint=tmp_path / "checkpoint.safetensors")
    with pytest.raises(KeyboardInterrupt):
        RECIPE.fit(kept, Context(observe=killed))
    again = RECIPE.fit(kept, Context(observe=lambda record: seen.append(record["epoch"])))
    assert seen == [1, 2, 1, 2, 2, 2, 1, 2]  # of each begun training the last epoch is done again
    assert again.chosen == whole.chosen
    np.testing.assert_array_equal(again.model.logits(task.images), whole.model.logits(task.images))


def test_without_a_validation_part_one_training_has_the_weight_of_the_rule(task):
    fitted = RECIPE.fit(dataclasses.replace(task, validation=None), Context())
    assert fitted.chosen["weight"] == 1.0


def test_the_plan_knows_that_each_weight_is_a_training(task):
    tried = RECIPE.cost(task, Context()).epoch
    given = dataclasses.replace(RECIPE, weight=1.0).cost(task, Context()).epoch
    assert 1.5 * given < tried < 6 * given  # 3 times, measured on a busy machine


def test_the_final_fit_has_a_weight_and_epochs_that_folds_chose():
    chosen = [{"best_epoch": e, "weight": w} for e, w in ((2, 0.1), (4, 10.0), (3, 1.0))]
    settled = RECIPE.settled(chosen)
    assert (settled.weight, settled.epochs) == (1.0, 3)


def test_without_a_label_there_is_nothing_to_classify(task):
    nothing = dataclasses.replace(task, labels=np.full(len(task.labels), -1), validation=None)
    with pytest.raises(TrainingError, match="no labeled image"):
        RECIPE.fit(nothing, Context())


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_is_positive(weight):
    with pytest.raises(OptionError, match="must be positive"):
        JointAutoencoder(weight=weight)


def test_the_preset_of_the_course_is_exact():
    recipe = JointAutoencoder(preset="stl5")
    assert (recipe.hidden, recipe.epochs, recipe.batch, recipe.lr) == ((15,), 5, 32, 1e-3)
