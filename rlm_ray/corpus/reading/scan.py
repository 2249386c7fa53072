"""Scans one shard with a plan: yields Arrow batches of the matching records, with their places.

Batches hold the data columns and `_pos` (row, or byte offset of the line's start), `_end` (exclusive), `_char` and
`_char_end` (characters of a span; 0 and null for whole records). A scan holds one batch in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy
import polars
import pyarrow
import pyarrow.compute

from rlm_ray import storage
from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.footers import with_footer
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.meaning.types import arrow_type
from rlm_ray.corpus.planning import expressions
from rlm_ray.corpus.planning.bind import BoundPlan
from rlm_ray.corpus.planning.read_ranges import EXTENT, with_read_ranges
from rlm_ray.corpus.planning.steps import BoundStep
from rlm_ray.corpus.reading import apply
from rlm_ray.corpus.reading.apply import Selections
from rlm_ray.corpus.reading.parsed.foreign import Parsers
from rlm_ray.corpus.reading.reader import Query, Reader, ReadRequest, Reduce, reader_of
from rlm_ray.corpus.reading.text.streams import encoding_of
from rlm_ray.handle.plan import Step

#: The columns that a scan adds.
PLACE = ("_pos", "_end", "_char", "_char_end")


def scan(
    shard: Shard,
    plan: BoundPlan,
    *,
    selections: Selections | None = None,
    batch_bytes: int = 8 << 20,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
    table: pyarrow.Table | None = None,
    positions: Sequence[int] | None = None,
    extents: bool = False,
    parsers: Parsers | None = None,
) -> Iterator[pyarrow.RecordBatch]:
    """Yield the records of one shard that the steps leave.

    Parameters
    ----------
    shard : Shard
    plan : BoundPlan
        A Slice must have become a Window.
    selections : callable, optional
        `(selection, shard index) -> table of pos and char`; needed by Keep.
    batch_bytes : int
        About the size of a batch.
    columns : sequence of str, optional
        Only these of the columns that come out; none of them is a scan of places.
    limit : int, optional
        Stop after so many records.
    table : pyarrow.Table, optional
        Of a result's shard: its rows, where they are at hand and the file need not be read.
    positions : sequence of int, optional
        Of Parquet and results, only these rows of the file; of lines, only those of these numbers, counted where the range begins.
        They ascend. The plan must be ranges and columns.
    extents : bool
        Add what is read of the object (see `EXTENT`).
    parsers : Parsers, optional
        See `ReadRequest`.

    Raises
    ------
    InputError
        A selection that no run has.
    ObjectChanged
        The object is not the manifest's version, before or after the scan.
    ObjectUnreadable
        The format's reader refuses the object.
    """
    out = [name for name in plan.columns if columns is None or name in columns]
    for part in frames(
        shard,
        plan,
        selections=selections,
        batch_bytes=batch_bytes,
        columns=columns,
        limit=limit,
        table=table,
        positions=positions,
        extents=extents,
        parsers=parsers,
    ):
        yield _batch(part, out, plan.schema, (*PLACE, *EXTENT) if extents else PLACE)


def frames(
    shard: Shard,
    plan: BoundPlan,
    *,
    selections: Selections | None = None,
    batch_bytes: int = 8 << 20,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
    table: pyarrow.Table | None = None,
    positions: Sequence[int] | None = None,
    extents: bool = False,
    reduce: Reduce | None = None,
    parsers: Parsers | None = None,
) -> Iterator[polars.DataFrame]:
    """Yield what `scan` does as polars frames, for a caller that counts and keeps no record: texts may be views of what was read.

    Columns are in no order, and there may be more than were asked for. With `reduce` (and no limit), what it makes of them,
    in parts: where the reader takes all steps, of a shard as a whole.
    """
    out = [name for name in plan.columns if columns is None or name in columns]
    if not plan.may_hold(shard):
        return
    shard = with_footer(shard, plan.schema)
    low, high = plan.position_range(shard)
    if low >= high:
        return
    reader, in_file = reader_of(shard.format), table is None
    if in_file and not reader.compares_versions:
        storage.check_version(shard.uri, shard.version)
    left = limit
    predicates = [deletions.kept(shard)] if shard.deleted else []
    if positions is not None and not reader.takes_ordinals:
        predicates.append(polars.col("_pos").is_in(list(positions)))
    request = ReadRequest(
        shard,
        plan.schema,
        plan.needed(out),
        low,
        high,
        predicates,
        extents=extents,
        early=limit is not None or any(step.ends_in(shard.index) for step in plan.steps),
        ordinals=positions if reader.takes_ordinals else None,
        batch_bytes=batch_bytes,
        table=table,
        parsers=parsers,
    )
    for frame in _stepped(reader, request, plan, selections, limit, reduce):
        part = frame if left is None else frame.head(left)
        if part.height:
            yield with_read_ranges(part, shard) if extents else part
        if left is not None:
            left -= part.height
            if left == 0:
                break
    if in_file and (not reader.compares_versions or not storage.is_remote(shard.uri)):
        # what was read may have changed on the way; each request to a store was bound to the version
        storage.check_version(shard.uri, shard.version)


def counted(shard: Shard, plan: BoundPlan) -> int | None:
    """Return how many records one search leaves of a shard, as its reader counts them; None where a scan must say."""
    count = reader_of(shard.format).count
    steps = [step for step in plan.steps if not step.leaves_all_of(shard)]
    low, high = plan.position_range(shard)
    if count is None or len(steps) != 1 or steps[0].looks_at != ("text",) or "text" in dict(shard.partitions) or low >= high:
        return None
    high_here = high if high < 1 << 62 else None
    found = count(ReadRequest(shard, plan.schema, ["text"], low, high_here), steps[0])
    if found is not None and not storage.is_remote(shard.uri):
        storage.check_version(shard.uri, shard.version)
    return found


def queries(
    shards: Sequence[Shard], plan: BoundPlan, *, columns: Sequence[str], reduce: Reduce, tables: Sequence[pyarrow.Table | None]
) -> list[Query | None]:
    """Return what `frames` with `reduce` asks of each shard, to be asked together (`polars_rows.together`). Reads nothing.

    None for a shard of which it asks more than one query, or none. The caller compares versions, before and after.
    """
    wanted = plan.needed([name for name in plan.columns if name in columns])
    filters = [step.predicate for step in plan.steps if step.predicate is not None]
    found: list[Query | None] = []
    for shard, table in zip(shards, tables, strict=True):
        make = reader_of(shard.format).query
        low, high = plan.position_range(shard)
        if make is None or shard.rows is None or not plan.leaves_all_but_filters(shard) or low >= high:
            found.append(None)
            continue
        predicates = [*filters, deletions.kept(shard)] if shard.deleted else filters
        found.append(make(ReadRequest(shard, plan.schema, wanted, low, high, predicates, reduce=reduce, table=table)))
    return found


def _is_taken(reader: Reader, shard: Shard, step: BoundStep[Step]) -> bool:
    """Whether the reader takes a step as a predicate, and skips what it does not leave."""
    if step.predicate is None or reader.filters == "none":
        return False
    partitions = () if reader.filters == "all" else dict(shard.partitions)
    return not any(name in partitions for name in step.looks_at)


def _read(reader: Reader, request: ReadRequest) -> Iterator[polars.DataFrame]:
    """Yield the frames of a request; the values that the object's path gives are added to what stands in the object."""
    if reader.filters == "all":
        yield from reader.read(request)
        return
    shard, schema = request.shard, request.schema
    constants = {name: value for name, value in shard.partitions if name in request.columns}
    added = [polars.lit(value, dtype=expressions.dtype(schema[name])).alias(name) for name, value in constants.items()]
    stored = [name for name in request.columns if name not in constants]
    high = request.high if request.high is not None and request.high < 1 << 62 else None
    for frame in reader.read(replace(request, columns=stored, high=high)):
        yield frame.with_columns(added) if added else frame


