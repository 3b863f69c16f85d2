"""The charts of the report: intervals beside the table, learning curves, labels against quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from labelwise.measure.metrics import METRICS
from labelwise.report import text
from labelwise.report.svg import Scale, element, padded, path, picture, short

BAR_WIDTH, BAR_HEIGHT = 240.0, 30.0
COLORS = 8  # classes c0..c7 of the style sheet; after that they begin again, dashed
LEFT, RIGHT, TOP, BOTTOM = 40.0, 14.0, 28.0, 34.0  # around the lines of a chart

Points = Sequence[tuple[float, float]]


def interval_scale(rows: Sequence[Mapping[str, Any]], metric: str) -> Scale | None:
    """One axis for the held-out, train and test values of some leaderboard rows."""
    values: list[float] = []
    for row in rows:
        for part in (row["metrics"], row["test"]):
            number = (part or {}).get(metric) or {}
            values += [
                number[key] for key in ("value", "low", "high") if number.get(key) is not None
            ]
        train = (row["train"] or {}).get(metric)
        values += [] if train is None else [train]
    if not values:
        return None
    low, high = padded(values, (METRICS[metric].low, METRICS[metric].high))
    return Scale(low, high, 8.0, BAR_WIDTH - 8)


def interval_axis(scale: Scale, metric: str) -> Markup:
    """The tick labels above a group of interval bars."""
    factor = 100 if METRICS[metric].is_fraction else 1
    labels = [
        element("text", short(factor * tick), x=scale(tick), y=14.0, class_="tick middle")
        for tick in scale.ticks
    ]
    return _bar("axis in percent" if factor == 100 else "axis", labels, height=20.0)


def interval_bar(row: Mapping[str, Any], metric: str, scale: Scale) -> Markup:
    """Held-out value (dot, whisker), test value (diamond, whisker) and train value (a stroke)."""
    held = (row["metrics"] or {}).get(metric) or {}
    test = (row["test"] or {}).get(metric) or {}
    train = (row["train"] or {}).get(metric)
    parts = [
        element("line", x1=scale(t), x2=scale(t), y1=0.0, y2=BAR_HEIGHT, class_="grid")
        for t in scale.ticks
    ]
    spoken = []
    middle = 10.0 if test.get("value") is not None else BAR_HEIGHT / 2
    if train is not None:
        spoken.append(f"train {text.value(train, metric)}")
        x = scale(train)
        parts.append(
            element(
                "line",
                element("title", spoken[-1]),
                x1=x, x2=x, y1=middle - 6, y2=middle + 6,
                class_="train",
            )
        )  # fmt: skip
    for name, number, y in (("held-out", held, middle), ("test", test, 22.0)):
        if number.get("value") is None:
            continue
        title = f"{name} {text.value(number['value'], metric)}"
        if number.get("low") is not None:
            title += f", 95 % interval {text.interval(number, metric)}"
            ends = (scale(number["low"]), y), (scale(number["high"]), y)
            parts.append(element("path", d=path(ends), class_=f"whisker {name}"))
        spoken.append(title)
        parts.append(_mark(name, scale(number["value"]), y, title))
    return _bar(", ".join(spoken), parts)


def _mark(name: str, x: float, y: float, title: str) -> Markup:
    if name == "held-out":
        return element("circle", element("title", title), cx=x, cy=y, r=4.5, class_="dot held-out")
    corners = path([(x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y)]) + "Z"
    return element("path", element("title", title), d=corners, class_="dot test")


def _bar(label: str, parts: Sequence[Markup], height: float = BAR_HEIGHT) -> Markup:
    return element(
        "svg", *parts,
        viewBox=f"0 0 {BAR_WIDTH:g} {height:g}", width=BAR_WIDTH, height=height,
        role="img", aria_label=label,
    )  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A line of a chart: its points, and what is drawn thin or as whiskers around it."""

    name: str
    color: int
    points: Points
    thin: Sequence[Points] = ()  # one line per fold
    intervals: Sequence[tuple[float, float] | None] = ()  # a whisker per point


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    x_log: bool = False,
    x_ticks: Sequence[float] | None = None,
    percent: bool = False,
    limits: tuple[float, float] = (0.0, float("inf")),
    size: tuple[float, float] = (340.0, 220.0),
    bare: bool = False,
    room: Sequence[float] = (),
) -> Markup:
    """Lines over one axis, with a title, a grid and tooltips.

    Args:
        percent: values are fractions, shown as percent.
        limits: what the values can be at all.
        bare: no dots; the picture says its axes and each path its line, for a script to redraw.
        room: further values that the axis has to reach.
    """
    width, height = size
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for part in (line.points, *line.thin) for _, y in part]
    ys += [limit for line in lines for pair in line.intervals if pair for limit in pair]
    x = Scale(min(xs), max(xs), LEFT, width - RIGHT, log=x_log)
    y = Scale(*padded([*ys, *room], limits), height - BOTTOM, TOP)
    factor = 100 if percent else 1
    ticks = [(tick, short(tick)) for tick in x_ticks or _x_ticks(x, xs)]
    parts = frame(title, x, y, ticks, factor=factor, x_label=x_label)
    for line in lines:
        parts += _named(line, x, y) if bare else _drawn(line, x, y, factor)
    axes = {"data_x": _said(x), "data_y": _said(y)} if bare else {}
    return picture(width, height, title, parts, **axes)


