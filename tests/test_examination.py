"""The report's maps: taken of right and wrong answers, and checked by tests that can fail."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from labelwise.attribution.examination import examine
from labelwise.attribution.kept import IMAGES, agreement, keep_maps
from labelwise.data.load import load
from labelwise.report.looks import _near
from labelwise.report.run_folder import RunFolder
from labelwise.run import compare
from tests.tasks import gratings_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return gratings_folder(tmp_path_factory.mktemp("photos"), 30)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    recipes = "cnn(layers='conv8 3x3 same relu, gap', epochs=6)"
    return compare(photos, out=out, recipes=recipes, folds=3, test=0.2)


def kept(run):
    return [pd.read_parquet(file) for file in sorted(run.folder.glob("trials/*/*/maps.parquet"))]


def test_two_folds_keep_maps_of_the_same_images_and_none_of_the_test(run, photos):
    one, two = kept(run)
    assert one["id"].tolist() == two["id"].tolist()
    assert len(one) == IMAGES
    table = pd.read_parquet(run.folder / "data.parquet")
    tested = table[table["split"] == "test"]["id"]
    assert not set(one["id"]) & set(tested)
    assert one["label"].tolist() == table["label"].to_numpy()[one["id"]].tolist()


def test_a_model_agrees_with_itself(run, photos, tmp_path):
    data = load(photos)
    keep_maps(run.model, data, data.usable, tmp_path)
    table = pd.read_parquet(tmp_path / "maps.parquet")
    assert agreement(run.model, data, [table]) == pytest.approx(1, abs=1e-5)
    assert agreement(run.model, data, []) is None


def test_every_check_is_made(run, photos):
    data = load(photos)
    found = examine(run.model, data, data.usable[:12], kept(run))
    assert found.method == "cam"
    assert found.heat.shape[0] == len(found.predicted) == 12
    assert -1 <= found.shuffled <= 1
    assert -1 <= found.stability <= 1
    assert 0 <= found.faithfulness.deletion <= 1
    again = examine(run.model, data, data.usable[:12], kept(run))
    np.testing.assert_array_equal(found.heat, again.heat)
    assert (found.shuffled, found.stability) == (again.shuffled, again.stability)
    assert found.faithfulness == again.faithfulness


def test_the_report_shows_the_maps_and_what_became_of_every_check(run):
    page = run.report.read_text()
    section = page[page.index('id="looks"') :]
    section = section[: section.index("</section>")]
    assert section.count("heat on ") == 16
    assert section.count(">passed<") + section.count(">failed<") == 5
    table = pd.read_parquet(run.folder / "data.parquet")
    tested = table[table["split"] == "test"]["path"]
    assert not any(path in section for path in tested)


def test_each_image_stands_above_the_ones_most_like_it_that_the_model_remembers(run, photos):
    data = load(photos)
    folder = RunFolder(run.folder)
    rows = folder.learned[:5]
    examined = SimpleNamespace(rows=rows)
    found = _near(run.model, folder.learned, data, examined)
    vectors = run.model.embed(data.images(folder.learned)).astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors[:5] @ vectors.T
    for place, near in enumerate(found):
        assert len(near) == 3
        assert rows[place] not in near
        others = np.delete(cosines[place], place)
        ranks = [cosines[place][list(folder.learned).index(row)] for row in near]
        np.testing.assert_allclose(ranks, np.sort(others)[::-1][:3], atol=1e-5)
    page = run.report.read_text()
    assert page[page.index('id="looks"') :].count('class="near"') == 16


def test_a_model_that_remembers_other_images_has_none_to_show(run, photos):
    folder = RunFolder(run.folder)
    examined = SimpleNamespace(rows=folder.learned[:2])
    assert _near(run.model, folder.learned[:9], load(photos), examined) == [[], []]
