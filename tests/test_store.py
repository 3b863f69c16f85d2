from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from labelwise import store as store_module
from labelwise.store import Store, empty_stores, store_folder, store_size, tidy_stores

SHAPE = (2, 3)


class Squares:
    """Computes a row from a content's number, and counts what it was asked for."""

    def __init__(self, contents):
        self.contents = contents
        self.asked = []

    def __call__(self, positions):
        for position in positions:
            self.asked.append(self.contents[position])
            yield expected([self.contents[position]])


def expected(contents):
    numbers = np.array([int(content, 16) for content in contents], dtype=np.float32)
    return np.ones(SHAPE, np.float32) * (numbers**2)[:, None, None]


def never(positions):
    raise AssertionError(f"asked to compute {len(positions)} rows")


@pytest.fixture
def store(tmp_path):
    return Store.open({"what": "squares"}, SHAPE, "float32", tmp_path)


def hashes(*numbers):
    return [f"{number:032x}" for number in numbers]


def test_rows_come_in_the_order_asked_for(store):
    contents = hashes(5, 1, 4)
    assert np.array_equal(store.rows(contents, Squares(contents)), expected(contents))


def test_rows_come_in_the_order_asked_for_from_several_shards(store):
    for contents in (hashes(1, 2), hashes(3), hashes(4, 5)):
        store.rows(contents, Squares(contents))
    mixed = hashes(4, 1, 5, 3, 2, 1)
    assert np.array_equal(store.rows(mixed, never), expected(mixed))


def test_a_known_row_is_not_computed_again(store):
    store.rows(hashes(1, 2), Squares(hashes(1, 2)))
    compute = Squares(hashes(2, 3, 1))
    store.rows(hashes(2, 3, 1), compute)
    assert compute.asked == hashes(3)


def test_a_new_process_knows_the_rows(store, tmp_path):
    store.rows(hashes(1, 2), Squares(hashes(1, 2)))
    again = Store.open({"what": "squares"}, SHAPE, "float32", tmp_path)
    assert np.array_equal(again.rows(hashes(2), never), expected(hashes(2)))


def test_duplicates_are_computed_once(store):
    contents = hashes(7, 1, 7, 7, 1)
    compute = Squares(contents)
    store.rows(contents, compute)
    assert compute.asked == hashes(7, 1)


def test_duplicates_get_the_same_row(store):
    contents = hashes(7, 1, 7)
    assert np.array_equal(store.rows(contents, Squares(contents)), expected(contents))


def test_missing_names_each_content_once(store):
    store.rows(hashes(1), Squares(hashes(1)))
    assert store.missing(hashes(3, 1, 3, 2)).tolist() == [0, 3]


def test_no_image_gives_no_row(store):
    assert store.rows([], never).shape == (0, *SHAPE)


def test_a_store_nobody_filled_misses_everything(store):
    assert store.missing(hashes(1, 2)).tolist() == [0, 1]


def test_rows_have_the_type_of_the_store(tmp_path):
    small = Store.open({}, SHAPE, "uint8", tmp_path)
    assert small.rows(hashes(3), Squares(hashes(3))).dtype == np.uint8


