from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from labelwise.errors import OptionError
from labelwise.nn.layers import Stack, initialize
from labelwise.nn.muon import Muon, orthogonal
from labelwise.nn.network import Network
from labelwise.nn.optim import Average, make_optimizer, rate

LAYERS = "conv6 3x3, batch norm, relu, conv6 3x3 relu, gap, dense 8 relu"
REFERENCES = {
    "sgd": lambda groups: torch.optim.SGD(groups, 0.05, 0.8),
    "nesterov": lambda groups: torch.optim.SGD(groups, 0.05, 0.8, nesterov=True),
    "adam": lambda groups: torch.optim.Adam(groups, 0.05, eps=1e-7),
    "adamw": lambda groups: torch.optim.AdamW(groups, 0.05, eps=1e-7),
}


def network_of(layers=LAYERS, last=False):
    network = Network(Stack(layers, (3, 8, 8)), 4)
    initialize(network, torch.Generator().manual_seed(0))
    return network.to(memory_format=torch.channels_last) if last else network


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (32, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return pixels, (pixels.float().mean((2, 3)) @ torch.eye(3, 4)).argmax(1)


def steps(network, optimizer, count=5):
    """Train for some steps; the loss before every step."""
    pixels, labels = batch()
    losses = []
    for _ in range(count):
        loss = nn.functional.cross_entropy(network(pixels)[2], labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def same(network, other, **tolerances):
    for value, expected in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(value, expected, **tolerances)


def gradients(network, seed=0):
    torch.manual_seed(seed)
    for value in network.parameters():
        value.grad = torch.randn_like(value)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("last", [False, True])
def test_an_optimizer_steps_as_that_of_torch_with_decay_for_matrices_alone(name, last):
    network = network_of(last=last)
    other = copy.deepcopy(network)
    matrices = [value for value in other.parameters() if value.ndim > 1]
    vectors = [value for value in other.parameters() if value.ndim == 1]
    reference = REFERENCES[name]([{"params": matrices, "weight_decay": 0.1}, {"params": vectors}])
    for group in reference.param_groups[1:]:
        group["weight_decay"] = 0.0
    optimizer = make_optimizer(name, network, 0.05, 0.8, 0.1)
    for seed in range(4):
        for each, mover in ((network, optimizer), (other, reference)):
            gradients(each, seed)
            mover.step()
    same(network, other, atol=1e-5, rtol=1e-5)


def test_sgd_without_momentum_steps_as_that_of_torch():
    network, other = network_of("dense 4"), network_of("dense 4")
    ours = make_optimizer("sgd", network, 0.05, weight_decay=0.1)
    matrices = [value for value in other.parameters() if value.ndim > 1]
    vectors = [value for value in other.parameters() if value.ndim == 1]
    theirs = torch.optim.SGD([{"params": matrices, "weight_decay": 0.1}, {"params": vectors}], 0.05)
    for seed in range(3):
        for each, optimizer in ((network, ours), (other, theirs)):
            gradients(each, seed)
            optimizer.step()
    same(network, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", [*REFERENCES, "muon"])
def test_an_optimizer_learns(name):
    network = network_of()
    lr = 0.05 if name in ("sgd", "nesterov") else 0.01
    losses = steps(network, make_optimizer(name, network, lr, 0.9), 30)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", [*REFERENCES, "muon"])
def test_weight_decay_moves_no_bias_and_no_norm(name):
    network = network_of()
    before = copy.deepcopy(dict(network.named_parameters()))
    for value in network.parameters():
        value.grad = torch.zeros_like(value)
    make_optimizer(name, network, 0.1, 0.9, 0.5).step()
    for key, value in network.named_parameters():
        assert torch.equal(value, before[key]) == (value.ndim == 1), key


@pytest.mark.parametrize("name", [*REFERENCES, "muon"])
def test_frozen_weights_stay(name):
    network = network_of()
    frozen = next(network.parameters()).requires_grad_(False)
    before = frozen.clone()
    steps(network, make_optimizer(name, network, 0.1, 0.9, 0.5), 2)
    assert torch.equal(frozen, before)


@pytest.mark.parametrize("name", [*REFERENCES, "muon"])
def test_a_restored_optimizer_goes_on_as_if_nothing_had_been(name):
    network = network_of()
    optimizer = make_optimizer(name, network, 0.01, 0.9)
    steps(network, optimizer)
    other = copy.deepcopy(network)
    restored = make_optimizer(name, other, 0.01, 0.9)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert steps(network, optimizer) == steps(other, restored)


def test_an_unknown_optimizer_is_refused_with_the_known_ones():
    with pytest.raises(OptionError, match="no optimizer 'lion'.*sgd.*muon"):
        make_optimizer("lion", network_of(), 0.1)


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(OptionError, match="momentum=0: nesterov"):
        make_optimizer("nesterov", network_of(), 0.1)


@pytest.mark.parametrize("shape", [(16, 16), (8, 72), (72, 8), (1, 5)])
def test_an_orthogonal_matrix_has_the_directions_of_its_decomposition(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonal(matrix) @ v.T
    assert bool((inside.diagonal() > 0.3).all())
    assert bool((inside.diagonal() < 1.3).all())
    torch.testing.assert_close(inside, inside.diagonal().diag(), atol=1e-4, rtol=0)


def test_the_orthogonal_matrix_of_zeros_is_zero():
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


@pytest.mark.parametrize("shape", [(8, 40), (40, 8)])
def test_muon_steps_as_that_of_torch(shape):
    value = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    other = nn.Parameter(value.detach().clone())
    ours = Muon([{"params": [value], "orthogonal": True}], 0.05, 0.9, 0.1)
    theirs = torch.optim.Muon([other], 0.05, 0.1, 0.9, adjust_lr_fn="match_rms_adamw")
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        value.grad = torch.randn(shape, generator=generator)
        other.grad = value.grad.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(value, other, atol=4 * 0.05 * 0.02, rtol=0)  # theirs is bfloat16


@pytest.mark.parametrize("last", [False, True])
def test_filters_move_as_the_matrix_of_their_flattened_values(last):
    layout = torch.channels_last if last else torch.contiguous_format
    flat = torch.randn(6, 27, generator=torch.Generator().manual_seed(0))
    filters = nn.Parameter(flat.view(6, 3, 3, 3).contiguous(memory_format=layout))
    matrix = nn.Parameter(flat.clone())
    optimizer = Muon([{"params": [filters, matrix], "orthogonal": True}], 0.1)
    for seed in range(3):
        matrix.grad = torch.randn(6, 27, generator=torch.Generator().manual_seed(seed))
        filters.grad = matrix.grad.view(6, 3, 3, 3).contiguous(memory_format=layout)
        optimizer.step()
    torch.testing.assert_close(filters.flatten(1), matrix)


def test_what_muon_does_not_orthogonalize_moves_as_adamw():
    network = network_of("dense 8 relu")
    other = copy.deepcopy(network)
    ours = Muon([{"params": list(network.parameters())}], 0.05, weight_decay=0.1)
    theirs = torch.optim.AdamW(other.parameters(), 0.05, eps=1e-7, weight_decay=0.1)
    for seed in range(4):
        for each, mover in ((network, ours), (other, theirs)):
            gradients(each, seed)
            mover.step()
    same(network, other, atol=1e-5, rtol=1e-5)


def test_muon_orthogonalizes_hidden_matrices_and_leaves_the_head():
    network = network_of()
    groups = make_optimizer("muon", network, 0.1).param_groups
    hidden = {id(value) for group in groups if group["orthogonal"] for value in group["params"]}
    names = [key for key, value in network.named_parameters() if id(value) in hidden]
    assert names == [
        "body.spatial.0.weight",
        "body.spatial.3.weight",
        "body.vector.1.weight",
    ]


# Means over a training from a peak of 1, by integration.
MEANS = {"constant": 1.0, "linear": 0.5, "cosine": 0.5}


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("warmup", [0.0, 0.3])
def test_a_rate_has_the_mean_of_its_curve(name, warmup):
    rates = [rate(name, 2.0, (i + 0.5) / 10_000, warmup) for i in range(10_000)]
    expected = 2 * (warmup * (1 + 1 / 25) / 2 + (1 - warmup) * MEANS[name])
    assert math.isclose(np.mean(rates), expected, rel_tol=1e-6)


def test_the_mean_of_one_cycle_is_that_of_two_lines():
    rates = [rate("one-cycle", 1.0, (i + 0.5) / 10_000) for i in range(10_000)]
    assert math.isclose(np.mean(rates), 0.25 * 1.04 / 2 + 0.75 / 2, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("constant", 1, 1), ("linear", 1, 0), ("cosine", 1, 0), ("one-cycle", 0.04, 0)],
)
def test_a_rate_begins_and_ends_as_it_should(name, first, last):
    assert math.isclose(rate(name, 3.0, 0.0), 3 * first)
    assert math.isclose(rate(name, 3.0, 1.0), 3 * last, abs_tol=1e-12)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "one-cycle"])
def test_a_rate_reaches_its_peak_where_the_warmup_ends(name):
    assert math.isclose(rate(name, 3.0, 0.4, 0.4), 3.0)
    assert rate(name, 3.0, 0.39, 0.4) < 3.0


def test_an_unknown_rate_is_refused_with_the_known_ones():
    with pytest.raises(OptionError, match="'step'.*constant.*one-cycle"):
        rate("step", 0.1, 0.5)


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_warmup_that_is_no_share_is_refused(warmup):
    with pytest.raises(OptionError, match=f"warmup={warmup:g}"):
        rate("cosine", 0.1, 0.5, warmup)


def state_of(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def assert_state(network, expected):
    torch.testing.assert_close(dict(network.state_dict()), expected)


def test_an_average_is_that_of_the_naive_formula_for_parameters_and_buffers():
    network = network_of()
    average, expected = Average(network), state_of(network)
    optimizer = make_optimizer("sgd", network, 0.5)
    for _ in range(4):
        steps(network, optimizer, 1)
        average.update(0.7)
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                expected[key] = 0.7 * expected[key] + 0.3 * value
            else:
                expected[key] = value.clone()
    average.swap()
    assert_state(network, expected)


def test_a_second_swap_undoes_the_first():
    network = network_of()
    average = Average(network)
    optimizer = make_optimizer("sgd", network, 0.5)
    steps(network, optimizer)
    average.update(0.9)
    steps(network, optimizer)
    trained = state_of(network)
    average.swap()
    average.swap()
    assert_state(network, trained)


def test_looking_ahead_is_the_naive_formula():
    network = network_of()
    average, slow = Average(network), state_of(network)
    optimizer = make_optimizer("sgd", network, 0.5)
    for _ in range(3):
        steps(network, optimizer, 2)
        for key, value in network.state_dict().items():
            slow[key] = (slow[key] + value) / 2 if value.is_floating_point() else value.clone()
        average.update(0.5)
        average.pull()
        assert_state(network, slow)


def test_a_restored_average_is_the_saved_one():
    network = network_of()
    average = Average(network)
    steps(network, make_optimizer("sgd", network, 0.5))
    average.update(0.5)
    other = network_of()
    restored = Average(other)
    restored.load_state_dict(copy.deepcopy(average.state_dict()))
    average.pull()
    restored.pull()
    assert_state(other, state_of(network))
