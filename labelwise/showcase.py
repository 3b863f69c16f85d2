"""demo: the main job on real photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labelwise.progress import Progress
from labelwise.run import Run, compare

RECIPES = "cnn, probe"
TEST_SHARE = 0.25  # as in the paper the report names, though not the same images
BUDGET = "4m"


def demo(
    out: str | Path = "demo-run",
    *,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> Run:
    """Compare a small network from scratch with a pretrained one on 2,624 photos of solar cells.

    Raises:
        MissingExtraError: the photos' package is not installed.
    """
    return compare(
        "elpv",
        out=out,
        recipes=RECIPES,
        test=TEST_SHARE,
        budget=BUDGET,
        resume=resume,
        progress=progress,
        command=command,
    )
