"""Novelty: thresholds keep their promise, and detection agrees with scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from labelwise.errors import OptionError
from labelwise.measure.novelty import SHARES, Novelty, detection


def normal(seed: int, count: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, count)


@given(st.integers(1, 400), st.integers(0, 2**31))
def test_no_more_than_the_share_of_the_images_that_made_it_lies_above_a_threshold(count, seed):
    energy, distance = normal(seed, count), normal(seed + 1, count)
    rule = Novelty.of(energy, distance)
    scores = rule.scores(energy, distance)
    for share in SHARES:
        if str(share) in rule.thresholds:
            assert (scores > rule.threshold(share)).mean() <= share


def test_new_known_images_exceed_a_threshold_as_often_as_promised():
    above = []
    for seed in range(400):
        rule = Novelty.of(normal(seed, 99), np.zeros(99))
        above.append(rule.scores([normal(10_000 + seed, 1)[0]], [0.0])[0] > rule.threshold(0.1))
    assert np.mean(above) == pytest.approx(0.1, abs=3 * math.sqrt(0.1 * 0.9 / 400))


def test_both_parts_weigh_the_same_whatever_their_units():
    energy, distance = normal(0, 100), normal(1, 100)
    one, other = Novelty.of(energy, distance), Novelty.of(1000 * energy, distance - 7)
    assert one.scores(energy, distance) == pytest.approx(other.scores(1000 * energy, distance - 7))


def test_what_is_very_sure_and_very_far_is_still_far():
    rule = Novelty.of(normal(0, 100), normal(1, 100))
    sure_and_far, known = rule.scores([-50.0, 0.0], [8.0, 0.0])
    assert sure_and_far > rule.threshold(0.01) > known


def test_a_constant_part_says_nothing_and_breaks_nothing():
    rule = Novelty.of(np.full(50, 3.0), normal(0, 50))
    assert np.isfinite(rule.scores([3.0], [0.5])).all()


def test_few_held_out_images_know_no_small_share():
    rule = Novelty.of(normal(0, 30), normal(1, 30))
    assert set(rule.thresholds) == {"0.1", "0.05"}
    with pytest.raises(OptionError, match=r"too few images.*It knows 0.1, 0.05"):
        rule.threshold(0.01)
    with pytest.raises(OptionError, match="expected one of"):
        rule.threshold(0.3)
    assert rule.threshold(0) == math.inf


@given(st.integers(0, 2**31), st.floats(-1, 3))
def test_detection_is_that_of_scikit_learn(seed, shift):
    known, unknown = normal(seed, 80).round(1), normal(seed + 1, 60, shift).round(1)
    found = detection(known, unknown, resamples=10)
    truth, scores = np.repeat([0, 1], [80, 60]), np.concatenate([known, unknown])
    assert found["auroc"].value == pytest.approx(roc_auc_score(truth, scores))
    # What passes are unknown images; known ones are the positives of the usual definition.
    fpr, tpr, _ = roc_curve(truth == 0, -scores, drop_intermediate=False)
    assert found["fpr@95"].value == pytest.approx(fpr[np.argmax(tpr >= 0.95 - 1e-9)])


def test_intervals_of_detection_hold_their_value():
    found = detection(normal(0, 200), normal(1, 200, 1.0))
    for interval in found.values():
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
        assert interval.high - interval.low > 0.01
