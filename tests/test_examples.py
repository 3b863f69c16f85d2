"""The examples run as they are shown, and say in one line what they miss."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
FAST = ("first_steps", "two_levels")  # under a minute each

each = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
runs = pytest.mark.parametrize(
    "script",
    [pytest.param(s, marks=() if s.stem in FAST else pytest.mark.slow) for s in SCRIPTS],
    ids=lambda path: path.stem,
)


def run(script: Path, data: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own, begun in an empty folder."""
    return subprocess.run(
        [sys.executable, script, "--out", folder / "out", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LABELWISE_DATA": str(data)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )


@runs
def test_an_example_ends_well_with_its_pictures_and_a_report(script, shared_data, tmp_path):
    pytest.importorskip("matplotlib", reason="the pictures need labelwise[examples]")
    done = run(script, shared_data, tmp_path, "--quick")
    assert done.returncode == 0, done.stderr
    pictures = [Image.open(file) for file in (tmp_path / "out").glob("*.png")]
    assert pictures
    for picture in pictures:
        assert min(picture.size) > 100
        assert len(picture.convert("RGB").getcolors(2**24)) > 10
    assert "minute" in done.stdout
    assert list((tmp_path / "out").rglob("report.html"))


@each
def test_an_example_without_its_data_says_so_in_one_line(script, tmp_path):
    pytest.importorskip("matplotlib", reason="the pictures need labelwise[examples]")
    done = run(script, tmp_path / "nothing", tmp_path, "--quick")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "LABELWISE_DATA" in line


@each
def test_an_example_is_short_and_needs_no_helper(script):
    text = script.read_text()
    assert 40 <= len(text.splitlines()) <= 120
    assert not [other.stem for other in SCRIPTS if f"import {other.stem}" in text]
