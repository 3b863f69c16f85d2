from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from labelwise.data.split import FINAL, LabelCount, make_protocol
from labelwise.errors import LabelwiseError, TrainingError
from labelwise.estimate import EXAMINED
from labelwise.plan import LeftOut, Plan, make_plan, task_of
from labelwise.recipe.base import Context, Cost, Recipe, option
from labelwise.recipe.sizes import FEWEST_EPOCHS
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
    answer: float = option(0.0, "seconds of an answer")
    most: int = option(20, "epochs at most")
    epochs: int | None = option(None, "epochs, if given")
    share: float = option(1.0, "of the images in an epoch")
    why: str | None = option(None, "why it is not suited")
    broken: bool = option(False, "its cost cannot be measured")

    def fit(self, task, context):
        raise NotImplementedError

    def cost(self, task, context):
        if self.broken:
            raise TrainingError("out of order")
        return Cost(once=self.once, epoch=self.each, validate=self.answer, answer=self.answer)

    def unsuited(self, images):
        return self.why

    def planned(self, passes):
        if self.epochs:
            return self
        epochs = max(FEWEST_EPOCHS, math.ceil(passes))
        return dataclasses.replace(self, epochs=epochs, share=round(passes / epochs, 4))

    @property
    def open_epochs(self):
        return None if self.epochs else self.most


@dataclass(frozen=True)
class Grown(Stub):
    """A recipe of eight sizes, each of four times the work of the one before."""

    width: float | None = option(None, "open: 1, 2, 4 ... 128")
    image_size: int = option(8, "pixels")
    enough: float = option(8.0, "passes that a size should get")
    measured: ClassVar[list[float]] = []

    def sizes(self, task):
        return [dataclasses.replace(self, width=width) for width in 2.0 ** np.arange(8)]

    def enough_passes(self, task):
        return self.enough

    def cost(self, task, context):
        self.measured.append(self.width)
        return Cost(epoch=self.each * self.width**2)


class Pooling(Stub):
    """A recipe that learns from images without a label."""

    uses_unlabeled: ClassVar[bool] = True


DATA = dataset_of([0, 1] * 20)
PROTOCOL = make_protocol(DATA)  # five folds of the same size
ROUNDS = 1 + 5 * 26 / 40  # the final fit and five folds that learn from 26 of 40 images


@pytest.fixture(autouse=True)
def instant(monkeypatch):
    """Nothing but what a stub costs takes time."""
    monkeypatch.setattr("labelwise.plan.judging_seconds", lambda classes: 0.0)


def plan_of(
    budget_seconds, *, asked_for=False, finals=False, protocol=PROTOCOL, spent=0, **recipes
):
    return make_plan(
        DATA,
        protocol,
        [Variant(name, recipe) for name, recipe in recipes.items()],
        asked_for=asked_for,
        finals=finals,
        budget_seconds=budget_seconds,
        elapsed=lambda: float(spent),
        context=Context(),
    )


def epochs_of(plan):
    return {name: fields["epochs"] for name, fields in plan.fields.items() if "epochs" in fields}


def test_a_plan_comes_back_from_json():
    plan = plan_of(20, a=Stub(each=0.1), b=Stub(each=9), c=Stub(why="too odd"))
    assert plan.fields["a"]
    assert plan.left_out
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_with_time_enough_all_epochs_run():
    plan = plan_of(1e6, a=Stub(each=0.1, most=20), b=Stub(each=0.1, most=9))
    assert (epochs_of(plan), plan.warnings, plan.left_out) == ({"a": 20, "b": 9}, (), ())


@pytest.mark.parametrize("budget", [8, 20, 40, 60, 80])
def test_open_epochs_fill_the_budget(budget):
    plan = plan_of(budget, a=Stub(each=1.0))
    assert plan.total == pytest.approx(budget, rel=0.001)
    assert plan.total <= budget


def test_what_was_spent_before_the_plan_is_not_planned_again():
    plan = plan_of(60, spent=20, a=Stub(each=1.0))
    assert (plan.before, plan.total) == (20, pytest.approx(60, rel=0.001))
    assert plan.seconds["a"] == pytest.approx(40, rel=0.001)


