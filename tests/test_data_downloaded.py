from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from labelwise.data.downloaded import MAMMALS, SETS
from labelwise.data.load import load
from labelwise.errors import DataError
from tests.images import class_folders

vision = pytest.importorskip("torchvision.datasets")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that named data sets are looked for in, empty."""
    place = tmp_path / "downloads"
    place.mkdir()
    monkeypatch.setenv("LABELWISE_DATA", str(place))
    return place


def test_a_file_of_the_data_set_is_read_and_keeps_its_name(folder):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    np.savez(folder / "mnist.npz", x_train=images, y_train=np.arange(6) % 2)
    data = load("mnist")
    assert (data.name, len(data.labeled), data.class_names) == ("mnist", 6, ("0", "1"))


def test_an_archive_or_its_folder_is_found(folder):
    class_folders(folder / "photos_food", {"soup": 2, "pizza": 3})
    assert load("food").class_names == ("pizza", "soup")


@pytest.mark.parametrize("name", SETS)
def test_one_line_says_where_to_put_what_is_not_there(name, folder):
    target = "fine_label" if name == "mammals" else None
    with pytest.raises(DataError) as error:
        load(name, target=target)
    said = str(error.value)
    assert repr(name) in said
    assert str(folder) in said
    assert SETS[name].files[0] in said
    assert "\n" not in said
    if (vision_name := SETS[name].vision) is not None:
        assert f"{vision_name}('{folder}'" in said  # the call that downloads it


def test_without_the_variable_the_folder_is_named_data(tmp_path, monkeypatch):
    monkeypatch.delenv("LABELWISE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="folder 'data'"):
        load("mnist")


def _cifar100(place, monkeypatch):
    """A CIFAR-100 of two images per class, in the layout that torchvision reads."""
    names = [*(name for group in MAMMALS.values() for name in group), "apple", "bus"]
    base = place / vision.CIFAR100.base_folder
    base.mkdir()
    colors = np.random.default_rng(0).integers(0, 256, (2 * len(names), 3072), dtype=np.uint8)
    rows = {"data": colors, "fine_labels": list(range(len(names))) * 2}
    for file in ("train", "test"):
        (base / file).write_bytes(pickle.dumps(rows))
        rows = {**rows, "data": colors[::-1].copy()}
    (base / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    monkeypatch.setattr(vision.CIFAR100, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    return colors


@pytest.mark.parametrize(("target", "classes"), [("fine_label", 15), ("coarse_label", 3)])
def test_mammals_are_taken_from_the_cifar100_of_torchvision(target, classes, folder, monkeypatch):
    colors = _cifar100(folder, monkeypatch)
    data = load("mammals", target=target)
    assert (len(data.class_names), len(data.labeled)) == (classes, 60)
    assert list(data.table["split"].value_counts().sort_index().items()) == [
        ("test", 30),
        ("train", 30),
    ]
    assert data.class_names[data.labels[3]] == ("shrew" if classes == 15 else "small_mammals")
    expected = colors[3].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(np.asarray(data.images([3]).read(0)), expected)


def test_mammals_have_two_levels_to_choose_from(folder, monkeypatch):
    _cifar100(folder, monkeypatch)
    with pytest.raises(DataError, match=r"two label columns.*--target.*fine_label"):
        load("mammals")


def test_mnist_is_read_as_torchvision_keeps_it(folder):
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    digits = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        head = bytes([0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 28, 0, 0, 0, 28])
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + digits.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            bytes([0, 0, 8, 1, 0, 0, 0, 4]) + bytes([0, 1, 2, 3])
        )
        digits = 255 - digits
    data = load("mnist")
    assert data.table["split"].value_counts().to_dict() == {"train": 4, "test": 4}
    assert Image.fromarray(data.images([0]).read(0)).size == (28, 28)


def test_a_download_that_was_cut_off_is_called_damaged(folder):
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(b"")
    with pytest.raises(DataError, match="'mnist' .* is damaged"):
        load("mnist")
