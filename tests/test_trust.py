"""What a run's model knows of how sure it may be: stored, used for every answer, and reported."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from labelwise import bundle, cli
from labelwise.data.load import load
from labelwise.errors import BundleError, OptionError
from labelwise.held_out import calibration_of, learnable, of_one_repeat, probabilities
from labelwise.measure import log_loss
from labelwise.measure.calibration import Calibration
from labelwise.measure.conformal import quantiles
from labelwise.measure.temperature import crossed, scaled
from labelwise.model import UNSURE, softmax
from labelwise.run import compare
from labelwise.trials import Trial
from tests.tasks import gratings_folder
from tests.test_measure_calibration import answers


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return gratings_folder(tmp_path_factory.mktemp("photos"), 40)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """Of a model that is far from sure, since it has learned for a moment only."""
    out = tmp_path_factory.mktemp("runs") / "run"
    recipes = "small=cnn(layers='conv8 3x3 relu, gap', epochs=2)"
    return compare(photos, out=out, recipes=recipes, folds=3, repeats=2, test=0.2)


@pytest.fixture(scope="module")
def held(run, photos):
    """Labels, probabilities and parts of the images held out, each once."""
    trials = [Trial(run.folder, "small", "all", r, f) for r in (0, 1) for f in (0, 1, 2)]
    return of_one_repeat(pd.concat([t.predictions() for t in trials]), load(photos).groups)


def test_every_image_that_is_no_test_image_counts_once(run, held):
    labels, _, parts = held
    assert len(labels) == 96
    assert sorted(set(parts)) == [0, 1, 2]
    assert run.model.calibration == Calibration.of(*held)
    assert run.model.calibration.count == 96


def test_the_temperature_helps_images_that_it_does_not_come_from(run, held):
    labels, proba, parts = held
    temperature = run.model.calibration.temperature
    assert temperature != 1
    assert log_loss(labels, crossed(labels, proba, parts)) < log_loss(labels, proba)


def test_every_answer_is_given_at_the_temperature(run, photos, tmp_path):
    model, data = run.model, load(photos)
    images = data.images(data.usable[:20])
    expected = softmax(model.logits(images) / model.calibration.temperature)
    assert model.predict_proba(images) == pytest.approx(expected)
    answered = model.predict(sorted(photos.rglob("*.png"))[:20], unknown=0)
    assert answered["probability"].to_numpy() == pytest.approx(expected.max(axis=1), abs=1e-5)
    without = dataclasses.replace(model, calibration=None)
    assert scaled(without.predict_proba(images), model.calibration.temperature) == pytest.approx(
        expected
    )


def test_the_test_part_is_judged_at_the_temperature_and_the_folds_are_not(run, photos):
    final = pd.read_parquet(next(run.folder.glob("trials/*/*repeat-0_final/predictions.parquet")))
    images = load(photos).images(final["id"].to_numpy())
    assert probabilities(final) == pytest.approx(run.model.predict_proba(images), abs=1e-6)


def test_sets_and_silence_are_the_same_after_saving_and_loading(run, photos, tmp_path):
    again = bundle.load(bundle.save(run.model, tmp_path / "copy"))
    assert again.calibration == run.model.calibration
    options = {"unknown": 0, "coverage": 0.9, "sets": "per-class", "max_error": 0.1}
    pd.testing.assert_frame_equal(
        run.model.predict(photos, **options), again.predict(photos, **options)
    )


@pytest.mark.parametrize("method", ["lac", "aps", "raps", "per-class"])
def test_sets_are_those_of_the_held_out_images(run, held, photos, method):
    labels, proba, _ = held
    tempered = scaled(proba, run.model.calibration.temperature)
    assert run.model.calibration.limits(0.9, method) == quantiles(labels, tempered, 0.9, method)
    answers = run.model.predict(photos, unknown=0, coverage=0.9, sets=method)
    for inside, label in zip(answers["set"], answers["label"], strict=True):
        # The most probable first, which may miss where every class has a limit of its own.
        assert not inside or inside[0] == label or method == "per-class"
    if method == "lac":
        limit = 1 - run.model.calibration.limits(0.9, method)[0]
        sure = answers["probability"] >= limit - 1e-12
        assert ((answers["set"].map(len) > 0) == sure).all()


def test_an_unsure_image_gets_no_answer(run, photos):
    least = run.model.calibration.answers.get("0.1")
    assert least is not None
    every = run.model.predict(photos, unknown=0)
    answers = run.model.predict(photos, unknown=0, max_error=0.1)
    unsure = every["probability"] < least
    assert (answers["status"] == UNSURE).equals(unsure)
    assert answers["label"].isna().equals(unsure)
    assert 0 < unsure.sum() < len(unsure)


def test_classes_that_a_fold_could_not_learn_say_nothing_of_the_temperature():
    labels, proba = answers(400)
    table = pd.DataFrame(proba, columns=[f"p_{k}" for k in range(4)])
    table = table.assign(id=np.arange(400), repeat=0, fold=np.arange(400) % 4, label=labels)
    groups = np.arange(400)
    plain = calibration_of([table], groups).temperature
    unlearned = table.copy()
    own = unlearned["fold"] == 2
    columns = [f"p_{k}" for k in range(4)]
    for nearly_none in (lambda p: p / 1000, lambda p: 1e-7):
        unlearned.loc[own, "p_3"] = nearly_none(unlearned.loc[own, "p_3"])
        unlearned[columns] = unlearned[columns].div(unlearned[columns].sum(axis=1), axis=0)
    kept = learnable(unlearned)
    assert (~kept).sum() == (own & (labels == 3)).sum() > 0
    found = calibration_of([unlearned], groups)
    assert found.count == kept.sum()
    assert found.temperature == pytest.approx(plain, abs=0.1)


def test_a_description_with_other_sets_or_a_wild_temperature_is_refused(run, tmp_path):
    for calibration in (
        dataclasses.replace(run.model.calibration, sets={}),
        dataclasses.replace(run.model.calibration, temperature=1e-300),
    ):
        with pytest.raises(BundleError):
            bundle.save(dataclasses.replace(run.model, calibration=calibration), tmp_path / "model")


def test_what_is_not_known_is_refused_with_the_reason(run, photos):
    with pytest.raises(OptionError, match=r"99 held-out images, and this model was judged on 96"):
        run.model.predict(photos, coverage=0.99)
    with pytest.raises(OptionError, match=r"without any error it takes 299"):
        run.model.predict(photos, max_error=0.01)
    with pytest.raises(OptionError, match=r"coverage=0.7: expected one of 0.8"):
        run.model.predict(photos, coverage=0.7)
    with pytest.raises(OptionError, match=r"max-error=0.3: expected one of 0.1"):
        run.model.predict(photos, max_error=0.3)
    with pytest.raises(OptionError, match=r"sets='best': expected one of lac"):
        run.model.predict(photos, coverage=0.9, sets="best")
    without = dataclasses.replace(run.model, calibration=None)
    for option in ({"coverage": 0.9}, {"max_error": 0.1}):
        with pytest.raises(OptionError, match="was not judged on held-out images"):
            without.predict(photos, **option)


def test_limits_that_do_not_fit_the_classes_are_refused(run, tmp_path):
    calibration = run.model.calibration
    sets = {**calibration.sets, "per-class": {"0.9": (0.5,)}}
    wrong = dataclasses.replace(calibration, sets=sets)
    with pytest.raises(BundleError, match="must have 3 limits"):
        bundle.save(dataclasses.replace(run.model, calibration=wrong), tmp_path / "model")


def test_the_command_line_prints_sets_and_says_what_is_wrong_with_a_share(run, photos):
    words = ["predict", str(run.folder), str(photos), "--coverage", "0.9", "--unknown", "0"]
    table = CliRunner().invoke(cli.app, words).stdout
    assert "set" in table.splitlines()[0] + table.splitlines()[1]
    found = json.loads(CliRunner().invoke(cli.app, [*words, "--format", "json"]).stdout)
    assert all(isinstance(row["set"], list) for row in found)
    lines = CliRunner().invoke(cli.app, [*words, "--format", "csv"]).stdout.splitlines()
    assert lines[0] == "path,label,probability,set,status"
    error = CliRunner().invoke(cli.app, [*words[:3], "--max-error", "few"]).exception
    assert "--max-error few: expected a share such as 0.02" in str(error)


def test_the_leaderboard_and_the_report_tell_how_sure_it_may_be(run):
    (row,) = run.results["rows"]
    trust = row["trust"]
    assert trust["count"] == 96
    assert trust["after"]["log_loss"] < trust["before"]["log_loss"]
    assert set(trust["sets"]) == {"lac", "aps", "raps", "per-class"}
    assert 0.8 < trust["sets"]["lac"]["covered"] <= 1
    page = run.report.read_text()
    assert 'id="trust"' in page
    assert f"divided by {trust['temperature']:.2f}" in page
    assert np.isfinite(trust["area"])
