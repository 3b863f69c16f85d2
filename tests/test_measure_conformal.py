"""Conformal sets: as many as promised hold the true class, and MAPIE makes the same ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import APSConformityScore
from sklearn.base import BaseEstimator, ClassifierMixin

from labelwise.errors import OptionError
from labelwise.measure.conformal import (
    COVERAGES,
    METHODS,
    all_quantiles,
    check_coverage,
    crossed_coverage,
    lucks,
    needed,
    quantile,
    quantiles,
    scores,
    sets,
)
from tests.test_measure_calibration import answers, some_answers


class Given(ClassifierMixin, BaseEstimator):
    """Its images are its answers."""

    def __init__(self, classes: int = 4) -> None:
        self.classes = classes

    @property
    def classes_(self):
        return np.arange(self.classes)

    @property
    def n_features_in_(self):
        return self.classes

    def fit(self, images, labels):
        return self

    def predict_proba(self, images):
        return images

    def predict(self, images):
        return images.argmax(axis=1)


class Unmoved(np.random.RandomState):
    """Never adds anything, as sets without randomization."""

    def uniform(self, *args, size=None, **options):
        return np.zeros(size)


@pytest.mark.parametrize(
    ("method", "theirs"),
    [("lac", "lac"), ("aps", APSConformityScore())],
)
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_equal_those_of_mapie(method, theirs, coverage):
    labels, proba = answers(600, heat=1.5)
    peer = SplitConformalClassifier(
        Given(), confidence_level=coverage, conformity_score=theirs, random_state=Unmoved()
    )
    peer.conformalize(proba[:300], labels[:300])
    options = {"include_last_label": False} if method == "aps" else {}
    _, expected = peer.predict_set(proba[300:], conformity_score_params=options)
    # Both without luck, and limits by hand.
    own = scores(proba[:300], method)[np.arange(300), labels[:300]]
    inside = sets(proba[300:], (quantile(own, coverage),), method, np.zeros(300))
    if method == "aps":  # theirs are never empty
        empty = np.flatnonzero(~inside.any(axis=1))
        inside[empty, proba[300:].argmax(axis=1)[empty]] = True
    np.testing.assert_array_equal(inside, expected[:, :, 0])


@pytest.mark.parametrize("method", METHODS)
def test_coverage_over_random_splits_is_what_theory_gives(method):
    """Of n images that make the quantile, (k / (n + 1)) is covered on average, k = its place."""
    labels, proba = answers(1500, heat=2)
    rng, calibration, coverage = np.random.default_rng(0), 500, 0.9
    found = []
    for _ in range(200):
        order = rng.permutation(1500)
        one, other = order[:calibration], order[calibration:]
        limits = quantiles(labels[one], proba[one], coverage, method)
        inside = sets(proba[other], limits, method, rng.random(len(other)))
        found.append(inside[np.arange(len(other)), labels[other]].mean())
    places = math.ceil(coverage * (calibration + 1))
    expected = places / (calibration + 1)
    if method == "per-class":  # each class for itself: at least as much
        assert coverage - 0.002 <= np.mean(found) <= coverage + 4 / (calibration / 4)
        return
    assert np.mean(found) == pytest.approx(expected, abs=0.004)
    # Beta(k, n + 1 - k) is how the coverage of one split is distributed, and the other images are
    # a sample of 1,000 with its own deviation.
    spread = math.sqrt(
        expected * (1 - expected) / (calibration + 2) + expected * (1 - expected) / 1000
    )
    assert np.std(found) == pytest.approx(spread, rel=0.25)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.sampled_from(COVERAGES))
def test_the_quantile_is_the_smallest_that_enough_images_lie_below(values, coverage):
    found = quantile(values, coverage)
    enough = coverage * (len(values) + 1) - 1e-9
    assert math.isinf(found) == (enough > len(values))
    if math.isfinite(found):
        assert sum(value <= found for value in values) >= enough
        assert sum(value < found for value in values) < enough


@pytest.mark.parametrize("coverage", COVERAGES)
def test_it_is_known_how_many_images_it_takes(coverage):
    assert math.isfinite(quantile(np.zeros(needed(coverage)), coverage))
    assert math.isinf(quantile(np.zeros(needed(coverage) - 1), coverage))


@given(some_answers, st.sampled_from(["lac", "aps", "raps"]))
def test_a_more_probable_class_is_in_the_set_if_a_less_probable_one_is(data, method):
    labels, proba = data
    inside = sets(proba, quantiles(labels, proba, 0.8, method), method, lucks(len(proba), 5))
    order = np.argsort(-proba, axis=1, kind="stable")
    ranked = np.take_along_axis(inside, order, axis=1)
    assert (ranked[:, 1:] <= ranked[:, :-1]).all()


def test_scores_by_hand():
    proba = [[0.2, 0.5, 0.1, 0.2]]
    assert scores(proba, "lac")[0] == pytest.approx([0.8, 0.5, 0.9, 0.8])
    assert scores(proba, "aps")[0] == pytest.approx([0.7, 0.5, 1.0, 0.9])
    assert scores(proba, "raps")[0] == pytest.approx([0.7, 0.5, 1.1, 0.95])
    assert scores(proba, "aps", [0.5])[0] == pytest.approx([0.6, 0.25, 0.95, 0.8])


@pytest.mark.parametrize("method", ["aps", "raps"])
def test_of_two_classes_one_can_be_excluded_though_many_answers_are_wrong(method):
    labels, proba = answers(4000, classes=2, signal=1.5)
    assert (proba.argmax(axis=1) != labels).mean() > 0.1
    limits = quantiles(labels[:2000], proba[:2000], 0.9, method)
    inside = sets(proba[2000:], limits, method, lucks(2000, 3))
    covered = inside[np.arange(2000), labels[2000:]].mean()
    assert covered == pytest.approx(0.9, abs=0.025)
    assert inside.sum(axis=1).mean() < 1.8


def test_every_class_gets_a_quantile_of_its_own():
    labels, proba = answers(400)
    one, two = quantiles(labels, proba, 0.9, "per-class")[:2]
    assert one == quantile(1 - proba[labels == 0, 0], 0.9)
    assert two == quantile(1 - proba[labels == 1, 1], 0.9)


def test_nothing_is_excluded_where_there_are_too_few_images():
    labels, proba = answers(8)
    limits = quantiles(labels, proba, 0.9, "lac")
    assert math.isinf(limits[0])
    assert sets(proba, limits, "lac", np.zeros(len(proba))).all()
    assert "0.9" not in all_quantiles(labels, proba)["lac"]
    assert "0.8" in all_quantiles(labels, proba)["lac"]


@pytest.mark.parametrize("method", METHODS)
def test_what_is_reported_comes_from_images_the_quantile_has_not_seen(method):
    labels, proba = answers(1000, heat=2)
    found = crossed_coverage(labels, proba, np.arange(1000) % 5, 0.9, method)
    assert found.covered == pytest.approx(0.9, abs=0.03)
    assert 0 <= found.worst <= found.covered <= 1
    assert found.empty + found.single <= 1
    assert 0 < found.size <= 4


def test_other_coverages_and_methods_are_refused():
    with pytest.raises(OptionError, match=r"expected one of 0.8, 0.9"):
        check_coverage(0.85)
    with pytest.raises(OptionError, match=r"expected one of lac, aps"):
        scores([[1.0]], "naive")
