"""Self-training: what is adopted, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise.errors import OptionError
from labelwise.recipe.adopt import adopt
from labelwise.recipe.around import Work
from labelwise.recipe.base import Context, PseudoLabels, Task
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.mlp import Mlp
from labelwise.recipe.self_training import SelfTraining, priors
from tests.tasks import grating_data

BASE = Mlp(hidden=(16,), epochs=6)


@st.composite
def answers(draw):
    """Rows of some images with probabilities, and the shares of the classes."""
    count, classes = draw(st.integers(0, 40)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = np.sort(rng.choice(1000, count, replace=False))
    return rows, rng.dirichlet(np.ones(classes), count), rng.dirichlet(np.ones(classes))


shares, thresholds = st.floats(0.01, 1), st.floats(0, 1)


@settings(deadline=None)
@given(answers(), shares, thresholds)
def test_every_image_is_adopted_at_most_once_with_its_likeliest_class(drawn, share, threshold):
    rows, proba, priors = drawn
    found = adopt(rows, proba, priors=priors, share=share, threshold=threshold)
    assert len(np.unique(found.rows)) == len(found.rows)
    np.testing.assert_array_equal(found.labels, proba.argmax(1)[np.isin(rows, found.rows)])


@settings(deadline=None)
@given(answers(), shares, thresholds)
def test_weights_are_confidences_of_at_least_the_threshold(drawn, share, threshold):
    rows, proba, priors = drawn
    found = adopt(rows, proba, priors=priors, share=share, threshold=threshold)
    assert ((found.confidence > 0) & (found.confidence <= 1)).all()
    assert (found.confidence >= np.float32(threshold)).all()


@settings(deadline=None)
@given(answers(), shares)
def test_no_class_gets_more_than_its_share(drawn, share):
    rows, proba, priors = drawn
    found = adopt(rows, proba, priors=priors, share=share, threshold=0)
    counts = np.bincount(found.labels, minlength=len(priors))
    assert (counts <= np.ceil(share * len(rows) * priors)).all()


@settings(deadline=None)
@given(answers(), shares)
def test_of_a_class_none_that_is_left_out_is_surer_than_one_adopted(drawn, share):
    rows, proba, priors = drawn
    found = adopt(rows, proba, priors=priors, share=share, threshold=0)
    for k in range(len(priors)):
        own = proba.argmax(1) == k
        kept = np.isin(rows, found.rows)
        best = proba[own & ~kept].max(initial=0)
        assert proba[own & kept].max(1, initial=1).min(initial=1) >= best - 1e-6


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    data = grating_data(tmp_path_factory.mktemp("gratings"), per_class=20, unlabeled=40)
    rows = data.usable
    return Task(data.images(rows), data.labels[rows], data.class_names)


def test_given_labels_are_kept_and_weigh_1(task):
    work = Work(task, np.flatnonzero(task.labels < 0))
    some = work.pool.rows[3:9]
    guesses = PseudoLabels(some, np.zeros(6, np.int64), np.full(6, 0.4, np.float32))
    taught = work.taught(guesses, weighed=True)
    given = task.labeled
    np.testing.assert_array_equal(taught.labels[given], task.labels[given])
    assert (taught.weights[given] == 1).all()
    assert not taught.pseudo[given].any()
    np.testing.assert_array_equal(taught.images.rows[taught.pseudo], some)
    np.testing.assert_array_equal(taught.weights[taught.pseudo], np.full(6, 0.4, np.float32))


def test_few_labels_say_little_of_the_shares_of_classes_and_many_say_them():
    few, many = (priors(np.repeat([0, 1, 2], [n, 7 * n, 0]), 3) for n in (1, 1000))
    assert few.sum() == pytest.approx(1)
    assert few.min() > 0.2
    np.testing.assert_allclose(many, [1 / 8, 7 / 8, 0], atol=0.005)


def test_rounds_adopt_more_and_more_and_the_newest_label_counts(task):
    found = SelfTraining(base=BASE, rounds=3, step=3).fit(task, Context())
    sizes = [len(pseudo.rows) for pseudo in found.pseudo]
    assert sizes == sorted(sizes)
    assert len(np.unique(found.pseudo[-1].rows)) == sizes[-1]
    assert not np.isin(found.pseudo[-1].rows, task.images.rows[task.labeled]).any()


def test_step_0_is_the_supervised_twin(task):
    recipe = SelfTraining(base=BASE, step=0)
    assert recipe.twin.recipe == BASE
    images = task.images.subset(range(7))
    twin = BASE.fit(task, Context(seed=3)).model.logits(images)
    np.testing.assert_array_equal(recipe.fit(task, Context(seed=3)).model.logits(images), twin)


def test_weights_change_what_is_learned_and_weights_of_1_do_not(task):
    def logits(weights):
        weighed = Task(task.images, task.labels, task.class_names, weights=weights)
        return BASE.fit(weighed, Context()).model.logits(task.images)

    ones = np.ones(len(task.labels), np.float32)
    np.testing.assert_allclose(logits(ones), logits(None), rtol=1e-4, atol=1e-5)
    assert (
        np.abs(
            logits(np.where(task.labels == 0, 0.01, ones).astype(np.float32)) - logits(None)
        ).max()
        > 0.01
    )


def test_the_classic_preset_is_that_of_courses():
    classic = SelfTraining(preset="classic", base=Cnn())
    assert (classic.threshold, classic.rounds, classic.weighing) == (0.8, 10, "none")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"preset": "x"}, "no such preset"),
        ({"threshold": 2.0}, "from 0 to 1"),
        ({"rounds": 0}, "from 1 to 100"),
        ({"foreign": 1.0}, "below 1"),
        ({"step": 9}, "from 0 to 4"),
        ({"base": SelfTraining()}, "supervised"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(OptionError, match=message):
        SelfTraining(**fields)
