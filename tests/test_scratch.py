"""Recipes from scratch: mirroring where it is safe, and small images before large ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from labelwise.data.blocks import as_block
from labelwise.data.memory import nameless_dataset
from labelwise.errors import LayerError, OptionError
from labelwise.nn.geometry import reduced, reduced_shape
from labelwise.nn.layers import Stack
from labelwise.nn.network import Network
from labelwise.nn.supervised import Examples, Supervised
from labelwise.recipe.base import Context, Task
from labelwise.recipe.cnn import PRESETS, Cnn
from labelwise.recipe.mlp import Mlp

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


def test_reduced_images_are_those_of_pillow_within_one():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 20, 3), dtype=np.uint8)
    ours = reduced(torch.from_numpy(pixels).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    theirs = [
        np.asarray(Image.fromarray(image).resize((15, 12), Image.Resampling.BILINEAR))
        for image in pixels
    ]
    assert np.abs(ours.astype(int) - np.stack(theirs)).max() <= 1


def test_early_epochs_see_reduced_images_and_later_ones_the_whole():
    pixels = torch.randint(0, 256, (8, 1, SIDE, SIDE), dtype=torch.uint8)
    network = Network(Stack("conv4 3x3 same relu, gap", (1, SIDE, SIDE)), 2)
    seen = []
    network.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:]))
    examples = Examples(pixels, torch.arange(8) % 2)
    objective = Supervised(network, examples, None, batch=8, early=2)
    for epoch in range(3):
        for batch in objective.batches(epoch, torch.Generator()):
            objective.gradients(batch, epoch, torch.Generator())
    assert seen == [reduced_shape((1, SIDE, SIDE))[1:]] * 2 + [(SIDE, SIDE)]


@pytest.mark.parametrize(
    "recipe",
    [
        Cnn(layers="conv8 3x3 same relu, dense 4", progressive=0.5, epochs=2),
        Cnn(layers="conv8 3x3 same relu", progressive=0.5, epochs=2),
        Mlp(hidden=(8,), progressive=0.5, epochs=2),
    ],
)
def test_layers_for_one_size_only_cannot_begin_with_smaller_images(recipe):
    with pytest.raises(LayerError, match="put gap before"):
        recipe.fit(task_of(1), Context())
    with pytest.raises(LayerError, match="put gap before"):
        recipe.cost(task_of(1), Context())


def test_the_preset_fast_leaves_to_a_plan_what_the_time_decides():
    recipe = Cnn(preset="fast")
    assert (recipe.epochs, recipe.width, recipe.image_size) == (None, None, None)
    assert len(recipe.sizes(task_of(3))) > 1


@pytest.mark.parametrize("preset", PRESETS)
def test_only_the_preset_fast_changes_its_images_or_its_size(preset):
    recipe = Cnn(preset=preset)
    plain = (recipe.augment, recipe.views, recipe.mirror, recipe.progressive, recipe.width)
    assert (plain == ("", "", "no", 0.0, 1.0)) == (preset != "fast")
