"""Least and greatest values of row groups, from footers and table logs, as a table of ranges.

The ranges are kept by column, as a table of `low:NAME` and `high:NAME` (null: unknown) with a row for each row group:
its `shard`, and its rows from `start` to `stop`. A shard has all of its row groups there, or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow

from rlm_ray.corpus.catalog.types import arrow_type

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
    if kind.startswith("timestamp[ns"):
        # Python's own times end at microseconds
        exact = "nano" in str(statistics.logical_type)
        return (statistics.min_raw, statistics.max_raw) if exact else (None, None)
    return statistics.min, statistics.max


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
            whole = schema[name].startswith("timestamp[ns")
            columns[f"{end}:{name}"] = pyarrow.array(values, pyarrow.int64()).cast(kind) if whole else pyarrow.array(values, kind)
    return pyarrow.table(columns)
