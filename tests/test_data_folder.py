from __future__ import annotations

import os
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelwise.data.dataset import COLUMNS, UNLABELED
from labelwise.data.folder import place
from labelwise.data.load import load
from labelwise.errors import DataError
from tests.images import class_folders, encoded, picture, write


def rows(data):
    names = dict(enumerate(data.class_names))
    table = data.table.astype(object).where(data.table.notna(), None)
    return {
        row.path: (names.get(row.label), row.split, row.decision, row.reason)
        for row in table.itertuples()
    }


def test_the_folder_of_an_image_is_its_class(tmp_path):
    class_folders(tmp_path, {"dog": 3, "cat": 2})
    write(tmp_path / "cat" / "deep" / "er" / "x.png", 50)
    data = load(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert rows(data)["cat/deep/er/x.png"] == ("cat", None, "used", None)
    assert np.bincount(data.labels).tolist() == [3, 3]
    np.testing.assert_array_equal(
        data.images(data.usable).read(0), picture(3)
    )  # cat/000.png was the fourth made


def test_the_table_has_exactly_the_agreed_columns_and_types(tmp_path):
    data = load(class_folders(tmp_path, {"a": 2, "b": 2}))
    assert {name: str(kind) for name, kind in data.table.dtypes.items()} == COLUMNS
    assert data.table["id"].tolist() == [0, 1, 2, 3]


def test_images_at_the_top_and_under_unlabeled_have_no_label(tmp_path):
    class_folders(tmp_path, {"a": 2, "unlabeled": 2})
    write(tmp_path / "top.png", 9)
    data = load(tmp_path)
    assert data.class_names == ("a",)
    assert (data.labels == UNLABELED).sum() == 3


def test_split_folders_are_honored(tmp_path):
    class_folders(tmp_path / "train", {"a": 1, "b": 1, "unlabeled": 1})
    write(tmp_path / "validation" / "a" / "v.png", 20)
    write(tmp_path / "test" / "b" / "t.png", 21)
    write(tmp_path / "unlabeled" / "u.png", 22)
    found = rows(load(tmp_path))
    assert found["train/a/000.png"][:2] == ("a", "train")
    assert found["train/unlabeled/000.png"][:2] == (None, "train")
    assert found["validation/a/v.png"][:2] == ("a", "val")
    assert found["test/b/t.png"][:2] == ("b", "test")
    assert found["unlabeled/u.png"][:2] == (None, None)


def test_a_train_beside_a_bus_is_a_class(tmp_path):
    data = load(class_folders(tmp_path, {"train": 2, "bus": 2}))
    assert data.class_names == ("bus", "train")
    assert "'train'" in data.warnings[0]


def test_hidden_things_are_on_record_and_not_read(tmp_path):
    class_folders(tmp_path, {"a": 1, "b": 1, ".git": 2, "__MACOSX": 1})
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    found = rows(load(tmp_path))
    hidden = {path for path, (*_, reason) in found.items() if reason == "hidden"}
    assert hidden == {".git", "__MACOSX", "a/.DS_Store", "a/Thumbs.db"}


def test_files_that_are_no_images_are_set_aside_by_content(tmp_path):
    class_folders(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "notes.txt").write_text("hello")
    (tmp_path / "a" / "fake.png").write_text("hello")
    (tmp_path / "a" / "empty.png").write_bytes(b"")
    (tmp_path / "a" / "no_extension").write_bytes(encoded(picture(77)))
    found = rows(load(tmp_path))
    assert found["a/notes.txt"][3].startswith("not an image")
    assert found["a/fake.png"][3].startswith("not an image")
    assert found["a/empty.png"][3].startswith("empty")
    assert found["a/no_extension"][2] == "used"


def test_a_link_back_up_ends_and_is_on_record(tmp_path):
    class_folders(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "again").symlink_to(tmp_path / "b")
    (tmp_path / "a" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    found = rows(load(tmp_path))
    assert found["a/loop"][3].startswith("link to a folder that is read already")
    assert found["a/again"][3].startswith("link to a folder that is read already")
    assert found["a/broken.png"][3] == "broken link"
    assert found["a/self"][3] == "broken link"
    assert found["b/000.png"][2] == "used"


def test_links_to_other_places_are_followed(tmp_path):
    class_folders(tmp_path / "data", {"a": 1, "b": 1})
    class_folders(tmp_path / "elsewhere", {"more": 2})
    (tmp_path / "data" / "a" / "link").symlink_to(tmp_path / "elsewhere" / "more")
    assert "a/link/001.png" in rows(load(tmp_path / "data"))


def test_empty_and_single_image_classes_are_named(tmp_path):
    class_folders(tmp_path, {"many": 3, "lonely": 1})
    (tmp_path / "nothing").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"no")
    data = load(tmp_path)
    assert data.class_names == ("lonely", "many")
    said = " ".join(data.warnings)
    assert "'nothing' is empty" in said
    assert "no usable image of the class 'broken'" in said
    assert "only one image of the class 'lonely'" in said


def test_numbered_classes_are_sorted_by_number(tmp_path):
    assert load(class_folders(tmp_path, {"10": 1, "9": 1, "1": 1})).class_names == ("1", "9", "10")


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>", "猫 と 犬", "a'b\"c", "[red]x", "-rf"]
)
def test_any_name_is_only_a_name(tmp_path, name):
    data = load(class_folders(tmp_path, {name: 2, "other": 2}))
    assert name in data.class_names
    assert len(data.images(data.usable).read(0)) == 30


