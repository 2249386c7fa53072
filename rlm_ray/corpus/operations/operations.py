"""What a verb computes: `run` on one shard, on a worker; `merge` of the partial results, in shard order, by the caller.

Partial results are small values that pickle. See `OPERATIONS` for the names, their arguments and results.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy
import polars
import pyarrow

from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.sizes import record_sizes
from rlm_ray.corpus.operations import counting, small_objects
from rlm_ray.corpus.operations.arguments import Lengths, Operation, OperationArgs, Page, PagePart, TextPart
from rlm_ray.corpus.operations.lookup import record_at
from rlm_ray.corpus.planning import chunk_ranges
from rlm_ray.corpus.planning.read_ranges import EXTENT, ReadRange, read_ranges_of
from rlm_ray.corpus.reading.reader import reader_of
from rlm_ray.corpus.reading.records import batch_addresses, to_json, to_records
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, StorageError
from rlm_ray.handle.plan import Between, Step
from rlm_ray.types.json import Record

PAGE_BYTES = 4 << 20


def run(name: str, work: Work, args: OperationArgs) -> Any:
    """Compute one operation over one shard. Reads the shard.

    Raises
    ------
    InputError
        No such operation, or it does not fit the columns.
    ObjectChanged, ObjectUnreadable
        As `scan`.
    """
    return _operation(name).run(work, args)


def run_all(name: str, works: Sequence[Work], args: OperationArgs) -> list[Any]:
    """Compute one operation over several shards, in order; a StorageError stands in the place of each that cannot be read.

    Raises
    ------
    InputError
        As `run`.
    """
    several = small_objects.together if works and works[0].shard.traits.shows_bytes else counting.together
    partials = several(name, works, args)
    if name not in ("count", "count_by"):
        works = small_objects.without_others(works)
    return [_run(name, work, args) if partial is None else partial for work, partial in zip(works, partials, strict=True)]


def _run(name: str, work: Work, args: OperationArgs) -> Any:
    try:
        return run(name, work, args)
    except StorageError as error:
        return error


def merge(name: str, partials: Sequence[Any], args: OperationArgs) -> Any:
    """Join the partial results of several shards, given in shard order. Reads nothing."""
    return _operation(name).merge(partials, args)


def records(
    work: Work, *, max_records: int = 2_000, max_bytes: int = PAGE_BYTES, steps: Sequence[Step] = ()
) -> Iterator[list[dict[str, Any]]]:
    """Yield a shard's records as lists of JSON-able dicts with their `_address`, bounded in number and in bytes."""
    for held, _ in placed(work, max_records=max_records, max_bytes=max_bytes, steps=steps, extents=False):
        yield held


def placed(
    work: Work,
    *,
    max_records: int = 2_000,
    max_bytes: int = PAGE_BYTES,
    steps: Sequence[Step] = (),
    extents: bool = True,
    limit: int | None = None,
) -> Iterator[tuple[list[dict[str, Any]], list[ReadRange]]]:
    """Yield what `records` does, each list with where its records are and what of them is read; at most `limit` records."""
    shown = work.plan.then(*steps).columns
    span = work.plan.span
    held: list[dict[str, Any]] = []
    places: list[ReadRange] = []
    nbytes = 0
    for batch in work.scan(steps=steps, extents=extents, limit=limit):
        sizes = record_sizes(batch)
        read = read_ranges_of(batch) if extents else itertools.repeat(None)
        batch = batch.drop_columns(EXTENT) if extents else batch
        for record, size, place in zip(to_records(batch, work.shard, shown, span), sizes.tolist(), read, strict=False):
            if held and (len(held) >= max_records or nbytes + size > max_bytes):
                yield held, places
                held, places, nbytes = [], [], 0
            held.append(record)
            if place is not None:
                places.append(place)
            nbytes += size
    if held:
        yield held, places


