"""Says which part of a shard a plan reads. Reads nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.planning.bind import BoundPlan, row_range

#: How much larger than expected what a shard holds may be where its end is not known.
_SLACK = 20


def extent(plan: BoundPlan, shard: Shard) -> tuple[int, int] | None:
    """Return the positions `[low, high)` that steps look at, filters included; None is the whole shard.

    Examples
    --------
    >>> from rlm_ray.corpus.planning.bind import bind
    >>> from rlm_ray.handle.plan import Between, Grep
    >>> lines = Shard(0, 0, "a.log", "1", 1000, "lines", None, 0, 1000, None, 1000)
    >>> grep, schema = Grep("x"), {"text": "string"}
    >>> extent(bind([Between((0, 100, 0), None), grep], schema), lines), extent(bind([grep], schema), lines)
    ((100, 1000), None)
    """
    if shard.traits.whole_objects:
        return None
    constants = dict(shard.partitions)
    plain = list(itertools.takewhile(lambda step: step.is_counted(constants), plan.steps))
    found = row_range(plain, shard) or plan.position_range(shard)
    first, last = shard.positions
    low, high = max(found[0], first), min(found[1], last)
    if (low, high) == (first, last):
        return None
    return low, min(high, _SLACK * max(1, shard.size, shard.nbytes))


def without(low: int, high: int, excluded: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what is left of `[low, high)` without some ranges, which are in order.

    Examples
    --------
    >>> without(0, 10, [(2, 4), (8, 20)])
    [(0, 2), (4, 8)]
    """
    left = []
    for start, stop in excluded:
        if start > low:
            left.append((low, min(start, high)))
        low = max(low, stop)
    left.append((low, high))
    return [(start, stop) for start, stop in left if start < stop]


def filters(plan: BoundPlan, shard: Shard) -> bool:
    """Whether steps look at records to tell which to leave, beside those that the path of their object tells of."""
    constants = dict(shard.partitions)
    return any(step.is_filter and not step.is_counted(constants) for step in plan.steps)


def is_counted(plan: BoundPlan, shard: Shard) -> bool:
    """Whether a footer, or the listing, says how many records steps leave: counting them reads none."""
    constants = dict(shard.partitions)
    return shard.traits.is_counted and all(step.is_counted(constants) for step in plan.steps)
