"""Split: who learns, who decides, who judges. Drawn by seed, stratified, groups kept together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelwise.data.dataset import UNLABELED, Dataset
from labelwise.data.source import first_few
from labelwise.errors import DataError, OptionError

FINAL = -1  # the fold number of a final fit

ONE_PART_ABOVE = 5_000  # labeled images; above that one held-out part replaces the folds
LARGEST_PART = 10_000  # images in that part
VALIDATION_SHARE = 0.2
VALIDATION_FROM = 5  # labels per class, on average; below that nothing is held back for validation


@dataclass(frozen=True)
class LabelCount:
    """How many labels a recipe may see: all, a total, or so many per class."""

    count: int | None = None
    per_class: bool = False

    @property
    def name(self) -> str:
        """As it stands in folder names and tables: all, 40, 4-per-class."""
        if self.count is None:
            return "all"
        return f"{self.count}-per-class" if self.per_class else str(self.count)


def parse_labels(text: str) -> tuple[LabelCount, ...]:
    """Read `--labels`: "all", "40", "4/class" or several, "1,4,25/class" (all per class)."""
    body, slash, unit = text.replace(" ", "").partition("/")
    if slash and unit != "class":
        raise OptionError(
            f"--labels {text!r}: after '/' only 'class' can follow, as in '4/class' or '1,4/class'."
        )
    counts = []
    for part in body.split(","):
        if part == "all":
            counts.append(LabelCount())
        elif part.isdecimal() and len(part) <= 9 and int(part) > 0:
            counts.append(LabelCount(int(part), per_class=bool(slash)))
        else:
            raise OptionError(
                f"--labels {text!r}: {part!r} is not a number of labels. "
                "Give 'all', a positive number, or several with commas: '40', '1,4,25/class'."
            )
    if len(set(counts)) < len(counts):
        raise OptionError(f"--labels {text!r} names the same number of labels twice.")
    return tuple(counts)


@dataclass(frozen=True)
class Split:
    """Rows of the data set in their roles for one fit. Rows in no role are unused.

    Attributes:
        labels: the number of labels, as LabelCount.name.
        repeat: 0, 1, ...
        fold: 0, 1, ..., or FINAL for the fit on all labels, which nothing is held out from.
        train, validation, held_out, unlabeled: int64 rows; all but `unlabeled` are labeled.
    """

    labels: str
    repeat: int
    fold: int
    train: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray
    unlabeled: np.ndarray


@dataclass(frozen=True)
class Protocol:
    """All splits of a run, the sealed test rows, and what had to be said about them."""

    splits: tuple[Split, ...]
    test: np.ndarray  # int64 rows
    folds: int  # 1: one held-out part
    warnings: tuple[str, ...]

    def fitted(self, finals: bool) -> tuple[Split, ...]:
        """The splits that something is fitted on.

        Args:
            finals: every final model is judged or kept; else only that of the first repeat is.
        """
        return tuple(s for s in self.splits if finals or s.fold != FINAL or s.repeat == 0)


def deal(
    labels: np.ndarray, groups: np.ndarray, shares: Sequence[float], seed: Sequence[int]
) -> np.ndarray:
    """Deal images into parts, stratified by class, a group always into one part.

    Every class is divided by itself: large groups first, each to the part that lacks most, then
    single images by quota; what does not divide evenly goes where the whole part lacks most, but
    an only image to the part with the largest share.

    Args:
        labels: int64 (N,), 0..K-1. A group counts as the class most of its images have.
        groups: int64 (N,).
        shares: the parts' shares of each class; they sum to 1.
        seed: seed of the shuffle.

    Returns:
        Part of every image; int64 (N,), 0..len(shares)-1.
    """
    rng = np.random.default_rng(seed)
    share = np.asarray(shares, dtype=float)
    part = np.zeros(len(labels), dtype=np.int64)
    if not len(labels):
        return part
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    part_of_group = np.zeros(len(sizes), dtype=np.int64)
    group_class = _majority(member, labels, len(sizes))
    dealt = np.zeros(len(share))  # images in each part so far, over all classes
    seen = 0
    for label in np.unique(group_class):
        own = rng.permutation(np.flatnonzero(group_class == label))
        large, single = own[sizes[own] > 1], own[sizes[own] == 1]
        seen += int(sizes[own].sum())
        want = share * sizes[own].sum()
        have = np.zeros(len(share))
        for group in large[np.argsort(-sizes[large], kind="stable")]:
            target = _first(want - have, share * seen - dealt - have)
            part_of_group[group] = target
            have[target] += sizes[group]
        quota = _quota(np.maximum(want - have, 0), len(single), share * seen - dealt - have)
        part_of_group[single] = np.repeat(np.arange(len(share)), quota)
        dealt += have + quota
    part[:] = part_of_group[member]
    return part


def make_protocol(
    dataset: Dataset,
    *,
    labels: Sequence[LabelCount] = (LabelCount(),),
    folds: int | None = None,
    repeats: int = 1,
    test: float | None = None,
    seed: int = 0,
) -> Protocol:
    """Draw the sealed test part and every split of a run; see docs/protocol.md.

    Args:
        dataset: its `val` rows, if any, are the held-out part, its `test` rows the test part.
        labels: numbers of labels; the subsets are nested and class-stratified.
        folds: None for the rule: 5, or one held-out part above 5,000 labeled images.
        test: share of the labeled images to seal away, where the data has no test part.

    Raises:
        OptionError: a test part is given and asked for, or a number of labels is out of reach.
        DataError: fewer than two classes are labeled outside the test part.
    """
    given = dataset.table["split"].fillna("").to_numpy(dtype=object)
    usable = np.zeros(len(given), dtype=bool)
    usable[dataset.usable] = True
    all_labels, groups = dataset.labels, dataset.groups
    labeled = usable & (all_labels != UNLABELED)
    warnings: list[str] = []

    sealed = labeled & (given == "test")
    if sealed.any() and test is not None:
        raise OptionError(
            f"--test {test:g}: the data already has a test part ({sealed.sum()} labeled images). "
            "Leave the option out, or remove the test part from the data."
        )
    pool = labeled & (given != "test")
    if test is not None:
        rows = np.flatnonzero(pool)
        parts = deal(all_labels[rows], groups[rows], [test, 1 - test], [seed, 1])
        sealed[rows[parts == 0]] = True
        pool &= ~sealed
        if not sealed.any():
            raise OptionError(
                f"--test {test:g} of {len(rows)} labeled images is not one image. "
                "Give a larger share, or leave the option out."
            )
    pool = _without_relatives(pool, sealed, groups, "the test part", warnings)

    held_given = pool & (given == "val")
    learned = _without_relatives(pool & ~held_given, held_given, groups, "the val part", warnings)
    rest = np.flatnonzero(learned)
    _check_classes(dataset, all_labels[rest], test)
    number, parts_per_repeat = _folds(
        dataset, rest, np.flatnonzero(held_given), folds, repeats, seed, warnings
    )
    wild = usable & (all_labels == UNLABELED) & (given != "test") & (given != "val")

    def split(
        train_part: np.ndarray, held_out: np.ndarray, count: LabelCount, repeat: int, fold: int
    ) -> Split:
        # One order per train part: a smaller number of labels is always a part of a larger one.
        order = _label_order(all_labels[train_part], [seed, 2, repeat, fold + 1])
        taken = _take(train_part[order], all_labels, count, dataset.class_names, warnings)
        validation = np.zeros(0, dtype=np.int64)
        present = len(np.unique(all_labels[taken]))
        if fold != FINAL and len(taken) >= VALIDATION_FROM * present:
            shares = [VALIDATION_SHARE, 1 - VALIDATION_SHARE]
            part = deal(all_labels[taken], groups[taken], shares, [seed, 3, repeat, fold + 1])
            validation, taken = taken[part == 0], taken[part == 1]
        unlabeled = wild.copy()
        unlabeled[np.setdiff1d(train_part, np.concatenate([taken, validation]))] = True
        judges = np.concatenate([np.flatnonzero(sealed), held_out, validation])
        unlabeled &= ~np.isin(groups, groups[judges])
        return Split(
            labels=count.name,
            repeat=repeat,
            fold=fold,
            train=np.sort(taken),
            validation=np.sort(validation),
            held_out=held_out,
            unlabeled=np.flatnonzero(unlabeled),
        )

    splits = []
    for count in labels:
        for repeat, parts in enumerate(parts_per_repeat):
            for fold in range(number):
                if held_given.any():
                    train_part, held_out = rest, np.flatnonzero(held_given)
                else:
                    train_part, held_out = rest[parts != fold], rest[parts == fold]
                splits.append(split(train_part, held_out, count, repeat, fold))
            everything = np.sort(np.concatenate([rest, np.flatnonzero(held_given)]))
            nothing = np.zeros(0, dtype=np.int64)
            splits.append(split(everything, nothing, count, repeat, FINAL))
    return Protocol(tuple(splits), np.flatnonzero(sealed), number, tuple(dict.fromkeys(warnings)))


def protocol_without_labels(dataset: Dataset) -> Protocol:
    """One final fit on all images but those of a given test part; nothing can be judged."""
    given = dataset.table["split"].fillna("").to_numpy(dtype=object)
    rows = dataset.usable[given[dataset.usable] != "test"]
    none = np.zeros(0, dtype=np.int64)
    split = Split(LabelCount().name, 0, FINAL, none, none, none, rows)
    return Protocol((split,), none, 1, ())


def _majority(member: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The most frequent label of every group; the lowest among equals."""
    pairs, frequency = np.unique(np.stack([member, labels]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -frequency, pairs[0]))
    group, first = np.unique(pairs[0][order], return_index=True)
    result = np.zeros(count, dtype=np.int64)
    result[group] = pairs[1][order][first]
    return result