def test_rows_may_be_written_to(store):
    store.rows(hashes(1), Squares(hashes(1)))[0] = 0
    assert np.array_equal(store.rows(hashes(1), never), expected(hashes(1)))


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 10])
def test_many_rows_are_computed_in_shards(store, monkeypatch, count):
    monkeypatch.setattr(store_module, "SHARD", 4)
    contents = hashes(*range(count))
    rows = store.rows(contents, Squares(contents))
    assert np.array_equal(rows, expected(contents))
    assert len(list(store.folder.glob("*.ids"))) == -(-count // 4)


def test_a_kill_costs_at_most_a_shard(store, monkeypatch):
    monkeypatch.setattr(store_module, "SHARD", 4)
    contents = hashes(*range(10))

    def killed(positions):
        if 5 in positions:
            raise KeyboardInterrupt
        yield expected([contents[position] for position in positions])

    with pytest.raises(KeyboardInterrupt):
        store.rows(contents, killed)
    assert store.missing(contents).tolist() == [4, 5, 6, 7, 8, 9]


def test_a_kill_between_rows_and_ids_leaves_the_rows_missing(store, monkeypatch):
    write = store_module.write_file

    def killed(path, writer):
        if path.suffix == ".ids":
            raise KeyboardInterrupt
        write(path, writer)

    monkeypatch.setattr(store_module, "write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        store.rows(hashes(1), Squares(hashes(1)))
    assert len(list(store.folder.glob("*.npy"))) == 1
    assert store.missing(hashes(1)).tolist() == [0]


def test_a_shard_without_ids_is_computed_again(store):
    store.rows(hashes(1), Squares(hashes(1)))
    next(store.folder.glob("*.ids")).unlink()
    compute = Squares(hashes(1))
    assert np.array_equal(store.rows(hashes(1), compute), expected(hashes(1)))
    assert compute.asked == hashes(1)


@pytest.mark.parametrize(
    "other",
    [
        ({"what": "cubes"}, SHAPE, "float32"),
        ({"what": "squares"}, (3, 2), "float32"),
        ({"what": "squares"}, SHAPE, "float64"),
    ],
    ids=["key", "shape", "type"],
)
def test_stores_of_different_keys_do_not_mix(store, tmp_path, other):
    store.rows(hashes(1), Squares(hashes(1)))
    assert Store.open(*other, tmp_path).missing(hashes(1)).tolist() == [0]


def test_the_order_of_a_key_does_not_matter(tmp_path):
    first = Store.open({"a": 1, "b": 2}, SHAPE, "float32", tmp_path)
    assert first.folder == Store.open({"b": 2, "a": 1}, SHAPE, "float32", tmp_path).folder


def test_threads_may_fill_one_store_together(store, monkeypatch):
    monkeypatch.setattr(store_module, "SHARD", 4)
    wrong = []

    def fill(first):
        for start in range(first, first + 20, 5):
            contents = hashes(*range(start, start + 10))
            if not np.array_equal(store.rows(contents, Squares(contents)), expected(contents)):
                wrong.append(start)

    threads = [threading.Thread(target=fill, args=(first,)) for first in (0, 3, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = hashes(*range(36))
    assert wrong == []
    assert np.array_equal(store.rows(everything, Squares(everything)), expected(everything))


CHILD = """
import sys, numpy as np
from pathlib import Path
from labelwise import store
store.SHARD = 3
mine = store.Store.open({"what": "squares"}, (2, 3), "float32", Path(sys.argv[1]))
contents = [f"{n:032x}" for n in range(40)]
sys.stdin.readline()
rows = mine.rows(contents, lambda ps: (np.full((1, 2, 3), float(p) ** 2, np.float32) for p in ps))
print(rows.sum())
"""


def test_processes_may_fill_one_store_together(store, tmp_path):
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    children = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
        )
        for _ in range(2)
    ]
    for child in children:  # both are ready before one begins
        child.stdin.write("\n")
    outputs = [child.communicate()[0] for child in children]
    contents = hashes(*range(40))
    assert np.array_equal(store.rows(contents, never), expected(contents))
    assert [float(output) for output in outputs] == [expected(contents).sum()] * 2


@pytest.fixture
def full_disk():
    """No file of more than 200 bytes can be written; nobody was told before."""
    store_module._warn_once.cache_clear()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_rows_that_do_not_fit_on_the_disk_are_given_all_the_same(store, monkeypatch, full_disk):
    monkeypatch.setattr(store_module, "SHARD", 4)
    contents = hashes(*range(10))
    with pytest.warns(RuntimeWarning, match="File too large") as told:
        rows = store.rows(contents, Squares(contents))
    assert np.array_equal(rows, expected(contents))
    assert len(told) == 1


def test_rows_that_did_not_fit_stand_beside_those_that_are_there(store, request):
    store.rows(hashes(2, 5), Squares(hashes(2, 5)))
    request.getfixturevalue("full_disk")
    mixed = hashes(1, 2, 3, 5, 6, 7, 1)
    with pytest.warns(RuntimeWarning):
        assert np.array_equal(store.rows(mixed, Squares(mixed)), expected(mixed))


def test_rows_that_did_not_fit_leave_nothing(store, full_disk):
    with pytest.warns(RuntimeWarning):
        store.rows(hashes(*range(9)), Squares(hashes(*range(9))))
    assert {path.name for path in store.folder.iterdir()} == {"key.json"}


def test_rows_whose_ids_did_not_fit_leave_nothing(tmp_path, full_disk):
    """One byte a row, but 33 an id."""
    tiny = Store.open({}, (), "uint8", tmp_path)
    with pytest.warns(RuntimeWarning):
        tiny.rows(hashes(*range(9)), lambda positions: [np.zeros(len(positions), np.uint8)])
    assert {path.name for path in tiny.folder.iterdir()} == {"key.json"}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    store_module._warn_once.cache_clear()
    (tmp_path / "file").touch()
    with pytest.warns(RuntimeWarning, match="LABELWISE_CACHE"):
        store = Store.open({}, SHAPE, "float32", tmp_path / "file")
    assert np.array_equal(store.rows(hashes(3), Squares(hashes(3))), expected(hashes(3)))


def test_tidying_removes_what_was_left_a_day_ago(monkeypatch, tmp_path):
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path))
    folder = Store.open({}, SHAPE, "float32").folder
    for hours in (1, 25):
        for name in (f".{hours}.tmp", f"orphan{hours}.npy", f"whole{hours}.npy"):
            (folder / name).touch()
            os.utime(folder / name, (time.time() - hours * 3600,) * 2)
        (folder / f"whole{hours}.ids").touch()
    tidy_stores()
    left = {path.name for path in folder.iterdir()} - {"key.json"}
    kept = {f"whole{hours}.{kind}" for hours in (1, 25) for kind in ("npy", "ids")}
    assert left == {".1.tmp", "orphan1.npy"} | kept


def test_stores_are_in_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path))
    assert Store.open({}, SHAPE, "float32").folder.parent == store_folder() == tmp_path / "store"


def test_emptied_stores_take_no_space(monkeypatch, tmp_path):
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path))
    Store.open({}, SHAPE, "float32").rows(hashes(1), Squares(hashes(1)))
    assert store_size() > 24
    empty_stores()
    assert store_size() == 0


def test_places_of_so_many_rows_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "INDEXED", 4)
    for number in range(store_module.INDEXED + 3):
        other = Store.open({"number": number}, SHAPE, "float32", tmp_path)
        other.rows(hashes(1), Squares(hashes(1)))
    assert len(store_module._INDEX) == store_module.INDEXED
    first = Store.open({"number": 0}, SHAPE, "float32", tmp_path)
    np.testing.assert_array_equal(first.rows(hashes(1), never), expected(hashes(1)))
