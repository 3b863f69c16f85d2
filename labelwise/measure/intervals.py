"""How sure a number is: Wilson's interval for counts, the BCa bootstrap for everything else."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from labelwise.errors import DataError, OptionError
from labelwise.measure.scoring import Floats

Statistic = Callable[[Floats], Any]

CHUNK = 250_000  # weights in memory at once (2 MB): what fits the cache is fastest
BLOCKS = 200  # at most so many values for the acceleration


@dataclass(frozen=True)
class Interval:
    """A number and where its true value lies, by a confidence interval.

    Attributes:
        value: the estimate; NaN if undefined, then low and high are NaN as well.
        low, high: the limits; they always include the value.
        n: distinct images it rests on.
        method: "wilson", "bca", "widened" (see `bca`), "gaps" (see `calibration_limits`) or
            "bbc-cv" (see `corrected_for_selection`).
    """

    value: float
    low: float
    high: float
    n: int
    method: str


def undefined(n: int, method: str) -> Interval:
    """An interval for a number that does not exist."""
    return Interval(np.nan, np.nan, np.nan, n, method)


def check_level(level: float) -> float:
    """The level, if it is one."""
    if not 0 < level < 1:
        raise OptionError(f"level is {level}; expected a fraction between 0 and 1, such as 0.95.")
    return level


def check_resamples(resamples: int) -> int:
    """The number of resamples, if it is enough."""
    if resamples < 2:
        raise OptionError(f"resamples is {resamples}; expected 2 or more, such as 1000.")
    return resamples


def wilson(
    successes: float, n: int, level: float = 0.95, *, effective: float | None = None
) -> Interval:
    """Interval of a fraction: `successes` out of `n` images.

    Args:
        successes: how many, 0..n; a mean over repeats need not be a whole number.
        n: distinct images; 0 gives an undefined interval.
        level: coverage asked for.
        effective: how many independent images the n are worth, if fewer (see `effective_n`).

    Raises:
        OptionError: level is not in (0, 1), or successes are not in 0..n.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".

    >>> found = wilson(9, 10)
    >>> round(found.low, 3), round(found.high, 3)
    (0.596, 0.982)
    """
    check_level(level)
    if n == 0:
        return undefined(0, "wilson")
    if not -1e-9 <= successes <= n + 1e-9:
        raise OptionError(f"successes are {successes} of n = {n}; expected 0 to n.")
    value = float(min(max(successes / n, 0.0), 1.0))
    size = float(n if effective is None else effective)
    z2 = float(ndtri((1 + level) / 2)) ** 2
    center = (value + z2 / (2 * size)) / (1 + z2 / size)
    half = np.sqrt(z2 * (value * (1 - value) / size + z2 / (4 * size**2))) / (1 + z2 / size)
    low, high = max(center - half, 0.0), min(center + half, 1.0)
    return Interval(value, float(min(low, value)), float(max(high, value)), n, "wilson")


def effective_n(values: Floats, groups: npt.NDArray[Any]) -> float:
    """How many independent images these are worth: n divided by the design effect.

    Duplicates, or images of the same thing, are right or wrong together, so that n of them tell
    less than n independent ones. The design effect is the variance of the mean over groups,
    relative to that over independent images; it is taken as 1 where it comes out lower.

    Args:
        values: one value in [0, 1] per distinct image, (n,).
        groups: group of each, (n,).

    Source: Kish (1965), "Survey Sampling"; Rao and Scott (1992).
    """
    n = len(values)
    index = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(index)
    if len(sizes) == n:
        return float(n)
    mean = values.mean()
    single = n * mean * (1 - mean)
    if single <= 1e-12 or len(sizes) == 1:
        # All right, or all wrong, or one group: nothing shows how alike a group is. Assume fully.
        return float(n**2 / (sizes**2).sum())
    between = (np.bincount(index, values - mean) ** 2).sum() * len(sizes) / (len(sizes) - 1)
    return float(n / max(between / single, 1.0))


def resampled_weights(groups: int, resamples: int, seed: int, columns: int) -> Iterator[Floats]:
    """How often each group is drawn in each resample, in chunks (b, groups).

    Args:
        columns: width of the weights the caller will make of it; sets the size of a chunk.
    """
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // max(columns, 1))
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        # Counting drawn indices gives multinomial counts, much faster than rng.multinomial.
        drawn = rng.integers(0, groups, size=(count, groups))
        drawn += groups * np.arange(count)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=count * groups)
        yield counts.reshape(count, groups).astype(np.float64)


def _left_out(groups: int, seed: int, columns: int) -> Iterator[Floats]:
    """Weights with one block of groups left out at a time, in chunks (b, groups)."""
    blocks = min(groups, BLOCKS)
    # Blocks are drawn at random: neighbors in a folder are often of the same class.
    block = np.random.default_rng(seed).permutation(groups) * blocks // groups
    step = max(1, CHUNK // max(columns, 1))
    for first in range(0, blocks, step):
        left = np.arange(first, min(first + step, blocks))
        yield (block[None, :] != left[:, None]).astype(np.float64)


@dataclass(frozen=True)
class Resampled:
    """A statistic of the data, of bootstrap resamples of it, and with blocks of it left out."""

    point: dict[Hashable, float]
    values: dict[Hashable, Floats]  # each (B,)
    jackknife: dict[Hashable, Floats]  # each (min(groups, BLOCKS),); empty with one group
    groups: int


def resample(
    statistic: Callable[[Floats], Mapping[Any, Any]],
    groups: npt.ArrayLike,
    *,
    resamples: int,
    seed: int,
) -> Resampled:
    """Draw groups with replacement, `resamples` times; rows of a group always stay together.

    Args:
        statistic: from weights (B, N) to a dict of arrays (B,).
        groups: group of each row, (N,).
    """
    check_resamples(resamples)
    names = np.asarray(groups)
    if names.ndim != 1 or len(names) == 0:
        raise DataError(f"groups have shape {names.shape}; expected (N,), one for every row.")
    index = np.unique(names, return_inverse=True)[1]
    size, rows = int(index.max()) + 1, len(index)
    alone = size == rows and bool((index == np.arange(rows)).all())

    def collect(chunks: Iterator[Floats]) -> dict[Hashable, Floats]:
        parts = [statistic(chunk if alone else chunk[:, index]) for chunk in chunks]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    point = {key: float(value[0]) for key, value in statistic(np.ones((1, rows))).items()}
    return Resampled(
        point=point,
        values=collect(resampled_weights(size, resamples, seed, rows)),
        jackknife=(
            collect(_left_out(size, seed, rows))
            if size > 1
            else {key: np.empty(0) for key in point}
        ),
        groups=size,
    )


def acceleration(jackknife: Floats) -> float:
    """How fast the spread of the statistic changes with its value: skewness of the jackknife / 6.

    For n groups with influences of skewness s it is s / (6 sqrt(n)). Blocks of m groups give the
    same constant: the influence of a block is a sum of m influences, of skewness s / sqrt(m), and
    there are n / m of them: (s / sqrt(m)) / (6 sqrt(n / m)) = s / (6 sqrt(n)). With 200 blocks its
    standard error is about sqrt(6 / 200) / (6 sqrt(200)) = 0.002, too little to move a limit.
    """
    values = jackknife[~np.isnan(jackknife)]
    if len(values) < 2:
        return 0.0
    away = values.mean() - values
    # Differences of rounding only would give a random constant.
    away = np.where(np.abs(away) > 1e-12 * max(1.0, np.abs(values).max()), away, 0.0)
    spread = float((away**2).sum()) ** 1.5
    return float((away**3).sum()) / (6 * spread) if spread > 0 else 0.0


def bca_limits(
    point: float, values: Floats, jackknife: Floats, level: float
) -> tuple[float, float] | None:
    """Limits of the BCa interval; None if all resamples are equal or too few are defined.

    Source: Efron (1987), "Better bootstrap confidence intervals".
    """
    values = values[~np.isnan(values)]
    if len(values) < 2 or np.ptp(values) <= 1e-12 * max(1.0, abs(point)):
        return None
    # Sums in another order differ in the last bit, so that equal is equal within rounding.
    close = np.isclose(values, point, rtol=1e-12, atol=1e-12)
    below = float(((values < point) & ~close).mean() + close.mean() / 2)
    # All resamples on one side would mean an infinite correction: at most what B can show.
    below = min(max(below, 0.5 / len(values)), 1 - 0.5 / len(values))
    bias = float(ndtri(below))
    a = acceleration(jackknife)
    z = bias + ndtri(np.array([1 - level, 1 + level]) / 2)
    low, high = np.quantile(values, ndtr(bias + z / (1 - a * z)))
    return float(min(low, point)), float(max(high, point))


def widened(
    value: float, groups: int, bounds: tuple[float, float], level: float
) -> tuple[float, float]:
    """Limits for a value that all resamples agree on, such as a perfect score.

    The bootstrap cannot imagine an image it has not seen. Wilson's interval for 0 of n groups says
    that up to q = z^2 / (n + z^2) of all images may be of an unseen kind; the limits are the value
    if those score as badly, or as well, as the range allows. For an accuracy of 1 this is Wilson's.
    """
    z2 = float(ndtri((1 + level) / 2)) ** 2
    q = z2 / (groups + z2)
    low, high = bounds
    return value - q * (value - low), value + q * (high - value)


def calibration_limits(
    point: float, values: Floats, gaps: Floats, gap_values: Floats, level: float
) -> tuple[float, float]:
    """Limits of an expected calibration error; BCa fails for it, with coverage down to 0.

    The error is a sum of absolute gaps, one per bin, so that noise only ever adds to it: the
    estimate is too high, and resamples are higher still. The upper limit, a quantile of these, is
    then cautious. For the lower one: by the triangle inequality the estimate exceeds the truth by
    no more than the sum of the absolute errors of the gaps, and resampled gaps scatter around the
    observed ones as those do around the true ones. So subtract a quantile of that sum.

    Args:
        point: the estimate.
        values: resampled, (B,).
        gaps: observed, per bin, (bins,).
        gap_values: resampled, (B, bins).
        level: coverage asked for, at least.
    """
    noise = np.abs(gap_values - gaps).sum(axis=-1)  # (B,)
    low = point - float(np.quantile(noise, (1 + level) / 2))
    high = float(np.quantile(values, (1 + level) / 2))
    return max(low, 0.0), min(max(high, point), 1.0)


def interval_of(
    found: Resampled,
    key: Hashable,
    *,
    level: float,
    bounds: tuple[float, float] | None,
    n: int,
    groups: int | None = None,
) -> Interval:
    """The interval of one of the resampled numbers.

    Args:
        groups: how many it rests on, where those are not all (see `widened`).
    """
    point = found.point[key]
    if np.isnan(point):
        return undefined(n, "bca")
    limits = bca_limits(point, found.values[key], found.jackknife[key], level)
    if limits is not None:
        return Interval(point, *limits, n, "bca")
    if bounds is None:
        return Interval(point, point, point, n, "bca")
    return Interval(point, *widened(point, groups or found.groups, bounds, level), n, "widened")


def bca(
    statistic: Statistic,
    groups: npt.ArrayLike,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int,
    bounds: tuple[float, float] | Mapping[Any, tuple[float, float]] | None = (0.0, 1.0),
    n: int | None = None,
) -> Any:
    """Bias-corrected and accelerated bootstrap interval, over groups of rows.

    Args:
        statistic: from weights (B, N) to (B,), or to a dict of such arrays.
        groups: group of each row, (N,); a group is drawn or left out as a whole.
        resamples: how many; 1000 fixes a limit to about a tenth of the interval.
        level: coverage asked for.
        seed: the same seed gives the same interval.
        bounds: range of the statistic (or one per key), for the case that all resamples are equal:
            the interval is then `widened` by what so few groups cannot exclude. None: not widened.
        n: distinct images to state; by default the number of groups.

    Returns:
        An Interval, or a dict of them with the keys of the statistic.

    Raises:
        OptionError: level or resamples cannot be used.
        DataError: groups are empty or not one-dimensional.

    >>> values = np.arange(50.0)
    >>> found = bca(lambda w: w @ values / w.sum(axis=1), np.arange(50), seed=0)
    >>> found.value, bool(19 < found.low < 22), bool(27 < found.high < 30)
    (24.5, True, True)
    """
    check_level(level)
    single = False

    def as_dict(weights: Floats) -> Mapping[Any, Any]:
        nonlocal single
        value = statistic(weights)
        if isinstance(value, Mapping):
            return value
        single = True
        return {"": value}

    found = resample(as_dict, groups, resamples=resamples, seed=seed)

    def one(key: Hashable) -> Interval:
        limits = bounds.get(key) if isinstance(bounds, Mapping) else bounds
        size = found.groups if n is None else n
        return interval_of(found, key, level=level, bounds=limits, n=size)

    return one("") if single else {key: one(key) for key in found.point}
