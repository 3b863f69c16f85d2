"""Fits that are killed in the middle and taken up again."""

from __future__ import annotations

from typing import Any

import pytest

from labelwise.recipe.base import Context, Fitted, Recipe, Task


class Killed(Exception):
    pass


def resumed(recipe: Recipe, task: Task, *, seed: int, after: int = 3) -> tuple[Fitted, list[int]]:
    """A fit of a task with a checkpoint that was killed when an epoch had ended, taken up again.

    For tests with the fixture `kept_every_epoch`.

    Returns:
        The fit, and the epochs of its second half.
    """

    def killed(record: Any) -> None:
        if record["epoch"] == after:
            raise Killed

    with pytest.raises(Killed):
        recipe.fit(task, Context(seed=seed, observe=killed))
    assert task.checkpoint is not None
    assert task.checkpoint.exists()
    seen: list[int] = []
    fitted = recipe.fit(
        task, Context(seed=seed, observe=lambda record: seen.append(record["epoch"]))
    )
    return fitted, seen
