"""What a plan may fill in of the recipes from scratch: width, image size, epochs, share."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from labelwise import run as run_module
from labelwise.data.dataset import Images
from labelwise.errors import OptionError
from labelwise.nn.layers import Stack
from labelwise.nn.supervised import Examples, Supervised
from labelwise.recipe.base import Context
from labelwise.recipe.cnn import PRESETS, Cnn
from labelwise.recipe.mlp import Mlp
from labelwise.recipe.rehearsal import blank, reading_seconds, step_seconds
from labelwise.recipe.sizes import LADDER, enough_passes
from labelwise.run import compare
from tests.tasks import grating_data, gratings_file, task_from

LAYERS = "conv16 3x3 same, batch norm 0.9, gelu, max 2, conv32 3x3 same relu, gap"
OPEN = {**PRESETS["small"], "layers": LAYERS, "width": None, "patience": 0, "least_steps": 2}


@pytest.fixture(autouse=True)
def presets(monkeypatch):
    """A preset that leaves its size open, and one that needs images of 12 pixels."""
    monkeypatch.setitem(PRESETS, "open", OPEN)
    monkeypatch.setitem(PRESETS, "deep", {**OPEN, "layers": "4 x [conv8 3x3 relu], max 4, gap"})


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return task_from(grating_data(tmp_path_factory.mktemp("gratings"), per_class=8))


def test_every_preset_but_fast_has_one_size(task):
    made = [kind(preset=name) for kind in (Cnn, Mlp) for name in kind.presets]
    closed = [recipe for recipe in made if recipe.preset not in ("fast", "open", "deep")]
    assert all(recipe.sizes(task) == (recipe,) and recipe.width == 1.0 for recipe in closed)


def test_open_sizes_are_the_ladder_at_the_images_own_side(task):
    sizes = Cnn(preset="open").sizes(task)
    assert [(size.width, size.image_size) for size in sizes] == [(w, s * 12) for w, s in LADDER]


def test_a_larger_size_is_more_work(task):
    sizes = Cnn(preset="open", layers="conv64 3x3 same relu, conv64 3x3 same, gap").sizes(task)
    work = [Stack(s.body, (1, s.image_size, s.image_size)).work for s in sizes]
    assert sorted(set(work)) == work


def test_a_given_width_leaves_nothing_open(task):
    recipe = Cnn(preset="open", width=0.5)
    assert recipe.sizes(task) == (recipe,)


def test_a_given_image_size_stays(task):
    sizes = Cnn(preset="open", image_size=10).sizes(task)
    assert [size.image_size for size in sizes] == [10] * len(sizes)
    assert [size.width for size in sizes] == sorted({width for width, _ in LADDER})


def test_sizes_whose_layers_do_not_fit_are_no_sizes(task):
    sizes = Cnn(preset="deep").sizes(task)
    assert {size.image_size for size in sizes} == {12}


def test_what_a_plan_filled_in_is_not_open_any_more(task):
    for size in Cnn(preset="open").sizes(task):
        assert size.sizes(task) == (size,)


def test_a_network_of_open_width_trains_as_at_width_one(task):
    open_, one = Cnn(preset="open", epochs=1), Cnn(preset="open", epochs=1, width=1.0)
    assert open_.body == one.body == LAYERS


@pytest.mark.parametrize(("passes", "epochs", "share"), [(7, 7, 1), (6.3, 7, 0.9), (1, 3, 0.3333)])
def test_planned_epochs_have_one_length_and_come_to_the_passes(passes, epochs, share):
    planned = Cnn().planned(passes)
    assert (planned.epochs, planned.share) == (epochs, share)


def test_a_given_share_is_not_exceeded():
    planned = Cnn(share=0.25).planned(4)
    assert (planned.epochs, planned.share) == (16, 0.25)


def test_epochs_that_were_given_are_not_planned():
    assert Cnn(epochs=5).planned(9.5) == Cnn(epochs=5)


@pytest.mark.parametrize("share", [0.0, 1.1, -1.0])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(OptionError, match=rf"cnn\(share={share}\): must be"):
        Cnn(share=share)


def test_an_epoch_goes_through_its_share_in_whole_steps(task):
    recipe = Cnn(preset="open", epochs=3, share=0.6, batch=5)
    history = recipe.fit(task, Context()).history  # 24 images in 5 steps
    assert [record["images"] for record in history] == [15, 15, 15]
    assert [sum(record["train_confusion"]) for record in history] == [15, 15, 15]


def test_the_images_of_an_epoch_are_others_each_time(task):
    import torch

    network = Cnn(preset="open", epochs=1).fit(task, Context()).model.network
    examples = Examples(torch.zeros(50, 1, 12, 12, dtype=torch.uint8), torch.zeros(50).long())
    objective = Supervised(network, examples, None, batch=5, share=0.5)
    generator = torch.Generator().manual_seed(0)
    epochs = [torch.cat(list(objective.batches(n, generator))).tolist() for n in range(2)]
    assert [len(set(epoch)) for epoch in epochs] == [25, 25]
    assert set(epochs[0]) != set(epochs[1])


def test_few_images_should_be_passed_over_more_often_up_to_a_limit():
    passes = [enough_passes(images, 1.0) for images in (100_000, 50_000, 20_000, 5_000, 10)]
    assert passes == [4, 4, 10, 20, 20]


def test_a_wider_network_should_pass_over_its_images_more_often():
    assert enough_passes(50_000, 2.0) == 2 * enough_passes(50_000, 1.0)


def test_a_step_costs_what_its_trainer_says():
    asked = []

    def train(steps):
        asked.append(steps)
        return 0.01 * steps

    assert step_seconds(train, 0.15) == pytest.approx(0.01)
    assert max(asked) * 0.01 == pytest.approx(0.15, abs=0.011)


def test_a_longer_budget_buys_longer_timings():
    asked = []

    def train(steps):
        asked.append(steps)
        return 0.01 * steps

    step_seconds(train, 1.5)
    assert max(asked) * 0.01 == pytest.approx(1.5, abs=0.011)


def test_empty_images_take_the_memory_of_one():
    assert blank(10_000, (3, 32, 32), "cpu").pixels.untyped_storage().nbytes() == 3 * 32 * 32


def test_images_that_are_in_the_store_cost_no_reading(task):
    recipe = Cnn(preset="open", image_size=7, epochs=1)
    preprocessing = recipe._input(task)
    assert reading_seconds(task.images, task.images, preprocessing) > 0
    recipe.fit(task, Context())
    assert reading_seconds(task.images, task.images, preprocessing) == 0


def test_reading_is_rehearsed_on_images_of_the_task_alone(task, monkeypatch):
    read, usual = set(), Images.read
    monkeypatch.setattr(
        Images, "read", lambda images, n, *size: read.add(int(images.rows[n])) or usual(images, n)
    )
    preprocessing = replace(Cnn()._input(task), height=9)
    assert reading_seconds(task.images.subset([3, 5]), task.images, preprocessing) > 0
    assert read == {3, 5}


def test_what_the_first_images_wait_for_is_no_matter_of_every_image(task, monkeypatch):
    waits, usual = [0.5], Images.read

    def slow_at_first(images, n, *size):
        time.sleep(waits.pop() if waits else 0)
        return usual(images, n, *size)

    monkeypatch.setattr(Images, "read", slow_at_first)
    preprocessing = replace(Cnn()._input(task), height=9)
    assert reading_seconds(task.images, task.images, preprocessing) < 0.5


def test_reading_is_rehearsed_on_neighbors_until_there_is_enough_to_tell(task, monkeypatch):
    """Opening a part of a file takes long, and the images in it share that."""
    monkeypatch.setattr("labelwise.recipe.rehearsal.WARM", 2)
    monkeypatch.setattr("labelwise.recipe.rehearsal.READ", 4)
    usual = Images.read

    def with_parts(images, n, *size):
        time.sleep(0.04 if images.rows[n] % 8 == 0 else 0.001)
        return usual(images, n, *size)

    monkeypatch.setattr(Images, "read", with_parts)
    preprocessing = replace(Cnn()._input(task), height=9)
    found = reading_seconds(task.images, task.images, preprocessing) / len(task.images)
    assert found < 0.012  # 0.006 for one core; a spread-out sample says 0.04


def test_what_an_epoch_of_few_images_takes_however_few_is_told(task, monkeypatch):
    """A step of 8 images that takes 0.1 s and 0.01 s for each image."""
    recipe = Cnn(preset="open", batch=250, least_steps=2)
    monkeypatch.setattr(
        "labelwise.recipe.scratch.step_seconds", lambda learn, seconds: 0.1 + 0.01 * learn(3)
    )
    sizes = []
    monkeypatch.setattr(
        "labelwise.recipe.scratch.blank",
        lambda images, shape, device: sizes.append(images // 3) or blank(images, shape, device),
    )
    monkeypatch.setattr(
        "labelwise.recipe.scratch.train",
        lambda *args, **more: ([{"seconds": float(sizes[-1])}], None),
    )
    cost = recipe.sizes(task)[0].cost(task, Context())
    batch = sizes[0]
    assert sizes == [batch, batch // 2]
    steps = cost.epoch / (0.1 + 0.01 * batch)
    assert cost.fixed == pytest.approx(0.1 * steps)


def test_the_cost_of_a_size_has_all_its_parts(task):
    cost = Cnn(preset="open").sizes(task)[0].cost(task, Context())
    assert min(cost.fit, cost.epoch, cost.answer) > 0


def test_a_planned_run_goes_on_with_its_plan(tmp_path, monkeypatch):
    source = gratings_file(tmp_path / "gratings.npz", per_class=12)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "execute", killed)
    with pytest.raises(KeyboardInterrupt):
        compare(source, out=tmp_path / "run", recipes="cnn(preset=open)", budget="0.1s")
    planned = run_module.Run(tmp_path / "run").record["plan"]
    monkeypatch.undo()
    monkeypatch.setitem(PRESETS, "open", OPEN)
    monkeypatch.setattr(run_module, "make_plan", killed)
    run = compare(source, out=tmp_path / "run", resume=True)
    assert run.record["plan"] == planned
    assert set(planned["fields"]["cnn"]) == {"epochs", "share", "width", "image_size"}
    assert planned["fields"]["cnn"].items() <= run.model.recipe.items()
    assert planned["sentences"]["cnn"].split(",")[0] in run.report.read_text()
    assert run.record["warnings"][-1].startswith("The run will take about")
