from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelwise.nn.language import parse_layers
from labelwise.nn.width import scaled
from labelwise.recipe.cnn import PRESETS, Cnn
from labelwise.recipe.mlp import Mlp

TEXTS = [preset["layers"] for preset in PRESETS.values()]
TEXTS += ["whiten 2, conv24 2x2 same identity, batch norm 0.9, gelu, dense64, dropout 0.5"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_factor_of_one_leaves_the_text_as_it_is(text):
    assert scaled(text, 1.0) == text


@given(st.sampled_from(TEXTS), st.floats(0.05, 8))
def test_everything_but_widths_stays(text, factor):
    before, after = parse_layers(text), parse_layers(scaled(text, factor))
    for old, new in zip(before, after, strict=True):
        assert {**vars(old), "width": 0, "text": ""} == {**vars(new), "width": 0, "text": ""}


@given(st.sampled_from(TEXTS), st.floats(0.05, 8).filter(lambda factor: factor != 1))
def test_widths_are_the_nearest_multiples_of_sixteen_but_none_is_zero(text, factor):
    for old, new in zip(parse_layers(text), parse_layers(scaled(text, factor)), strict=True):
        if old.kind in ("conv", "dense"):
            assert new.width % 16 == 0
            assert new.width >= 16
            assert abs(new.width - old.width * factor) <= 8 or new.width == 16
        else:
            assert new.width == old.width


def test_a_text_without_widths_is_not_changed():
    text = "whiten 2, max 2 stride 1 same, 3 x [gelu, dropout 0.25], gap"
    assert scaled(text, 0.5) == text


def test_kernels_and_repetitions_keep_their_numbers():
    text = scaled("16 x [conv16 16x16 stride 16 pad 16 relu]", 2)
    assert re.findall(r"\d+", text) == ["16", "32", "16", "16", "16", "16"]


@pytest.mark.parametrize("recipe", [Cnn(), Mlp()])
def test_the_width_of_a_recipe_is_that_of_its_layers(recipe):
    twice = type(recipe)(width=2.0)
    widths = [layer.width for layer in parse_layers(recipe.body)]
    assert [layer.width for layer in parse_layers(twice.body)] == [2 * width for width in widths]
