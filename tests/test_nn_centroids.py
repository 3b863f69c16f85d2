from __future__ import annotations

import numpy as np
import pytest
import torch

from labelwise.errors import DataError, LayerError
from labelwise.nn.centroids import CONTRAST, WHITENING, Centroids, kmeans, zca

SHAPE = (3, 9, 8)


def images_of(count, seed=0):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def learned(count=7, side=3):
    body = Centroids(count, side, SHAPE)
    windows = images_of(30).unfold(2, side, 1).unfold(3, side, 1)
    patches = windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
    body.learn(patches, torch.Generator().manual_seed(0))
    return body, patches


def by_hand(body, image):
    """Features of an image (C, H, W), patch by patch; float64 (K, rows, columns)."""
    side, (_, height, width) = body.side, image.shape
    mean, whitening, centroids = (
        value.double().numpy() for value in (body.mean, body.whitening, body.centroids)
    )
    maps = np.zeros((body.count, height - side + 1, width - side + 1))
    for y in range(maps.shape[1]):
        for x in range(maps.shape[2]):
            patch = image[:, y : y + side, x : x + side].ravel()
            patch = (patch - patch.mean()) / np.sqrt(patch.var() + CONTRAST)
            patch = (patch - mean) @ whitening
            distances = [np.sqrt(np.square(patch - centroid).sum()) for centroid in centroids]
            maps[:, y, x] = np.maximum(np.mean(distances) - distances, 0)
    return maps


def test_features_are_those_patch_by_patch():
    body, _ = learned()
    images = images_of(2, seed=3)
    (maps,), embedding = body(images)
    for image, found in zip(images.double().numpy(), maps, strict=True):
        whole = by_hand(body, image)  # (7, 7, 6): quadrants of 4x3, sharing the middle row
        parts = [[whole[:, a, b].mean((1, 2)) for b in (slice(0, 3), slice(3, 6))]
                 for a in (slice(0, 4), slice(3, 7))]  # fmt: skip
        np.testing.assert_allclose(found, np.array(parts).transpose(2, 0, 1), atol=1e-4)
    assert torch.equal(embedding, maps.flatten(1))


def test_many_images_at_once_are_each_by_itself(monkeypatch):
    body, _ = learned()
    images = images_of(5, seed=3)
    together = body(images)[1]
    monkeypatch.setattr("labelwise.nn.centroids.AT_ONCE", 1)
    torch.testing.assert_close(body(images)[1], together)


def test_brightness_and_contrast_hardly_change_the_features():
    body, _ = learned()
    images = images_of(3, seed=4)
    torch.testing.assert_close(body(images * 0.6 + 0.3)[1], body(images)[1], atol=0.01, rtol=0)


def test_whitened_patches_are_uncorrelated_but_for_what_is_added():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(5000, 4, generator=generator) @ torch.randn(4, 4, generator=generator)
    values = np.linalg.eigvalsh(np.cov(points.numpy().T, bias=True))
    whitened = np.cov((points @ zca(points)).numpy().T, bias=True)
    expected = values / (values + WHITENING)
    np.testing.assert_allclose(np.linalg.eigvalsh(whitened), np.sort(expected), atol=1e-3)


def test_clusters_that_lie_apart_are_found():
    generator = torch.Generator().manual_seed(0)
    centers = 20 * torch.eye(4)
    points = centers.repeat(50, 1) + torch.randn(200, 4, generator=generator)
    found = kmeans(points, 12, generator)
    assert float(torch.cdist(centers, found).amin(1).max()) < 3


def test_clusters_are_as_tight_as_those_of_scikit_learn():
    from sklearn.cluster import KMeans

    points = torch.randn(600, 3, generator=torch.Generator().manual_seed(1))
    found = kmeans(points, 8, torch.Generator().manual_seed(0))
    inertia = float(torch.cdist(points, found).amin(1).square().sum())
    assert inertia < 1.1 * KMeans(8, n_init=3, random_state=0).fit(points.numpy()).inertia_


def test_images_smaller_than_their_patches_are_refused():
    with pytest.raises(LayerError, match="patches of 8x8 pixels are too large"):
        Centroids(10, 8, SHAPE)


def test_fewer_patches_than_centroids_are_refused():
    with pytest.raises(DataError, match="5 patches cannot make 7 centroids"):
        Centroids(7, 3, SHAPE).learn(torch.rand(5, 27), torch.Generator())
