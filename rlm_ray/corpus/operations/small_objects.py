"""Counts many small text objects together, so that the fixed cost of a pass is paid once.

Their bytes stand one behind the other in memory, as if they were one object. What is special about one (a place that was asked
for, bytes that are no UTF-8) is left to who looks at one object at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy
import polars

from rlm_ray import storage
from rlm_ray.corpus.catalog.document_kinds import kind_in
from rlm_ray.corpus.operations import counting
from rlm_ray.corpus.operations.arguments import OperationArgs
from rlm_ray.corpus.planning import expressions
from rlm_ray.corpus.planning.bind import BoundPlan
from rlm_ray.corpus.reading.reader import reader_of
from rlm_ray.corpus.reading.text import line_search, lines
from rlm_ray.corpus.reading.text.streams import BOM, Run, encoding_of, look_at
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import ObjectUnreadable, StorageError

#: Largest object that is small, and bytes that are held of several.
SMALL, TOGETHER = 256 << 10, 8 << 20
_OPERATIONS = ("count", "count_by")
#: Fewer are not worth it; and objects after which is asked whether looking ahead is worth it.
_LEAST, _LOOKED_AT = 4, 512


def together(operation: str, works: Sequence[Work], args: OperationArgs) -> list[Any]:
    """Compute an operation over several shards by few passes; None in the place of each that is to be asked by itself.

    In the place of an object that cannot be read stands the StorageError. Of `count_by`, what neighbours have stands in the place
    of the first.

    Raises
    ------
    InputError
        The operation does not fit the columns.
    """
    found: list[Any] = [None] * len(works)
    at = 0
    while at < len(works):
        stop = _neighbours(operation, works, at)
        if stop - at >= _LEAST:
            found[at:stop] = _joint(works[at:stop], args.get("column")) or [None] * (stop - at)
        at = max(stop, at + 1)
    return found


def without_others(works: Sequence[Work]) -> Sequence[Work]:
    """Return works of which those are marked that hold no record which the steps leave, where many are like that.

    Reads small objects of text that filters look at; those that hold one will be read again.
    """
    if not works or not works[0].shard.traits.shows_bytes or not works[0].plan.filters_columns:
        return works
    marked: list[Work] = []
    while len(marked) < len(works):
        some = works[len(marked) : len(marked) + _LOOKED_AT]
        counts = together("count", some, {})
        marked += [replace(work, nothing=True) if count == 0 else work for work, count in zip(some, counts, strict=True)]
        if 4 * sum(count == 0 for count in counts) < 3 * len(some):
            return [*marked, *works[len(marked) :]]
    return marked


def _neighbours(operation: str, works: Sequence[Work], at: int) -> int:
    """Return the number behind the last work that can be counted together with the one at `at`."""
    first = works[at]
    if operation not in _OPERATIONS or not first.plan.leaves_all_but_filters(first.shard):
        return at
    if operation == "count" and first.plan.row_range(first.shard) is not None:
        return at  # known without reading
    stop, nbytes = at, 0
    while stop < len(works) and nbytes < TOGETHER and _is_small(works[stop], first):
        nbytes += works[stop].shard.size
        stop += 1
    return stop


def _is_small(work: Work, first: Work) -> bool:
    shard = work.shard
    return (
        shard.traits.shows_bytes
        and shard.traits is first.shard.traits
        and shard.compression is None
        and encoding_of(shard) == "utf-8"
        and not shard.is_wide
        and (shard.start, shard.stop) == (0, shard.size)
        and shard.size <= SMALL
        and work.plan == first.plan
        and work.plan.leaves_all_but_filters(shard)
        and reader_of(shard.format).spans_in_bytes(shard)
    )


def _joint(works: Sequence[Work], column: str | None) -> list[Any] | None:
    """Return a partial, or an error, for each work; None where each is to be asked by itself."""
    if column is not None and column not in works[0].plan.columns:
        return None
    found: list[Any] = list(storage.read_small((work.shard.uri, work.shard.version, work.shard.size) for work in works))
    for number, work in enumerate(works):
        if work.shard.unseen and isinstance(found[number], bytes):
            try:
                look_at(work.shard, found[number])
            except ObjectUnreadable as error:
                found[number] = error
    good = [number for number, data in enumerate(found) if not isinstance(data, StorageError)]
    if not good:
        return found
    objects = [found[number].removeprefix(BOM) for number in good]
    count = _count_lines if works[0].shard.traits.lines_are_records else _count_documents
    partials = count([works[number] for number in good], objects, column)
    if partials is None:
        return None
    for number, partial in zip(good, partials, strict=True):
        found[number] = partial
    return found


def _count_lines(works: Sequence[Work], objects: Sequence[bytes], column: str | None) -> list[Any] | None:
    """Count lines; None where not all is UTF-8."""
    parts = [data if not data or data.endswith(b"\n") else data + b"\n" for data in objects]
    memory = numpy.frombuffer(b"".join(parts), numpy.uint8)
    borders = numpy.cumsum([0, *map(len, parts)])
    plan = works[0].plan
    if column is None and not plan.filters_columns:
        breaks = numpy.flatnonzero(memory == 10)
        counts: list[int] = numpy.diff(numpy.searchsorted(breaks, borders)).tolist()
        return counts
    if not line_search.is_utf8(memory):
        return None
    run, pattern = Run(memory, 0, 0, len(memory)), _pattern(plan)
    if not len(memory):
        piece = None
    else:
        piece = run.piece() if pattern is None else line_search.LineSearch(pattern)(run)
    if piece is None:
        return _partials(works, _EMPTY, column)
    frame = lines.frame(piece, works[0].shard)
    numbers = numpy.searchsorted(borders, frame["_pos"].to_numpy(), side="right") - 1
    return _partials(works, frame.select("text", polars.Series("_object", numbers)), column)


def _count_documents(works: Sequence[Work], objects: Sequence[bytes], column: str | None) -> list[Any] | None:
    """Count objects; None where not all is UTF-8, or one has to be parsed."""
    if any(kind_in(data) is not None for data in objects):
        return None
    try:
        texts = [data.decode() for data in objects]
    except UnicodeDecodeError:
        return None
    return _partials(works, polars.DataFrame({"text": texts, "_object": numpy.arange(len(texts))}), column)


_EMPTY = polars.DataFrame(schema={"text": polars.String, "_object": polars.Int64})


def _pattern(plan: BoundPlan) -> str | None:
    """A pattern that every text has which holds a line that the steps leave; see `line_search.prefilter`."""
    patterns = (lines.prefilter(step) for step in plan.steps if step.looks_at == ("text",))
    return next((pattern for pattern in patterns if pattern is not None), None)


def _partials(works: Sequence[Work], frame: polars.DataFrame, column: str | None) -> list[Any]:
    """Return what each work's records come to, given all of them with the numbers of their objects."""
    plan = works[0].plan
    out = [] if column is None else [column]
    for name in plan.needed(out):
        if name != "text":  # what the object's path says
            kind = expressions.dtype(plan.schema[name])
            values = polars.Series(name, [dict(work.shard.partitions)[name] for work in works], kind)
            frame = frame.with_columns(values.gather(frame["_object"]))
    for step in plan.steps:
        frame = frame if step.predicate is None else frame.filter(step.predicate)
    if column is None:
        return numpy.bincount(frame["_object"].to_numpy(), minlength=len(works)).tolist()
    return [counting.by_value([counting.grouped(column)(frame.lazy()).collect()], works[0], column), *([] for _ in works[1:])]
