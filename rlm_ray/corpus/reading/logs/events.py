"""Events cut out of lines: an event takes the lines from one that begins it up to the next such line.

A shard owns the events that *begin* in its byte range, and reads on behind it for the last one's end. However an object is cut
into shards, its events are the same: what begins an event is known from its line alone, but for events that are too long. Those
are cut at places that do not depend on shards either. The object is divided into cells of `event_bytes` bytes; the first line
that begins in a cell begins an event if no line of the cell before it did by itself. So an event is shorter than two
cells and a line, and which line begins one can be told from its cell and the one before.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.reading.logs.beginnings import begins
from rlm_ray.corpus.reading.logs.event_search import event_blocks
from rlm_ray.corpus.reading.logs.layout import Layout
from rlm_ray.corpus.reading.text.lines import frame, is_in_utf8
from rlm_ray.corpus.reading.text.streams import BOM, Piece, Run, runs

#: Bytes that are read first behind a shard, where its last event most likely ends.
_BEHIND = 64 << 10
#: No cell: that of the line before an object's first.
_NONE = -2


@dataclass(frozen=True, slots=True)
class Events:
    """Some whole events as a piece of text, and the places of those that continue one which was cut."""

    piece: Piece
    continued: Any


class Marks:
    """Tells which lines begin an event, run by run."""

    def __init__(self, shard: Shard, layout: Layout) -> None:
        self._shard, self._layout = shard, layout
        self._cell = self._begun = _NONE  # the cells of the last line, and of the last one that begins an event by itself
        self._is_new = True

    def of(self, piece: Piece) -> tuple[Any, Any]:
        """Return which lines begin an event, and the numbers of those that do only because an event was cut."""
        own = self._own(piece)
        if self._is_new:
            self._is_new = False
            if not own[0]:
                self._look_back(int(piece.starts[0] + piece.offset))
        return self._marked(piece, own)

    def _own(self, piece: Piece) -> Any:
        return begins(piece.memory, piece.starts, piece.ends, self._layout.beginnings, lambda: frame(piece, self._shard)["text"])

    def _marked(self, piece: Piece, own: Any) -> tuple[Any, Any]:
        cells = (piece.starts + piece.offset) // self._layout.event_bytes
        firsts = numpy.flatnonzero(numpy.diff(cells, prepend=self._cell))
        begun = numpy.flatnonzero(own)
        before = numpy.searchsorted(begun, firsts) - 1
        last = numpy.where(before >= 0, cells[begun[before]] if len(begun) else self._begun, self._begun)
        forced = firsts[(last != cells[firsts] - 1) & ~own[firsts]]
        self._cell = int(cells[-1])
        if len(begun):
            self._begun = int(cells[begun[-1]])
        own[forced] = True
        return own, forced

    def _look_back(self, place: int) -> None:
        """Learn of the lines before a place what decides about those behind it."""
        size = self._layout.event_bytes
        low = max(0, (place // size - 1) * size)
        for run in runs(self._shard, low, place) if place > low else ():
            piece = run.piece()
            self._marked(piece, self._own(piece))


def events(shard: Shard, layout: Layout, low: int, high: int | None, pattern: str | None, early: bool) -> Iterator[Events]:
    """Yield the events that begin in `[low, high)`, but for most of those in which the pattern finds nothing.

    Raises
    ------
    ObjectUnreadable
        As `streams.runs`.
    """
    marks, last = Marks(shard, layout), _Open()
    pattern = pattern if is_in_utf8(shard) and not layout.beginnings.patterns else None
    for run in runs_from(shard, layout, low, high, early):
        is_behind = high is not None and run.offset + run.stop > high
        split = event_blocks(run, pattern, layout) if pattern is not None and not is_behind else None
        if split is not None:
            if split.before.start < split.before.stop:
                yield from _cut(split.before.piece(), marks, last, high)
            if last.chunks:
                yield last.taken()
            if split.found is not None:
                yield Events(split.found, ())
            run = split.behind
        if (yield from _cut(run.piece(), marks, last, high)):
            return
    if last.chunks:
        yield last.taken()


def runs_from(shard: Shard, layout: Layout, low: int, high: int | None, early: bool) -> Iterator[Run]:
    """Yield the lines that begin in `[low, high)`, and behind them as far as an event may go on."""
    if high is None:
        yield from runs(shard, low, None, early)
        return
    end = ((high - 1) // layout.event_bytes + 2) * layout.event_bytes
    if shard.compression is not None or shard.packed:
        yield from runs(shard, low, end, early)
        return
    borders = [low, high, min(high + _BEHIND, end), end]
    for first, stop in itertools.pairwise(borders):
        if first < min(stop, shard.size):
            yield from runs(shard, first, stop, early)


class _Open:
    """The event that has begun and may go on."""

    def __init__(self) -> None:
        self.chunks: list[Any] = []
        self._place = self._end = self._length = 0
        self._is_continued = False

    def begin(self, piece: Piece, line: int, stop: int, is_continued: bool) -> None:
        """Begin an event with a line of a piece, up to the line `stop`."""
        self._place, self._is_continued = int(piece.starts[line] + piece.offset), is_continued
        self.chunks, self._length = [], 0
        self.go_on(piece, line, stop)

    def go_on(self, piece: Piece, line: int, stop: int) -> None:
        """Add the lines from `line` up to `stop`."""
        until = piece.starts[stop] if stop < len(piece.starts) else _behind(piece.memory, int(piece.ends[-1]))
        chunk = piece.memory[piece.starts[line] : until].copy()
        self._end = self._length + int(piece.ends[stop - 1] - piece.starts[line])
        self._length += len(chunk)
        self.chunks.append(chunk)

    def taken(self) -> Events:
        """Return the event, which has ended."""
        memory = numpy.concatenate(self.chunks)
        self.chunks = []
        piece = Piece(memory, self._place, numpy.array([0]), numpy.array([self._end]))
        return Events(piece, (self._place,) if self._is_continued and self._place > len(BOM) else ())


def _behind(memory: Any, end: int) -> int:
    """Return the place behind the line break that follows a line."""
    end += end < len(memory) and memory[end] == 13
    return end + (end < len(memory) and memory[end] == 10)


def _cut(piece: Piece, marks: Marks, last: _Open, high: int | None) -> Generator[Events, None, bool]:
    """Yield the events that end in a piece; return whether no further one begins before `high`."""
    begun, forced = marks.of(piece)
    starts, ends, offset = piece.starts, piece.ends, piece.offset
    numbers = numpy.flatnonzero(begun)
    stop, is_over = len(starts), False
    if high is not None and starts[-1] + offset >= high:
        behind = numbers[starts[numbers] + offset >= high]
        if len(behind):
            stop, is_over = int(behind[0]), True
            numbers = numbers[numbers < stop]
        elif not last.chunks and not len(numbers):
            return True
    first = int(numbers[0]) if len(numbers) else stop
    if last.chunks:
        if first > 0:
            last.go_on(piece, 0, first)
        if len(numbers) or is_over:
            yield last.taken()
    whole = numbers if is_over else numbers[:-1]
    if len(whole):
        behind = numpy.append(numbers[1:], stop) if is_over else numbers[1:]
        places = starts[forced[forced <= whole[-1]]] + offset  # those that begin an event which ends here
        yield Events(Piece(piece.memory, offset, starts[whole], ends[behind - 1]), places[places > len(BOM)])
    if len(numbers) and not is_over:
        begin = int(numbers[-1])
        last.begin(piece, begin, stop, begin in forced)
    return is_over