def json_pages(work: Work, *, max_records: int, max_bytes: int) -> Iterator[tuple[bytes, pyarrow.RecordBatch]]:
    """Yield a shard's records as JSON arrays of what `records` gives, each with the batch that it shows."""
    shown = work.plan.columns
    span = work.plan.span
    held: list[pyarrow.RecordBatch] = []
    count = nbytes = 0

    def page() -> tuple[bytes, pyarrow.RecordBatch]:
        batch = pyarrow.concat_batches(held)
        return to_json(batch, work.shard, shown, span), batch

    for batch in work.scan():
        ends = numpy.cumsum(record_sizes(batch))
        at = 0
        while at < batch.num_rows:
            before = int(ends[at - 1]) if at else 0
            fits = int(numpy.searchsorted(ends, before + max_bytes - nbytes, side="right"))
            stop = min(batch.num_rows, at + max_records - count, max(fits, at if held else at + 1))
            if stop > at:
                held.append(batch.slice(at, stop - at))
                count, nbytes = count + stop - at, nbytes + int(ends[stop - 1]) - before
            at = stop
            if at < batch.num_rows:
                yield page()
                held, count, nbytes = [], 0, 0
    if held:
        yield page()


# -- the operations


def _page(work: Work, args: OperationArgs) -> PagePart:
    after = args.get("after")
    if after is not None and after[0] > work.shard.index:
        return {"records": [], "places": [], "sizes": [], "ends": [], "more": False}
    more_steps = [] if after is None else [Between((after[0], after[1], after[2]))]
    count, room = args["n"], args.get("max_bytes", PAGE_BYTES)
    shown = work.plan.columns
    page: PagePart = {"records": [], "places": [], "sizes": [], "ends": [], "more": False}
    # one record more than wanted says whether there is more
    for batch in work.scan(steps=more_steps, limit=count + 1, extents=True):
        ends, batch = batch.column("_next"), batch.drop_columns(EXTENT)
        sizes = record_sizes(batch)
        kept = min(batch.num_rows, count - len(page["records"]))
        fits = int(numpy.searchsorted(numpy.cumsum(sizes), room, side="right"))
        if not page["records"]:
            fits = max(fits, 1)
        kept = min(kept, fits)
        part = batch.slice(0, kept)
        page["records"] += to_records(part, work.shard, shown, work.plan.span)
        pairs = zip(part.column("_pos").to_pylist(), part.column("_char").to_pylist(), strict=True)
        page["places"] += [(work.shard.index, position, char) for position, char in pairs]
        page["sizes"] += sizes[:kept].tolist()
        page["ends"] += ends[:kept].to_pylist()
        room -= int(sizes[:kept].sum())
        if kept < batch.num_rows:
            page["more"] = True
            break
    return page


def _merge_page(partials: Sequence[PagePart], args: OperationArgs) -> Page:
    found: list[Record] = []
    room = args.get("max_bytes", PAGE_BYTES)
    last = None
    for partial in partials:
        for record, place, size in zip(partial["records"], partial["places"], partial["sizes"], strict=True):
            if found and (len(found) >= args["n"] or size > room):
                return {"records": found, "after": last}
            found.append(record)
            last = [place[0], place[1], place[2] + 1]
            room -= size
        if partial["more"]:
            return {"records": found, "after": last}
    return {"records": found, "after": None}


def _merge_head(partials: Sequence[PagePart], args: OperationArgs) -> list[Record]:
    return [record for partial in partials for record in partial["records"]][: args["n"]]


def _at(work: Work, args: OperationArgs) -> list[Record]:
    shown, span = work.plan.columns, work.plan.span
    return [record for batch in _batches_at(work, args["ordinals"]) for record in to_records(batch, work.shard, shown, span)]


