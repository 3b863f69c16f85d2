"""Metrics against scikit-learn, torchmetrics and naive loops."""

from itertools import pairwise

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from labelwise.errors import DataError, OptionError
from labelwise.measure import (
    METRICS,
    accuracy,
    auroc,
    average_precision,
    balanced_accuracy,
    brier,
    cohen_kappa,
    confusion_matrix,
    expected_calibration_error,
    f_beta,
    fall_out,
    log_loss,
    mcc,
    metric_names,
    metric_values,
    precision,
    recall,
    specificity,
    top_k_accuracy,
)

relaxed = settings(deadline=None, max_examples=60)  # times on a shared machine tell nothing


@st.composite
def cases(draw, weights=("none", "counts", "fractions")):
    """Labels, probabilities and weights; often with absent classes, ties, few rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, k = draw(st.integers(1, 30)), draw(st.integers(2, 7))
    labels = rng.integers(0, draw(st.integers(1, k)), n)
    if draw(st.booleans()):  # few levels: many ties, within rows and between them
        raw = rng.integers(1, 4, (n, k)).astype(float)
    else:
        raw = rng.uniform(0.01, 1, (n, k))
    raw[np.arange(n), labels] += draw(st.sampled_from([0, 0, 1]))
    kind = draw(st.sampled_from(weights))
    weight = None
    if kind == "counts":
        weight = rng.integers(0, 4, n).astype(float)
        weight[0] += 1
    elif kind == "fractions":
        weight = rng.uniform(0.05, 2, n)
    return labels, raw / raw.sum(axis=1, keepdims=True), weight


def kept(labels, proba, weight):
    """The same rows without those of weight 0: what scikit-learn is to see."""
    weight = np.ones(len(labels)) if weight is None else weight
    use = weight > 0
    return labels[use], proba[use], weight[use]


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@relaxed
@given(cases())
def test_counts_of_right_answers_equal_scikit_learn(case):
    labels, proba, weight = case
    y, p, w = kept(*case)
    predicted = p.argmax(axis=1)
    close(accuracy(*case), sk.accuracy_score(y, predicted, sample_weight=w))
    present = np.unique(y)
    close(
        balanced_accuracy(*case),
        sk.recall_score(y, predicted, labels=present, average="macro", sample_weight=w),
    )
    k = proba.shape[1]
    close(
        confusion_matrix(labels, proba, weight),
        sk.confusion_matrix(y, predicted, labels=range(k), sample_weight=w),
    )
    if len(np.union1d(y, predicted)) == 1:  # scikit-learn warns, and gives 0 as well
        assert mcc(*case) == 0
    else:
        close(mcc(*case), sk.matthews_corrcoef(y, predicted, sample_weight=w))


@relaxed
@given(cases())
def test_kappa_equals_scikit_learn_where_it_is_defined(case):
    y, p, w = kept(*case)
    predicted = p.argmax(axis=1)
    if len(np.union1d(y, predicted)) == 1:
        assert np.isnan(cohen_kappa(*case))
    else:
        close(cohen_kappa(*case), sk.cohen_kappa_score(y, predicted, sample_weight=w))


@relaxed
@given(cases(), st.sampled_from([0.5, 1.0, 2.0]))
def test_precision_recall_and_f_equal_scikit_learn_over_the_classes_present(case, beta):
    y, p, w = kept(*case)
    predicted, present = p.argmax(axis=1), np.unique(y)
    for average in (None, "macro", "weighted"):
        expected = sk.precision_recall_fscore_support(
            y,
            predicted,
            beta=beta,
            labels=present,
            average=average,
            sample_weight=w,
            zero_division=0,
        )
        found = [
            precision(*case, average=average),
            recall(*case, average=average),
            f_beta(*case, beta=beta, average=average),
        ]
        if average is None:
            found = [values[present] for values in found]
        for value, reference in zip(found, expected, strict=False):
            close(value, reference)
    for function in (precision, recall, f_beta):
        close(
            function(*case, average="micro"),
            sk.accuracy_score(y, predicted, sample_weight=w),
        )


@relaxed
@given(cases())
def test_specificity_and_fall_out_equal_a_recall_of_the_rest(case):
    proba = case[1]
    y, p, w = kept(*case)
    predicted = p.argmax(axis=1)
    found, complement = specificity(*case), fall_out(*case)
    expected = []
    for c in range(proba.shape[1]):
        others = y != c
        if not others.any():
            assert np.isnan(found[c])
            expected.append(np.nan)
            continue
        expected.append(np.average(predicted[others] != c, weights=w[others]))
        close(found[c], expected[-1])
        close(complement[c], 1 - expected[-1])
    defined = [expected[c] for c in np.unique(y) if not np.isnan(expected[c])]
    if defined:
        close(specificity(*case, average="macro"), np.mean(defined))
        close(fall_out(*case, average="macro"), 1 - np.mean(defined))
    else:
        assert np.isnan(specificity(*case, average="macro"))


@relaxed
@given(cases())
def test_a_class_without_labels_has_no_recall_and_no_f(case):
    proba = case[1]
    y, _, _ = kept(*case)
    absent = np.setdiff1d(np.arange(proba.shape[1]), y)
    assert np.isnan(recall(*case)[absent]).all()
    assert np.isnan(f_beta(*case)[absent]).all()
    assert not np.isnan(precision(*case)).any()


@relaxed
@given(cases())
def test_log_loss_and_brier_equal_scikit_learn(case):
    y, p, w = kept(*case)
    classes = range(p.shape[1])
    close(log_loss(*case), sk.log_loss(y, p, labels=classes, sample_weight=w))
    if p.shape[1] == 2:
        half = sk.brier_score_loss(y, p[:, 1], pos_label=1, labels=[0, 1], sample_weight=w)
        close(brier(*case), 2 * half)
    else:
        close(brier(*case), sk.brier_score_loss(y, p, labels=classes, sample_weight=w))


def test_log_loss_counts_no_probability_below_one_in_ten_million():
    assert log_loss([0], [[0.0, 1.0]]) == pytest.approx(7 * np.log(10))
    assert log_loss([1], [[0.0, 1.0]]) == 0


def test_the_brier_score_ranges_from_0_to_2():
    assert brier([0], [[1.0, 0.0, 0.0]]) == 0
    assert brier([0], [[0.0, 1.0, 0.0]]) == 2


@relaxed
@given(cases())
def test_auroc_and_average_precision_equal_scikit_learn_class_by_class(case):
    y, p, w = kept(*case)
    classes = [1] if p.shape[1] == 2 else np.unique(y)
    areas = [
        sk.roc_auc_score(y == c, p[:, c], sample_weight=w)
        for c in classes
        if 0 < (y == c).sum() < len(y)
    ]
    precisions = [
        sk.average_precision_score(y == c, p[:, c], sample_weight=w)
        for c in classes
        if (y == c).any()
    ]
    for found, expected in ((auroc(*case), areas), (average_precision(*case), precisions)):
        if expected:
            close(found, np.mean(expected))
        else:
            assert np.isnan(found)


@relaxed
@given(cases(weights=("none",)), st.integers(1, 20))
def test_calibration_error_equals_torchmetrics(case, bins):
    labels, proba, _ = case
    confidence = proba.max(axis=1) * bins
    # On an edge between bins torchmetrics takes the upper bin; the paper, and we, the lower.
    inside = np.abs(confidence - np.round(confidence)) > 1e-4
    if not inside.any():
        return
    expected = multiclass_calibration_error(
        torch.tensor(proba[inside], dtype=torch.float64),
        torch.tensor(labels[inside]),
        num_classes=proba.shape[1],
        n_bins=bins,
        norm="l1",
    )
    found = expected_calibration_error(labels[inside], proba[inside], bins=bins)
    assert found == pytest.approx(float(expected), abs=1e-5)


@relaxed
@given(cases())
def test_calibration_error_equals_a_loop_over_bins(case):
    y, p, w = kept(*case)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    edges, expected = np.linspace(0, 1, 16), 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = np.average(right[inside], weights=w[inside]) - np.average(
                confidence[inside], weights=w[inside]
            )
            expected += w[inside].sum() / w.sum() * abs(gap)
    close(expected_calibration_error(*case), expected)


@relaxed
@given(cases())
def test_top_k_accuracy_equals_a_loop_in_which_the_lower_index_wins_a_tie(case):
    proba = case[1]
    for k in range(1, proba.shape[1]):
        y, p, w = kept(*case)
        hits = [
            label in sorted(range(len(row)), key=lambda c: (-row[c], c))[:k]
            for label, row in zip(y, p, strict=True)
        ]
        close(top_k_accuracy(*case, k=k), np.average(hits, weights=w))
    close(top_k_accuracy(*case, k=1), accuracy(*case))


def test_top_k_accuracy_equals_scikit_learn_without_ties():
    rng = np.random.default_rng(0)
    labels, proba = rng.integers(0, 7, 200), rng.dirichlet(np.ones(7), 200)
    for k in (3, 5):
        expected = sk.top_k_accuracy_score(labels, proba, k=k, labels=range(7))
        close(metric_values(f"top_{k}", labels, proba), expected)


@settings(deadline=None, max_examples=15)
@given(cases(weights=("none",)), st.integers(0, 2**32 - 1))
def test_a_matrix_of_weights_gives_what_its_rows_give_one_by_one(case, seed):
    labels, proba, _ = case
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 3, (2, 3, len(labels)))
    for name in metric_names(proba.shape[1]):
        found = metric_values(name, labels, proba, weights)
        assert found.shape == (2, 3)
        for i, j in np.ndindex(2, 3):
            close(found[i, j], metric_values(name, labels, proba, weights[i, j]))
    assert confusion_matrix(labels, proba, weights).shape == (2, 3, *(proba.shape[1],) * 2)
    assert precision(labels, proba, weights).shape == (2, 3, proba.shape[1])


@relaxed
@given(cases(weights=("counts",)))
def test_a_weight_of_two_is_the_row_twice_and_of_zero_none(case):
    labels, proba, weight = case
    rows = np.repeat(np.arange(len(labels)), weight.astype(int))
    for name in metric_names(proba.shape[1]):
        close(
            metric_values(name, labels, proba, weight),
            metric_values(name, labels[rows], proba[rows]),
        )


@relaxed
@given(cases())
def test_every_defined_value_lies_in_the_range_that_is_stated(case):
    for name in metric_names(case[1].shape[1]):
        value = metric_values(name, *case)
        assert np.isnan(value) or (METRICS[name].low - 1e-9 <= value <= METRICS[name].high + 1e-9)


def test_a_single_image_has_an_accuracy_and_no_auroc():
    assert metric_values("accuracy", [1], [[0.2, 0.8]]) == 1
    assert np.isnan(auroc([1], [[0.2, 0.8]]))
    assert np.isnan(average_precision([0], [[0.2, 0.8]]))


def test_top_k_is_left_out_where_every_guess_would_count():
    assert "top_3" not in metric_names(3)
    assert "top_3" in metric_names(4)
    assert "top_5" not in metric_names(5)
    with pytest.raises(OptionError, match="says nothing about 3 classes"):
        metric_values("top_3", [0], [[1.0, 0.0, 0.0]])
    with pytest.raises(OptionError, match="k is 2; expected 1 to 1"):
        top_k_accuracy([0], [[1.0, 0.0]], k=2)


def test_an_unknown_metric_is_refused_with_the_list_of_known_ones():
    with pytest.raises(OptionError, match=r"no metric 'f2'.*accuracy.*macro_f1"):
        metric_values("f2", [0], [[1.0, 0.0]])


@pytest.mark.parametrize("beta", [0, -1, np.nan, np.inf])
def test_a_beta_that_is_not_positive_is_refused(beta):
    with pytest.raises(OptionError, match="beta"):
        f_beta([0], [[1.0, 0.0]], beta=beta)


@pytest.mark.parametrize(
    ("labels", "proba", "message"),
    [
        ([0, 1], [[1.0, 0.0]], "shape"),
        ([0], [1.0], "shape"),
        ([], np.empty((0, 2)), "nothing to measure"),
        ([0], np.empty((1, 0)), "nothing to measure"),
        ([2], [[1.0, 0.0]], r"1 of 1 labels are outside 0\.\.1; the first is 2, in row 0"),
        ([0, -1], [[1.0, 0.0]] * 2, "the first is -1, in row 1"),
        ([0.0], [[1.0, 0.0]], "expected integers"),
        (["cat"], [[1.0, 0.0]], "expected integers"),
        ([0], [[np.nan, 1.0]], "not probabilities"),
        ([0], [[np.inf, 0.0]], "not probabilities"),
        ([0], [[0.5, 0.4]], "sum 0.9"),
        ([0], [[1.5, -0.5]], "not probabilities"),
        ([0], [["a", "b"]], "expected real numbers"),
    ],
)
def test_labels_and_probabilities_that_cannot_be_used_are_refused(labels, proba, message):
    with pytest.raises(DataError, match=message):
        accuracy(np.array(labels, dtype=int) if labels == [] else labels, proba)


@pytest.mark.parametrize("weights", [[1.0], [-1.0, 1.0], [np.nan, 1.0], 1.0])
def test_weights_that_cannot_be_used_are_refused(weights):
    with pytest.raises(DataError, match="weight"):
        accuracy([0, 1], [[1.0, 0.0]] * 2, weights)


def test_an_unknown_average_is_refused():
    with pytest.raises(OptionError, match="average is 'samples'"):
        precision([0], [[1.0, 0.0]], average="samples")


def test_float32_probabilities_from_a_network_are_taken():
    proba = np.array([[0.1, 0.9], [0.7, 0.3]], dtype=np.float32)
    assert log_loss([1, 0], proba) == pytest.approx(-(np.log(0.9) + np.log(0.7)) / 2, rel=1e-6)
