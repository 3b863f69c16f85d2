from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from labelwise.nn.augment import parse_augmentation
from labelwise.nn.explicit import ExplicitNetwork, explicit_plan
from labelwise.nn.layers import Stack, initialize
from labelwise.nn.network import Network
from labelwise.nn.supervised import Examples, Supervised
from labelwise.nn.train import Schedule, train

relus = st.sampled_from(["", "relu"])
DIGITS = "conv5 3x3 relu, max 2, dense 6 relu"


def network_of(text, shape=(1, 8, 8), classes=3, **scaling):
    network = Network(Stack(text, shape), classes, **scaling)
    initialize(network, torch.Generator().manual_seed(0))
    return network


def explicit_of(network):
    plan = explicit_plan(network, 8)
    assert plan is not None
    return ExplicitNetwork(plan)


def autograd(network, pixels, target, smoothing=0.0, weights=None):
    """Logits, and gradients by the parameters' names."""
    logits = network(pixels)[2]
    losses = functional.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
    network.zero_grad()
    (losses if weights is None else losses * weights).mean().backward()
    return logits, {name: value.grad for name, value in network.named_parameters()}


def explicit(network, pixels, target, smoothing=0.0, weights=None):
    passes = explicit_of(network)
    with torch.inference_mode():
        logits = passes.forward(pixels)
        passes.backward(target, smoothing, weights)
    return logits.clone(), {name: value.grad for name, value in network.named_parameters()}


@st.composite
def stacks(draw):
    """Layers that explicit gradients know."""
    layers = []
    if draw(st.booleans()):
        kernel = f"{draw(st.integers(1, 3))}x{draw(st.integers(1, 3))}"
        words = draw(st.sampled_from(["", "same", "pad 1", "stride 2", "stride 2 same"]))
        layers += [f"conv{draw(st.integers(1, 4))} {kernel} {words} {draw(relus)}"]
        pools = ["", "max 1", "max 2", "max 3", "max 2 stride 1"]
        layers += [draw(st.sampled_from(pools)), *draw(st.sampled_from([[], ["relu"]]))]
    layers += draw(st.sampled_from([[], ["gap"], ["gap", "relu"]]))
    layers += [f"dense {width} {draw(relus)}" for width in draw(st.lists(st.integers(1, 5)))[:3]]
    return ", ".join(layer.strip() for layer in layers if layer) or "relu"


@settings(deadline=None, max_examples=150)
@given(
    stacks(), st.sampled_from([(1, 1), (3, 3), (1, 3)]), st.integers(1, 5), st.booleans(), st.data()
)
def test_gradients_are_those_of_autograd(text, channels, count, last, data):
    """Every sum is exact and many values are equal: at maxima, and where ReLU bends."""
    seen, wanted = channels
    network = network_of(text, (wanted, 8, 7), mean=[0.5] * wanted, std=[0.5] * wanted)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(torch.randint(-4, 5, value.shape, generator=generator) / 8)
    if last:
        network = network.to(memory_format=torch.channels_last)
    pixels = torch.randint(0, 2, (count, seen, 8, 7), generator=generator).byte() * 255
    labels = torch.randint(0, 3, (count,), generator=generator)
    expected, slopes = autograd(network, pixels, labels)
    found, explicit_slopes = explicit(network, pixels, labels)
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-5)
    for name, slope in slopes.items():
        torch.testing.assert_close(explicit_slopes[name], slope, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_every_kind_of_cross_entropy_has_the_gradients_of_autograd(smoothing, weighted, mixed):
    torch.manual_seed(0)
    network = network_of(DIGITS)
    pixels = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    target = torch.rand(6, 3).softmax(1) if mixed else torch.randint(0, 3, (6,))
    weights = torch.rand(6) if weighted else None
    expected = autograd(network, pixels, target, smoothing, weights)[1]
    found = explicit(network, pixels, target, smoothing, weights)[1]
    for name, slope in expected.items():
        torch.testing.assert_close(found[name], slope, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    "text",
    [
        "dense 6 gelu",
        "dense 6, batch norm, relu",
        "dense 6 relu, dropout 0.1",
        "dense 6, unit",
        "conv4 3x3, batch norm, relu",
        "conv4 3x3 relu, avg 2",
        "conv4 3x3 relu, max 2 stride 1 same",
        "2 x [conv4 3x3 relu]",
        "max 2, conv4 3x3 relu",
        "whiten 2, dense 4",
    ],
)
def test_other_layers_are_left_to_autograd(text):
    assert explicit_plan(network_of(text), 8) is None


def test_frozen_weights_are_left_to_autograd():
    network = network_of(DIGITS)
    network.body.spatial[0].weight.requires_grad_(False)
    assert explicit_plan(network, 8) is None


@pytest.mark.parametrize(("batch", "known"), [(4, True), (64, False)])
def test_a_convolution_whose_patches_would_fill_the_memory_is_left_to_autograd(batch, known):
    network = network_of("conv32 3x3 relu, gap", shape=(3, 256, 256))
    assert (explicit_plan(network, batch) is not None) == known


def trained(explicitly, text, **changes):
    """Weights and losses after a training with a smaller last batch."""
    torch.manual_seed(0)
    examples = Examples(
        torch.randint(0, 256, (37, 1, 8, 8), dtype=torch.uint8),
        torch.randint(0, 3, (37,)),
        torch.rand(37) + 0.5,
    )
    network = network_of(text).to(memory_format=torch.channels_last)
    augment = parse_augmentation("flip, mixup 0.5")
    objective = Supervised(network, examples, examples, batch=8, smoothing=0.1, augment=augment)
    assert objective.explicit is not None
    if not explicitly:
        objective.explicit = None
    schedule = Schedule("sgd", 0.05, "cosine", 3, None)
    history, _ = train(
        network,
        objective,
        dataclasses.replace(schedule, **changes),
        generator=torch.Generator().manual_seed(1),
    )
    return network.state_dict(), history


@pytest.mark.parametrize("text", [DIGITS, "dense 7 relu, dense 5 relu", "conv4 3x3 same relu, gap"])
@pytest.mark.parametrize(
    "changes",
    [
        {"weight_decay": 0.1},
        {"optimizer": "nesterov", "momentum": 0.9},
        {"optimizer": "adam", "lr": 0.003, "average": 0.9},
        {"optimizer": "adamw", "lr": 0.003, "weight_decay": 0.1},
        {"optimizer": "muon", "lr": 0.003, "momentum": 0.9},
    ],
)
def test_a_training_ends_where_that_of_autograd_ends(text, changes):
    (found, history), (expected, expected_history) = (
        trained(explicitly, text, **changes) for explicitly in (True, False)
    )
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-4, msg=name)
    for record, other in zip(history, expected_history, strict=True):
        assert sum(record["train_confusion"]) == sum(other["train_confusion"])
        for loss in ("train_loss", "validation_loss"):
            assert record[loss] == pytest.approx(other[loss], rel=1e-4)


def test_the_history_is_of_the_logits_of_every_step_not_of_the_last():
    """The buffers of a step are the next step's: what a history keeps must be its own."""
    losses = [trained(explicitly, DIGITS, lr=0.5)[1][0]["train_loss"] for explicitly in (1, 0)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
