"""Directions and fixed views: what a head on embeddings of views is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from labelwise.nn.directions import Directions
from labelwise.nn.fixed import CENTER, FixedView

BLOCKS = (4, 6)
STRONG = "flip, crop 3, randaugment 2 5, cutout 4"


def embeddings_of(count, rank=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(count, rank, generator=generator) @ torch.randn(
        rank, 10, generator=generator
    )
    return mixed + 5


def images_of(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("count", [200, 6])
def test_a_head_on_vectors_is_one_on_embeddings_that_says_the_same(count):
    x = embeddings_of(count)
    directions = Directions.of(x, BLOCKS, most=4)
    weight, bias = torch.randn(4, 3), torch.randn(3)
    whole, shift = directions.head_back(weight, bias)
    np.testing.assert_allclose(x @ whole + shift, directions(x) @ weight + bias, atol=1e-3)


@pytest.mark.parametrize("count", [200, 6])
def test_a_head_on_embeddings_is_one_on_vectors_where_nothing_is_left_out(count):
    x = embeddings_of(count)
    directions = Directions.of(x, BLOCKS)
    weight, bias = torch.randn(10, 3), torch.randn(3)
    there, shift = directions.head_there(weight, bias)
    np.testing.assert_allclose(directions(x) @ there + shift, x @ weight + bias, atol=2e-3)


def test_directions_are_the_principal_ones_of_scikit_learn():
    x = embeddings_of(4000)
    found = Directions.of(x, (10,), most=3)(x).numpy()
    expected = PCA(3).fit_transform(StandardScaler().fit_transform(x.numpy()))
    for column, other in zip(found.T, expected.T, strict=True):
        assert abs(np.corrcoef(column, other)[0, 1]) > 0.99


def test_directions_without_variance_are_left_out():
    directions = Directions.of(embeddings_of(50, rank=2), BLOCKS)
    assert directions.onto.shape == (10, 2)
    assert bool(directions.onto.isfinite().all())


def test_vectors_vary_by_one_on_average():
    x = embeddings_of(500)
    variance = Directions.of(x, BLOCKS)(x).var(0, correction=0)
    assert float(variance.mean()) == pytest.approx(1, rel=1e-3)


def test_a_view_of_an_image_does_not_depend_on_its_batch():
    images, view = images_of(5), FixedView(STRONG, 1)
    alone = torch.cat([view(image[None]) for image in images.flip(0)]).flip(0)
    assert torch.equal(view(images), alone)


def test_another_seed_is_another_view():
    images = images_of(5)
    first, second = FixedView(STRONG, 1)(images), FixedView(STRONG, 2)(images)
    assert not torch.equal(first, second)
    assert FixedView(STRONG, 1).name != FixedView(STRONG, 2).name


def test_views_that_mirror_in_every_other_epoch_mirror_half_of_the_images():
    images = images_of(40)
    mirrored = (FixedView("alternate", 1)(images) == images.flip(3)).flatten(1).all(1)
    assert 8 < int(mirrored.sum()) < 32


def test_the_center_is_the_image_itself_as_stores_have_always_called_it():
    images = images_of(2)
    assert CENTER(images) is images
    assert CENTER.name == "center"
