"""Classes that a backbone knows already, by name: of ImageNet or of a saved model."""

from __future__ import annotations

import numpy as np
import pytest

import labelwise
from labelwise.backbones import find_pretrained
from labelwise.data.load import load
from labelwise.overlap import copies, known_classes, overlap, overlap_warning
from labelwise.transfer import find_backbone
from tests.tasks import gratings, gratings_file, gratings_folder


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("pizza", "pizza"),
        ("Pizzas", "pizza"),
        ("tabby_cat", "tabby cat"),
        ("cat", "tabby cat"),
        ("golden-retriever", "golden retriever"),
        ("glass", "glass"),
    ],
)
def test_names_are_compared_as_people_read_them(name, known):
    assert overlap([name], ["tench", known]) == {name: [known]}


@pytest.mark.parametrize("name", ["soup", "golden", "tab", "", "12", "retriever dog", "class 7"])
def test_other_names_are_not_known(name):
    known = ["soup bowl", "golden retriever", "tabby cat", "5", "class 1", "n01440764", "", "7"]
    assert overlap([name], known) == {}


def test_the_default_backbone_knows_the_classes_of_imagenet():
    backbone = find_pretrained("efficientnet-lite0")
    assert len(known_classes(backbone)) > 1000
    sentence = overlap_warning(backbone, ["pizza", "cat", "defective"])
    assert "2 of the 3 classes from ImageNet" in sentence
    assert "pizza (pizza)" in sentence
    assert overlap_warning(backbone, ["defective", "functional"]) is None


def test_a_saved_model_knows_its_own_and_the_run_says_so(tmp_path):
    (tmp_path / "photos").mkdir()
    photos = gratings_folder(tmp_path / "photos", 6)
    first = labelwise.train(
        photos, recipe="mlp(hidden=4, epochs=1, least_steps=0)", out=tmp_path / "first", folds=2
    )
    backbone = find_backbone(str(first.folder))
    assert known_classes(backbone) == ("a", "b", "c")
    (tmp_path / "more").mkdir()
    more = gratings_folder(tmp_path / "more", 7)
    (more / "a").rename(more / "z")
    recipe = f"probe(backbone={first.folder})"
    second = labelwise.train(more, recipe=recipe, out=tmp_path / "second", folds=2)
    found = [text for text in second.record["warnings"] if "by their names" in text]
    assert len(found) == 1
    assert "2 of the 3 classes from its own data" in found[0]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A model that remembers 180 gratings, and their pixels."""
    folder = tmp_path_factory.mktemp("learned")
    photos = gratings_file(folder / "gratings.npz", per_class=60)
    recipe = "cnn(layers='conv8 3x3 relu, max 2, dense 16 relu', epochs=4)"
    return labelwise.train(photos, recipe=recipe, out=folder / "run", folds=1)


def _warned(folder, images, labels, run):
    np.savez(folder / "more.npz", x_train=images, y_train=labels)
    out = folder / "second"
    recipe = f"probe(backbone={run.folder})"
    second = labelwise.train(folder / "more.npz", recipe=recipe, out=out, folds=2)
    return [text for text in second.record["warnings"] if "changed copies" in text]


def test_changed_copies_of_what_a_backbone_learned_from_are_noticed(learned, tmp_path):
    images, labels = gratings(60)
    brighter = np.clip(images.astype(int) + 1, 0, 255).astype(np.uint8)
    found = _warned(tmp_path, brighter, labels, learned)
    assert len(found) == 1
    assert str(learned.folder) in found[0]


def test_new_images_of_the_same_kind_are_not_taken_for_copies(learned, tmp_path):
    assert not _warned(tmp_path, *gratings(60, seed=5), learned)


def test_a_model_that_remembers_too_little_says_nothing_of_copies(tmp_path):
    few = gratings_file(tmp_path / "few.npz", per_class=10)
    run = labelwise.train(few, recipe="mlp(hidden=4, epochs=1)", out=tmp_path / "run", folds=1)
    assert copies(run.model, load(few)) == 0