def _first(lack: np.ndarray, lack_over_all: np.ndarray) -> int:
    """The part that lacks most; among equals the one that lacks most over all classes."""
    return int(np.lexsort((-lack_over_all, -lack.round(9)))[0])


def _quota(want: np.ndarray, count: int, lack_over_all: np.ndarray) -> np.ndarray:
    """Divide `count` images over the parts in proportion to `want`; int64 (parts,)."""
    exact = want / want.sum() * count if want.sum() else np.full(len(want), count / len(want))
    quota = np.floor(exact + 1e-9).astype(np.int64)
    fraction, lack = (exact - quota).round(9), (lack_over_all - quota).round(9)
    # An only image that went where the whole part lacks most might be judged and never learned.
    order = np.lexsort((-lack, -fraction) if count == 1 else (-fraction, -lack))
    quota[order[: count - quota.sum()]] += 1
    return quota


def _without_relatives(
    pool: np.ndarray, judges: np.ndarray, groups: np.ndarray, what: str, warnings: list[str]
) -> np.ndarray:
    """The pool without images that share a group with a judging image."""
    related = pool & np.isin(groups, groups[judges])
    if related.any():
        warnings.append(
            f"Labeled images that are duplicates of images in {what}, or of the same group, are "
            f"not used, so that nothing judged was learned from: {related.sum()}."
        )
    return pool & ~related


