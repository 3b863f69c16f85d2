"""Dataset.few: a smaller data set of the same kind."""

from __future__ import annotations

import numpy as np
import pytest

from labelwise.data.load import load
from labelwise.errors import DataError
from tests.images import picture

IMAGES = np.stack([picture(seed, 12, 10, gray=True) for seed in range(9)])
LABELS = np.array([0, 1, 0, -1, 1, 0, -1, 1, -1])


@pytest.fixture
def data(tmp_path):
    train, test = IMAGES.copy(), 255 - IMAGES[:3]
    train[5] = train[0]  # the third image of its class, so that few(2) leaves it out
    train[6] = train[1]
    np.savez(tmp_path / "x.npz", x_train=train, y_train=LABELS, x_test=test, y_test=LABELS[:3])
    return load(tmp_path / "x.npz")


def test_the_first_images_of_every_class_and_part_are_left_with_their_pixels(data):
    few = data.few(2)
    kept = [0, 1, 2, 3, 4, 6, 9, 10, 11]
    assert few.table["path"].tolist() == data.table["path"].iloc[kept].tolist()
    assert few.table["id"].tolist() == list(range(len(kept)))
    assert few.labels.tolist() == data.labels[kept].tolist()
    for row, image in enumerate(kept):
        expected = data.images([image]).read(0)
        np.testing.assert_array_equal(few.images([row]).read(0), expected)


def test_of_copies_those_that_are_left_are_still_a_group(data):
    assert [d.rows for d in data.duplicates] == [(0, 5), (1, 6)]
    few = data.few(2)
    assert [d.rows for d in few.duplicates] == [(1, 5)]
    assert few.contents[1] == few.contents[5] == data.contents[1]
    assert few.groups[1] == few.groups[5]
    assert data.warnings
    assert not few.warnings  # they name images by their places among all


def test_everything_is_left_where_there_is_no_more(data):
    assert data.few(100).table.equals(data.table)


def test_none_of_a_class_is_refused(data):
    with pytest.raises(DataError, match=r"few\(0\)"):
        data.few(0)
