"""Labels that are probably wrong: found, shown with what speaks against them, and never changed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import labelwise
from labelwise import cli
from labelwise.data.load import load
from labelwise.errors import DataError, OptionError
from labelwise.measure.suspicion import disagreement, doubt, suspicion
from tests.browser import in_browser
from tests.tasks import gratings_file, gratings_folder
from tests.test_measure_calibration import some_answers

WRONG = 9


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three images of every class lie in the folder of another one."""
    folder = gratings_folder(tmp_path_factory.mktemp("photos"), 30)
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        for file in sorted((folder / name).glob("*.png"))[:3]:
            shutil.move(file, folder / other / f"wrong-{name}-{file.name}")
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    recipes = "cnn(layers='conv8 3x3 same relu, gap', epochs=8)"
    return labelwise.compare(photos, out=out, recipes=recipes, folds=3)


@pytest.fixture(scope="module")
def found(run, tmp_path_factory):
    return labelwise.audit(run, out=tmp_path_factory.mktemp("audit") / "page")


def is_wrong(table: pd.DataFrame) -> np.ndarray:
    return table["path"].str.contains("wrong-").to_numpy()


@given(some_answers)
def test_doubt_is_above_a_half_where_another_class_is_more_probable(data):
    labels, proba = data
    values = doubt(labels, proba)
    assert ((values >= 0) & (values <= 1)).all()
    rows = np.arange(len(labels))
    best = proba.max(axis=1)
    other = proba[rows, labels] < best
    assert (values[other] > 0.5).all()
    assert (values[~other] <= 0.5).all()


