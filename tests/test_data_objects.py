from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import labelwise as lw
from labelwise.data.load import load
from labelwise.errors import DataError
from tests.images import encoded, picture, write

datasets = pytest.importorskip("datasets")
vision = pytest.importorskip("torchvision.datasets")

FEATURES = datasets.Features(
    {
        "img": datasets.Image(),
        "fine": datasets.ClassLabel(names=["lion", "wolf"]),
        "coarse": datasets.ClassLabel(names=["cat", "dog"]),
        "id": datasets.Value("int64"),
    }
)


def hub(seeds, **labels):
    rows = {
        "img": [{"bytes": encoded(picture(seed)), "path": None} for seed in seeds],
        "fine": [seed % 2 for seed in seeds],
        "coarse": [seed % 2 for seed in seeds],
        "id": list(seeds),
    }
    return datasets.Dataset.from_dict({**rows, **labels}, features=FEATURES)


def names(data):
    return [data.class_names[label] if label >= 0 else None for label in data.labels]


def test_a_hub_dataset_gives_its_encoded_images_and_class_names():
    data = load(hub(range(4)), target="fine")
    assert names(data) == ["lion", "wolf", "lion", "wolf"]
    assert (data.name, data.target) == ("datasets.Dataset", "fine")
    assert data.table["path"][1] == "datasets.Dataset[1]"
    for row in range(4):
        np.testing.assert_array_equal(data.pixels.read(row), picture(row))
    with pytest.raises(DataError, match="2 label columns: 'fine', 'coarse'"):
        load(hub(range(4)))


def test_the_splits_of_a_dict_are_honored_and_others_lose_their_labels():
    parts = {"train": hub([0, 1]), "validation": hub([2, 3]), "extra": hub([5])}
    data = load(datasets.DatasetDict(parts), target="fine")
    assert data.table["split"].fillna("-").tolist() == ["train"] * 2 + ["val"] * 2 + ["-"]
    assert names(data)[4] is None
    assert data.table["path"].tolist()[3:] == ["validation[1]", "extra[0]"]
    assert "'extra' is none of the splits" in data.warnings[0]


def no_image(batch):
    raise AssertionError("called")


def test_a_selection_with_a_transform_reads_its_own_raw_rows_also_from_a_pickle():
    given = hub(range(6)).with_transform(no_image).select([5, 2])
    data = pickle.loads(pickle.dumps(load(given, target="coarse")))
    np.testing.assert_array_equal(data.pixels.read(0), picture(5))
    assert names(data) == ["dog", "cat"]


def test_names_as_text_files_on_disk_and_missing_images_are_read(tmp_path):
    path = str(write(tmp_path / "x.png", 3))
    given = datasets.Dataset.from_dict({"image": [path, None, path], "label": ["a", "a", ""]})
    data = load(given.cast_column("image", datasets.Image()))
    assert names(data) == ["a", "a", None]
    np.testing.assert_array_equal(data.pixels.read(0), picture(3))
    assert data.table["reason"][1].startswith("empty")


def test_a_dataset_without_images_is_refused_with_its_columns():
    with pytest.raises(DataError, match=r"no column of images; its columns are 'text: Value'"):
        load(datasets.Dataset.from_dict({"text": ["a"]}))


def test_a_stream_is_refused_with_the_next_step():
    with pytest.raises(DataError, match="IterableDataset.*Load it without streaming"):
        load(hub([1]).to_iterable_dataset())


def test_fake_data_give_raw_pixels_whatever_their_transform():
    given = vision.FakeData(6, (3, 20, 30), 3, transform=no_image)
    data = load(given)
    raw = vision.FakeData(6, (3, 20, 30), 3)
    for row in range(6):
        np.testing.assert_array_equal(data.pixels.read(row), np.asarray(raw[row][0]))
    assert [int(name) for name in names(data)] == [int(raw[row][1]) for row in range(6)]
    assert data.name == "FakeData"
    assert "transform of the FakeData is left out" in data.warnings[0]
    assert given.transform is no_image


def test_an_image_folder_and_subsets_of_it_have_its_classes(tmp_path):
    for seed in range(6):
        write(tmp_path / ("cat" if seed % 2 else "dog") / f"{seed}.png", seed)
    given = vision.ImageFolder(str(tmp_path))
    data = load(given)
    assert names(data) == ["cat"] * 3 + ["dog"] * 3
    from torch.utils.data import Subset

    part = load(Subset(Subset(given, [5, 4, 0]), [2, 0]))
    assert names(part) == ["cat", "dog"]
    np.testing.assert_array_equal(part.pixels.read(1), picture(4))
    both = load({"train": Subset(given, [0, 3]), "test": Subset(given, [1, 4])})
    assert both.table["split"].tolist() == ["train"] * 2 + ["test"] * 2


def test_a_broken_picture_is_set_aside(tmp_path):
    write(tmp_path / "a" / "1.png", 1)
    write(tmp_path / "a" / "2.png", 2).write_bytes(b"no image")
    data = load(vision.ImageFolder(str(tmp_path)))
    assert data.table["decision"].tolist() == ["used", "set aside"]


class Own(vision.VisionDataset):
    """Any pictures with labels."""

    def __init__(self, pictures, labels, **options):
        super().__init__(**options)
        self.pictures, self.targets = pictures, labels

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, row):
        image = self.pictures[row]
        return (self.transforms(image, 0)[0] if self.transforms else image), self.targets[row]


def test_arrays_and_odd_pictures_are_read_like_files():
    color, gray = picture(1), picture(2, gray=True)
    palette = Image.fromarray(picture(3)).quantize(8)
    pictures = [color, color.transpose(2, 0, 1), gray, gray[None], palette, color / 255]
    data = load(Own(pictures, [0, 1, -1, 1, 0, 1]))
    np.testing.assert_array_equal(data.pixels.read(1), color)
    np.testing.assert_array_equal(data.pixels.read(3), gray)
    assert data.table["reason"][4] == "palette to RGB"
    assert "float64 values of the shape (30, 40, 3)" in data.table["reason"][5]
    assert names(data) == ["0", "1", None, "1", "0", "1"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Own([picture()], [{"boxes": []}]), "Expected a class number for every image"),
        (lambda: Own([picture()], [0], target_transform=str), "has a target_transform"),
        (lambda: [1, 2], r"type builtins\.list is no data set of images\. Expected a path"),
        (dict, "the dict holds no data set"),
        (lambda: {"train": 1}, "type builtins.int"),
    ],
)
def test_other_objects_are_refused_with_the_reason(make, message):
    with pytest.raises(DataError, match=message):
        load(make())


def test_a_target_is_refused_where_there_is_one_set_of_labels():
    with pytest.raises(DataError, match="the FakeData has no label column 'kind'"):
        load(vision.FakeData(2), target="kind")


def test_check_takes_an_object():
    found = lw.check(vision.FakeData(4, (3, 20, 30), 2))
    assert found.to_json()["name"] == "FakeData"


def test_the_packages_are_not_imported_for_other_data():
    code = (
        "import sys, labelwise.data.load as l; l.load('digits');"
        "print([m for m in ('datasets', 'torchvision', 'torch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
