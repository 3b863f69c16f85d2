from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate, maximum_filter
from torch import nn

from labelwise.architecture import build
from labelwise.errors import LayerError
from labelwise.nn.language import ACTIVATIONS, parse_layers
from labelwise.nn.layers import Stack, initialize
from labelwise.nn.network import Network
from labelwise.recipe.cnn import PRESETS, Cnn
from labelwise.recipe.mlp import Mlp


def kinds(text):
    return [layer.kind for layer in parse_layers(text)]


def parameters(text, shape, classes):
    network = Network(Stack(text, shape), classes)
    return sum(weights.numel() for weights in network.parameters())


def maps_of(text, images):
    stack = Stack(text, tuple(images.shape[1:])).eval()
    with torch.inference_mode():
        return stack(images)[0][0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "conv64 3x3 stride 2 same relu",
            {
                "kind": "conv",
                "width": 64,
                "kernel": (3, 3),
                "stride": 2,
                "padding": "same",
                "activation": "relu",
            },
        ),
        ("conv16 2x5", {"kind": "conv", "width": 16, "kernel": (2, 5), "padding": "valid"}),
        ("conv 16 3x3 pad 1", {"kind": "conv", "width": 16, "stride": 1, "padding": 1}),
        ("max 2", {"kind": "max", "kernel": (2, 2), "stride": 2, "padding": "valid"}),
        ("max 2 stride 1 same", {"kernel": (2, 2), "stride": 1, "padding": "same"}),
        ("avg 3", {"kind": "avg", "kernel": (3, 3), "stride": 3}),
        ("batch norm 0.9", {"kind": "batch norm", "rate": 0.9}),
        ("batch norm", {"kind": "batch norm", "rate": 0.99}),
        ("gap", {"kind": "gap"}),
        ("dense 32 relu", {"kind": "dense", "width": 32, "activation": "relu"}),
        ("dense32", {"kind": "dense", "width": 32, "activation": "linear"}),
        ("dropout 0.3", {"kind": "dropout", "rate": 0.3}),
        ("unit", {"kind": "unit"}),
        ("gelu", {"kind": "activation", "activation": "gelu"}),
    ],
)
def test_a_layer_is_read(text, words):
    (layer,) = parse_layers(text)
    assert {name: getattr(layer, name) for name in words} == words


def test_layers_stand_between_commas():
    assert kinds("conv16 3x3 relu, max 2 ,dense 32") == ["conv", "max", "dense"]


def test_a_repetition_is_unrolled():
    assert kinds("2 x [conv8 3x3, relu], 3x[max 2], gap") == [
        *["conv", "activation"] * 2,
        *["max"] * 3,
        "gap",
    ]


def test_repetitions_nest():
    assert kinds("2 x [relu, 2 x [tanh, unit]]") == ["activation", *["activation", "unit"] * 2] * 2


@pytest.mark.parametrize("name", PRESETS)
def test_the_layers_of_every_preset_are_read(name):
    assert parse_layers(PRESETS[name]["layers"])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("conv16 3x3, blur 3", "'blur 3'.*'blur' is not a layer"),
        ("conv16 3x3 fast", "'conv16 3x3 fast'.*'fast'"),
        ("conv16", "'conv16'.*kernel"),
        ("conv16 3", "'conv16 3'.*kernel"),
        ("conv16 0x3", "'conv16 0x3'.*kernel"),
        ("conv16 00x3", "'conv16 00x3'.*kernel"),
        ("conv 3x3", "'conv 3x3'.*give a width.*'3x3'"),
        ("conv0 3x3", "'conv0 3x3'.*'0'"),
        ("max", "'max'.*size"),
        ("max 2 relu", "'max 2 relu'.*'relu'"),
        ("max 2 pad 1", "'max 2 pad 1'.*'pad'"),
        ("max 2 stride", "'max 2 stride'.*behind 'stride'"),
        ("max 2 stride 0", "'max 2 stride 0'.*'0'"),
        ("dense 5 same", "'dense 5 same'.*'same'"),
        ("dense -5", "'dense -5'.*'-5'"),
        ("dense 99999", "'dense 99999'.*'99999'"),
        ("dropout", "'dropout'.*one number"),
        ("dropout 1", "'dropout 1'.*one number"),
        ("dropout nan", "'dropout nan'.*one number"),
        ("batch norm 0.9 0.8", "'batch norm 0.9 0.8'.*one number"),
        ("batch", "'batch'.*batch norm"),
        ("relu relu", "'relu relu'.*'relu' means nothing"),
        ("gap 3", "'gap 3'.*'3' means nothing"),
        ("conv16 3x3,, relu", "empty layer"),
        ("", "empty layer"),
        ("4 x [relu", "brackets"),
        ("x [relu]", "brackets"),
        ("0 x [relu]", "'0 x .relu.'.*1 to 100"),
        ("101 x [relu]", "1 to 100"),
        ("100 x [100 x [100 x [100 x [relu]]]]", "too long"),
        (f"dense {'9' * 5000}", "'dense 999"),
        (f"{'9' * 5000} x [relu]", "1 to 100"),
        (f"conv16 {'9' * 5000}x3", "kernel"),
    ],
)
def test_an_unreadable_layer_is_refused_by_name(text, named):
    with pytest.raises(LayerError, match=named):
        parse_layers(text)


