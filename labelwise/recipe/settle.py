"""Settle: one fit of all labels, after another that decides on a part of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labelwise.data.split import VALIDATION_FROM, VALIDATION_SHARE, deal
from labelwise.recipe.base import Context, Fitted, Recipe, Task


def settled_fit(recipe: Recipe, task: Task, context: Context) -> tuple[Recipe, Fitted]:
    """The recipe settled on a validation part where it decides on one, and its fit on everything.

    As in a run: what was decided on four fifths of the labels holds for the fit on all of them.

    Args:
        task: without a validation part.
    """
    given = task.labeled
    own = task.labels[given]
    if recipe.decides_on_validation and len(own) >= VALIDATION_FROM * len(np.unique(own)):
        groups = task.images.dataset.groups[task.images.rows]
        shares = [VALIDATION_SHARE, 1 - VALIDATION_SHARE]
        held = given[deal(own, groups[given], shares, [context.seed, 3]) == 0]
        # With the held images go their duplicates, also those without a label.
        learned = np.flatnonzero(~np.isin(groups, groups[held]))
        part = replace(
            task,
            images=task.images.subset(learned),
            labels=task.labels[learned],
            validation=(task.images.subset(held), task.labels[held]),
        )
        recipe = recipe.settled([recipe.fit(part, context).chosen])
    return recipe, recipe.fit(task, context)
