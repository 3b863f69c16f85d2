from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import numpy as np
import pytest

from labelwise.data.split import FINAL, make_protocol
from labelwise.errors import LabelwiseError, TrainingError
from labelwise.plan import FEWEST_EPOCHS, LeftOut, Plan, make_plan, task_of
from labelwise.recipe.base import Context, Cost, Recipe, option
from labelwise.recipe.variants import Variant
from tests.rows import dataset_of


@dataclass(frozen=True)
class Stub(Recipe):
    """A recipe that costs what it is told to."""

    name = "stub"
    regime = "for tests"
    rank = 1

    each: float = option(0.0, "seconds of an epoch")
    once: float = option(0.0, "seconds of all fits together")
    most: int = option(20, "epochs at most")
    epochs: int | None = option(None, "epochs, if given")
    why: str | None = option(None, "why it is not suited")
    broken: bool = option(False, "its cost cannot be measured")

    def fit(self, task, context):
        raise NotImplementedError

    def cost(self, task, context):
        if self.broken:
            raise TrainingError("out of order")
        return Cost(once=self.once, epoch=self.each)

    def unsuited(self, images):
        return self.why

    def planned(self, epochs):
        return dataclasses.replace(self, epochs=self.epochs or epochs)

    @property
    def open_epochs(self):
        return None if self.epochs else self.most


DATA = dataset_of([0, 1] * 20)
PROTOCOL = make_protocol(DATA)  # five folds of the same size


def plan_of(budget_seconds, *, asked_for=False, finals=False, protocol=PROTOCOL, **recipes):
    return make_plan(
        DATA,
        protocol,
        [Variant(name, recipe) for name, recipe in recipes.items()],
        asked_for=asked_for,
        finals=finals,
        budget_seconds=budget_seconds,
        context=Context(),
    )


def test_a_plan_comes_back_from_json():
    plan = plan_of(20, a=Stub(each=0.1), b=Stub(each=9), c=Stub(why="too odd"))
    assert plan.epochs
    assert plan.left_out
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_with_time_enough_all_epochs_run():
    plan = plan_of(1e6, a=Stub(each=0.1, most=20), b=Stub(each=0.1, most=9))
    assert (plan.epochs, plan.warnings, plan.left_out) == ({"a": 20, "b": 9}, (), ())


def test_epochs_shrink_until_the_run_fits_four_fifths_of_the_budget():
    plan = plan_of(100, a=Stub(each=1.0))  # five folds of one second an epoch
    assert plan.epochs == {"a": 16}
    assert plan.seconds == {"a": 80.0}


@pytest.mark.parametrize("budget", [20, 40, 60, 100, 400])
def test_a_plan_that_shrank_keeps_the_budget(budget):
    plan = plan_of(budget, a=Stub(each=0.3), b=Stub(each=0.2, epochs=3))
    assert sum(plan.seconds.values()) <= 0.8 * budget


def test_a_variant_with_few_epochs_does_not_cost_those_of_another():
    plan = plan_of(200, a=Stub(each=1.0, most=4), b=Stub(each=1.0, most=20))
    assert plan.epochs == {"a": 4, "b": 20}
    assert plan.seconds == {"a": 20.0, "b": 100.0}


def test_given_epochs_do_not_shrink():
    plan = plan_of(100, a=Stub(each=0.5, epochs=20), b=Stub(each=0.5))
    assert plan.epochs == {"b": 12}
    assert plan.seconds == {"a": 50.0, "b": 30.0}


def test_a_cost_for_all_fits_together_is_counted_once():
    assert plan_of(1e6, a=Stub(once=7.0)).seconds == {"a": 7.0}


def test_final_fits_are_counted_where_all_variants_get_one():
    protocol = make_protocol(DATA, test=0.5)
    train = [len(s.train) for s in protocol.splits]
    plan = plan_of(1e6, a=Stub(each=1.0, epochs=1), finals=True, protocol=protocol)
    assert plan.seconds["a"] == pytest.approx(sum(train) / max(train))


