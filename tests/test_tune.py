"""tune: what it may see, how trials are given up, what is on record, and what it says."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shlex
import shutil
from pathlib import Path
from typing import Any, ClassVar

import filelock
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import labelwise as lw
from labelwise import cli
from labelwise.data.split import LabelCount, Split, make_protocol
from labelwise.errors import DataError, MissingExtraError, OptionError, RunError
from labelwise.nn.language import parse_layers
from labelwise.progress import Silent
from labelwise.recipe import RECIPES
from labelwise.recipe.base import Context, Fitted, Task
from labelwise.recipe.mlp import Mlp
from labelwise.recipe.ranges import Choices, Parts
from labelwise.recipe.variants import given_fields, recipe_of
from labelwise.tuning import search as search_module
from labelwise.tuning.begin import visible
from labelwise.tuning.disk import Tuning
from labelwise.tuning.halving import FACTOR, FEWEST_JUDGED, make_ladder, tempered_loss
from labelwise.tuning.records import read_records
from labelwise.tuning.space import Base, Space, make_space
from tests.tasks import grating_data

SMALL = "mlp(hidden=8, epochs=3, least_steps=4)"
RATES = ("lr=1e-6..0.1",)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return grating_data(tmp_path_factory.mktemp("data"), per_class=40)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return grating_data(tmp_path_factory.mktemp("few"), per_class=8)


@pytest.fixture(scope="module")
def tuned(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "run"
    return search(data, folder, trials=12)


@pytest.fixture(scope="module")
def begun(few, tmp_path_factory):
    """A search that was stopped after its second trial."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    with pytest.raises(KeyboardInterrupt):
        search(few, folder, trials=3, progress=Killed("trial 2"))
    return folder


def search(data: Any, folder: Any, **options: Any) -> Any:
    values = {"recipe": SMALL, "search": RATES, "set": ("batch=16",), "budget": "1h", **options}
    return lw.tune(data, out=folder, **values)


def without_times(trials: pd.DataFrame) -> pd.DataFrame:
    return trials.drop(columns="seconds")


def test_it_finds_a_learning_rate_far_above_the_lowest_of_the_range(tuned):
    worst = tuned.trials.nsmallest(1, "lr")["rung_1"].item()
    assert tuned.best.lr > 1e-3
    assert tuned.trials["rung_1"].min() < 0.8 * worst


def test_the_winner_is_the_best_complete_trial_and_never_worse_than_the_recipe_as_given(tuned):
    complete = tuned.trials[tuned.trials["state"] == "complete"]
    assert tuned.results["value"] == complete["accuracy"].max()
    assert 0 in set(complete["number"])


