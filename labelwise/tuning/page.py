"""The page of a search: how it went, and where in each range the good trials lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from labelwise.files import write_text
from labelwise.measure.metrics import METRICS
from labelwise.report.charts import Line, chart
from labelwise.report.svg import element
from labelwise.report.template import inlined
from labelwise.report.text import plain, value
from labelwise.tuning.halving import COMPLETE
from labelwise.tuning.records import Record, ranked

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
LISTED = 20  # complete trials in the table


def write_page(
    folder: Path,
    results: Mapping[str, Any],
    records: Sequence[Record],
    record: Mapping[str, Any],
) -> None:
    """Write RUN/report.html; it opens offline and has no script.

    Args:
        results: tuning.json.
        record: run.json.
    """
    name = plain(Path(record["data"]["name"]).name)
    metric = results["metric"]
    found = value(results["value"], metric)
    body = element(
        "main",
        element("h1", f"{name}: search over {record['recipe']['name']}"),
        element("p", f"{METRICS[metric].label} {found} in {len(records)} trials.", class_="why"),
        element("pre", plain(results["variant"])),
        element("p", results["caution"], class_="lead"),
        element("pre", plain(results["next"])),
        element(
            "section",
            element("h2", "Trials"),
            element("div", _over_trials(records, metric), class_="wide-chart"),
            element("div", *_over_ranges(records), class_="charts"),
        ),
        element("section", element("h2", "Completed"), _table(records, metric)),
    )
    style = inlined("report", "report.css")
    head = element(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        element("title", f"labelwise: {name}"),
        element("style", style),
    )
    page = element("html", head, element("body", body), lang="en")
    write_text(folder / "report.html", f"<!doctype html>\n{page}\n")


def _over_trials(records: Sequence[Record], metric: str) -> Markup:
    """The metric of completed trials, and the best so far."""
    done = [r for r in records if r.outcome.state == COMPLETE]
    best = []
    for number, record in enumerate(records):
        if leading := ranked(records[: number + 1], metric):
            best.append((float(record.number), float(leading[0].outcome.value or 0.0)))
    dots = [_dot(r, float(r.number), float(r.outcome.value or 0.0), 1) for r in done]
    return chart(
        f"{METRICS[metric].label} of completed trials, and the best so far",
        [Line("best so far", 0, best), *dots],
        x_label="trial",
        percent=METRICS[metric].is_fraction,
        size=(680.0, 240.0),
    )


def _over_ranges(records: Sequence[Record]) -> list[Markup]:
    """Log loss at the first rung, which nearly every trial reached, over each range of numbers."""
    names = dict.fromkeys(name for record in records for name in record.values)
    charts = []
    for name in names:
        seen = [r for r in records if name in r.values and r.outcome.rungs]
        numbers = [_number(r.values[name]) for r in seen]
        if len(set(numbers)) < 2 or None in numbers:
            continue
        dots = [
            _dot(r, x, r.outcome.rungs[0], 2)
            for r, x in zip(seen, numbers, strict=True)
            if x is not None
        ]
        log = all(x is not None and x > 0 for x in numbers)
        charts.append(chart("log loss at the first rung", dots, x_label=name, x_log=log))
    return charts


def _dot(record: Record, x: float, y: float, color: int) -> Line:
    return Line(f"trial {record.number}", color, [(x, y)])


def _number(found: Any) -> float | None:
    try:
        return float(found)
    except ValueError:
        return None


def _table(records: Sequence[Record], metric: str) -> Markup:
    rows = [
        element(
            "tr",
            element("td", str(r.number), class_="num"),
            element("td", value(r.outcome.value, metric), class_="num"),
            element("td", f"{r.seconds:.1f}", class_="num"),
            element("td", element("code", plain(r.variant))),
        )
        for r in ranked(records, metric)[:LISTED]
    ]
    names = ("trial", METRICS[metric].label, "seconds", "variant")
    header = element("tr", *(element("th", name) for name in names))
    return element("table", element("thead", header), element("tbody", *rows))
