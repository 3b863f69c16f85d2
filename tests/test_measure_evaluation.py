"""The Evaluation: its names, intervals, counts, notes, repeats and groups."""

import json
import time

import numpy as np
import pytest
import sklearn.metrics as sk
from statsmodels.stats.proportion import proportion_confint

from labelwise.errors import DataError, OptionError
from labelwise.measure import METRICS, evaluate, metric_values
from tests.answers import predictions


def test_it_holds_every_metric_under_its_name_and_in_order():
    labels, proba = predictions(60, 7)
    found = evaluate(labels, proba, resamples=50)
    assert list(found.metrics) == list(METRICS)
    for name, interval in found.metrics.items():
        assert interval.value == pytest.approx(metric_values(name, labels, proba)), name
        assert interval.low <= interval.value <= interval.high, name
        assert interval.n == 60


def test_top_k_needs_more_classes_than_guesses():
    assert "top_3" not in evaluate(*predictions(20, 3), resamples=20).metrics
    found = evaluate(*predictions(20, 5), resamples=20).metrics
    assert "top_3" in found
    assert "top_5" not in found


def test_numbers_of_right_answers_have_the_interval_of_wilson():
    labels, proba = predictions(200, 3)
    predicted = proba.argmax(axis=1)
    found = evaluate(labels, proba, resamples=50)

    def expected(hits, n):
        return pytest.approx(proportion_confint(hits, n, method="wilson"))

    for name in ("accuracy", "micro_f1", "weighted_recall"):
        interval = found.metrics[name]
        assert (interval.low, interval.high) == expected((predicted == labels).sum(), 200)
    for c, result in enumerate(found.per_class):
        right = ((predicted == c) & (labels == c)).sum()
        wrong = ((predicted == c) & (labels != c)).sum()
        n, judged = (labels == c).sum(), (predicted == c).sum()
        assert (result.recall.low, result.recall.high) == expected(right, n)
        assert (result.precision.low, result.precision.high) == expected(right, judged)
        assert (result.fall_out.low, result.fall_out.high) == expected(wrong, 200 - n)
        assert (result.specificity.low, result.specificity.high) == expected(
            200 - n - wrong, 200 - n
        )
        assert (result.n, result.predicted, result.precision.n) == (n, judged, judged)


def test_per_class_counts_and_the_confusion_matrix_equal_scikit_learn():
    labels, proba = predictions(80, 4)
    predicted = proba.argmax(axis=1)
    found = evaluate(labels, proba, class_names=["a", "b", "c", "d"], resamples=50)
    np.testing.assert_array_equal(found.confusion, sk.confusion_matrix(labels, predicted))
    assert found.confusion.dtype == np.int64
    each = sk.multilabel_confusion_matrix(labels, predicted)
    f1 = sk.f1_score(labels, predicted, average=None)
    for c, result in enumerate(found.per_class):
        assert [[result.tn, result.fp], [result.fn, result.tp]] == each[c].tolist()
        assert result.f1.value == pytest.approx(f1[c])
        assert result.f1.n == result.n
    assert [result.name for result in found.per_class] == ["a", "b", "c", "d"]


def test_identical_repeats_leave_every_value_and_interval_as_it_was():
    labels, proba = predictions(50, 3)
    images = np.arange(50) + 1000
    once = evaluate(labels, proba, images=images, seed=1, resamples=100)
    thrice = evaluate(
        np.tile(labels, 3), np.tile(proba, (3, 1)), images=np.tile(images, 3), seed=1, resamples=100
    )
    assert thrice.n == 50
    for name, interval in once.metrics.items():
        repeated = thrice.metrics[name]
        assert repeated.n == 50
        assert (repeated.value, repeated.low, repeated.high) == pytest.approx(
            (interval.value, interval.low, interval.high)
        ), name
    for one, repeated in zip(once.per_class, thrice.per_class, strict=True):
        assert (repeated.n, repeated.predicted) == (one.n, one.predicted)
        assert repeated.tp == 3 * one.tp
        assert repeated.precision.low == pytest.approx(one.precision.low)


def test_repeats_are_averaged_as_single_models_not_as_an_ensemble():
    labels = np.array([0, 0])
    proba = np.array([[0.9, 0.1], [0.4, 0.6]])  # averaged, the image would be right
    found = evaluate(labels, proba, images=[7, 7], resamples=20)
    assert found.metrics["accuracy"].value == 0.5
    expected = proportion_confint(0.5, 1, method="wilson")
    assert (found.metrics["accuracy"].low, found.metrics["accuracy"].high) == pytest.approx(
        expected
    )
    assert found.n == 1


