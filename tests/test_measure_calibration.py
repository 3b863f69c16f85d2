"""Calibration: the temperature that suits, errors of confidence by naive counting, and chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from labelwise.measure import expected_calibration_error, log_loss
from labelwise.measure.reliability import (
    Numbers,
    classwise_calibration_error,
    error_by_chance,
    even_calibration_error,
    reliability,
)
from labelwise.measure.temperature import (
    best_temperature,
    crossed,
    parts_of,
    scaled,
    temperature_of,
)


def answers(count: int, classes: int = 4, heat: float = 1.0, seed: int = 0, signal: float = 2.0):
    """Labels drawn from probabilities, and what a model says that is too sure if heat > 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, signal, (count, classes))
    true = softmax(logits, axis=1)
    labels = (rng.random(count)[:, None] > true.cumsum(axis=1)).sum(axis=1)
    return labels, softmax(heat * logits, axis=1)


some_answers = st.builds(
    answers,
    st.integers(40, 200),
    st.integers(2, 6),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.integers(0, 2**31),
)


def test_scaling_divides_the_logits():
    logits = np.random.default_rng(0).normal(0, 5, (50, 3))
    assert scaled(softmax(logits, axis=1), 2.5) == pytest.approx(softmax(logits / 2.5, axis=1))


def test_a_probability_of_nothing_stays_a_probability():
    found = scaled([[1.0, 0.0, 0.0]], 2.0)
    assert found.sum() == pytest.approx(1)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
def test_the_temperature_of_a_model_that_is_too_sure_is_found(heat):
    assert best_temperature(*answers(50_000, heat=heat)) == pytest.approx(heat, rel=0.03)


@given(some_answers)
def test_no_other_temperature_has_less_log_loss(data):
    """But for one label in N + 2 that counts as spread over all classes."""
    labels, proba = data
    truth = np.eye(proba.shape[1])[labels]
    truth += (1 / proba.shape[1] - truth) / (len(labels) + 2)

    def loss(temperature):
        return -(truth * np.log(scaled(proba, temperature))).sum(axis=1).mean()

    best = loss(best_temperature(labels, proba))
    for other in np.geomspace(0.06, 18, 40):
        assert best <= loss(other) + 1e-6


def test_images_without_an_error_do_not_make_a_model_certain():
    proba = np.tile([0.7, 0.3], (50, 1))
    found = scaled(proba, best_temperature(np.zeros(50, int), proba))
    assert found[0, 0] == pytest.approx(1 - 0.5 / 52, abs=1e-4)


@given(some_answers, st.data())
def test_the_labels_of_a_part_do_not_move_its_own_probabilities(data, draw):
    labels, proba = data
    parts = np.arange(len(labels)) % 3
    other = labels.copy()
    part = draw.draw(st.integers(0, 2))
    other[parts == part] = (other[parts == part] + 1) % proba.shape[1]
    one, two = crossed(labels, proba, parts), crossed(other, proba, parts)
    np.testing.assert_array_equal(one[parts == part], two[parts == part])
    assert not np.array_equal(one[parts != part], two[parts != part])


def test_probabilities_that_are_right_stay_as_they_are_and_others_do_not():
    labels, proba = answers(2000)
    parts = np.arange(2000) % 5
    assert temperature_of(labels, proba, parts) == pytest.approx(1, abs=0.05)
    labels, proba = answers(2000, heat=4)
    assert temperature_of(labels, proba, parts) == pytest.approx(4, rel=0.1)


def test_few_images_or_one_part_change_nothing():
    labels, proba = answers(29, heat=4)
    assert temperature_of(labels, proba, np.arange(29) % 5) == 1
    labels, proba = answers(200, heat=4)
    assert temperature_of(labels, proba, np.zeros(200)) == 1


def test_a_temperature_that_only_suits_the_images_it_is_found_on_is_not_kept():
    """Each part asks for another temperature than the other one."""
    cold, hot = answers(40, heat=0.2, seed=1), answers(40, heat=5, seed=2)
    labels, proba = (np.concatenate(pair) for pair in zip(cold, hot, strict=True))
    parts = np.repeat([0, 1], 40)
    assert log_loss(labels, crossed(labels, proba, parts)) > log_loss(labels, proba)
    assert temperature_of(labels, proba, parts) == 1


def test_parts_are_the_folds_or_keep_groups_together():
    folds = np.array([0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(parts_of(folds, np.arange(6)), folds)
    groups = np.repeat(np.arange(20), 3)
    parts = parts_of(np.zeros(60), groups)
    assert set(parts) == {0, 1, 2, 3, 4}
    assert all(len(set(parts[groups == group])) == 1 for group in range(20))


@given(some_answers)
def test_errors_of_calibration_agree_with_counting(data):
    labels, proba = data
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == labels
    gaps = np.array_split((confidence - right)[np.argsort(confidence, kind="stable")], 15)
    naive = sum(abs(gap.sum()) for gap in gaps) / len(labels)
    assert even_calibration_error(labels, proba) == pytest.approx(naive)
    total = 0.0
    for k in range(proba.shape[1]):
        for low in range(15):
            inside = (proba[:, k] > low / 15) & (proba[:, k] <= (low + 1) / 15)
            total += abs((proba[inside, k] - (labels[inside] == k)).sum())
    naive = total / proba.size
    assert classwise_calibration_error(labels, proba) == pytest.approx(naive, abs=1e-9)


@given(some_answers)
def test_the_bars_of_a_reliability_diagram_make_up_the_calibration_error(data):
    labels, proba = data
    bars = reliability(labels, proba)
    error = (bars.count * abs(bars.confidence - bars.accuracy)).sum() / len(labels)
    assert error == pytest.approx(float(expected_calibration_error(labels, proba)))
    assert bars.count.sum() == len(labels)


def test_perfect_probabilities_are_rarely_worse_than_chance_allows():
    above = 0
    for seed in range(200):
        labels, proba = answers(300, seed=seed)
        above += expected_calibration_error(labels, proba) > error_by_chance(proba, seed=seed)
    assert 1 <= above <= 20  # 5 % of 200, give or take three deviations


def test_numbers_hold_every_measure():
    labels, proba = answers(500, heat=3)
    before, after = Numbers.of(labels, proba), Numbers.of(labels, scaled(proba, 3))
    assert before.ece > before.by_chance
    assert after.ece < after.by_chance
    assert after.log_loss < before.log_loss
    assert after.brier < before.brier
    assert after.ece_even < before.ece_even
    assert after.ece_classes < before.ece_classes
