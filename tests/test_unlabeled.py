"""Recipes with unlabeled images in a run: twins, hidden truth, the report; propagation itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

import labelwise
from labelwise.errors import OptionError
from labelwise.plan import Plan, _filled
from labelwise.recipe.base import Context, PseudoLabels, Task
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.inner import STUDENT, TWIN, Judged, adopted, paired_t, verdict
from labelwise.recipe.mlp import Mlp
from labelwise.recipe.probe import Probe
from labelwise.recipe.propagation import SHARES, Propagation, _shared
from labelwise.recipe.self_training import SelfTraining
from labelwise.recipe.variants import parse_variants
from labelwise.report.worth import labels_needed, over_seeds
from labelwise.twins import Twins, alike
from tests.tasks import grating_data

TEXT = "st=self-training(base=mlp(epochs=4), rounds=2)"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return grating_data(tmp_path_factory.mktemp("gratings"), per_class=20)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Two numbers of labels, the others hidden."""
    out = tmp_path_factory.mktemp("unlabeled") / "run"
    return labelwise.compare(data, recipes=TEXT, out=out, folds=2, labels="2,6/class", repeats=2)


def test_the_twin_is_a_row_and_a_pair(run):
    assert {row["variant"] for row in run.results["rows"]} == {"st", "st-supervised"}
    gains = [pair["gain"] for pair in run.results["pairs"] if pair["gain"]]
    assert gains == ["the unlabeled images"] * 2


def test_pseudo_labels_stand_beside_a_truth_that_the_recipe_never_saw(run, data):
    files = sorted(run.folder.glob("trials/st/labels-2-per-class*fold-0/pseudo.parquet"))
    table = pd.read_parquet(files[0])
    np.testing.assert_array_equal(table["truth"], data.labels[table["id"]])
    folds = pd.read_parquet(run.folder / "folds.parquet")
    own = folds[(folds["labels"] == "2-per-class") & (folds["repeat"] == 0) & (folds["fold"] == 0)]
    pool = own[own["role"] == "unlabeled"]["id"]
    assert table["id"].isin(pool).all()


def test_where_labels_are_too_few_to_tell_the_row_says_so(run):
    row = next(r for r in run.results["rows"] if r["variant"] == "st")
    assert "too few labels to tell" in row["reason"]


def test_the_report_shows_the_pseudo_labels_and_what_they_saved(run):
    page = run.report.read_text()
    section = page[page.index('<section id="pseudo">') :].partition("</section>")[0]
    assert "known labels" in section
    assert "confidence" in section
    assert "st-supervised would need" in page
    assert "mean over draws of the labels" in page


def test_a_plan_fills_in_the_recipe_inside():
    recipe = SelfTraining(base=Mlp())
    made = _filled(recipe, {"base": Mlp(epochs=3).configuration})
    assert made == SelfTraining(base=Mlp(epochs=3))


def test_a_twin_gets_the_epochs_that_were_planned_inside():
    fields = {"a": {"base": {"name": "cnn", "epochs": 7}}, "b": {"epochs": 9}}
    plan = Plan(fields, {"a": "", "b": ""}, {}, 0, 0, (), ())
    assert alike(plan, [Twins("a", "b", "")]).fields["b"] == {"epochs": 7}


def test_options_for_all_recipes_reach_the_one_inside():
    (variant,) = parse_variants("propagation", defaults={"image_size": 96})
    assert variant.recipe.base == Probe(image_size=96)


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30))
def test_the_paired_test_is_students(differences):
    values = np.array(differences)
    worse, p = paired_t(values)
    if values.std(ddof=1) > 1e-6:
        assert p == pytest.approx(ttest_1samp(values, 0).pvalue, abs=1e-9)
        expected = ttest_1samp(values, 0, alternative="greater").pvalue
        assert worse == pytest.approx(expected, abs=1e-9)


def answers(right, sure=0.9):
    """Judged answers for two classes, of which some are right."""
    labels = np.arange(len(right)) % 2
    proba = np.where(right, sure, 1 - sure)[:, None].repeat(2, 1)
    proba[np.arange(len(right)), 1 - labels] = 1 - proba[np.arange(len(right)), labels]
    return Judged.of(proba, labels)


@pytest.mark.parametrize(
    ("right", "twin_right", "word", "returned"),
    [
        (35, 20, "helped", STUDENT),
        (20, 35, "hurt", TWIN),
        (34, 31, "cannot tell", STUDENT),
        (32, 32, "cannot tell", TWIN),
        (31, 32, "cannot tell", TWIN),
    ],
)
def test_the_twin_is_returned_unless_the_student_is_likely_better(
    right, twin_right, word, returned
):
    found = verdict(answers(np.arange(40) < twin_right), answers(np.arange(40) < right))
    assert (found["verdict"], found["returned"]) == (word, returned)
    assert found["gain"] == pytest.approx((right - twin_right) / 40)


