"""similar: the nearest images by a brute-force comparison, and what cannot be asked."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import labelwise
from labelwise import neighborhood as module
from labelwise.data.load import load
from labelwise.errors import DataError, OptionError
from labelwise.recipe.base import Context
from labelwise.recipe.mlp import Mlp
from tests.tasks import grating_data, gratings_folder, task_from


def test_faiss_finds_what_torch_finds(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    queries, points = (torch.randn(n, 16, generator=generator) for n in (5, 300))
    expected = module._largest(queries, points, 7)
    pytest.importorskip("faiss", reason="the extra labelwise[search] is not installed")
    monkeypatch.setattr(module, "MUCH", 1)
    found = module._largest(queries, points, 7)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return gratings_folder(tmp_path_factory.mktemp("photos"), 6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    data = grating_data(tmp_path_factory.mktemp("learned"), per_class=10)
    return Mlp(hidden=(9,), epochs=5).fit(task_from(data), Context()).model


def test_the_most_similar_images_are_those_with_the_largest_cosine(model, photos, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 4)
    data = load(photos)
    points = model.embed(data.images(data.usable)).astype(float)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    queries = [photos / data.table["path"][row] for row in (0, 7)]
    found = labelwise.similar(model, queries, photos, count=5)
    for query, row in zip(queries, (0, 7), strict=True):
        own = found[found["query"] == str(query)]
        assert own["rank"].tolist() == [1, 2, 3, 4, 5]
        cosines = points @ points[row]
        same = data.contents == data.contents[row]
        expected = np.sort(cosines[~same])[::-1][:5]
        np.testing.assert_allclose(own["similarity"], expected, atol=1e-5)
        np.testing.assert_allclose(cosines[own["id"]], expected, atol=1e-5)
        assert own["label"].tolist() == [data.class_names[data.labels[n]] for n in own["id"]]
        assert not same[own["id"]].any()


def test_fewer_images_than_asked_for_are_all_of_them(model, photos):
    query = next(photos.rglob("*.png"))
    assert len(labelwise.similar(model, query, photos, count=100)) == 17


def test_what_cannot_be_asked_is_refused(model, photos, tmp_path):
    with pytest.raises(DataError, match="no query"):
        labelwise.similar(model, [], photos)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"broken\.png' cannot be used"):
        labelwise.similar(model, tmp_path / "broken.png", photos)
    with pytest.raises(OptionError, match="at least 1"):
        labelwise.similar(model, next(photos.rglob("*.png")), photos, count=0)


def test_the_command_line_prints_them(model, photos, tmp_path):
    folder = labelwise.save_model(model, tmp_path / "model")
    query = sorted(photos.rglob("*.png"))[0]
    words = [sys.executable, "-m", "labelwise.cli", "similar", str(folder), str(query)]
    words += [str(photos), "--count", "3", "--quiet"]
    plain = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    done = subprocess.run([*words, "--format", "json"], capture_output=True, text=True, check=True)
    answers = json.loads(done.stdout)
    assert [answer["rank"] for answer in answers] == [1, 2, 3]
    assert set(answers[0]) == {"query", "rank", "id", "path", "label", "similarity"}
    shown = [
        line.split() for line in plain.splitlines() if line.split()[:1] in (["1"], ["2"], ["3"])
    ]
    assert [(line[1], line[2]) for line in shown] == [(a["path"], a["label"]) for a in answers]
    assert [float(line[3]) for line in shown] == pytest.approx(
        [a["similarity"] for a in answers], abs=1e-3
    )
