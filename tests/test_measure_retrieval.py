"""Retrieval: against pytorch-metric-learning, and written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from labelwise.measure import retrieval as module
from labelwise.measure.retrieval import RECALL_AT, retrieval


@st.composite
def embedded(draw):
    """Points and labels, at least two of some class."""
    count, classes = draw(st.integers(3, 60)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, classes, count)
    labels[1] = labels[0]
    points = rng.normal(size=(count, 4)) + rng.normal(size=(classes, 4))[labels]
    return points.astype(np.float32), labels


@settings(deadline=None, max_examples=40)
@given(embedded())
def test_the_metrics_are_those_of_pytorch_metric_learning(drawn):
    points, labels = drawn
    plain = CustomKNN(LpDistance(normalize_embeddings=False))
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        knn_func=plain,
    )
    expected = calculator.get_accuracy(torch.from_numpy(points), torch.from_numpy(labels))
    found = retrieval(points, labels).means
    assert found["recall@1"] == pytest.approx(expected["precision_at_1"], abs=1e-6)
    assert found["r_precision"] == pytest.approx(expected["r_precision"], abs=1e-6)
    assert found["map@r"] == pytest.approx(expected["mean_average_precision_at_r"], abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(embedded())
def test_recall_precision_and_prototypes_are_those_written_out(drawn):
    points, labels = drawn
    found = retrieval(points, labels)
    far = np.linalg.norm(points[:, None].astype(float) - points, axis=2)
    for place, query in enumerate(found.queries):
        order = [n for n in np.argsort(far[query]) if n != query]
        right = labels[order] == labels[query]
        for k in RECALL_AT:
            assert found.values[f"recall@{k}"][place] == right[:k].any()
            assert found.values[f"precision@{k}"][place] == pytest.approx(right[:k].sum() / k)
        others = np.arange(len(labels)) != query
        means = {k: points[others & (labels == k)].mean(0) for k in np.unique(labels[others])}
        nearest = min(means, key=lambda k: np.linalg.norm(points[query].astype(float) - means[k]))
        assert found.values["prototype_accuracy"][place] == (nearest == labels[query])


def test_an_image_alone_in_its_class_asks_nothing_but_answers():
    points = np.array([[0.0], [1.0], [0.4]])
    found = retrieval(points, np.array([0, 0, 1]))
    assert found.queries.tolist() == [0, 1]
    assert found.means["recall@1"] == 0
    assert found.means["recall@2"] == 1


def test_small_blocks_find_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(50, 3)), rng.integers(0, 4, 50)
    groups = rng.integers(0, 20, 50)  # some on both sides of a block's end
    whole = retrieval(points, labels, groups=groups).means
    monkeypatch.setattr(module, "BLOCK", 130)
    assert retrieval(points, labels, groups=groups).means == pytest.approx(whole)


def test_intervals_hold_the_means_and_shrink_with_more_images():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    points = rng.normal(size=(600, 2)) + 2 * np.eye(3)[labels, :2]
    widths = []
    for count in (60, 600):
        found = retrieval(points[:count], labels[:count])
        interval = found.intervals()["map@r"]
        assert interval.value == pytest.approx(found.means["map@r"])
        assert interval.low < interval.value < interval.high
        widths.append(interval.high - interval.low)
    assert widths[1] < 0.6 * widths[0]


@settings(deadline=None, max_examples=40)
@given(embedded(), st.integers(1, 20))
def test_copies_are_no_answers(drawn, number):
    points, labels = drawn
    groups = np.random.default_rng(number).integers(0, number, len(labels))
    found = retrieval(points, labels, groups=groups)
    far = np.linalg.norm(points[:, None].astype(float) - points, axis=2)
    free = groups[:, None] != groups
    others = (free & (labels[:, None] == labels)).sum(1)
    assert found.queries.tolist() == np.flatnonzero(others > 0).tolist()
    assert found.groups.tolist() == groups[found.queries].tolist()
    for place, query in enumerate(found.queries):
        order = [n for n in np.argsort(far[query]) if free[query, n]]
        right = labels[order] == labels[query]
        for k in RECALL_AT:
            assert found.values[f"recall@{k}"][place] == right[:k].any()
        first = right[: others[query]]
        hits = np.cumsum(first) / np.arange(1, len(first) + 1)
        expected = hits[first].sum() / others[query]
        assert found.values["map@r"][place] == pytest.approx(expected, abs=1e-6)
        own = labels == labels[query]
        means = {k: points[labels == k].astype(float).mean(0) for k in np.unique(labels)}
        means[labels[query]] = points[own & free[query]].astype(float).mean(0)
        nearest = min(means, key=lambda k: np.linalg.norm(points[query] - means[k]))
        assert found.values["prototype_accuracy"][place] == (nearest == labels[query])


def test_intervals_are_over_groups():
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    tiled = {"points": np.repeat(points, 4, axis=0), "labels": np.repeat(labels, 4)}
    groups = np.repeat(np.arange(40), 4)
    once = retrieval(points, labels).intervals()["prototype_accuracy"]
    copied = retrieval(tiled["points"], tiled["labels"], groups=groups)
    found = copied.intervals()["prototype_accuracy"]
    assert found.value == pytest.approx(once.value)
    assert found.high - found.low == pytest.approx(once.high - once.low, rel=0.02)