WORDS = ["conv16", "3x3", "max", "2", "same", "stride", "relu", ",", "4 x [", "]", "batch", "norm"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=10))
def test_any_text_is_read_or_refused(words):
    with contextlib.suppress(LayerError):
        assert parse_layers(" ".join(words))


@pytest.mark.parametrize(
    ("text", "shape", "named"),
    [
        ("conv8 3x3, max 2, conv8 5x5", (1, 9, 9), "layer 3 'conv8 5x5' gets maps of 3x3"),
        ("4 x [conv8 3x3, max 2]", (3, 32, 32), "layer 7 'conv8 3x3' gets maps of 2x2"),
        ("max 2", (1, 1, 8), "layer 1 'max 2' gets maps of 1x8"),
        ("gap, conv8 3x3", (1, 9, 9), "layer 2 'conv8 3x3' needs maps"),
        ("dense 5, max 2", (1, 9, 9), "layer 2 'max 2' needs maps"),
        ("dense 5, gap", (1, 9, 9), "layer 2 'gap' needs maps"),
    ],
)
def test_layers_that_do_not_fit_are_refused_by_name(text, shape, named):
    with pytest.raises(LayerError, match=named):
        Stack(text, shape)


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(["conv5 {0}x{1}", "max {0}", "avg {0}"]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 4),
    padding=st.sampled_from(["same", "valid"]),
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
)
def test_sizes_are_those_of_tensorflow(kind, kernel, stride, padding, size):
    if "{1}" not in kind:
        kernel = (kernel[0], kernel[0])
    text = f"{kind.format(*kernel)} stride {stride} {padding}"
    maps = maps_of(text, torch.zeros(1, 2, *size))
    if padding == "same":
        sizes = [math.ceil(n / stride) for n in size]
    else:
        sizes = [math.ceil((n - k + 1) / stride) for n, k in zip(size, kernel, strict=True)]
    assert list(maps.shape[2:]) == sizes


def window_starts(size, kernel, stride):
    """Where TensorFlow's windows begin with padding `same`: the odd pixel is padded at the end."""
    out = -(-size // stride)
    before = max((out - 1) * stride + kernel - size, 0) // 2
    return [step * stride - before for step in range(out)]


def slow_same(image, kernel, stride, function):
    """`function` of the pixels inside every window of one (H, W) map."""
    rows = window_starts(image.shape[0], kernel, stride)
    columns = window_starts(image.shape[1], kernel, stride)
    return np.array(
        [
            [function(image[max(r, 0) : r + kernel, max(c, 0) : c + kernel]) for c in columns]
            for r in rows
        ]
    )


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(5, 2, 1), (6, 2, 1), (6, 3, 2), (7, 4, 2), (5, 1, 3)]
)
@pytest.mark.parametrize(("kind", "function"), [("max", np.max), ("avg", np.mean)])
def test_padding_has_no_part_in_a_pool(kind, function, size, kernel, stride):
    image = -1 - np.random.default_rng(0).random((size, size), dtype=np.float32)
    maps = maps_of(f"{kind} {kernel} stride {stride} same", torch.from_numpy(image)[None, None])
    np.testing.assert_allclose(
        maps[0, 0].numpy(), slow_same(image, kernel, stride, function), rtol=1e-5
    )


