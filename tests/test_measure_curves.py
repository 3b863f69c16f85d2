"""ROC and precision-recall curves against scikit-learn, and thinning against the whole curve."""

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise.errors import DataError, OptionError
from labelwise.measure import (
    auroc,
    average_precision,
    curve_bands,
    evaluate,
    metric_values,
    pr_curve,
    roc_curve,
)
from labelwise.measure.bands import GRID
from labelwise.measure.curves import corners, steps, thinned
from tests.answers import predictions

relaxed = settings(deadline=None, max_examples=60)


@st.composite
def cases(draw, fewest=2):
    """Labels of two classes or more, and probabilities, often with ties and absent classes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, k = draw(st.integers(2, 40)), draw(st.integers(fewest, 5))
    labels = rng.integers(0, draw(st.integers(2, k)), n)
    labels[:2] = [0, 1]
    raw = rng.uniform(0.01, 1, (n, k))
    if draw(st.booleans()):
        raw = rng.integers(1, 4, (n, k)).astype(float)
    raw[np.arange(n), labels] += draw(st.sampled_from([0, 1]))
    return labels, raw / raw.sum(axis=1, keepdims=True)


def one_against_rest(labels, proba):
    """What scikit-learn is to see for every class that has labels, and for the micro average."""
    hot = labels[:, None] == np.arange(proba.shape[1])
    yield from ((k, hot[:, k], proba[:, k]) for k in np.unique(labels).tolist())
    yield "micro", hot.ravel(), proba.ravel()


@relaxed
@given(cases())
def test_roc_curves_equal_scikit_learn(case):
    for of, positive, score in one_against_rest(*case):
        curve = roc_curve(*case, of)
        x, y, thresholds = sk.roc_curve(positive, score, drop_intermediate=False)
        np.testing.assert_allclose((curve.x, curve.y, curve.thresholds), (x, y, thresholds))
        assert curve.area == pytest.approx(sk.roc_auc_score(positive, score))


@relaxed
@given(cases())
def test_precision_recall_curves_equal_scikit_learn(case):
    for of, positive, score in one_against_rest(*case):
        curve = pr_curve(*case, of)
        precision, recall, thresholds = sk.precision_recall_curve(positive, score)
        np.testing.assert_allclose((curve.x, curve.y), (recall[::-1], precision[::-1]))
        np.testing.assert_allclose(curve.thresholds[1:], thresholds[::-1])
        assert curve.area == pytest.approx(sk.average_precision_score(positive, score))


@relaxed
@given(cases(fewest=3))
def test_the_area_of_the_macro_average_is_the_macro_average_of_the_areas(case):
    assert roc_curve(*case, "macro").area == pytest.approx(float(auroc(*case)))
    assert pr_curve(*case, "macro").area == pytest.approx(float(average_precision(*case)))


@relaxed
@given(cases())
def test_the_area_of_the_micro_average_is_the_metric_of_that_name(case):
    assert roc_curve(*case, "micro").area == pytest.approx(
        float(metric_values("micro_auroc", *case))
    )
    expected = float(metric_values("micro_average_precision", *case))
    assert pr_curve(*case, "micro").area == pytest.approx(expected)


@relaxed
@given(cases(), st.floats(0.001, 0.999))
def test_the_macro_curves_are_the_means_of_the_classes_curves_at_any_x(case, x):
    classes = np.unique(case[0]).tolist()
    rocs = [roc_curve(*case, k) for k in classes]
    macro = roc_curve(*case, "macro")
    away = min(np.abs(curve.x - x).min() for curve in rocs)
    if away > 1e-9:  # where a curve rises upright it has no single height
        expected = np.mean([np.interp(x, curve.x, curve.y) for curve in rocs])
        assert np.interp(x, macro.x, macro.y) == pytest.approx(expected)
    heights = [
        next(y for a, y in zip(c.x, c.y, strict=True) if a >= x)
        for c in (pr_curve(*case, k) for k in classes)
    ]
    curve = pr_curve(*case, "macro")
    assert curve.y[np.searchsorted(curve.x, x)] == pytest.approx(np.mean(heights))


@relaxed
@given(cases())
def test_the_drawn_steps_enclose_the_average_precision_and_never_slope(case):
    for of in (*np.unique(case[0]).tolist(), "micro", "macro"):
        curve = pr_curve(*case, of)
        x, y = steps(curve).T
        assert np.trapezoid(y, x) == pytest.approx(curve.area)
        assert ((np.diff(x) == 0) | (np.diff(y) == 0)).all()


def test_a_class_without_labels_or_alone_has_no_roc_curve():
    proba = np.full((2, 3), 1 / 3)
    with pytest.raises(DataError, match="class 2 has no labels"):
        roc_curve([0, 1], proba, 2)
    with pytest.raises(DataError, match="all labels are of class 0"):
        roc_curve([0, 0], proba, 0)
    with pytest.raises(DataError, match="all labels are of class 0"):
        roc_curve([0, 0], proba, "macro")
    assert pr_curve([0, 0], proba, 0).area == 1


@pytest.mark.parametrize("of", [3, -1, "weighted", 0.5])
def test_an_unknown_class_or_average_is_refused(of):
    with pytest.raises(OptionError, match="expected a class, 0 to 2"):
        roc_curve([0, 1], np.full((2, 3), 1 / 3), of)


# Thinning


def distance(points, line):
    """Of each point from a line of several stretches, the naive way: from every stretch."""
    begin, along = line[:-1], np.diff(line, axis=0)
    length = np.maximum((along**2).sum(axis=1), 1e-300)
    share = np.clip(((points[:, None] - begin) * along).sum(axis=2) / length, 0, 1)
    return np.linalg.norm(points[:, None] - begin - share[..., None] * along, axis=2).min(axis=1)


def lines(labels, proba):
    for of in (*np.unique(labels).tolist(), "micro", "macro"):
        roc = roc_curve(labels, proba, of)
        yield np.column_stack([roc.x, roc.y])
        yield steps(pr_curve(labels, proba, of))


@relaxed
@given(cases(), st.sampled_from([0.0, 0.002, 0.05]))
def test_no_point_of_a_curve_is_further_from_the_thinned_one_than_the_tolerance(case, tolerance):
    for line in lines(*case):
        kept = thinned(line, tolerance)
        assert distance(line, kept).max() <= tolerance + 1e-9
        np.testing.assert_array_equal(kept[[0, -1]], line[[0, -1]])


def test_ten_thousand_points_come_to_less_than_two_hundred():
    for line in lines(*predictions(10_000, 3, signal=2.0)):
        assert len(thinned(line)) < 200


@relaxed
@given(cases())
def test_corners_leave_out_only_what_lies_on_a_straight_line(case):
    for line in lines(*case):
        kept = corners(line)
        assert len(kept) <= len(line)
        assert distance(line, kept).max() < 1e-12


# Bands


def test_a_band_is_what_resampled_rows_give_one_by_one():
    labels, proba = predictions(40, 3, signal=1.0)
    rng = np.random.default_rng(5)
    roc, pr = [], []
    for drawn in rng.integers(0, 40, (60, 40)):  # the draws of resampled_weights at this seed
        here = [labels[drawn] == k for k in range(3)]
        curves = [sk.roc_curve(p, proba[drawn, k]) for k, p in enumerate(here)]
        roc.append(np.mean([np.interp(GRID, x, y) for x, y, _ in curves], axis=0))
        found = [sk.precision_recall_curve(p, proba[drawn, k])[:2] for k, p in enumerate(here)]
        pr.append(
            np.mean([[p[r >= max(at - 1e-9, 1e-9)][-1] for at in GRID] for p, r in found], axis=0)
        )
    bands = curve_bands(labels, proba, seed=5, resamples=60)
    assert set(bands) == {0, 1, 2, "micro", "macro"}
    for values, band in zip((roc, pr), bands["macro"], strict=True):
        low, high = np.quantile(values, [0.025, 0.975], axis=0)
        inside = slice(1, -1)  # the ends may be widened to hold the curve
        np.testing.assert_allclose(band.low[inside], low[inside], atol=1e-9)
        np.testing.assert_allclose(band.high[inside], high[inside], atol=1e-9)


def test_bands_hold_their_curves():
    case = predictions(60, 3, signal=0.5)
    for of, (roc, pr) in curve_bands(*case, resamples=50).items():
        curve = roc_curve(*case, of)
        height = np.interp(GRID, curve.x, curve.y)
        assert (roc.low - 1e-9 <= height).all()
        assert (height <= roc.high + 1e-9).all()
        curve = pr_curve(*case, of)
        height = curve.y[np.searchsorted(curve.x, np.maximum(GRID - 1e-9, 1e-9))]
        assert (pr.low - 1e-9 <= height).all()
        assert (height <= pr.high + 1e-9).all()


def test_rows_of_the_same_image_do_not_narrow_a_band():
    labels, proba = predictions(60, 2, signal=1.0)
    rows = np.repeat(np.arange(60), 4)
    once = curve_bands(labels, proba, seed=2, resamples=100)["micro"]
    often = curve_bands(labels[rows], proba[rows], groups=rows, seed=2, resamples=100)["micro"]
    for a, b in zip(once, often, strict=True):
        np.testing.assert_allclose(a.low, b.low)
        np.testing.assert_allclose(a.high, b.high)


def test_labels_of_one_class_have_no_bands():
    assert curve_bands([0, 0], np.full((2, 2), 0.5), resamples=20) == {}


# Areas of every class, in the evaluation


@relaxed
@given(cases())
def test_each_class_has_its_areas(case):
    found = evaluate(*case, resamples=4).per_class
    for of, positive, score in one_against_rest(*case):
        if of == "micro":
            continue
        assert found[of].auroc.value == pytest.approx(sk.roc_auc_score(positive, score))
        expected = sk.average_precision_score(positive, score)
        assert found[of].average_precision.value == pytest.approx(expected)
        assert found[of].auroc.n == positive.sum()


def test_of_two_classes_class_1_has_the_intervals_of_the_average():
    found = evaluate(*predictions(80, 2, signal=1.0), resamples=100)
    for name in ("auroc", "average_precision"):
        whole, own = found.metrics[name], getattr(found.per_class[1], name)
        assert (own.value, own.low, own.high) == (whole.value, whole.low, whole.high)


def test_a_class_without_labels_has_no_areas():
    found = evaluate([0, 1, 0, 1], np.full((4, 3), 1 / 3), resamples=20).per_class[2]
    assert np.isnan([found.auroc.value, found.average_precision.low]).all()


def test_a_perfect_class_of_few_images_is_only_as_sure_as_these_are():
    labels = np.repeat([0, 1], [95, 5])
    found = evaluate(labels, np.eye(2)[labels], resamples=20).per_class[1]
    for interval in (found.f1, found.auroc, found.average_precision):
        assert interval.value == 1
        assert interval.low == pytest.approx(found.recall.low)  # of 5 images, not of 100
