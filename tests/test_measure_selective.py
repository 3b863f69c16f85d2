"""Selective answers: the curve by naive counting, and thresholds that keep their promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from labelwise.errors import OptionError
from labelwise.measure.selective import (
    DOUBT,
    ERRORS,
    check_error,
    crossed_answers,
    fewest_answered,
    risk_coverage,
    threshold,
    thresholds,
)
from tests.test_measure_calibration import answers, some_answers


@given(some_answers)
def test_the_curve_agrees_with_answering_the_surest_first(data):
    labels, proba = data
    curve = risk_coverage(labels, proba)
    order = np.argsort(-proba.max(axis=1), kind="stable")
    wrong = (proba.argmax(axis=1) != labels)[order]
    naive = [wrong[: n + 1].mean() for n in range(len(labels))]
    assert curve.risk == pytest.approx(naive)
    assert curve.area == pytest.approx(np.mean(naive))
    assert curve.best <= curve.area
    assert curve.risk[-1] == pytest.approx(wrong.mean())


def test_images_of_the_same_confidence_are_not_told_apart_by_their_order():
    proba = np.full((4, 2), 0.5)
    one, other = (risk_coverage(labels, proba) for labels in ([0, 0, 1, 1], [1, 1, 0, 0]))
    assert one.risk == pytest.approx([0.5] * 4)
    assert other.risk == pytest.approx([0.5] * 4)


def test_a_threshold_is_broken_as_rarely_as_promised():
    """Among the answers of many new images; each of the draws is a calibration of its own."""
    labels, proba = answers(200_000, heat=2, seed=9, signal=5)
    confidence, wrong = proba.max(axis=1), proba.argmax(axis=1) != labels
    broken = known = 0
    for seed in range(300):
        chosen = np.random.default_rng(seed).integers(0, len(labels), 600)
        found = threshold(labels[chosen], proba[chosen], 0.05)
        if found is not None:
            known += 1
            broken += wrong[confidence >= found].mean() > 0.05
    assert known > 100
    assert broken <= 300 * DOUBT + 3 * np.sqrt(300 * DOUBT * (1 - DOUBT))


@pytest.mark.parametrize(("images", "rate"), [(10_000, 0.05), (10_000, 0.02), (60_000, 0.05)])
def test_one_early_error_does_not_hide_that_errors_are_rare(images, rate):
    """One answer in a hundred is wrong, whatever its confidence, as wrong labels make them."""
    known = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        best = rng.uniform(0.6, 1, images)
        labels = (rng.random(images) < 0.01).astype(int)
        known += threshold(labels, np.stack([best, 1 - best], axis=1), rate) == 0
    assert known >= 36


def test_a_laxer_rate_answers_more():
    found = thresholds(*answers(5000, heat=2, signal=5))
    values = [found[str(error)] for error in ERRORS if str(error) in found]
    assert len(values) >= 2
    assert values == sorted(values)


def test_too_few_images_show_no_small_rate():
    assert fewest_answered(0.02) == 149
    labels, proba = np.zeros(148, int), np.tile([0.9, 0.1], (148, 1))
    assert threshold(labels, proba, 0.02) is None
    labels, proba = np.zeros(149, int), np.tile([0.9, 0.1], (149, 1))
    assert threshold(labels, proba, 0.02) == 0  # all may be answered


def test_a_model_that_is_always_wrong_answers_nothing():
    labels, proba = np.ones(300, int), np.tile([0.9, 0.1], (300, 1))
    assert threshold(labels, proba, 0.1) is None
    assert crossed_answers(labels, proba, np.arange(300) % 5, 0.1).share == 0


def test_what_is_reported_comes_from_images_the_threshold_has_not_seen():
    labels, proba = answers(3000, heat=2, signal=5)
    found = crossed_answers(labels, proba, np.arange(3000) % 5, 0.05)
    assert 0.2 < found.share < 1
    assert found.error < 0.06


def test_other_rates_are_refused():
    with pytest.raises(OptionError, match=r"expected one of 0.1, 0.05"):
        check_error(0.03)