def test_judging_and_reporting_are_part_of_the_budget(monkeypatch):
    monkeypatch.setattr("labelwise.plan.judging_seconds", lambda classes: 1e-3)
    plan = plan_of(60, a=Stub(each=1.0))
    assert plan.after > 1
    assert plan.total == pytest.approx(60, rel=0.001)


def test_epochs_of_one_length_come_to_the_passes_that_fit():
    plan = plan_of(ROUNDS * 6.5, a=Stub(each=1.0))
    assert plan.fields["a"] == {"epochs": 7, "share": pytest.approx(6.5 / 7, abs=1e-3)}


def test_variants_with_open_epochs_get_the_same_time():
    plan = plan_of(60, a=Stub(each=1.0), b=Stub(each=0.5))
    assert list(plan.seconds.values()) == pytest.approx([30, 30], rel=0.001)


def test_what_one_variant_has_no_use_for_goes_to_the_others():
    plan = plan_of(60, a=Stub(each=1.0, most=2), b=Stub(each=1.0), c=Stub(each=2.0))
    assert epochs_of(plan)["a"] == 3  # two passes in the fewest epochs
    assert plan.seconds["b"] == pytest.approx(plan.seconds["c"], rel=0.001)
    assert plan.total == pytest.approx(60, rel=0.001)


def test_given_epochs_do_not_shrink():
    plan = plan_of(60, a=Stub(each=0.5, epochs=20), b=Stub(each=0.5))
    assert plan.fields["a"] == {}
    assert plan.seconds["a"] == pytest.approx(20 * 0.5 * (ROUNDS - 1 / 2))
    assert plan.total == pytest.approx(60, rel=0.001)


def test_a_cost_for_all_fits_together_is_counted_once():
    assert plan_of(1e6, a=Stub(once=7.0)).seconds == {"a": 7.0}


def test_answers_are_counted_for_every_image_that_a_model_sees():
    # Every fold: 26 + 6 learned from and 8 held out; the final fit: all 40, and its maps.
    found = plan_of(1e6, a=Stub(answer=1.0, epochs=1)).seconds["a"]
    assert found == 5 * (40 + 6) + 40 + EXAMINED


def test_every_variant_is_fitted_finally_where_there_is_a_test_part():
    protocol = make_protocol(DATA, test=0.5)
    train = [len(s.train) for s in protocol.splits]
    variants = {"a": Stub(each=1.0, epochs=1), "b": Stub(each=1.0, epochs=1)}
    plan = plan_of(1e6, finals=True, protocol=protocol, **variants)
    assert plan.seconds["a"] == pytest.approx(sum(train) / max(train))


def test_the_final_fit_of_the_winner_is_shared_by_those_that_may_win():
    plan = plan_of(1e6, a=Stub(each=26.0, epochs=1), b=Stub(each=26.0, epochs=1))
    assert plan.seconds == {"a": pytest.approx(5 * 26 / 40 * 26 + 13)} | {"b": pytest.approx(97.5)}


def test_a_slow_variant_is_left_out_where_none_was_asked_for():
    plan = plan_of(60, a=Stub(each=0.1), slow=Stub(each=90.0))
    assert [item.variant for item in plan.left_out] == ["slow"]
    assert "min, too much for the time budget" in plan.left_out[0].reason
    assert epochs_of(plan) == {"a": 20}


def test_a_slow_variant_that_was_asked_for_runs_with_a_warning():
    plan = plan_of(60, a=Stub(each=0.1), slow=Stub(each=90.0), asked_for=True)
    assert (plan.left_out, epochs_of(plan)["slow"]) == ((), FEWEST_EPOCHS)
    assert "min, more than the budget of 1:00 min" in plan.warnings[0]


def test_the_only_variant_runs_with_a_warning():
    plan = plan_of(60, slow=Stub(each=90.0))
    assert (plan.left_out, len(plan.warnings)) == ((), 1)


def test_a_budget_that_is_spent_before_the_plan_gives_a_warning():
    plan = plan_of(5, spent=9, a=Stub(each=0.1), asked_for=True)
    assert len(plan.warnings) == 1


