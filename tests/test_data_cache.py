from __future__ import annotations

import multiprocessing
import os
import resource

import pytest

from labelwise.data import scan as scan_module
from labelwise.data.cache import Cache, cache_folder
from labelwise.data.load import load
from tests.images import class_folders, write


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    return class_folders(tmp_path / "data", {"a": 3, "b": 3})


@pytest.fixture
def decoded(monkeypatch):
    """Remembers what is decoded during a test."""
    seen = []
    real = scan_module.decode

    def remember(data, name=None, at_least=None):
        seen.append(name)
        return real(data, name, at_least)

    monkeypatch.setattr(scan_module, "decode", remember)
    return seen


def test_unchanged_files_are_not_opened_again(folder, decoded, monkeypatch):
    first = load(folder)
    assert len(decoded) == 6
    monkeypatch.setattr("labelwise.data.source.read_bytes", lambda _: pytest.fail("was opened"))
    second = load(folder)
    assert second.table.equals(first.table)
    assert second.duplicates == first.duplicates


def test_only_a_changed_and_a_new_file_are_decoded(folder, decoded):
    load(folder)
    decoded.clear()
    write(folder / "a" / "001.png", 100)
    write(folder / "b" / "new.png", 101)
    load(folder)
    assert sorted(decoded) == ["001.png", "new.png"]


def test_a_moved_file_is_not_decoded_again(folder, decoded):
    load(folder)
    decoded.clear()
    (folder / "a" / "000.png").rename(folder / "b" / "moved.png")
    load(folder)
    assert decoded == []


def test_a_file_renamed_to_a_wrong_extension_is_decided_anew(folder):
    load(folder)
    (folder / "a" / "000.png").rename(folder / "a" / "000.jpg")
    assert load(folder).table["reason"][0] == "is a PNG though named .jpg"


def test_a_changed_decoder_decodes_everything_again(folder, decoded, monkeypatch):
    load(folder)
    monkeypatch.setattr("labelwise.data.cache.DECODER_VERSION", 999)
    write(folder / "a" / "000.png", 0)  # the same bytes at a later time
    os.utime(folder / "a" / "000.png", ns=(1, 1))
    decoded.clear()
    load(folder)
    assert "000.png" in decoded


def test_a_broken_cache_is_one_warning_and_no_error(folder):
    expected = load(folder).table
    (cache_folder() / "images.sqlite").write_bytes(b"this is no database" * 1000)
    for leftover in cache_folder().glob("images.sqlite-*"):
        leftover.unlink()
    data = load(folder)
    assert data.table.equals(expected)
    assert sum("cache" in warning for warning in data.warnings) == 1


def test_a_cache_that_cannot_be_made_is_one_warning_and_no_error(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path / "file" / "cache"))
    data = load(folder)
    assert len(data.usable) == 6
    assert sum("cache" in warning for warning in data.warnings) == 1


def test_a_cache_on_a_full_disk_is_one_warning_and_no_error(folder):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        data = load(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(data.usable) == 6
    assert sum("cache" in warning for warning in data.warnings) == 1


def test_a_cache_turned_off_in_the_middle_stays_silent(folder, tmp_path):
    with Cache(tmp_path / "c") as cache:
        cache._connection.close()
        assert cache.by_digest(b"x") is None
        assert cache.by_digest(b"y") is None
        cache.add([])
        assert len(cache.warnings) == 1


def _load_rows(folder):
    return load(folder).table["content"].tolist()


def test_two_processes_share_it(folder):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(_load_rows, [folder, folder])
    assert first == second == load(folder).table["content"].tolist()