def test_names_that_are_no_unicode_are_shown_escaped(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        Path(os.fsdecode(folder)).mkdir()
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    Path(os.fsdecode(folder + b"/\xff.png")).write_bytes(encoded(picture()))
    data = load(class_folders(tmp_path, {"b": 1}))
    assert "caf\\udce9" in data.class_names
    assert "caf\\udce9/\\udcff.png" in rows(data)
    np.testing.assert_array_equal(data.images([1]).read(0), picture())
    assert data.fingerprint


def test_twins_in_unicode_or_case_are_kept_apart_with_a_warning(tmp_path):
    composed = unicodedata.normalize("NFC", "café")
    class_folders(tmp_path, {composed: 2, unicodedata.normalize("NFD", "café"): 2, "Café": 1})
    data = load(tmp_path)
    assert len(data.class_names) == 3
    assert any("differ only in case" in warning for warning in data.warnings)


def test_the_data_travel_as_a_pickle_and_read_the_same(tmp_path):
    data = load(class_folders(tmp_path, {"a": 2, "b": 2}))
    again = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(again.images([2]).read(0), data.images([2]).read(0))


def test_an_image_that_broke_after_loading_is_an_error_that_says_so(tmp_path):
    data = load(class_folders(tmp_path, {"a": 2, "b": 2}))
    (tmp_path / "a" / "000.png").unlink()
    with pytest.raises(DataError, match=r"file not found\. Load the data again"):
        data.images([0]).read(0)


def test_a_folder_without_a_usable_image_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no file"):
        load(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"Set aside: 1 file .*not an image.*notes\.txt"):
        load(tmp_path)


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4), st.booleans())
def test_a_class_is_always_one_of_the_folders(parts, split_layout):
    split, label = place(tuple(parts), split_layout)
    assert split in (None, "train", "val", "test")
    assert label is None or label in parts[:-1]


def test_a_file_that_cannot_be_used_is_named(tmp_path):
    class_folders(tmp_path, {"a": 2, "b": 1})
    (tmp_path / "b" / "broken.png").write_bytes(b"no image")
    (said,) = [w for w in load(tmp_path).warnings if "set aside" in w]
    assert "1 file" in said
    assert "'b/broken.png'" in said