def test_scores_by_hand():
    assert doubt([0, 1], [[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]) == pytest.approx([0.25, 0.75])
    assert disagreement([0, 0, 1], [[1, 2], [0, 2], [0, 1]]).tolist() == [0.5, 0.5, 1.0]
    assert disagreement([0, 0, 1], [[1, 2], [0, 2], [0, 1]], [[3, 1]] * 3)[0] == 0.25
    assert suspicion([0.2], [0.8]).tolist() == [0.5]
    assert suspicion([0.2]).tolist() == [0.2]


def test_wrong_labels_come_first_with_the_right_one_proposed(found):
    table = found.table
    assert len(table) == 90
    assert table["score"].is_monotonic_decreasing
    wrong = is_wrong(table)
    assert wrong.sum() == WRONG
    assert roc_auc_score(wrong, table["score"]) > 0.95
    first = table[wrong].head(5)
    names = first["path"].str.extract(r"wrong-([abc])-")[0]
    assert (first["proposed"].to_numpy() == names.to_numpy()).all()
    assert (table["proposed"] != table["label"]).all()


def test_the_table_is_beside_the_page_and_the_data_stay_as_they_are(found, run, photos):
    stored = pd.read_parquet(found.page.parent / "suspects.parquet")
    pd.testing.assert_frame_equal(stored, found.table)
    assert found.corrected is None
    assert load(photos).fingerprint == run.record["data"]["fingerprint"]


def test_accepted_labels_stand_in_a_manifest_that_can_be_trained_on(run, photos, tmp_path):
    found = labelwise.audit(run, out=tmp_path / "audit", accept=0.6)
    taken = found.table[found.table["score"] >= 0.6]
    assert len(taken) >= 5
    data = load(found.corrected)
    assert len(data.usable) == 90
    before = load(photos)
    labels = dict(zip(before.table["path"], before.labels, strict=True))
    changed = 0
    for path, label in zip(data.table["path"], data.labels, strict=True):
        old = before.class_names[labels["/".join(path.split("/")[-2:])]]
        changed += old != data.class_names[label]
    assert changed == len(taken)
    with pytest.raises(OptionError, match="exists. Move it away"):
        labelwise.audit(run, out=tmp_path / "audit", accept=0.6)


def test_the_page_tells_why_and_holds_all_that_a_manifest_needs(found):
    page = found.page.read_text()
    assert "by a model that has not seen this image" in page
    text = page.split('id="data">')[1].split("</script>")[0]
    data = json.loads(text.replace("\\u003c", "<"))
    assert len(data["ids"]) == len(data["columns"]["path"]) == len(data["labels"]) == 90
    assert set(data["proposed"]) == {str(row) for row in found.table["id"].head(200)}


def test_groups_and_the_test_part_of_the_run_stay_marked(photos, tmp_path):
    data = load(photos)
    manifest = tmp_path / "photos.csv"
    names = np.array(data.class_names)[data.labels]
    paths = [str(photos / path) for path in data.table["path"]]
    groups = [f"g{row // 2}" for row in range(len(paths))]
    pd.DataFrame({"path": paths, "label": names, "group": groups}).to_csv(manifest, index=False)
    recipe = "mlp(hidden=4, epochs=1, least_steps=0)"
    run = labelwise.train(manifest, recipe=recipe, out=tmp_path / "run", folds=2, test=0.2)
    found = labelwise.audit(run, out=tmp_path / "audit", accept=0.9)
    written = pd.read_csv(found.corrected)
    stored = pd.read_parquet(run.folder / "data.parquet")
    assert (written["split"] == "test").sum() == (stored["split"] == "test").sum() > 0
    assert written.groupby("group").size().max() >= 2


def test_images_that_are_no_files_get_no_manifest(tmp_path):
    file = gratings_file(tmp_path / "gratings.npz", per_class=8)
    recipe = "mlp(hidden=4, epochs=1, least_steps=0)"
    run = labelwise.train(file, recipe=recipe, out=tmp_path / "run", folds=2)
    with pytest.raises(OptionError, match="no files of their own"):
        labelwise.audit(run, out=tmp_path / "audit", accept=0.9)
    page = labelwise.audit(run, out=tmp_path / "audit").page.read_text()
    assert "no files of their own" in page


def test_neighbors_are_asked_where_the_network_has_not_learned_the_labels(photos, tmp_path):
    recipe = "probe(image_size=64)"
    run = labelwise.train(photos, recipe=recipe, out=tmp_path / "run", folds=2)
    found = labelwise.audit(run, out=tmp_path / "audit")
    assert found.table["neighbors"].between(0, 1).all()
    assert "of its neighbors have another label" in found.page.read_text()


CHOOSE = """
  document.querySelectorAll("input[value=change]")[0].click();
  document.querySelectorAll("input[value=out]")[1].click();
  document.getElementById("state").append(` ${document.getElementById("save").disabled}`)
"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
def test_what_is_chosen_in_a_browser_goes_into_the_manifest(found, tmp_path, width):
    dom = in_browser(found.page, tmp_path, do=CHOOSE, width=width)
    assert "1 changed, 1 left out false" in " ".join(dom.words)
    classes = [attributes.get("class") for tag, attributes in dom.tags if tag == "li"]
    assert "changed" in classes
    assert "out" in classes


def test_hostile_names_stay_text(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    gratings_folder(folder, 8)
    (folder / "a").rename(folder / "<script>alert(1)</script>".replace("/", ""))
    first = sorted((folder / "b").glob("*.png"))[0]
    first.rename(folder / "b" / '"><img src=x onerror=alert(2)>.png')
    recipes = "mlp(hidden=4, epochs=1, least_steps=0)"
    run = labelwise.compare(folder, out=tmp_path / "run", recipes=recipes, folds=2)
    page = labelwise.audit(run, out=tmp_path / "audit").page.read_text()
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def test_other_data_than_the_run_had_are_refused(run, tmp_path):
    (tmp_path / "photos").mkdir()
    other = gratings_folder(tmp_path / "photos", 4)
    with pytest.raises(DataError, match="the data has changed"):
        labelwise.audit(run, other, out=tmp_path / "audit")
    with pytest.raises(OptionError, match="expected a score from 0 to 1"):
        labelwise.audit(run, out=tmp_path / "audit", accept=7)


def test_a_run_or_data_that_are_not_there_are_one_sentence(tmp_path):
    with pytest.raises(DataError, match="there is no run"):
        labelwise.audit(tmp_path / "nosuch", out=tmp_path / "audit")
    (tmp_path / "photos").mkdir()
    photos = gratings_folder(tmp_path / "photos", 4)
    recipe = "mlp(hidden=4, epochs=1, least_steps=0)"
    run = labelwise.train(photos, recipe=recipe, out=tmp_path / "run", folds=2)
    photos.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="say with --data where they are"):
        labelwise.audit(run, out=tmp_path / "audit")
    found = labelwise.audit(run, tmp_path / "moved", out=tmp_path / "audit")
    assert len(found.table) == 12


def test_the_command_says_how_many_are_suspicious(run, tmp_path):
    words = ["audit", str(run.folder), "--out", str(tmp_path / "audit"), "--quiet"]
    done = CliRunner().invoke(cli.app, [*words, "--accept", "0.8"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip().endswith("index.html")
    assert "of 90 labels are suspicious" in done.stderr
    assert "corrected.csv" in done.stderr
    wrong = CliRunner().invoke(cli.app, [*words, "--accept", "high"])
    assert "expected a score such as 0.9" in str(wrong.exception)
