from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelwise.measure import log_loss
from labelwise.measure.selection import crossed_mixture, greedy_weights, mixture_of


def answers(models: int, count: int, classes: int = 3, seed: int = 0):
    """Labels, and calibrated probabilities of models that know more or less; (N,), (M, N, K)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(models, count, classes))
    skill = np.linspace(0.5, 2, models)[:, None]
    logits[:, np.arange(count), labels] += skill
    weights = np.exp(logits * skill[..., None])  # by Bayes, of logits drawn so
    return labels, weights / weights.sum(axis=2, keepdims=True)


def loss_of(weights, truth):
    return -np.log(np.asarray(weights) @ truth).mean()


@pytest.mark.parametrize("seed", range(5))
def test_each_pick_is_the_best_one_by_trying_all(seed):
    truth = np.random.default_rng(seed).uniform(0.05, 1, (3, 7))
    picks = []
    for done in range(1, 5):
        mixtures = [np.bincount([*picks, k], minlength=3) / done for k in range(3)]
        picks.append(int(np.argmin([loss_of(weights, truth) for weights in mixtures])))
    paths = [np.bincount(picks[:n], minlength=3) / n for n in range(1, 5)]
    best = min(paths, key=lambda weights: loss_of(weights, truth))
    np.testing.assert_allclose(greedy_weights(truth, rounds=4), best)


def test_two_picks_are_hardly_worse_than_the_best_pair():
    truth = np.random.default_rng(3).uniform(0.05, 1, (4, 30))
    pairs = [
        np.bincount(pair, minlength=4) / 2 for pair in combinations_with_replacement(range(4), 2)
    ]
    assert (
        loss_of(greedy_weights(truth, rounds=2), truth)
        <= min(loss_of(p, truth) for p in pairs) + 0.02
    )


@given(st.integers(1, 5), st.integers(1, 20), st.integers(0, 1000))
def test_weights_are_a_distribution_and_never_worse_than_the_best_model(models, count, seed):
    truth = np.random.default_rng(seed).uniform(0, 1, (models, count))
    weights = greedy_weights(truth)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    singles = -np.log(np.maximum(truth, 1e-38)).mean(axis=1)
    assert loss_of(weights, np.maximum(truth, 1e-38)) <= singles.min() + 1e-9


def test_a_useless_model_gets_no_weight_and_copies_share_theirs():
    labels, probas = answers(2, 1000)
    good, flat = probas[1], np.full_like(probas[1], 1 / 3)
    assert mixture_of(labels, np.stack([flat, good]), np.zeros(1000)).weights[0] < 0.1
    copies = np.stack([good, good])
    twice = mixture_of(labels, copies, np.zeros(1000))
    np.testing.assert_allclose(twice(copies), good, atol=1e-9)


def test_models_with_errors_of_their_own_are_better_together():
    labels, probas = answers(4, 2000)
    parts = np.arange(2000) % 5
    mixed, mixtures = crossed_mixture(labels, probas, parts)
    assert log_loss(labels, mixed) < min(log_loss(labels, proba) for proba in probas)
    assert len(mixtures) == 5


def test_an_answer_never_depends_on_labels_of_its_own_part():
    labels, probas = answers(3, 120)
    parts = np.arange(120) % 4
    before, _ = crossed_mixture(labels, probas, parts)
    changed = np.where(parts == 2, (labels + 1) % 3, labels)
    after, _ = crossed_mixture(changed, probas, parts)
    np.testing.assert_array_equal(before[parts == 2], after[parts == 2])
    assert (before[parts != 2] != after[parts != 2]).any()


def test_a_model_that_is_too_sure_is_cooled_before_it_is_mixed():
    labels, probas = answers(2, 1000)
    sure = probas[0] ** 4
    sure /= sure.sum(axis=1, keepdims=True)
    found = mixture_of(labels, np.stack([sure, probas[1]]), np.arange(1000) % 5)
    assert found.temperatures[0] == pytest.approx(4, rel=0.3)
    assert 0.7 < found.temperatures[1] < 1.3
