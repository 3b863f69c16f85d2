"""Mistakes to leaf through: which, with what reasons, beside what the model has learned from."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import labelwise
from labelwise import cli
from labelwise.errors import UsageError
from tests.tasks import gratings_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return gratings_folder(tmp_path_factory.mktemp("photos"), 12)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    recipe = "cnn(layers='conv8 3x3 same relu, gap', epochs=8)"
    return labelwise.train(photos, recipe=recipe, out=out, folds=2)


@pytest.fixture(scope="module")
def mixed(photos, tmp_path_factory):
    """The same photos, four of which lie in the folder of another class."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copytree(photos, folder, dirs_exist_ok=True)
    for name, other in (("a", "b"), ("b", "c")):
        for file in sorted((folder / name).glob("*.png"))[:2]:
            shutil.move(file, folder / other / f"moved-{file.name}")
    return folder


@pytest.fixture(scope="module")
def found(run, mixed, tmp_path_factory):
    return labelwise.mistakes(run.folder, mixed, out=tmp_path_factory.mktemp("page") / "out")


def test_wrong_images_come_first_the_most_confident_first(found, run, mixed):
    table = found.table
    assert len(table) == 36
    wrong = (table["label"] != table["predicted"]).to_numpy()
    assert wrong.sum() >= 4
    assert wrong[: wrong.sum()].all()
    assert table["probability"][: wrong.sum()].is_monotonic_decreasing
    answers = run.model.predict(mixed, unknown=0)
    expected = dict(zip(answers["path"].map(lambda p: p[-20:]), answers["label"], strict=True))
    for path, predicted in zip(table["path"], table["predicted"], strict=True):
        assert expected[f"{mixed}/{path}"[-20:]] == predicted
    stored = pd.read_parquet(found.page.parent / "mistakes.parquet")
    pd.testing.assert_frame_equal(stored, table)


def test_the_page_has_every_pair_and_two_maps_of_a_wrong_image(found):
    page = found.page.read_text()
    wrong = found.table[found.table["label"] != found.table["predicted"]]
    for label, predicted in set(zip(wrong["label"], wrong["predicted"], strict=True)):
        assert f"<bdi>{label}</bdi> taken for <bdi>{predicted}</bdi>" in page
    folder = found.page.parent
    assert len(list(folder.glob("*-label.png"))) == len(wrong)
    assert len(list(folder.glob("*-answer.png"))) == len(wrong) + 16
    names = [text.split('"')[0] for text in page.split('src="')[1:]]
    assert all((folder / name).exists() for name in names)


def test_the_images_beside_it_were_learned_from_and_are_never_the_image_itself(found, run):
    assert "learned from" in found.warnings[-1]
    near = sorted(found.page.parent.glob("00001-near-*.png"))
    assert len(near) == 3
    first = (found.page.parent / "00001-input.png").read_bytes()
    assert all(path.read_bytes() != first for path in near)


def test_a_model_alone_has_no_neighbors(run, mixed, tmp_path):
    labelwise.mistakes(run.folder / "model", mixed, out=tmp_path / "out")
    assert not list((tmp_path / "out").glob("*-near-*.png"))


def test_data_that_have_changed_since_give_no_neighbors(photos, mixed, tmp_path):
    moving = tmp_path / "photos"
    shutil.copytree(photos, moving)
    recipe = "mlp(hidden=4, epochs=1, least_steps=0)"
    run = labelwise.train(moving, recipe=recipe, out=tmp_path / "run", folds=2)
    shutil.rmtree(moving / "c")
    labelwise.mistakes(run.folder, mixed, out=tmp_path / "out")
    assert not list((tmp_path / "out").glob("*-near-*.png"))
    shutil.rmtree(moving)
    labelwise.mistakes(run.folder, mixed, out=tmp_path / "out2")


def test_only_one_part_is_judged_if_asked(run, photos, tmp_path):
    folder = tmp_path / "parts"
    for part in ("train", "test"):
        shutil.copytree(photos, folder / part)
    found = labelwise.mistakes(run.folder, folder, out=tmp_path / "out", split="test")
    assert found.table["path"].str.startswith("test").all()


def test_hostile_names_stay_text(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    gratings_folder(folder, 6)
    (folder / "a").rename(folder / "<img src=x onerror=alert(1)>")
    recipe = "mlp(hidden=4, epochs=1, least_steps=0)"
    run = labelwise.train(folder, recipe=recipe, out=tmp_path / "run", folds=2)
    page = labelwise.mistakes(run.folder, folder, out=tmp_path / "out").page.read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_without_a_head_nothing_can_be_wrong(tmp_path):
    unlabeled = tmp_path / "unlabeled.npz"
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 12)).astype(np.uint8)
    np.savez(unlabeled, x_unlabeled=images)
    run = labelwise.train(unlabeled, recipe="vae(preset=digits, epochs=1)", out=tmp_path / "run")
    (tmp_path / "photos").mkdir()
    photos = gratings_folder(tmp_path / "photos", 3)
    with pytest.raises(UsageError, match="no head"):
        labelwise.mistakes(run.folder, photos, out=tmp_path / "out")


def test_the_command_says_how_many_are_wrong(run, mixed, tmp_path):
    words = ["mistakes", str(run.folder), str(mixed), "--out", str(tmp_path / "out"), "--quiet"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    assert "of 36 images are wrong" in done.stderr
    assert done.stdout.strip().endswith("index.html")
