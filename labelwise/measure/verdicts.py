"""Which variant is better, which cannot be told apart, and which to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from labelwise.errors import DataError, OptionError
from labelwise.measure.evaluation import Rows, rank_resamples, rows_of
from labelwise.measure.intervals import (
    Interval,
    bca_limits,
    check_level,
    check_resamples,
    resample,
    resampled_weights,
    undefined,
    widened,
)
from labelwise.measure.metrics import METRICS, RANKED, check_metric, sample_values
from labelwise.measure.scoring import Floats, Scorer

Verdict = Literal["a better", "b better", "cannot tell"]

SURE = 0.05  # p of a verdict lies below it, at the usual level of 0.95


@dataclass(frozen=True)
class Pair:
    """Two variants on the same images.

    Attributes:
        a: the variant with the best value of the metric.
        b: another variant.
        metric: a key of METRICS.
        difference: a - b, in the metric's own units; NaN if undefined.
        low, high: confidence interval of the difference, not corrected for several pairs.
        p: Holm-corrected over the pairs of the same call.
        verdict: "a better", "b better" or "cannot tell".
    """

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    verdict: Verdict


def mcnemar(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """Exact two-sided p of 'both are right equally often', for paired right (True) and wrong.

    Only images on which they differ tell: under the hypothesis each favors either with chance
    one half. Source: McNemar (1947); Edwards (1948) for the exact binomial.
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    total = only_a + only_b
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), total, 0.5))) if total else 1.0


def bootstrap_p(difference: float, values: Floats) -> float:
    """Two-sided p of 'the difference is 0': how often chance alone moves it as far.

    Resampled differences scatter around the observed one as that scatters around the truth. So
    count those at least |difference| away from it: (1 + count) / (1 + B), never exactly 0.

    Source: Davison and Hinkley (1997), "Bootstrap Methods and their Application", section 4.
    """
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return 1.0
    far = np.abs(values - difference) >= abs(difference) - 1e-12
    return float((1 + far.sum()) / (1 + len(values)))


def holm(p: Sequence[float], questions: int | None = None) -> list[float]:
    """Corrected for asking several questions at once. Source: Holm (1979).

    Args:
        p: of the questions whose answers are looked at.
        questions: how many there are, where those in p are the only ones left of more.
    """
    questions = questions or len(p)
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (questions - place) * p[index]))
        corrected[index] = largest
    return [float(value) for value in corrected]


def _scorers(
    labels: npt.ArrayLike, probas: Mapping[str, npt.ArrayLike], metric: str
) -> dict[str, Scorer]:
    if not probas:
        raise DataError("there is no variant to compare; give the probabilities of at least one.")
    scorers = {name: Scorer(labels, proba) for name, proba in probas.items()}
    widths = {name: scorer.classes for name, scorer in scorers.items()}
    if len(set(widths.values())) > 1:
        raise DataError(f"variants have different numbers of classes: {widths}; expected the same.")
    check_metric(metric, next(iter(widths.values())))
    return scorers


def _best(values: Mapping[str, float], metric: str) -> str:
    """The variant with the best value; the first of equal ones."""
    sign = 1 if METRICS[metric].higher_is_better else -1
    defined = {name: sign * value for name, value in values.items() if not np.isnan(value)}
    return max(defined, key=lambda name: defined[name]) if defined else next(iter(values))


