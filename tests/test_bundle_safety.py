"""Loading is safe: whatever bytes a model consists of, it is refused in one line or is only data.

All hostile cases (tests/hostile.py) run in one process of their own (tests/audited.py), because an
audit hook cannot be taken off again. The tests here read what came of them.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from labelwise import bundle
from labelwise.cli import main
from tests import hostile

SECONDS = 2.0  # of one core: other processes do not count
LONGEST_LINE = 1000  # characters, the path of the file included
MEGABYTES = 500  # that all cases together may add to the process at its largest


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What came of every case."""
    folder = tmp_path_factory.mktemp("hostile")
    subprocess.run(
        [sys.executable, "-m", "tests.audited", str(folder)],
        check=True,
        timeout=500,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "LABELWISE_CACHE": str(folder / "cache")},
    )
    return json.loads((folder / "outcomes.json").read_text())


@pytest.fixture(scope="module")
def cases(report):
    """Models and backbones together."""
    return [*report["models"], *report["backbones"]]


def answer(result):
    """The probability that was printed for the one image."""
    csv.field_size_limit(10**7)  # a name of 3 MB is a name
    (row,) = csv.DictReader(StringIO(result["out"]))
    return row["probability"]


def test_valid_models_load_and_are_not_suspected(report):
    for result in report["valid"].values():
        assert (result["status"], result["err"], result["events"]) == (0, "", [])


def test_every_hostile_model_is_refused_with_one_line_and_status_2(cases):
    wrong = [
        (case["name"], case["status"], case["err"])
        for case in cases
        if not case["loads"]
        and (
            case["status"] != 2
            or case["out"]
            or case["err"].count("\n") != 1
            or not case["err"].rstrip("\n").isprintable()
            or len(case["err"]) > LONGEST_LINE
        )
    ]
    assert not wrong


def test_text_in_free_fields_is_data_and_changes_no_answer(report):
    """Free are the version, class names, hyperparameters and facts; `hostile.free` lists them."""
    loading = [case for case in report["models"] if case["loads"]]
    assert len(loading) > 100
    wrong = [(case["name"], case["err"]) for case in loading if case["status"] or case["err"]]
    assert not wrong
    for case in loading:
        kind = case["name"].split(":")[0]
        assert answer(case) == answer(report["valid"].get(kind, report["valid"]["cnn"])), case[
            "name"
        ]


def test_every_case_ends_within_two_seconds(cases):
    assert not [(case["name"], case["seconds"]) for case in cases if case["seconds"] > SECONDS]


def test_no_case_unpickles_executes_connects_writes_or_reads_elsewhere(cases):
    assert not [(case["name"], case["events"]) for case in cases if case["events"]]


def test_the_memory_stays_bounded(report):
    assert report["kilobytes"] < MEGABYTES * 1024


def test_backbones_with_odd_descriptions_load_nothing_from_elsewhere(report):
    wrong = [c for c in report["backbones"] if c["loads"] and (c["status"] or c["err"])]
    assert not wrong


def test_every_flipped_bit_is_refused_by_the_hash_of_its_file(report):
    """All bits of model.json and 1,000 of the weights."""
    assert report["flips"]["wrong"] == []


@pytest.mark.parametrize("kind", ["cut", "cut and renewed"])
def test_weights_cut_at_any_place_are_refused(report, kind):
    said = report["flips"][kind]
    assert len(said) == 20
    assert all(line and "\n" not in line for line in said)


def test_with_a_renewed_hash_a_flipped_bit_is_refused_or_is_what_the_file_says(report):
    found = report["flips"]
    assert found["untrue"] == []
    assert found["refused"] > 10
    assert found["loaded"] > 100


def test_object_arrays_are_refused_without_unpickling(report):
    assert report["objects"]["status"] == 2
    assert "Python objects" in report["objects"]["err"]
    assert report["objects"]["events"] == []


def test_the_hook_does_notice(report):
    """Unpickling that runs a command, reading elsewhere, and running code, before all cases."""
    assert report["noticed"] == [True, True, True]


def test_the_terminal_says_the_same_line_and_ends_with_status_2(tmp_path, monkeypatch, capsys):
    origin = bundle.save(hostile.model("cnn"), tmp_path / "cnn")
    data = (origin / "weights.safetensors").read_bytes()
    hostile.with_weights(origin, tmp_path / "case", b"x" * len(data))
    arguments = ["labelwise", "predict", str(tmp_path / "case"), str(tmp_path / "image.png")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match="^2$"):
        main()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"labelwise: {tmp_path}/case/weights.safetensors")
    assert said.err.count("\n") == 1
