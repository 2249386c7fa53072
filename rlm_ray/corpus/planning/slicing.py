"""Turns a slice into a window of shards, by the counts of the records before it. Pure: reads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.planning.bind import BoundPlan
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Window


def counts_wanted(start: int, stop: int | None, counts: Sequence[int | None]) -> int | None:
    """Return the first shard whose count a slice needs and that is not known yet; None when all that matter are.

    Examples
    --------
    >>> counts_wanted(5, 8, [4, None, None])
    1
    >>> counts_wanted(5, 8, [4, 10, None]) is None
    True
    """
    seen = 0
    end = start if stop is None else stop
    for number, count in enumerate(counts):
        if seen >= end:
            return None
        if count is None:
            return number
        seen += count
    return None


def counts_used(start: int, stop: int | None, counts: Sequence[int | None]) -> int:
    """Return how many of the counts, from the first on, a slice takes; see `counts_wanted`.

    Examples
    --------
    >>> counts_used(5, 8, [4, 10, 3]), counts_used(0, None, [4, None])
    (2, 0)
    """
    end = start if stop is None else stop
    seen = 0
    for number, count in enumerate(counts):
        if seen >= end or count is None:
            return number
        seen += count
    return len(counts)


def window(start: int, stop: int | None, shards: Sequence[Shard], counts: Sequence[int | None]) -> Window:
    """Make a slice local to shards, by the counts of what comes before it (see `counts_wanted`).

    Raises
    ------
    InputError
        A count is missing.
    """
    if counts_wanted(start, stop, counts) is not None:
        raise InputError(f"Slice [{start}:{stop}] needs more counts. Count the shards that counts_wanted names.")
    if stop is not None and stop <= start:
        return _NOTHING
    seen = 0
    first: tuple[int, int] | None = None
    for shard, count in zip(shards, counts, strict=True):
        if first is None and (count is None or seen + count > start):
            # a count that is not known belongs to the shard in which `start` is the first record
            first = (shard.index, start - seen)
        if stop is None and first is not None:
            return Window(*first)
        if stop is not None and first is not None and seen + (count or 0) >= stop:
            return Window(*first, shard.index, stop - seen)
        seen += count or 0
    return _NOTHING if first is None else Window(*first)


def plain_window(start: int, stop: int | None, plan: BoundPlan, manifest: Manifest) -> Window | None:
    """Make a slice local without looking at the shards one by one: of all records, where footers and listing count them.

    None where it takes `window`. Cheap, since a batch over single records makes one slice for each.
    """
    if not plan.leaves_everything or (ends := manifest.shards.row_ends) is None:
        return None
    if stop is not None and stop <= start:
        return _NOTHING
    first = int(ends.searchsorted(start, side="right"))
    if first == len(ends):
        return _NOTHING
    skip = start - _before(ends, first)
    last = len(ends) if stop is None else int(ends.searchsorted(stop))
    return Window(first, skip) if stop is None or last == len(ends) else Window(first, skip, last, stop - _before(ends, last))


def _before(ends: Any, number: int) -> int:
    return int(ends[number - 1]) if number else 0


#: A window that no shard is in.
_NOTHING = Window(first=1 << 40, skip=0)
