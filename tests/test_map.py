"""map: what is drawn and stored, drawn again, and placed on another map."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import labelwise
from labelwise import cli
from labelwise.architecture import build
from labelwise.atlas import drawing, layouts
from labelwise.errors import DataError, OptionError
from labelwise.recipe.base import Context
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.mlp import Mlp
from tests.browser import Page
from tests.images import class_folders
from tests.tasks import grating_data, gratings, gratings_file, task_from


@pytest.fixture(autouse=True)
def _without_umap(monkeypatch):
    """It compiles for half a minute; tests/test_map_layouts.py fits it."""
    monkeypatch.setattr(layouts, "has_umap", lambda: False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return grating_data(tmp_path_factory.mktemp("data"), per_class=8, unlabeled=5, test=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    learned = grating_data(tmp_path_factory.mktemp("learned"), per_class=8)
    return Mlp(hidden=(9,), epochs=5).fit(task_from(learned), Context()).model


def embedded(page) -> dict:
    return json.loads(Page(page.read_text("utf-8")).scripts[0])


def numbers(packed) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["base64"]), f"<{packed['kind']}")


def test_the_table_beside_the_page_has_every_usable_image_and_what_the_model_says(
    model, data, tmp_path
):
    drawn = labelwise.map_embeddings(model, data, out=tmp_path / "map.html")
    stored = pd.read_parquet(tmp_path / "map.parquet")
    pd.testing.assert_frame_equal(stored.drop(columns="components"), drawn.table)
    assert drawn.table["id"].tolist() == data.usable.tolist()
    assert drawn.table["content"].tolist() == list(data.contents[data.usable])
    assert drawn.table["label"].isna().sum() == 5
    proba = model.predict_proba(data.images(data.usable))
    names = np.array(model.class_names)
    assert drawn.table["predicted"].tolist() == names[proba.argmax(1)].tolist()
    np.testing.assert_allclose(drawn.table["confidence"], proba.max(1), rtol=1e-4)
    vectors = model.embed(data.images(data.usable))
    apart = np.linalg.norm(vectors - vectors.mean(0), axis=1)
    flat = np.linalg.norm(drawn.table[["pca_x", "pca_y"]], axis=1)
    assert (flat <= apart + 1e-4).all()


def test_a_model_that_averages_several_looks_says_what_it_says_elsewhere(tmp_path):
    data = grating_data(tmp_path, per_class=4)
    recipe = Cnn(layers="conv4 3x3, max 2", views="mirror", epochs=1)
    looking = recipe.fit(task_from(data), Context()).model
    drawn = labelwise.map_embeddings(looking, data, out=tmp_path / "map.html")
    expected = looking.predict_proba(data.images(data.usable)).max(1)
    np.testing.assert_allclose(drawn.table["confidence"], expected, rtol=1e-4)


def test_a_map_drawn_twice_is_the_same_file(model, data, tmp_path, monkeypatch):
    page = labelwise.map_embeddings(model, data, out=tmp_path / "map.html").page
    before = page.read_bytes()

    def refuse(components):
        raise AssertionError("it was fitted again")

    monkeypatch.setattr(layouts, "tsne", refuse)
    labelwise.map_embeddings(model, data, out=page)
    assert page.read_bytes() == before


def test_other_images_or_another_model_are_laid_out_anew(model, data, tmp_path):
    first = labelwise.map_embeddings(model, data, out=tmp_path / "map.html").table
    other = Mlp(hidden=(9,), epochs=1).fit(task_from(grating_data(tmp_path)), Context()).model
    second = labelwise.map_embeddings(other, data, out=tmp_path / "map.html").table
    assert not np.allclose(first["pca_x"], second["pca_x"])


def test_a_layout_that_was_missing_is_added_to_those_that_are_kept(
    model, data, tmp_path, monkeypatch
):
    first = labelwise.map_embeddings(model, data, out=tmp_path / "map.html")
    assert any("pip install 'labelwise[map]'" in note for note in first.notes)
    monkeypatch.setattr(layouts, "has_umap", lambda: True)
    monkeypatch.setattr(layouts, "umap", lambda components: components[:, :2] * 7)
    second = labelwise.map_embeddings(model, data, out=tmp_path / "map.html")
    assert not any("pip install" in note for note in second.notes)
    np.testing.assert_array_equal(first.table["tsne_x"], second.table["tsne_x"])
    np.testing.assert_allclose(second.table["umap_x"], second.table["pca_x"] * 7, rtol=1e-5)


def test_images_placed_on_their_own_map_lie_where_they_were(model, data, tmp_path):
    old = labelwise.map_embeddings(model, data, out=tmp_path / "old.html").table
    new = labelwise.map_embeddings(
        model, data, out=tmp_path / "new.html", onto=tmp_path / "old.html"
    )
    for name in ("pca_x", "pca_y", "tsne_x", "tsne_y"):
        np.testing.assert_allclose(new.table[name], old[name], rtol=1e-4, atol=1e-4)
    shown = embedded(new.page)
    assert shown["count"] == len(old)
    assert len(shown["paths"]) == 2 * len(old)
    steps = numbers(shown["layouts"]["tsne"]).astype(int).reshape(2, -1, 2)
    assert np.abs(steps[0] - steps[1]).max() <= 2


def test_a_map_that_was_fitted_on_a_sample_places_all_others(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(layouts.sample, "__defaults__", (12,))
    drawn = labelwise.map_embeddings(model, data, out=tmp_path / "map.html")
    assert drawn.table["fitted"].sum() == 12
    assert drawn.table[["tsne_x", "tsne_y"]].notna().all(axis=None)
    fitted = drawn.table[drawn.table["fitted"]]
    assert drawn.table["tsne_x"].between(fitted["tsne_x"].min(), fitted["tsne_x"].max()).all()
    assert any("fitted on 12 images" in note for note in drawn.notes)


def test_a_map_by_another_model_takes_no_image(model, data, tmp_path):
    labelwise.map_embeddings(model, data, out=tmp_path / "old.html")
    learned = grating_data(tmp_path, per_class=8)  # what the model has learned from as well
    wide = Mlp(hidden=(6,), epochs=1).fit(task_from(learned), Context()).model
    with pytest.raises(OptionError, match=r"--onto .*another model.*9 numbers an image, here 6"):
        labelwise.map_embeddings(wide, data, out=tmp_path / "n.html", onto=tmp_path / "old.html")
    narrow = Mlp(hidden=(9,), epochs=1).fit(task_from(learned), Context()).model
    with pytest.raises(OptionError, match=r"--onto .*another model"):
        labelwise.map_embeddings(narrow, data, out=tmp_path / "n.html", onto=tmp_path / "old.html")


def test_what_is_no_map_is_refused_before_any_work(model, data, tmp_path):
    def draw(out="new.html", **options):
        labelwise.map_embeddings(model, data, out=tmp_path / out, **options)

    with pytest.raises(OptionError, match=r"--out .*map\.png: give the name of an \.html file"):
        draw("map.png")
    with pytest.raises(OptionError, match=r"--onto .*old\.csv: give the \.html or the \.parquet"):
        draw(onto=tmp_path / "old.csv")
    with pytest.raises(OptionError, match=r"old\.parquet does not exist"):
        draw(onto=tmp_path / "old.html")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "mine.parquet")
    with pytest.raises(OptionError, match=r"mine\.parquet is a table, but not of a map"):
        draw("mine.html")
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"broken\.parquet is damaged"):
        draw(onto=tmp_path / "broken.html")
    with pytest.raises(DataError, match=r"broken\.parquet is damaged.*Remove it"):
        draw("broken.html")
    draw("old.html")
    with pytest.raises(OptionError, match=r"--out would replace it"):
        draw("old.html", onto=tmp_path / "old.html")
    draw(onto=tmp_path / "old.html")
    with pytest.raises(OptionError, match=r"placed on another map themselves"):
        draw("third.html", onto=tmp_path / "new.html")


def test_a_model_without_a_head_has_a_map_without_predictions(model, data, tmp_path):
    body = model.network.body
    bare = replace(
        model,
        network=build(model.architecture, None, model.preprocessing.shape, body),
        class_names=(),
    )
    drawn = labelwise.map_embeddings(bare, data, out=tmp_path / "map.html")
    assert drawn.table["predicted"].isna().all()
    keys = [facet["key"] for facet in embedded(drawn.page)["facets"]]
    assert keys == ["label", "split"]


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_a_few_images_have_a_map(model, tmp_path, count):
    images, _ = gratings(2)
    np.savez(tmp_path / "few.npz", x_train=images[:count])
    drawn = labelwise.map_embeddings(model, tmp_path / "few.npz", out=tmp_path / "map.html")
    assert len(drawn.table) == count
    assert ("tsne_x" in drawn.table) == (count >= layouts.FEWEST)
    shown = embedded(drawn.page)
    assert shown["facets"][0]["names"][-1] == "no label"
    assert len(numbers(shown["neighbors"])) == count * (count - 1)


def test_images_that_look_all_alike_lie_in_one_place(model, tmp_path):
    same = np.full((7, 12, 12), 99, np.uint8)
    np.savez(tmp_path / "same.npz", x_train=same)
    drawn = labelwise.map_embeddings(model, tmp_path / "same.npz", out=tmp_path / "map.html")
    assert drawn.table["pca_x"].nunique() == 1
    assert any("need 5 different images" in note for note in drawn.notes)


def test_of_very_many_images_a_sample_is_shown(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "MOST", 11)
    drawn = labelwise.map_embeddings(model, data, out=tmp_path / "map.html")
    assert len(drawn.table) == 11
    assert drawn.table["id"].is_monotonic_increasing
    assert "A sample of 11 of the 30 images." in drawn.notes


def test_only_the_part_that_is_asked_for_is_drawn(model, data, tmp_path):
    drawn = labelwise.map_embeddings(model, data, split="test", out=tmp_path / "map.html")
    expected = np.flatnonzero(data.table["split"] == "test")
    assert len(expected) > 0
    assert drawn.table["id"].tolist() == expected.tolist()
    assert drawn.notes[0].startswith(f"{len(expected)} images in the part 'test' of ")
    with pytest.raises(DataError, match="no image in the part 'val'"):
        labelwise.map_embeddings(model, data, split="val", out=tmp_path / "none.html")


def test_what_was_set_aside_is_counted_and_not_on_the_map(model, tmp_path):
    folder = class_folders(tmp_path / "photos", {"cat": 3, "dog": 2})
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    drawn = labelwise.map_embeddings(model, folder, out=tmp_path / "map.html")
    assert len(drawn.table) == 5
    assert "1 file could not be used and is not on the map." in drawn.notes
    outcome = next(f for f in embedded(drawn.page)["facets"] if f["key"] == "outcome")
    assert set(numbers(outcome["parts"])) == {1}  # no class of the data is one of the model's


def test_the_command_line_draws_a_map_and_places_images_on_it(model, tmp_path):
    folder = labelwise.save_model(model, tmp_path / "model")
    source = gratings_file(tmp_path / "gratings.npz", per_class=3)
    page, again = tmp_path / "map.html", tmp_path / "again.html"
    for more in (["--out", str(page)], ["--onto", str(page), "--out", str(again)]):
        words = ["map", str(folder), str(source), "--quiet", *more]
        done = CliRunner().invoke(cli.app, words)
        assert done.exit_code == 0, done.output
        assert done.stdout.strip() == more[-1]
        assert "9 images of gratings.npz." in done.stderr
    assert len(embedded(again)["paths"]) == 18
