"""A run: the protocol end to end, its files, and what happens when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import labelwise
from labelwise.data.dataset import COLUMNS
from labelwise.errors import DataError, OptionError, RunError
from labelwise.files import read_json
from labelwise.progress import Silent
from labelwise.recipe import RECIPES
from labelwise.run import compare
from tests.runs import assert_same_files, without_times
from tests.tasks import gratings_file

QUICK = "mlp(epochs=4, least_steps=0), cnn(epochs=4, least_steps=0)"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return gratings_file(tmp_path_factory.mktemp("data") / "gratings.npz", 20, unlabeled=12, test=6)


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
    """A finished run with a test part and two numbers of labels."""
    out = tmp_path_factory.mktemp("runs") / "run"
    return compare(source, out=out, recipes=QUICK, labels="3,8/class", repeats=2, seed=3)


def trials(run):
    return {path.parent: json.loads(path.read_text()) for path in run.folder.rglob("trial.json")}


def test_a_run_has_the_files_of_the_contract(run):
    names = {path.name for path in run.folder.iterdir()} - {".lock"}
    assert names == {
        "run.json",
        "data.parquet",
        "folds.parquet",
        "trials",
        "leaderboard.json",
        "suspects.parquet",
        "sealed.jsonl",
        "report.html",
        "model",
    }
    assert list(pd.read_parquet(run.folder / "data.parquet").columns) == list(COLUMNS)
    assert {path.name for path in (run.folder / "model").iterdir()} == {
        "model.json",
        "weights.safetensors",
    }
    assert not list(run.folder.rglob("*.tmp"))


def test_there_is_a_trial_for_every_variant_number_repeat_and_fold(run):
    expected = {
        f"{variant}/labels-{labels}_repeat-{repeat}_{part}"
        for variant in ("mlp", "cnn")
        for labels in ("3-per-class", "8-per-class")
        for repeat in range(2)
        for part in (*(f"fold-{k}" for k in range(5)), "final")
    }
    assert {str(path.relative_to(run.folder / "trials")) for path in trials(run)} == expected


def test_every_labeled_image_is_judged_once_per_repeat_by_a_model_that_never_saw_it(run):
    table = pd.read_parquet(run.folder / "data.parquet")
    folds = pd.read_parquet(run.folder / "folds.parquet")
    judged_by = folds[folds["role"] == "held-out"]
    learned = folds[folds["role"].isin(["train", "validation"])]
    outside_test = table[table["label"].notna() & (table["split"] != "test")]["id"]
    for (labels, repeat), part in judged_by.groupby(["labels", "repeat"]):
        assert sorted(part["id"]) == sorted(outside_test)
        files = (run.folder / "trials" / "cnn").glob(f"labels-{labels}_repeat-{repeat}_fold-*")
        predictions = pd.concat(pd.read_parquet(f / "predictions.parquet") for f in files)
        assert sorted(predictions["id"]) == sorted(outside_test)
        for fold, rows in predictions.groupby("fold"):
            same = learned[["labels", "repeat", "fold"]] == [labels, repeat, fold]
            seen = learned[same.all(axis=1)]["id"]
            assert not set(seen) & set(rows["id"])


def test_the_test_part_is_in_no_role_and_opened_once(run):
    table = pd.read_parquet(run.folder / "data.parquet")
    folds = pd.read_parquet(run.folder / "folds.parquet")
    test = set(table[table["split"] == "test"]["id"])
    assert len(test) == 18
    assert not test & set(folds["id"])
    (line,) = (run.folder / "sealed.jsonl").read_text().splitlines()
    opening = json.loads(line)
    assert opening["images"] == 18
    assert len(opening["models"]) == 8  # 2 variants, 2 numbers of labels, 2 repeats


def test_the_leaderboard_can_be_recomputed_from_the_predictions(run):
    for row in run.results["rows"]:
        folder = run.folder / "trials" / row["variant"]
        held = [
            pd.read_parquet(path / "predictions.parquet")
            for path in folder.glob(f"labels-{row['labels']}_repeat-*_fold-*")
        ]
        right = pd.concat(held).eval("label == predicted")
        accuracy = row["metrics"]["accuracy"]
        assert accuracy["value"] == pytest.approx(right.mean())
        assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
        assert accuracy["n"] == 48
        finals = [
            pd.read_parquet(path / "predictions.parquet")
            for path in folder.glob(f"labels-{row['labels']}_repeat-*_final")
        ]
        assert row["test"]["accuracy"]["value"] == pytest.approx(
            pd.concat(finals).eval("label == predicted").mean()
        )
        assert row["train"]["accuracy"] is not None


def test_predictions_are_probabilities_over_all_classes(run):
    for file in run.folder.rglob("predictions.parquet"):
        table = pd.read_parquet(file)
        assert list(table.columns) == ["id", "fold", "label", "predicted", "p_0", "p_1", "p_2"]
        proba = table[["p_0", "p_1", "p_2"]].to_numpy()
        np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
        np.testing.assert_array_equal(proba.argmax(1), table["predicted"])


def test_the_history_has_a_row_and_a_confusion_matrix_for_every_epoch(run):
    for path, record in trials(run).items():
        history = pd.read_parquet(path / "history.parquet")
        assert history["epoch"].tolist() == list(range(1, len(history) + 1))
        total = record["images"]["train"]
        # Few images are passed over several times in an epoch.
        assert (history["images"] % total == 0).all()
        assert [sum(cells) for cells in history["train_confusion"]] == history["images"].tolist()


def test_the_recommended_model_is_the_final_fit_of_its_row(run):
    results = run.results
    facts = run.model.facts
    assert (facts["variant"], facts["labels"]) == (
        results["recommended"],
        results["recommended_labels"],
    )
    row = next(
        r
        for r in results["rows"]
        if (r["variant"], r["labels"]) == (facts["variant"], facts["labels"])
    )
    assert facts["metrics"] == row["metrics"]
    data = labelwise.load(run.record["data"]["source"])
    name = f"labels-{facts['labels']}_repeat-0_final"
    stored = pd.read_parquet(
        run.folder / "trials" / facts["variant"] / name / "predictions.parquet"
    )
    proba = run.model.predict_proba(data.images(stored["id"]))
    np.testing.assert_allclose(proba, stored[["p_0", "p_1", "p_2"]], atol=1e-5)


def test_suspects_are_the_out_of_fold_mistakes_most_suspicious_first(run):
    suspects = pd.read_parquet(run.folder / "suspects.parquet")
    assert list(suspects.columns) == ["id", "path", "label", "proposed", "score"]
    assert suspects["score"].is_monotonic_decreasing
    assert (suspects["label"] != suspects["proposed"]).all()


def test_the_same_seed_gives_the_same_run(run, source, tmp_path):
    again = compare(
        source, out=tmp_path / "run", recipes=QUICK, labels="3,8/class", repeats=2, seed=3
    )
    assert without_times(again.results) == without_times(run.results)
    assert_same_files(again.folder, run.folder)


def test_an_existing_run_is_refused_without_resume(run, source):
    with pytest.raises(OptionError, match="--resume"):
        compare(source, out=run.folder, recipes=QUICK)


def test_resuming_a_finished_run_changes_nothing(run, source):
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*") if p.name != ".lock"}
    compare(source, out=run.folder, resume=True)
    assert before == {p: p.stat().st_mtime_ns for p in run.folder.rglob("*") if p.name != ".lock"}


def test_resume_refuses_other_options_and_other_data(run, source, tmp_path):
    with pytest.raises(OptionError, match=r"--seed 4: this run began with 3"):
        compare(source, out=run.folder, resume=True, seed=4)
    other = gratings_file(tmp_path / "other.npz", 20)
    with pytest.raises(DataError, match="the data has changed"):
        compare(other, out=run.folder, resume=True)


def test_a_folder_with_other_things_in_it_is_not_touched(tmp_path, source):
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(OptionError, match="does not exist yet"):
        compare(source, out=tmp_path, recipes=QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_without_a_test_part_fits_only_the_winner_finally(tmp_path):
    source = gratings_file(tmp_path / "g.npz", 12)
    run = compare(source, out=tmp_path / "run", recipes="mlp(epochs=2), cnn(epochs=2)")
    finals = {path.parent.name for path in run.folder.glob("trials/*/*_final")}
    assert finals == {run.results["recommended"]}
    assert not (run.folder / "sealed.jsonl").exists()
    assert all(row["test"] is None for row in run.results["rows"])
    corrected = run.results["corrected"]
    assert corrected["low"] <= corrected["value"] <= corrected["high"]


def test_save_models_all_keeps_every_final_fit(tmp_path):
    source = gratings_file(tmp_path / "g.npz", 12)
    run = compare(
        source, out=tmp_path / "run", recipes="mlp(epochs=2), cnn(epochs=2)", save_models="all"
    )
    for variant in ("mlp", "cnn"):
        assert (run.folder / "trials" / variant / "labels-all_repeat-0_final" / "model").is_dir()


def test_only_the_first_repeats_final_model_is_fitted_where_one_is_kept(tmp_path):
    source = gratings_file(tmp_path / "g.npz", 12)
    options = {"recipes": "mlp(epochs=2), cnn(epochs=2)", "repeats": 2, "folds": 2}
    run = compare(source, out=tmp_path / "run", ensemble=True, **options)
    finals = {path.name for path in run.folder.glob("trials/*/*_final")}
    assert finals == {"labels-all_repeat-0_final"}
    kept = compare(source, out=tmp_path / "all", save_models="all", **options)
    assert len(list(kept.folder.glob("trials/mlp/*_final"))) == 2


def test_the_time_before_a_stop_counts(tmp_path, monkeypatch):
    from labelwise import execute as module

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    source = gratings_file(tmp_path / "g.npz", 12)
    monkeypatch.setattr(module, "write_report", killed)
    with pytest.raises(KeyboardInterrupt):
        compare(source, out=tmp_path / "run", recipes="mlp(epochs=2)")
    monkeypatch.undo()
    before = read_json(tmp_path / "run" / "run.json")["seconds"]
    assert before > 0
    run = compare(source, out=tmp_path / "run", resume=True)
    assert run.record["seconds"] > before


def test_a_variant_that_fails_is_a_row_with_the_reason_and_the_rest_goes_on(tmp_path):
    source = gratings_file(tmp_path / "g.npz", 12)
    run = compare(
        source, out=tmp_path / "run", recipes="mlp(epochs=2), wild=mlp(epochs=3, lr=1e30)"
    )
    rows = {row["variant"]: row for row in run.results["rows"]}
    assert rows["mlp"]["status"] == "done"
    assert rows["wild"]["status"] == "failed"
    assert "not a number in epoch" in rows["wild"]["reason"]
    assert run.results["recommended"] == "mlp"


def test_a_run_in_which_nothing_finishes_is_an_error_with_the_reasons(tmp_path):
    source = gratings_file(tmp_path / "g.npz", 12)
    with pytest.raises(RunError, match=r"No variant finished\. mlp: The loss is not a number"):
        compare(source, out=tmp_path / "run", recipes="mlp(epochs=3, lr=1e30)")


def test_a_given_val_part_is_the_held_out_part(tmp_path):
    images, labels = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 2
    images[:] = np.random.default_rng(0).integers(0, 99, images.shape)
    images[labels == 1] += 100
    file = tmp_path / "g.npz"
    np.savez(file, x_train=images[:30], y_train=labels[:30], x_val=images[30:], y_val=labels[30:])
    run = compare(file, out=tmp_path / "run", recipes="mlp(epochs=2)")
    assert run.results["rows"][0]["metrics"]["accuracy"]["n"] == 10


def test_without_recipes_those_that_fit_run_and_the_others_are_listed_with_the_reason(tmp_path):
    from tests.images import class_folders

    folder = class_folders(tmp_path / "photos", {"a": 8, "b": 8})
    for number, path in enumerate(folder.rglob("*.png")):  # large, so that an mlp is unsuited
        from PIL import Image

        Image.open(path).resize((150, 140)).rotate(number).save(path)
    run = compare(folder, out=tmp_path / "run", budget="5s", image_size=32, folds=2)
    assert {"probe"} <= {row["variant"] for row in run.results["rows"]} <= set(RECIPES) - {"mlp"}
    (left,) = (item for item in run.record["plan"]["left_out"] if item["variant"] == "mlp")
    assert "larger than 64 pixels" in left["reason"]
    reasons = {item["variant"]: item["reason"] for item in run.record["plan"]["left_out"]}
    assert "no image without a label" in reasons["autoencoder"]
    twin = "autoencoder-supervised"  # nobody asked for it, and its variant does not run
    assert reasons[twin] == "is the twin of 'autoencoder', which is left out"


def test_data_without_a_label_is_refused(tmp_path):
    file = tmp_path / "g.npz"
    np.savez(file, x_unlabeled=np.random.default_rng(0).integers(0, 255, (9, 8, 8), np.uint8))
    with pytest.raises(DataError, match="no image has a label"):
        compare(file, out=tmp_path / "run")


def test_a_broken_file_is_on_record_and_the_rest_goes_on(tmp_path):
    from tests.images import class_folders

    folder = class_folders(tmp_path / "photos", {"a": 6, "b": 6})
    (folder / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (folder / "a" / "<img src=x onerror=alert(1)>.png").write_bytes(b"")
    recipes = "mlp(epochs=1), cnn(epochs=1), probe(image_size=32)"
    run = compare(folder, out=tmp_path / "run", recipes=recipes, folds=2)
    table = pd.read_parquet(run.folder / "data.parquet")
    assert (table["decision"] == "set aside").sum() == 2
    assert {row["status"] for row in run.results["rows"]} == {"done"}
    assert run.results["rows"][0]["metrics"]["accuracy"]["n"] == 12
    assert "<img src=x" not in run.report.read_text()


def test_layers_that_do_not_fit_are_refused_before_anything_is_trained(tmp_path, source):
    with pytest.raises(labelwise.errors.LayerError, match=r"layer 3 'max 9'.*1x1 pixels"):
        compare(source, out=tmp_path / "run", recipes="cnn(layers='conv4 3x3, max 9, max 9')")
    assert not (tmp_path / "run" / "run.json").exists()


COMMAND = """
import sys
from labelwise.run import compare
recipes = "mlp(epochs=3, least_steps=0), cnn(epochs=3, least_steps=0)"
compare(sys.argv[1], out=sys.argv[2], recipes=recipes, resume=True, seed=1)
"""


def start(source: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", COMMAND, str(source), str(out)],
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """The run of COMMAND when nothing interrupts it."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert start(source, out).wait(120) == 0
    return out


