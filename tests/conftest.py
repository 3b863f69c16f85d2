"""Fixtures of all tests: a cache of their own, and real data where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("labelwise", deadline=None)
settings.load_profile("labelwise")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing a test computes ends up in the user's cache, nor what a module's fixtures do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELWISE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets; the test is skipped where it is missing."""
    folder = Path(os.environ.get("LABELWISE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist (set LABELWISE_DATA)")
    return folder


@pytest.fixture
def kept_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unfinished fit is kept after each of its epochs, however short."""
    from labelwise.nn.checkpoint import Checkpoint

    kept = partial(Checkpoint, every=0)
    monkeypatch.setattr("labelwise.recipe.by_schedule.Checkpoint", kept)


@pytest.fixture(scope="module")
def single_server() -> Iterator[None]:
    """The server that attempts are forked from starts with the first; it must have one thread."""
    from tests.attempts import SINGLE

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SINGLE, "PYTHONPATH": str(ROOT)}.items():
            patch.setenv(name, value)
        yield
