"""ROC, precision-recall and epochs in the report: from the run's files, with and without JS."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk

from labelwise.data.dataset import Dataset
from labelwise.epochs import epoch_counts, epoch_metrics
from labelwise.files import read_json, write_json
from labelwise.measure.scoring import Scorer
from labelwise.report import epochs, roc, text
from labelwise.report.report import write_report
from labelwise.report.run_folder import RunFolder
from labelwise.run import Run, compare
from tests.tasks import grating_data
from tests.test_report import Page, in_browser


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return grating_data(tmp_path_factory.mktemp("data"), per_class=20, test=6)


@pytest.fixture(scope="module")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two folds, two repeats, a test part."""
    out = tmp_path_factory.mktemp("runs") / "run"
    return compare(data, out=out, recipes="mlp(epochs=3)", folds=2, repeats=2)


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return run.report.read_text("utf-8")


def histories(run: Run) -> list[pd.DataFrame]:
    """Of the folds of the first repeat."""
    folders = sorted(run.folder.glob("trials/mlp/labels-all_repeat-0_fold-*"))
    return [pd.read_parquet(folder / "history.parquet") for folder in folders]


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', page, re.S)
    assert found is not None
    return found[0]


def cells(table: str) -> list[list[str]]:
    """Texts of a table's rows."""
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.S)
    return [re.findall(r">([^<>]+)<", row) for row in rows]


def test_the_areas_on_the_page_are_those_of_the_leaderboard(run: Run, page: str) -> None:
    (row,) = run.results["rows"]
    shown = {words[0]: words for words in cells(section(page, "roc"))}
    expected = {
        "macro average": ([row["metrics"][n] for n in ("auroc", "average_precision")],
                          [row["test"][n] for n in ("auroc", "average_precision")]),
        "micro average": ([row["metrics"][f"micro_{n}"] for n in ("auroc", "average_precision")],
                          [row["test"][f"micro_{n}"] for n in ("auroc", "average_precision")]),
    }  # fmt: skip
    for held, test in zip(row["per_class"], row["test_per_class"], strict=True):
        areas = ("auroc", "average_precision")
        expected[held["name"]] = ([held[n] for n in areas], [test[n] for n in areas])
    assert len(expected) == 5
    for name, (held, test) in expected.items():
        numbers = [held[0], test[0], held[1], test[1]]
        words = [
            word
            for number in numbers
            for word in (text.value(number["value"], "auroc"), text.interval(number, "auroc"))
        ]
        assert shown[name][2:10] == words


def test_every_curve_can_be_chosen_and_one_is_in_focus_from_the_start(page: str) -> None:
    roc_section = Page(section(page, "roc"))
    options = [a["value"] for tag, a in roc_section.tags if tag == "option"]
    curves = [a for tag, a in roc_section.tags if tag == "g"]
    assert sorted(options) == ["0", "1", "2", "macro", "micro"]
    assert sorted(str(a["data-curve"]) for a in curves) == sorted([*options, *options])
    assert [a["data-curve"] for a in curves if "focus" in str(a["class"])] == ["macro", "macro"]


def drawn_points(d: str) -> np.ndarray:
    """Positions of a path, (P, 2)."""
    return np.array([[float(n) for n in pair.split()] for pair in re.split("[ML]", d)[1:]])


def test_the_drawn_roc_curve_encloses_the_area(run: Run, page: str) -> None:
    (row,) = run.results["rows"]
    for of, number in [("1", row["per_class"][1]["auroc"]), ("macro", row["metrics"]["auroc"])]:
        group = re.search(rf'<g class="[^"]*" data-curve="{of}">.*?</g>', section(page, "roc"))
        assert group is not None
        d = re.findall(r'd="([^"]*)" class="line', group[0])[0]
        x, y = ((drawn_points(d) - [40, 328]) / [300, -300]).T
        assert np.trapezoid(y, x) == pytest.approx(number["value"], abs=0.004)


