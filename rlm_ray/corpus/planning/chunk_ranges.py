"""Cuts records into chunks that each fit a model call. Pure: takes sizes and places, returns ranges.

A range is `[start, stop, nbytes, records]` (and the value, with `by`): the places of the first record and behind the last
one; `records` is None if their number is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy

from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.catalog.sizes import mean_size
from rlm_ray.corpus.planning.bind import BoundPlan
from rlm_ray.corpus.planning.shard_choice import shards_for
from rlm_ray.handle.plan import Place

ChunkRange = list[Any]


class Cutter:
    """Cuts the records of one shard, in order, as they come."""

    def __init__(self, shard: int, target: int, overlap: int = 0) -> None:
        self.shard, self.target, self.overlap = shard, max(1, target), overlap
        self.ranges: list[ChunkRange] = []
        self._positions = numpy.empty(0, numpy.int64)
        self._chars = numpy.empty(0, numpy.int64)
        self._sizes = numpy.empty(0, numpy.int64)
        self._covered = 0  # of these, how many are in a piece already (they are there for the overlap)

    def add(self, positions: Any, chars: Any, sizes: Any) -> None:
        """Take the places and sizes of some more records."""
        self._positions = numpy.concatenate((self._positions, positions))
        self._chars = numpy.concatenate((self._chars, chars))
        self._sizes = numpy.concatenate((self._sizes, sizes))
        self._cut(final=False)

    def finish(self) -> list[ChunkRange]:
        """Return the ranges of all records."""
        self._cut(final=True)
        return self.ranges

    def _cut(self, *, final: bool) -> None:
        ends = numpy.cumsum(self._sizes)
        count = len(ends)
        first, covered = 0, self._covered
        while covered < count:
            stop = self._reach(ends, first)
            if stop <= covered:
                # what is repeated leaves no room for a new record
                first = covered
                stop = max(self._reach(ends, first), covered + 1)
            if stop >= count and not final:
                break
            before = int(ends[first - 1]) if first else 0
            self.ranges.append(self._range(first, stop, int(ends[stop - 1]) - before))
            covered = stop
            # the longest tail that is no larger than the overlap
            first = max(first + 1, int(numpy.searchsorted(ends, int(ends[stop - 1]) - self.overlap)) + 1)
        self._covered = covered - first if covered < count else 0
        keep = first if covered < count else count
        self._positions, self._chars, self._sizes = self._positions[keep:], self._chars[keep:], self._sizes[keep:]

    def _reach(self, ends: Any, first: int) -> int:
        before = int(ends[first - 1]) if first else 0
        return int(numpy.searchsorted(ends, before + self.target, side="right"))

    def _range(self, first: int, stop: int, nbytes: int) -> ChunkRange:
        begin: Place = (self.shard, int(self._positions[first]), int(self._chars[first]))
        end: Place = (self.shard, int(self._positions[stop - 1]), int(self._chars[stop - 1]) + 1)
        return [list(begin), list(end), nbytes, stop - first]


class PlainCutter:
    """Cuts ranges of positions into chunks; small neighbours share one."""

    def __init__(self, target: int, overlap: int, by: str | None) -> None:
        self.target, self.overlap, self.by = target, overlap, by
        self.ranges: list[ChunkRange] = []
        self._room = 0.0

    def add(self, shard: Shard, low: int, high: int, each: float) -> None:
        """Take the positions `[low, high)` of a shard, of so many bytes each."""
        counted = shard.rows is not None
        value = [dict(shard.partitions).get(self.by)] if self.by is not None else []
        if high <= low:
            return
        size = (high - low) * each
        last = self.ranges[-1] if self.ranges else None
        if last is not None and size <= self._room and last[4:] == value:
            records = None if last[3] is None or not counted else last[3] + deletions.live(shard, low, high)
            last[1:4] = [[shard.index, high, 0], last[2] + round(size), records]
            self._room -= size
            return
        step = max(1, int(self.target / each))
        back = min(int(self.overlap / each), step - 1)
        # pieces of one size: no small rest at the end
        pieces = -(-(high - low - back) // (step - back)) if high - low > step else 1
        step = -(-(high - low - back) // pieces) + back
        at = low
        while True:
            stop = min(high, at + step)
            nbytes = max(1, round((stop - at) * each))
            records = deletions.live(shard, at, stop) if counted else None
            self.ranges.append([[shard.index, at, 0], [shard.index, stop, 0], nbytes, records, *value])
            if stop == high:
                break
            at = stop - back
        self._room = self.target - nbytes


def join(parts: Iterable[Sequence[ChunkRange]], target: int) -> list[ChunkRange]:
    """Return the ranges of several shards as one list; small neighbours at a seam become one.

    Examples
    --------
    >>> join([[[[0, 0, 0], [0, 9, 1], 60, 9]], [[[1, 0, 0], [1, 3, 1], 40, 4]]], 100)
    [[[0, 0, 0], [1, 3, 1], 100, 13]]
    """
    joined: list[ChunkRange] = []
    for part in parts:
        for number, piece in enumerate(part):
            if number == 0 and joined and joined[-1][2] + piece[2] <= target:
                last = joined[-1]
                records = None if last[3] is None or piece[3] is None else last[3] + piece[3]
                joined[-1] = [last[0], piece[1], last[2] + piece[2], records, *piece[4:]]
            else:
                joined.append(list(piece))
    return joined


def plain_chunk_ranges(
    plan: BoundPlan,
    manifest: Manifest,
    target_bytes: int,
    overlap_bytes: int = 0,
    by: str | None = None,
    shards: Sequence[Shard] | None = None,
) -> list[ChunkRange] | None:
    """Cut chunks without reading data; None where only a scan (operation `chunk_ranges`) can.

    Plain are Parquet rows, results, lines and documents that no filter and no split touches (but conditions on
    partitions), and `by` a partition column. Sizes are estimates.
    """
    if by is not None and by not in manifest.partition_columns:
        return None
    shards = shards_for(plan, manifest) if shards is None else shards
    names = [name for name in plan.columns if not name.startswith("_")]
    row_bytes = mean_size(names, manifest.widths)
    cutter = PlainCutter(max(1, target_bytes), overlap_bytes, by)
    for shard in shards:
        ranges = _range_of(plan, shard, row_bytes)
        if ranges is None:
            return None
        cutter.add(shard, *ranges)
    return cutter.ranges


def _range_of(plan: BoundPlan, shard: Shard, row_bytes: float) -> tuple[int, int, float] | None:
    """First and last position of a shard, and bytes per position."""
    rows = plan.row_range(shard)
    if rows is not None:
        each = float(shard.nbytes) if shard.traits.whole_objects else row_bytes
        if shard.deleted:
            each *= (shard.rows or 0) / max(1, shard.stop - shard.start)
        return (*rows, max(1.0, each))
    if not shard.traits.lines_are_records or shard.packed:
        return None
    partitions = dict(shard.partitions)
    if not all(step.keeps_ranges(partitions) for step in plan.steps):
        return None
    return (*plan.position_range(shard), 1.0)
