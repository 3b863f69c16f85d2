from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from labelwise.errors import DataError, LayerError
from labelwise.nn.whiten import identity_, whitening_filters


def photos(count, seed=0, channels=3):
    """Smooth random images with correlated channels, away from a mean of zero."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, channels, 16, 16, generator=generator)
    smooth = functional.avg_pool2d(noise, 3, 1, 1) + 0.3 * noise.mean(1, keepdim=True)
    return smooth + 2 * torch.arange(1.0, channels + 1).view(-1, 1, 1)


def responses(images, filters):
    maps = functional.conv2d(images, filters)
    return maps.transpose(0, 1).flatten(1)


@pytest.mark.parametrize(("kernel", "channels"), [(2, 3), (3, 3), (3, 1)])
def test_responses_to_new_images_are_uncorrelated_with_unit_variance(kernel, channels):
    filters = whitening_filters(photos(600, channels=channels), kernel, 1e-6)
    half = filters[: len(filters) // 2]
    covariance = torch.cov(responses(photos(600, seed=1, channels=channels), half))
    torch.testing.assert_close(covariance, torch.eye(len(half)), atol=0.06, rtol=0)


def test_the_other_half_of_the_filters_is_the_first_negated():
    filters = whitening_filters(photos(20), 3)
    assert filters.shape == (54, 3, 3, 3)
    assert torch.equal(filters[:27], -filters[27:])


def test_the_strongest_direction_comes_first():
    images = photos(100)
    half = whitening_filters(images, 3)[:27]
    directions = half / half.flatten(1).norm(dim=1)[:, None, None, None]
    variances = responses(images, directions).var(1)
    assert bool((variances[:-1] >= variances[1:] * 0.999).all())


def test_the_filters_do_not_depend_on_chunks_of_the_sample():
    images = photos(300)
    images[:, :, 0] += 5  # fewer patches have the border than have any other row
    once = functional.unfold(images, 2).transpose(0, 1).flatten(1)
    expected = torch.linalg.eigvalsh(torch.cov(once, correction=0).double()).flip(0)
    half = whitening_filters(images, 2, 1e-9)[:12].flatten(1)
    torch.testing.assert_close(1 / half.double().square().sum(1), expected, rtol=1e-3, atol=1e-6)


def test_directions_without_variance_stay_finite():
    filters = whitening_filters(torch.full((4, 3, 8, 8), 0.5), 3)
    assert bool(filters.isfinite().all())


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (5, 3, 2, 8)])
def test_no_image_or_too_small_ones_are_refused(shape):
    with pytest.raises(DataError, match=f"3x3 pixels.*{shape[0]} images of {shape[2]}x8"):
        whitening_filters(torch.zeros(shape), 3)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_convolution_begins_as_the_identity(kernel):
    conv = nn.Conv2d(3, 5, kernel, padding=kernel // 2, bias=False)
    others = conv.weight[3:].detach().clone()
    identity_(conv)
    images = photos(2)
    torch.testing.assert_close(conv(images)[:, :3], images)
    assert torch.equal(conv.weight[3:], others)


@pytest.mark.parametrize("conv", [nn.Conv2d(4, 3, 3), nn.Conv2d(4, 4, 3, groups=2)])
def test_a_convolution_that_cannot_be_the_identity_is_refused(conv):
    with pytest.raises(LayerError, match="cannot begin as the identity"):
        identity_(conv)
