from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from labelwise.errors import LayerError
from labelwise.nn.decoder import Decoder, mirrored
from labelwise.nn.language import parse_layers
from labelwise.nn.layers import Stack, build_layer
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.decoding import PRESETS


def decoder_of(text, shape):
    encoder = Stack(text, shape)
    return encoder, Decoder(mirrored(encoder), encoder.shapes[-1], shape)


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "code"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 33, 30)])
def test_the_mirrored_decoder_of_every_preset_ends_in_images(preset, shape):
    encoder, decoder = decoder_of(Cnn(preset=preset).body, shape)
    images = decoder(torch.randn(2, encoder.width)).detach()
    assert images.shape == (2, *shape)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1


LAYERS = st.one_of(
    st.builds(
        "conv{} {}x{} stride {} {}".format,
        st.integers(1, 5),
        st.integers(1, 4),
        st.integers(1, 4),
        st.integers(1, 3),
        st.sampled_from(["same", "valid", "pad 1", "valid relu"]),
    ),
    st.builds(
        "{} {} stride {} {}".format,
        st.sampled_from(["max", "avg"]),
        st.integers(1, 3),
        st.integers(1, 3),
        st.sampled_from(["same", "valid"]),
    ),
    st.sampled_from(["batch norm", "relu", "silu", "dropout 0.1"]),
)
ENDS = st.sampled_from([[], ["gap"], ["unit"], ["dense 7 relu"], ["gap", "dense 5", "unit"]])


@settings(max_examples=60, deadline=None)
@given(st.lists(LAYERS, max_size=4), ENDS, st.integers(9, 20), st.integers(9, 20))
def test_a_mirrored_decoder_fits_any_encoder(layers, end, height, width):
    text = ", ".join([*layers, *end]) or "relu"
    try:
        encoder = Stack(text, (2, height, width))
    except LayerError:
        return
    decoder = Decoder(mirrored(encoder), encoder.shapes[-1], (2, height, width))
    assert decoder.eval()(torch.randn(1, encoder.width)).shape == (1, 2, height, width)


@pytest.mark.parametrize(
    "conv", ["conv3 3x3 stride 2 same", "conv3 2x5", "conv3 4x4 stride 3 pad 2", "conv3 4x3 same"]
)
def test_a_transposed_convolution_is_the_transpose_of_its_convolution(conv):
    """<conv(x), y> = <x, deconv(y)> with the same filters."""
    (layer,) = parse_layers(conv)
    modules, after = build_layer(layer, (2, 11, 10), "here")
    convolution = nn.Sequential(*modules).double()
    decoder = Decoder(mirrored(Stack(conv, (2, 11, 10))), after, (2, 11, 10)).double()
    with torch.no_grad():
        decoder.layers[0].weight.copy_(modules[-1].weight)
        decoder.layers[0].bias.zero_()
        modules[-1].bias.zero_()
        x = torch.randn(1, 2, 11, 10, dtype=torch.float64)
        y = torch.randn(1, *after, dtype=torch.float64)
        left, right = (convolution(x) * y).sum(), (x * decoder.layers(y)).sum()
    assert float(left) == pytest.approx(float(right))


def test_the_decoder_of_the_course_has_its_shapes_and_parameters():
    values = PRESETS["stl5"]
    encoder = Stack(values["layers"], (3, 32, 32))
    assert encoder.shapes[-1] == (32, 11, 11)
    decoder = Decoder(values["decoder"], encoder.shapes[-1], (3, 32, 32))
    sizes = [(32, 32, 3), (32, 16, 5), (16, 16, 5), (16, 8, 6), (8, 3, 7)]
    expected = sum(before * after * k * k + after for before, after, k in sizes)
    assert sum(weights.numel() for weights in decoder.parameters()) == expected


def test_nearest_neighbors_repeat_pixels():
    decoder = Decoder("up 2", (1, 2, 2), (1, 4, 4))
    maps = decoder.layers(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    assert maps[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deconv1 3x3", "makes images of 1x6x6, where 1x8x8"),
        ("deconv1 3x3 to 9x9", "layer 1 'deconv1 3x3 to 9x9' of the decoder makes 6x6 pixels"),
        ("dense 8, deconv1 3x3", "needs maps; put a layer such as maps 32x7x7"),
        ("dense 8, maps 3x3x3", "gets 8 values and needs 27"),
        ("max 2", "belongs to an encoder"),
        ("up 2 relu", "'relu' means nothing behind up"),
        ("up big", "give a factor or a size.*'big'"),
        ("maps 3", "give 32x7x7 or the like"),
        ("deconv4", "give the kernel behind the width"),
        ("deconv4 3x3 same", "'same' means nothing for a deconv layer"),
        ("up 60000", "makes the network too large"),
        ("deconv9 9999x9999 to 8x8", "makes the network too large"),
    ],
)
def test_a_decoder_that_does_not_fit_is_refused_by_name(text, message):
    with pytest.raises(LayerError, match=message):
        Decoder(text, (2, 4, 4), (1, 8, 8))


@pytest.mark.parametrize("text", ["deconv4 3x3", "up 2", "maps 1x2x2"])
def test_layers_of_a_decoder_are_no_encoder(text):
    with pytest.raises(LayerError, match="belongs to a decoder"):
        Stack(text, (1, 4, 4))