def frame(
    title: str,
    x: Scale,
    y: Scale,
    x_ticks: Sequence[tuple[float, str]],
    *,
    factor: float,
    x_label: str,
) -> list[Markup]:
    """What stands around the lines of a chart: its title, a grid and the labels of both axes."""
    bottom = y.start
    parts = [element("text", title, x=x.start, y=14.0, class_="title")]
    for tick in y.ticks:
        at = y(tick)
        parts.append(element("line", x1=x.start, x2=x.end, y1=at, y2=at, class_="grid"))
        label = short(factor * tick)
        parts.append(element("text", label, x=x.start - 6, y=at + 4, class_="tick end"))
    for tick, label in x_ticks:
        parts.append(element("text", label, x=x(tick), y=bottom + 16, class_="tick middle"))
    center = (x.start + x.end) / 2
    parts.append(element("text", x_label, x=center, y=bottom + BOTTOM - 3, class_="tick middle"))
    return parts


def _said(scale: Scale) -> str:
    """A linear scale for a script: lowest and highest value, and where they are."""
    return f"{scale.low:.6g} {scale.high:.6g} {scale.start:g} {scale.end:g}"


def _x_ticks(scale: Scale, xs: Sequence[float]) -> list[float]:
    """Round values; whole ones where the axis counts epochs."""
    ticks = scale.ticks
    whole = all(float(value).is_integer() for value in xs)
    return [tick for tick in ticks if float(tick).is_integer()] if whole else ticks


def _capped(x: float, y: Scale, limits: tuple[float, float]) -> str:
    """A vertical whisker with a short stroke at either end."""
    low, high = y(limits[0]), y(limits[1])
    ends = (path([(x - 4, at), (x + 4, at)]) for at in (low, high))
    return path([(x, low), (x, high)]) + "".join(ends)


def _named(line: Line, x: Scale, y: Scale) -> list[Markup]:
    """The paths of a line, each with the line's name and, of one fold, its place."""

    def drawn(points: Points, fold: int | None) -> Markup:
        # A single epoch is no line; two equal points are a dot with round ends.
        ends = points if len(points) > 1 else [*points, *points]
        return element(
            "path", element("title", line.name),
            d=path([(x(a), y(b)) for a, b in ends]),
            class_=f"line {'' if fold is None else 'thin '}c{line.color}",
            data_line=line.name, data_fold=fold,
        )  # fmt: skip

    thin = [drawn(points, fold) for fold, points in enumerate(line.thin)]
    return [*thin, drawn(line.points, None)]


def _drawn(line: Line, x: Scale, y: Scale, factor: float) -> list[Markup]:
    color = f"c{line.color % COLORS}{' dashed' if line.color >= COLORS else ''}"

    def at(points: Points) -> list[tuple[float, float]]:
        return [(x(a), y(b)) for a, b in points]

    parts = [
        element("path", d=path(at(part)), class_=f"line thin {color}")
        for part in line.thin
        if len(part) > 1
    ]
    if len(line.points) > 1:
        parts.append(element("path", d=path(at(line.points)), class_=f"line {color}"))
    for place, (a, b) in enumerate(line.points):
        limits = line.intervals[place] if line.intervals else None
        unit = " %" if factor == 100 else ""
        title = f"{line.name}: {short(factor * b)}{unit} at {short(a)}"
        if limits is not None:
            parts.append(element("path", d=_capped(x(a), y, limits), class_=f"whisker {color}"))
            title += f" ({short(factor * limits[0])} to {short(factor * limits[1])})"
        parts.append(
            element(
                "circle", element("title", title), cx=x(a), cy=y(b),
                r=3.5 if line.intervals else 2.5, class_=f"dot {color}",
            )
        )  # fmt: skip
    return parts
