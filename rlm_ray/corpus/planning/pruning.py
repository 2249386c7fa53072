"""Rules out row groups that a filter cannot match, by their least and greatest values (`catalog.statistics`). Reads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import polars
import pyarrow

from rlm_ray.corpus.planning import expressions

#: A condition that no value of a range fulfils: it fails for the end that is tried.
_ENDS: dict[str, tuple[tuple[str, str], ...]] = {
    "==": (("low", "<="), ("high", ">=")),
    "<": (("low", "<"),),
    "<=": (("low", "<="),),
    ">": (("high", ">"),),
    ">=": (("high", ">="),),
}

#: Values of an `in` that are compared with ranges.
_MOST_VALUES = 1_000


@dataclass(frozen=True, slots=True)
class RuledOut:
    """The row groups of which statistics say that a filter leaves nothing.

    Attributes
    ----------
    shards : array of int
        Those of which no row group is left.
    rows : dict of int to tuple of (int, int)
        By shard: first and last (exclusive) row of each row group that is ruled out, in order.
    """

    shards: Any
    rows: dict[int, tuple[tuple[int, int], ...]]


def ruled_out(
    conditions: Sequence[tuple[str, str, Any]], ranges: pyarrow.Table | None, schema: Mapping[str, str], first: int, stop: int
) -> RuledOut | None:
    """Return which row groups of the shards `[first, stop)` leave no room for all conditions; None where all do."""
    if ranges is None or not conditions:
        return None
    low, high = numpy.searchsorted(ranges.column("shard").to_numpy(), (first, stop))
    part = ranges.slice(int(low), int(high - low))
    kept = numpy.ones(part.num_rows, numpy.bool_)
    for column, compared, value in conditions:
        if f"low:{column}" in part.column_names and (test := _room(column, compared, value, schema)) is not None:
            ends = {end: polars.Series(part.column(f"{end}:{column}")) for end in ("low", "high")}
            kept &= polars.DataFrame(ends).select(test).to_series().to_numpy()
    if kept.all():
        return None
    shards = part.column("shard").to_numpy()
    out = numpy.flatnonzero(~kept)
    rows: dict[int, list[tuple[int, int]]] = {}
    starts, stops = part.column("start").to_numpy(), part.column("stop").to_numpy()
    for shard, begin, end in zip(shards[out].tolist(), starts[out].tolist(), stops[out].tolist(), strict=True):
        rows.setdefault(shard, []).append((begin, end))
    return RuledOut(numpy.setdiff1d(shards[out], shards[kept]), {shard: tuple(found) for shard, found in rows.items()})


def _room(column: str, compared: str, value: Any, schema: Mapping[str, str]) -> polars.Expr | None:
    """Whether a value between `low` and `high` may fulfil a condition, None where each may. Nulls have no part in ranges."""
    if compared == "in":
        # a null may fulfil it, and where nulls are is not kept
        rooms = [_room(column, "==", item, schema) for item in value] if 0 < len(value) <= _MOST_VALUES else [None]
        known = [room for room in rooms if room is not None]
        return polars.any_horizontal(known) if len(known) == len(rooms) else None
    if compared not in _ENDS or value is None or value != value:
        return None
    tests = []
    for end, test in _ENDS[compared]:
        # not a number is above all numbers for a filter, and in no range
        if end == "low" or compared == "==" or schema[column] not in ("float", "double"):
            compared_end = expressions.condition(end, test, value, {end: schema[column]})
            tests.append(compared_end.fill_null(True))
    return polars.all_horizontal(tests) if tests else None
