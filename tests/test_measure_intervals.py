"""Intervals against statsmodels and scipy, and how often they contain the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from labelwise.errors import DataError, OptionError
from labelwise.measure import bca, evaluate, metric_values, wilson
from labelwise.measure.evaluation import bootstrap_intervals
from labelwise.measure.intervals import (
    BLOCKS,
    acceleration,
    effective_n,
    resample,
    resampled_weights,
)
from labelwise.measure.metrics import sample_values
from labelwise.measure.scoring import Scorer


def mean_of(values):
    return lambda weights: weights @ values / weights.sum(axis=-1)


@settings(deadline=None)
@given(st.integers(1, 2000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_equals_statsmodels(n, fraction, level):
    found = wilson(fraction * n, n, level)
    low, high = proportion_confint(fraction * n, n, alpha=1 - level, method="wilson")
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)
    assert found.low <= found.value <= found.high


def test_wilson_without_an_image_is_undefined():
    assert np.isnan(wilson(0, 0).value)
    assert wilson(0, 0).n == 0


def test_wilson_refuses_more_successes_than_images_and_a_level_in_percent():
    with pytest.raises(OptionError, match="successes are 3 of n = 2"):
        wilson(3, 2)
    with pytest.raises(OptionError, match="level is 95"):
        wilson(1, 2, level=95)


@pytest.mark.parametrize("accuracy", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
def test_wilson_of_500_images_covers_the_true_accuracy_as_often_as_it_says(accuracy):
    right = np.random.default_rng(0).binomial(500, accuracy, size=20_000)
    found = {k: wilson(k, 500) for k in np.unique(right).tolist()}
    covered = np.mean([found[k].low <= accuracy <= found[k].high for k in right.tolist()])
    assert 0.93 <= covered <= 0.97


def simulated(rng, n, signal):
    """Labels and probabilities of a classifier of three unequal classes."""
    labels = rng.choice(3, size=n, p=[0.5, 0.3, 0.2])
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), labels] += signal
    proba = np.exp(logits)
    return labels, proba / proba.sum(axis=1, keepdims=True)


def test_bca_of_500_images_covers_true_f1_auroc_and_calibration_as_often_as_it_says():
    signal = 1.5  # an accuracy of about 0.73
    names = ("macro_f1", "mcc", "auroc", "ece")
    big = Scorer(*simulated(np.random.default_rng(1), 500_000, signal))
    true = {k: v[0] for k, v in sample_values(big.sample(np.ones((1, 500_000))), names).items()}
    rng = np.random.default_rng(2)
    hits = dict.fromkeys(names, 0)
    simulations = 200
    for seed in range(simulations):
        found = bootstrap_intervals(
            Scorer(*simulated(rng, 500, signal)),
            names,
            np.arange(500),
            resamples=300,
            level=0.95,
            seed=seed,
            n=500,
        )
        for name in names:
            hits[name] += found[name].low <= true[name] <= found[name].high
    for name in ("macro_f1", "mcc", "auroc"):
        # The simulation has a standard error of 1.5 points.
        assert 0.91 <= hits[name] / simulations <= 0.99, name
    assert hits["ece"] / simulations >= 0.93  # a cautious bound


def test_bca_equals_scipy_for_a_skewed_mean():
    values = np.random.default_rng(0).exponential(size=80)
    found = bca(mean_of(values), np.arange(80), resamples=20_000, seed=0)
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    width = reference.high - reference.low
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(reference.low, abs=0.03 * width)
    assert found.high == pytest.approx(reference.high, abs=0.03 * width)
    # The correction matters here: the plain percentile interval is elsewhere.
    plain = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert reference.high - plain.high > 0.06 * width
    assert found.n == 80
    assert found.method == "bca"


def test_bca_equals_scipy_where_resamples_are_biased():
    values = np.random.default_rng(5).normal(size=25)

    def spread(weights):
        mean = weights @ values / 25
        return np.sqrt(weights @ values**2 / 25 - mean**2)

    def reference(method):
        found = stats.bootstrap(
            (values,), np.std, n_resamples=20_000, method=method, rng=np.random.default_rng(1)
        )
        return found.confidence_interval

    found = bca(spread, np.arange(25), resamples=20_000, seed=0)
    expected, plain = reference("BCa"), reference("percentile")
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.04 * width)
    assert found.high == pytest.approx(expected.high, abs=0.04 * width)
    assert expected.low - plain.low > 0.1 * width  # the correction matters here


def test_bca_equals_scipy_for_a_metric_that_is_not_a_mean():
    labels, proba = simulated(np.random.default_rng(3), 100, 1.5)

    def macro_f1(rows):
        return metric_values("macro_f1", labels[rows], proba[rows])

    reference = stats.bootstrap(
        (np.arange(100),),
        macro_f1,
        n_resamples=1500,
        method="BCa",
        vectorized=False,
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = bca(
        lambda w: metric_values("macro_f1", labels, proba, w),
        np.arange(100),
        resamples=4000,
        seed=0,
    )
    width = reference.high - reference.low
    assert found.low == pytest.approx(reference.low, abs=0.1 * width)
    assert found.high == pytest.approx(reference.high, abs=0.1 * width)


def test_blocks_of_groups_give_the_acceleration_of_single_groups():
    values = np.random.default_rng(0).exponential(size=20 * BLOCKS)
    found = resample(
        lambda w: {"mean": mean_of(values)(w)}, np.arange(len(values)), resamples=2, seed=0
    )
    single = (values.sum() - values) / (len(values) - 1)  # every jackknife value of a mean
    assert len(found.jackknife["mean"]) == BLOCKS
    assert acceleration(found.jackknife["mean"]) == pytest.approx(acceleration(single), abs=0.005)
    # For the mean of exponential values, of skewness 2, it is 2 / (6 sqrt(n)).
    assert acceleration(single) == pytest.approx(2 / (6 * np.sqrt(len(values))), rel=0.2)


def test_rows_of_a_group_are_drawn_together():
    groups = np.array(["a", "b", "a", "c"])
    seen = []

    def statistic(weights):
        seen.append(weights)
        return weights.sum(axis=-1)

    bca(statistic, groups, resamples=50, seed=0)
    weights = np.concatenate(seen)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    assert (weights[:, 0] != weights[:, 1]).any()


def test_resampled_weights_are_multinomial_counts():
    counts = np.concatenate(list(resampled_weights(7, 5000, 0, 7)))
    assert counts.shape == (5000, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(7), abs=0.06)
    assert counts.var(axis=0) == pytest.approx(np.full(7, 6 / 7), abs=0.08)


def test_small_chunks_hold_as_many_resamples_as_large_ones():
    chunks = list(resampled_weights(3, 10, 0, 100_000))
    assert len(chunks) > 1
    assert sum(len(chunk) for chunk in chunks) == 10


def test_copies_of_every_row_leave_a_grouped_interval_as_it_was():
    values = np.random.default_rng(0).normal(size=40)
    once = bca(mean_of(values), np.arange(40), seed=0, bounds=None)
    thrice = bca(mean_of(np.repeat(values, 3)), np.repeat(np.arange(40), 3), seed=0, bounds=None)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert thrice.n == 40


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    statistic = mean_of(np.random.default_rng(0).normal(size=30))
    first, again, other = (bca(statistic, np.arange(30), seed=s) for s in (1, 1, 2))
    assert first == again
    assert first.low != other.low


@pytest.mark.parametrize("n", [1, 10, 500])
def test_a_perfect_score_is_widened_to_the_interval_of_wilson(n):
    found = bca(mean_of(np.ones(n)), np.arange(n), seed=0)
    expected = wilson(n, n)
    assert found.method == "widened"
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_resamples_on_one_side_of_the_estimate_give_finite_limits():
    found = bca(lambda w: (w > 0).mean(axis=1), np.arange(40), seed=0)  # 1; in resamples less
    assert np.isfinite([found.low, found.high]).all()
    assert found.low <= found.value <= found.high


def test_undefined_resamples_are_left_out():
    labels, proba = np.array([0, 0, 0, 1]), np.array([[0.8, 0.2], [0.7, 0.3], [0.2, 0.8]])
    proba = np.vstack([proba, [[0.4, 0.6]]])
    found = bca(lambda w: metric_values("auroc", labels, proba, w), np.arange(4), seed=0)
    assert np.isfinite([found.value, found.low, found.high]).all()


def test_bca_refuses_no_groups_and_too_few_resamples():
    with pytest.raises(DataError, match="groups have shape"):
        bca(mean_of(np.ones(1)), np.empty(0), seed=0)
    with pytest.raises(OptionError, match="resamples is 1"):
        bca(mean_of(np.ones(3)), np.arange(3), resamples=1, seed=0)


def test_images_that_are_all_copies_count_as_often_as_there_are_groups():
    values = np.repeat(np.random.default_rng(0).binomial(1, 0.7, 50), 4).astype(float)
    groups = np.repeat(np.arange(50), 4)
    assert effective_n(values, groups) == pytest.approx(50, rel=0.03)  # G - 1 for G
    assert effective_n(values, np.arange(200)) == 200
    assert effective_n(np.ones(200), groups) == 50


def test_grouped_accuracy_covers_the_truth_where_images_of_a_group_agree():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 5)
    hits, naive = 0, 0
    for seed in range(200):
        # The chance of being right differs from group to group: 0.8 on average.
        right = rng.random(500) < np.repeat(rng.beta(1.6, 0.4, 100), 5)
        proba = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]])
        found = evaluate(np.zeros(500, int), proba, groups=groups, seed=seed, resamples=2)
        hits += found.metrics["accuracy"].low <= 0.8 <= found.metrics["accuracy"].high
        plain = wilson(right.sum(), 500)
        naive += plain.low <= 0.8 <= plain.high
    assert 0.91 <= hits / 200 <= 0.985
    assert naive / 200 < 0.9  # what would have been claimed otherwise
