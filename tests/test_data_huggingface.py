from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelwise.data import huggingface
from labelwise.data.load import load
from labelwise.errors import DataError
from tests.images import encoded, picture


def parquet(path, seeds, *, struct=True, names=("cat", "dog"), column="image", **labels):
    images = [encoded(picture(seed)) for seed in seeds]
    values = [{"bytes": data, "path": None} for data in images] if struct else images
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()}) if struct else pa.binary()
    table = pa.table({column: pa.array(values, kind), **labels})
    features = {name: {"_type": "ClassLabel", "names": list(names)} for name in labels}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=2)


@pytest.fixture
def folder(tmp_path):
    parquet(tmp_path / "train-00000-of-00002.parquet", range(5), label=[0, 1, 0, 1, -1])
    parquet(tmp_path / "train-00001-of-00002.parquet", range(5, 8), label=[1, 0, 1])
    parquet(tmp_path / "validation-00000-of-00001.parquet", [8], label=[1])
    parquet(tmp_path / "test-00000-of-00001.parquet", [9], label=[0])
    parquet(tmp_path / "extra_noisy-00000-of-00001.parquet", [10], label=[1])
    (tmp_path / "README.md").write_text("about")
    return tmp_path


def test_splits_labels_and_names_come_from_the_files(folder):
    data = load(folder)
    assert data.class_names == ("cat", "dog")
    found = {
        path: (label, split)
        for path, label, split in zip(
            data.table["path"], data.labels, data.table["split"].fillna("-"), strict=True
        )
    }
    assert found["train-00000-of-00002.parquet#1"] == (1, "train")
    assert found["train-00000-of-00002.parquet#4"] == (-1, "train")
    assert found["validation-00000-of-00001.parquet#0"] == (1, "val")
    assert found["test-00000-of-00001.parquet#0"] == (0, "test")
    assert found["extra_noisy-00000-of-00001.parquet#0"] == (-1, "-")
    assert "extra_noisy" in data.warnings[0]
    assert "used without labels: 1 image" in data.warnings[0]


def test_every_row_reads_its_own_picture_from_many_threads(folder, monkeypatch):
    monkeypatch.setattr(huggingface, "KEPT_BYTES", 1)  # keep one row group only
    data = pickle.loads(pickle.dumps(load(folder)))
    seeds = [10, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8]  # the files in the order of their names
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(data.pixels.read, range(11)))
    for seed, image in zip(seeds, images, strict=True):
        np.testing.assert_array_equal(image, picture(seed))


def test_plain_bytes_in_the_data_folder_and_no_metadata_are_read_too(tmp_path):
    parquet(tmp_path / "data" / "train.parquet", [0, 1], struct=False, names=(), label=[7, 11])
    data = load(tmp_path)
    assert data.class_names == ("7", "11")
    assert data.table["split"].tolist() == ["train", "train"]


def test_two_label_columns_need_a_choice(tmp_path):
    parquet(tmp_path / "a.parquet", [0, 1], fine=[0, 1], coarse=[0, 0])
    with pytest.raises(DataError, match="--target fine"):
        load(tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet", target="fine").target == "fine"


def test_rows_without_an_image_and_broken_ones_are_set_aside(tmp_path):
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    values = [{"bytes": encoded(picture()), "path": None}, None, {"bytes": b"junk", "path": None}]
    pq.write_table(pa.table({"img": pa.array(values, kind)}), tmp_path / "train.parquet")
    data = load(tmp_path)
    reasons = data.table["reason"].fillna("").tolist()
    assert reasons[0] == ""
    assert reasons[1].startswith("empty")
    assert reasons[2].startswith("not an image")


def test_a_label_outside_of_the_names_is_refused(tmp_path):
    parquet(tmp_path / "train.parquet", [0], label=[2])
    with pytest.raises(DataError, match=r"label 2, outside 0\.\.1"):
        load(tmp_path)


def test_a_damaged_file_is_refused(folder):
    (folder / "train-00001-of-00002.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load(folder)


def test_the_mammals_load_with_both_levels_of_labels(shared_data):
    data = load(shared_data / "cifar100_mammals", target="fine_label")
    assert len(data.class_names) == 15
    assert (data.table["split"] == "test").sum() == 1500
    assert [len(group.rows) for group in data.duplicates if group.kind == "exact"] == [2, 2]
    assert len(load(shared_data / "cifar100_mammals", target="coarse_label").class_names) == 3