@pytest.mark.parametrize(
    ("classes", "first", "shown"), [(2, 1, 3), (3, "macro", 5), (8, "macro", 10), (12, "macro", 5)]
)
def test_few_classes_are_drawn_together_and_of_many_the_worst(
    classes: int, first: object, shown: int
) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(10 * classes) % classes
    proba = rng.dirichlet(np.ones(classes), len(labels))
    drawn = roc._drawn(Scorer(labels, proba), [str(k) for k in range(classes)])
    assert drawn[0].of == first
    assert sum(item.shown for item in drawn) == shown
    areas = [
        sk.average_precision_score(labels == item.of, proba[:, item.of])
        for item in drawn
        if isinstance(item.of, int)
    ]
    assert classes == 2 or areas == sorted(areas)


def test_a_run_from_before_these_numbers_still_has_a_page(
    run: Run, data: Dataset, tmp_path: Path
) -> None:
    again = shutil.copytree(run.folder, tmp_path / "run")
    results = read_json(again / "leaderboard.json")
    (row,) = results["rows"]
    del row["test_per_class"], row["metrics"]["micro_auroc"]
    for result in row["per_class"]:
        del result["auroc"], result["average_precision"]
    write_json(again / "leaderboard.json", results)
    words = cells(section(write_report(again, data).read_text("utf-8"), "roc"))
    across = next(row for row in words if row[0] == "across")
    assert across[2:6] == ["–"] * 4


def test_the_matrix_of_the_test_part_counts_the_answers_of_the_final_fits(
    run: Run, page: str
) -> None:
    files = run.folder.glob("trials/mlp/*_final/predictions.parquet")
    answers = pd.concat([pd.read_parquet(file) for file in files])
    expected = sk.confusion_matrix(answers["label"], answers["predicted"])
    found = np.zeros((3, 3), dtype=int)
    for at, count in re.findall(r'data-at="(\d-\d)"[^>]*>(\d+)<', section(page, "confusion")):
        found[tuple(map(int, at.split("-")))] = int(count)
    assert found.sum() == len(answers) > 0
    np.testing.assert_array_equal(found, expected)


# Over the epochs


def expected_counts(run: Run, part: str, epoch: int) -> list[list[str]]:
    """TP, FP, FN and TN of every class, added up over folds."""
    tables = [epoch_counts(table) for table in histories(run)]
    rows = pd.concat([t[(t["part"] == part) & (t["epoch"] == epoch)] for t in tables])
    total = rows.groupby("class")[["tp", "fp", "fn", "tn"]].sum()
    return [[str(number) for number in row] for row in total.to_numpy().tolist()]


def test_the_counts_before_anyone_chooses_are_those_of_the_last_epoch(run: Run, page: str) -> None:
    table = re.search(r'<table id="counts">.*?</table>', page, re.S)
    assert table is not None
    rows = [words[1:5] for words in cells(table[0])[1:4]]
    assert rows == expected_counts(run, "validation", 3)
    assert "validation, epoch 3, folds 0, 1 added up" in section(page, "epochs")


def test_the_embedded_counts_are_those_of_the_first_repeat(run: Run, page: str) -> None:
    (variant,) = json.loads(Page(page).scripts[0])["epochs"]
    assert [fold["fold"] for fold in variant["folds"]] == [0, 1]
    for fold, history in zip(variant["folds"], histories(run), strict=True):
        for part in ("train", "validation"):
            counts = epoch_counts(history)
            counts = counts[counts["part"] == part]
            assert fold[part]["epoch"] == [1, 2, 3]
            assert np.ravel(fold[part]["fp"]).tolist() == counts["fp"].tolist()


def f_lines(page: Page, average: str) -> dict[tuple[str, str | None], np.ndarray]:
    """What is drawn in the chart of F: line and fold to values by epoch."""
    place = next(
        i for i, (tag, a) in enumerate(page.tags) if "data-f" in a and a["data-average"] == average
    )
    svg = page.tags[place + 1][1]
    low, high, start, end = map(float, str(svg["data-y"]).split())
    rest = page.tags[place + 2 :]
    lines = {}
    for tag, a in rest[: next(i for i, (tag, _) in enumerate(rest) if tag == "svg")]:
        if tag == "path":
            heights = drawn_points(str(a["d"]))[:, 1]
            key = str(a["data-line"]), a.get("data-fold")
            lines[key] = low + (heights - start) / (end - start) * (high - low)
    return lines


