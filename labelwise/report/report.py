"""The report of a run: one page that opens offline, with every number, chart and image inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labelwise.data.dataset import Dataset
from labelwise.files import write_text
from labelwise.report import (
    confusion,
    data_section,
    epochs,
    looks,
    nearness,
    pseudo,
    reconstructions,
    repeat,
    results,
    roc,
    text,
    trust,
    twins,
    worth,
)
from labelwise.report.architecture import model_summary
from labelwise.report.curves import efficiency, learning_curves
from labelwise.report.run_folder import RunFolder
from labelwise.report.template import inlined, templates
from labelwise.report.thumbnails import Album

SCRIPTS = ("roc.js", "epochs.js", "report.js")  # the last one says that the page is ready
SUSPECTS = 50  # lines in the table of labels that look wrong
MOST_CELLS, MOST_LISTED = 2_000, 6_000  # of the confusion matrix with images behind them

CLASS_COLUMNS = (
    ("class", ""),
    ("n", "labeled images judged"),
    ("precision", "of the images taken for the class, how many are"),
    ("recall", "of the images of the class, how many were found"),
    ("F1", "harmonic mean of precision and recall"),
    ("specificity", "of all other images, how many were not taken for the class"),
    ("fall-out", "of all other images, how many were taken for the class"),
    ("TP", "true positives"),
    ("FP", "false positives"),
    ("FN", "false negatives"),
    ("TN", "true negatives"),
)

ROC_COLUMNS = (
    ("class", ""),
    ("n", "labeled images judged"),
    (
        "AUROC",
        "area under the ROC curve: chance that an image of the class is ranked above another",
    ),
    ("AUROC, test", "the same of the test part"),
    ("average precision", "area under the steps of precision over recall"),
    ("average precision, test", "the same of the test part"),
    ("guessing", "average precision of guessing: the share of the class"),
)
COUNT_COLUMNS = (
    "class", "TP", "FP", "FN", "TN", "precision", "recall", "F1", "specificity", "fall-out"
)  # fmt: skip


def write_report(folder: Path, dataset: Dataset) -> Path:
    """Write RUN/report.html from the files of a run; the same files give the same page.

    Args:
        folder: of the run; leaderboard.json and model/ must be there.
        dataset: the data of the run, for thumbnails.
    """
    file = folder / "report.html"
    write_text(file, render(RunFolder(folder), dataset))
    return file


def render(run: RunFolder, dataset: Dataset) -> str:
    """The page as text."""
    album = Album(dataset)
    names = tuple(text.plain(name) for name in dataset.class_names)
    row = run.judged
    found = None if row is None else run.predictions(row)
    mistakes = None if found is None else confusion.mistakes(found)
    cells = {} if found is None else confusion.cells(found)
    counts = [] if row is None else row["confusion"]
    sealed = run.table.query("split == 'test'")["id"].to_numpy()
    samples = data_section.samples(dataset, sealed, run.record["settings"]["seed"])
    duplicates = data_section.duplicates(dataset, sealed)
    guesses = pseudo.section(run, names)
    # What stands on the page comes first, what waits behind the matrix after it.
    album.add(entry[0] for entry in mistakes or [])
    album.add(item["row"] for block in guesses for item in block["sample"])
    album.add(image for sample in samples for image in sample["rows"])
    album.add(image for group in duplicates["groups"] for image in group["rows"])
    shown = _listed(cells, counts)
    album.add(confusion.by_importance(shown))
    images = album.embed()
    tested = None if row is None else run.test_predictions(row)
    over_epochs = epochs.section(run, names)
    paths = {row: text.path(dataset.table["path"].iat[row]) for row in album.rows}

    values: dict[str, Any] = {
        "title": text.plain(Path(run.record["data"]["name"]).name),
        "head": results.headline(run),
        "labeled": bool(names),
        "groups": results.leaderboard(run),
        "any_test": any(row["test"] for row in run.rows),
        "left_out": run.record["plan"]["left_out"],
        "compared": bool(run.leaderboard["pairs"]),
        "context": [text.plain(sentence) for sentence in run.record["data"]["context"]],
        "repeats": run.repeats,
        "twins": twins.section(run),
        "nearness": nearness.section(run),
        "nearness_columns": nearness.COLUMNS,
        "efficiency": efficiency(run),
        "savings": worth.savings(run),
        "seeds": worth.seeds(run),
        "pseudo": guesses,
        "matrix": confusion.matrix(counts, names) if counts else None,
        "test_matrix": None if tested is None else confusion.matrix(tested.confusion, names),
        "pairs": confusion.pairs(counts, names),
        "trust": trust.section(run, dataset),
        "looks": looks.section(run, dataset),
        "per_class": results.per_class(run),
        "class_columns": CLASS_COLUMNS,
        "roc": roc.section(run, dataset, found),
        "roc_columns": ROC_COLUMNS,
        "epochs": over_epochs,
        "count_columns": COUNT_COLUMNS,
        "class_names": names,
        "class_count": len(names),
        "notes": [] if row is None else [text.plain(note) for note in row["notes"]],
        "overall": results.overall(run),
        "mistakes": mistakes,
        "suspects": _suspects(run),
        "suspects_total": len(run.suspects),
        "samples": samples,
        "curves": learning_curves(run),
        "reconstructions": reconstructions.section(run),
        "model": model_summary(run.folder / "model"),
        "decisions": data_section.decisions(run.table),
        "duplicates": duplicates,
        "protocol": repeat.protocol(run),
        "spread": results.spread(run),
        "repeat": repeat.facts(run),
        "paths": paths,
        "not_embedded": len(paths) - len(images),
        "embedded": {
            "images": images,
            "paths": {str(row): path for row, path in paths.items()},
            "classes": names,
            "epochs": over_epochs["embedded"] if over_epochs else None,
            "cells": {
                f"{label}-{predicted}": {
                    "count": counts[label][predicted],
                    "images": [[image, p] for image, _, _, p in entries],
                }
                for (label, predicted), entries in shown.items()
            },
        },
    }
    style = inlined("report", "report.css", "explain.css")
    values |= {"style": style, "script": inlined("report", *SCRIPTS)}
    page = templates("report").get_template("report.html")
    return page.render(**values, sections=_sections(values))


def _listed(
    cells: dict[tuple[int, int], list[confusion.Entry]], counts: list[list[int]]
) -> dict[tuple[int, int], list[confusion.Entry]]:
    """The cells whose images the page can show: all of them, unless there are very many."""
    ranked = sorted(cells, key=lambda key: (key[0] == key[1], -counts[key[0]][key[1]], key))
    each = MOST_LISTED // max(min(len(ranked), MOST_CELLS), 1)
    return {key: cells[key][:each] for key in ranked[:MOST_CELLS]}


def _suspects(run: RunFolder) -> list[dict[str, str]]:
    first = run.suspects.head(SUSPECTS)
    return [
        {
            "path": text.path(row.path),
            "label": text.plain(row.label),
            "proposed": text.plain(row.proposed),
            "score": f"{row.score:.3f}",
        }
        for row in first.itertuples()
    ]


def _sections(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Anchor and name of every section that is on the page, for the bar at the top."""
    every = (
        ("result", "Result", True),
        ("leaderboard", "Leaderboard", values["labeled"]),
        ("twins", "Twins", values["twins"]),
        ("nearness", "Embedding", values["nearness"]),
        ("labels", "Labels", values["efficiency"]),
        ("pseudo", "Pseudo-labels", values["pseudo"]),
        ("confusion", "Confusion", values["matrix"] or values["pairs"]),
        ("classes", "Classes", values["per_class"]),
        ("roc", "ROC", values["roc"]),
        ("trust", "Trust", values["trust"]),
        ("looks", "Looks", values["looks"]),
        ("mistakes", "Mistakes", values["mistakes"] is not None),
        ("images", "Images", True),
        ("curves", "Curves", values["curves"]),
        ("epochs", "Epochs", values["epochs"]),
        ("model", "Model", values["model"]),
        ("reconstructions", "Reconstructions", values["reconstructions"]),
        ("files", "Files", True),
        ("protocol", "Protocol", values["labeled"]),
        ("repeat", "Repeat", True),
    )
    return [(anchor, name) for anchor, name, there in every if there]
