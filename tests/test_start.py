"""cnn(backbone=FOLDER): a saved network of layers as the start of the next task."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import labelwise
from labelwise import bundle
from labelwise.data.load import load
from labelwise.errors import BundleError, OptionError
from labelwise.recipe.base import Context
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.mlp import Mlp
from labelwise.recipe.probe import Probe
from labelwise.recipe.variants import Variant, parse_variants, recipe_of, variant_text
from labelwise.tuning.space import Base, make_space
from tests.tasks import grating_data, gratings, task_from

LAYERS = "conv8 3x3 same, batch norm 0.9, relu, max 2, conv8 3x3 same relu, gap"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return grating_data(tmp_path_factory.mktemp("gratings"), per_class=12)


@pytest.fixture(scope="module")
def source(data, tmp_path_factory):
    """A small net that knows the gratings, and its folder."""
    model = Cnn(layers=LAYERS, epochs=8).fit(task_from(data), Context()).model
    return model, str(bundle.save(model, tmp_path_factory.mktemp("source")))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """New gratings of another size, in two classes that the first net was not asked for."""
    images, labels = gratings(10, seed=3, side=16)
    file = tmp_path_factory.mktemp("other") / "other.npz"
    np.savez(file, x_train=images, y_train=(labels == 2).astype(int))
    return load(file)


def began(folder, data, **fields):
    """A cnn that has learned nothing yet: its steps have no length worth naming."""
    recipe = Cnn(backbone=folder, epochs=1, lr=1e-12, **fields)
    return recipe.fit(task_from(data), Context()).model


def test_it_begins_with_the_weights_of_the_saved_body_and_a_new_head(source, other):
    model = began(source[1], other)
    saved = source[0].network.body.state_dict()
    for name, value in model.network.body.state_dict().items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(value, saved[name], rtol=0, atol=1e-6)
    assert model.network.head.weight.shape == (2, 8)


def test_batch_norm_statistics_go_on_from_the_saved_ones(source, other):
    trained = began(source[1], other).network.body.state_dict()
    fresh = began(source[1], other, start="untrained").network.body.state_dict()
    (steps,) = (name for name in fresh if name.endswith("num_batches_tracked"))
    saved = source[0].network.body.state_dict()[steps]
    assert saved > 0
    assert trained[steps] == fresh[steps] + saved


def test_layers_size_color_and_scaling_are_those_of_the_saved_model(source, other):
    model = began(source[1], other)
    assert model.preprocessing == source[0].preprocessing
    assert model.preprocessing.shape == (1, 12, 12)
    for name in ("layers", "mean", "std"):
        assert model.architecture[name] == source[0].architecture[name]


def test_everything_learns_on_and_the_saved_model_stays_as_it_was(source, other):
    before = {n: v.clone() for n, v in source[0].network.body.state_dict().items()}
    model = Cnn(backbone=source[1], epochs=6).fit(task_from(other), Context()).model
    images = other.images(other.usable)
    assert (model.predict_proba(images).argmax(1) == other.labels).mean() > 0.9
    after = bundle.load(source[1]).network.body.state_dict()
    assert all(value.equal(after[name]) for name, value in before.items())
    learned = model.network.body.state_dict()
    assert not any(learned[n].equal(v) for n, v in before.items() if n.endswith("weight"))


def test_untrained_is_the_same_net_from_scratch(source, other):
    untrained = began(source[1], other, start="untrained")
    fresh = Cnn(layers=LAYERS, image_size=12, epochs=1, lr=1e-12).fit(task_from(other), Context())
    for name, value in untrained.network.body.state_dict().items():
        if name.endswith("weight"):
            expected = fresh.model.network.body.state_dict()[name]
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)


def test_its_license_travels_and_nothing_of_it_is_frozen(source, other):
    origin = began(source[1], other).facts["backbone"]
    assert origin["license"] == "that of the saved model"
    assert origin["frozen"] is False
    assert "backbone" not in began(source[1], other, start="untrained").facts


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"layers": "conv8 3x3, gap"}, "the layers is that of the saved model"),
        ({"width": 2.0}, "the width is that of the saved model"),
        ({"scale": "unit"}, "the scale is that of the saved model"),
        ({"image_size": 20}, "takes images of 12 x 12 pixels only"),
        ({"color": "rgb"}, "was trained on gray images"),
    ],
)
def test_fields_that_contradict_the_saved_model_are_refused(source, other, fields, said):
    with pytest.raises(OptionError, match=said):
        Cnn(backbone=source[1], **fields).cost(task_from(other), Context())


def test_what_is_no_model_of_layers_is_refused_in_a_line(data, tmp_path):
    probe = Probe(image_size=32).fit(task_from(data), Context()).model
    bundle.save(probe, tmp_path / "probe")
    (tmp_path / "empty").mkdir()
    for name, error, said in (
        (tmp_path / "probe", OptionError, "holds a pretrained network with a new head"),
        ("efficientnet-lite0", OptionError, "is not the folder of a saved model"),
        (tmp_path / "empty", BundleError, "does not exist"),
    ):
        with pytest.raises(error, match=said):
            Cnn(backbone=str(name)).cost(task_from(data), Context())


def test_the_body_of_an_mlp_is_a_start_as_well(data, tmp_path):
    model = Mlp(epochs=2).fit(task_from(data), Context()).model
    folder = str(bundle.save(model, tmp_path))
    assert began(folder, data).architecture["layers"] == model.architecture["layers"]


@pytest.mark.parametrize(
    ("text", "backbone"),
    [
        ("cnn", "FOLDER"),
        ("cnn(epochs=3)", "FOLDER"),
        ("cnn(preset=digits)", None),
        ('cnn(layers="conv8 3x3, gap")', None),
        ("cnn(backbone=none)", None),
    ],
)
def test_a_folder_for_all_recipes_is_a_start_unless_a_variant_has_a_net_of_its_own(
    source, text, backbone
):
    (variant,) = parse_variants(text, defaults={"backbone": source[1]})
    assert variant.recipe.backbone == (backbone and source[1])


def test_a_pretrained_network_for_all_recipes_leaves_cnn_from_scratch():
    cnn, probe = parse_variants("cnn, probe", defaults={"backbone": "efficientnet-lite1"})
    assert (cnn.recipe, probe.recipe.backbone) == (Cnn(), "efficientnet-lite1")


@pytest.mark.parametrize(
    "fields", [{}, {"start": "untrained"}, {"preset": "fast", "resize": "pad"}]
)
def test_its_text_and_its_record_give_it_back(source, fields):
    recipe = Cnn(backbone=source[1], **fields)
    assert recipe_of(recipe.configuration) == recipe
    assert parse_variants(variant_text(Variant("cnn", recipe)))[0].recipe == recipe
    assert dataclasses.replace(recipe, epochs=3).backbone == source[1]


def test_a_search_does_not_vary_the_layers_of_a_start(source):
    searched = make_space(Base(f"cnn(backbone={source[1]})"), (), ()).ranges
    assert "lr" in searched
    assert not any(name.startswith("layers") for name in searched)


def test_the_images_that_the_start_has_learned_from_are_said_and_those_of_the_test_apart(tmp_path):
    data = grating_data(tmp_path, per_class=12, test=4)
    first = labelwise.train(data, recipe="cnn(epochs=1)", out=tmp_path / "first", folds=2)
    recipe = f"cnn(backbone={first.folder}, epochs=1)"
    run = labelwise.train(data, recipe=recipe, out=tmp_path / "second", folds=2)
    (said,) = (text for text in run.record["warnings"] if "learned from" in text)
    assert "has learned from 36 of the 48 images" in said
    assert "Of the 12 images of the test part it has seen none." in said
    assert [origin["license"] for origin in run.record["backbones"]] == ["that of the saved model"]