def verdicts(
    labels: npt.ArrayLike,
    probas: Mapping[str, npt.ArrayLike],
    *,
    metric: str = "accuracy",
    groups: npt.ArrayLike | None = None,
    images: npt.ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> list[Pair]:
    """Compare the best variant with each other one, on the same rows.

    `a` is always the variant with the best value (the first of equal ones). A verdict is given
    only if p, Holm-corrected over all M (M - 1) / 2 pairs of the M variants, is below 1 - level.

    p is McNemar's exact test for accuracy where every row is another image and group; otherwise,
    rows being dependent, and for every other metric, that of the paired bootstrap over groups.
    The interval is always that of the paired bootstrap (BCa). Interval and p can differ, and the
    verdict follows p: p is corrected for several pairs and the interval is not; McNemar's test is
    exact, and so cautious with few images; and BCa follows a skewed distribution where the
    bootstrap p looks at distance only.

    All pairs count, not only the M - 1 that are reported, because `a` was chosen as the best on the
    same images: any pair could have become one of the reported. Among two to ten equally good
    variants some false verdict is then given in 3 to 4 % of comparisons (simulated, McNemar); with
    M - 1 it would be 13 % for ten.

    Args:
        labels: int (N,), 0..K-1.
        probas: variant to float (N, K); all about the same rows.
        metric: a key of METRICS.
        groups, images: as in `evaluate`.
        seed: of the bootstrap.
        resamples: of the bootstrap; fewer for AUROC on large data, as in `evaluate`.
        level: coverage of the intervals; a verdict needs p below 1 - level.

    Returns:
        One Pair per variant but the best, in the order given; none for a single variant.

    Raises:
        DataError: no variant, or arrays that do not fit.
        OptionError: the metric is unknown, or level or resamples cannot be used.
    """
    check_level(level)
    check_resamples(resamples)
    scorers = _scorers(labels, probas, metric)
    one = next(iter(scorers.values()))
    rows = rows_of(one.rows, images, groups, one.labels)
    if metric in RANKED:
        resamples = rank_resamples(one.rows, one.classes * len(scorers), resamples)

    def statistic(weights: Floats) -> dict[Any, Floats]:
        return {
            name: sample_values(scorer.sample(weights), [metric])[metric]
            for name, scorer in scorers.items()
        }

    found = resample(statistic, rows.group, resamples=resamples, seed=seed)
    a = _best({name: found.point[name] for name in scorers}, metric)
    independent = int(rows.group.max()) + 1 == one.rows
    span = METRICS[metric].high - METRICS[metric].low
    raw: list[tuple[str, float, tuple[float, float], float]] = []
    for b in scorers:
        if b == a:
            continue
        difference = found.point[a] - found.point[b]
        values = found.values[a] - found.values[b]
        if np.isnan(difference):
            raw.append((b, difference, (np.nan, np.nan), 1.0))
            continue
        limits = bca_limits(
            difference, values, found.jackknife[a] - found.jackknife[b], level
        ) or widened(difference, found.groups, (-span, span), level)
        p = (
            mcnemar(scorers[a].correct, scorers[b].correct)
            if metric == "accuracy" and independent
            else bootstrap_p(difference, values)
        )
        raw.append((b, difference, limits, p))
    corrected = holm([p for *_, p in raw], len(scorers) * (len(scorers) - 1) // 2)
    sign = 1 if METRICS[metric].higher_is_better else -1
    return [
        Pair(a, b, metric, d, *limits, p, _verdict(sign * d, p, level))
        for (b, d, limits, _), p in zip(raw, corrected, strict=True)
    ]


def _verdict(advantage: float, p: float, level: float) -> Verdict:
    # 1 - 0.95 is a little above 0.05 in floating point; a p of exactly 0.05 is no verdict.
    if not p < round(1 - level, 12) or advantage == 0:
        return "cannot tell"
    return "a better" if advantage > 0 else "b better"


def recommend(
    pairs: Sequence[Pair], costs: Mapping[str, float], best: str, *, level: float = 0.95
) -> tuple[str, str]:
    """The cheapest variant that is not significantly worse than the best, and why.

    Args:
        pairs: of `verdicts`; variants that failed have none and cannot be recommended.
        costs: declared rank of each variant, lower is cheaper; others than those in pairs may be
            there. Of equally cheap ones the closest to the best is taken.
        best: the variant with the best value.
        level: that of `verdicts`, for the sentence.

    Returns:
        Its name, and a plain sentence.

    Raises:
        OptionError: a variant in question has no cost.

    >>> pair = Pair("cnn", "probe", "accuracy", 0.004, -0.012, 0.02, 0.7, "cannot tell")
    >>> recommend([pair], {"cnn": 3, "probe": 1}, "cnn")[0]
    'probe'
    """
    if not pairs:
        return best, f"'{best}' is recommended: it is the only variant with a result."
    near = {pair.b: pair for pair in pairs if pair.verdict != "a better"}
    missing = [name for name in (best, *near) if name not in costs]
    if missing:
        raise OptionError(
            f"variant '{missing[0]}' has no cost; give one for each of: {', '.join([best, *near])}"
        )

    def rank(name: str) -> tuple[float, float]:
        return costs[name], abs(near[name].difference) if name in near else -1.0

    chosen = min([best, *near], key=rank)
    label = METRICS[pairs[0].metric].label
    if chosen == best:
        if not near:
            rest = (
                f"'{pairs[0].b}' is significantly worse"
                if len(pairs) == 1
                else f"all {len(pairs)} others are significantly worse"
            )
            return best, f"'{best}' is recommended: it has the best {label}, and {rest}."
        names = ", ".join(f"'{name}'" for name in near)
        return best, (
            f"'{best}' is recommended: it has the best {label}, and what cannot be told apart "
            f"from it ({names}) is not cheaper."
        )
    pair = near[chosen]
    if np.isnan(pair.difference):
        known = f"their difference in {label} is undefined"
    else:
        known = f"{label} difference {_difference(pair, level)}"
    return chosen, (
        f"'{chosen}' is recommended: nothing tested is significantly better, and it is cheaper "
        f"than '{best}' ({known})."
    )


def _difference(pair: Pair, level: float) -> str:
    """The difference with its interval, in percentage points if the metric is a fraction."""
    points = METRICS[pair.metric].is_fraction
    scale, digits = (100, 1) if points else (1, 3)
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    value, low, high = (
        f"{round(scale * x, digits) + 0.0:.{digits}f}"
        for x in (pair.difference, pair.low, pair.high)
    )
    unit = " points" if points else ""
    return f"{value}{unit}, {100 * level:g} % interval {low} to {high}"


def corrected_for_selection(
    labels: npt.ArrayLike,
    probas: Mapping[str, npt.ArrayLike],
    *,
    metric: str = "accuracy",
    groups: npt.ArrayLike | None = None,
    images: npt.ArrayLike | None = None,
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """What to expect of the winner, corrected for its having been chosen on the same images.

    The best of several numbers is partly the luckiest. So repeat the choice: in each bootstrap
    resample of the groups take the variant that is best on the images drawn, and measure it on
    those not drawn. The value is the mean over resamples, the limits are their quantiles. About
    37 % of the groups are not drawn, so that the interval is about 1.4 times as wide as that of a
    single variant, and covers more than `level`.

    The value is never better than the winner's own: where few images carry much weight, as a rare
    class does in a macro average, the images not drawn lack them and would flatter. With one
    variant nothing was chosen, and its value stands.

    Raises:
        DataError, OptionError: as in `verdicts`.

    Source: Tsamardinos, Greasidou and Borboudakis (2018), "Bootstrapping the out-of-sample
    predictions for efficient and accurate cross-validation", Machine Learning 107 (BBC-CV).
    """
    check_level(level)
    check_resamples(resamples)
    scorers = _scorers(labels, probas, metric)
    one = next(iter(scorers.values()))
    rows = rows_of(one.rows, images, groups, one.labels)
    if metric in RANKED:
        resamples = rank_resamples(one.rows, 2 * one.classes * len(scorers), resamples)
    values = _chosen_and_measured(list(scorers.values()), rows, metric, seed, resamples)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return undefined(rows.n, "bbc-cv")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    value = float(values.mean())
    everything = np.ones((1, one.rows))
    own = [
        float(sample_values(s.sample(everything), [metric])[metric][0]) for s in scorers.values()
    ]
    value = min(value, max(own)) if METRICS[metric].higher_is_better else max(value, min(own))
    if np.ptp(values) <= 1e-12:
        bounds = METRICS[metric].low, METRICS[metric].high
        low, high = widened(value, int(rows.group.max()) + 1, bounds, level)
    return Interval(value, float(min(low, value)), float(max(high, value)), rows.n, "bbc-cv")


def _chosen_and_measured(
    scorers: list[Scorer], rows: Rows, metric: str, seed: int, resamples: int
) -> Floats:
    """Out-of-bag value of the variant chosen in the bag, (B,); NaN if there is none."""
    sign = 1 if METRICS[metric].higher_is_better else -1
    size = int(rows.group.max()) + 1

    def measure(weights: Floats) -> Floats:
        parts = [sample_values(scorer.sample(weights), [metric])[metric] for scorer in scorers]
        return np.stack(parts, axis=-1)  # (b, variants)

    out = []
    for drawn in resampled_weights(size, resamples, seed, scorers[0].rows):
        inside = sign * measure(drawn[:, rows.group])
        outside = measure((drawn[:, rows.group] == 0).astype(np.float64))
        chosen = np.where(np.isnan(inside), -np.inf, inside).argmax(axis=-1)
        out.append(outside[np.arange(len(chosen)), chosen])
    return np.concatenate(out)