def test_at_every_rung_only_the_best_third_so_far_goes_on(tuned):
    """The rule of asynchronous halving, applied anew to the losses on record."""
    rungs = len(tuned.record["rungs"])
    came: list[list[float]] = [[] for _ in range(rungs)]
    for record in read_records(tuned.folder):
        outcome = record.outcome
        for rung, loss in enumerate(outcome.rungs):
            came[rung].append(loss)
            best = sorted(came[rung])[: max(1, len(came[rung]) // FACTOR)]
            gone = outcome.state == "pruned" and rung == len(outcome.rungs) - 1
            assert (loss in best) != gone
    assert (tuned.trials["state"] == "pruned").sum() >= 4


def test_the_variant_is_read_by_compare_as_the_winner(tuned):
    (row,) = tuned.trials[tuned.trials["number"] == tuned.results["number"]].to_dict("records")
    assert tuned.variant.startswith("tuned=mlp(")
    assert tuned.best.lr == pytest.approx(row["lr"], rel=5e-3)
    assert tuned.best.batch == 16


def test_the_same_seed_gives_the_same_trials_and_another_seed_others(few, tmp_path):
    first, second = (search(few, tmp_path / name, trials=4).trials for name in "ab")
    other = search(few, tmp_path / "c", trials=4, seed=1).trials
    pd.testing.assert_frame_equal(without_times(first), without_times(second))
    assert (first["lr"][1:] != other["lr"][1:]).all()


class Killed(Silent):
    """Ends the process, as far as that can be, when some trial begins."""

    def __init__(self, trial: str) -> None:
        self.trial = trial

    def begin(self, what: str) -> None:
        if what.startswith(self.trial):
            raise KeyboardInterrupt


def test_a_search_that_was_killed_goes_on_and_ends_the_same(data, tuned, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        search(data, tmp_path / "run", trials=12, progress=Killed("trial 3"))
    assert len(read_records(tmp_path / "run")) == 3
    resumed = search(data, tmp_path / "run", trials=12, resume=True)
    pd.testing.assert_frame_equal(without_times(resumed.trials), without_times(tuned.trials))


def test_a_search_is_not_resumed_with_another_option_or_recipe(data, tuned):
    with pytest.raises(OptionError, match="--trials 13: this run began with 12"):
        search(data, tuned.folder, trials=13, resume=True)
    recipe = Mlp(hidden=(9,), epochs=3)
    with pytest.raises(OptionError, match="began with another recipe"):
        lw.tune(data, out=tuned.folder, recipe=recipe, resume=True)


def test_a_folder_that_another_process_writes_is_refused(few, tmp_path):
    (tmp_path / "run").mkdir()
    with (
        filelock.FileLock(tmp_path / "run" / ".lock"),
        pytest.raises(OptionError, match="another process"),
    ):
        search(few, tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"number": 1'])
@pytest.mark.parametrize("name", ["run.json", "trials/0001.json", "data.parquet", "folds.parquet"])
def test_a_damaged_file_of_a_search_is_named(few, begun, tmp_path, name, content):
    folder = shutil.copytree(begun, tmp_path / "run")
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is damaged, or from another version"):
        search(few, folder, trials=3, resume=True)


@pytest.mark.parametrize(("name", "read"), [("tuning.json", "results"), ("run.json", "record")])
@pytest.mark.parametrize("content", [b"", b"[1]", b'{"metric": "accuracy"}'])
def test_a_damaged_result_of_a_search_is_named(begun, tmp_path, name, read, content):
    folder = shutil.copytree(begun, tmp_path / "run")
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is damaged.*(Delete|Begin)"):
        getattr(Tuning(folder), read)


def test_a_deleted_trial_and_those_after_it_are_run_again(few, begun, tmp_path):
    folder = shutil.copytree(begun, tmp_path / "run")
    (folder / "trials" / "0000.json").unlink()
    again = search(few, folder, trials=3, resume=True)
    whole = search(few, tmp_path / "whole", trials=3)
    pd.testing.assert_frame_equal(without_times(again.trials), without_times(whole.trials))


def test_a_search_is_not_resumed_with_other_declared_ranges(few, begun, tmp_path, monkeypatch):
    folder = shutil.copytree(begun, tmp_path / "run")
    monkeypatch.setattr(search_module, "make_space", lambda *_: make_space(Base("mlp"), (), ()))
    with pytest.raises(OptionError, match="began with other ranges"):
        search(few, folder, trials=3, resume=True)


class Spy:
    """Pixels that remember which rows were decoded."""

    def __init__(self, pixels: Any) -> None:
        self.pixels, self.rows = pixels, set()

    def read(self, row: int, at_least: object = None) -> np.ndarray:
        self.rows.add(row)
        return self.pixels.read(row)


def test_no_image_of_the_test_part_is_decoded(data, tmp_path, monkeypatch):
    monkeypatch.setenv("LABELWISE_CACHE", str(tmp_path / "cache"))
    watched = dataclasses.replace(data, pixels=Spy(data.pixels))
    search(watched, tmp_path / "run", trials=3, test=0.3, seed=5)
    sealed = make_protocol(data, test=0.3, seed=5).test
    assert watched.pixels.rows == set(data.usable.tolist()) - set(sealed.tolist())


def test_the_command_it_prints_judges_the_winner_on_images_that_the_search_never_saw(tmp_path):
    grating_data(tmp_path, per_class=12)
    options = {"test": 0.2, "seed": 4, "folds": 3, "labels": "6/class", "trials": 3}
    found = search(tmp_path / "gratings.npz", tmp_path / "run", **options)
    words = shlex.split(found.results["next"])
    assert CliRunner().invoke(cli.app, [*words[1:], "--quiet"]).exit_code == 0
    judged = lw.Run(tmp_path / "run-judged")
    sealed, kept = (set(sealed_ids(folder)) for folder in (judged.folder, found.folder))
    learned = set(pd.read_parquet(found.folder / "folds.parquet")["id"])
    assert (sealed, len(sealed)) == (kept, 7)
    assert not sealed & learned
    assert {row["test"]["accuracy"]["n"] for row in judged.results["rows"]} == {7}
    assert found.best in {recipe_of(row["recipe"]) for row in judged.results["rows"]}


def sealed_ids(folder: Path) -> pd.Series:
    table = pd.read_parquet(folder / "data.parquet")
    return table[table["split"] == "test"]["id"]


@dataclasses.dataclass(frozen=True)
class Recorder(Mlp):
    """The small network; remembers the labels that it was shown."""

    shown: ClassVar[dict[int, int]] = {}

    def fit(self, task: Task, context: Context) -> Fitted:
        images, labels = [task.images], [task.labels]
        if task.validation is not None:
            images, labels = [*images, task.validation[0]], [*labels, task.validation[1]]
        for image, label in zip(images, labels, strict=True):
            known = label >= 0
            self.shown.update(zip(image.rows[known].tolist(), label[known].tolist(), strict=True))
        return super().fit(task, context)


def test_only_the_labels_that_were_asked_for_are_learned(data, tmp_path):
    recipe = Recorder(hidden=(8,), epochs=1, least_steps=0)
    search(data, tmp_path / "run", recipe=recipe, trials=2, labels="4/class", test=0.2)
    assert np.bincount(list(Recorder.shown.values())).tolist() == [4, 4, 4]


def test_only_the_labels_that_were_asked_for_are_visible(data):
    protocol = make_protocol(data, labels=[LabelCount(4, per_class=True)], test=0.2)
    seen = visible(data, protocol)
    outside = np.setdiff1d(seen.usable, protocol.test)
    assert np.bincount(seen.labels[outside] + 1)[1:].tolist() == [4, 4, 4]
    assert (make_protocol(seen).test == protocol.test).all()


def test_a_given_val_part_judges_with_all_its_labels(few, tmp_path):
    table = few.table.copy()
    table.loc[::4, "split"] = "val"
    search(dataclasses.replace(few, table=table), tmp_path / "run", trials=1, labels="2/class")
    folds = pd.read_parquet(tmp_path / "run" / "folds.parquet")
    assert set(folds[folds["role"] == "held-out"]["id"]) == set(table.index[::4])


def test_a_network_that_shrinks_below_a_pixel_is_pruned_before_it_is_trained(few, tmp_path):
    layers = "layers=max 13, gap|conv2 3x3 relu, gap"
    recipe = "cnn(epochs=1, lr=0.01, batch=16, least_steps=0, layers='gap')"
    with pytest.raises(OptionError, match="also given a value"):
        search(few, tmp_path / "run", recipe=recipe, search=layers)
    recipe = "cnn(epochs=1, lr=0.01, least_steps=0)"
    found = search(few, tmp_path / "run", recipe=recipe, search=layers, trials=5).trials
    small = found[found["layers"] == "max 13, gap"]
    assert len(small)
    assert (small["state"] == "pruned").all()
    assert small["reason"].str.contains("below one pixel").all()


def test_a_trial_that_fails_is_on_record_with_its_reason(few, tmp_path):
    found = search(few, tmp_path / "run", search="lr=0.01|1e30", trials=5).trials
    failed = found[found["state"] == "failed"]
    assert (failed["lr"] == "1e30").all()
    assert failed["reason"].str.contains("not a number").all()
    assert len(failed)


def test_a_search_without_any_complete_trial_is_an_error_with_the_reason(few, tmp_path):
    with pytest.raises(RunError, match="No trial was completed. The loss is not a number"):
        search(
            few, tmp_path / "run", recipe="mlp(lr=1e30, epochs=1)", search="scale=unit", trials=2
        )


def test_a_used_up_budget_leaves_only_the_recipe_as_given(few, tmp_path):
    found = search(few, tmp_path / "run", trials=5, budget="0.001s")
    assert found.trials["state"].tolist() == ["complete"]
    assert found.results["caution"].startswith("No trial was better")


def test_the_epochs_that_a_recipe_leaves_open_stay_open_in_the_variant(few, tmp_path):
    found = search(few, tmp_path / "run", recipe="mlp(hidden=8)", budget="0.001s")
    assert found.record["epochs"] == 3
    assert "epochs" not in found.variant


@pytest.mark.parametrize("test", [None, 0.2])
def test_it_says_what_the_number_is_worth(few, tmp_path, test):
    caution = search(few, tmp_path / "run", trials=1, test=test).results["caution"]
    assert ("5 test images, which the search has not seen" in caution) == (test is not None)
    assert ("No test part was sealed" in caution) == (test is None)


class Listening(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_budget_below_one_trial_is_said_and_one_trial_is_made(few, tmp_path):
    listening = Listening()
    found = search(few, tmp_path / "run", trials=3, budget="0.01s", progress=listening)
    assert any("more than the budget; the first one is completed" in s for s in listening.said)
    assert len(found.trials) == 1


def test_optuna_missing_names_the_extra(few, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"labelwise\[tune\]"):
        search(few, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "expected field=low..high or field=a|b"),
        ("lr=", "expected field=low..high or field=a|b"),
        ("rate=1..2", "'rate' cannot be searched here. Choose from augment,"),
        ("lr=1e-2..1e-4", "two numbers that ascend"),
        ("lr=1e-4..big", "two numbers that ascend"),
        ("batch=1.5..3", "two whole numbers that ascend"),
        ("decay=1..2", "is not low..high|values, as in 'a|b'"),
        ("batch=16|many", "mlp(batch=many)"),
        ("lr=-1|0.1", "must be positive"),
        ("epochs=2..20", "--set epochs=20"),
        ("hidden.height=2..3", "'hidden.height' cannot be searched"),
        ("hidden.depth=0..2", "is not a positive whole number"),
        ("hidden.width=wide", "is not a positive whole number"),
        ("preset=none|small", "there is no such preset"),
    ],
)
def test_a_search_that_cannot_be_read_is_one_message(text, message):
    with pytest.raises(OptionError) as error:
        make_space(Base("mlp"), (), (text,))
    assert str(error.value).startswith(f"--search {text!r}: ")
    assert any(part in str(error.value) for part in message.split("|v"))


def test_a_fixed_field_is_not_searched(few, tmp_path):
    assert set(make_space(Base("mlp"), ("lr", "hidden"), ()).ranges) == {"batch"}
    with pytest.raises(OptionError, match="'lr' is also given a value"):
        search(few, tmp_path / "run", recipe="mlp(lr=0.1)")
    with pytest.raises(OptionError, match="every field .* is fixed"):
        make_space(Base("mlp"), ("lr", "hidden", "batch"), ())


def test_values_of_a_whole_field_replace_its_parts():
    space = make_space(Base("mlp"), ("lr", "batch"), ("hidden=8-4|16",))
    assert space.fields({"hidden": "8-4"}) == {"hidden": "8-4"}


def test_given_fields_are_those_of_the_text_or_off_their_default():
    assert given_fields("a=cnn(lr=0.003, epochs=4)") == {"lr", "epochs"}
    assert given_fields(Mlp(preset="dense10", lr=0.5)) == {"preset", "lr"}


def values_of(space: Space) -> st.SearchStrategy[dict[str, Any]]:
    """Any point of a space."""

    def one(found: Any) -> st.SearchStrategy[Any]:
        if isinstance(found, Choices):
            return st.sampled_from(found.values)
        kind = st.integers if isinstance(found.low, int) and hasattr(found, "low") else st.floats
        return kind(found.low, found.high)

    return st.fixed_dictionaries({name: one(found) for name, found in space.ranges.items()})


@pytest.mark.parametrize("name", RECIPES)
@given(drawn=st.data())
def test_every_point_of_a_declared_space_is_a_recipe(name, drawn):
    base = Base(name)
    space = make_space(base, (), ())
    recipe = base.recipe(space.fields(drawn.draw(values_of(space))))
    assert recipe.name == name


def test_the_parts_of_a_network_are_what_its_text_says():
    space = make_space(Base("cnn"), ("lr", "batch"), ())
    part = {"depth": 3, "width": "8", "growth": "2", "kernel": "5", "shrink": "max", "norm": "yes"}
    text = space.fields({f"layers.{name}": value for name, value in part.items()})["layers"]
    layers = parse_layers(text)
    assert [layer.width for layer in layers if layer.kind == "conv"] == [8, 16, 32]
    kinds = [layer.kind for layer in layers]
    assert kinds == ["conv", "batch norm", "activation", "max"] * 3 + ["gap"]


def split(judged: int, validation: int) -> Split:
    rows = np.arange(judged)
    return Split("all", 0, 0, rows, np.arange(validation), rows, rows)


@given(
    st.integers(1, 100), st.integers(1, 30), st.integers(1, 60), st.integers(0, 60), st.booleans()
)
def test_rungs_ascend_below_the_whole_trial_and_enough_images_judge(
    epochs, folds, judged, validation, watched
):
    ladder = make_ladder(epochs, [split(judged, validation)] * folds, watched=watched)
    rungs = ladder.rungs
    assert list(rungs) == sorted(set(rungs))
    assert all(0 < rung < epochs * folds for rung in rungs)
    for rung in rungs:
        within = rung < epochs
        assert (validation if within else judged * (rung // epochs)) >= FEWEST_JUDGED
        assert within or rung % epochs == 0
    assert 0 < ladder.share <= 1


def test_being_too_sure_by_a_factor_does_not_change_the_loss_of_a_trial():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 3, 60), rng.normal(size=(60, 3))
    logits[np.arange(60), labels] += 1

    def proba(factor: float) -> np.ndarray:
        scaled = np.exp(factor * logits)
        return scaled / scaled.sum(1, keepdims=True)

    assert tempered_loss(labels, proba(3)) == pytest.approx(
        tempered_loss(labels, proba(1)), abs=1e-3
    )


def test_the_table_and_the_page_show_every_trial(tuned):
    assert tuned.trials["number"].tolist() == list(range(12))
    page = tuned.report.read_text()
    assert "<script" not in page
    assert "log loss at the first rung" in page
    assert tuned.results["caution"].replace("'", "&#39;") in page


def test_the_command_prints_the_winner_and_the_path_of_the_page_last(few, tmp_path):
    words = ["tune", str(tmp_path / "gratings.npz"), "--out", str(tmp_path / "run")]
    words += ["--recipe", SMALL, "--trials", "2", "--search", "lr=1e-3..1e-2", "--quiet"]
    grating_data(tmp_path, per_class=8)
    shown = CliRunner().invoke(cli.app, words).stdout
    assert shown.splitlines()[-1] == str((tmp_path / "run" / "report.html").resolve())
    assert "tuned=mlp(" in shown
    again = CliRunner().invoke(cli.app, [*words, "--resume", "--json"])
    assert json.loads(again.stdout)["variant"].startswith("tuned=mlp(")


def test_the_document_lists_every_declared_range():
    from tests.test_docs import ROOT

    text = (ROOT / "docs" / "tune.md").read_text().replace("\\|", "|")
    for kind in RECIPES.values():
        for item in dataclasses.fields(kind):
            found = item.metadata["search"]
            ranges = found.ranges if isinstance(found, Parts) else {item.name: found}
            for part, declared in ranges.items():
                assert declared is None or (f"`{part}`" in text and f"`{declared}`" in text)
