"""Logs: each event is a record with its lines, by `unit="event"`; and records with columns, by `parse`.

A record that has none of the formats has `message`, which is all of its text, and `_error`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import polars

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.planning.steps import BoundStep
from rlm_ray.corpus.reading.logs import containers, fields, notes, parsers
from rlm_ray.corpus.reading.logs.beginnings import Beginnings, found_in
from rlm_ray.corpus.reading.logs.events import events
from rlm_ray.corpus.reading.logs.layout import Layout, LogOptions
from rlm_ray.corpus.reading.reader import Reader, ReadRequest
from rlm_ray.corpus.reading.sampling import SAMPLE_BYTES, SAMPLE_LINES, Sample
from rlm_ray.corpus.reading.text import line_search, lines
from rlm_ray.corpus.reading.text.lines import found_pieces, frame, next_lines, places
from rlm_ray.corpus.reading.text.streams import pieces
from rlm_ray.errors import InputError, ObjectUnreadable, StorageError
from rlm_ray.handle.plan import Grep, Step, Where
from rlm_ray.text import counted

#: Objects whose beginnings are looked at.
_LOOKED_AT = 16

_SCHEMA = {"text": "string", "_error": "string"}
_PLACES = ("_pos", "_end", "_next")


def read(request: ReadRequest) -> Iterator[polars.DataFrame]:
    """Yield frames of the columns, `_pos` and `_end` for the records that begin in `[low, high)`."""
    layout = Layout.from_text(request.shard.dialect)
    found = _parsed(request, layout) if layout.parsers else _texts(request, layout)
    for part in found:
        if part.height:
            yield part


def _texts(request: ReadRequest, layout: Layout) -> Iterator[polars.DataFrame]:
    """The records with their text, and what says that an event was cut."""
    for part in _records(request, layout, request.pattern, "text" in request.columns):
        for predicate in request.predicates:
            part = part.filter(predicate)
        yield part


def _records(request: ReadRequest, layout: Layout, pattern: str | None, has_text: bool) -> Iterator[polars.DataFrame]:
    shard, low, high = request.shard, request.low, request.high
    if layout.container and layout.is_events:
        yield from containers.frames(request, layout, has_text)
        return
    if not layout.is_events:
        for piece in found_pieces(shard, low, high, pattern, request.early):
            part = frame(piece, shard)
            yield part.with_columns(next_lines(piece)) if request.extents else part
        return
    for item in events(shard, layout, low, high, pattern, request.early):
        part = frame(item.piece, shard) if has_text else places(item.piece)
        if request.extents:
            part = part.with_columns(next_lines(item.piece))
        notes.seen().cut += len(item.continued)
        yield _with_errors(part, item.continued, layout) if "_error" in request.columns else part


def _with_errors(part: polars.DataFrame, continued: Any, layout: Layout) -> polars.DataFrame:
    """Events with `_error`, which says of those that continue another that this was cut."""
    said = polars.lit(None, polars.String)
    if len(continued):
        text = f"continues an event of more than {counted(layout.event_bytes, 'byte')}"
        said = polars.when(polars.col("_pos").is_in(list(continued))).then(polars.lit(text)).otherwise(said)
    return part.with_columns(said.alias("_error"))


def _parsed(request: ReadRequest, layout: Layout) -> Iterator[polars.DataFrame]:
    """The records with their columns. Of those that the predicates do not leave, only the columns that these name are looked at."""
    skips = [parser.skips for parser in layout.parsers if parser.skips]
    pattern = request.pattern if all(parser.is_verbatim for parser in layout.parsers) else None
    seen = _Seen(request, pattern)
    _check_head(request.shard, layout)
    for part in _records(request, layout, pattern, True):
        _check_header(request.shard, layout, part["text"])
        for skip in skips:
            part = part.filter(~part["text"].str.contains(skip))
        look = seen.of
        for predicate in request.predicates:
            wanted = [name for name in request.columns if name in predicate.meta.root_names()]
            if part.height and wanted:
                columns, look = look(_columns(part, layout, wanted)), _leave
                part = part.filter(columns.select(predicate).to_series())
        if part.height:
            yield look(_columns(part, layout, request.columns)).drop(_FITS, strict=False)
    seen.note()


_FITS = "_fits"
#: Bytes of an object in which a header is looked for.
_HEAD_BYTES = 4 << 10


def _check_head(shard: Shard, layout: Layout) -> None:
    """Look for the line `#Fields:` of W3C logs in an object's head, where a scan begins behind it: it names the columns.

    Raises
    ------
    ObjectUnreadable
        It has other columns.
    """
    if shard.start and any(parser.header for parser in layout.parsers):
        for piece in pieces(shard, 0, _HEAD_BYTES):
            _check_header(shard, layout, frame(piece, shard)["text"])


def _check_header(shard: Shard, layout: Layout, lines: polars.Series) -> None:
    """Look at some lines.

    Raises
    ------
    ObjectUnreadable
        One of them names other columns.
    """
    known = [parser.header for parser in layout.parsers if parser.header]
    if not known:
        return
    heads = lines.filter(lines.str.starts_with("#Fields:")).str.strip_chars()
    others = heads.filter(~heads.is_in(known))
    if len(others):
        raise ObjectUnreadable(
            f"{shard.uri} has the columns {others[0][8:].strip()!r:.200}, and the corpus has {known[0][8:].strip()!r:.200}. "
            "Open objects with other columns apart."
        )


def _leave(columns: polars.DataFrame) -> polars.DataFrame:
    return columns


class _Seen:
    """What a scan sees of all records of a shard: those without a format, and their times."""

    def __init__(self, request: ReadRequest, pattern: str | None) -> None:
        shard, high = request.shard, request.high
        self._is_whole = pattern is None and request.low <= shard.positions[0] and (high is None or high >= shard.positions[1])
        self._times, self._notes = notes.Times(), notes.seen()

    def of(self, columns: polars.DataFrame) -> polars.DataFrame:
        """Look at the columns of all records of a frame, and return them."""
        if _FITS in columns.columns:
            self._notes.unparsed += int((~columns[_FITS]).sum())
        if "time" in columns.columns:
            self._times.add(columns["time"])
        else:
            self._is_whole = False
        return columns

    def note(self) -> None:
        """Note the times, when all records were seen."""
        if self._is_whole:
            self._notes.times = self._times.ends


def _columns(part: polars.DataFrame, layout: Layout, wanted: Sequence[str]) -> polars.DataFrame:
    """Records of text with the wanted columns, and their places."""
    kept = [part[name] for name in _PLACES if name in part.columns]
    if not wanted:
        return polars.DataFrame(kept)
    found, fits = fields.columns_of(part["text"], layout.parsers, dict(layout.schema), wanted)
    if "_error" in wanted:
        names = ", ".join(parser.name for parser in layout.parsers)
        none = polars.Series([None], dtype=polars.String)
        error = polars.Series([f"no record of the format {names}"]).new_from_index(0, part.height).zip_with(~fits, none)
        cut = part["_error"] if "_error" in part.columns else none.new_from_index(0, part.height)
        found["_error"] = cut.zip_with(cut.is_not_null(), error)
    return polars.DataFrame([*(column.alias(name) for name, column in found.items()), *kept, fits.alias(_FITS)])


def prefilter(step: BoundStep[Step]) -> str | None:
    """Return a pattern that finds something in each text that has a record which a step leaves; None where there is none.

    Of columns it holds where they stand in the text as they are; see `fields.Parser.is_verbatim`. A level may stand there in
    small letters.
    """
    node, schema = step.node, step.sees
    if step.looks_at == ("text",):
        return lines.prefilter(step)
    texts = all(schema.get(name) == "string" and name != "_error" for name in step.looks_at)
    if isinstance(node, Grep) and not node.invert and texts and not re.search(r"[$^]", node.pattern):
        return line_search.prefilter(node.pattern, node.ignore_case or "level" in step.looks_at)
    if isinstance(node, Where) and texts:
        for column, compared, value in node.conditions:
            values = [value] if compared == "==" else list(value) if compared == "in" else []
            if schema.get(column) == "string" and values and all(isinstance(item, str) and item for item in values):
                return "(?i)" + "|".join(f"(?:{_literal(item)})" for item in values)
    return None


def _literal(text: str) -> str:
    """A pattern of a text."""
    return "".join(letter if letter.isalnum() else f"\\x{{{ord(letter):x}}}" for letter in text)


def sample(shards: Sequence[Shard]) -> Sample:
    """Return the columns, how long records are, and how they are found: as the caller says, else by samples of some objects."""
    options, is_events = LogOptions.from_text(shards[0].dialect), shards[0].traits.unit == "event"
    step = max(1, len(shards) // _LOOKED_AT)
    samples: list[list[str]] = []
    failure: StorageError | None = None
    for shard in {shard.object: shard for shard in shards[::step][:_LOOKED_AT]}.values():
        try:
            some = _first_lines(shard)
        except StorageError as error:
            failure = error
            continue
        if some:
            samples.append(some)
    if not samples and failure is not None:
        raise InputError(f"No object could be sampled for its records; the last one: {failure}")
    is_container = bool(samples) and all(containers.is_one(some) for some in samples)
    said = [containers.messages(some) for some in samples] if is_container and is_events else samples
    beginnings = _beginnings(said, options) if is_events else Beginnings()
    layout = Layout(beginnings, options.event_bytes, is_container, is_events)
    texts = [text for some in said for text in (_events(some, beginnings) if is_events else some)]
    nbytes = sum(len(line.encode()) + 1 for some in samples for line in some)
    width = max(1.0, nbytes / max(1, len(texts)))
    if options.parse is None:
        return Sample(_SCHEMA, width, str(layout), layout.to_text())
    named = "cri" if is_container and is_events and options.parse == "auto" else options.parse
    whole = [line for some in samples for line in some] if named == "cri" else texts
    found = parsers.found(whole, named, dict(options.patterns))
    parsed = Layout(beginnings, options.event_bytes, is_container, is_events, found.parsers, tuple(found.schema.items()))
    return Sample(found.schema, width, f"{parsed}; {found}", parsed.to_text())


def _beginnings(samples: Sequence[Sequence[str]], options: LogOptions) -> Beginnings:
    if options.event_start is not None:
        return Beginnings(patterns=(options.event_start,))
    if any(line.startswith("__CURSOR=") for some in samples for line in some[:1]):
        return Beginnings(patterns=(r"^__CURSOR=",))
    return found_in(samples)


def _events(some: Sequence[str], beginnings: Beginnings) -> list[str]:
    """The lines of a sample as events."""
    texts = polars.Series(list(some), dtype=polars.String)
    begins = numpy.zeros(len(texts), numpy.bool_)
    for pattern in beginnings.as_patterns:
        begins |= texts.str.contains(pattern).to_numpy()
    begins[0] = True
    numbers = polars.Series("event", numpy.cumsum(begins))
    joined = (
        polars.DataFrame([numbers, texts.alias("text")])
        .group_by("event", maintain_order=True)
        .agg(polars.col("text").str.join("\n"))
    )
    return joined["text"].to_list()


def _first_lines(shard: Shard) -> list[str]:
    """The first lines of a shard's object."""
    some: list[str] = []
    for piece in pieces(shard, 0, SAMPLE_BYTES):
        some += frame(piece, shard)["text"].to_list()
        if len(some) >= SAMPLE_LINES:
            break
    return some[:SAMPLE_LINES]


def _spans_in_bytes(shard: Shard) -> bool:
    layout = Layout.from_text(shard.dialect)
    return not layout.container and not layout.parsers


READER = Reader(read=read, sample=sample, prefilter=prefilter, spans_in_bytes=_spans_in_bytes)