def check_f(page: Page, run: Run, average: str, beta: float) -> None:
    lines = f_lines(page, average)
    assert len(lines) == 6  # two parts, each with two folds and their mean
    for part in ("train", "validation"):
        folds = [epoch_metrics(history, beta=beta) for history in histories(run)]
        values = [t[t["part"] == part][f"{average}_f_beta"].to_numpy() for t in folds]
        for fold, expected in enumerate(values):
            assert lines[part, str(fold)] == pytest.approx(expected, abs=0.002)
        assert lines[part, None] == pytest.approx(np.mean(values, axis=0), abs=0.002)


@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
def test_the_page_without_scripts_draws_f1(run: Run, page: str, average: str) -> None:
    check_f(Page(page), run, average, 1.0)


@pytest.mark.browser
def test_another_beta_redraws_f_as_python_computes_it(run: Run, tmp_path: Path) -> None:
    do = (
        'const b = document.getElementById("beta"); b.value = "3.5";'
        'b.dispatchEvent(new Event("input"))'
    )
    dom = in_browser(run.report, tmp_path, do=do)
    for average in ("micro", "macro", "weighted"):
        check_f(dom, run, average, 3.5)
    assert "F3.5, %" in dom.words


@pytest.mark.browser
def test_the_counts_follow_what_is_chosen(run: Run, tmp_path: Path) -> None:
    do = (
        'const part = document.getElementById("count-part"); part.value = "train";'
        'part.dispatchEvent(new Event("change"));'
        'const at = document.getElementById("count-epoch"); at.value = "0";'
        'at.dispatchEvent(new Event("input"))'
    )
    dom = in_browser(run.report, tmp_path, do=do)
    words = "\n".join(dom.words)
    table = words[words.index("train, epoch 1, folds 0, 1 added up") :]
    counts = expected_counts(run, "train", 1)
    for name, numbers in zip(("across", "down", "slanted"), counts, strict=True):
        assert "\n".join([name, *numbers]) in table


@pytest.mark.browser
def test_choosing_a_class_puts_its_curves_in_focus(run: Run, tmp_path: Path) -> None:
    do = (
        'const c = document.getElementById("curve-choice"); c.value = "2";'
        'c.dispatchEvent(new Event("change"))'
    )
    dom = in_browser(run.report, tmp_path, do=do)
    curves = [a for tag, a in dom.tags if tag == "g"]
    assert [a["data-curve"] for a in curves if "focus" in str(a["class"])] == ["2", "2"]


def test_many_epochs_are_thinned_to_the_room_there_is(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = epochs.Epochs(np.arange(1, 41), *(np.ones((40, 3)) for _ in range(3)))
    whole, step = epochs._embedded({"mlp": {0: {"train": long}}})
    assert step == 1
    monkeypatch.setattr(epochs, "MOST_BYTES", len(json.dumps(whole)) // 3)
    small, step = epochs._embedded({"mlp": {0: {"train": long}}})
    assert small is not None
    assert len(json.dumps(small)) <= epochs.MOST_BYTES
    assert small[0]["folds"][0]["train"]["epoch"] == [*range(1, 41, step), 40]
    assert step == 4


@pytest.mark.browser
def test_with_very_many_classes_there_are_curves_and_no_counts(
    run: Run, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "LARGEST", 2)
    again = shutil.copytree(run.folder, tmp_path / "run")
    dom = in_browser(write_report(again, data), tmp_path)
    assert not [a for _, a in dom.tags if a.get("id") in ("counts", "beta")]
    assert f_lines(dom, "macro")


def test_a_recipe_without_epochs_has_no_section_over_them(run: Run, tmp_path: Path) -> None:
    again = shutil.copytree(run.folder, tmp_path / "run")
    for file in again.glob("trials/*/*/history.parquet"):
        pd.read_parquet(file).rename(columns={"epoch": "strength"}).to_parquet(file)
    assert epochs.section(RunFolder(again), ["a", "b", "c"]) is None
