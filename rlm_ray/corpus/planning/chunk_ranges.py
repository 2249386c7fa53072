"""Cutting records into chunks that each fit a model call. Pure: sizes and places in, borders out.

A border is `[start, stop, nbytes, records]` (and the value, with `by`): places of the first record and after the last
one; None where the number of records is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy

from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.handle.plan import Place

Border = list[Any]


class Cutter:
    """Cuts the records of one shard, in order, as they come."""

    def __init__(self, shard: int, target: int, overlap: int = 0) -> None:
        self.shard, self.target, self.overlap = shard, max(1, target), overlap
        self.borders: list[Border] = []
        self._positions = numpy.empty(0, numpy.int64)
        self._chars = numpy.empty(0, numpy.int64)
        self._sizes = numpy.empty(0, numpy.int64)
        self._covered = 0  # of these, how many are in a border already (they are there for the overlap)

    def add(self, positions: Any, chars: Any, sizes: Any) -> None:
        """Take the places and sizes of some more records."""
        self._positions = numpy.concatenate((self._positions, positions))
        self._chars = numpy.concatenate((self._chars, chars))
        self._sizes = numpy.concatenate((self._sizes, sizes))
        self._cut(final=False)

    def finish(self) -> list[Border]:
        """Return the borders of all records."""
        self._cut(final=True)
        return self.borders

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
            self.borders.append(self._border(first, stop, int(ends[stop - 1]) - before))
            covered = stop
            # the longest tail that is no larger than the overlap
            first = max(first + 1, int(numpy.searchsorted(ends, int(ends[stop - 1]) - self.overlap)) + 1)
        self._covered = covered - first if covered < count else 0
        keep = first if covered < count else count
        self._positions, self._chars, self._sizes = self._positions[keep:], self._chars[keep:], self._sizes[keep:]

    def _reach(self, ends: Any, first: int) -> int:
        before = int(ends[first - 1]) if first else 0
        return int(numpy.searchsorted(ends, before + self.target, side="right"))

    def _border(self, first: int, stop: int, nbytes: int) -> Border:
        begin: Place = (self.shard, int(self._positions[first]), int(self._chars[first]))
        end: Place = (self.shard, int(self._positions[stop - 1]), int(self._chars[stop - 1]) + 1)
        return [list(begin), list(end), nbytes, stop - first]


class PlainCutter:
    """Cuts ranges of positions into chunks; small neighbours share one."""

    def __init__(self, target: int, overlap: int, by: str | None) -> None:
        self.target, self.overlap, self.by = target, overlap, by
        self.borders: list[Border] = []
        self._room = 0.0

    def add(self, shard: Shard, low: int, high: int, each: float) -> None:
        """Take the positions `[low, high)` of a shard, of so many bytes each."""
        counted = shard.rows is not None
        value = [dict(shard.partitions).get(self.by)] if self.by is not None else []
        if high <= low:
            return
        size = (high - low) * each
        last = self.borders[-1] if self.borders else None
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
            self.borders.append([[shard.index, at, 0], [shard.index, stop, 0], nbytes, records, *value])
            if stop == high:
                break
            at = stop - back
        self._room = self.target - nbytes


def join(parts: Iterable[Sequence[Border]], target: int) -> list[Border]:
    """Return the borders of several shards as one list; small neighbours at a seam become one.

    Examples
    --------
    >>> join([[[[0, 0, 0], [0, 9, 1], 60, 9]], [[[1, 0, 0], [1, 3, 1], 40, 4]]], 100)
    [[[0, 0, 0], [1, 3, 1], 100, 13]]
    """
    joined: list[Border] = []
    for part in parts:
        for number, border in enumerate(part):
            if number == 0 and joined and joined[-1][2] + border[2] <= target:
                last = joined[-1]
                records = None if last[3] is None or border[3] is None else last[3] + border[3]
                joined[-1] = [last[0], border[1], last[2] + border[2], records, *border[4:]]
            else:
                joined.append(list(border))
    return joined
