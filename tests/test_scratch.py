"""Recipes from scratch: mirroring where it is safe, and what is left to a plan."""

from __future__ import annotations

import numpy as np
import pytest

from labelwise.data.blocks import as_block
from labelwise.data.memory import nameless_dataset
from labelwise.errors import OptionError
from labelwise.recipe.base import Context, Task
from labelwise.recipe.cnn import PRESETS, Cnn

SIDE = 12


def task_of(channels, count=12):
    shape = (count, SIDE, SIDE, channels) if channels > 1 else (count, SIDE, SIDE)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = nameless_dataset(as_block(pixels, "random", []))
    return Task(data.images(np.arange(count)), np.arange(count) % 2, ("a", "b"))


def fitted(channels, **fields):
    recipe = Cnn(layers="conv8 3x3 same relu, gap", epochs=2, **fields)
    return recipe.fit(task_of(channels), Context()).model


@pytest.mark.parametrize(
    ("mirror", "channels", "expected"),
    [
        ("no", 3, "shift 1"),
        ("yes", 3, "mirror, shift 1"),
        ("yes", 1, "mirror, shift 1"),
        ("color", 3, "mirror, shift 1"),
        ("color", 1, "shift 1"),
    ],
)
def test_color_alone_mirrors_photos_but_no_digits(mirror, channels, expected):
    assert fitted(channels, mirror=mirror, views="shift 1").architecture["views"] == expected


def test_mirroring_reaches_the_training_images():
    recipe = Cnn(layers="conv8 3x3 same relu, gap", mirror="color", augment="crop 2")
    assert recipe._looks("rgb") == ("alternate, crop 2", "mirror")
    assert recipe._looks("gray") == ("crop 2", "")


def test_views_that_mirror_already_cannot_be_mirrored_again():
    with pytest.raises(OptionError, match="each once"):
        Cnn(mirror="color", views="mirror")


def test_the_preset_fast_leaves_to_a_plan_what_the_time_decides():
    recipe = Cnn(preset="fast")
    assert (recipe.epochs, recipe.width, recipe.image_size) == (None, None, None)
    assert len(recipe.sizes(task_of(3))) > 1


@pytest.mark.parametrize("preset", PRESETS)
def test_only_the_preset_fast_changes_its_images_or_its_size(preset):
    recipe = Cnn(preset=preset)
    plain = (recipe.augment, recipe.views, recipe.mirror, recipe.width)
    assert (plain == ("", "", "no", 1.0)) == (preset != "fast")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_of_the_cnn_runs_where_it_fits(preset):
    """On 32 x 32 pixels, one epoch."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    data = nameless_dataset(as_block(pixels, "random", []))
    task = Task(data.images(np.arange(12)), np.arange(12) % 2, ("a", "b"))
    model = Cnn(preset=preset, epochs=1, width=1.0).fit(task, Context()).model
    assert np.isfinite(model.logits(task.images)).all()
