from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from labelwise.data import packaged
from labelwise.data.load import load
from labelwise.errors import DataError, MissingExtraError
from tests.images import class_folders


def test_digits_load_at_full_contrast():
    data = load("digits")
    assert data.table.shape == (1797, 11)
    first = data.images([0]).read(0)
    assert (first.shape, first.max(), first.dtype) == ((8, 8), 239, np.uint8)  # 15 * 255 / 16


@pytest.mark.parametrize(
    ("target", "counts"),
    [
        (None, {"functional": 1803, "defective": 821}),
        ("probability", {"0": 1508, "1/3": 295, "2/3": 106, "1": 715}),  # published counts
        ("type", {"mono": 1074, "poly": 1550}),
    ],
)
def test_the_solar_cells_have_three_label_columns(target, counts):
    pytest.importorskip("elpv_dataset")
    data = load("elpv", target=target)
    assert {n: int((data.labels == i).sum()) for i, n in enumerate(data.class_names)} == counts
    assert any("CC BY-NC-SA" in sentence for sentence in data.context)
    assert any("88.42" in sentence for sentence in data.context) == (target is None)


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"labelwise\[demo\]"):
        load("elpv")


def test_a_dataset_is_returned_as_it_is(tmp_path):
    data = load(class_folders(tmp_path, {"a": 2, "b": 2}))
    assert load(data) is data


def test_progress_ends_at_the_total(tmp_path):
    calls = []
    load(class_folders(tmp_path, {"a": 40, "b": 40}), progress=lambda *call: calls.append(call))
    looking = [(done, total) for done, total, what in calls if what == "looking at images"]
    assert looking[-1] == (80, 80)
    assert looking == sorted(looking)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "photoes", r"does not exist\. Did you mean 'photos'"),
        (lambda p: "elvp", "Did you mean 'elpv'"),
        (lambda p: p / "x.7z", r"of a kind that is not read \(\.7z\)\. Extract it"),
        (lambda p: p / "x.doc", r"unknown kind \(\.doc\)"),
        (lambda p: p / "run", "a labelwise run, not images"),
        (lambda p: p / "model", "a saved model, not images"),
        (lambda p: "a\0b", "does not exist"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_the_next_step(tmp_path, make, message):
    class_folders(tmp_path, {"photos": 1})
    for name in ("x.7z", "x.doc", "run/run.json", "run/leaderboard.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    (tmp_path / "model" / "weights.safetensors").write_text("")
    with pytest.raises(DataError, match=message):
        load(make(tmp_path))


def test_a_target_is_refused_where_there_is_only_one(tmp_path):
    with pytest.raises(DataError, match="no label column 'kind'"):
        load(class_folders(tmp_path, {"a": 2, "b": 2}), target="kind")


def test_the_fingerprint_changes_with_the_pictures_and_the_classes(tmp_path):
    first = load(class_folders(tmp_path / "1", {"a": 2, "b": 2})).fingerprint
    assert load(class_folders(tmp_path / "2", {"a": 2, "b": 2})).fingerprint == first
    assert load(class_folders(tmp_path / "3", {"a": 2, "c": 2})).fingerprint != first
    assert load(class_folders(tmp_path / "4", {"a": 3, "b": 1})).fingerprint != first


def test_importing_the_data_modules_does_not_import_torch():
    code = "import sys, labelwise.data.load, labelwise.checks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
