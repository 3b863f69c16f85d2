from __future__ import annotations

import errno
import json
import os
import stat
import threading

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise.files import (
    append_line,
    read_json,
    remove_temporary,
    write_file,
    write_json,
    write_parquet,
    write_text,
)


def fail_midway(file):
    file.write(b"half")
    raise KeyboardInterrupt


@pytest.fixture
def umask():
    """Sets the process's umask and gives it back at the end."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def test_a_file_holds_what_was_written_last(tmp_path):
    for content in (b"first, longer", b"second"):
        write_file(tmp_path / "a", lambda file, content=content: file.write(content))
    assert (tmp_path / "a").read_bytes() == b"second"


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "deep" / "er" / "a", "x")
    assert (tmp_path / "deep" / "er" / "a").read_text() == "x"


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "a", fail_midway)
    assert (tmp_path / "a").read_text() == "old"


def test_a_writer_that_fails_leaves_no_other_file(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "a", fail_midway)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_replaced_leaves_no_temporary(tmp_path):
    (tmp_path / "a" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="a"):
        write_text(tmp_path / "a", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_nothing_but_the_file_is_left(tmp_path):
    write_text(tmp_path / "a", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_reader_never_sees_a_part(tmp_path):
    file, seen, written = tmp_path / "a", set(), threading.Event()
    write_text(file, "0" * 50_000)

    def write():
        for digit in "123456789" * 4:
            write_text(file, digit * 50_000)
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not written.is_set():
        text = file.read_text()
        seen.add((len(text), len(set(text))))
    writer.join()
    assert seen == {(50_000, 1)}


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, umask, mask, mode):
    umask(mask)
    write_text(tmp_path / "a", "x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_writing_in_threads_leaves_the_umask_alone(tmp_path, umask):
    def write(number):
        for _ in range(20):
            write_text(tmp_path / str(number), "x")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert umask(0o022) == 0o022


def test_lone_surrogates_are_escaped(tmp_path):
    write_text(tmp_path / "a", "na\udcffme")
    assert (tmp_path / "a").read_text("utf-8") == "na\\udcffme"


def test_a_file_may_have_a_name_that_is_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"na\xffme.txt")
    write_text(path, "x")
    assert os.listdir(os.fsencode(tmp_path)) == [b"na\xffme.txt"]  # noqa: PTH208


@settings(max_examples=50, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(codec=None)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    )
)
def test_json_comes_back_as_it_was(tmp_path_factory, value):
    file = tmp_path_factory.getbasetemp() / "value.json"
    write_json(file, value)
    assert read_json(file) == value


def test_json_keeps_the_order_it_was_built_in(tmp_path):
    write_json(tmp_path / "a", {"b": 1, "a": 2})
    assert list(read_json(tmp_path / "a")) == ["b", "a"]


def test_json_refuses_what_is_not_a_number(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a", float("nan"))


def test_a_table_comes_back_without_an_index(tmp_path):
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=[7, 8])
    write_parquet(tmp_path / "a.parquet", table)
    assert pd.read_parquet(tmp_path / "a.parquet").to_dict("list") == table.to_dict("list")


def test_lines_are_added_behind_each_other(tmp_path):
    for number in range(3):
        append_line(tmp_path / "log", {"n": number, "text": "a\u2028b\nc \udcff"})
    lines = (tmp_path / "log").read_bytes().decode().split("\n")
    assert [json.loads(line)["n"] for line in lines[:-1]] == [0, 1, 2]


def test_a_line_that_cannot_be_written_leaves_the_log(tmp_path):
    append_line(tmp_path / "log", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_line(tmp_path / "log", float("inf"))
    assert (tmp_path / "log").read_text() == "1\n"


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".half.tmp").write_text("x")
    remove_temporary(tmp_path)
    assert list((tmp_path / "deep").iterdir()) == []


def test_other_files_are_not_removed(tmp_path):
    for name in ("a.tmp", ".hidden", "b"):
        (tmp_path / name).write_text("x")
    remove_temporary(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "a.tmp", "b"]


def test_younger_temporary_files_can_be_spared(tmp_path):
    for name, written in ((".old.tmp", 1000), (".new.tmp", 2000)):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (written, written))
    remove_temporary(tmp_path, before=1500)
    assert [path.name for path in tmp_path.iterdir()] == [".new.tmp"]


def test_an_error_of_the_disk_names_the_file(tmp_path):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device: '.*/name'"):
        write_file(tmp_path / "name", full)


def test_a_write_that_was_killed_leaves_what_remove_temporary_finds(tmp_path, monkeypatch):
    monkeypatch.setattr("labelwise.files.Path.unlink", lambda *_, **__: None)  # as if killed
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "a", fail_midway)
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 1
    remove_temporary(tmp_path)
    assert list(tmp_path.iterdir()) == []
