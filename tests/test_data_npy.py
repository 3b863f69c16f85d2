from __future__ import annotations

import pickle

import numpy as np
import pytest

from labelwise.data import blocks
from labelwise.data.load import load
from labelwise.errors import DataError
from tests.images import picture, write

GRAY = np.stack([picture(seed, 12, 10, gray=True) for seed in range(4)])
COLOR = np.stack([picture(seed, 12, 10) for seed in range(4)])


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "x_train.npy", COLOR)
    (tmp_path / "y_train.csv").write_text("fine,coarse\nlion,cat\nwolf,dog\n,cat\nfox,dog\n")
    np.save(tmp_path / "x_test.npy", COLOR[:2] // 2)
    (tmp_path / "y_test.csv").write_text("fine,coarse\nlion,cat\nwolf,dog\n")
    return tmp_path


def names(data):
    return [data.class_names[label] if label >= 0 else None for label in data.labels]


def test_a_folder_of_arrays_has_the_labels_of_its_tables(folder):
    data = load(folder, target="fine")
    assert names(data) == ["lion", "wolf", None, "fox", "lion", "wolf"]
    assert data.table["split"].tolist() == ["train"] * 4 + ["test"] * 2
    assert data.table["path"][4] == "x_test[0]"
    assert data.target == "fine"
    assert load(folder, target="coarse").class_names == ("cat", "dog")
    with pytest.raises(DataError, match="--target fine"):
        load(folder)


def test_labels_in_arrays_and_images_without_labels_go_along(folder):
    (folder / "y_train.csv").unlink()
    (folder / "y_test.csv").unlink()
    np.save(folder / "y_train.npy", np.array([3, -1, 4, 3]))
    np.save(folder / "x_unlabeled.npy", GRAY)
    data = load(folder)
    assert names(data) == ["3", None, "4", "3"] + [None] * 6
    assert data.table["split"].isna().sum() == 4


@pytest.mark.parametrize("text", ["a\n\nb\na\n", "kind\na\n\nb\na\n", ",kind\n0,a\n1,\n2,b\n3,a\n"])
def test_a_header_is_told_by_the_number_of_lines(tmp_path, text):
    np.save(tmp_path / "photos.npy", GRAY)
    (tmp_path / "photos.csv").write_text(text)
    assert names(load(tmp_path / "photos.npy")) == ["a", None, "b", "a"]


def test_columns_without_a_header_are_numbered(tmp_path):
    np.save(tmp_path / "photos.npy", GRAY)
    (tmp_path / "photos.csv").write_text("a,x\nb,x\na,y\nb,y\n")
    assert load(tmp_path / "photos.npy", target="column2").class_names == ("x", "y")


def test_a_single_array_takes_the_only_table_with_its_splits_and_groups(tmp_path):
    np.save(tmp_path / "photos.npy", GRAY)
    (tmp_path / "labels.csv").write_text("label,split,group\na,,g\nb,,g\na,test,\nb,Test,\n")
    for source in (tmp_path, tmp_path / "photos.npy"):
        data = load(source)
        assert names(data) == ["a", "b", "a", "b"]
        assert data.table["split"].fillna("-").tolist() == ["-", "-", "test", "test"]
        assert data.groups[0] == data.groups[1] != data.groups[2]


def test_several_tables_and_none_of_the_name_are_not_guessed(tmp_path):
    np.save(tmp_path / "photos.npy", GRAY)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("a\nb\na\nb\n")
    data = load(tmp_path / "photos.npy")
    assert data.class_names == ()
    assert "'a.csv', 'b.csv'; the one with its labels has to be 'photos.csv'" in data.warnings[0]


def test_an_array_in_a_folder_of_images_does_not_make_it_one_of_arrays(tmp_path):
    np.save(tmp_path / "embeddings.npy", np.zeros((4, 2)))
    write(tmp_path / "a" / "1.png", 1)
    assert load(tmp_path).class_names == ("a",)


@pytest.mark.parametrize(
    "given",
    [
        GRAY,
        np.asfortranarray(GRAY),
        GRAY[:, None],
        GRAY.astype(np.uint16) * 257,
        GRAY.astype(">f4") / 255,
        GRAY.astype(np.int64),
        GRAY > 100,
    ],
)
def test_a_mapped_array_of_any_type_reads_as_one_in_memory_and_stays_in_its_file(
    tmp_path, monkeypatch, given
):
    monkeypatch.setattr(blocks, "_CHUNK_BYTES", 200)
    np.save(tmp_path / "x.npy", given)
    np.savez(tmp_path / "x.npz", x_train=given)
    mapped, memory = load(tmp_path / "x.npy"), load(tmp_path / "x.npz")
    assert mapped.table["content"].tolist() == memory.table["content"].tolist()
    again = pickle.loads(pickle.dumps(mapped.pixels))
    assert len(pickle.dumps(mapped.pixels)) < 1000
    assert all(isinstance(block.values, np.memmap) for block in again._blocks)
    for row in range(4):
        np.testing.assert_array_equal(again.read(row), memory.pixels.read(row))


@pytest.mark.parametrize(
    ("values", "text", "message"),
    [
        (np.array([{}] * 4, object), "", "'x' in .*Python objects"),
        (GRAY, "a\nb\n", r"has 2 lines, but x holds 4 images\. Expected one line per image"),
        (GRAY, "n\n0.5\n1\n2\n3\n", "the first is '0.5' in row 2"),
        (GRAY, "0.5\n1\n2\n3\n", "the first is '0.5' in row 1"),
        (GRAY, '"a\n', r"has 1 line|cannot be read as a table"),
        (GRAY - 300.0, "a\nb\na\nb\n", "undo the normalization"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(tmp_path, values, text, message):
    np.save(tmp_path / "x.npy", values, allow_pickle=True)
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "x.npy")


@pytest.mark.parametrize("keep", [0, 3, 60, 200])
def test_a_damaged_file_is_refused(tmp_path, keep):
    np.save(tmp_path / "x.npy", GRAY)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cannot be read as an \.npy file"):
        load(tmp_path / "x.npy")
