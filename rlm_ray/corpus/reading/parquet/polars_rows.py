"""Reads rows of Parquet files with polars; columns that polars would change go to `arrow_rows`."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars
import pyarrow
import pyarrow.parquet
from polars.exceptions import PanicException, PolarsError

from rlm_ray import storage
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.meaning.constants import constant
from rlm_ray.corpus.meaning.types import CONVERTED, JSON, is_flat
from rlm_ray.corpus.reading.parquet import arrow_rows, row_groups
from rlm_ray.corpus.reading.reader import Query, Reader, ReadRequest, Reduce
from rlm_ray.errors import ObjectUnreadable

#: Uncompressed bytes of a shard up to which polars reads it, which decodes a row group at once; pyarrow goes page by page.
_WHOLE = 96 << 20
_FILTERED = 256 << 20


def read(request: ReadRequest) -> Iterator[polars.DataFrame]:
    """Yield frames of the columns and `_pos`. With `reduce`, its column `count` is how many rows there were.

    Raises
    ------
    ObjectUnreadable
        No reader takes the file.
    """
    shard, schema, columns, predicates = request.shard, request.schema, request.columns, request.predicates
    table, limit, reduce = request.table, request.limit, request.reduce
    low, high = request.low, shard.stop if request.high is None else request.high
    rows_per_batch = max(256, min(131_072, request.batch_bytes * max(1, shard.rows or 1) // max(1, shard.nbytes)))
    stored, constants = _columns(shard, schema, columns)
    part = not predicates and _is_part(shard, stored, low, high, table)
    fits = _fits(shard, low, high, None if predicates else limit, filtered=bool(predicates), at_hand=table is not None)
    if not part and fits and _as_it_is(shard, schema, stored):
        count = 0
        try:
            lazy = _lazy(shard, table, columns, low, high, constants, predicates)
            if reduce is not None:
                whole = reduce(lazy).collect(engine="streaming")
                _check_rows(int(whole["count"].sum()), None if predicates else high - low)
                yield whole
                return
            for frame in _streamed(lazy if limit is None else lazy.head(limit), rows_per_batch):
                count += frame.height
                yield frame
            _check_rows(count, None if predicates else min(high - low, high if limit is None else limit))
            return
        except (PolarsError, PanicException, OSError) as error:
            storage.check_version(shard.uri, shard.version)
            if count:
                raise ObjectUnreadable(f"{shard.uri} cannot be read further: {arrow_rows.short(error)}. Check the file.") from None
    left = limit
    for frame in arrow_rows.frames(shard, schema, stored, low, high, None if part else rows_per_batch, table):
        frame = frame.with_columns(constants)
        for predicate in predicates:
            frame = frame.filter(predicate)
        if left is not None:
            frame = frame.head(left)
            left -= frame.height
        if frame.height:
            yield frame if reduce is None else reduce(frame.lazy()).collect()
        if left == 0:
            return


def query(request: ReadRequest) -> Query | None:
    """Return what `read` would ask polars for, to be asked with other shards; None where it would not. Reads nothing."""
    shard, schema, columns, predicates = request.shard, request.schema, request.columns, request.predicates
    table, reduce = request.table, request.reduce
    low, high = request.low, shard.stop if request.high is None else request.high
    if shard.rows is None or reduce is None:
        return None
    stored, constants = _columns(shard, schema, columns)
    if table is None and storage.scheme(shard.uri) == "memory":
        return None  # a query over it holds a copy
    if not predicates and _is_part(shard, stored, low, high, table):
        return None
    if not _fits(shard, low, high, None, filtered=bool(predicates), at_hand=table is not None):
        return None
    if not _as_it_is(shard, schema, stored):
        return None
    lazy = reduce(_lazy(shard, table, columns, low, high, constants, predicates))
    return Query(lazy, None if predicates else high - low)


def together(queries: Sequence[Query], reduce: Reduce) -> polars.DataFrame | None:
    """Return what `reduce` makes of all that several queries give, by one query; None where one of them fails, whichever it is.

    It sees the queries' numbers as `_number`, and its column `count` is how many rows there were. Beginning and ending a query
    takes polars longer than counting a shard. They are answered one after the other, so one over many holds no more than one.
    """
    numbered = [query.lazy.with_columns(_number=polars.lit(number, polars.Int64)) for number, query in enumerate(queries)]
    try:
        found = reduce(polars.concat(numbered, rechunk=False, parallel=False)).collect(engine="streaming")
        _check_rows(int(found["count"].sum()), sum(query.rows or 0 for query in queries))
    except (PolarsError, PanicException, OSError):
        return None
    return found


def _columns(shard: Shard, schema: dict[str, str], columns: Sequence[str]) -> tuple[list[str], list[polars.Expr]]:
    """Return the columns that are read of the file, and those that are the same in all of it."""
    given = dict(shard.partitions) | dict(shard.constants)
    stored = [name for name in columns if name not in given]
    return stored, [_constant(name, given[name], schema[name]) for name in columns if name in given]


def _is_part(shard: Shard, stored: Sequence[str], low: int, high: int, table: pyarrow.Table | None) -> bool:
    return table is None and bool(stored) and row_groups.is_part(shard, low, high)


def _lazy(
    shard: Shard,
    table: pyarrow.Table | None,
    columns: Sequence[str],
    low: int,
    high: int,
    constants: Sequence[polars.Expr],
    predicates: Sequence[polars.Expr],
) -> polars.LazyFrame:
    lazy = _source(shard, table).slice(low, high - low)
    lazy = lazy.with_columns(polars.col("_pos").cast(polars.Int64), *constants)
    for predicate in predicates:
        lazy = lazy.filter(predicate)
    return lazy.select(*columns, "_pos")


def _check_rows(count: int, wanted: int | None) -> None:
    if wanted is not None and count < wanted:
        raise OSError(f"{count:,} rows came of {wanted:,} that its footer names")


def _fits(shard: Shard, low: int, high: int, limit: int | None, *, filtered: bool, at_hand: bool) -> bool:
    """Whether what polars would decode is small enough."""
    rows = high - low if limit is None else min(high - low, limit)
    nbytes = shard.nbytes * rows / max(1, shard.rows or 1)
    return at_hand or nbytes <= (_FILTERED if filtered else _WHOLE)


def _as_it_is(shard: Shard, schema: dict[str, str], columns: Sequence[str]) -> bool:
    other = {name for name, _, _ in shard.differs}
    return storage.polars_reads(shard.uri, shard.version) and not any(
        name in other or not _plain(schema[name], shard) for name in columns
    )


def _plain(kind: str, shard: Shard) -> bool:
    # a result's JSON column is text in its file
    return (is_flat(kind) and kind not in CONVERTED) or (kind == JSON and shard.traits.is_result)


def _constant(name: str, value: Any, kind: str) -> polars.Expr:
    """A column that is the same in the whole file."""
    return polars.lit(polars.Series(name, constant(value, kind))).first().alias(name)


def _source(shard: Shard, table: pyarrow.Table | None) -> polars.LazyFrame:
    if table is not None:
        frame = polars.DataFrame(table)
        return frame.lazy().with_row_index("_pos")
    source, options = storage.polars_source(shard.uri, shard.version)
    return polars.scan_parquet(
        source,
        row_index_name="_pos",
        storage_options=options,
        credential_provider=None,
        glob=False,
        hive_partitioning=False,
        cache=False,
    )


def _streamed(lazy: polars.LazyFrame, rows_per_batch: int) -> Iterator[polars.DataFrame]:
    """Yield a query's batches as they come, a few ahead at most, and raise what it fails with.

    `collect_batches` of polars 2.1 ends without an error where a reader panics: a damaged file would look shorter.
    """
    ready: queue.SimpleQueue[polars.DataFrame | None] = queue.SimpleQueue()
    room = threading.Semaphore(2)
    stopped = threading.Event()

    def take(frame: polars.DataFrame) -> bool:
        if not stopped.is_set():
            room.acquire()
            ready.put(frame)
        return stopped.is_set()

    with ThreadPoolExecutor(1, thread_name_prefix="parquet") as pool:
        query = pool.submit(lazy.sink_batches, take, chunk_size=rows_per_batch, maintain_order=True, engine="streaming")
        query.add_done_callback(lambda _: ready.put(None))
        try:
            while (frame := ready.get()) is not None:
                if frame.height:
                    yield frame
                room.release()
        finally:
            stopped.set()
            room.release()
        query.result()


READER = Reader(read=read, filters="all", compares_versions=False, query=query)
