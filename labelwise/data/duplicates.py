"""Groups of images that show the same thing: equal pixels, or nearly equal ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from labelwise.data.alike import COMPLETE_UP_TO, Pairs, alike
from labelwise.data.dataset import Duplicates
from labelwise.data.source import Advance, first_few
from labelwise.plain import counted

#: A near group larger than this share of the images, and than SMALL, is reported only.
LARGE_SHARE = 0.01
SMALL = 10
FEWEST_PIXELS = 64  # of a picture; with fewer, chance alone makes two nearly equal


@dataclass(frozen=True)
class Found:
    """Duplicates, the group of every row (or None) after joining them, and warnings."""

    duplicates: tuple[Duplicates, ...]
    groups: list[str | None]
    warnings: list[str]


def find_duplicates(
    *,
    contents: Sequence[str | None],
    thumbs: Sequence[np.ndarray | None],
    labels: Sequence[int | None],
    groups: Sequence[str | None],
    splits: Sequence[str | None],
    paths: Sequence[str],
    progress: Advance | None = None,
) -> Found:
    """Exact and near duplicates among the rows that have a content.

    Args:
        contents: hash of the decoded pixels, None for rows that were set aside.
        thumbs: gray uint8 images of at most 64 x 64 pixels.
        labels: class numbers; two different ones in a group are a conflict.
        groups: the user's own groups, which are joined with the groups of duplicates.
        splits, paths: for the warnings.
        progress: told when the comparison starts and ends.

    Returns:
        Exact groups first, then near groups, each by its first row. Equal pixels are certain, so
        exact groups are always enforced; a near group larger than 1 % of the images (and than 10)
        is reported only, because so many look-alikes are the subject, not copies.
    """
    same: dict[str, list[int]] = defaultdict(list)
    for row, content in enumerate(contents):
        if content is not None:
            same[content].append(row)
    members = list(same.values())
    pairs = _near_pairs([thumbs[rows[0]] for rows in members], progress)
    limit = max(SMALL, LARGE_SHARE * sum(map(len, members)))
    found = [_duplicates(rows, "exact", True, labels) for rows in members if len(rows) > 1]
    for cluster in complete_linkage(pairs):
        rows = sorted(row for number in cluster for row in members[number])
        found.append(_duplicates(rows, "near", len(rows) <= limit, labels))
    found.sort(key=lambda group: (group.kind, group.rows))
    enforced = [group.rows for group in found if group.enforced]
    return Found(
        tuple(found), join_groups(groups, enforced), _warnings(found, splits, paths, pairs)
    )


def _near_pairs(thumbs: Sequence[np.ndarray | None], progress: Advance | None) -> Pairs:
    """Confirmed pairs of thumbs; those of a few pixels, which chance makes alike, have none."""
    places = [place for place, thumb in enumerate(thumbs) if _comparable(thumb)]
    if progress:
        progress(0, len(places), "comparing images")
    pairs = alike([thumb for place in places if (thumb := thumbs[place]) is not None])
    if progress:
        progress(len(places), len(places), "comparing images")
    return replace(pairs, index=np.array(places, dtype=np.int64)[pairs.index])


def _comparable(thumb: np.ndarray | None) -> bool:
    return thumb is not None and thumb.size >= FEWEST_PIXELS


def _duplicates(
    rows: Sequence[int], kind: str, enforced: bool, labels: Sequence[int | None]
) -> Duplicates:
    known = {labels[row] for row in rows} - {None}
    return Duplicates(tuple(rows), kind, enforced, len(known) > 1)


def complete_linkage(pairs: Pairs) -> list[list[int]]:
    """Groups of at least two in which every pair is confirmed; the closest pairs are joined first.

    A chain of small steps from one picture to a quite different one is therefore cut.
    """
    confirmed = {(int(a), int(b)) for a, b in pairs.index}
    cluster_of: dict[int, list[int]] = {}
    for a, b in pairs.index[np.argsort(-pairs.correlation, kind="stable")].tolist():
        first, second = cluster_of.get(a, [a]), cluster_of.get(b, [b])
        if first is second:
            continue
        if all((min(x, y), max(x, y)) in confirmed for x in first for y in second):
            joined = first + second
            cluster_of.update((member, joined) for member in joined)
    distinct = {id(cluster): sorted(cluster) for cluster in cluster_of.values()}
    return sorted(distinct.values())


def join_groups(
    groups: Sequence[str | None], duplicates: Iterable[Sequence[int]]
) -> list[str | None]:
    """The group of every row when duplicates stay together and the user's groups do as well.

    Rows of one user group, and rows of one group of duplicates, end in the same group, also by
    way of others. It has the user's name if it has any (of several, the first in the alphabet),
    else dup-1, dup-2 and so on, by first row. A row on its own has None.
    """
    parent = list(range(len(groups)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    own: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        if group is not None:
            own[group].append(row)
    for rows in (*own.values(), *duplicates):
        for row in rows[1:]:
            first, second = sorted((root(rows[0]), root(row)))
            parent[second] = first
    names: dict[int, str] = {}
    for name in sorted(own):
        names.setdefault(root(own[name][0]), name)
    free = (f"dup-{number}" for number in range(1, len(groups) + len(own) + 1))
    for first in sorted({root(rows[0]) for rows in duplicates} - set(names)):
        names[first] = next(name for name in free if name not in own)
    return [names.get(root(row)) for row in range(len(groups))]


def _warnings(
    found: Sequence[Duplicates],
    splits: Sequence[str | None],
    paths: Sequence[str],
    pairs: Pairs,
) -> list[str]:
    return [
        *_counts(found, paths),
        *_conflicts(found, paths),
        *_across_splits(found, splits, paths),
        *_large(found, paths),
        *_incomplete(pairs),
    ]


def _counts(found: Sequence[Duplicates], paths: Sequence[str]) -> list[str]:
    sentences = []
    for kind, said in (("exact", "equal"), ("near", "nearly equal")):
        some = [group for group in found if group.kind == kind and group.enforced]
        if some:
            rows = sum(len(group.rows) for group in some)
            sentences.append(
                f"{rows} images are in {counted(len(some), 'group')} of {said} ones, such as "
                f"{_say(some[0], paths)}: each group stays on one side of every split"
            )
    return sentences


def _conflicts(found: Sequence[Duplicates], paths: Sequence[str]) -> list[str]:
    some = [group for group in found if group.conflict]
    if not some:
        return []
    return [
        f"equal or nearly equal images have different labels in {counted(len(some), 'group')}, "
        f"such as {_say(some[0], paths)}: the labels are left as they are; look at these images "
        "first"
    ]


def _across_splits(
    found: Sequence[Duplicates], splits: Sequence[str | None], paths: Sequence[str]
) -> list[str]:
    crossing: list[Duplicates] = []
    copies: set[int] = set()
    for group in found:
        rest = [row for row in group.rows if splits[row] != "test"]
        if group.enforced and 0 < len(rest) < len(group.rows):
            crossing.append(group)
            copies.update(row for row in group.rows if splits[row] == "test")
    if not crossing:
        return []
    return [
        f"images of the test split with an equal or nearly equal one outside of it: {len(copies)}, "
        f"such as {_say(crossing[0], paths)}: those outside are not learned from"
    ]


def _large(found: Sequence[Duplicates], paths: Sequence[str]) -> list[str]:
    return [
        f"{len(group.rows)} images look alike, such as {_say(group, paths)}: more than 1 % of all, "
        "so they are reported but not kept together"
        for group in found
        if not group.enforced
    ]


def _incomplete(pairs: Pairs) -> list[str]:
    if pairs.complete:
        return []
    return [
        f"there are more than {COMPLETE_UP_TO} images or very many alike, so not every pair was "
        "compared: some near duplicates may not be found (equal images are all found)"
    ]


def _say(group: Duplicates, paths: Sequence[str]) -> str:
    return first_few([paths[row] for row in group.rows], 2)
