"""The nearest class mean as a linear head, against the same by angles, one image at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from labelwise.nn.logistic import PRIOR
from labelwise.nn.nearest import SHARPNESS, nearest_means


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(4, 12))
def test_it_chooses_the_class_mean_at_the_smallest_angle(seed, classes, count):
    rng = np.random.default_rng(seed)
    features = rng.normal(5, [1, 9, 1, 0.2, 3], (count, 5))
    labels = np.arange(count) % classes
    heads = nearest_means(
        torch.tensor(features, dtype=torch.float32), torch.tensor(labels), classes, [2, 3]
    )
    variance = features.var(0)
    blocks = np.array([variance[:2].mean()] * 2 + [variance[2:].mean()] * 3)
    scale = np.sqrt((count * variance + PRIOR * blocks) / (count + PRIOR))
    x = (features - features.mean(0)) / scale
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([unit[labels == k].mean(0) for k in range(classes)])
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    logits = features @ heads.weight[0].double().numpy() + heads.bias[0].double().numpy()
    expected = SHARPNESS * cosine_similarity(x, means) * lengths / lengths.mean()
    np.testing.assert_allclose(logits, expected, atol=1e-3)


def test_a_class_without_an_image_is_never_chosen():
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    heads = nearest_means(features, torch.tensor([0, 2, 0, 2, 0, 2]), 3, [4])
    logits = 100 * features @ heads.weight[0] + heads.bias[0]
    assert 1 not in logits.argmax(1)


def test_constant_features_get_no_weight():
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    features[:, 2:] = 3.0
    heads = nearest_means(features, torch.arange(6) % 2, 2, [2, 2])
    assert not heads.weight[0, 2:].any()


def test_blocks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not make 4"):
        nearest_means(torch.zeros(2, 4), torch.tensor([0, 1]), 2, [3])