def test_a_student_that_is_right_less_often_is_not_returned_for_its_losses():
    labels = np.arange(40) % 2
    twin = np.full((40, 2), 0.5)  # right by a hair
    twin[np.arange(40), labels] += 1e-6
    student = np.full((40, 2), 0.02)
    student[np.arange(40), labels] = 0.98
    student[0] = student[0, ::-1]  # wrong once
    found = verdict(Judged.of(twin, labels), Judged.of(student, labels))
    assert found["p_not_better"] < 0.01
    assert found["returned"] == TWIN


def test_how_sure_a_model_is_of_itself_is_no_reason_to_prefer_it():
    right = np.arange(40) < 30
    timid, bold = answers(right, 0.6), answers(right, 0.99)
    np.testing.assert_allclose(timid.losses, bold.losses, atol=0.05)


def test_a_judgement_counts_rows_of_the_truth():
    proba = np.array([[0.5, 0.5 - 1e-9], [0.2, 0.8], [0.9, 0.1]])
    found = Judged.of(proba, np.array([0, 1, 1]))
    assert found.record["validation_confusion"] == [1, 0, 1, 1]
    cooled = proba ** (1 / found.record["temperature"])
    own = (cooled / cooled.sum(1, keepdims=True))[np.arange(3), [0, 1, 1]]
    np.testing.assert_allclose(found.losses, -np.log(own), rtol=1e-6)
    assert found.record["validation_loss"] == pytest.approx(found.losses.mean())


def test_adopted_images_are_those_of_the_last_round_and_right_where_the_data_knows():
    def some(*labels):
        rows = np.arange(len(labels))
        return PseudoLabels(rows, np.array(labels), np.ones(len(labels), np.float32))

    truth = np.array([0, 1, -1, 0])
    assert adopted([(some(1), some(0, 0, 0, 0)), ()], 2, truth) == {
        "adopted": 2.0,
        "adopted_per_class": [2.0, 0.0],
        "adopted_known": 1.5,
        "adopted_right": 1.0,
    }


@pytest.mark.parametrize("share", SHARES[1:])
def test_pseudo_labels_make_up_their_share_of_the_loss(share):
    pseudo = np.array([False, False, True, True, True])
    weights = _shared(np.array([1, 1, 0.2, 0.4, 0.9], np.float32), pseudo, share)
    assert weights[pseudo].sum() / weights.sum() == pytest.approx(share)
    assert weights.max() == 1
    assert weights[4] / weights[2] == pytest.approx(4.5)


def test_propagation_takes_a_frozen_network_only():
    with pytest.raises(OptionError, match="Give a probe"):
        Propagation(base=Cnn())


@pytest.mark.parametrize("recipe", [Propagation, SelfTraining])
def test_unlabeled_images_are_labeled_right_and_new_ones_get_an_answer(recipe, data):
    labels = np.full(len(data.labels), -1)
    for k in range(3):
        labels[np.flatnonzero(data.labels == k)[:3]] = k
    task = Task(data.images(data.usable), labels, data.class_names)
    found = recipe(base=Probe(image_size=32)).fit(task, Context())
    last = found.pseudo[-1]
    assert (data.labels[last.rows] == last.labels).mean() > 0.9
    assert found.model.predict_proba(data.images([0, 5])).shape == (2, 3)


def test_foreign_images_are_left_out(data):
    labels = data.labels.copy()
    labels[::2] = -1
    task = Task(data.images(data.usable), labels, data.class_names)
    found = SelfTraining(base=Mlp(epochs=4), rounds=1, step=1, foreign=0.5).fit(task, Context())
    assert len(found.pseudo[-1].rows) <= 0.5 * (labels < 0).sum() + 1


@pytest.mark.parametrize(
    ("target", "words"),
    [(0.4, "at most 10"), (0.6, "about 32"), (0.7, "about 100"), (0.9, "more than 1,000")],
)
def test_labels_needed_lie_between_the_points_of_the_curve(target, words):
    assert labels_needed([(10, 0.5), (100, 0.7), (1000, 0.8)], target) == words


def test_the_interval_over_seeds_is_students():
    from scipy.stats import sem, t

    values = [0.5, 0.6, 0.55]
    low, high = t.interval(0.95, 2, loc=np.mean(values), scale=sem(values))
    assert over_seeds(values) == f"55.0 % ({100 * low:.1f} to {100 * high:.1f} %)"
