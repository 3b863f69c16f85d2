"""A saved model as a backbone for the next task."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from unittest.mock import Mock

import numpy as np
import pytest
import torch

import labelwise
from labelwise import bundle, transfer
from labelwise.data.load import load
from labelwise.errors import BundleError, OptionError
from labelwise.recipe.base import Context
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.probe import Probe
from labelwise.transfer import find_backbone
from tests.tasks import grating_data, gratings, task_from


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return grating_data(tmp_path_factory.mktemp("gratings"), per_class=12)


@pytest.fixture(scope="module")
def source(data, tmp_path_factory):
    """A small net that knows the gratings, and its folder."""
    model = Cnn(epochs=8).fit(task_from(data), Context()).model
    return model, bundle.save(model, tmp_path_factory.mktemp("source"))


def other_data(path):
    """New gratings, in two classes that the first net was not asked for."""
    images, labels = gratings(10, seed=3)
    np.savez(path, x_train=images, y_train=(labels == 2).astype(int))
    return load(path)


def test_the_embedding_of_a_saved_model_is_kept_bit_for_bit(source, tmp_path):
    model, folder = source
    other = other_data(tmp_path / "other.npz")
    probe = Probe(backbone=str(folder)).fit(task_from(other), Context()).model
    images = other.images(range(10))
    np.testing.assert_allclose(probe.embed(images), model.embed(images), rtol=1e-5, atol=1e-6)
    for name, value in probe.network.body.state_dict().items():
        assert value.equal(model.network.body.state_dict()[name])


def test_what_builds_on_a_saved_model_learns_the_new_classes_and_can_be_saved(source, tmp_path):
    other = other_data(tmp_path / "other.npz")
    probe = Probe(backbone=str(source[1])).fit(task_from(other), Context()).model
    images = other.images(other.usable)
    assert (probe.predict_proba(images).argmax(1) == other.labels).mean() > 0.9
    loaded = bundle.load(bundle.save(probe, tmp_path / "probe"))
    np.testing.assert_allclose(loaded.logits(images), probe.logits(images), rtol=1e-3, atol=1e-3)
    assert loaded.preprocessing == source[0].preprocessing


def test_a_saved_model_is_read_once_however_many_fits_build_on_it(source, tmp_path, monkeypatch):
    folder = shutil.copytree(source[1], tmp_path / "model")
    read = Mock(side_effect=bundle.load)
    monkeypatch.setattr(transfer.bundle, "load", read)
    data = other_data(tmp_path / "other.npz")
    labelwise.compare(data, recipes=f"probe(backbone={folder})", out=tmp_path / "run", folds=2)
    assert [call.args for call in read.call_args_list].count((folder,)) == 1


def test_a_saved_model_that_was_replaced_is_read_anew(source, data, tmp_path):
    folder = shutil.copytree(source[1], tmp_path / "model")
    before = find_backbone(str(folder))
    bundle.save(Cnn(epochs=1).fit(task_from(data), Context(seed=1)).model, folder)
    assert find_backbone(str(folder)).sha256 != before.sha256


def test_a_relative_name_is_that_of_the_current_folder(source, data, tmp_path, monkeypatch):
    shutil.copytree(source[1], tmp_path / "a" / "model")
    bundle.save(Cnn(epochs=1).fit(task_from(data), Context()).model, tmp_path / "b" / "model")
    found = []
    for place in "ab":
        monkeypatch.chdir(tmp_path / place)
        found.append(find_backbone("model").sha256)
    assert found[0] != found[1]


def test_a_folder_without_a_model_is_refused_by_name(tmp_path):
    with pytest.raises(BundleError, match=r"model\.json does not exist"):
        find_backbone(str(tmp_path))


def test_a_size_or_color_that_the_network_cannot_take_is_refused(source, data):
    folder = str(source[1])
    with pytest.raises(OptionError, match=r"image-size 20.*takes images of 12 x 12 pixels only"):
        Probe(backbone=folder, image_size=20).fit(task_from(data), Context())
    with pytest.raises(OptionError, match=r"color rgb.*trained on gray images"):
        Probe(backbone=folder, color="rgb").fit(task_from(data), Context())


def test_images_that_the_backbone_has_learned_from_are_warned_about(data, source, tmp_path):
    model, _ = source
    facts = {"data": {"name": data.name, "fingerprint": data.fingerprint}}
    folder = bundle.save(dataclasses.replace(model, facts=facts), tmp_path / "model")
    run = labelwise.compare(data, recipes=f"probe(backbone={folder})", out=tmp_path / "same")
    assert any("was made from this very data set" in text for text in run.record["warnings"])
    other = other_data(tmp_path / "other.npz")
    run = labelwise.compare(other, recipes=f"probe(backbone={folder})", out=tmp_path / "other")
    assert not any("backbone" in text for text in run.record["warnings"])


def test_the_backbones_run_tells_how_many_judged_images_it_knows(data, tmp_path):
    first = labelwise.compare(data, recipes="mlp(epochs=1)", labels="5/class", out=tmp_path / "a")
    again = labelwise.train(
        data, recipe="probe", backbone=str(first.folder), out=tmp_path / "b", folds=2
    )
    assert any("has learned from 15 of the 36 images" in text for text in again.record["warnings"])


def test_of_several_repeats_the_first_has_taught_the_model(data, tmp_path):
    options = {"labels": "5/class", "repeats": 3, "test": 0.2, "folds": 2}
    first = labelwise.compare(data, recipes="mlp(epochs=1)", out=tmp_path / "a", **options)
    found = labelwise.evaluate(first.folder, data)
    assert any("has learned from 15 of the 36 images" in text for text in found.warnings)


def test_so_does_the_run_of_a_model_that_was_not_the_recommended_one(data, tmp_path):
    options = {"labels": "5/class", "save_models": "all", "out": tmp_path / "a"}
    first = labelwise.compare(data, recipes="mlp(epochs=1), cnn(epochs=1)", **options)
    names = ("mlp", "cnn")
    other = next(name for name in names if name != first.results["recommended"])
    folder = first.folder / "trials" / other / "labels-5-per-class_repeat-0_final"
    renamed = dataclasses.replace(data, class_names=("a", "b", "c"))  # another task's fingerprint
    again = labelwise.train(
        renamed, recipe=f"probe(backbone='{folder}')", out=tmp_path / "b", folds=2
    )
    assert any("has learned from 15 of the 36 images" in text for text in again.record["warnings"])


def test_a_gray_image_is_the_same_to_a_pretrained_network_as_three_equal_channels(data):
    gray = Probe(image_size=32, color="gray").fit(task_from(data), Context()).model
    color = Probe(image_size=32, color="rgb").fit(task_from(data), Context()).model
    images = data.images(range(6))
    assert gray.preprocessing.shape == (1, 32, 32)
    np.testing.assert_allclose(gray.embed(images), color.embed(images), rtol=1e-4, atol=1e-5)


def reread(probe, folder):
    """The model of a probe after it was saved and loaded, with its backbone if that may be."""
    return transfer.with_backbone(bundle.load(bundle.save(probe, folder)))


def test_a_loaded_model_computes_with_its_frozen_backbone_again(data, tmp_path):
    probe = Probe(image_size=32).fit(task_from(data), Context()).model
    loaded, images = reread(probe, tmp_path / "model"), data.images(data.usable)
    assert loaded.backbone == probe.backbone
    assert np.array_equal(loaded.logits(images), probe.logits(images))


def test_a_loaded_model_whose_weights_are_not_those_of_its_backbone_computes_with_its_own(
    data, tmp_path
):
    probe = Probe(image_size=32).fit(task_from(data), Context()).model
    network = copy.deepcopy(probe.network)
    with torch.no_grad():
        next(network.body.parameters()).mul_(1.01)
    assert reread(dataclasses.replace(probe, network=network), tmp_path / "m").backbone is None
