"""Collects the least and greatest values of row groups, from footers and table logs, in a table of ranges.

The ranges are kept by column, as a table of `low:NAME` and `high:NAME` (null: unknown) with a row for each row group:
its `shard`, and its rows from `start` to `stop`. A shard has all of its row groups there, or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow

from rlm_ray.corpus.meaning.types import arrow_type

#: Longest text that is kept; of a longer one the beginning is below it, and nothing short is above it.
_LONGEST = 64

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
