"""Verdicts against statsmodels, and by simulation of variants whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from labelwise.errors import DataError, OptionError
from labelwise.measure import (
    Pair,
    corrected_for_selection,
    metric_values,
    recommend,
    verdicts,
)
from labelwise.measure.verdicts import bootstrap_p, holm, mcnemar


def answers(right):
    """Probabilities that are right (class 0) or wrong (class 1) on labels that are all 0."""
    return np.where(np.asarray(right)[:, None], [[0.9, 0.1]], [[0.1, 0.9]])


def variants(n, accuracies, seed=0):
    """Labels of class 0 and independent variants, each right with its own chance."""
    rng = np.random.default_rng(seed)
    found = {name: answers(rng.random(n) < p) for name, p in accuracies.items()}
    return np.zeros(n, dtype=int), found


def classifiers(n, signals, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    found = {}
    for name, signal in signals.items():
        logits = rng.normal(size=(n, 3))
        logits[np.arange(n), labels] += signal
        proba = np.exp(logits)
        found[name] = proba / proba.sum(axis=1, keepdims=True)
    return labels, found


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 5))
def test_mcnemar_equals_statsmodels(only_a, only_b, both):
    a = np.array([True] * only_a + [False] * only_b + [True] * both, dtype=bool)
    b = np.array([False] * only_a + [True] * only_b + [True] * both, dtype=bool)
    table = [[both, only_a], [only_b, 0]]
    assert mcnemar(a, b) == pytest.approx(reference_mcnemar(table, exact=True).pvalue)


@pytest.mark.parametrize("seed", range(10))
def test_holm_equals_statsmodels(seed):
    rng = np.random.default_rng(seed)
    p = (rng.random(rng.integers(1, 9)) ** 3).round(2).tolist()  # small ones, ties, zeros
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_accuracy_pairs_hold_mcnemars_p_corrected_by_holm():
    labels, probas = variants(300, {"x": 0.7, "y": 0.8, "z": 0.75})
    pairs = verdicts(labels, probas, resamples=200)
    assert [(pair.a, pair.b) for pair in pairs] == [("y", "x"), ("y", "z")]
    right = {name: proba.argmax(axis=1) == labels for name, proba in probas.items()}
    raw = []
    for pair in pairs:
        a, b = right["y"], right[pair.b]
        table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
        raw.append(reference_mcnemar(table, exact=True).pvalue)
        assert pair.difference == pytest.approx(a.mean() - b.mean())
        assert pair.low < pair.difference < pair.high
    # The third question, x against z, has at best p = 1 behind these two.
    corrected = multipletests([*raw, 1.0], method="holm")[1][:2]
    assert [pair.p for pair in pairs] == pytest.approx(corrected)


def test_the_interval_of_a_difference_equals_scipys_paired_bca():
    labels, probas = variants(200, {"x": 0.6, "y": 0.8})
    (pair,) = verdicts(labels, probas, resamples=5000)
    difference = (probas["y"].argmax(axis=1) == 0) * 1.0 - (probas["x"].argmax(axis=1) == 0)
    reference = stats.bootstrap(
        (difference,), np.mean, n_resamples=5000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    assert pair.low == pytest.approx(reference.low, abs=0.006)
    assert pair.high == pytest.approx(reference.high, abs=0.006)


def test_a_clear_difference_gets_a_verdict_and_a_small_one_does_not():
    labels, probas = variants(400, {"poor": 0.5, "good": 0.82, "near": 0.81})
    found = {frozenset((p.a, p.b)) - {"good", "near"}: p.verdict for p in verdicts(labels, probas)}
    assert found == {frozenset({"poor"}): "a better", frozenset(): "cannot tell"}


@pytest.mark.parametrize("metric", ["log_loss", "macro_f1", "auroc", "ece"])
def test_the_best_is_the_lowest_where_lower_is_better(metric):
    labels, probas = classifiers(300, {"weak": 0.3, "strong": 2.5})
    (pair,) = verdicts(labels, probas, metric=metric, resamples=500)
    value = {name: metric_values(metric, labels, proba) for name, proba in probas.items()}
    sign = -1 if metric in ("log_loss", "ece") else 1
    assert sign * value[pair.a] > sign * value[pair.b]
    assert pair.difference == pytest.approx(value[pair.a] - value[pair.b])
    if metric != "ece":
        assert (pair.a, pair.verdict) == ("strong", "a better")
        assert sign * pair.low > 0
        assert sign * pair.high > 0


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "macro_f1"])
def test_equal_variants_cannot_be_told_apart(metric):
    labels, probas = classifiers(50, {"one": 1.0})
    (pair,) = verdicts(labels, {"one": probas["one"], "two": probas["one"]}, metric=metric)
    assert (pair.a, pair.difference, pair.p, pair.verdict) == ("one", 0, 1, "cannot tell")
    assert pair.low < 0 < pair.high


def test_false_verdicts_between_two_equal_variants_are_as_rare_as_promised():
    p = {"accuracy": [], "macro_f1": []}
    for seed in range(300):
        labels, probas = classifiers(120, {"x": 1.2, "y": 1.2}, seed)
        for metric, values in p.items():
            (pair,) = verdicts(labels, probas, metric=metric, resamples=200, seed=seed)
            values.append(pair.p)
    for metric, values in p.items():
        # 300 simulations of a chance of 5 % give at most 9 % but once in a thousand times.
        assert np.mean(np.array(values) < 0.05) < 0.09, metric
        assert np.mean(np.array(values) < 0.5) > 0.25, metric  # and the test is not asleep


def test_copies_of_the_same_images_are_no_further_evidence():
    labels, probas = variants(30, {"x": 0.6, "y": 0.85})
    rows = np.tile(np.arange(30), 20)
    copied = {name: proba[rows] for name, proba in probas.items()}
    naive = verdicts(labels[rows], copied, resamples=500)[0]
    grouped = verdicts(labels[rows], copied, groups=rows, resamples=500)[0]
    repeats = verdicts(labels[rows], copied, images=rows, resamples=500)[0]
    once = verdicts(labels, probas, resamples=500)[0]
    assert naive.p < 1e-6
    assert grouped.p == repeats.p > 0.001
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high))


def test_the_bootstrap_p_equals_that_of_a_z_test_where_that_holds():
    rng = np.random.default_rng(0)
    for difference in (0.5, 2.0, 2.5):
        values = rng.normal(difference, 1, size=100_000)
        assert bootstrap_p(difference, values) == pytest.approx(
            2 * stats.norm.sf(difference), abs=0.004
        )
    assert bootstrap_p(5.0, np.full(99, 5.0)) == 0.01  # never 0


def test_a_single_variant_has_no_pairs_and_is_recommended():
    labels, probas = variants(20, {"only": 0.8})
    assert verdicts(labels, probas) == []
    name, why = recommend([], {"only": 1}, "only")
    assert name == "only"
    assert why == "'only' is recommended: it is the only variant with a result."


def test_an_undefined_metric_cannot_tell():
    labels, probas = variants(20, {"x": 0.5, "y": 0.9})  # labels of one class
    (pair,) = verdicts(labels, probas, metric="auroc", resamples=20)
    assert pair.verdict == "cannot tell"
    assert np.isnan(pair.difference)
    assert "undefined" in recommend([pair], {"x": 2, "y": 1}, "x")[1]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match="no variant"):
        verdicts([0], {})
    with pytest.raises(DataError, match="different numbers of classes"):
        verdicts([0], {"x": [[1.0, 0.0]], "y": [[1.0, 0.0, 0.0]]})
    with pytest.raises(OptionError, match="no metric 'speed'"):
        verdicts([0], {"x": [[1.0, 0.0]]}, metric="speed")


def pair(b, verdict="cannot tell", metric="accuracy", difference=0.004):
    return Pair("cnn", b, metric, difference, -0.012, 0.02, 0.7, verdict)


def test_the_cheapest_that_is_not_worse_is_recommended_with_the_difference():
    name, why = recommend([pair("probe")], {"cnn": 3, "probe": 1, "failed": 0}, "cnn")
    assert name == "probe"
    assert why == (
        "'probe' is recommended: nothing tested is significantly better, and it is cheaper than "
        "'cnn' (accuracy difference 0.4 points, 95 % interval -1.2 to 2.0)."
    )


def test_a_difference_that_is_no_fraction_is_given_in_its_own_units():
    _, why = recommend([pair("probe", metric="log_loss")], {"cnn": 3, "probe": 1}, "cnn")
    assert "log loss difference 0.004, 95 % interval -0.012 to 0.020" in why


def test_a_cheap_variant_that_is_worse_is_not_recommended():
    name, why = recommend([pair("probe", "a better")], {"cnn": 3, "probe": 1}, "cnn")
    assert name == "cnn"
    assert why == (
        "'cnn' is recommended: it has the best accuracy, and 'probe' is significantly worse."
    )
    pairs = [pair("probe", "a better"), pair("knn", "a better")]
    name, why = recommend(pairs, {"cnn": 3, "probe": 1, "knn": 1}, "cnn")
    assert why.endswith("and all 2 others are significantly worse.")


def test_the_best_is_recommended_where_nothing_equal_is_cheaper():
    pairs = [pair("big"), pair("probe", "a better")]
    name, why = recommend(pairs, {"cnn": 3, "big": 3, "probe": 1}, "cnn")
    assert name == "cnn"
    assert why == (
        "'cnn' is recommended: it has the best accuracy, and what cannot be told apart from it "
        "('big') is not cheaper."
    )


def test_of_equally_cheap_variants_the_closest_to_the_best_is_recommended():
    pairs = [pair("far", difference=0.01), pair("near", difference=0.001)]
    assert recommend(pairs, {"cnn": 3, "far": 1, "near": 1}, "cnn")[0] == "near"


def test_a_variant_without_a_cost_is_refused():
    with pytest.raises(OptionError, match="'probe' has no cost"):
        recommend([pair("probe")], {"cnn": 3}, "cnn")


def test_the_winner_of_ten_equal_variants_is_not_overrated_after_the_correction():
    true, naive, corrected, covered = 0.7, [], [], 0
    for seed in range(200):
        labels, probas = variants(100, {f"v{i}": true for i in range(10)}, seed)
        naive.append(max(metric_values("accuracy", labels, proba) for proba in probas.values()))
        found = corrected_for_selection(labels, probas, metric="accuracy", seed=seed, resamples=200)
        corrected.append(found.value)
        covered += found.low <= true <= found.high
        assert found.n == 100
    standard_error = np.std(corrected) / np.sqrt(len(corrected))
    assert np.mean(naive) - true > 0.04  # the luckiest of ten looks 6 points too good
    assert abs(np.mean(corrected) - true) < 3 * standard_error + 0.005
    assert covered / 200 > 0.93


def test_the_correction_is_small_where_one_variant_is_clearly_the_best():
    labels, probas = classifiers(300, {"weak": 0.2, "strong": 2.5})
    for metric in ("accuracy", "log_loss", "auroc"):
        found = corrected_for_selection(labels, probas, metric=metric, seed=0, resamples=300)
        value = metric_values(metric, labels, probas["strong"])
        assert found.value == pytest.approx(value, rel=0.03)
        assert found.low < value < found.high


def test_a_group_is_never_on_both_sides_of_the_correction():
    # Each variant is right on one group only: chosen by the other images, it is wrong on it.
    rows = np.repeat(np.arange(6), 10)
    probas = {f"v{g}": answers(rows == g) for g in range(6)}
    labels = np.zeros(60, dtype=int)
    grouped = corrected_for_selection(labels, probas, metric="accuracy", groups=rows, seed=0)
    assert grouped.value == 0
    assert corrected_for_selection(labels, probas, metric="accuracy", seed=0).value > 0.1


def test_a_single_image_cannot_be_corrected():
    found = corrected_for_selection([0], {"x": [[1.0, 0.0]]}, metric="accuracy", seed=0)
    assert np.isnan(found.value)
    assert found.n == 1