def _stepped(
    reader: Reader,
    request: ReadRequest,
    plan: BoundPlan,
    selections: Selections | None,
    limit: int | None,
    reduce: Reduce | None,
) -> Iterator[polars.DataFrame]:
    shard = request.shard
    left = [step for step in plan.steps if not step.leaves_all_of(shard)]
    predicates, pattern = list(request.predicates), None
    # the leading filters go into the reader, which skips by statistics and decodes the other rows only
    while left and _is_taken(reader, shard, left[0]):
        step = left.pop(0)
        pattern = pattern or (reader.prefilter(step) if reader.prefilter is not None else None)
        predicates.append(step.predicate)  # type: ignore[arg-type]
    request = replace(request, predicates=predicates, pattern=pattern, limit=limit if not left else None)
    if reader.filters == "all" and not left:
        request, reduce = replace(request, reduce=reduce), None
    encoding = encoding_of(shard) if request.extents and reader.spans_in_bytes(shard) else None
    carried_out = [apply.started(step, shard.index, encoding, selections) for step in left]
    needs_characters = any(step.needs_characters for step in left)
    for frame in _read(reader, request):
        if needs_characters:
            frame = frame.with_columns(_CHAR, _CHAR_END)
        for step_here in carried_out:
            frame = step_here(frame)
        if frame.height:
            yield frame if reduce is None else reduce(frame.lazy()).collect()
        if any(step_here.is_over for step_here in carried_out):
            return


_CHAR = polars.lit(0, dtype=polars.Int64).alias("_char")
_CHAR_END = polars.lit(None, dtype=polars.Int64).alias("_char_end")


def _batch(frame: polars.DataFrame, out: Sequence[str], schema: dict[str, str], places: Sequence[str]) -> pyarrow.RecordBatch:
    known = frozenset(frame.columns)
    names = [name for name in (*out, *places) if name in known]
    # copied out: a view of a few records would keep the whole piece alive
    table = frame[names].to_arrow(compat_level=polars.CompatLevel.oldest()).combine_chunks()
    arrays = {name: table.column(name) for name in names}
    positions = arrays["_pos"]
    arrays.setdefault("_end", pyarrow.compute.add(positions, 1))
    if "_char" not in arrays:
        arrays["_char"] = pyarrow.array(numpy.zeros(table.num_rows, numpy.int64))
        arrays["_char_end"] = pyarrow.nulls(table.num_rows, pyarrow.int64())
    kinds = [(name, arrow_type(schema[name]) or pyarrow.string()) for name in out]
    whole = pyarrow.table({name: arrays[name] for name in (*out, *places)})
    wanted = pyarrow.schema(kinds + [(name, pyarrow.int64()) for name in places])
    if whole.schema != wanted:
        whole = whole.cast(wanted, safe=False)
    batch: pyarrow.RecordBatch = whole.to_batches()[0]
    return batch
