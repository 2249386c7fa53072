"""Events of a container runtime's logs (CRI): a line is `time stream tag message`, and the streams' lines are interleaved.

A line with the tag `P` goes on in the next line of its stream, without a line break between. An event takes the lines of its
stream; its place is from its first line to the end of its last. What is said in `events` of shards and cells holds for each
stream: which lines belong to an event is known from the line's cell and the two before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import polars

from rlm_ray.corpus.reading.logs import notes
from rlm_ray.corpus.reading.logs.layout import Layout
from rlm_ray.corpus.reading.reader import ReadRequest
from rlm_ray.corpus.reading.text.lines import frame, next_lines
from rlm_ray.corpus.reading.text.streams import Run, runs
from rlm_ray.text import counted

_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d) (?:stdout|stderr) [FP](?::\S*)? ?(.*)", re.DOTALL)
_PARTS = r"(?s)^(?P<prefix>[0-9T:.Z+-]{20,35} (?P<stream>stdout|stderr) (?P<tag>[FP])(?::[^ ]*)? ?)(?P<message>.*)$"
#: Behind all places.
_END = 1 << 62
#: Columns of the lines that are kept from one run to the next.
_KEPT = ("_pos", "_end", "_next", "stream", "tag", "piece", "cell", "begins", "cut", "own_cell", "is_known")


def is_one(lines: Sequence[str]) -> bool:
    """Return whether most of some lines are those of a container runtime.

    Examples
    --------
    >>> is_one(["2024-01-05T10:00:00.1Z stdout F ready"]), is_one(["2024-01-05 ready"])
    (True, False)
    """
    return bool(lines) and 2 * sum(_LINE.match(line) is not None for line in lines) > len(lines)


def messages(lines: Sequence[str]) -> list[str]:
    """Return what the lines say, each without time, stream and tag."""
    found = (_LINE.fullmatch(line) for line in lines)
    return [line if match is None else match[1] for match, line in zip(found, lines, strict=True)]


def frames(request: ReadRequest, layout: Layout, has_text: bool) -> Iterator[polars.DataFrame]:
    """Yield frames of `text`, `_error`, `_pos` and `_end` for the events that begin in `[low, high)`."""
    low, high, size = request.low, request.high, layout.event_bytes
    begin = max(0, (low // size - 2) * size) if low else 0
    stop = None if high is None else ((high - 1) // size + 2) * size
    kept: polars.DataFrame | None = None
    done = low
    for run in runs(request.shard, begin, stop, request.early):
        lines = _with_event(_marked(_lines(request, run, layout), kept))
        open_from = _open_from(lines)
        yield from _events(lines, done, min(open_from, high or _END), request, layout, has_text)
        if high is not None and open_from >= high and run.offset + run.stop >= high:
            return
        kept, done = _kept(lines, open_from), max(done, open_from)
    if kept is not None:
        yield from _events(_with_event(kept), done, high or _END, request, layout, has_text)


def _lines(request: ReadRequest, run: Run, layout: Layout) -> polars.DataFrame:
    """The lines of a run, with what each says of itself alone."""
    piece = run.piece()
    found = frame(piece, request.shard).with_columns(next_lines(piece))
    parts = found["text"].str.extract_groups(_PARTS).struct.unnest()
    said = parts["message"].fill_null(found["text"])
    own = numpy.zeros(len(said), numpy.bool_)
    for pattern in layout.beginnings.as_patterns:
        own |= said.str.contains(pattern).to_numpy()
    return found.select(
        "_pos",
        "_end",
        "_next",
        parts["stream"].fill_null("").alias("stream"),
        parts["tag"].fill_null("F").alias("tag"),
        parts["prefix"].fill_null("").alias("prefix"),
        said.alias("message"),
        (polars.col("_pos") // layout.event_bytes).alias("cell"),
        polars.Series("matches", own),
    )


def _marked(lines: polars.DataFrame, kept: polars.DataFrame | None) -> polars.DataFrame:
    """The lines behind those that were kept, with what begins an event in each stream."""
    if kept is not None:
        lines = polars.concat([kept, lines], how="diagonal")
    if "is_known" not in lines.columns:
        nothing = {"piece": polars.String, "begins": polars.Boolean, "cut": polars.Boolean, "own_cell": polars.Int64}
        lines = lines.with_columns(
            *(polars.lit(None, kind).alias(name) for name, kind in nothing.items()), polars.lit(False).alias("is_known")
        )
    known, cell = polars.col("is_known").fill_null(False), polars.col("cell")
    before = {name: polars.col(name).shift().over("stream") for name in ("tag", "cell", "own_cell")}
    goes_on = ((before["tag"] == "P") & (before["cell"] >= cell - 1)).fill_null(False)
    lines = lines.with_columns(goes_on.alias("goes_on"))
    own = ~known & polars.col("matches").fill_null(False) & ~polars.col("goes_on")
    lines = lines.with_columns(own.alias("own"))
    own_cell = polars.when(known).then("own_cell").when("own").then(cell).otherwise(None)
    lines = lines.with_columns(own_cell.forward_fill().over("stream").alias("own_cell"))
    forced = (before["cell"] != cell).fill_null(True) & (before["own_cell"] != cell - 1).fill_null(True) & ~polars.col("own")
    cut = forced & (before["cell"] >= cell - 1).fill_null(False)
    lines = lines.with_columns(polars.when(known).then("cut").otherwise(cut).alias("cut"))
    begins = polars.when(known).then("begins").otherwise(polars.col("own") | forced)
    message = polars.col("message")
    piece = (
        polars.when(known)
        .then("piece")
        .when(begins)
        .then(polars.col("prefix") + message)
        .when("goes_on")
        .then(message)
        .otherwise("\n" + message)
    )
    return lines.with_columns(begins.alias("begins"), piece.alias("piece"), polars.lit(True).alias("is_known")).select(_KEPT)


def _with_event(lines: polars.DataFrame) -> polars.DataFrame:
    """Lines with the place where their event begins."""
    place = polars.when("begins").then("_pos").otherwise(None)
    return lines.with_columns(place.forward_fill().over("stream").alias("event"))


def _open_from(lines: polars.DataFrame) -> int:
    """Return where the first event begins that may go on."""
    reached = lines["cell"][-1]
    last = lines.group_by("stream").agg(polars.col("event").last(), polars.col("cell").filter("begins").last())
    first: Any = last.filter(polars.col("event").is_not_null() & (polars.col("cell") >= reached - 1))["event"].min()
    return _END if first is None else int(first)


def _kept(lines: polars.DataFrame, open_from: int) -> polars.DataFrame:
    """The lines that later ones need: those of events that are not given yet, and the last one of each stream."""
    is_last = polars.int_range(polars.len()).over("stream") == polars.len().over("stream") - 1
    return lines.filter((polars.col("event") >= open_from).fill_null(False) | is_last).select(_KEPT)


def _events(
    lines: polars.DataFrame, low: int, high: int, request: ReadRequest, layout: Layout, has_text: bool
) -> Iterator[polars.DataFrame]:
    """Yield the events that begin in `[low, high)`."""
    found = lines.filter((polars.col("event") >= low) & (polars.col("event") < high))
    if not found.height:
        return
    notes.seen().cut += int(found.filter("begins")["cut"].sum())
    columns = [polars.col("_pos").first(), polars.col("_end").last()]
    if has_text:
        columns.append(polars.col("piece").str.join("").alias("text"))
    if "_error" in request.columns:
        said = polars.lit(f"continues an event of more than {counted(layout.event_bytes, 'byte')}")
        columns.append(polars.when(polars.col("cut").first()).then(said).otherwise(None).alias("_error"))
    if request.extents:
        columns.append(polars.col("_next").last())
    yield found.group_by("event", maintain_order=True).agg(columns).drop("event")
