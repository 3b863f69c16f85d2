"""Tables for a terminal. Names from files are shown as they are: never as markup."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from labelwise.errors import OptionError
from labelwise.files import write_parquet, write_text
from labelwise.measure import METRICS, interval_json
from labelwise.model import OK
from labelwise.recipe.variants import value_text
from labelwise.report.text import chance, difference, percent, plain
from labelwise.use import Detection, EmbeddingJudgement, Judgement

BEST_TRIALS = 10  # rows of a search's table
FORMATS = ("table", "csv", "json", "parquet")


def leaderboard_table(results: Mapping[str, Any]) -> RenderableType:
    """The rows of leaderboard.json with the metric the run compares by; the chosen one starred.

    Columns that would say nothing, the labels where all rows have the same and a test part that is
    not there, are left out: names get the room.
    """
    metric = results["metric"]
    chosen = (results["recommended"], results["recommended_labels"])
    lines, failed = [], []
    for row in results["rows"]:
        value = (row["metrics"] or {}).get(metric)
        test = (row["test"] or {}).get(metric)
        lines.append(
            {
                "": "*" if (row["variant"], row["labels"]) == chosen else "",
                "variant": row["variant"],
                "labels": row["labels"].replace("-per-class", "/class"),
                METRICS[metric].label: number(metric, value["value"])
                if value
                else ("failed" if row["reason"] else "not judged"),
                "95 % interval": interval(metric, value),
                "train": number(metric, (row["train"] or {}).get(metric)),
                "test": number(metric, test["value"]) if test else "",
                "s/fit": "" if row["fit_seconds"] is None else f"{row['fit_seconds']:.1f}",
            }
        )
        if row["reason"]:
            failed.append(_text(f"{row['variant']}, {row['labels']} labels: {row['reason']}"))
    silent = {"test"} if not any(line["test"] for line in lines) else set()
    silent |= {"labels"} if len({line["labels"] for line in lines}) == 1 else set()
    table = _table()
    columns = [column for column in next(iter(lines), {}) if column not in silent]
    for column in columns:
        if column == "variant":  # where there is no room for all, names take several lines
            table.add_column(column, overflow="fold", min_width=8)
        else:
            table.add_column(column, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*(_text(line[column]) for column in columns))
    return Group(table, *failed, *map(_text, _twins(results)))


def _twins(results: Mapping[str, Any]) -> list[str]:
    """What set every variant apart from its twin, and what that was worth, a line each."""
    return [
        f"{pair['a']} against {pair['b']}, {pair['labels']} labels: "
        f"{difference(pair, flip=False)}{chance(pair['p'])}, for {pair['gain']}"
        for pair in results["pairs"]
        if pair["gain"]
    ]


def tuning_table(trials: pd.DataFrame, results: Mapping[str, Any]) -> RenderableType:
    """The best completed trials of a search, trial 0 (the recipe as given), and what became of all.

    Args:
        trials: trials.parquet.
        results: tuning.json.
    """
    metric = results["metric"]
    done = trials[trials["state"] == "complete"].sort_values(
        [metric, "tempered_log_loss", "number"],
        ascending=[not METRICS[metric].higher_is_better, True, True],
    )
    table = _table()
    for column in ("trial", METRICS[metric].label, "log loss", "s", "variant"):
        left = column == "variant"
        table.add_column(column, justify="left" if left else "right", no_wrap=not left)
    shown = done.head(BEST_TRIALS)
    for row in pd.concat(
        [shown, done[done["number"] == 0].drop(shown.index, errors="ignore")]
    ).to_dict("records"):
        star = "*" if row["number"] == results["number"] else " "
        cells = (
            f"{star} {row['number']}",
            number(metric, row[metric]),
            f"{row['tempered_log_loss']:.3f}",
            f"{row['seconds']:.1f}",
            row["variant"],
        )
        table.add_row(*map(_text, cells))
    states = ", ".join(f"{count} {state}" for state, count in results["states"].items())
    return Group(table, _text(f"{len(trials)} trials: {states}; trial 0 is the recipe as given"))


def judgement_table(judged: Judgement) -> RenderableType:
    """Metrics and per-class recall of `evaluate`."""
    table = _table()
    for column in ("metric", "value", "95 % interval"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    values = judged.evaluation.to_json()
    for name, value in values["metrics"].items():
        table.add_row(METRICS[name].label, number(name, value["value"]), interval(name, value))
    classes = _table()
    for column in ("class", "images", "precision", "recall", "F1"):
        classes.add_column(column, justify="left" if column == "class" else "right")
    for result in values["per_class"]:
        shown = (
            number("accuracy", result[name]["value"]) for name in ("precision", "recall", "f1")
        )
        classes.add_row(_text(result["name"]), str(result["n"]), *shown)
    notes = [_text(f"note: {note}") for note in (*judged.warnings, *values["notes"])]
    if judged.unknown is not None:
        notes = [_text(line) for line in _unknown_lines(judged.unknown)] + notes
    return Group(_text(f"{judged.data.name}: {values['n']} labeled images"), table, classes, *notes)


def _unknown_lines(found: Detection) -> list[str]:
    names = {"auroc": "AUROC", "fpr@95": "false-positive rate at 95 %"}
    values = {name: interval_json(value) for name, value in found.metrics.items()}
    lines = [f"{found.data.name}: {found.count} images of no class of the model"]
    for name, value in values.items():
        shown = number("accuracy", value["value"])
        lines.append(f"  {names[name]}: {shown} ({interval('accuracy', value)})")
    if found.answered is not None:
        known, unknown = (number("accuracy", found.answered[n]) for n in ("known", "unknown"))
        lines.append(f"  called unknown: {unknown} of them, and {known} of the known ones")
    return lines


def nearness_table(judged: EmbeddingJudgement) -> RenderableType:
    """What `judge` says of an embedding and its floors."""
    table = _table()
    for column in ("classes", "by", "images", "nearest", "mean", "MAP@R"):
        left = column in ("classes", "by")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for row in judged.rows:
        values = row.to_json()["metrics"]
        cells = [row.part, row.vectors, str(row.count)]
        if values:
            names = ("recall@1", "prototype_accuracy", "map@r")
            shown = [number("accuracy", values[name]["value"]).removesuffix(" %") for name in names]
            low_high = interval("accuracy", values["map@r"]).removesuffix(" %")
            cells += [*shown[:2], f"{shown[2]} ({low_high})"]
        table.add_row(*map(_text, cells))
    said = (
        "percent: whether the nearest image and the nearest class mean are right, and MAP@R with "
        "its 95 % interval; --json has every number with its interval"
    )
    notes = [_text(f"note: {note}") for note in judged.warnings]
    return Group(table, _text(said), *notes)


def recipes_table(found: list[dict[str, Any]]) -> RenderableType:
    """What `recipes` returns: a list, or one recipe with its fields."""
    if "fields" not in found[0]:
        table = _table()
        for column in ("recipe", "regime", "uses unlabeled"):
            table.add_column(column)
        for recipe in found:
            table.add_row(
                recipe["name"], recipe["regime"], "yes" if recipe["uses_unlabeled"] else "no"
            )
        return Group(table, Text("One of them: labelwise recipes NAME"))
    (recipe,) = found
    table = _table()
    for column in ("field", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for item in recipe["fields"]:
        table.add_row(Text(item["name"]), Text(item["text"]), Text(item["meaning"]))
    presets = {
        name: ", ".join(f"{k}={value_text(v)}" for k, v in values.items())
        for name, values in recipe.get("presets", {}).items()
    }
    searched = {name: text for item in recipe["fields"] for name, text in item["search"].items()}
    return Group(
        Text("\n\n".join(" ".join(p.split()) for p in recipe["description"].split("\n\n"))),
        table,
        *_listed("Presets (fields they set):", presets),
        *_listed("Searched by labelwise tune, unless they are given:", searched),
    )


def _listed(title: str, items: Mapping[str, str]) -> list[Text]:
    """A title and a line each; nothing without items."""
    lines = [Text(f"  {name}: {text}") for name, text in items.items()]
    return [Text(title), *lines] if lines else []


def doctor_table(found: Mapping[str, Any]) -> RenderableType:
    """What `doctor` found, a line each."""
    table = _table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in found.items():
        if isinstance(value, Mapping):
            value = "\n".join(f"{key}: {item}" for key, item in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        table.add_row(Text(name), Text(str(value)))
    return table


def check_format(name: str, out: Path | None) -> None:
    """Refuse an unknown format, or one that cannot be printed, before any work is done."""
    if name not in FORMATS:
        raise OptionError(f"--format {name!r}: choose from {', '.join(FORMATS)}.")
    if out is not None and out.is_dir():
        raise OptionError(f"--out {out}: this is a folder. Give the name of a file.")
    if name == "parquet" and out is None:
        raise OptionError("--format parquet is not for a terminal: add --out FILE.")


def print_answers(
    answers: pd.DataFrame,
    name: str,
    out: Path | None,
    table: Callable[[pd.DataFrame], RenderableType],
) -> None:
    """Answers in a format, to a file or to stdout.

    Args:
        table: the answers as people read them.
    """
    if name == "parquet":
        assert out is not None
        write_parquet(out, answers)
        return
    text = {
        "csv": lambda: _flat(answers).to_csv(index=False),
        "json": lambda: answers.to_json(orient="records", indent=1, force_ascii=False) + "\n",
        "table": lambda: _aligned(table(answers)),
    }[name]()
    if out is None:
        sys.stdout.write(text)
    else:
        write_text(out, text)


def _flat(answers: pd.DataFrame) -> pd.DataFrame:
    """Lists as JSON, so that names may hold any character."""
    lists = answers.map(lambda value: isinstance(value, list)).any()
    return answers.assign(
        **{
            name: answers[name].map(partial(json.dumps, ensure_ascii=False), na_action="ignore")
            for name in answers.columns[lists]
        }
    )


def number(metric: str, value: float | None) -> str:
    """A metric's value as people read it: fractions in percent."""
    if value is None:
        return ""
    return f"{percent(value)} %" if METRICS[metric].is_fraction else f"{value:.3f}"