def test_a_slow_variant_is_left_out_where_none_was_asked_for():
    plan = plan_of(60, a=Stub(each=0.1), slow=Stub(each=90.0))
    assert [item.variant for item in plan.left_out] == ["slow"]
    assert "22:30 min, too much for the time budget" in plan.left_out[0].reason
    assert plan.epochs == {"a": 20}


def test_a_slow_variant_that_was_asked_for_runs_with_a_warning():
    plan = plan_of(60, a=Stub(each=0.1), slow=Stub(each=90.0), asked_for=True)
    assert (plan.left_out, plan.epochs) == ((), {"a": FEWEST_EPOCHS, "slow": FEWEST_EPOCHS})
    assert "22:32 min, more than the budget of 1:00 min" in plan.warnings[0]


def test_the_only_variant_runs_with_a_warning():
    plan = plan_of(60, slow=Stub(each=90.0))
    assert (plan.left_out, len(plan.warnings)) == ((), 1)


def test_the_slowest_is_left_out_first():
    plan = plan_of(30, a=Stub(each=0.2), slower=Stub(each=9.0), slowest=Stub(each=90.0))
    assert [item.variant for item in plan.left_out] == ["slowest", "slower"]


def test_a_plan_in_the_budget_has_no_warning():
    assert plan_of(60, a=Stub(each=0.1), slow=Stub(each=90.0)).warnings == ()


def test_an_unsuited_variant_is_left_out_with_its_reason():
    plan = plan_of(60, a=Stub(), odd=Stub(why="images are odd"))
    assert plan.left_out == (LeftOut("odd", "images are odd"),)


def test_an_unsuited_variant_that_was_asked_for_runs():
    assert plan_of(60, odd=Stub(why="images are odd"), asked_for=True).left_out == ()


def test_a_variant_that_cannot_run_is_left_out_with_its_reason():
    plan = plan_of(60, a=Stub(), bad=Stub(broken=True))
    assert plan.left_out == (LeftOut("bad", "out of order"),)


def test_a_variant_that_was_asked_for_and_cannot_run_is_an_error():
    with pytest.raises(LabelwiseError, match="out of order"):
        plan_of(60, a=Stub(), bad=Stub(broken=True), asked_for=True)


def test_nothing_may_be_left_to_run():
    plan = plan_of(60, bad=Stub(broken=True))
    assert (plan.epochs, plan.seconds, plan.warnings) == ({}, {}, ())


def test_a_plan_is_applied_to_its_variants():
    variants = [Variant("a", Stub()), Variant("b", Stub(epochs=2)), Variant("c", Stub())]
    plan = Plan({"a": 7}, {"a": 1.0, "b": 1.0}, (LeftOut("c", "slow"),), ())
    a, b = plan.apply(variants)
    assert (a.name, a.recipe.epochs, b.name, b.recipe.epochs) == ("a", 7, "b", 2)


def test_a_task_has_labeled_images_then_unlabeled_ones():
    data = dataset_of([0, 1, -1] * 12)
    split = make_protocol(data).splits[0]
    task = task_of(data, split)
    assert task.images.rows.tolist() == [*split.train, *split.unlabeled]
    assert task.labels.tolist() == [*data.labels[split.train], *[-1] * len(split.unlabeled)]


def test_the_labels_that_a_budget_leaves_out_are_hidden_in_a_task():
    from labelwise.data.split import LabelCount

    split = make_protocol(DATA, labels=[LabelCount(4)]).splits[0]
    task = task_of(DATA, split)
    assert np.flatnonzero(task.labels >= 0).tolist() == [0, 1, 2, 3]
    assert len(task.labels) == 32


def test_a_task_has_the_validation_part():
    split = PROTOCOL.splits[0]
    images, labels = task_of(DATA, split).validation
    assert images.rows.tolist() == split.validation.tolist()
    assert labels.tolist() == DATA.labels[split.validation].tolist()


def test_a_task_without_a_validation_part_says_so():
    final = next(split for split in PROTOCOL.splits if split.fold == FINAL)
    assert task_of(DATA, final).validation is None
