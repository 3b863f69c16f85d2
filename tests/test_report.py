"""The report of a real small run: what is on it, and that no name can do harm."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from labelwise.data.dataset import Dataset
from labelwise.data.load import load
from labelwise.files import read_json, write_json
from labelwise.nn.network import Network
from labelwise.report import architecture, repeat, text, thumbnails
from labelwise.report.architecture import model_summary
from labelwise.report.data_section import duplicates, samples
from labelwise.report.looks import NEAR
from labelwise.report.report import CLASS_COLUMNS, write_report
from labelwise.report.run_folder import RunFolder
from labelwise.report.svg import nice_ticks
from labelwise.run import Run, compare
from tests.browser import Page, in_browser

HOSTILE_CLASSES = (
    '</script><script>alert("class")</script>',
    "\"'><b onmouseover=alert(1)>",
    "cat",
)
HOSTILE_FILES = (
    b"<img src=x onerror=alert(1)>.png",
    b"\"'&amp; `${alert(2)}`.png",
    "\u202egnp.txt \u05d0.png".encode(),
    b"no unicode \xff.png",
    b"--><!-- new\nline.png",
)
SECTIONS = (
    "result", "leaderboard", "labels", "confusion", "classes", "roc", "mistakes", "images",
    "curves", "epochs", "model", "files", "protocol", "repeat",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    """Three classes that a small net tells apart, with names that try to break out of the page."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for label in range(3):
        (root / f"class {label}").mkdir()
        for number in range(24):
            pixels = rng.integers(0, 120, (12, 12), dtype=np.uint8)
            pixels[label * 4 : label * 4 + 4] += 100 if number % 5 else 20
            name = b"%03d.png" % number
            if number < len(HOSTILE_FILES):
                name = HOSTILE_FILES[number]
            Image.fromarray(pixels).save(os.fsencode(root / f"class {label}") + b"/" + name)
    shutil.copy(root / "class 0" / "010.png", root / "class 1" / "copy.png")  # a conflict
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELWISE_CACHE", str(root.parent / "cache"))
        found = load(root)
        yield dataclasses.replace(
            found, class_names=HOSTILE_CLASSES, context=(*found.context, "Fact <i>1</i>.")
        )


