"""Finds the lines that may match a pattern: searches blocks of lines first, and cuts only those that match."""

from __future__ import annotations

import re
from typing import Any

import numpy
import polars
import pyarrow

from rlm_ray.corpus.reading.text.streams import Piece, Run

#: Bytes of a block that is cut when it is found, and of one that is only counted; and how far before its end a line break is
#: looked for: a block without one goes on.
_CUT_BLOCK, _COUNTED_BLOCK, _REACH = 4 << 10, 16 << 10, 512
#: Runs that are cut without a search of their blocks, behind one in which most blocks were found.
_UNASKED = 15

#: What reads a block otherwise than its lines: the ends of the text, and flags that change what ^, $ or the pattern mean.
_OF_THE_TEXT = re.compile(r"\\[Az]|\(\?[a-zA-Z]*[mRxu-]")
#: What may match a line break, once classes and escapes that cannot are taken out.
_MAY_CROSS = re.compile(r"\\[sDWnpPxuUQ]|\[|\(\?[a-zA-Z]*s|\n")
_CROSSES_NOT = re.compile(r"\[[A-Za-z0-9_\- ]+\]|\\.(?<!\\[sDWnpPxuUQ])")


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


class LineSearch:
    """Leaves those blocks of a scan's runs in which a pattern of `prefilter` finds something.

    Where most blocks are found, the next runs are cut as they are, and their blocks are not searched.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._unasked = 0

    def __call__(self, run: Run) -> Piece | None:
        """Return the lines of the blocks that are found, None where there are none; all lines of a run that is not all UTF-8."""
        if self._unasked:
            self._unasked -= 1
            return run.piece()
        data = run.memory[run.start : run.stop]
        if not is_utf8(data) or _ends_differ(data, self._pattern):
            return run.piece()
        borders = _borders(data, _CUT_BLOCK)
        found = numpy.flatnonzero(_texts(data, borders).str.contains(self._pattern).to_numpy())
        if 2 * len(found) > len(borders) - 1:
            self._unasked = _UNASKED
            return run.piece(is_utf8=True)
        return _cut(run, data, borders, found)


class LineCount:
    """Counts the lines in which a pattern is found, and cuts only those that a block cannot tell.

    A match and the rest of its line are one match, so a line counts once. A block cannot tell where it holds a carriage return,
    which belongs to a line's end, or where the pattern may match a line break or the empty text.
    """

    def __init__(self, pattern: str, ignore_case: bool) -> None:
        flags = "mi" if ignore_case else "m"
        self._pattern = pattern
        self._rest_of_line = f"(?{flags})(?:{pattern}).*"
        crosses = _MAY_CROSS.search(_CROSSES_NOT.sub("", pattern)) is not None
        self._tells = not crosses and not polars.Series([""]).str.contains(f"(?{flags}){pattern}")[0]

    @classmethod
    def of(cls, pattern: str, ignore_case: bool) -> LineCount | None:
        """Return the counter of a pattern; None where no block can be asked with it."""
        return None if prefilter(pattern, ignore_case) is None else cls(pattern, ignore_case)

    def __call__(self, run: Run) -> tuple[int, Piece | None]:
        """Return how many lines of a run are found, and the lines besides that the caller has to match one by one."""
        data = run.memory[run.start : run.stop]
        if not is_utf8(data) or _ends_differ(data, self._pattern):
            return 0, run.piece()
        borders = _borders(data, _COUNTED_BLOCK)
        counts = _texts(data, borders).str.count_matches(self._rest_of_line).to_numpy()
        found = numpy.flatnonzero(counts)
        if not len(found):
            return 0, None
        if self._tells:
            unsure = [at for at in found.tolist() if _has_returns(data[borders[at] : borders[at + 1]])]
        else:
            unsure = found.tolist()
        untold = numpy.array(unsure, numpy.int64)
        return int(counts.sum()) - int(counts[untold].sum()), _cut(run, data, borders, untold)


def _texts(data: numpy.ndarray[Any, Any], borders: numpy.ndarray[Any, Any]) -> polars.Series:
    """The texts between borders, as views of the memory."""
    buffers = [None, pyarrow.py_buffer(borders), pyarrow.py_buffer(data)]
    return polars.Series(pyarrow.Array.from_buffers(pyarrow.large_string(), len(borders) - 1, buffers))


def _cut(run: Run, data: numpy.ndarray[Any, Any], borders: numpy.ndarray[Any, Any], found: numpy.ndarray[Any, Any]) -> Piece | None:
    """The lines of some blocks, copied out of the run's memory."""
    if not len(found):
        return None
    starts, stops = borders[:-1][found], borders[1:][found]
    begins = numpy.concatenate([[0], numpy.cumsum(stops - starts)])
    parts = [data[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
    piece = Run(numpy.concatenate(parts), 0, 0, int(begins[-1])).piece()
    block = numpy.searchsorted(begins, piece.starts, side="right") - 1
    offsets = (starts - begins[:-1])[block] + (run.offset + run.start)
    return Piece(piece.memory, offsets, piece.starts, piece.ends, is_utf8=True)


def _ends_differ(data: numpy.ndarray[Any, Any], pattern: str) -> bool:
    """Whether `$` means another place in a block than in its lines: a carriage return before the line break belongs to it."""
    return "$" in pattern and _has_returns(data)


def _has_returns(data: numpy.ndarray[Any, Any]) -> bool:
    return bool((data == 13).any())


def _borders(data: numpy.ndarray[Any, Any], size: int) -> numpy.ndarray[Any, Any]:
    """Where blocks of about a size begin, each with a line, and the end of the last one."""
    count = max(0, (len(data) + _REACH) // size - 1)
    first = size - _REACH
    breaks = data[first : first + count * size].reshape(count, size)[:, :_REACH] == 10
    behind = numpy.arange(count) * size + first + breaks.argmax(axis=1) + 1
    return numpy.concatenate([[0], behind[breaks.any(axis=1) & (behind < len(data))], [len(data)]]).astype(numpy.int64)


def is_utf8(data: numpy.ndarray[Any, Any]) -> bool:
    """Whether bytes are UTF-8 as a whole."""
    extent = numpy.array([0, len(data)], numpy.int64)
    whole = pyarrow.Array.from_buffers(pyarrow.large_binary(), 1, [None, pyarrow.py_buffer(extent), pyarrow.py_buffer(data)])
    try:
        whole.cast(pyarrow.large_string())
    except pyarrow.ArrowInvalid:
        return False
    return True
