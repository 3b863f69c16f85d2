"""Twins: added where they are missing, trained as long, compared in pairs."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

import labelwise
from labelwise import bundle
from labelwise.measure import verdicts
from labelwise.plan import Plan
from labelwise.recipe.base import Context
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.variants import parse_variants, recipe_of
from labelwise.tables import leaderboard_table
from labelwise.twins import Twins, alike, twin_pairs, twins_of, with_twins
from tests.tasks import grating_data, task_from

TEXT = "cnn(backbone=runs/x)"  # is not looked at before something is fitted
TWIN = "cnn(backbone=runs/x, start=untrained)"


def names(text):
    return [variant.name for variant in with_twins(parse_variants(text))]


def test_a_missing_twin_follows_its_variant():
    assert names(f"probe, a={TEXT}, mlp") == ["probe", "a", "a-untrained", "mlp"]


def test_a_twin_that_is_listed_is_not_added_again():
    assert names(f"from-scratch={TWIN}, a={TEXT}") == ["from-scratch", "a"]
    assert names(f"a={TEXT}, b={TEXT}") == ["a", "a-untrained", "b"]


def test_a_name_that_is_taken_gets_a_number():
    assert names(f"a={TEXT}, a-untrained=mlp") == ["a", "a-untrained-2", "a-untrained"]


def test_a_recipe_that_nothing_sets_apart_has_no_twin():
    assert names("cnn, mlp, probe") == ["cnn", "mlp", "probe"]
    assert Cnn(backbone="x", start="untrained").twin is None


def test_the_pairs_are_those_of_the_recipes_whatever_the_names():
    variants = parse_variants(f"b={TWIN}, a={TEXT}, mlp")
    assert twins_of(variants) == (Twins("a", "b", "the trained start"),)
    assert twins_of(parse_variants(TEXT)) == ()


def test_a_twin_learns_for_as_many_epochs_as_its_variant():
    fields = {"a": {"epochs": 7, "share": 0.5}, "b": {"epochs": 9}, "c": {}}
    plan = Plan(fields, {"a": "7 epochs", "b": "9", "c": ""}, {}, 0, 0, (), ())
    found = alike(plan, [Twins("a", "b", ""), Twins("a", "c", ""), Twins("a", "left out", "")])
    assert found.fields == {"a": fields["a"], "b": {"epochs": 7}, "c": {}}
    assert found.sentences["b"].startswith("7 epochs")


def answers(right, seed=0):
    """Labels and probabilities of two classes that are right for the first so many of 100."""
    labels = np.random.default_rng(seed).integers(0, 2, 100)
    predicted = np.where(np.arange(100) < right, labels, 1 - labels)
    return labels, np.where(predicted[:, None] == np.arange(2), 0.9, 0.1)


@pytest.mark.parametrize(
    ("mine", "other", "verdict"),
    [(90, 60, "a better"), (60, 90, "b better"), (80, 79, "cannot tell")],
)
def test_a_pair_is_variant_minus_twin_whichever_is_better(mine, other, verdict):
    labels, a = answers(mine)
    probas = {"b": answers(other)[1], "a": a}
    ((_, pair),) = twin_pairs([Twins("a", "b", "x")], labels, probas)
    assert (pair.a, pair.b, pair.verdict) == ("a", "b", verdict)
    assert pair.difference == pytest.approx((mine - other) / 100)
    assert pair.low <= pair.difference <= pair.high
    (direct,) = verdicts(labels, probas)
    assert pair.p == direct.p


def test_p_is_corrected_for_the_number_of_twins_and_for_nothing_else():
    labels, a = answers(85)
    probas = {"a": a, "b": answers(75)[1], "c": answers(60)[1], "d": answers(95)[1]}
    one = [Twins("a", "b", "")]
    alone = twin_pairs(one, labels, probas)[0][1].p
    both = [pair.p for _, pair in twin_pairs([*one, Twins("d", "c", "")], labels, probas)]
    assert both[0] == pytest.approx(alone)  # the larger p of two stays
    assert both[1] == pytest.approx(2 * verdicts(labels, {n: probas[n] for n in "cd"})[0].p)


def test_a_twin_without_a_result_has_no_pair():
    labels, a = answers(85)
    assert twin_pairs([Twins("a", "b", "")], labels, {"a": a}) == []


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return grating_data(tmp_path_factory.mktemp("gratings"), per_class=20)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A transfer beside its twin, and what came of it."""
    folder = tmp_path_factory.mktemp("twins")
    model = Cnn(epochs=8).fit(task_from(data), Context()).model
    saved = bundle.save(model, folder / "model")
    text = f"moved=cnn(backbone={saved}), mlp(epochs=1)"
    return labelwise.compare(data, recipes=text, out=folder / "run", folds=2, budget="4s")


def test_a_comparison_adds_the_twin_and_records_the_pair(run):
    results = run.results
    assert [row["variant"] for row in results["rows"]] == ["moved", "moved-untrained", "mlp"]
    (pair,) = (pair for pair in results["pairs"] if pair["gain"])
    assert (pair["a"], pair["b"], pair["gain"]) == ("moved", "moved-untrained", "the trained start")
    values = {row["variant"]: row["metrics"]["accuracy"]["value"] for row in results["rows"]}
    assert pair["difference"] == pytest.approx(values["moved"] - values["moved-untrained"])


def test_the_two_were_planned_for_the_same_epochs(run):
    fields = run.record["plan"]["fields"]
    assert fields["moved"] == fields["moved-untrained"]


def test_the_report_shows_the_two_side_by_side(run):
    page = run.report.read_text()
    section = page[page.index('<section id="twins">') :].partition("</section>")[0]
    assert "What the trained start brought" in section
    assert section.index(">moved<") < section.index(">moved-untrained<")
    assert 'href="#twins"' in page


def test_the_other_pairs_stay_those_with_the_best_row(run):
    pairs = [pair for pair in run.results["pairs"] if not pair["gain"]]
    assert len(pairs) == 2
    assert len({pair["a"] for pair in pairs}) == 1


def test_the_terminal_has_a_line_about_it(run):
    console = Console(width=200, file=(out := io.StringIO()))
    console.print(leaderboard_table(run.results))
    assert "moved against moved-untrained, all labels: " in out.getvalue()


def test_a_run_with_twins_goes_on_where_it_was_killed(run, data, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "running"}))
    again = labelwise.compare(data, out=folder, resume=True)
    assert again.results["pairs"] == run.results["pairs"]


def test_one_recipe_alone_is_trained_without_its_twin(run, data, tmp_path):
    recipe = run.record["variants"]["moved"] | {"epochs": 1}
    found = labelwise.train(data, recipe=recipe_of(recipe), out=tmp_path / "one", folds=2)
    assert [row["variant"] for row in found.results["rows"]] == ["cnn"]
    assert 'id="twins"' not in found.report.read_text()
