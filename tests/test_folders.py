"""Where a run is kept: never within the images, whatever the way there is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelwise.errors import OptionError
from labelwise.folders import run_folder


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    (tmp_path / "link").symlink_to("photos")
    return tmp_path / "photos"


@pytest.mark.parametrize("data", ["photos", "link", "~/photos", "photos/cats/.."])
@pytest.mark.parametrize("out", ["photos/run", "link/run", "photos/cats/deep/run", "x/../link/run"])
def test_a_folder_within_the_images_is_refused(photos, data, out):
    with pytest.raises(OptionError, match="is inside of the data"):
        run_folder(out, data)


@pytest.mark.parametrize("out", ["run", "photos/../run", "photos-run", "link/../run", "a\0b"])
def test_a_folder_beside_the_images_is_taken_as_it_is_named(photos, out):
    assert run_folder(out, "photos") == Path(out)


def test_what_lies_beside_a_table_or_an_array_is_not_inside_of_it(tmp_path):
    assert run_folder(tmp_path / "run", tmp_path / "labels.csv") == tmp_path / "run"