@pytest.fixture(scope="module")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two variants, two numbers of labels, a test part."""
    recipes = "mlp(epochs=3), cnn(epochs=1)"
    out = tmp_path_factory.mktemp("runs") / "run"
    return compare(data, out=out, recipes=recipes, labels="2,10/class", folds=2, test=0.2)


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    """The report as text."""
    return run.report.read_text("utf-8")


def test_every_section_is_there_and_reached_from_the_bar_at_the_top(page: str) -> None:
    parsed = Page(page)
    ids = {attributes.get("id") for _, attributes in parsed.tags}
    links = {attributes.get("href") for tag, attributes in parsed.tags if tag == "a"}
    assert set(SECTIONS) <= ids
    assert {f"#{name}" for name in SECTIONS} <= links


def test_the_number_at_the_top_is_the_leaderboards(run: Run, page: str) -> None:
    results = run.results
    row = next(
        row
        for row in results["rows"]
        if (row["variant"], row["labels"])
        == (results["recommended"], results["recommended_labels"])
    )
    number = re.search(r'class="number">([\d.]+) %<', page)
    assert number is not None
    assert float(number[1]) == pytest.approx(100 * row["metrics"]["accuracy"]["value"], abs=0.051)
    assert "The test part was opened once" in page


def test_nothing_is_loaded_from_elsewhere_and_the_page_forbids_it(page: str) -> None:
    parsed = Page(page)
    policy = next(a for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none';")
    for _, attributes in parsed.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/"))
    assert not re.search(r"url\(|@import|https?://|[\"'(]//", page)
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"link", "iframe", "object", "base"})


def test_no_name_becomes_markup(page: str) -> None:
    parsed = Page(page)
    assert [tag for tag, _ in parsed.tags].count("script") == 2
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert (tag, attributes.get("src")) != ("img", "x")
    words = " ".join(parsed.words)
    assert HOSTILE_CLASSES[0] in words  # shown, as text
    assert "Fact <i>1</i>." in words
    assert "\u202e" not in page  # would turn the rest of a name around
    paths = " ".join(json.loads(parsed.scripts[0])["paths"].values())
    assert r"\u202egnp.txt" in paths
    assert r"no unicode \udcff.png" in paths
    assert "<img src=x onerror=alert(1)>.png" in paths


def test_the_embedded_data_holds_every_shown_image_once(page: str, data: Dataset) -> None:
    parsed = Page(page)
    embedded = json.loads(parsed.scripts[0])
    drawn = [a for tag, a in parsed.tags if tag == "img"]
    shown = {a["data-id"] for a in drawn if "data-id" in a}
    behind = {str(i) for cell in embedded["cells"].values() for i, _ in cell["images"]}
    assert shown | behind == set(embedded["images"]) == set(embedded["paths"])
    assert embedded["classes"] == list(HOSTILE_CLASSES)
    # Heat, what it is on, as the network gets it, and the images most like each.
    looks = [a for a in drawn if "data-id" not in a]
    explained = page.count('alt="heat on')
    assert 2 * explained <= len(looks) <= (2 + NEAR) * explained
    assert page.count(";base64,") == len(embedded["images"]) + len(looks)


def test_the_cells_hold_as_many_predictions_as_the_matrix_says(run: Run, page: str) -> None:
    embedded = json.loads(Page(page).scripts[0])
    results = run.results
    row = next(r for r in results["rows"] if r["labels"] == results["recommended_labels"])
    matrix = np.zeros((3, 3), dtype=int)
    for key, cell in embedded["cells"].items():
        label, predicted = map(int, key.split("-"))
        matrix[label, predicted] = cell["count"]
        assert 0 < len(cell["images"]) <= 12
    rows = {r["variant"]: r["confusion"] for r in results["rows"] if r["labels"] == row["labels"]}
    assert matrix.tolist() == rows[results["recommended"]]


def test_duplicates_with_different_labels_are_shown(page: str) -> None:
    assert "different labels" in " ".join(Page(page).words)


def test_a_file_that_was_set_aside_is_listed_with_its_reason(
    run: Run, data: Dataset, tmp_path: Path
) -> None:
    again = shutil.copytree(run.folder, tmp_path / "run")
    table = pd.read_parquet(again / "data.parquet")
    aside = {"path": "<b onclick=x>.png", "decision": "set aside", "reason": "truncated <at> 7"}
    table.loc[len(table)] = {"id": len(table), **aside}
    table.to_parquet(again / "data.parquet")
    words = " ".join(" ".join(Page(write_report(again, data).read_text("utf-8")).words).split())
    assert "Set aside: 1 file" in words
    assert "<b onclick=x>.png truncated <at> 7" in words


def test_the_same_run_gives_the_same_page(run: Run, data: Dataset, tmp_path: Path) -> None:
    again = shutil.copytree(run.folder, tmp_path / "run")
    (again / "report.html").unlink()
    text = write_report(again, data).read_text("utf-8")
    # run.json is finished after the page was written; nothing on the page depends on that.
    assert text == run.report.read_text("utf-8")


def test_failed_and_left_out_variants_keep_their_reason(
    run: Run, data: Dataset, tmp_path: Path
) -> None:
    again = shutil.copytree(run.folder, tmp_path / "run")
    results = read_json(again / "leaderboard.json")
    other = next(r for r in results["rows"] if r["variant"] != results["recommended"])
    empty = {"metrics": None, "train": None, "test": None, "fit_seconds": None}
    other |= {"status": "failed", "reason": "out of <memory>", **empty}
    write_json(again / "leaderboard.json", results)
    record = read_json(again / "run.json")
    record["plan"]["left_out"] = [{"variant": "probe", "reason": "no <weights>"}]
    write_json(again / "run.json", record)
    words = " ".join(Page(write_report(again, data).read_text("utf-8")).words)
    assert "out of <memory>" in words
    assert "no <weights>" in words


def test_a_run_without_model_history_or_test_part_still_has_a_page(
    run: Run, data: Dataset, tmp_path: Path
) -> None:
    again = shutil.copytree(run.folder, tmp_path / "run")
    shutil.rmtree(again / "model")
    (again / "sealed.jsonl").unlink()
    for file in again.glob("trials/*/*/history.parquet"):
        pd.read_parquet(file).iloc[:0].to_parquet(file)
    results = read_json(again / "leaderboard.json")
    for row in results["rows"]:
        row["test"] = None
    write_json(again / "leaderboard.json", results)
    text = write_report(again, data).read_text("utf-8")
    assert "There is no test part." in text
    assert "corrected for selection" in text


def test_a_model_that_cannot_be_read_is_left_out_of_the_page(
    run: Run, data: Dataset, tmp_path: Path
) -> None:
    again = shutil.copytree(run.folder, tmp_path / "run")
    (again / "model" / "weights.safetensors").write_bytes(b"damaged")
    assert "Leaderboard" in write_report(again, data).read_text("utf-8")


def test_no_image_of_the_test_part_is_shown(data: Dataset) -> None:
    group = data.duplicates[0].rows
    sealed = np.setdiff1d(data.usable, data.usable[::4])
    shown = [row for sample in samples(data, sealed, 0) for row in sample["rows"]]
    assert len(shown) > 3
    assert not np.isin(shown, sealed).any()
    assert [g["rows"] for g in duplicates(data, np.array([group[0]]))["groups"]] == []
    assert [g["rows"] for g in duplicates(data, np.array([], int))["groups"]] == [list(group)]


def test_a_call_from_python_repeats_what_was_run(run: Run) -> None:
    call = repeat.facts(RunFolder(run.folder))["command"]
    assert call.startswith("import labelwise as lw")
    assert "recipes=['mlp(epochs=3)', 'cnn(epochs=1)']" in call
    tree = ast.parse(call)
    assert tree.body[1].value.func.attr == "compare"  # type: ignore[attr-defined]
    record = RunFolder(run.folder).record
    alone = {**record, "variants": {"mlp": record["variants"]["mlp"]}}
    assert "lw.train(" in repeat._command(alone)
    assert "recipe='mlp(epochs=3)'" in repeat._command(alone)


def test_images_stay_within_the_limits(
    run: Run, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = shutil.copytree(run.folder, tmp_path / "run")
    monkeypatch.setattr(thumbnails, "MOST_IMAGES", 5)
    embedded = json.loads(Page(write_report(again, data).read_text("utf-8")).scripts[0])
    assert len(embedded["images"]) == 5
    assert len(embedded["paths"]) > 5


def test_large_images_become_small_and_tiny_ones_keep_their_pixels() -> None:
    large = thumbnails.data_uri(np.full((600, 900, 3), 128, np.uint8))
    tiny = thumbnails.data_uri(np.full((8, 8), 128, np.uint8))
    assert large.startswith("data:image/jpeg;base64,")
    assert len(large) < 4000
    assert tiny.startswith("data:image/png;base64,")


def test_the_parameters_add_up_to_those_of_the_network(run: Run) -> None:
    summary = model_summary(run.folder / "model")
    assert summary is not None
    network = run.model.network
    learned = (value for name, value in network.named_parameters() if "bank" not in name)
    expected = sum(value.numel() for value in learned)
    assert summary["trained"] == expected
    assert sum(part["trained"] for part in summary["parts"]) == expected
    assert summary["parts"][-1]["shape"] == "3"  # logits of three classes


def test_a_long_network_is_listed_by_its_blocks() -> None:
    stages = [nn.Sequential(*[nn.Linear(4, 4) for _ in range(9)]) for _ in range(5)]
    network = Network(Steps(stages), 2)
    parts = architecture.parts_of(network, (1, 2, 2), frozen=True)
    assert [part["name"] for part in parts] == [*(f"blocks.{k}" for k in range(5)), "head"]
    assert [part["frozen"] for part in parts] == [9 * 20] * 5 + [0]
    assert parts[-1]["trained"] == 10


class Steps(nn.Module):
    """A body whose layers lie in one container, as in large networks."""

    width = 4

    def __init__(self, stages: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(stages)
        self.last = nn.Flatten()

    def forward(self, images: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        vectors = images.flatten(1)
        for block in self.blocks:
            vectors = block(vectors)
        return (), vectors


@pytest.mark.parametrize(
    ("number", "shown"), [(1.0, "100"), (0.99999, "99.9"), (0.5, "50.0"), (0.0, "0.0")]
)
def test_percent_never_rounds_to_certainty(number: float, shown: str) -> None:
    assert text.percent(number) == shown


def test_a_difference_is_turned_around_with_its_interval() -> None:
    pair = {"metric": "accuracy", "difference": 0.05, "low": 0.03, "high": 0.06}
    assert text.difference(pair, flip=True) == "−5.0 points (−6.0 to −3.0)"
    assert text.difference(pair | {"low": None}, flip=True) == "difference undefined"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.912, 0.985), (3.0, 3.001), (-1.0, 25000)])
def test_ticks_are_few_and_within_the_limits(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 3 <= len(ticks) <= 7
    assert low - 1e-9 <= ticks[0] < ticks[-1] <= high + 1e-9


# In a real browser


CELL = 'document.querySelector("td.wrong[data-cell]")'
ENTER = 'new KeyboardEvent("keydown", {key: "Enter", bubbles: true})'


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_runs_without_error_request_or_sideways_scrolling(
    run: Run, tmp_path: Path, width: int
) -> None:
    dom = in_browser(run.report, tmp_path, width=width)
    images = [attributes for tag, attributes in dom.tags if tag == "img"]
    assert images
    assert all(str(attributes["src"]).startswith("data:image/") for attributes in images)


@pytest.mark.browser
@pytest.mark.parametrize("how", ["address", f"{CELL}.click()", f"{CELL}.dispatchEvent({ENTER})"])
def test_a_cell_opens_the_images_behind_it(run: Run, page: str, tmp_path: Path, how: str) -> None:
    cells = [a for tag, a in Page(page).tags if tag == "td" and a.get("class") == "wrong"]
    key = str(cells[0]["data-cell"])
    if how == "address":
        dom = in_browser(run.report, tmp_path, anchor=f"#cell-{key}")
    else:
        dom = in_browser(run.report, tmp_path, do=how)
    place, panel = next((i, a) for i, (tag, a) in enumerate(dom.tags) if tag == "dialog")
    assert "open" in panel
    cell = json.loads(Page(page).scripts[0])["cells"][key]
    assert sum(tag == "img" for tag, _ in dom.tags[place:]) == len(cell["images"])
    given, predicted = (HOSTILE_CLASSES[int(label)] for label in key.split("-"))
    assert f"given {given}, predicted {predicted}" in "".join(dom.words)


@pytest.mark.browser
def test_a_click_on_a_heading_sorts_the_classes(run: Run, tmp_path: Path) -> None:
    click = 'document.querySelectorAll("table.sortable th button")[1].click()'
    dom = in_browser(run.report, tmp_path, do=click)
    heads = [a for tag, a in dom.tags if tag == "th" and "aria-sort" in a]
    assert [head["aria-sort"] for head in heads] == ["ascending"]
    rows = run.results["rows"][0]["per_class"]
    values = [float(str(a["data-v"])) for tag, a in dom.tags if tag == "td" and "data-v" in a]
    columns = len(CLASS_COLUMNS) - 1
    assert values[: columns * len(rows) : columns] == sorted(row["n"] for row in rows)
