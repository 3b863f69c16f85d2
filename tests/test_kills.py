"""A run that is killed, interrupted or out of disk at any moment resumes and ends the same."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from labelwise.run import Run
from tests.attempts import LONGEST, End, Fate, at_once, attempt, moments
from tests.runs import assert_same_files, assert_whole, without_times
from tests.tasks import gratings_folder

ROOT = Path(__file__).resolve().parent.parent
RECIPES = (
    "a=mlp(hidden=8, epochs=1, least_steps=0), "
    "b=cnn(layers='conv4 3x3 relu, gap', epochs=1, least_steps=0)"
)
# One that opens a test part and keeps all models; one that fits the winner only, and tidies up.
KINDS = (("--test", 0.2, "--save-models", "all"), ())
ORDERLY = {signal.SIGINT: 130, signal.SIGTERM: 143}
ENDING = 1.0  # seconds at the end of a run in which a signal may come too late


@dataclass(frozen=True)
class Place:
    """Where a run of some kind and its cache are."""

    folder: Path
    photos: Path
    kind: int

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def attempt(self, fate: Fate | None = None, *, resume: bool = True, seed: int = 0) -> End:
        words = ["compare", self.photos, "--out", self.run, "--recipes", RECIPES, "--folds", 2]
        words += [*KINDS[self.kind], "--seed", seed, "--quiet"]
        return attempt([*words, "--resume"] if resume else words, self.cache, fate)


@dataclass(frozen=True)
class Whole:
    """A run that nothing disturbed."""

    place: Place
    end: End


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return gratings_folder(tmp_path_factory.mktemp("photos"), 8)


@pytest.fixture(scope="module")
def wholes(single_server, photos, tmp_path_factory):
    """A run of each kind, without a disturbance."""
    places = [Place(tmp_path_factory.mktemp("whole"), photos, kind) for kind in range(len(KINDS))]
    wholes = [
        Whole(place, end) for place, end in zip(places, at_once(Place.attempt, places), strict=True)
    ]
    assert [whole.end.status for whole in wholes] == [0, 0]
    return wholes


def finished(run: Path) -> dict[Path, tuple[int, str]]:
    """Time and hash of every file of the trials that are done, and of the opening."""
    done = [
        file.parent
        for file in run.glob("trials/*/*/trial.json")
        if json.loads(file.read_text())["status"] == "done"
    ]
    files = [path for trial in done for path in trial.rglob("[!.]*") if path.is_file()]
    return {
        path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in [*files, *run.glob("sealed.jsonl")]
    }


def temporary(place: Place) -> set[Path]:
    return set(place.folder.rglob(".*.tmp"))


def assert_resumes(place: Place, whole: Whole) -> None:
    """A run goes on, touches nothing that was finished, and ends as the one never disturbed."""
    before, left = finished(place.run), temporary(place)
    end = place.attempt()
    assert (end.status, end.err) == (0, "")
    after = finished(place.run)
    kept = {path: value for path, value in before.items() if path.exists()}
    assert {path: after[path] for path in kept} == kept
    assert all(path.parent.name == "model" for path in set(before) - set(kept))
    assert Run(place.run).record["status"] == "done"
    assert without_times(Run(place.run).results) == without_times(Run(whole.place.run).results)
    assert_same_files(place.run, whole.place.run)
    assert_whole(place.folder)
    assert temporary(place) <= {path for path in left if place.cache in path.parents}
    if KINDS[place.kind]:
        assert (place.run / "sealed.jsonl").read_text().count("\n") == 1


def test_attempts_are_forked_from_a_process_with_one_thread(wholes):
    assert {whole.end.server_threads for whole in wholes} == {1}


@pytest.mark.parametrize("times", [4, pytest.param(15, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_moment_resumes(wholes, photos, tmp_path, times):
    """Every third is killed a second time while it resumes."""
    fates = [moments(signal.SIGKILL, times, whole.end, seed) for seed, whole in enumerate(wholes)]
    again = moments(signal.SIGKILL, 10, wholes[0].end, 2)

    def ordeal(case: tuple[int, int]) -> bool:
        kind, number = case
        place = Place(tmp_path / f"{kind}-{number}", photos, kind)
        end = place.attempt(fates[kind][number])
        assert_whole(place.folder)
        if number % 3 == 0:
            place.attempt(again[kind * 5 + number // 3])
            assert_whole(place.folder)
        assert_resumes(place, wholes[kind])
        return end.status is None

    cases = [(kind, number) for number in range(times) for kind in (0, 1)]
    assert sum(at_once(ordeal, cases)) > times  # some by the clock; the others ended before


@pytest.mark.parametrize("times", [3, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", ORDERLY)
def test_an_interrupted_run_ends_orderly_and_resumes(wholes, photos, tmp_path, number, times):
    fates = [moments(number, times, whole.end, number + kind) for kind, whole in enumerate(wholes)]

    def ordeal(case: tuple[int, int]) -> bool:
        kind, index = case
        fate = fates[kind][index]
        place = Place(tmp_path / f"{kind}-{index}", photos, kind)
        end = place.attempt(fate)
        # By the clock a signal may come when the run is ending, or find that it has ended.
        missed = end.sent is None or end.ended <= end.sent + ENDING
        late = end.status == 0 and fate.seconds is not None and missed
        assert late or end.status == ORDERLY[number], end.err
        assert late or (end.err.count("\n") == 1 and "--resume" in end.err), end.err
        assert temporary(place) == set()
        assert_whole(place.folder)
        assert_resumes(place, wholes[kind])
        return not late

    cases = [(kind, index) for index in range(times) for kind in (0, 1)]
    at_publish = sum(fate.publish is not None for some in fates for fate in some)
    assert 0 < at_publish <= sum(at_once(ordeal, cases))


@pytest.mark.parametrize("times", [6, pytest.param(15, marks=pytest.mark.slow)])
def test_a_run_out_of_disk_says_where_and_resumes(wholes, photos, tmp_path, times):
    """Files cannot grow beyond some sizes, each just below that of a file of the run."""
    files = [path for path in wholes[0].place.run.rglob("[!.]*") if path.is_file()]
    sizes = sorted({path.stat().st_size for path in files})
    chosen = [sizes[k] for k in np.linspace(0, len(sizes) - 1, times).astype(int)]

    def ordeal(size: int) -> None:
        place = Place(tmp_path / str(size), photos, 0)
        end = place.attempt(Fate(largest=size - 1))
        assert end.status == 1, end.err
        *notes, last = end.err.splitlines()
        assert all("the next run computes it again" in note for note in notes), end.err
        assert last.startswith("labelwise: "), end.err
        assert str(place.folder) in last
        assert "--resume" in last
        assert temporary(place) == set()
        assert_whole(place.folder)
        assert_resumes(place, wholes[0])

    at_once(ordeal, chosen)


def test_of_two_starts_at_once_one_is_refused(wholes, photos, tmp_path):
    place = Place(tmp_path, photos, 0)
    ends = at_once(lambda resume: place.attempt(resume=resume), [False, False])
    assert sorted(end.status for end in ends) == [0, 2]
    (refused,) = (end.err for end in ends if end.status == 2)
    assert "another process is writing this run" in refused
    assert without_times(Run(place.run).results) == without_times(Run(wholes[0].place.run).results)


def test_two_runs_at_once_share_a_cache(wholes, photos, tmp_path):
    (tmp_path / "cache").mkdir()
    for kind in (0, 1):
        (tmp_path / str(kind)).mkdir()
        (tmp_path / str(kind) / "cache").symlink_to(tmp_path / "cache")
    places = [Place(tmp_path / str(kind), photos, kind) for kind in (0, 1)]
    assert [(end.status, end.err) for end in at_once(Place.attempt, places)] == [(0, "")] * 2
    for place, whole in zip(places, wholes, strict=True):
        assert_same_files(place.run, whole.place.run)


def test_signals_end_the_program_itself_orderly(photos, tmp_path):
    """New processes, with their progress, in the middle of a training that would take minutes."""
    with ExitStack() as stack:
        started = {}
        for number in ORDERLY:
            words = ["compare", photos, "--out", tmp_path / str(int(number)), "--folds", 2]
            words += ["--recipes", "a=mlp(hidden=8, epochs=1), b=cnn(epochs=30000)"]
            command = [sys.executable, "-m", "labelwise.cli", *map(str, words)]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            started[number] = stack.enter_context(process)
            stack.callback(process.kill)  # a test that fails leaves no training behind
        for number, process in started.items():
            run = tmp_path / str(int(number))
            deadline = time.monotonic() + LONGEST
            while not (run / "trials/a/labels-all_repeat-0_fold-1/trial.json").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(number)
        for number, process in started.items():
            _, err = process.communicate(timeout=LONGEST)
            assert process.returncode == ORDERLY[number], err
            assert "--resume" in err.splitlines()[-1]
            assert "Traceback" not in err
    assert not list(tmp_path.rglob(".*.tmp"))


DISK = """
import os, subprocess, sys
import torch
from labelwise import cli

