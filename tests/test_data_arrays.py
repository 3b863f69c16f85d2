from __future__ import annotations

import pickle

import numpy as np
import pytest

from labelwise.data.blocks import thumbnails
from labelwise.data.load import load
from labelwise.data.scan import content_hash, thumbnail
from labelwise.errors import DataError
from tests.images import picture

GRAY = np.stack([picture(seed, 12, 10, gray=True) for seed in range(4)])
COLOR = np.stack([picture(seed, 12, 10) for seed in range(4)])
LABELS = np.array([0, 1, -1, 1])


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    return load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (GRAY, GRAY),
        (GRAY[..., None], GRAY),
        (GRAY[:, None], GRAY),
        (COLOR, COLOR),
        (COLOR.transpose(0, 3, 1, 2), COLOR),
        (GRAY.astype(np.uint16) * 257, GRAY),
        (GRAY.astype(np.float32) / 255, GRAY),
        (GRAY.astype(np.float64), GRAY),
        (GRAY.astype(np.int64), GRAY),
    ],
)
def test_every_shape_and_type_of_an_image_gives_the_same_pixels(tmp_path, given, expected):
    data = saved(tmp_path, x_train=given, y_train=LABELS)
    for row in range(4):
        np.testing.assert_array_equal(data.images([row]).read(0), expected[row])
    assert data.table["content"].tolist() == [content_hash(image) for image in expected]


def test_labels_splits_and_names_come_from_the_arrays(tmp_path):
    data = saved(
        tmp_path,
        x_train=GRAY,
        y_train=LABELS,
        x_test=COLOR[:2],
        y_test=np.array(["b", "a"]),
        x_unlabeled=COLOR[2:],
        class_names=np.array(["b", "a"]),
    )
    assert data.class_names == ("b", "a")
    assert data.labels.tolist() == [0, 1, -1, 1, 0, 1, -1, -1]
    assert data.table["split"].fillna("-").tolist() == ["train"] * 4 + ["test"] * 2 + ["-"] * 2
    assert data.table["path"][4] == "x_test[0]"
    assert not data.images([0, 4]).gray


def test_floating_point_is_scaled_with_a_warning(tmp_path):
    data = saved(tmp_path, x_train=GRAY / 255.0, y_train=LABELS)
    assert "multiplied by 255" in data.warnings[0]
    assert data.table["decision"].unique().tolist() == ["converted"]


def test_a_pickle_of_the_data_is_small_and_reads_the_same(tmp_path):
    many = np.concatenate([GRAY] * 100)
    data = saved(tmp_path, x_train=many, y_train=np.tile(LABELS, 100))
    assert len(pickle.dumps(data.pixels)) < 1000
    again = pickle.loads(pickle.dumps(data.pixels))
    np.testing.assert_array_equal(again.read(3), GRAY[3])


def test_reading_gives_a_copy(tmp_path):
    data = saved(tmp_path, x_train=GRAY, y_train=LABELS)
    data.images([0]).read(0)[:] = 0
    np.testing.assert_array_equal(data.images([0]).read(0), GRAY[0])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": GRAY}, "holds the arrays images. Expected x_train"),
        ({"x_train": GRAY, "y_train": LABELS[:3]}, r"shape \(3,\), but x_train holds 4 images"),
        ({"x_train": GRAY[0]}, r"x_train has the shape \(10, 12\)"),
        ({"x_train": GRAY[..., None].repeat(2, 3)}, "x_train has the shape"),
        ({"x_train": GRAY - 300.0}, "undo the normalization"),
        ({"x_train": GRAY, "y_train": LABELS / 2}, "no whole numbers"),
        (
            {"x_train": GRAY, "y_train": np.array([0, 1, 2, 3]), "class_names": np.array(["a"])},
            r"label 1, outside 0\.\.0",
        ),
        ({"x_train": GRAY, "y_train": np.array([{}] * 4, object)}, "'y_train'.*Python objects"),
    ],
)
def test_arrays_that_are_no_images_are_refused_with_the_reason(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        saved(tmp_path, **arrays)


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(DataError, match=r"cannot be read as an \.npz file"):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize("images", [GRAY, COLOR, np.stack([picture(1, 100, 90)])])
def test_thumbnails_of_arrays_are_those_of_single_images(images):
    for image, thumb in zip(images, thumbnails(images), strict=True):
        np.testing.assert_array_equal(thumb, thumbnail(image))


def test_mnist_loads(shared_data):
    data = load(shared_data / "mnist.npz")
    assert len(data.usable) == 70_000
    assert data.class_names == tuple("0123456789")
    assert np.bincount(data.labels[:60_000])[:2].tolist() == [5923, 6742]  # published counts
