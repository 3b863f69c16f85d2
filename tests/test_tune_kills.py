"""A search that is killed at any moment resumes and ends the same."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from labelwise.tuning.disk import Tuning
from tests.attempts import End, Fate, at_once, attempt, moments
from tests.runs import assert_whole
from tests.tasks import gratings_file

WORDS = ["--recipe", "mlp(hidden=8, epochs=2, least_steps=0)", "--search", "batch=8|16"]
WORDS += ["--trials", "4", "--test", "0.2", "--folds", "2", "--quiet", "--resume"]


@dataclass(frozen=True)
class Place:
    """Where a search and its cache are."""

    folder: Path
    data: Path

    def attempt(self, fate: Fate | None = None) -> End:
        words = ["tune", self.data, "--out", self.folder / "run", *WORDS]
        return attempt(words, self.folder / "cache", fate)

    @property
    def trials(self) -> dict[Path, int]:
        """When every trial on record was written."""
        files = (self.folder / "run" / "trials").glob("[!.]*")
        return {path: path.stat().st_mtime_ns for path in files}

    @property
    def found(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Everything that a search says, but for times and its own place."""
        tuning = Tuning(self.folder / "run")
        own = ("seconds", "next")
        results = {name: value for name, value in tuning.results.items() if name not in own}
        return tuning.trials.drop(columns="seconds"), results


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return gratings_file(tmp_path_factory.mktemp("data") / "gratings.npz", 8)


def test_a_search_killed_at_any_moment_resumes_and_keeps_its_trials(single_server, data, tmp_path):
    whole = Place(tmp_path / "whole", data)
    end = whole.attempt()
    assert (end.status, end.err, end.server_threads) == (0, "", 1)

    def ordeal(numbered: tuple[int, Fate]) -> bool:
        place = Place(tmp_path / str(numbered[0]), data)
        killed = place.attempt(numbered[1]).status is None
        assert_whole(place.folder)
        before = place.trials
        end = place.attempt()
        assert (end.status, end.err) == (0, "")
        assert before.items() <= place.trials.items()
        pd.testing.assert_frame_equal(place.found[0], whole.found[0])
        assert place.found[1] == whole.found[1]
        assert not list((place.folder / "run").rglob(".*.tmp"))
        return killed

    fates = moments(signal.SIGKILL, 6, end, 0)
    assert sum(at_once(ordeal, enumerate(fates))) > 3  # by the clock, one may have ended before
