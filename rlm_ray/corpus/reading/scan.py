"""A plan's steps over one shard: Arrow batches of the records that are left, with their places.

Batches hold the data columns and `_pos` (row, or byte offset of the line's start), `_end` (exclusive), `_char` and
`_char_end` (characters of a span; 0 and null for whole records). Bounded in memory: what is held is a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from rlm_ray.corpus.planning.nodes import check, is_covered, needed, position_range, window_holds, with_schemas
from rlm_ray.corpus.planning.read_ranges import EXTENT, with_extents
from rlm_ray.corpus.reading.reader import Query, Reader, ReadRequest, Reduce, reader_of
from rlm_ray.corpus.reading.spans import split
from rlm_ray.corpus.reading.text.streams import encoding_of
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Between, Grep, Keep, Node, Place, Split, Where, Window

#: The columns that a scan adds.
PLACE = ("_pos", "_end", "_char", "_char_end")

Selections = Callable[[str, int], pyarrow.Table]


def scan(
    shard: Shard,
    steps: Sequence[Node],
    *,
    schema: dict[str, str],
    selections: Selections | None = None,
    batch_bytes: int = 8 << 20,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
    table: pyarrow.Table | None = None,
    positions: Sequence[int] | None = None,
    extents: bool = False,
) -> Iterator[pyarrow.RecordBatch]:
    """Yield the records of one shard that the steps leave.

    Parameters
    ----------
    shard : Shard
    steps : sequence of Node
        Select, Where, Grep, Split, Keep, Between, Window; a Slice must have become a Window.
    schema : dict
        The corpus' columns and type names.
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
        They ascend. `steps` must be ranges and columns.
    extents : bool
        Add what is read of the object (see `EXTENT`).

    Raises
    ------
    InputError
        A step that does not fit the columns.
    ObjectChanged
        The object is not the manifest's version, before or after the scan.
    ObjectUnreadable
        The format's reader refuses the object.
    """
    out = [name for name in check(steps, schema) if columns is None or name in columns]
    for part in frames(
        shard,
        steps,
        schema=schema,
        selections=selections,
        batch_bytes=batch_bytes,
        columns=columns,
        limit=limit,
        table=table,
        positions=positions,
        extents=extents,
    ):
        yield _batch(part, out, schema, (*PLACE, *EXTENT) if extents else PLACE)


def frames(
    shard: Shard,
    steps: Sequence[Node],
    *,
    schema: dict[str, str],
    selections: Selections | None = None,
    batch_bytes: int = 8 << 20,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
    table: pyarrow.Table | None = None,
    positions: Sequence[int] | None = None,
    extents: bool = False,
    reduce: Reduce | None = None,
) -> Iterator[polars.DataFrame]:
    """Yield what `scan` does as polars frames, for who counts and forgets: texts may be views of what was read.

    Columns are in no order, and there may be more than were asked for. With `reduce` (and no limit), what it makes of them,
    in parts: where the reader takes all steps, of a shard as a whole.
    """
    out = [name for name in check(steps, schema) if columns is None or name in columns]
    if not window_holds(steps, shard.index):
        return
    shard = with_footer(shard, schema)
    low, high = position_range(steps, shard)
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
        schema,
        needed(steps, out, schema),
        low,
        high,
        predicates,
        extents=extents,
        early=limit is not None or any(isinstance(step, Window) and step.last == shard.index for step in steps),
        ordinals=positions if reader.takes_ordinals else None,
        batch_bytes=batch_bytes,
        table=table,
    )
    for frame in _stepped(reader, request, with_schemas(steps, schema), selections, limit, reduce):
        part = frame if left is None else frame.head(left)
        if part.height:
            yield with_extents(part, shard) if extents else part
        if left is not None:
            left -= part.height
            if left == 0:
                break
    if in_file and (not reader.compares_versions or storage.scheme(shard.uri) != "s3"):
        # what was read may have changed on the way; each request for text on S3 was bound to the version
        storage.check_version(shard.uri, shard.version)


def queries(
    shards: Sequence[Shard],
    steps: Sequence[Node],
    *,
    schema: dict[str, str],
    columns: Sequence[str],
    reduce: Reduce,
    tables: Sequence[pyarrow.Table | None],
) -> list[Query | None]:
    """Return what `frames` with `reduce` asks of each shard, to be asked together (`parquet.together`). Reads nothing.

    None for a shard of which it asks more than one query, or none. Who asks compares versions, before and after.
    """
    wanted = needed(steps, [name for name in check(steps, schema) if name in columns], schema)
    seen = with_schemas(steps, schema)
    filters = [_predicate(step, there, 0) if isinstance(step, Where | Grep) else None for step, there in seen]
    found: list[Query | None] = []
    for shard, table in zip(shards, tables, strict=True):
        left = [
            predicate
            for (step, _), predicate in zip(seen, filters, strict=True)
            if not isinstance(step, Between) or not is_covered(step, shard)
        ]
        predicates = [predicate for predicate in left if predicate is not None]
        make = reader_of(shard.format).query
        low, high = position_range(steps, shard)
        if make is None or shard.rows is None or len(predicates) < len(left) or low >= high:
            found.append(None)
            continue
        if shard.deleted:
            predicates.append(deletions.kept(shard))
        found.append(make(ReadRequest(shard, schema, wanted, low, high, predicates, reduce=reduce, table=table)))
    return found


def _is_taken(reader: Reader, shard: Shard, step: Node, schema: dict[str, str]) -> bool:
    """Whether the reader takes a step as a predicate, and skips what it does not leave."""
    if not isinstance(step, Where | Grep) or reader.filters == "none":
        return False
    if reader.filters == "all":
        return True
    partitions = dict(shard.partitions)
    columns = expressions.grep_columns(step, schema) if isinstance(step, Grep) else [name for name, _, _ in step.conditions]
    return not any(name in partitions for name in columns)


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
    steps: list[tuple[Node, dict[str, str]]],
    selections: Selections | None,
    limit: int | None,
    reduce: Reduce | None,
) -> Iterator[polars.DataFrame]:
    shard, index = request.shard, request.shard.index
    whole = [(step, there) for step, there in steps if not isinstance(step, Between) or not is_covered(step, shard)]
    predicates, pattern = list(request.predicates), None
    # the leading filters go into the reader, which skips by statistics and decodes only what is left
    while whole and _is_taken(reader, shard, *whole[0]):
        pattern = pattern or (reader.prefilter(*whole[0]) if reader.prefilter is not None else None)
        predicates.append(_predicate(*whole.pop(0), index))
    request = replace(request, predicates=predicates, pattern=pattern, limit=limit if not whole else None)
    if reader.filters == "all" and not whole:
        request, reduce = replace(request, reduce=reduce), None
    seen = dict.fromkeys(range(len(whole)), 0)
    last = max((number for number, (step, _) in enumerate(whole) if isinstance(step, Window)), default=-1)
    by_place = any(isinstance(step, Split | Keep | Between) for step, _ in whole)
    encoding = encoding_of(shard) if request.extents and reader.spans_in_bytes(shard) else None
    for frame in _read(reader, request):
        if by_place:
            frame = frame.with_columns(_CHAR, _CHAR_END)
        full = False
        for number, (step, there) in enumerate(whole):
            if isinstance(step, Split):
                frame = split(frame, step, encoding if step.column == "text" else None)
            elif isinstance(step, Keep):
                frame = _kept(frame, step, selections, index)
            elif isinstance(step, Window):
                first = step.skip if index == step.first else 0
                stop = step.take if index == step.last else 1 << 62
                before = seen[number]
                seen[number] += frame.height
                frame = frame.slice(max(0, first - before), max(0, stop - max(first, before)))
                full = full or (number <= last and seen[number] >= stop)
            else:
                frame = frame.filter(_predicate(step, there, index))
        if frame.height:
            yield frame if reduce is None else reduce(frame.lazy()).collect()
        if full:
            return


def _predicate(step: Node, schema: dict[str, str], index: int) -> polars.Expr:
    if isinstance(step, Where):
        return expressions.where(step, schema)
    if isinstance(step, Grep):
        return expressions.grep(step, schema)
    assert isinstance(step, Between), f"{step} is no step of a scan"
    tests = [polars.lit(True)]
    if step.start is not None and step.start[0] >= index:
        tests.append(_from(step.start) if step.start[0] == index else polars.lit(False))
    if step.stop is not None and step.stop[0] <= index:
        tests.append(~_from(step.stop) if step.stop[0] == index else polars.lit(False))
    return polars.all_horizontal(tests)


def _from(place: Place) -> polars.Expr:
    position, char = polars.col("_pos"), polars.col("_char")
    return (position > place[1]) | ((position == place[1]) & (char >= place[2]))


def _kept(frame: polars.DataFrame, step: Keep, selections: Selections | None, index: int) -> polars.DataFrame:
    if selections is None:
        raise InputError(f"Selection {step.selection} belongs to a run, and this scan has none. Filter again.")
    kept = polars.DataFrame(selections(step.selection, index).select(["pos", "char"]))
    return frame.join(kept, left_on=["_pos", "_char"], right_on=["pos", "char"], how="semi", maintain_order="left")


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
