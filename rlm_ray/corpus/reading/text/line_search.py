"""Finds the lines that may match a pattern: searches blocks of lines first, and cuts only those that match."""

from __future__ import annotations

import re

import numpy
import polars
import pyarrow

from rlm_ray.corpus.reading.text.streams import Piece, Run

#: Bytes of a block, and how far behind its end a line break is looked for; a block without one goes on.
_BLOCK, _REACH = 4096, 512

#: What reads a block otherwise than its lines: the ends of the text, and flags that change what ^, $ or the pattern mean.
_OF_THE_TEXT = re.compile(r"\\[Az]|\(\?[a-zA-Z]*[mRxu-]")


def prefilter(pattern: str, ignore_case: bool = False) -> str | None:
    """Return a pattern that finds something in every text that has a line with `pattern` in it; None where there is none.

    Examples
    --------
    >>> prefilter("^timeout", ignore_case=True)
    '(?mi)^timeout'
    >>> prefilter(r"\\Atimeout") is None
    True
    """
    if _OF_THE_TEXT.search(pattern):
        return None
    return f"(?mi){pattern}" if ignore_case else f"(?m){pattern}"


def narrowed(run: Run, pattern: str) -> Piece | None:
    """Return the lines of those blocks in which a pattern of `prefilter` finds something, None where there are none.

    Lines that are not all UTF-8 are returned all, and so is a run in which most blocks are found.
    """
    data = run.memory[run.start : run.stop]
    borders = _borders(data)
    if not is_utf8(data) or ("$" in pattern and bool((data == 13).any())):
        return run.piece()  # a carriage return before the line break belongs to it, for `$` in lines, not in blocks
    buffers = [None, pyarrow.py_buffer(borders), pyarrow.py_buffer(data)]
    blocks = polars.Series(pyarrow.Array.from_buffers(pyarrow.large_string(), len(borders) - 1, buffers))
    found = blocks.str.contains(pattern).to_numpy()
    count = int(numpy.count_nonzero(found))
    if count == 0:
        return None
    if 2 * count > len(found):
        return run.piece()
    starts, stops = borders[:-1][found], borders[1:][found]
    begins = numpy.concatenate([[0], numpy.cumsum(stops - starts)])
    parts = [data[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
    piece = Run(numpy.concatenate(parts), 0, 0, int(begins[-1])).piece()
    block = numpy.searchsorted(begins, piece.starts, side="right") - 1
    return Piece(piece.memory, (starts - begins[:-1])[block] + (run.offset + run.start), piece.starts, piece.ends)


def _borders(data: numpy.ndarray) -> numpy.ndarray:
    """Where blocks begin, each with a line, and the end of the last one."""
    count = max(0, (len(data) + _REACH) // _BLOCK - 1)
    first = _BLOCK - _REACH
    breaks = data[first : first + count * _BLOCK].reshape(count, _BLOCK)[:, :_REACH] == 10
    behind = numpy.arange(count) * _BLOCK + first + breaks.argmax(axis=1) + 1
    return numpy.concatenate([[0], behind[breaks.any(axis=1) & (behind < len(data))], [len(data)]]).astype(numpy.int64)


def is_utf8(data: numpy.ndarray) -> bool:
    """Whether bytes are UTF-8 as a whole."""
    extent = numpy.array([0, len(data)], numpy.int64)
    whole = pyarrow.Array.from_buffers(pyarrow.large_binary(), 1, [None, pyarrow.py_buffer(extent), pyarrow.py_buffer(data)])
    try:
        whole.cast(pyarrow.large_string())
    except pyarrow.ArrowInvalid:
        return False
    return True
