"""Unknown images: what a model remembers, and that it says `unknown` before and after saving."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import labelwise
from labelwise import bundle
from labelwise.data.load import load
from labelwise.errors import BundleError, DataError, OptionError, UsageError
from labelwise.held_out import novelty_of
from labelwise.measure.novelty import Novelty
from labelwise.model import UNKNOWN, energy
from labelwise.nn.bank import NEAREST, Bank
from labelwise.novelty import remembered, with_bank
from labelwise.recipe.base import Context
from labelwise.recipe.mlp import Mlp
from tests.tasks import grating_data, gratings, gratings_file, gratings_folder, task_from


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on two of the three gratings."""
    images, labels = gratings(60)
    known = labels < 2
    file = tmp_path_factory.mktemp("data") / "two.npz"
    names = np.array(["across", "down"])
    np.savez(file, x_train=images[known], y_train=labels[known], class_names=names)
    recipe = "mlp(hidden=16, epochs=15, lr=1e-2)"
    return labelwise.train(file, recipe=recipe, out=tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return gratings_file(tmp_path_factory.mktemp("three") / "three.npz", 20)


def test_a_bank_knows_the_distance_to_its_fifth_nearest_direction():
    generator = torch.Generator().manual_seed(0)
    learned, asked = (torch.randn(n, 7, generator=generator) for n in (30, 9))
    bank = Bank(30, 4)  # of embeddings whose last stage has four numbers
    bank.fill(learned)
    unit = lambda x: x[:, -4:] / x[:, -4:].norm(dim=1, keepdim=True)  # noqa: E731
    expected = torch.cdist(unit(asked), unit(learned)).sort(1).values[:, NEAREST - 1]
    torch.testing.assert_close(bank.distances(asked), expected, atol=1e-5, rtol=1e-5)


def test_energy_is_minus_the_log_of_the_sum_of_exponentials():
    logits = np.array([[0.0, 1.0, 2.0], [500.0, 0.0, -500.0]], np.float32)
    expected = [-np.log(np.exp([0.0, 1.0, 2.0]).sum()), -500.0]
    np.testing.assert_allclose(energy(logits), expected)


def remembering(model, data):
    """With a bank of the images of some data."""
    kept = data.usable[remembered(model, data.labels[data.usable])]
    return with_bank(model, model.embed(data.images(kept)))


def test_a_model_remembers_every_class_alike(tmp_path):
    data = grating_data(tmp_path, per_class=10)
    model = Mlp(hidden=(9,), epochs=1).fit(task_from(data), Context()).model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labelwise.nn.bank.MOST_POINTS", 9)
        found = remembering(model, data)
    assert found.architecture["bank"] == 9
    unit = model.embed(data.images(data.usable))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    nearest = (found.network.bank.points.numpy() @ unit.T).argmax(1)
    assert np.bincount(data.labels[data.usable[nearest]]).tolist() == [3, 3, 3]


def test_the_model_that_learned_stays_as_it_is(tmp_path):
    data = grating_data(tmp_path, per_class=4)
    model = Mlp(hidden=(9,), epochs=1).fit(task_from(data), Context()).model
    found = remembering(model, data)
    assert model.network.bank is None
    for name, kept in (("before", model), ("after", found)):
        loaded = bundle.load(bundle.save(kept, tmp_path / name))
        images = data.images(data.usable)
        np.testing.assert_array_equal(loaded.logits(images), model.logits(images))
    assert found.network.body is model.network.body


def test_the_threshold_is_made_of_the_held_out_images_of_the_run(run):
    tables = [pd.read_parquet(p) for p in run.folder.glob("trials/*/*fold*/novelty.parquet")]
    held = pd.concat(tables)
    assert len(held) == 120
    expected = Novelty.of(held.sort_values("id")["energy"], held.sort_values("id")["distance"])
    assert run.model.novelty.thresholds == pytest.approx(dict(expected.thresholds))
    above = expected.scores(held["energy"], held["distance"]) > expected.threshold(0.05)
    assert above.mean() <= 0.05


def test_predict_says_unknown_of_what_no_class_looks_like(run, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(10):  # checkered, unlike any stripes
        y, x = np.mgrid[:12, :12]
        wave = np.sign(np.sin(1.4 * x + rng.uniform(0, 6)) * np.sin(1.4 * y))
        Image.fromarray((128 + 90 * wave).astype(np.uint8)).save(folder / f"{number}.png")
    model = run.model
    answers = model.predict(folder)
    unknown = answers["status"] == UNKNOWN
    assert unknown.mean() > 0.5
    assert answers["label"].isna().equals(unknown)
    assert answers["probability"].isna().equals(unknown)
    again = bundle.load(bundle.save(model, tmp_path / "copy")).predict(folder)
    pd.testing.assert_frame_equal(answers, again)
    assert not (model.predict(folder, unknown=0)["status"] == UNKNOWN).any()
    more = model.predict(folder, unknown=0.1)["status"] == UNKNOWN
    assert (more | ~unknown).all()  # a larger share calls no fewer unknown


def test_a_share_that_is_not_known_is_refused(run, tmp_path):
    Image.new("L", (12, 12)).save(tmp_path / "a.png")
    with pytest.raises(OptionError, match="expected one of"):
        run.model.predict(tmp_path, unknown=0.5)
    without = dataclasses.replace(run.model, novelty=None)
    assert without.predict(tmp_path)["status"].tolist() == ["ok"]
    with pytest.raises(OptionError, match="does not know what is unlike"):
        without.predict(tmp_path, unknown=0.05)


def test_evaluate_judges_how_left_out_classes_are_told_apart(run, three):
    found = labelwise.evaluate(run.folder, three, unknown=three)
    assert found.evaluation.n == 40  # the third class is left out of the known ones
    assert found.unknown.count == 20
    data, model = load(three), run.model
    novelty = []
    for rows in (data.labels < 2, data.labels == 2):
        logits, distances = model.answers(data.images(np.flatnonzero(rows)))
        novelty.append(model.novelty.scores(energy(logits), distances))
    pairs = novelty[1][:, None] - novelty[0]
    expected = (pairs > 0).mean() + (pairs == 0).mean() / 2
    assert found.unknown.metrics["auroc"].value == pytest.approx(expected)
    above = (novelty[1] > model.novelty.threshold(0.05)).mean()
    assert found.unknown.answered["unknown"] == pytest.approx(above)
    assert json.dumps(found.to_json())


def test_of_several_label_columns_the_same_one_is_asked_of_the_same_data(run, tmp_path):
    images, labels = gratings(5)
    table = pd.DataFrame({"path": [f"{n}.png" for n in range(15)], "other": "x"})
    table["direction"] = np.array(["across", "down", "slanted"])[labels]
    for name, pixels in zip(table["path"], images, strict=True):
        Image.fromarray(pixels).save(tmp_path / name)
    table.to_csv(tmp_path / "labels.csv", index=False)
    manifest = tmp_path / "labels.csv"
    found = labelwise.evaluate(run.folder, manifest, target="direction", unknown=str(manifest))
    assert (found.evaluation.n, found.unknown.count) == (10, 5)
    # Other data with the same columns, and others that have no such column.
    copy = tmp_path / "copy.csv"
    copy.write_bytes(manifest.read_bytes())
    (tmp_path / "wild").mkdir()
    wild = gratings_folder(tmp_path / "wild", 4)
    for others, count in ((copy, 5), (wild, 12)):
        found = labelwise.evaluate(run.folder, manifest, target="direction", unknown=others)
        assert found.unknown.count == count


def test_evaluate_needs_images_of_other_classes_and_a_model_that_knows(run, three, tmp_path):
    images, labels = gratings(6)
    np.savez(
        tmp_path / "two.npz",
        x_train=images[labels < 2],
        y_train=labels[labels < 2],
        class_names=np.array(["across", "down"]),
    )
    with pytest.raises(DataError, match="nothing unknown"):
        labelwise.evaluate(run.folder, three, unknown=tmp_path / "two.npz")
    np.savez(tmp_path / "other.npz", x_train=images, y_train=labels)
    with pytest.raises(DataError, match="the model does not know 3 of the 3 classes"):
        labelwise.evaluate(run.folder, tmp_path / "other.npz", unknown=three)
    with pytest.raises(UsageError, match="not judged"):
        labelwise.evaluate(dataclasses.replace(run.model, novelty=None), three, unknown=three)


def test_an_image_counts_once_however_many_repeats_judged_it():
    assert novelty_of([]) is None
    table = pd.DataFrame({"id": range(30), "energy": np.arange(30.0), "distance": 1.0})
    assert novelty_of([table, table]) == novelty_of([table])


def test_a_threshold_that_is_no_number_is_refused(run, tmp_path):
    from labelwise.description import to_bytes

    folder = bundle.save(run.model, tmp_path)
    values = json.loads((folder / "model.json").read_text())
    values.pop("sha256")
    values["unknown_threshold"]["energy"]["deviation"] = 0.0
    with pytest.raises(ValueError, match="deviation"):
        to_bytes(values)
    with pytest.raises(BundleError):
        bundle.save(
            dataclasses.replace(run.model, novelty=Novelty.of([np.nan], [0.0])), tmp_path / "b"
        )
