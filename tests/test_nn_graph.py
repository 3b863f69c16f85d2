"""Label propagation: the graph and its solution against naive second ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise.nn import graph
from labelwise.nn.graph import ALPHA, SHARPNESS, Graph, confidence, neighbors, spread_out


def points(count=40, width=6, seed=0):
    drawn = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return spread_out(drawn)


def dense(x, count):
    """The normalized weights, by loops over a full matrix."""
    cosine = (x @ x.T).double().numpy()
    one_way = np.zeros_like(cosine)
    for i, row in enumerate(cosine):
        others = sorted((j for j in range(len(row)) if j != i), key=lambda j: -row[j])
        for j in others[:count]:
            one_way[i, j] = max(row[j], 0) ** SHARPNESS
    both = one_way + one_way.T
    degree = both.sum(1)
    scale = np.where(degree > 0, degree, np.inf) ** -0.5
    return scale[:, None] * both * scale


@pytest.mark.parametrize("count", [1, 5, 39, 60])
def test_the_weights_are_those_of_a_full_matrix(count):
    x = points()
    np.testing.assert_allclose(Graph.of(x, count).weights.toarray(), dense(x, count), atol=1e-5)


def test_the_spread_labels_solve_the_dense_system():
    x = points()
    sources = np.zeros((40, 3), np.float32)
    sources[[0, 7, 9], [0, 1, 2]] = 1
    exact = np.linalg.solve(np.eye(40) - ALPHA * dense(x, 5), sources)
    np.testing.assert_allclose(Graph.of(x, 5).spread(sources), exact, rtol=1e-3, atol=1e-5)


def test_sets_of_labels_solved_together_equal_each_alone():
    found, sources = Graph.of(points(), 5), np.eye(40, 4, dtype=np.float32)
    alone = [found.spread(sources[:, [k]]) for k in range(4)]
    np.testing.assert_allclose(found.spread(sources), np.hstack(alone), rtol=1e-3, atol=1e-5)


def test_blocks_find_the_same_neighbors(monkeypatch):
    x = points()
    whole = neighbors(x, 5)[1].sort(1).values
    monkeypatch.setattr(graph, "BLOCK", 3 * len(x))
    np.testing.assert_allclose(neighbors(x, 5)[1].sort(1).values, whole, atol=1e-6)


def test_no_point_is_its_own_neighbor():
    index = neighbors(points(), 39)[0]
    assert not (index == torch.arange(40)[:, None]).any()


@pytest.mark.parametrize("count", [10, 50])
def test_fewer_dimensions_keep_the_angles_of_points_that_have_no_more(count):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(count, 3, generator=generator) @ torch.randn(3, 20, generator=generator)
    full, reduced = spread_out(x, 20), spread_out(x, 3)
    np.testing.assert_allclose(full @ full.T, reduced @ reduced.T, atol=1e-4)


@given(st.lists(st.lists(st.floats(0, 10, width=32), min_size=3, max_size=3), min_size=1))
@settings(max_examples=25, deadline=None)
def test_confidence_lies_between_0_and_1(rows):
    found = confidence(np.array(rows, np.float32))
    assert ((found >= 0) & (found <= 1)).all()


def test_one_class_alone_is_certain_and_even_shares_or_none_are_not():
    found = confidence(np.array([[3, 0, 0], [2, 2, 2], [0, 0, 0]], np.float32))
    np.testing.assert_allclose(found, [1, 0, 0], atol=1e-6)