def call():
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code or 0

def mount(*options):
    subprocess.run(["mount", *options, "tmpfs", disk], check=True)

torch.set_num_threads(1)  # as the attempts: other threads, other last digits
disk, *sys.argv = sys.argv[1:]
os.environ["LABELWISE_CACHE"] = os.path.join(disk, "cache")
mount("-t", "tmpfs", "-o", "size=240k")
first = call()
mount("-o", "remount,size=50m")
print(first, call())
print(open(os.path.join(disk, "run", "leaderboard.json")).read())
"""


@pytest.mark.skipif(
    not shutil.which("unshare")
    or subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "x", "/mnt"]).returncode != 0,
    reason="no small disk can be mounted here",
)
def test_a_disk_that_is_really_full_is_one_message_and_the_run_resumes(wholes, photos, tmp_path):
    """The cache is on it as well."""
    words = ["labelwise", "compare", photos, "--out", tmp_path / "run", "--recipes", RECIPES]
    words += ["--folds", 2, *KINDS[0], "--quiet", "--resume"]
    command = ["unshare", "-rm", sys.executable, "-c", DISK, tmp_path, *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"No space left on device: {tmp_path}" in done.stderr
    assert "1 0\n{" in done.stdout
    results = json.loads(done.stdout.split("1 0\n")[1])
    assert without_times(results) == without_times(Run(wholes[0].place.run).results)