def interval(metric: str, value: Mapping[str, float | None] | None) -> str:
    """Low to high, or nothing where there is none."""
    if value is None or value["low"] is None or value["high"] is None:
        return ""
    low, high = number(metric, value["low"]), number(metric, value["high"])
    return f"{low.removesuffix(' %')} to {high}"


def _text(value: object) -> Text:
    """Text as it is: no markup, and nothing that could steer a terminal."""
    return Text(plain(value))


def _table(**options: Any) -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, **options)


def predictions_table(answers: pd.DataFrame) -> RenderableType:
    """What `predict` returns."""
    table = _table()
    any_set = answers["set"].notna().any()
    for column in ("path", "label", "probability", *(["set"] if any_set else []), "status"):
        table.add_column(column, overflow="fold")
    for row in answers.to_dict("records"):
        answered = row["status"] == OK
        probability = f"{percent(row['probability'])} %" if answered else ""
        label = row["label"] if answered else ""
        inside = ", ".join(row["set"]) or "none" if isinstance(row["set"], list) else ""
        sets = [_text(inside)] if any_set else []
        table.add_row(_text(row["path"]), _text(label), probability, *sets, _text(row["status"]))
    return table


def likeness_table(found: pd.DataFrame) -> RenderableType:
    """What `similar` returns for one query."""
    table = _table()
    for column in ("rank", "path", "label", "similarity"):
        left = column in ("path", "label")
        table.add_column(column, justify="left" if left else "right", overflow="fold")
    for row in found.to_dict("records"):
        label = "" if pd.isna(row["label"]) else row["label"]
        cells = (row["rank"], row["path"], label, f"{row['similarity']:.3f}")
        table.add_row(*map(_text, cells))
    return table


def _aligned(table: RenderableType) -> str:
    from io import StringIO

    from rich.console import Console

    buffer = StringIO()
    width = Console(file=sys.stdout).width
    Console(file=buffer, width=width, highlight=False).print(table)
    return buffer.getvalue()
