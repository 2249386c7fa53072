"""Text by line: each line is a record `{"text": …}`."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import polars
import pyarrow

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.planning.steps import BoundStep
from rlm_ray.corpus.reading.decode_replacements import ERRORS
from rlm_ray.corpus.reading.reader import Reader, ReadRequest
from rlm_ray.corpus.reading.sampling import SAMPLE_BYTES, SAMPLE_LINES, Sample, first_sample
from rlm_ray.corpus.reading.text import line_search
from rlm_ray.corpus.reading.text.line_search import LineCount, LineSearch, is_utf8
from rlm_ray.corpus.reading.text.streams import Piece, encoding_of, pieces, runs
from rlm_ray.handle.plan import Grep, Step

#: Encodings whose bytes are UTF-8.
_UTF8 = ("utf-8", "ascii")


def read(request: ReadRequest) -> Iterator[polars.DataFrame]:
    """Yield frames of the columns (`text` or nothing), `_pos` and `_end` for the lines that start in `[low, high)`.

    The line of number 0 is the first that starts at `low` or behind it.
    """
    shard, low, high = request.shard, request.low, request.high
    if request.ordinals is None:
        found_in = found_pieces(shard, low, high, request.pattern, request.early)
    else:
        found_in = chosen_pieces(shard, low, high, request.ordinals)
    for piece in found_in:
        found = frame(piece, shard) if request.columns else places(piece)
        if request.extents:
            found = found.with_columns(next_lines(piece))
        for predicate in request.predicates:
            found = found.filter(predicate)
        yield found


def count(request: ReadRequest, step: BoundStep[Step]) -> int | None:
    """Return how many lines that start in `[low, high)` a search leaves, without cutting most of them; None where it cannot."""
    node, shard = _search(step), request.shard
    search = LineCount.of(node.pattern, node.ignore_case) if node else None
    if search is None or step.predicate is None or not is_in_utf8(shard):
        return None
    found, spare = 0, list[numpy.ndarray[Any, Any]]()
    for run in runs(shard, request.low, request.high, spare=spare):
        told, piece = search(run)
        found += told
        if piece is not None:
            found += frame(piece, shard).filter(step.predicate).height
        spare.append(run.memory)
    return found


def prefilter(step: BoundStep[Step]) -> str | None:
    """Return a pattern that finds something in each line that a step leaves; None where there is none."""
    node = _search(step)
    return line_search.prefilter(node.pattern, node.ignore_case) if node else None


def _search(step: BoundStep[Step]) -> Grep | None:
    return step.node if isinstance(step.node, Grep) and not step.node.invert else None


def sample(shards: Sequence[Shard]) -> Sample:
    """Return the one column, and how long lines are."""
    return first_sample(shards, _sampled, {"text": "string"})


def _sampled(shard: Shard) -> Sample | None:
    for piece in pieces(shard, 0, SAMPLE_BYTES):
        lines = frame(piece, shard)["text"].head(SAMPLE_LINES)
        mean: Any = lines.str.len_bytes().mean()
        width = max(1.0, float(mean or 0) + 1)
        return Sample({"text": "string"}, width)
    return None


def found_pieces(shard: Shard, low: int, high: int | None, pattern: str | None, early: bool) -> Iterator[Piece]:
    """Yield the lines that start in `[low, high)`, but for most of those in which the pattern finds nothing."""
    if not is_in_utf8(shard):
        pattern = None  # the pattern would look at other letters than a line has
    if pattern is None:
        yield from (run.piece() for run in runs(shard, low, high, early))
        return
    search, spare = LineSearch(pattern), list[numpy.ndarray[Any, Any]]()
    for run in runs(shard, low, high, early, spare):
        piece = search(run)
        if piece is None or piece.memory is not run.memory:
            spare.append(run.memory)
        if piece is not None:
            yield piece


def is_in_utf8(shard: Shard) -> bool:
    """Whether the bytes of lines are UTF-8 by the shard's encoding."""
    return encoding_of(shard) in _UTF8


def chosen_pieces(shard: Shard, low: int, high: int | None, numbers: Sequence[int]) -> Iterator[Piece]:
    """Yield the lines of some numbers; the others are counted, not cut."""
    first = done = 0
    for run in runs(shard, low, high):
        breaks = run.breaks()
        behind = first + breaks[-1] + (run.memory[run.stop - 1] != 10)
        upto = bisect.bisect_left(numbers, behind, done)
        if upto > done:
            yield run.chosen([number - first for number in numbers[done:upto]], breaks)
        first, done = behind, upto
        if done == len(numbers):
            return


def frame(piece: Piece, shard: Shard) -> polars.DataFrame:
    """Return the lines of a piece with their byte ranges. Bytes that are no text become U+FFFD, and are counted."""
    encoding = encoding_of(shard)
    text = _utf8(piece) if encoding in _UTF8 else None
    if text is None:
        data = piece.memory.tobytes()
        cut = [data[start:end].decode(encoding, ERRORS) for start, end in zip(piece.starts, piece.ends, strict=True)]
        text = polars.Series(cut, dtype=polars.String)
    return places(piece).insert_column(0, text.alias("text"))


def places(piece: Piece) -> polars.DataFrame:
    """Return the byte ranges of the lines of a piece."""
    ranges = {"_pos": piece.starts + piece.offset, "_end": piece.ends + piece.offset}
    return polars.DataFrame({name: polars.Series(array, dtype=polars.Int64) for name, array in ranges.items()})


def next_lines(piece: Piece) -> polars.Series:
    """Return the bytes behind the line breaks of a piece, as `_next`."""
    memory, ends = piece.memory, piece.ends
    ends = ends + ((ends < len(memory)) & (memory[numpy.minimum(ends, len(memory) - 1)] == 13))
    return polars.Series("_next", ends + (ends < len(memory)) + piece.offset, dtype=polars.Int64)


def _utf8(piece: Piece) -> polars.Series | None:
    """The lines as views of the piece's own memory, or None where it is not all UTF-8."""
    memory = piece.memory
    # line ends are ASCII: the lines are UTF-8 exactly when all between them is
    if not piece.is_utf8 and not is_utf8(memory[piece.starts[0] : piece.ends[-1]]):
        return None
    # every other text is a line, those between are the line ends: so all of them lie one behind the other
    offsets = numpy.empty(2 * len(piece.starts), numpy.int64)
    offsets[0::2] = piece.starts
    offsets[1::2] = piece.ends
    buffers = [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(memory)]
    texts = pyarrow.Array.from_buffers(pyarrow.large_string(), len(offsets) - 1, buffers)
    return polars.Series("text", texts).gather_every(2)


READER = Reader(read=read, sample=sample, prefilter=prefilter, count=count, takes_ordinals=True, spans_in_bytes=lambda shard: True)