@pytest.mark.parametrize(("kernel", "stride"), [((3, 3), 1), ((2, 2), 2), ((4, 3), 2), ((2, 5), 1)])
def test_a_same_convolution_is_that_of_scipy(kernel, stride):
    rng = np.random.default_rng(1)
    image = rng.random((8, 8), dtype=np.float32)
    text = f"conv1 {kernel[0]}x{kernel[1]} stride {stride} same"
    stack = Stack(text, (1, 8, 8))
    weight = next(module for module in stack.modules() if isinstance(module, nn.Conv2d)).weight
    nn.init.zeros_(next(m for m in stack.modules() if isinstance(m, nn.Conv2d)).bias)
    padded = np.pad(image, 10)
    # scipy centers an even window one later than its begin + size / 2.
    full = correlate(padded, weight.detach().numpy()[0, 0], mode="constant")
    rows, columns = ([10 + start + k // 2 for start in window_starts(8, k, stride)] for k in kernel)
    with torch.no_grad():
        maps = stack(torch.from_numpy(image)[None, None])[0][0]
    np.testing.assert_allclose(
        maps[0, 0].numpy(), full[np.ix_(rows, columns)], rtol=1e-4, atol=1e-6
    )


def test_a_pool_over_three_by_three_is_that_of_scipy():
    image = np.random.default_rng(2).standard_normal((7, 9)).astype(np.float32)
    maps = maps_of("max 3 stride 1 same", torch.from_numpy(image)[None, None])
    assert np.array_equal(maps[0, 0].numpy(), maximum_filter(image, 3, mode="constant", cval=-99))


def test_a_given_padding_is_on_all_sides():
    assert maps_of("conv4 3x3 pad 2", torch.zeros(1, 1, 6, 7)).shape == (1, 4, 8, 9)


@pytest.mark.parametrize(
    ("recipe", "shape", "classes", "count"),
    [
        (Cnn(preset="digits"), (1, 28, 28), 10, 160 + (13 * 13 * 16 * 32 + 32) + 330),
        (Mlp(preset="dense10"), (1, 28, 28), 10, 7850 + 110),
        (Mlp(preset="first-mlp"), (1, 28, 28), 10, 25_120 + 528 + 170),
        (Mlp(preset="first-mlp-color"), (3, 32, 32), 10, 3073 * 32 + 528 + 170),
        (
            Cnn(preset="first-cnn"),  # 32x32 -> 16 -> 16 -> 8 -> 8, 16 channels
            (3, 32, 32),
            10,
            (3 * 4 * 32 + 32) + (32 * 4 * 16 + 16) + (8 * 8 * 16 * 16 + 16) + 170,
        ),
        (
            Cnn(preset="mammals-stride"),  # 32 -> 16 -> 8 -> 4 -> 2
            (3, 32, 32),
            15,
            (27 * 64 + 64) + 3 * (576 * 64 + 64) + 4 * 128 + (2 * 2 * 64 * 15 + 15),
        ),
        (
            Cnn(preset="mammals-pool"),
            (3, 32, 32),
            3,
            (27 * 128 + 128) + 3 * (1152 * 128 + 128) + 4 * 256 + (2 * 2 * 128 * 3 + 3),
        ),
        (
            Cnn(preset="stl5"),  # 32 - 5 * 2 = 22
            (3, 32, 32),
            10,
            (27 * 32 + 32) + 4 * (288 * 32 + 32) + (22 * 22 * 32 * 10 + 10),
        ),
        (
            Cnn(preset="embedding"),  # 28 -> 26 -> 24 -> 12 -> 10 -> 8
            (1, 28, 28),
            5,
            320 + 9248 + 18_496 + 36_928 + (8 * 8 * 64 * 64 + 64) + 325,
        ),
    ],
    ids=lambda value: getattr(value, "preset", None),
)
def test_a_preset_has_the_parameters_counted_by_hand(recipe, shape, classes, count):
    assert parameters(recipe.body, shape, classes) == count


def test_weights_fill_the_range_of_glorot_uniform():
    stack = Stack("conv16 3x3, dense 32", (3, 10, 10))
    initialize(stack, torch.Generator().manual_seed(0))
    conv, dense = (m for m in stack.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    for weight, fan_in, fan_out in [
        (conv.weight, 27, 9 * 16),
        (dense.weight, 16 * 8 * 8, 32),
    ]:
        limit = math.sqrt(6 / (fan_in + fan_out))
        assert 0.97 * limit < float(weight.detach().abs().max()) <= limit


def test_biases_begin_at_zero():
    network = Network(Stack("conv16 3x3, dense 32", (3, 10, 10)), 4)
    initialize(network, torch.Generator().manual_seed(0))
    biases = [m.bias for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(biases) == 3
    assert not any(bias.any() for bias in biases)


def test_initial_weights_depend_on_the_generator_alone():
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        stack = Stack("dense 5", (1, 3, 3))
        initialize(stack, torch.Generator().manual_seed(7))
        weights.append(stack.vector[1].weight)
    assert torch.equal(*weights)


def test_a_batch_norm_is_that_of_keras():
    (norm,) = Stack("batch norm", (4, 3, 3)).spatial
    assert (norm.eps, round(norm.momentum, 9)) == (1e-3, 0.01)


def test_a_unit_embedding_has_length_one():
    embedding = Stack("dense 7, unit", (1, 4, 4))(torch.randn(5, 1, 4, 4))[1]
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize(
    ("text", "maps", "width"),
    [
        ("dense 9", [], 9),
        ("conv5 3x3", [(2, 5, 6, 4)], 5 * 6 * 4),
        ("conv5 3x3, gap", [(2, 5, 6, 4)], 5),
        ("conv5 3x3, gap, dense 3, tanh", [(2, 5, 6, 4)], 3),
        ("conv5 3x3, unit", [(2, 5, 6, 4)], 5 * 6 * 4),
        ("max 2, batch norm, dropout 0.5", [(2, 3, 4, 3)], 3 * 4 * 3),
    ],
)
def test_a_stack_gives_its_last_maps_and_an_embedding(text, maps, width):
    stack = Stack(text, (3, 8, 6)).eval()
    found, embedding = stack(torch.zeros(2, 3, 8, 6))
    assert [tuple(item.shape) for item in found] == maps
    assert (embedding.shape, stack.width) == ((2, width), width)


def test_the_mean_over_height_and_width_keeps_the_channels_in_order():
    images = torch.arange(3.0)[None, :, None, None].expand(1, 3, 4, 4)
    assert Stack("gap", (3, 4, 4))(images)[1].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_by_itself_does_what_it_does_behind_a_layer(name):
    torch.manual_seed(0)
    together, apart = Stack(f"dense 4 {name}", (1, 3, 3)), Stack(f"dense 4, {name}", (1, 3, 3))
    apart.load_state_dict(together.state_dict())
    images = torch.randn(6, 1, 3, 3)
    assert torch.equal(together(images)[1], apart(images)[1])


def test_a_stack_takes_no_image_at_all():
    text = "conv4 3x3 same, avg 2 stride 1 same, max 2 stride 1 same, batch norm, gap, unit"
    assert Stack(text, (3, 8, 8)).eval()(torch.zeros(0, 3, 8, 8))[1].shape == (0, 4)


def test_layers_come_back_from_their_text():
    torch.manual_seed(0)
    body = "2 x [conv4 3x3 same relu, max 2], batch norm, dense 5 tanh"
    first = Network(Stack(body, (1, 8, 8)), 3, mean=[0.5], std=[0.2]).eval()
    architecture = {"kind": "layers", "layers": first.body.text, "mean": [0.5], "std": [0.2]}
    second = build(architecture, 3, (1, 8, 8)).eval()
    second.load_state_dict(first.state_dict())
    pixels = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(first(pixels)[2], second(pixels)[2])


def test_pixels_are_normalized_by_channel():
    network = Network(Stack("gap", (2, 1, 1)), None, mean=[0.0, 0.5], std=[1.0, 0.25])
    pixels = torch.tensor([255, 255], dtype=torch.uint8).view(1, 2, 1, 1)
    assert network(pixels)[1].tolist() == [[1.0, 2.0]]


def test_a_network_without_a_head_has_no_logits():
    assert Network(Stack("gap", (1, 2, 2)), None)(torch.zeros(1, 1, 2, 2))[2] is None


def test_a_whitening_layer_has_both_signs_of_every_patch_and_does_not_learn():
    body = Stack("whiten 2, relu", (3, 9, 9))
    first = body.spatial[0]
    assert first.weight.shape == (2 * 3 * 4, 3, 2, 2)
    assert not first.weight.requires_grad
    assert body(torch.zeros(1, 3, 9, 9))[0][0].shape == (1, 24, 8, 8)


@pytest.mark.parametrize("text", ["whiten", "whiten 0", "whiten 2 same", "gap, whiten 2"])
def test_a_whitening_layer_that_cannot_be_read_is_refused(text):
    with pytest.raises(LayerError):
        Stack(text, (3, 9, 9))


def test_views_are_averaged_in_inference_only():
    network = Network(Stack("conv4 3x3 relu", (1, 6, 6)), 3, views="mirror")
    plain = Network(network.body, 3)
    plain.head = network.head
    pixels = torch.randint(0, 256, (5, 1, 6, 6), dtype=torch.uint8)
    with torch.no_grad():
        expected = (plain(pixels)[2] + plain(pixels.flip(3))[2]) / 2
        assert torch.allclose(network.eval()(pixels)[2], expected, atol=1e-6)
        assert torch.equal(network.train()(pixels)[2], plain(pixels)[2])


def test_a_convolution_can_begin_as_the_identity():
    body = Stack("conv5 3x3 same identity", (3, 8, 8))
    initialize(body, torch.Generator().manual_seed(0))
    images = torch.rand(2, 3, 8, 8)
    assert torch.allclose(body(images)[0][0][:, :3], images)
    with pytest.raises(LayerError, match="2 filters for 3 channels"):
        Stack("conv2 3x3 same identity", (3, 8, 8))