def _places(work: Work, args: OperationArgs) -> list[tuple[int, int, str]]:
    """Return position, character and address of records by their number, in order."""
    found: list[tuple[int, int, str]] = []
    for batch in _batches_at(work, args["ordinals"]):
        columns = [batch.column(name).to_pylist() for name in ("_pos", "_char")]
        found += zip(*columns, batch_addresses(batch, work.shard, work.plan.span).to_list(), strict=True)
    return found


def _batches_at(work: Work, ordinals: Sequence[int]) -> Iterator[pyarrow.RecordBatch]:
    """Yield the records with some numbers, in order, and no others."""
    wanted = numpy.asarray(sorted(ordinals), numpy.int64)
    if not len(wanted):
        return
    rows = work.plan.row_range(work.shard) if work.shard.in_rows else None
    if rows is not None:
        # rows by their number: only the row groups that hold them are read, and only those rows are decoded
        numbers = deletions.rows_of(work.shard, rows[0], wanted)
        low, high = int(numbers[0]), min(int(numbers[-1]) + 1, rows[1])
        place = Between((work.shard.index, low, 0), (work.shard.index, high, 0))
        columns = work.plan.only(lambda step: step.leaves_everything)
        yield from replace(work, plan=columns.then(place)).scan(positions=numbers.tolist())
        return
    if reader_of(work.shard.format).takes_ordinals and work.plan.is_range(work.shard.index):
        # the other lines are counted, and never cut
        yield from work.scan(positions=wanted.tolist())
        return
    seen = 0
    for batch in work.scan(limit=int(wanted[-1]) + 1):
        here = wanted[(wanted >= seen) & (wanted < seen + batch.num_rows)] - seen
        if len(here):
            yield batch.take(pyarrow.array(here))
        seen += batch.num_rows


def _merge_lists(partials: Sequence[list[Any]], args: OperationArgs) -> list[Any]:
    return [item for partial in partials for item in partial]


def _text(work: Work, args: OperationArgs) -> TextPart:
    most = args["max_chars"]
    parts: list[str] = []
    length = 0
    # a record has a character at least, its line break
    for page, places in placed(work, max_records=200, max_bytes=1 << 20, limit=most + 2):
        for record, place in zip(page, places, strict=True):
            parts.append(shown_text(record))
            length += len(parts[-1]) + 1
            if length > most + 1:
                return {"text": "\n".join(parts)[: most + 1], "more": True, "end": place[3]}
    return {"text": "\n".join(parts), "more": False, "end": None}


def shown_text(record: Mapping[str, Any]) -> str:
    """Return a record as text: the text itself, or its columns as JSON where it has several.

    Examples
    --------
    >>> shown_text({"_address": "a@1#bytes=0-2", "text": "hi"})
    'hi'
    >>> shown_text({"_address": "a@1#row=0", "host": "h1", "msg": "hi"})
    '{"host": "h1", "msg": "hi"}'
    """
    values = {name: value for name, value in record.items() if name != "_address"}
    if len(values) == 1 and isinstance(only := next(iter(values.values())), str):
        return only
    if list(values) == ["path", "text"]:
        return f"== {values['path']} ==\n{values['text']}"
    return json.dumps(values, ensure_ascii=False)


def _merge_text(partials: Sequence[TextPart], args: OperationArgs) -> str:
    most = args["max_chars"]
    parts = [partial["text"] for partial in partials if partial["text"] or partial["more"]]
    text = "\n".join(parts)
    if len(text) <= most and not any(partial["more"] for partial in partials):
        return text
    return text[:most] + f"\n[cut at {most:,} characters; there is more: narrow the handle, or take a slice of it]"


