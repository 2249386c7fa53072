"""Which row groups a filter cannot match, by the least and greatest values that footers name. Reads nothing.

The ranges are kept by column, as a table of `low:NAME` and `high:NAME` (null is not known) with a row for each row group:
its `shard`, and its rows from `start` to `stop`. A shard has all of its row groups there, or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import polars
import pyarrow

from rlm_ray.corpus import expressions
from rlm_ray.corpus.plan import Node, Split, Where
from rlm_ray.corpus.types import arrow_type

#: Longest text that is kept; of a longer one the beginning is below it, and nothing short is above it.
_LONGEST = 64

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

Ranges = dict[str, tuple[Any, Any]]


def is_ranged(kind: str) -> bool:
    """Whether the values of a column of this type have an order that footers and filters share."""
    return kind.startswith(("int", "uint", "timestamp[", "date32")) or kind in ("float", "double", "string")


def range_of(statistics: Any, kind: str) -> tuple[Any, Any]:
    """Return the least and greatest value of a column chunk, each None where it is not known."""
    if statistics is None or not statistics.has_min_max:
        return None, None
    if kind == "string":
        return _text(statistics.min_raw, cut=True), _text(statistics.max_raw, cut=False)
    if kind.startswith("timestamp["):
        # Python's own times end at microseconds, and at the year 9999
        exact = _STORED.get(kind[10:12].rstrip("],"), "?") in str(statistics.logical_type)
        return (statistics.min_raw, statistics.max_raw) if exact else (None, None)
    if kind == "date32[day]":
        return statistics.min_raw, statistics.max_raw
    low, high = statistics.min, statistics.max
    # a writer that takes NaN for an end says nothing of the others
    return (None, None) if low != low or high != high else (low, high)


#: The units in which files count times, by Arrow's; of seconds they have milliseconds.
_STORED = {"s": "milli", "ms": "milli", "us": "micro", "ns": "nano"}


def _text(raw: Any, *, cut: bool) -> str | None:
    try:
        text = raw.decode() if isinstance(raw, bytes) else str(raw)
    except UnicodeDecodeError:
        return None
    return text if len(text) <= _LONGEST else text[:_LONGEST] if cut else None


@dataclass(frozen=True, slots=True)
class RowGroup:
    """The rows of a file that a row group has, the shard that they are in, and the ranges of their columns."""

    shard: int
    start: int
    stop: int
    ranges: Ranges


def table(groups: Sequence[RowGroup], schema: Mapping[str, str]) -> pyarrow.Table | None:
    """Return the ranges of all row groups as a table, in order; None where nothing is known."""
    names = [name for name, kind in schema.items() if is_ranged(kind) and any(name in group.ranges for group in groups)]
    if not names:
        return None
    places = (("shard", pyarrow.int32()), ("start", pyarrow.int64()), ("stop", pyarrow.int64()))
    columns = {name: pyarrow.array([getattr(group, name) for group in groups], kind) for name, kind in places}
    for name in names:
        for number, end in enumerate(("low", "high")):
            values = [group.ranges.get(name, (None, None))[number] for group in groups]
            kind = arrow_type(schema[name])
            columns[f"{end}:{name}"] = _ends(values, kind)
    return pyarrow.table(columns)


def _ends(values: list[Any], kind: Any) -> pyarrow.Array:
    types = pyarrow.types
    if types.is_date(kind) or types.is_timestamp(kind):  # whole numbers: of Python's years there are too few
        return pyarrow.array(values, pyarrow.int32() if types.is_date(kind) else pyarrow.int64()).cast(kind)
    return pyarrow.array(values, kind)


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
    steps: Sequence[Node], ranges: pyarrow.Table | None, schema: Mapping[str, str], first: int, stop: int
) -> RuledOut | None:
    """Return which row groups of the shards `[first, stop)` leave no room for the steps; None where all do."""
    conditions = list(_conditions(steps))
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


def _conditions(steps: Sequence[Node]) -> list[tuple[str, str, Any]]:
    """The conditions on columns as they are stored."""
    found: list[tuple[str, str, Any]] = []
    split: set[str] = set()
    for step in steps:
        if isinstance(step, Split):
            split.add(step.column)
        elif isinstance(step, Where):
            found += [condition for condition in step.conditions if condition[0] not in split]
    return found
