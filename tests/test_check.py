from __future__ import annotations

import io
import json

import numpy as np
from PIL import Image
from rich.console import Console

from labelwise.checks import check
from tests.images import class_folders, picture, write


def printed(found):
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(found.summary())
    return console.file.getvalue()


def test_every_file_and_class_is_in_the_document(tmp_path):
    class_folders(tmp_path / "train", {"a": 6, "b": 5})
    write(tmp_path / "test" / "a" / "t.png", 0)
    write(tmp_path / "unlabeled" / "u.png", 90)
    (tmp_path / "notes.txt").write_text("x")
    document = check(tmp_path).to_json()
    assert document["classes"] == {
        "a": {"train": 6, "test": 1, "total": 7},
        "b": {"train": 5, "total": 5},
    }
    assert (document["images"], document["labeled"], document["unlabeled"]) == (13, 12, 1)
    assert len(document["files"]) == 14
    by_path = {file["path"]: file for file in document["files"]}
    assert by_path["train/b/004.png"] == {
        "path": "train/b/004.png",
        "decision": "used",
        "reason": None,
        "width": 40,
        "height": 30,
        "mode": "RGB",
        "split": "train",
        "label": "b",
    }
    assert by_path["notes.txt"]["decision"] == "set aside"
    assert document["duplicates"] == [
        {
            "paths": ["test/a/t.png", "train/a/000.png"],
            "kind": "exact",
            "enforced": True,
            "conflict": False,
        }
    ]
    json.dumps(document, allow_nan=False).encode("utf-8")


def test_the_warnings_a_user_expects_are_given(tmp_path):
    class_folders(tmp_path, {"cat": 45, "Cat": 4, "dog": 30})
    for seed in range(10):
        write(tmp_path / "dog" / f"big{seed}.png", 200 + seed, width=300, height=300)
    (tmp_path / "dog" / "broken.png").write_bytes(b"x")
    said = "\n".join(check(tmp_path).warnings)
    assert "no image is unlabeled" in said
    assert "fewer than 5 images of 'Cat'" in said
    assert "classes are uneven: 45 images of 'cat', 4 of 'Cat'" in said
    assert "differ only in case" in said
    assert "sizes differ widely, from 40 x 30 to 300 x 300" in said
    assert "set aside: 1 file; the first is 'dog/broken.png'" in said


def test_data_without_any_label_are_described_too(tmp_path):
    write(tmp_path / "x.png", 1)
    found = check(tmp_path)
    assert found.classes == {}
    assert any("no image has a label" in warning for warning in found.warnings)
    assert "1 image, 0 labeled" in printed(found)


def test_hostile_names_are_printed_as_they_are_and_steer_nothing(tmp_path):
    class_folders(tmp_path, {"[red]x": 5, "<img src=x onerror=alert(1)>": 5, "a\x1b[31mb": 5})
    text = printed(check(tmp_path))
    assert "[red]x" in text
    assert "<img src=x onerror=alert(1)>" in text
    assert "\x1b" not in text
    assert "a\\x1b[31mb" in text


def test_the_summary_groups_decisions_by_reason(tmp_path):
    class_folders(tmp_path, {"a": 5, "b": 5})
    for number in range(3):
        image = Image.fromarray(picture(300 + number)).quantize(16)
        image.save(tmp_path / "a" / f"p{number}.png")
    text = printed(check(tmp_path))
    line = next(line for line in text.splitlines() if "palette to RGB" in line)
    assert " 3 " in line
    assert "'a/p0.png', 'a/p1.png' and 1 more" in line


def test_the_summary_says_where_every_file_is_named(tmp_path):
    data = class_folders(tmp_path, {"a": 5, "b": 5})
    assert "--json" not in printed(check(data))
    (tmp_path / "notes.txt").write_text("x")
    assert "With --json every file" in printed(check(data))


def test_counts_of_the_document_are_plain_integers(tmp_path):
    document = check(class_folders(tmp_path, {"a": 5, "b": 5})).to_json()
    assert not isinstance(document["images"], np.integer)
    assert all(isinstance(file["width"], int) for file in document["files"])
