from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelwise.errors import DataError
from labelwise.measure import log_loss
from labelwise.measure.selection import HeldOut, greedy_weights
from labelwise.measure.temperature import scaled


def answers(models: int, count: int, classes: int = 3, seed: int = 0):
    """Labels, and calibrated probabilities of models that know more or less; (N,), (M, N, K)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(models, count, classes))
    skill = np.linspace(0.5, 2, models)[:, None]
    logits[:, np.arange(count), labels] += skill
    weights = np.exp(logits * skill[..., None])  # by Bayes, of logits drawn so
    return labels, weights / weights.sum(axis=2, keepdims=True)


def held(labels, probas, parts=None, groups=None, counting=None):
    every = np.arange(len(labels))
    return HeldOut(
        labels,
        np.asarray(probas),
        every % 5 if parts is None else parts,
        every if groups is None else groups,
        np.ones(len(labels), bool) if counting is None else counting,
    )


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
    assert held(labels, [flat, good]).mixture().weights[0] < 0.1
    copies = np.stack([good, good])
    twice = held(labels, copies).mixture()
    np.testing.assert_allclose(twice(copies), scaled(good, twice.temperatures[0]), atol=1e-9)


def test_models_with_errors_of_their_own_are_better_together():
    labels, probas = answers(4, 2000)
    mixed, mixtures = held(labels, probas).crossed()
    assert log_loss(labels, mixed) < min(log_loss(labels, proba) for proba in probas)
    assert len(mixtures) == 5


def test_an_answer_never_depends_on_labels_of_its_own_part():
    labels, probas = answers(3, 120)
    parts = np.arange(120) % 4
    before, _ = held(labels, probas, parts).crossed()
    changed = np.where(parts == 2, (labels + 1) % 3, labels)
    after, _ = held(changed, probas, parts).crossed()
    np.testing.assert_array_equal(before[parts == 2], after[parts == 2])
    assert (before[parts != 2] != after[parts != 2]).any()


def test_a_model_that_is_too_sure_is_cooled_before_it_is_mixed():
    labels, probas = answers(2, 1000)
    sure = probas[0] ** 4
    sure /= sure.sum(axis=1, keepdims=True)
    found = held(labels, [sure, probas[1]]).mixture()
    assert found.temperatures[0] == pytest.approx(4, rel=0.3)
    assert 0.7 < found.temperatures[1] < 1.3


@pytest.mark.parametrize("count", [2, 5])
def test_temperatures_are_found_in_the_folds_if_they_are_in_the_end(count):
    labels, probas = answers(2, 600)
    sure = probas**4 / (probas**4).sum(axis=2, keepdims=True)
    found = held(labels, sure, np.arange(600) % count)
    _, mixtures = found.crossed()
    assert (found.mixture().temperatures > 2).all()
    assert all((mixture.temperatures > 2).all() for mixture in mixtures.values())


def test_no_temperatures_where_too_few_images_are_left_for_a_fold():
    labels, probas = answers(2, 34)
    sure = probas**4 / (probas**4).sum(axis=2, keepdims=True)
    found = held(labels, sure)
    assert (found.mixture().temperatures == 1).all()
    assert all((m.temperatures == 1).all() for m in found.crossed()[1].values())


def test_answers_that_do_not_count_change_nothing():
    labels, probas = answers(3, 300)
    counting = np.arange(300) % 7 > 0
    spoiled = probas.copy()
    spoiled[:, ~counting] = [0.9, 0.05, 0.05]
    one, two = (held(labels, p, counting=counting).mixture() for p in (probas, spoiled))
    np.testing.assert_array_equal(one.weights, two.weights)
    np.testing.assert_array_equal(one.temperatures, two.temperatures)


def test_without_an_image_there_are_no_weights():
    with pytest.raises(DataError, match="no held-out image"):
        greedy_weights(np.zeros((2, 0)))
