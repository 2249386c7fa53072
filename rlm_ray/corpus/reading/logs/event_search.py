"""Which events may hold a pattern: found in blocks of events, most of which are then never cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy
import polars
import pyarrow

from rlm_ray.corpus.reading.logs.beginnings import fits
from rlm_ray.corpus.reading.logs.layout import Layout
from rlm_ray.corpus.reading.text.line_search import is_utf8
from rlm_ray.corpus.reading.text.streams import Piece, Run

#: Bytes of a block, and how far behind its end an event's beginning is looked for; a block without one goes on.
_BLOCK, _REACH = 4096, 512


@dataclass(frozen=True, slots=True)
class Blocks:
    """The lines before the first block, the events of the blocks with the pattern, and the lines from the last border on."""

    before: Run
    found: Piece | None
    behind: Run


def event_blocks(run: Run, pattern: str, layout: Layout) -> Blocks | None:
    """Return the events of those blocks in which a pattern of `line_search.prefilter` finds something.

    None where all events are to be cut: lines that are no UTF-8, most blocks have it, or an event may be too long.
    """
    data = run.memory[run.start : run.stop]
    borders = _borders(data, layout)
    cells = (borders + (run.offset + run.start)) // layout.event_bytes
    # of every two neighbouring cells the first must have an event that begins by itself: then no event between is cut
    if len(borders) < 2 or int(numpy.diff(cells).max()) > 1:
        return None
    if not is_utf8(data) or ("$" in pattern and bool((data == 13).any())):
        return None
    buffers = [None, pyarrow.py_buffer(borders), pyarrow.py_buffer(data)]
    blocks = polars.Series(pyarrow.Array.from_buffers(pyarrow.large_string(), len(borders) - 1, buffers))
    has = blocks.str.contains(pattern).to_numpy()
    count = int(numpy.count_nonzero(has))
    if 2 * count > len(has):
        return None
    first, last = (run.start + int(borders[place]) for place in (0, -1))
    before, behind = Run(run.memory, run.offset, run.start, first), Run(run.memory, run.offset, last, run.stop)
    if not count:
        return Blocks(before, None, behind)
    starts, stops = borders[:-1][has], borders[1:][has]
    places = numpy.concatenate([[0], numpy.cumsum(stops - starts)])
    parts = [data[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
    lines = Run(numpy.concatenate(parts), 0, 0, int(places[-1])).piece()
    begun = numpy.flatnonzero(_begin(lines.memory, lines.starts, layout))
    events = lines.starts[begun]
    block = numpy.searchsorted(places, events, side="right") - 1
    ends = lines.ends[numpy.append(begun[1:], len(lines.starts)) - 1]
    return Blocks(before, Piece(lines.memory, (starts - places[:-1])[block] + (run.offset + run.start), events, ends), behind)


def _begin(data: Any, places: Any, layout: Layout) -> Any:
    """Whether an event begins at each place, by the shapes."""
    found = numpy.zeros(len(places), numpy.bool_)
    for shape in layout.beginnings.shapes:
        found |= fits(data, places, numpy.full(len(places), len(data)), shape)
    return found


def _borders(data: Any, layout: Layout) -> Any:
    """Where blocks begin, each with an event, and the last one's end."""
    count = max(0, (len(data) + _REACH) // _BLOCK - 1)
    first = _BLOCK - _REACH
    breaks = data[first : first + count * _BLOCK].reshape(count, _BLOCK)[:, :_REACH] == 10
    rows, columns = numpy.nonzero(breaks)
    places = rows * _BLOCK + first + columns + 1
    inside = places < len(data)
    rows, places = rows[inside], places[inside]
    fine = _begin(data, places, layout)
    _, numbers = numpy.unique(rows[fine], return_index=True)
    return places[fine][numbers].astype(numpy.int64)
