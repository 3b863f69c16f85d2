"""Ensembles: their weights see no fold they are scored on, and they are one model on disk."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from labelwise import bundle, cli
from labelwise.attribution.attribute import attribute
from labelwise.data.load import load
from labelwise.data.preprocess import Preprocessing, to_gray
from labelwise.data.split import FINAL
from labelwise.description import to_bytes
from labelwise.ensemble import Ensemble
from labelwise.errors import BackboneError, BundleError, OptionError, RunError, TrainingError
from labelwise.held_out import probabilities
from labelwise.measure.selection import HeldOut
from labelwise.measure.temperature import scaled
from labelwise.mixed import mixed
from labelwise.run import compare, train
from labelwise.transfer import find_backbone
from labelwise.trials import Trial
from tests.runs import assert_same_files, without_times
from tests.tasks import gratings, gratings_folder

# Neither is good, and each sees the images in a size and in colors of its own.
RECIPES = "flat=mlp(hidden=8, epochs=12), small=mlp(hidden=12, epochs=12, image_size=8, color=rgb)"


ENLARGED = [{"height": 12, "width": 12}]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return gratings_folder(tmp_path_factory.mktemp("photos"), 30)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    options = {"folds": 3, "labels": "3,10/class", "test": 0.2, "save_models": "all"}
    return compare(photos, out=out, recipes=RECIPES, ensemble=True, **options)


def trial(run, variant, fold, labels="10-per-class"):
    return Trial(run.folder, variant, labels, 0, fold)


def test_there_is_a_row_for_every_number_of_labels_with_its_own_interval_and_cost(run):
    rows = {(row["variant"], row["labels"]): row for row in run.results["rows"]}
    for labels in ("3-per-class", "10-per-class"):
        row = rows["ensemble", labels]
        assert row["status"] == "done"
        assert row["metrics"]["accuracy"]["low"] < row["metrics"]["accuracy"]["high"]
        assert row["test"]["accuracy"]["n"] == rows["flat", labels]["test"]["accuracy"]["n"]
        assert "weights: " in row["reason"]
        members = trial(run, "ensemble", 0, labels).record()["chosen"]["weights"]
        seconds = [trial(run, name, 0, labels).record()["seconds"] for name in members]
        assert trial(run, "ensemble", 0, labels).record()["seconds"] == pytest.approx(sum(seconds))
    listed = [(row["labels"], row["variant"]) for row in run.results["rows"]]
    assert [labels for labels, _ in listed] == sorted((n for n, _ in listed), reverse=True)
    assert [name for _, name in listed] == ["flat", "small", "ensemble"] * 2
    pairs = {frozenset((pair["a"], pair["b"])) for pair in run.results["pairs"]}
    assert any("ensemble" in pair for pair in pairs)


def test_every_fold_is_answered_by_weights_of_the_other_folds(run, photos):
    names = ("flat", "small")
    tables = [
        pd.concat([trial(run, name, fold).predictions() for fold in range(3)]).sort_values("id")
        for name in names
    ]
    folds = tables[0]["fold"].to_numpy()
    expected, _ = HeldOut(
        tables[0]["label"].to_numpy(),
        np.stack([probabilities(table) for table in tables]),
        folds,
        load(photos).groups[tables[0]["id"]],
        np.ones(len(folds), bool),
    ).crossed()
    own = pd.concat([trial(run, "ensemble", f).predictions() for f in range(3)]).sort_values("id")
    np.testing.assert_allclose(probabilities(own), expected, atol=1e-6)
    np.testing.assert_array_equal(own["fold"], folds)


def test_the_saved_model_is_the_weighted_mean_of_the_saved_members(run, photos):
    chosen = trial(run, "ensemble", FINAL).record()["chosen"]
    images = load(photos).images(np.arange(20))
    whole = bundle.load(trial(run, "ensemble", FINAL).folder / "model")
    logits, distances = whole.answers(images)
    proba, energies, far = 0.0, 0.0, 0.0
    for name, weight in chosen["weights"].items():
        member = bundle.load(trial(run, name, FINAL).folder / "model")
        own, distance = member.answers(images)
        raw = np.exp(own - own.max(1, keepdims=True))
        proba = proba + weight * scaled(
            raw / raw.sum(1, keepdims=True), chosen["temperatures"][name]
        )
        energies = energies - weight * np.log(np.exp(own.astype(float)).sum(1))
        far = far + weight * distance
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(shifted / shifted.sum(1, keepdims=True), proba, atol=1e-5)
    np.testing.assert_allclose(-np.log(np.exp(logits.astype(float)).sum(1)), energies, atol=1e-4)
    np.testing.assert_allclose(distances, far, atol=1e-5)
    assert whole.calibration is not None
    assert whole.novelty is not None
    assert whole.recipe["name"] == "ensemble"


def test_it_answers_and_is_explained_like_any_model(run, photos):
    model = bundle.load(trial(run, "ensemble", FINAL).folder / "model")
    table = model.predict([photos], coverage=0.8, max_error=0.1)
    assert set(table["status"]) <= {"ok", "unknown", "unsure"}
    pixels = torch.zeros(2, *model.preprocessing.shape, dtype=torch.uint8)
    found = attribute(model, pixels, np.array([0, 1]))
    assert found.method == "occlusion"
    assert found.heat.shape == (2, *model.preprocessing.size)


def test_a_run_that_lost_its_ensemble_makes_it_again_the_same(run, photos, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    shutil.rmtree(copy / "trials" / "ensemble")
    for name in ("leaderboard.json", "report.html"):
        (copy / name).unlink()
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "status": "running"}))
    again = compare(photos, out=copy, resume=True)
    assert_same_files(run.folder / "trials", copy / "trials")
    assert without_times(again.results) == without_times(run.results)


def test_the_recommended_ensemble_is_fitted_from_members_nobody_else_needed(
    photos, tmp_path, monkeypatch
):
    monkeypatch.setattr("labelwise.leaderboard.recommend", lambda *_: ("ensemble", "as a test"))
    found = compare(photos, out=tmp_path / "run", recipes=RECIPES, ensemble=True, folds=2)
    assert found.results["recommended"] == "ensemble"
    weights = [m["weight"] for m in found.model.architecture["members"]]
    assert sum(weights) == pytest.approx(1)
    assert "ensemble" in found.report.read_text()
    assert not list((found.folder / "trials").glob("*/*/model"))


@pytest.mark.parametrize("folds", [1, 2])
def test_repeats_are_weighed_image_by_image(folds, photos, tmp_path):
    options = {"folds": folds, "repeats": 2, "ensemble": True}
    found = compare(photos, out=tmp_path / "run", recipes=RECIPES, **options)
    row = next(row for row in found.results["rows"] if row["variant"] == "ensemble")
    flat = next(row for row in found.results["rows"] if row["variant"] == "flat")
    assert row["metrics"]["accuracy"]["n"] == flat["metrics"]["accuracy"]["n"]
    assert len(list((found.folder / "trials" / "ensemble").glob("*_fold-*"))) == 2 * folds


def test_a_member_that_failed_is_left_out(photos, tmp_path):
    recipes = RECIPES + ", wild=cnn(layers='conv8 3x3 relu, gap', epochs=3, lr=1e30)"
    found = compare(photos, out=tmp_path / "run", recipes=recipes, ensemble=True, folds=2)
    rows = {row["variant"]: row for row in found.results["rows"]}
    assert rows["wild"]["status"] == "failed"
    assert rows["ensemble"]["status"] == "done"
    assert "wild" not in rows["ensemble"]["reason"]


def test_with_one_member_left_the_row_says_why_there_is_none(photos, tmp_path):
    recipes = "flat=mlp(hidden=8, epochs=2), wild=cnn(layers='conv8 3x3 relu, gap', lr=1e30)"
    found = compare(photos, out=tmp_path / "run", recipes=recipes, ensemble=True, folds=2)
    row = next(row for row in found.results["rows"] if row["variant"] == "ensemble")
    assert row["status"] == "failed"
    assert "two variants" in row["reason"]
    assert found.results["recommended"] == "flat"


def test_members_that_see_other_parts_of_an_image_cannot_be_mixed(photos, tmp_path):
    recipes = "flat=mlp(epochs=2), padded=mlp(epochs=2, resize=pad)"
    found = compare(photos, out=tmp_path / "run", recipes=recipes, ensemble=True, folds=2)
    row = next(row for row in found.results["rows"] if row["variant"] == "ensemble")
    assert row["status"] == "failed"
    assert "crop" in row["reason"]
    assert "pad" in row["reason"]
    with pytest.raises(RunError, match="different parts"):
        mixed(
            [found.model, _with(found.model, resize="pad" if _is(found, "crop") else "crop")],
            weights=[0.5, 0.5],
            temperatures=[1, 1],
            images=load(photos).images([0]),
        )


def _is(found, way):
    return found.model.preprocessing.resize == way


def _with(model, **changes):
    return dataclasses.replace(
        model, preprocessing=dataclasses.replace(model.preprocessing, **changes)
    )


@pytest.mark.parametrize(
    ("job", "options"),
    [
        (compare, {"recipes": "mlp"}),
        (compare, {"recipes": "ensemble=mlp, cnn"}),
        (train, {"recipe": "mlp"}),
    ],
    ids=["one variant", "the name is taken", "train"],
)
def test_what_cannot_be_an_ensemble_is_refused_before_anything_is_written(
    job, options, photos, tmp_path
):
    with pytest.raises(OptionError, match="--ensemble"):
        job(photos, out=tmp_path / "run", ensemble=True, **options)
    assert not (tmp_path / "run").exists()


def test_an_ensemble_is_no_backbone_and_has_no_fit(run, tmp_path):
    folder = trial(run, "ensemble", FINAL).folder / "model"
    with pytest.raises(BackboneError, match="ensemble of"):
        find_backbone(str(folder))
    with pytest.raises(TrainingError, match="other variants"):
        Ensemble().fit(None, None)


def test_a_config_file_can_ask_for_it(photos, tmp_path):
    (tmp_path / "options.toml").write_text("ensemble = true\nfolds = 2\n")
    given = ["compare", str(photos), "--out", str(tmp_path / "run"), "--recipes", RECIPES]
    result = CliRunner().invoke(
        cli.app, [*given, "--config", str(tmp_path / "options.toml"), "--quiet"]
    )
    assert result.exit_code == 0, result.output
    assert "ensemble" in result.output


def test_a_changed_weight_in_the_file_is_noticed(run, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(trial(run, "ensemble", FINAL).folder / "model", folder)
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace('"weight": 0.', '"weight": 7.', 1))
    with pytest.raises(BundleError, match="SHA-256"):
        bundle.load(folder)


def test_gray_from_three_channels_is_that_of_single_images():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 9, 7, 3), dtype=np.uint8)
    gray = Preprocessing(9, 7, "gray")
    expected = torch.stack([gray(image) for image in pixels])
    found = to_gray(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    assert torch.equal(found, expected)


def test_small_images_are_not_enlarged_before_a_member_sees_them(run, photos):
    model = bundle.load(trial(run, "flat", FINAL).folder / "model")
    grown = bundle.load(trial(run, "small", FINAL).folder / "model")
    both = {"weights": [0.5, 0.5], "temperatures": [1, 1], "images": load(photos).images([0])}
    assert mixed([model, grown], **both).preprocessing.size == (12, 12)
    # A member that wants them larger enlarges them itself; one that wants them smaller as well.
    large = mixed([grown, _with(grown, height=8, width=8)], **both)
    assert large.preprocessing.size == (8, 8)
    backbone = bundle.load(trial(run, "flat", FINAL).folder / "model")
    assert mixed([backbone, model], **both).preprocessing.color == "gray"


def test_images_that_are_not_square_and_a_square_member_are_a_row_with_its_reason(tmp_path):
    images, labels = gratings(12, side=18)
    np.savez(tmp_path / "x.npz", x_train=images[:, :12], y_train=labels)
    recipes = "flat=mlp(epochs=2), small=mlp(epochs=2, image_size=8)"
    options = {"recipes": recipes, "ensemble": True, "folds": 2}
    found = compare(tmp_path / "x.npz", out=tmp_path / "run", **options)
    row = next(row for row in found.results["rows"] if row["variant"] == "ensemble")
    assert "18 x 12 crop" in row["reason"]
    assert found.results["recommended"] in ("flat", "small")


def test_held_out_images_of_one_group_only_are_a_row_with_its_reason(photos, tmp_path):
    table = load(photos).table
    rows = [
        f"{photos / path},{path[0]},{'val,one' if n % 3 == 0 else f'train,{n}'}"
        for n, path in enumerate(table["path"])
    ]
    (tmp_path / "x.csv").write_text("\n".join(["path,label,split,group", *rows]))
    found = compare(tmp_path / "x.csv", out=tmp_path / "run", recipes=RECIPES, ensemble=True)
    row = next(row for row in found.results["rows"] if row["variant"] == "ensemble")
    assert "one group" in row["reason"]


def test_a_class_that_a_fold_could_not_learn_stays_improbable(photos, tmp_path):
    lone = tmp_path / "photos"
    shutil.copytree(photos, lone)
    (lone / "z").mkdir()
    shutil.copy(next((photos / "a").iterdir()), lone / "z" / "one.png")
    picture = Image.open(lone / "z" / "one.png")
    picture.transpose(Image.Transpose.ROTATE_90).save(lone / "z" / "one.png")
    found = compare(lone, out=tmp_path / "run", recipes=RECIPES, ensemble=True, folds=3)
    for fold in range(3):
        own = Trial(found.folder, "ensemble", "all", 0, fold).predictions()
        flat = Trial(found.folder, "flat", "all", 0, fold).predictions()
        np.testing.assert_array_equal(own["p_3"] < 2e-7, flat["p_3"] < 2e-7)


def test_an_ensemble_of_other_members_is_weighed_again(run, photos, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    for file in (copy / "trials" / "ensemble").glob("*/trial.json"):
        record = json.loads(file.read_text())
        record["chosen"]["members"] = ["flat", "gone"]
        file.write_text(json.dumps(record))
        table = pd.read_parquet(file.parent / "predictions.parquet")
        table["p_0"] = 1.0  # of other members
        table.to_parquet(file.parent / "predictions.parquet")
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "status": "running"}))
    again = compare(photos, out=copy, resume=True)
    assert without_times(again.results) == without_times(run.results)


def test_a_member_that_enlarges_images_gets_as_few_at_once_as_alone(run, photos):
    model = bundle.load(trial(run, "flat", FINAL).folder / "model")
    members = [dict(m, height=300, width=300) for m in ENLARGED]
    large = dataclasses.replace(model, architecture={"kind": "ensemble", "members": members})
    assert large.area == 300 * 300
    assert model.area == 12 * 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda members: members[0].update(weight=0.01), "sum 1"),
        (lambda members: members[0].update(color="rgb"), "each channel"),
        (lambda members: members.clear(), "at least 1"),
        (lambda members: members[0]["architecture"].update(kind="ensemble"), "ensemble"),
    ],
)
def test_a_description_that_cannot_be_an_ensembles_is_refused(change, message, run):
    folder = trial(run, "ensemble", FINAL).folder / "model"
    values = json.loads((folder / "model.json").read_text())
    change(values["architecture"]["members"])
    values.pop("sha256")
    with pytest.raises(ValueError, match=message):
        to_bytes(values)


def test_weights_whose_members_scale_pixels_otherwise_are_refused(run, tmp_path):
    model = bundle.load(trial(run, "ensemble", FINAL).folder / "model")
    model.network.body.members[0].std.mul_(2)
    folder = bundle.save(model, tmp_path / "model")
    with pytest.raises(BundleError, match=r"body\.members\.0\.std"):
        bundle.load(folder)
