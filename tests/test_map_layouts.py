"""Coordinates of a map: components, layouts, placing, neighbors, and how fine a page keeps them."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA

from labelwise.atlas import layouts
from labelwise.atlas.page import FINE, quantized
from labelwise.atlas.projection import COMPONENTS, Projection, plane
from labelwise.nn import graph

rng = np.random.default_rng(0)
CLOUDS = np.concatenate([rng.normal(m, 1, (40, 70)) for m in (0, 4, 8)]).astype(np.float32)


def test_components_are_those_of_scikit_learn():
    found = Projection.of(CLOUDS)
    fitted = PCA(COMPONENTS, svd_solver="full").fit(CLOUDS.astype(np.float64))
    np.testing.assert_allclose(found(CLOUDS), fitted.transform(CLOUDS), atol=1e-3)
    assert found(CLOUDS).shape == (120, COMPONENTS)


def test_embeddings_far_from_the_origin_have_the_same_components():
    near, far = Projection.of(CLOUDS), Projection.of(CLOUDS + 1000)
    np.testing.assert_allclose(plane(far(CLOUDS + 1000)), plane(near(CLOUDS)), atol=0.05)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_images_have_a_place_in_the_plane(count):
    found = plane(Projection.of(CLOUDS[:count])(CLOUDS[:count]))
    assert found.shape == (count, 2)
    apart = np.linalg.norm(found[0] - found[-1])
    assert apart == pytest.approx(np.linalg.norm(CLOUDS[0] - CLOUDS[count - 1]), rel=0.3, abs=1e-3)


def test_equal_embeddings_lie_in_one_place():
    same = np.full((9, 5), 3.7, np.float32)
    found = Projection.of(same)
    assert not plane(found(same)).any()


def test_a_layout_fitted_twice_is_the_same_and_keeps_the_clouds_apart():
    points = Projection.of(CLOUDS)(CLOUDS)
    first = layouts.tsne(points)
    np.testing.assert_array_equal(first, layouts.tsne(points))
    nearest = np.argsort(np.linalg.norm(first[:, None] - first[None], axis=2), axis=1)[:, 1]
    assert (nearest // 40 == np.arange(120) // 40).mean() > 0.95


@pytest.mark.slow
def test_umap_fitted_twice_is_the_same_and_keeps_the_clouds_apart():
    pytest.importorskip("umap", exc_type=ImportError)
    points = Projection.of(CLOUDS)(CLOUDS)
    first = layouts.umap(points)
    np.testing.assert_array_equal(first, layouts.umap(points))
    nearest = np.argsort(np.linalg.norm(first[:, None] - first[None], axis=2), axis=1)[:, 1]
    assert (nearest // 40 == np.arange(120) // 40).mean() > 0.95


def test_a_copy_of_a_fitted_image_lies_on_it_and_others_lie_among_their_nearest():
    layout = rng.normal(size=(80, 2)).astype(np.float32)
    copies = layouts.placed(CLOUDS[:80], CLOUDS[:80], layout)
    np.testing.assert_allclose(copies, layout, atol=1e-6)
    # A second way: distances one by one, weights one over their squares.
    expected = []
    for point in CLOUDS[80:].astype(np.float64):
        squared = ((CLOUDS[:80] - point) ** 2).sum(1)
        near = np.argsort(squared)[: layouts.AMONG]
        weights = 1 / squared[near]
        costs = [weights @ np.linalg.norm(layout[near] - layout[n], axis=1) for n in near]
        far = np.linalg.norm(layout[near] - layout[near[np.argmin(costs)]], axis=1)
        weights[far > np.median(far)] = 0
        expected.append(np.average(layout[near], axis=0, weights=weights))
    found = layouts.placed(CLOUDS[80:], CLOUDS[:80], layout)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_image_between_two_clouds_lies_in_one_of_them():
    fitted = np.concatenate([CLOUDS[:40], CLOUDS[40:80]])
    layout = np.repeat([[0.0, 0.0], [100.0, 0.0]], 40, axis=0).astype(np.float32)
    middle = (CLOUDS[:40] + CLOUDS[40:80]) / 2
    found = layouts.placed(middle, fitted, layout)[:, 0]
    assert set(found.round(3)) <= {0.0, 100.0}


def test_a_sample_takes_a_share_of_every_class_alike():
    labels = np.repeat([-1, 0, 1], [600, 300, 100])
    chosen = layouts.sample(labels, 50)
    assert np.bincount(labels[chosen] + 1).tolist() == [30, 15, 5]
    np.testing.assert_array_equal(chosen, layouts.sample(labels, 50))
    assert layouts.sample(labels, 1000).all()


def test_neighbors_are_those_of_a_comparison_of_all_pairs(monkeypatch):
    monkeypatch.setattr(graph, "BLOCK", 1000)  # several blocks
    points = torch.nn.functional.normalize(torch.from_numpy(CLOUDS), dim=1)
    index, cosine = graph.neighbors(points, 8)
    every = (points.double() @ points.double().T).numpy()
    np.fill_diagonal(every, -np.inf)
    best = np.sort(every, axis=1)[:, ::-1][:, :8]
    np.testing.assert_allclose(np.take_along_axis(every, index.numpy(), 1), best, atol=1e-6)
    np.testing.assert_allclose(cosine, best, atol=1e-5)


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 20), st.just(2)),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_a_page_keeps_coordinates_to_a_step_and_their_shape(points):
    packed = quantized(points)
    steps = np.frombuffer(base64.b64decode(packed["base64"]), "<u2").reshape(-1, 2)
    side = float((points.max(0).astype(np.float64) - points.min(0)).max()) or 1.0
    middle = (points.max(0).astype(np.float64) + points.min(0)) / 2
    back = (steps / FINE - 0.5) * side + middle
    assert np.abs(back - points).max() <= 0.51 * side / FINE + 1e-9
