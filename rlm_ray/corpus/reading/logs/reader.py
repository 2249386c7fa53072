"""Logs: each event is a record `{"text": …}` with its lines, by `unit="event"`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.reading.logs import containers
from rlm_ray.corpus.reading.logs.beginnings import Beginnings, found_in
from rlm_ray.corpus.reading.logs.events import Events, events
from rlm_ray.corpus.reading.logs.layout import Layout, LogOptions
from rlm_ray.corpus.reading.reader import Reader, ReadRequest
from rlm_ray.corpus.reading.sampling import SAMPLE_BYTES, SAMPLE_LINES, Sample
from rlm_ray.corpus.reading.text.lines import frame, next_lines, places, prefilter
from rlm_ray.corpus.reading.text.streams import pieces
from rlm_ray.errors import InputError, StorageError
from rlm_ray.text import counted

#: Objects whose beginnings are looked at.
_LOOKED_AT = 16

_SCHEMA = {"text": "string", "_error": "string"}


def read(request: ReadRequest) -> Iterator[polars.DataFrame]:
    """Yield frames of the columns, `_pos` and `_end` for the events that begin in `[low, high)`."""
    layout = Layout.from_text(request.shard.dialect)
    frames = containers.frames(request, layout) if layout.container else _frames(request, layout)
    for found in frames:
        for predicate in request.predicates:
            found = found.filter(predicate)
        if found.height:
            yield found


def _frames(request: ReadRequest, layout: Layout) -> Iterator[polars.DataFrame]:
    shard = request.shard
    for item in events(shard, layout, request.low, request.high, request.pattern, request.early):
        found = frame(item.piece, shard) if "text" in request.columns else places(item.piece)
        if request.extents:
            found = found.with_columns(next_lines(item.piece))
        yield with_errors(found, item, layout) if "_error" in request.columns else found


def with_errors(found: polars.DataFrame, item: Events, layout: Layout) -> polars.DataFrame:
    """Return events with `_error`, which says of those that continue another that this was cut."""
    said = polars.lit(None, polars.String)
    if len(item.continued):
        text = f"continues an event of more than {counted(layout.event_bytes, 'byte')}"
        said = polars.when(polars.col("_pos").is_in(list(item.continued))).then(polars.lit(text)).otherwise(said)
    return found.with_columns(said.alias("_error"))


def sample(shards: Sequence[Shard]) -> Sample:
    """Return the columns, how long events are, and what begins one: as the caller says, else by the beginnings of some objects."""
    options = LogOptions.from_text(shards[0].dialect)
    step = max(1, len(shards) // _LOOKED_AT)
    samples: list[list[str]] = []
    failure: StorageError | None = None
    for shard in {shard.object: shard for shard in shards[::step][:_LOOKED_AT]}.values():
        try:
            lines = _first_lines(shard)
        except StorageError as error:
            failure = error
            continue
        if lines:
            samples.append(lines)
    if not samples and failure is not None:
        raise InputError(f"No object could be sampled for its events; the last one: {failure}")
    is_container = bool(samples) and all(containers.is_one(lines) for lines in samples)
    said = [containers.messages(lines) for lines in samples] if is_container else samples
    given = options.event_start
    beginnings = found_in(said) if given is None else Beginnings(patterns=(given,))
    layout = Layout(beginnings, options.event_bytes, is_container)
    count = sum(len(item) for item in samples)
    begun: Any = sum(
        polars.Series(item, dtype=polars.String).str.contains(pattern).sum() for item in said for pattern in beginnings.as_patterns
    )
    nbytes = sum(len(line.encode()) + 1 for item in samples for line in item)
    return Sample(_SCHEMA, max(1.0, nbytes / max(1, min(int(begun), count))), str(layout), layout.to_text())


def _first_lines(shard: Shard) -> list[str]:
    """The first lines of a shard's object."""
    lines: list[str] = []
    for piece in pieces(shard, 0, SAMPLE_BYTES):
        lines += frame(piece, shard)["text"].to_list()
        if len(lines) >= SAMPLE_LINES:
            break
    return lines[:SAMPLE_LINES]


READER = Reader(
    read=read, sample=sample, prefilter=prefilter, spans_in_bytes=lambda shard: not Layout.from_text(shard.dialect).container
)
