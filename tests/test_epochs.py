"""Counts and metrics per epoch, against scikit-learn on the labels written out."""

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise.epochs import epoch_counts, epoch_metrics
from labelwise.errors import DataError, OptionError
from labelwise.measure import averages_of, counts_of
from labelwise.nn.supervised import confusion_columns

relaxed = settings(deadline=None, max_examples=40)


@st.composite
def judged(draw):
    """Labels and predictions of some epochs; every class has labels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    k, epochs = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    labels = np.append(np.arange(k), rng.integers(0, k, draw(st.integers(0, 20))))
    return labels, [rng.integers(0, k, len(labels)) for _ in range(epochs)]


def history_of(labels, epochs, part="validation"):
    return pd.DataFrame(
        [
            {"epoch": number + 1, **confusion_columns(part, sk.confusion_matrix(labels, predicted))}
            for number, predicted in enumerate(epochs)
        ]
    )


@relaxed
@given(judged(), st.sampled_from([0.5, 1.0, 2.0, 3.7]))
def test_metrics_of_an_epoch_equal_scikit_learn(case, beta):
    labels, epochs = case
    found = epoch_metrics(history_of(labels, epochs), beta=beta)
    assert found["epoch"].tolist() == list(range(1, len(epochs) + 1))
    for (_, row), predicted in zip(found.iterrows(), epochs, strict=True):
        for how in ("micro", "macro", "weighted"):
            expected = sk.precision_recall_fscore_support(
                labels, predicted, beta=beta, average=how, zero_division=0
            )[:3]
            names = [f"{how}_{name}" for name in ("precision", "recall", "f_beta")]
            np.testing.assert_allclose(row[names].astype(float), expected)


@relaxed
@given(judged())
def test_specificity_of_an_epoch_is_the_recall_of_all_others(case):
    labels, epochs = case
    found = epoch_metrics(history_of(labels, epochs)).iloc[-1]
    classes = range(labels.max() + 1)
    each = [np.mean(epochs[-1][labels != k] != k) for k in classes]
    rest = [(labels != k).sum() for k in classes]
    expected = {
        "macro": np.mean(each),
        "weighted": np.average(each, weights=np.bincount(labels)),
        "micro": np.average(each, weights=rest),
    }
    for how, value in expected.items():
        assert found[f"{how}_specificity"] == pytest.approx(value)
        assert found[f"{how}_fall_out"] == pytest.approx(1 - value)


@relaxed
@given(judged())
def test_counts_of_an_epoch_equal_scikit_learn(case):
    labels, epochs = case
    found = epoch_counts(history_of(labels, epochs))
    for number, predicted in enumerate(epochs, 1):
        each = sk.multilabel_confusion_matrix(labels, predicted)
        rows = found[found["epoch"] == number].sort_values("class")
        expected = np.column_stack([each[:, 1, 1], each[:, 0, 1], each[:, 0, 0], each[:, 1, 0]])
        np.testing.assert_array_equal(rows[["tp", "fp", "tn", "fn"]], expected)


def test_above_a_hundred_classes_the_counts_say_the_same():
    rng = np.random.default_rng(0)
    confusion = rng.integers(0, 5, (101, 101))
    large = pd.DataFrame([{"epoch": 1, **confusion_columns("train", confusion)}])
    assert "train_tp" in large
    flat = pd.DataFrame([{"epoch": 1, "train_confusion": confusion.ravel()}])
    pd.testing.assert_frame_equal(epoch_counts(large), epoch_counts(flat))
    pd.testing.assert_frame_equal(epoch_metrics(large), epoch_metrics(flat))


def test_both_parts_are_read_after_a_stay_on_disk(tmp_path):
    labels, predicted = np.array([0, 0, 1]), np.array([0, 1, 1])
    parts = [history_of(labels, [predicted], part) for part in ("train", "validation")]
    both = parts[0].merge(parts[1])
    both.to_parquet(tmp_path / "history.parquet")
    again = pd.read_parquet(tmp_path / "history.parquet")
    assert epoch_counts(again)["part"].tolist() == ["train"] * 2 + ["validation"] * 2
    pd.testing.assert_frame_equal(epoch_counts(again), epoch_counts(both))


def test_a_history_without_epochs_or_counts_is_refused():
    with pytest.raises(DataError, match="no column 'epoch', but: strength"):
        epoch_counts(pd.DataFrame({"strength": [1.0], "validation_confusion": [[1, 0, 0, 1]]}))
    with pytest.raises(DataError, match="holds no counts"):
        epoch_metrics(pd.DataFrame({"epoch": [1]}))


def test_counts_that_are_not_of_one_label_per_row_are_refused():
    with pytest.raises(DataError, match="different sums"):
        averages_of([1, 1], [1, 0], [0, 0])
    with pytest.raises(DataError, match="shapes"):
        averages_of([1, 1], [1], [0, 0])
    with pytest.raises(DataError, match=r"shape \(2, 3\)"):
        counts_of(np.ones((2, 3)))
    with pytest.raises(OptionError, match="beta is 0"):
        averages_of([1, 1], [0, 0], [0, 0], beta=0)
