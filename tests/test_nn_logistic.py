from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from labelwise.nn import logistic
from labelwise.nn.logistic import LogisticSolver

STRENGTHS = [1e-3, 0.03, 1.0]


def clusters(count, width, classes, seed=0, spread=2.0):
    """Correlated features around a center of each class; float32 (count, width)."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % classes)
    mix = rng.standard_normal((width, width)) / np.sqrt(width)
    centers = rng.standard_normal((classes, width))
    features = (centers[labels] + spread * rng.standard_normal((count, width)) @ mix) * 3 + 5
    return features.astype(np.float32), labels


def ours(features, labels, classes, weights, strengths):
    solver = LogisticSolver(torch.from_numpy(features), classes)
    return solver.solve(
        torch.from_numpy(labels),
        torch.tensor(np.atleast_2d(weights), dtype=torch.float32),
        torch.tensor(np.atleast_1d(strengths), dtype=torch.float32),
        tolerance=1e-9,
    )


def logits_of(heads, features, problem=0):
    weight, bias = heads.weight[problem].double().numpy(), heads.bias[problem].double().numpy()
    return features.astype(np.float64) @ weight + bias


def by_scikit_learn(features, labels, classes, weights, strength):
    """Weights (D, K) and biases (K,) for features standardized over the images with a weight."""
    used = weights > 0
    x = StandardScaler().fit_transform(features[used].astype(np.float64))
    # With two classes its one column of weights is the difference of ours.
    c = (2 if classes == 2 else 1) / (strength * weights.sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=c, tol=1e-10, max_iter=5000).fit(
            x, labels[used], sample_weight=weights[used]
        )
    weight, bias = model.coef_.T, model.intercept_
    if classes == 2:
        weight, bias = np.concatenate([-weight, weight], 1) / 2, np.array([-bias[0], bias[0]]) / 2
    return weight, bias


def value(x, labels, weights, weight, bias, strength):
    """The objective in float64, from its formula."""
    logits = x @ weight + bias
    top = logits.max(1, keepdims=True)
    losses = np.log(np.exp(logits - top).sum(1)) + top[:, 0] - logits[np.arange(len(x)), labels]
    return (weights * losses).sum() / weights.sum() + strength / 2 * (weight**2).sum()


def compare(features, labels, classes, weights, strength):
    """Both objectives, and both predictions for all images, also those left out."""
    used = weights > 0
    scaler = StandardScaler().fit(features[used].astype(np.float64))
    x, every = scaler.transform(features[used].astype(np.float64)), scaler.transform(features)
    theirs = by_scikit_learn(features, labels, classes, weights, strength)
    heads = ours(features, labels, classes, weights, strength)
    weight, bias = heads.weight[0].double().numpy(), heads.bias[0].double().numpy()
    mine = weight * scaler.scale_[:, None], bias + scaler.mean_ @ weight
    values = [
        value(x, labels[used], weights[used], *solution, strength) for solution in (mine, theirs)
    ]
    return values, logits_of(heads, features).argmax(1), (every @ theirs[0] + theirs[1]).argmax(1)


CASES = [(60, 8, 2), (60, 8, 4), (30, 50, 2), (40, 70, 4)]


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize(("count", "width", "classes"), CASES)
def test_the_optimum_is_that_of_scikit_learn(count, width, classes, strength):
    features, labels = clusters(count, width, classes)
    (mine, theirs), _, _ = compare(features, labels, classes, np.ones(count), strength)
    assert mine == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize(("count", "width", "classes"), CASES)
def test_the_predictions_are_those_of_scikit_learn(count, width, classes, strength):
    features, labels = clusters(count, width, classes, spread=3.0)
    weights = (np.arange(count) % 4 != 0).astype(float)
    _, mine, theirs = compare(features, labels, classes, weights, strength)
    assert (mine != theirs).mean() <= 0.02  # an image on the border may fall to either side


@pytest.mark.parametrize("classes", [2, 4])
def test_the_optimum_under_weights_is_that_of_scikit_learn(classes):
    features, labels = clusters(60, 8, classes)
    weights = np.random.default_rng(1).choice([0, 0.5, 1, 3], 60)
    (mine, theirs), _, _ = compare(features, labels, classes, weights, 0.05)
    assert mine == pytest.approx(theirs, rel=1e-4)


def test_variances_are_drawn_to_the_mean_of_their_block():
    features, labels = clusters(30, 6, 3)
    weights = (np.arange(30) % 5 != 0).astype(float)
    used = features[weights > 0].astype(np.float64)
    blocks = [used.var(0)[:2].mean()] * 2 + [used.var(0)[2:].mean()] * 4
    scale = np.sqrt((24 * used.var(0) + 20 * np.array(blocks)) / 44)
    solver = LogisticSolver(torch.from_numpy(features), 3, [2, 4])
    used_only = torch.tensor(weights[None], dtype=torch.float32)
    heads = solver.solve(torch.from_numpy(labels), used_only, torch.tensor([0.05]))
    x, kept = (used - used.mean(0)) / scale, labels[weights > 0]
    theirs = LogisticRegression(C=1 / (0.05 * 24), tol=1e-10, max_iter=5000).fit(x, kept)
    weight = heads.weight[0].double().numpy()
    mine = weight * scale[:, None], heads.bias[0].double().numpy() + used.mean(0) @ weight
    ones = np.ones(24)
    assert value(x, kept, ones, *mine, 0.05) == pytest.approx(
        value(x, kept, ones, theirs.coef_.T, theirs.intercept_, 0.05), rel=1e-4
    )


def test_images_left_out_change_nothing():
    features, labels = clusters(40, 6, 3)
    weights = np.array([1.0] * 30 + [0.0] * 10)
    other = features.copy()
    other[30:] = np.random.default_rng(9).standard_normal((10, 6)) * 40 - 10
    relabeled = labels.copy()
    relabeled[30:] = (relabeled[30:] + 1) % 3
    first = ours(features, labels, 3, weights, 0.1)
    second = ours(other, relabeled, 3, weights, 0.1)
    np.testing.assert_allclose(
        logits_of(first, features), logits_of(second, features), rtol=1e-3, atol=2e-3
    )


def test_images_left_out_may_have_no_label():
    features, labels = clusters(40, 6, 3)
    weights = np.array([1.0] * 30 + [0.0] * 10)
    first = ours(features, labels, 3, weights, 0.1)
    second = ours(features, np.where(weights > 0, labels, -1), 3, weights, 0.1)
    assert torch.equal(first.weight, second.weight)


def test_many_problems_are_solved_as_each_by_itself(monkeypatch):
    features, labels = clusters(50, 12, 3, spread=3.0)
    rng = np.random.default_rng(2)
    weights = (rng.random((9, 50)) < 0.7).astype(float)
    strengths = np.logspace(-3, 1, 9)
    monkeypatch.setattr(logistic, "LARGEST_LOGITS", 4 * 50 * 3)  # four problems at a time
    together = ours(features, labels, 3, weights, strengths)
    for problem in range(9):
        alone = ours(features, labels, 3, weights[problem], strengths[problem])
        np.testing.assert_allclose(
            logits_of(together, features, problem), logits_of(alone, features), rtol=0.01, atol=0.02
        )


def test_a_path_has_the_solution_of_every_strength_by_itself():
    features, labels = clusters(50, 12, 3, spread=3.0)
    weights = np.stack([np.arange(50) % 3 != fold for fold in range(3)]).astype(np.float32)
    solver = LogisticSolver(torch.from_numpy(features), 3)
    strengths = [1.0, 0.05, 0.3]
    path = solver.path(
        torch.from_numpy(labels), torch.from_numpy(weights), strengths, tolerance=1e-9
    )
    for strength, heads in zip(strengths, path, strict=True):
        alone = ours(features, labels, 3, weights, [strength] * 3)
        for fold in range(3):
            np.testing.assert_allclose(
                logits_of(heads, features, fold), logits_of(alone, features, fold), atol=5e-3
            )


def test_rows_that_are_looked_at_are_as_if_there_were_no_others():
    features, labels = clusters(60, 8, 3)
    rows = np.r_[5:20, 30:55]
    solver = LogisticSolver(torch.from_numpy(features), 3)
    some = solver.solve(
        torch.from_numpy(labels[rows]),
        torch.ones(1, len(rows)),
        torch.tensor([0.1]),
        rows=torch.from_numpy(rows),
        tolerance=1e-9,
    )
    alone = ours(features[rows], labels[rows], 3, np.ones(len(rows)), 0.1)
    np.testing.assert_allclose(logits_of(some, features), logits_of(alone, features), atol=2e-3)


def test_a_class_without_an_image_is_never_chosen():
    features, labels = clusters(40, 6, 3)
    heads = ours(features, labels, 3, (labels != 1).astype(float), 0.01)
    assert 1 not in logits_of(heads, features * 2).argmax(1)


def test_a_class_without_an_image_changes_nothing_for_the_others():
    features, labels = clusters(40, 6, 3)
    present = labels != 1
    heads = ours(features, labels, 3, present.astype(float), 0.01)
    without = ours(features, np.where(labels == 2, 1, 0), 2, present.astype(float), 0.01)
    np.testing.assert_allclose(
        logits_of(heads, features)[:, [0, 2]] @ [-1, 1],
        logits_of(without, features) @ [-1, 1],
        rtol=1e-3,
        atol=1e-3,
    )


def test_one_class_alone_is_always_chosen():
    features, labels = clusters(20, 4, 3)
    heads = ours(features, labels, 3, (labels == 2).astype(float), 0.1)
    assert set(logits_of(heads, features).argmax(1)) == {2}


@pytest.mark.parametrize("constant", [0.0, 1.0, -123.456])
def test_a_constant_feature_gets_no_weight(constant):
    features, labels = clusters(40, 6, 3)
    features[:, 2] = constant
    assert not ours(features, labels, 3, np.ones(40), 0.01).weight[0, 2].any()


@pytest.mark.parametrize("far", [0.3, 30.0])
@pytest.mark.parametrize("count", [7, 37, 301])
def test_a_feature_that_varies_only_among_images_left_out_gets_no_weight(count, far):
    features, labels = clusters(count + 50, 6, 3)
    weights = np.array([1.0] * count + [0.0] * 50)
    features[:count, 2] = far / 7
    features[count:, 2] = np.random.default_rng(0).standard_normal(50)
    assert not ours(features, labels, 3, weights, 0.01).weight[0, 2].any()


def test_features_may_differ_in_scale():
    features, labels = clusters(60, 8, 3)
    scaled = features * np.logspace(-4, 4, 8, dtype=np.float32)
    first = ours(features, labels, 3, np.ones(60), 0.05)
    second = ours(scaled, labels, 3, np.ones(60), 0.05)
    np.testing.assert_allclose(
        logits_of(first, features), logits_of(second, scaled), rtol=1e-3, atol=1e-3
    )


def test_a_stronger_penalty_makes_smaller_weights():
    features, labels = clusters(50, 8, 3)
    heads = ours(features, labels, 3, np.ones((4, 50)), np.logspace(-3, 1, 4))
    norms = heads.weight.square().sum((1, 2))
    assert (norms.diff() < 0).all()


def test_separable_classes_are_solved():
    features, labels = clusters(40, 60, 4, spread=0.1)
    heads = ours(features, labels, 4, np.ones(40), 1e-4)
    assert (logits_of(heads, features).argmax(1) == labels).all()