def _check_classes(dataset: Dataset, labels: np.ndarray, test: float | None) -> None:
    found = [dataset.class_names[label] for label in np.unique(labels)]
    if len(found) < 2:
        what = f"only of class {found[0]!r}" if found else "none"
        if test is not None:
            what += f" (after --test {test:g} was sealed away)"
        raise DataError(
            f"{dataset.name}: labeled images to learn from: {what}. At least two classes are "
            "needed: one folder per class, or a label column with at least two values."
        )


def _folds(
    dataset: Dataset,
    rest: np.ndarray,
    held_given: np.ndarray,
    folds: int | None,
    repeats: int,
    seed: int,
    warnings: list[str],
) -> tuple[int, list[np.ndarray]]:
    """How many folds are judged, and the part of every row of `rest` in every repeat."""
    if len(held_given):
        if folds not in (None, 1):
            raise OptionError(
                f"--folds {folds}: the data has a val part ({len(held_given)} images), which is "
                "the held-out part. Leave the option out, or remove the val part from the data."
            )
        if repeats > 1:
            warnings.append("The given val part judges every repeat; only the seeds differ.")
        return 1, [np.full(len(rest), -1)] * repeats
    one_part = folds == 1 or (folds is None and len(rest) > ONE_PART_ABOVE)
    parts = max(5, math.ceil(len(rest) / LARGEST_PART)) if one_part else (folds or 5)
    labels, groups = dataset.labels[rest], dataset.groups[rest]
    counts = np.bincount(labels, minlength=len(dataset.class_names))
    few = [name for name, n in zip(dataset.class_names, counts, strict=True) if 0 < n < parts]
    if few:
        warnings.append(
            f"Classes with fewer labeled images than there are folds ({parts}): {first_few(few)}. "
            "They are missing from some held-out parts; an only image is judged by a model that "
            "never saw its class."
        )
    if len(np.unique(groups)) < parts:
        asked = f"--folds {folds}" if folds else f"{parts} folds (the default)"
        there = len(np.unique(groups))
        fewer = f", or ask for fewer with --folds {there}" if there > 1 and not one_part else ""
        raise OptionError(
            f"{asked}: {parts} independent labeled images are needed to learn from and to judge, "
            f"but {dataset.name} has {there} (duplicates and images of a group count once). Label "
            f"more images{fewer}."
        )
    shares = [1 / parts] * parts
    dealt = [deal(labels, groups, shares, [seed, 0, repeat]) for repeat in range(repeats)]
    return (1 if one_part else parts), dealt


def _label_order(labels: np.ndarray, seed: Sequence[int]) -> np.ndarray:
    """An order whose every beginning is class-stratified, one image of each class first."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        own = shuffled[labels[shuffled] == label]
        position[own] = (np.arange(len(own)) + 0.5) / len(own)
        position[own[0]] = -1
    return shuffled[np.argsort(position[shuffled], kind="stable")]


def _take(
    ordered: np.ndarray,
    labels: np.ndarray,
    count: LabelCount,
    class_names: Sequence[str],
    warnings: list[str],
) -> np.ndarray:
    """The first rows of an order, as many as the number of labels says."""
    if count.count is None:
        return ordered
    if not count.per_class:
        present = len(np.unique(labels[ordered]))
        if not present <= count.count <= len(ordered):
            raise OptionError(
                f"--labels {count.count}: a train part has {len(ordered)} labeled images of "
                f"{present} classes; give a number from {present} to {len(ordered)}, or 'all'."
            )
        return ordered[: count.count]
    taken = []
    for label in np.unique(labels[ordered]):
        own = ordered[labels[ordered] == label]
        if len(own) < count.count:
            warnings.append(
                f"--labels {count.count}/class: class {class_names[label]!r} has only {len(own)} "
                "labeled images in a train part; all of them are taken."
            )
        taken.append(own[: count.count])
    return np.concatenate(taken)
