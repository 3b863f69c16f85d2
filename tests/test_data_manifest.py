from __future__ import annotations

import pandas as pd
import pytest

from labelwise.data.load import load
from labelwise.errors import DataError
from tests.images import write


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        write(tmp_path / "images" / f"{number}.png", number)
    return tmp_path


def manifest(folder, text, name="items.csv", encoding="utf-8"):
    (folder / name).write_text(text, encoding=encoding)
    return load(folder / name)


def reasons(data):
    return data.table["reason"].astype(object).where(data.table["reason"].notna(), None).tolist()


def labels(data):
    return [data.class_names[label] if label >= 0 else None for label in data.labels]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_with_any_separator_and_a_byte_order_mark_is_read(folder, separator):
    lines = ["path,label,split,group", "images/0.png,cat,Train,g1", "images/1.png,dog,VALIDATION,"]
    text = "\n".join([*lines, "images/2.png,,test,g1"]).replace(",", separator)
    data = manifest(folder, text, encoding="utf-8-sig")
    assert labels(data) == ["cat", "dog", None]
    assert data.table["split"].tolist() == ["train", "val", "test"]
    assert data.groups.tolist() == [0, 1, 0]
    assert data.target == "label"


def test_absolute_paths_are_taken_as_they_are(folder, tmp_path):
    data = manifest(folder, f"path,kind\n{tmp_path}/images/0.png,a\nimages/1.png,b\n")
    assert data.target == "kind"
    assert len(data.usable) == 2


def test_numbers_become_class_names_sorted_by_number(folder):
    text = "path,label\nimages/0.png,10.0\nimages/1.png,2.0\nimages/2.png,\n"
    data = manifest(folder, text)
    assert data.class_names == ("2", "10")
    assert labels(data) == ["10", "2", None]


def test_codes_with_leading_zeros_stay_as_they_are(folder):
    assert manifest(folder, "path,label\nimages/0.png,007\nimages/1.png,1\n").class_names == (
        "1",
        "007",
    )


def test_minus_one_is_no_class(folder):
    data = manifest(folder, "path,label\nimages/0.png,0\nimages/1.png,1\nimages/2.png,-1\n")
    assert labels(data) == ["0", "1", None]
    assert "-1" in data.warnings[0]


def test_missing_files_are_set_aside(folder):
    data = manifest(folder, "path,label\nimages/0.png,a\nimages/gone.png,b\n,b\n")
    assert reasons(data) == [None, "file not found", "no path in row 4"]


def test_a_path_named_twice_counts_once_and_a_contradiction_not_at_all(folder):
    data = manifest(
        folder,
        "path,label\nimages/0.png,a\nimages/../images/0.png,a\nimages/1.png,a\nimages/1.png,b\n"
        "images/2.png,\nimages/2.png,b\n",
    )
    assert reasons(data) == [
        None,
        "named twice in the manifest, rows 2 and 3",
        "different labels in rows 4 and 5 of the manifest",
        "different labels in rows 4 and 5 of the manifest",
        "named twice in the manifest, rows 7 and 6",
        None,
    ]


def test_a_parquet_manifest_gives_the_same_as_a_csv(folder):
    frame = pd.DataFrame(
        {"path": [f"images/{n}.png" for n in range(4)], "label": [1.0, 2.0, None, 1.0]}
    )
    frame.to_parquet(folder / "items.parquet")
    data = load(folder / "items.parquet")
    assert labels(data) == ["1", "2", None, "1"]


def test_several_label_columns_need_a_choice(folder):
    (folder / "m.csv").write_text("path,coarse,fine\nimages/0.png,x,1\nimages/1.png,y,2\n")
    with pytest.raises(DataError, match="2 label columns: 'coarse', 'fine'"):
        load(folder / "m.csv")
    assert load(folder / "m.csv", target="coarse").class_names == ("x", "y")
    with pytest.raises(DataError, match=r"no label column 'color'.*'coarse', 'fine'"):
        load(folder / "m.csv", target="color")


def test_without_a_label_column_nothing_is_labeled(folder):
    data = manifest(folder, "path\nimages/0.png\nimages/1.png\n")
    assert data.class_names == ()
    assert data.target is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\nx,y\n", "no column 'path'; its columns are 'file', 'label'"),
        ("path,label\nimages/0.png,0.25\n", "no integers; the first is '0.25' in row 2"),
        ("path,label,split\nimages/0.png,a,training2\n", "split 'training2' in row 2 is unknown"),
        ("", "cannot be read as a table"),
        ('path,label\n"images/0.png,a\n', "cannot be read as a table"),
    ],
)
def test_a_broken_manifest_is_refused_with_the_reason(folder, text, message):
    with pytest.raises(DataError, match=message):
        manifest(folder, text)


def test_a_manifest_that_is_no_text_is_refused(folder):
    (folder / "m.csv").write_bytes(b"path,label\n\xff\xfe\x00,a\n")
    with pytest.raises(DataError, match="cannot be read as a table"):
        load(folder / "m.csv")


def test_a_column_of_identifiers_is_no_label(folder):
    text = "path,label\n" + "".join(f"images/{n}.png,id{n}\n" for n in range(51))
    with pytest.raises(DataError, match="51 labels and no two are alike"):
        manifest(folder, text)


def test_json_lines_give_the_same_as_a_csv(folder):
    text = (
        '{"path": "images/0.png", "label": "cat", "split": "train", "group": 7}\n\n'
        '{"path": "images/1.png", "label": "dog", "split": "VAL", "group": null}\n'
        '{"path": "images/2.png", "group": 7}\n{"label": "dog"}\n'
    )
    for name in ("m.jsonl", "m.ndjson"):
        data = manifest(folder, text, name=name, encoding="utf-8-sig")
        assert labels(data)[:3] == ["cat", "dog", None]
        assert data.table["split"].fillna("-").tolist() == ["train", "val", "-", "-"]
        assert data.groups[0] == data.groups[2]
        assert reasons(data) == [None, None, None, "no path in row 5"]


def test_numbers_in_json_lines_are_class_names(folder):
    text = '{"path": "images/0.png", "label": 10}\n{"path": "images/1.png", "label": 2.0}\n'
    assert manifest(folder, text, name="m.jsonl").class_names == ("2", "10")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": ', "line 3 of .* is no JSON"),
        ("[" * 100_000, "line 3 of .* is no JSON"),
        ("[1]", "line 3 of .* is no flat object"),
        ('{"path": ["x"]}', "line 3 of .* is no flat object"),
        ('{"path": "images/0.png", "label": 0.5}', "the first is '0.5' in row 3"),
    ],
)
def test_a_broken_line_is_named_by_its_number(folder, line, message):
    text = f'{{"path": "images/0.png", "label": 1}}\n\n{line}\n'
    with pytest.raises(DataError, match=message):
        manifest(folder, text, name="m.jsonl")