@pytest.mark.slow  # in real processes; tests/test_kills.py has many more moments, forked
@pytest.mark.parametrize("after", [1, 9])
def test_a_run_killed_at_any_moment_ends_as_one_that_was_not(after, source, whole, tmp_path):
    killed = tmp_path / "killed"
    process = start(source, killed)
    deadline = time.monotonic() + 100
    while len(list(killed.glob("trials/*/*/trial.json"))) < after:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {p: p.stat().st_mtime_ns for p in killed.glob("trials/*/*/trial.json")}
    (killed / "trials" / ".x.tmp").write_text("left by the kill")
    assert start(source, killed).wait(120) == 0
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in finished.items())
    a, b = labelwise.Run(killed), labelwise.Run(whole)
    # The plan holds measured seconds; everything that was learned and measured must agree.
    assert without_times(a.results) == without_times(b.results)
    assert_same_files(killed, whole)
    assert (killed / "sealed.jsonl").read_text().count("\n") == 1


def test_a_run_killed_while_the_test_part_is_open_has_one_opening(source, tmp_path, monkeypatch):
    from labelwise import execute as module

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "judge", killed)
    with pytest.raises(KeyboardInterrupt):
        compare(source, out=tmp_path / "run", recipes="mlp(epochs=2)")
    monkeypatch.undo()
    run = compare(source, out=tmp_path / "run", resume=True)
    assert (run.folder / "sealed.jsonl").read_text().count("\n") == 1
    assert run.results["rows"][0]["test"]["accuracy"]["n"] == 18