def test_the_least_that_a_variant_can_take_is_said_to_be_that():
    assert plan_of(1, a=Stub(each=1.0)).sentences["a"].endswith("(the least there is)")
    assert plan_of(9, a=Stub(each=1.0)).sentences["a"].endswith("(as the budget allows)")
    assert plan_of(900, a=Stub(each=1.0)).sentences["a"].endswith("(all it has use for)")


def test_the_slowest_is_left_out_first():
    plan = plan_of(30, a=Stub(each=0.2), slower=Stub(each=9.0), slowest=Stub(each=90.0))
    assert [item.variant for item in plan.left_out] == ["slowest", "slower"]


def test_a_plan_in_the_budget_has_no_warning():
    assert plan_of(60, a=Stub(each=0.1), slow=Stub(each=90.0)).warnings == ()


@pytest.mark.parametrize(("passes", "width"), [(1, 1), (31, 1), (33, 2), (127, 2), (129, 4)])
def test_the_largest_size_that_learns_enough_is_taken(passes, width):
    plan = plan_of(ROUNDS * passes, a=Grown(each=1.0, most=300))
    assert plan.fields["a"]["width"] == width
    assert plan.total == pytest.approx(ROUNDS * passes, rel=0.001)


def test_a_size_is_said_with_its_reason():
    sentence = plan_of(ROUNDS * 40, a=Grown(each=1.0)).sentences["a"]
    assert sentence.startswith("10 epochs at width 2, 8 pixels, about ")
    assert "size 2 of 8: the largest with at least 8 passes" in sentence


def test_few_sizes_are_measured_and_none_that_is_far_too_large():
    Grown.measured.clear()
    plan_of(ROUNDS, a=Grown(each=1.0))
    assert Grown.measured == [1.0, 2.0]


def test_a_smallest_size_that_was_measured_too_slow_makes_no_room_for_a_larger_one():
    @dataclass(frozen=True)
    class Disturbed(Grown):
        def cost(self, task, context):
            return Cost(epoch=300.0 if self.width == 1.0 else 1.0)

    plan = plan_of(ROUNDS * 60, asked_for=True, a=Disturbed())
    assert plan.fields["a"]["width"] == 1.0
    assert plan.fields["a"]["epochs"] == FEWEST_EPOCHS


def test_an_unsuited_variant_is_left_out_with_its_reason():
    plan = plan_of(60, a=Stub(), odd=Stub(why="images are odd"))
    assert plan.left_out == (LeftOut("odd", "images are odd"),)


@pytest.mark.parametrize(("labels", "left_out"), [(None, ["pool"]), ([LabelCount(10)], [])])
def test_a_recipe_for_unlabeled_images_is_left_out_where_there_are_none(labels, left_out):
    protocol = PROTOCOL if labels is None else make_protocol(DATA, labels=labels)
    plan = plan_of(60, protocol=protocol, a=Stub(), pool=Pooling())
    assert [item.variant for item in plan.left_out] == left_out


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
    assert (plan.fields, plan.seconds, plan.warnings) == ({}, {}, ())


def test_a_plan_is_applied_to_its_variants():
    variants = [Variant("a", Stub()), Variant("b", Stub(epochs=2)), Variant("c", Stub())]
    plan = plan_of(1e6, a=Stub(each=0.1, most=7), b=Stub(epochs=2), c=Stub(why="odd"))
    a, b = plan.apply(variants)
    assert (a.name, a.recipe.epochs, b.name, b.recipe.epochs) == ("a", 7, "b", 2)


def test_a_task_has_labeled_images_then_unlabeled_ones():
    data = dataset_of([0, 1, -1] * 12)
    split = make_protocol(data).splits[0]
    task = task_of(data, split)
    assert task.images.rows.tolist() == [*split.train, *split.unlabeled]
    assert task.labels.tolist() == [*data.labels[split.train], *[-1] * len(split.unlabeled)]


def test_the_labels_that_a_budget_leaves_out_are_hidden_in_a_task():
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