def test_groups_of_equal_images_widen_every_interval():
    labels, proba = predictions(60, 3)
    rows = np.repeat(np.arange(60), 5)
    alone = evaluate(labels[rows], proba[rows], resamples=200)
    grouped = evaluate(labels[rows], proba[rows], groups=[f"g{row}" for row in rows], resamples=200)
    for name in ("accuracy", "macro_f1", "log_loss", "auroc"):
        wide, narrow = grouped.metrics[name], alone.metrics[name]
        assert wide.value == narrow.value
        assert wide.high - wide.low > 1.7 * (narrow.high - narrow.low), name  # sqrt(5) = 2.2
    assert grouped.n == 300
    assert any("300 images form 60 groups" in note for note in grouped.notes)


def test_few_images_are_said_to_be_few_and_many_are_not():
    labels, proba = predictions(29, 2)
    assert "too few images: 29 (below 30)" in evaluate(labels, proba, resamples=20).notes
    labels, proba = np.repeat([0, 1], 30), predictions(60, 2)[1]
    assert evaluate(labels, proba, resamples=20).notes == []
    notes = evaluate(labels[:45], proba[:45], class_names=["cat", "dog"], resamples=20).notes
    assert notes == ["class 'dog': too few images: 15 (below 30)"]


def test_a_class_without_labels_or_predictions_is_noted_and_undefined():
    proba = np.tile([0.8, 0.1, 0.1], (40, 1))
    found = evaluate(np.repeat([0, 1], 20), proba, class_names=["a", "b", "c"], resamples=20)
    assert any("class 'c' has no labeled images" in note for note in found.notes)
    assert any("class 'b' was never predicted" in note for note in found.notes)
    assert np.isnan(found.per_class[2].recall.value)
    precision = found.per_class[1].precision
    assert (precision.value, precision.low, precision.high, precision.n) == (0, 0, 1, 0)


def test_one_class_only_leaves_auroc_undefined_and_says_so():
    found = evaluate([0, 0], [[0.9, 0.1], [0.8, 0.2]], resamples=20)
    assert np.isnan(found.metrics["auroc"].value)
    assert any(note.startswith("undefined for these labels") for note in found.notes)


def no_nan(value):
    raise AssertionError(f"{value} is not JSON")


@pytest.mark.parametrize("labels", [[0, 0], [1, 0]])
def test_json_holds_null_for_what_is_undefined(labels):
    found = evaluate(labels, [[0.9, 0.1, 0.0], [0.8, 0.1, 0.1]], resamples=20).to_json()
    again = json.loads(json.dumps(found, allow_nan=False), parse_constant=no_nan)
    assert again == found
    assert set(found) == {"metrics", "per_class", "confusion", "n", "notes"}
    assert set(found["metrics"]["accuracy"]) == {"value", "low", "high", "n"}
    assert found["per_class"][2]["recall"] == {"value": None, "low": None, "high": None, "n": 0}


def test_the_same_seed_gives_the_same_evaluation():
    labels, proba = predictions(40, 3)
    first, again = (evaluate(labels, proba, seed=3, resamples=50).to_json() for _ in range(2))
    assert first == again
    assert evaluate(labels, proba, seed=4, resamples=50).to_json() != first


def test_the_order_of_rows_changes_no_value():
    labels, proba = predictions(40, 3)
    order = np.random.default_rng(0).permutation(40)
    found = evaluate(labels[order], proba[order], resamples=20)
    for name, interval in evaluate(labels, proba, resamples=20).metrics.items():
        assert found.metrics[name].value == pytest.approx(interval.value), name


@pytest.mark.parametrize("k", [1, 2])
def test_a_single_image_is_evaluated(k):
    proba = np.full((1, k), 1 / k)
    found = evaluate([0], proba, resamples=20)
    assert found.n == 1
    assert found.metrics["accuracy"].value == 1
    assert found.metrics["accuracy"].low < 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ["a"]}, "1 class names for 2 classes"),
        ({"groups": [1]}, "groups have shape"),
        ({"images": [[1, 2]]}, "images have shape"),
        ({"images": [5, 5]}, "image 5 has rows with different labels"),
        ({"groups": ["a", None]}, "groups of 1 rows are missing"),
    ],
)
def test_what_does_not_fit_the_rows_is_refused(options, message):
    with pytest.raises(DataError, match=message):
        evaluate([0, 1], [[0.9, 0.1], [0.3, 0.7]], **options)


def test_an_image_in_two_groups_is_refused():
    with pytest.raises(DataError, match="different groups"):
        evaluate([0, 0], [[0.9, 0.1], [0.3, 0.7]], images=[1, 1], groups=[1, 2])


def test_a_level_in_percent_is_refused():
    with pytest.raises(OptionError, match="level is 95"):
        evaluate([0], [[1.0, 0.0]], level=95)


def test_ten_thousand_images_take_seconds():
    labels, proba = predictions(10_000, 10)
    start = time.process_time()
    evaluate(labels, proba)
    assert time.process_time() - start < 10  # about 1 to 2; the margin is for a busy machine
