"""The numbers we promise, on real data. Long: run by `make test-all`."""

from __future__ import annotations

import pytest

import labelwise
from labelwise.files import read_json


@pytest.fixture
def mnist(shared_data):
    return shared_data / "mnist.npz"


@pytest.mark.slow
def test_the_digits_preset_reaches_what_the_course_saw_on_the_official_test_part(mnist, tmp_path):
    run = labelwise.compare(mnist, recipes="cnn(preset=digits)", out=tmp_path / "run")
    (row,) = run.results["rows"]
    assert row["test"]["accuracy"]["n"] == 10_000
    assert row["test"]["accuracy"]["value"] >= 0.983


@pytest.mark.slow
def test_the_first_mlp_learns_what_the_course_saw(mnist, tmp_path):
    run = labelwise.compare(mnist, recipes="mlp(preset=first-mlp)", out=tmp_path / "run")
    trial = run.folder / "trials" / "mlp" / "labels-all_repeat-0_final" / "trial.json"
    record = read_json(trial)
    assert record["images"]["train"] == 60_000 - len(_copies_of_the_test_part(run))
    assert 0.91 <= record["train"]["accuracy"] <= 0.94


@pytest.mark.slow
def test_the_demo_is_better_than_hand_made_features(tmp_path):
    pytest.importorskip("elpv_dataset", reason="the photos come with labelwise[demo]")
    run = labelwise.demo(tmp_path / "run")
    probe = next(row for row in run.results["rows"] if row["variant"] == "probe")
    assert probe["metrics"]["accuracy"]["value"] >= 0.81
    assert run.results["recommended"] == "probe"


def _copies_of_the_test_part(run):
    """Labeled rows outside the test part that share a group with it: they are not learned from."""
    import pandas as pd

    table = pd.read_parquet(run.folder / "data.parquet")
    groups = set(table[table["split"] == "test"]["group"].dropna())
    return table[(table["split"] != "test") & table["group"].isin(groups)]
