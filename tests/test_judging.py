"""An embedding beside its floors, in Python, on the command line, and in a run's report."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import labelwise
from labelwise.data.load import load
from labelwise.errors import DataError
from labelwise.judging import EMBEDDING, FROZEN, PIXELS, UNTRAINED, judge_embedding
from labelwise.measure.retrieval import retrieval
from labelwise.recipe.base import Context
from labelwise.recipe.metric import Metric
from tests.tasks import gratings, gratings_file

RECIPE = 'metric(layers="conv4 3x3 relu, max 2", size=6, epochs=3, batch=12, images=4, steps=8)'


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return gratings_file(tmp_path_factory.mktemp("data") / "gratings.npz", 20)


@pytest.fixture(scope="module")
def run(file, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return labelwise.train(file, recipe=RECIPE, out=out, folds=2, seen_classes="across, down")


def map_at_r(vectors, labels):
    return retrieval(vectors, labels).means["map@r"]


def test_rows_are_those_of_each_part_with_the_floors_that_it_has(run, file):
    rows = labelwise.judge(run.folder, file).rows
    assert [(row.part, row.vectors) for row in rows] == [
        (part, vectors)
        for part in ("seen", "unseen", "all")
        for vectors in (EMBEDDING, UNTRAINED, PIXELS)
    ]
    data = load(file)
    unseen = data.usable[data.labels == 2]
    by = {(row.part, row.vectors): row for row in rows}
    images, labels = data.images(unseen), data.labels[unseen]
    expected = map_at_r(run.model.embed(images), labels)
    assert by["unseen", EMBEDDING].metrics["map@r"].value == pytest.approx(expected)
    plain = gratings(20)[0].reshape(60, -1).astype(float)
    found = by["all", PIXELS]
    assert (found.count, found.metrics["map@r"].value) == (
        60,
        pytest.approx(map_at_r(plain, data.labels), abs=1e-6),
    )


def test_the_untrained_network_has_other_weights_and_the_same_layers(run, file):
    rows = {row.vectors: row for row in labelwise.judge(run.folder, file).rows if row.part == "all"}
    trained, untrained = (rows[name].metrics["map@r"].value for name in (EMBEDDING, UNTRAINED))
    assert trained != untrained
    fresh = Metric(layers="conv4 3x3 relu, max 2", size=6, epochs=1, steps=1, lr=1e-12)
    data = load(file)
    task = labelwise.recipe.base.Task(data.images(data.usable), data.labels, data.class_names)
    model = fresh.fit(task, Context()).model
    assert untrained == pytest.approx(
        map_at_r(model.embed(task.images), data.labels), abs=0.01
    )  # both begin from seed 0; only the scaling of pixels may differ by what was held out


def test_a_layer_on_a_frozen_network_stands_beside_that_network(run, file, tmp_path):
    data = load(file)
    recipe = Metric(backbone=str(run.folder), size=4, epochs=1, batch=12, images=4)
    task = labelwise.recipe.base.Task(data.images(data.usable), data.labels, data.class_names)
    model = recipe.fit(task, Context()).model
    for own in (model, labelwise.model.Model(**{**vars(model), "backbone": None})):
        rows = judge_embedding(own, task.images, data.labels, data.class_names)
        assert [row.vectors for row in rows] == [EMBEDDING, FROZEN, PIXELS]
        frozen = run.model.embed(task.images)
        assert rows[1].metrics["map@r"].value == pytest.approx(
            map_at_r(frozen, data.labels), abs=1e-3
        )


def test_classes_that_the_model_does_not_have_can_be_judged(run, tmp_path):
    images, labels = gratings(6, seed=5)
    names = np.array(["x", "y", "z"])
    np.savez(tmp_path / "other.npz", x_train=images, y_train=labels, class_names=names)
    rows = labelwise.judge(run.folder, tmp_path / "other.npz").rows
    assert {row.part for row in rows} == {"all"}
    np.savez(tmp_path / "none.npz", x_train=images)
    with pytest.raises(DataError, match="no labeled image"):
        labelwise.judge(run.folder, tmp_path / "none.npz")


def test_single_images_of_classes_have_no_numbers(run, tmp_path):
    images, _ = gratings(1)
    np.savez(tmp_path / "one.npz", x_train=images, y_train=np.arange(3))
    assert not labelwise.judge(run.folder, tmp_path / "one.npz").rows[0].metrics


def test_a_run_keeps_the_judgement_of_its_folds_and_its_report_shows_it(run):
    record = json.loads(next(run.folder.glob("trials/*/*fold-0/trial.json")).read_text())
    assert [row["part"] for row in record["embedding"]] == ["seen"] * 3 + ["unseen"] * 3 + [
        "all"
    ] * 3
    page = run.report.read_text()
    assert 'id="nearness"' in page
    value = record["embedding"][3]["metrics"]["map@r"]["value"]
    assert f"{100 * value:.1f}" in page


def test_the_command_prints_a_table_or_one_json_document(run, file):
    command = [sys.executable, "-m", "labelwise.cli", "evaluate", run.folder, file, "--embedding"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "MAP@R" in done.stdout
    assert "untrained" in done.stdout  # and nothing is cut off
    assert "…" not in done.stdout
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert len(found["embedding"]) == 9
    assert any("learned from 60 of the 60" in warning for warning in found["warnings"])


def test_blocks_do_not_change_what_is_found(monkeypatch):
    generator = np.random.default_rng(0)
    vectors, labels = generator.normal(size=(50, 4)), generator.integers(0, 3, 50)
    whole = retrieval(vectors, labels).means
    monkeypatch.setattr("labelwise.measure.retrieval.BLOCK", 120)
    assert retrieval(vectors, labels).means == pytest.approx(whole)