def _chunk_ranges(work: Work, args: OperationArgs) -> list[tuple[Any, list[chunk_ranges.ChunkRange]]]:
    by = args.get("by")
    target, overlap = args["target_bytes"], args.get("overlap_bytes", 0)
    cutters: dict[Any, chunk_ranges.Cutter] = {}
    if by is not None and by not in work.plan.columns:
        raise InputError(f"There is no column {by!r}. Columns: {', '.join(work.plan.columns)}.")
    for batch in work.scan():
        places = [batch.column(name).to_numpy() for name in ("_pos", "_char")]
        sizes = record_sizes(batch)
        for value, rows in _rows_by(batch, by):
            if value not in cutters:
                cutters[value] = chunk_ranges.Cutter(work.shard.index, target, overlap)
                counting.check_distinct(len(cutters), str(by))
            cutters[value].add(*(array if rows is None else array[rows] for array in (*places, sizes)))
    work.build_index()  # chunks begin in the middle
    return [(value, cutter.finish()) for value, cutter in cutters.items()]


def _rows_by(batch: pyarrow.RecordBatch, by: str | None) -> Iterator[tuple[Any, Any]]:
    """Rows of each value of a column, in order of first appearance."""
    if by is None:
        yield None, None
        return
    grouped = polars.DataFrame({"value": polars.Series(batch.column(by))}).with_row_index("row")
    for value, rows in grouped.group_by("value", maintain_order=True).agg("row").iter_rows():
        yield value, numpy.asarray(rows)


def _merge_chunk_ranges(
    partials: Sequence[list[tuple[Any, list[chunk_ranges.ChunkRange]]]], args: OperationArgs
) -> list[chunk_ranges.ChunkRange]:
    by_value: dict[Any, list[list[chunk_ranges.ChunkRange]]] = {}
    for partial in partials:
        for value, part in partial:
            by_value.setdefault(value, []).append(part)
    target = args["target_bytes"]
    if args.get("by") is None:
        return chunk_ranges.join(by_value.get(None, []), target)
    counting.check_distinct(len(by_value), str(args["by"]))
    return [[*piece, value] for value, parts in by_value.items() for piece in chunk_ranges.join(parts, target)]


def _lengths(work: Work, args: OperationArgs) -> Lengths:
    total: Lengths = {"records": 0, "nbytes": 0, "longest": 0}
    for batch in work.scan():
        sizes = record_sizes(batch)
        total["records"] += batch.num_rows
        total["nbytes"] += int(sizes.sum())
        total["longest"] = max(total["longest"], int(sizes.max()))
    return total


def _merge_lengths(partials: Sequence[Lengths], args: OperationArgs) -> Lengths:
    return {
        "records": sum(partial["records"] for partial in partials),
        "nbytes": sum(partial["nbytes"] for partial in partials),
        "longest": max((partial["longest"] for partial in partials), default=0),
    }


#: Name -> (run, merge). Arguments and merged results:
#: count {} -> int; head {n} -> records; page {after, n, max_bytes} -> {"records", "after"}, where `after` is the place to go
#: on from (inclusive; None is the beginning, or the end);
#: count_by {column, limit} -> {"counts": [[value, n]], "distinct"}; at {ordinals} -> records;
#: places {ordinals} -> [(position, character, address)]; record {address} -> a record or None, not merged;
#: text {max_chars} -> str; chunk_ranges {target_bytes, by, overlap_bytes} -> ranges;
#: lengths {} -> {"records", "nbytes", "longest"}.
OPERATIONS: dict[str, Operation] = {
    "count": Operation(counting.count, counting.merge_count),
    "head": Operation(_page, _merge_head),
    "page": Operation(_page, _merge_page),
    "count_by": Operation(counting.count_by, counting.merge_count_by),
    "at": Operation(_at, _merge_lists),
    "places": Operation(_places, _merge_lists),
    "record": Operation(record_at, _merge_lists),
    "text": Operation(_text, _merge_text),
    "chunk_ranges": Operation(_chunk_ranges, _merge_chunk_ranges),
    "lengths": Operation(_lengths, _merge_lengths),
}


def _operation(name: str) -> Operation:
    if name not in OPERATIONS:
        raise InputError(f"There is no operation {name!r}. Use one of {', '.join(OPERATIONS)}.")
    return OPERATIONS[name]