def test_two_processes_cannot_write_the_same_run(source, tmp_path):
    import filelock

    out = tmp_path / "run"
    out.mkdir()
    with filelock.FileLock(out / ".lock"), pytest.raises(OptionError, match="another process"):
        compare(source, out=out, recipes="mlp(epochs=2)")


def test_a_start_that_another_one_overtook_is_refused(source, tmp_path, monkeypatch):
    """The other one began, and ended, while this one looked at the data."""
    from labelwise import run as module

    out = tmp_path / "run"

    def overtaken(*args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(module, "load", labelwise.load)
            compare(source, out=out, recipes="mlp(epochs=1)")
        return labelwise.load(*args, **options)

    monkeypatch.setattr(module, "load", overtaken)
    with pytest.raises(OptionError, match="--resume"):
        compare(source, out=out, recipes="mlp(epochs=2)", seed=1)


def test_a_run_killed_before_it_began_leaves_nothing_in_the_way(source, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for name in (".lock", "data.parquet", ".half.tmp"):
        (out / name).write_text("")
    compare(source, out=out, recipes="mlp(epochs=1)")
    assert not (out / ".half.tmp").exists()


def test_train_is_compare_with_one_recipe(tmp_path):
    source = gratings_file(tmp_path / "g.npz", 12)
    run = labelwise.train(source, recipe="mlp(epochs=2)", out=tmp_path / "run")
    assert run.leaderboard["variant"].tolist() == ["mlp"]


def test_the_record_names_neither_host_nor_user(run):
    text = (run.folder / "run.json").read_text()
    assert os.uname().nodename not in text
    assert run.record["status"] == "done"


def test_a_run_of_recipe_values_is_resumed_with_the_same_ones_only(tmp_path, monkeypatch):
    from labelwise import execute as module
    from labelwise.recipe.mlp import Mlp

    source = gratings_file(tmp_path / "g.npz", 12)
    monkeypatch.setattr(module, "write_report", lambda *a: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception):
        compare(source, out=tmp_path / "run", recipes=[Mlp(epochs=2)])
    monkeypatch.undo()
    with pytest.raises(OptionError, match="began with other recipes"):
        compare(source, out=tmp_path / "run", recipes=[Mlp(epochs=3)], resume=True)
    run = compare(source, out=tmp_path / "run", resume=True)
    assert [row["recipe"]["epochs"] for row in run.results["rows"]] == [2]


def test_a_probe_resumed_in_the_middle_ends_with_the_same_numbers(tmp_path, monkeypatch):
    from labelwise import execute as module

    source = gratings_file(tmp_path / "g.npz", 12)
    recipes = "probe(image_size=32)"
    whole = compare(source, out=tmp_path / "whole", recipes=recipes, folds=3)
    monkeypatch.setattr(module, "write_report", lambda *a: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception):
        compare(source, out=tmp_path / "run", recipes=recipes, folds=3)
    monkeypatch.undo()
    lost = tmp_path / "run" / "trials" / "probe" / "labels-all_repeat-0_fold-1"
    for name in ("trial.json", "predictions.parquet"):
        (lost / name).unlink()
    run = compare(source, out=tmp_path / "run", resume=True)
    assert without_times(run.results) == without_times(whole.results)


def test_a_broken_file_in_the_given_test_part_does_not_stop_a_resumed_run(tmp_path, monkeypatch):
    from labelwise import execute as module
    from tests.images import class_folders, write

    class_folders(tmp_path / "photos" / "train", {"a": 6, "b": 6})
    for number in range(6):
        write(tmp_path / "photos" / "test" / "ab"[number % 2] / f"{number}.png", 100 + number)
    (tmp_path / "photos" / "test" / "a" / "broken.jpg").write_bytes(b"x")
    monkeypatch.setattr(module, "judge", lambda *a: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception):
        compare(tmp_path / "photos", out=tmp_path / "run", recipes="mlp(epochs=1)")
    monkeypatch.undo()
    run = compare(tmp_path / "photos", out=tmp_path / "run", resume=True)
    assert run.results["rows"][0]["test"]["accuracy"]["n"] == 6


@pytest.mark.parametrize(
    "options", [{"recipes": "nope"}, {"labels": "999"}, {"folds": 50}, {"recipes": []}]
)
def test_an_unusable_call_leaves_no_folder_behind(options, source, tmp_path):
    with pytest.raises(OptionError):
        compare(source, out=tmp_path / "run", **{"recipes": "mlp(epochs=1)", **options})
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_an_option_error(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot be written"):
        compare(source, out=tmp_path / "file" / "run", recipes="mlp(epochs=1)")


def test_evaluating_on_the_sealed_part_raises_no_false_alarm(run, source):
    test = labelwise.evaluate(run.folder, source, split="test")
    train = labelwise.evaluate(run.folder, source, split="train")
    assert not any("has learned" in text for text in test.warnings)
    assert any("has learned from" in text for text in train.warnings)


def test_of_one_variant_nothing_is_corrected_and_a_correction_never_flatters(tmp_path):
    source = gratings_file(tmp_path / "g.npz", 12)
    one = compare(source, out=tmp_path / "one", recipes="mlp(epochs=1)")
    assert one.results["corrected"] is None
    two = compare(
        source, out=tmp_path / "two", recipes="mlp(epochs=1), b=mlp(epochs=3)", metric="macro_f1"
    )
    best = max(row["metrics"]["macro_f1"]["value"] for row in two.results["rows"])
    assert two.results["corrected"]["value"] <= best


@pytest.mark.usefixtures("kept_every_epoch")
def test_a_fit_killed_in_the_middle_goes_on_from_its_checkpoint(tmp_path):
    source = gratings_file(tmp_path / "gratings.npz", 8)
    options = {"recipes": "mlp(hidden=8, epochs=4)", "folds": 2}
    whole = labelwise.compare(source, out=tmp_path / "whole", **options)

    class Killer(Silent):
        """Ends the run at an epoch, counted over all fits; None never does."""

        def __init__(self, last=None):
            self.last, self.seen = last, 0

        def advance(self, fraction, note=""):
            self.seen += note.startswith("epoch")
            if self.seen == self.last:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        labelwise.compare(source, out=tmp_path / "killed", progress=Killer(7), **options)
    assert len(list((tmp_path / "killed").rglob("checkpoint.safetensors"))) == 1
    rest = Killer()
    run = labelwise.compare(source, out=tmp_path / "killed", progress=rest, resume=True, **options)
    assert rest.seen == 2 + 4  # what was missing of the second fold, and the final fit
    assert not list(run.folder.rglob("checkpoint.safetensors"))
    a, b = (r.results["rows"][0]["metrics"]["log_loss"]["value"] for r in (whole, run))
    assert a == b
