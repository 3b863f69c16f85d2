"""embed: a row per usable image, whatever embeds it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import labelwise
from labelwise import embedding
from labelwise.atlas.embedded import embedded
from labelwise.data.load import load
from labelwise.errors import OptionError
from labelwise.recipe.base import Context
from labelwise.recipe.mlp import Mlp
from tests.images import class_folders
from tests.tasks import grating_data, gratings_file, task_from


@pytest.fixture
def source(tmp_path):
    return gratings_file(tmp_path / "gratings.npz", per_class=4, unlabeled=3, test=2)


@pytest.fixture
def saved(tmp_path, tmp_path_factory):
    data = grating_data(tmp_path_factory.mktemp("learned"), per_class=4)
    model = Mlp(hidden=(7,), epochs=1).fit(task_from(data), Context()).model
    return model, labelwise.save_model(model, tmp_path / "model")


def test_the_table_has_names_labels_splits_and_the_networks_embedding(source, saved):
    model, folder = saved
    table = labelwise.embed(folder, source)
    data = load(source)
    assert list(table) == ["id", "path", "label", "split", *(f"e_{i}" for i in range(7))]
    assert table["label"].isna().sum() == 3
    named = [None if k < 0 else data.class_names[k] for k in data.labels]
    assert table["label"].astype(object).where(table["label"].notna(), None).tolist() == named
    assert table["split"].value_counts().to_dict() == {"train": 12, "test": 6}
    expected = model.embed(data.images(data.usable))
    np.testing.assert_allclose(table.filter(like="e_"), expected, rtol=1e-5, atol=1e-6)


def test_a_model_in_memory_gives_the_same_as_its_folder(source, saved):
    model, folder = saved
    a, b = labelwise.embed(model, source), labelwise.embed(folder, source)
    np.testing.assert_allclose(a.filter(like="e_"), b.filter(like="e_"), rtol=1e-5, atol=1e-6)


def test_the_file_holds_the_table_also_when_it_is_written_in_parts(
    source, saved, tmp_path, monkeypatch
):
    monkeypatch.setattr(embedding, "AT_ONCE", 5)
    told = []
    count = embedding.write_embeddings(
        tmp_path / "e.parquet", saved[1], source, progress=lambda *said: told.append(said)
    )
    assert count == 18
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "e.parquet"), labelwise.embed(saved[1], source)
    )
    assert told[-1][:2] == (18, 18)


def test_a_pretrained_network_embeds_without_any_training(tmp_path):
    folder = class_folders(tmp_path / "photos", {"cat": 2, "dog": 1})
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    table = labelwise.embed("efficientnet-lite0", folder)
    assert len(table) == len(load(folder).usable)  # the broken file has no embedding
    assert table.shape[1] == 4 + 2064
    assert table.filter(like="e_").dtypes.eq("float32").all()


def test_a_file_of_another_kind_is_refused_before_any_work(saved, source, tmp_path):
    with pytest.raises(OptionError, match=r"--out .*e\.csv: give the name of a \.parquet file"):
        embedding.write_embeddings(tmp_path / "e.csv", saved[1], source)


@pytest.mark.parametrize("by", ["saved", "efficientnet-lite0"])
def test_progress_ends_with_the_last_image(source, saved, by):
    data, told = load(source), []
    model = saved[0] if by == "saved" else by
    labelwise.embed(model, data, progress=lambda *said: told.append(said))
    assert told[-1] == (18, 18, "embedding")
    rows = data.in_part(data.usable, "test")
    embedded(model, data, rows, lambda *said: told.append(said))
    assert told[-1] == (6, 6, "embedding")
