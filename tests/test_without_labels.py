"""Data without any label: a model without a head, nothing judged."""

from __future__ import annotations

import numpy as np
import pytest

import labelwise
from labelwise import bundle
from labelwise.data.load import load
from labelwise.errors import DataError, OptionError, UsageError
from tests.tasks import gratings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "nameless.npz"
    np.savez(file, x_train=gratings(6)[0], x_test=gratings(2, seed=4)[0])
    return load(file)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return labelwise.train(data, recipe="probe(image_size=32)", out=out)


def test_the_run_has_every_file_and_no_numbers(run):
    names = {"run.json", "data.parquet", "folds.parquet", "leaderboard.json", "suspects.parquet"}
    assert names | {"report.html", "model", "trials"} <= {p.name for p in run.folder.iterdir()}
    (row,) = run.results["rows"]
    assert (row["status"], row["metrics"], row["train"], row["test"]) == ("done", None, None, None)
    assert run.results["recommended"] == "probe"
    assert "nothing was judged" in run.results["why"]
    assert run.leaderboard["accuracy"].isna().all()


def test_given_test_images_are_left_out(run, data):
    import pandas as pd

    folds = pd.read_parquet(run.folder / "folds.parquet")
    assert folds["role"].unique().tolist() == ["unlabeled"]
    assert len(folds) == 18


def test_the_model_has_no_head_and_embeds(run, data, tmp_path):
    model = run.model
    assert model.class_names == ()
    assert model.network.head is None
    assert model.embed(data.images(range(5))).shape == (5, 2064)
    again = bundle.load(bundle.save(model, tmp_path / "copy"))
    assert again.network.head is None


def test_asked_for_a_class_it_says_why_it_has_none(run, data, tmp_path):
    with pytest.raises(UsageError, match="no head: it was trained without any label"):
        run.model.predict([tmp_path / "new.png"])
    with pytest.raises(UsageError, match="no head"):
        labelwise.evaluate(run.folder, data)


def test_the_model_is_a_backbone_for_labeled_images(run, tmp_path):
    images, labels = gratings(8, seed=2)
    np.savez(tmp_path / "labeled.npz", x_train=images, y_train=labels)
    probe = labelwise.train(
        tmp_path / "labeled.npz", recipe="probe", backbone=str(run.folder), out=tmp_path / "run"
    )
    assert probe.leaderboard["accuracy"].item() > 0.7
    assert probe.record["warnings"] == []


def test_the_report_tells_it_and_shows_no_empty_sections(run):
    page = run.report.read_text()
    assert "without labels" in page
    for section in ("leaderboard", "confusion", "classes", "protocol"):
        assert f'id="{section}"' not in page


def test_it_resumes(data, tmp_path, monkeypatch):
    from labelwise import execute as module

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_report", killed)
        with pytest.raises(KeyboardInterrupt):
            labelwise.train(data, recipe="probe(image_size=32)", out=tmp_path / "run")
    run = labelwise.train(data, recipe="probe(image_size=32)", out=tmp_path / "run", resume=True)
    assert run.report.exists()


def test_a_recipe_that_needs_labels_is_refused_and_so_is_a_comparison(data, tmp_path):
    with pytest.raises(DataError, match=r"'cnn' has nothing to learn from.*recipes probe"):
        labelwise.train(data, recipe="cnn", out=tmp_path / "run")
    with pytest.raises(DataError, match="there is nothing to compare"):
        labelwise.compare(data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", [{"test": 0.2}, {"folds": 3}, {"repeats": 2}, {"labels": "4"}])
def test_options_about_judging_are_refused(data, tmp_path, option):
    with pytest.raises(OptionError, match="nothing can be judged"):
        labelwise.train(data, recipe="probe", out=tmp_path / "run", **option)
