"""Rows of Parquet files. polars reads what it reads as it is; pyarrow the rest (nested columns, columns that differ)."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import polars
import pyarrow
import pyarrow.parquet
from polars.exceptions import PanicException, PolarsError

from rlm_ray import storage
from rlm_ray.corpus.formats import rowgroups
from rlm_ray.corpus.records import json_column
from rlm_ray.corpus.shard import Shard
from rlm_ray.corpus.types import JSON, arrow_type, is_flat, unpacked_types
from rlm_ray.errors import CredentialsError, ObjectUnreadable, StorageError

#: Uncompressed bytes of a shard up to which polars reads it, which decodes a row group at once; pyarrow goes page by page.
_WHOLE = 96 << 20
_FILTERED = 256 << 20
#: Bytes of a dictionary, as it is in the file, that is handed on as one; and how a column is written that has one.
_SMALL = 64 << 10
_DICTIONARY = frozenset({"PLAIN", "PLAIN_DICTIONARY", "RLE", "RLE_DICTIONARY", "BIT_PACKED"})

#: What a verb makes of rows before they are taken out: a query over a query.
Reduce = Callable[[polars.LazyFrame], polars.LazyFrame]


def read(
    shard: Shard,
    schema: dict[str, str],
    columns: Sequence[str],
    low: int,
    high: int,
    *,
    predicates: Sequence[polars.Expr],
    rows_per_batch: int,
    limit: int | None,
    table: pyarrow.Table | None = None,
    reduce: Reduce | None = None,
) -> Iterator[polars.DataFrame]:
    """Yield frames of `columns` and `_pos` for rows `[low, high)` that fulfil all predicates (at most `limit`).

    Parameters
    ----------
    reduce : callable, optional
        Yield what it makes of these rows, as a whole or in parts, instead; its column `count` is how many there were.
    table : pyarrow.Table, optional
        The same rows as the file, which then is not read.

    Raises
    ------
    ObjectUnreadable
        No reader takes the file.
    """
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
                raise ObjectUnreadable(f"{shard.uri} cannot be read further: {_short(error)}. Check the file.") from None
    left = limit
    for frame in _by_arrow(shard, schema, stored, low, high, None if part else rows_per_batch, table):
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


@dataclass(frozen=True, slots=True)
class Query:
    """What `read` with `reduce` asks polars of a shard, not asked yet; `rows` is what its counts must come to, where known."""

    lazy: polars.LazyFrame
    rows: int | None


def query(
    shard: Shard,
    schema: dict[str, str],
    columns: Sequence[str],
    low: int,
    high: int,
    *,
    predicates: Sequence[polars.Expr],
    reduce: Reduce,
    table: pyarrow.Table | None = None,
) -> Query | None:
    """Return what `read` would ask polars for, to be asked with other shards; None where it would not. Reads nothing."""
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
    return table is None and bool(stored) and rowgroups.is_part(shard, low, high)


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
    return not any(name in other or not _plain(schema[name], shard) for name in columns)


def _plain(kind: str, shard: Shard) -> bool:
    # a result's JSON column is text in its file
    return is_flat(kind) or (kind == JSON and shard.format == "segment")


def _constant(name: str, value: Any, kind: str) -> polars.Expr:
    """A column that is the same in the whole file; what is no number, text or truth is given as text."""
    typed = polars.Series(values=pyarrow.array([value]).cast(arrow_type(kind) or pyarrow.string()))
    return polars.lit(typed[0], dtype=typed.dtype).alias(name)


def _source(shard: Shard, table: pyarrow.Table | None) -> polars.LazyFrame:
    if table is not None:
        frame = polars.DataFrame(table)
        return frame.lazy().with_row_index("_pos")
    source, options = storage.polars_source(shard.uri)
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


def _by_arrow(
    shard: Shard,
    schema: dict[str, str],
    columns: Sequence[str],
    low: int,
    high: int,
    rows_per_batch: int | None,
    table: pyarrow.Table | None,
) -> Iterator[polars.DataFrame]:
    stored = _stored(shard, schema, columns)
    there = [name for name, kind in stored.values() if kind]
    if table is not None:
        batches = iter([(low, table.select(there).slice(low, high - low).combine_chunks().to_batches()[0])] if high > low else [])
    else:
        batches = _batches(shard, there, low, high, rows_per_batch)
    for first, batch in batches:
        series = []
        for name in stored:
            with _told(shard, name):
                series.append(polars.Series(name, _array(shard, schema, stored, name, batch)))
        positions = polars.int_range(first, first + batch.num_rows, dtype=polars.Int64, eager=True)
        yield polars.DataFrame([*series, positions.alias("_pos")])


def records(
    shard: Shard, schema: dict[str, str], columns: Sequence[str], low: int, high: int, rows_per_batch: int
) -> Iterator[pyarrow.RecordBatch]:
    """Yield all rows `[low, high)` of a file, without places, as whoever computes by columns wants them: as Arrow reads them.

    Texts that are numbers of a small dictionary in the file stay so, and a text that is the same in all rows becomes so.

    Raises
    ------
    ObjectUnreadable
        Arrow does not take the file.
    """
    given = dict(shard.partitions) | dict(shard.constants)
    stored = _stored(shard, schema, [name for name in columns if name not in given])
    there = [name for name, kind in stored.values() if kind]
    # a dot may be the path of a nested column
    texts = [inner for name, (inner, kind) in stored.items() if kind == schema[name] == "string" and "." not in inner]
    for _, batch in _batches(shard, there, low, high, rows_per_batch, texts):
        arrays = {}
        for name in columns:
            if name in given:
                arrays[name] = _repeated(given[name], schema[name], batch.num_rows)
                continue
            with _told(shard, name):
                arrays[name] = _array(shard, schema, stored, name, batch, texts)
        yield pyarrow.RecordBatch.from_pydict(arrays)


def _repeated(value: Any, kind: str, length: int) -> Any:
    """A column that is the same in the whole file, as `_constant` has it."""
    array = pyarrow.array([value]).cast(arrow_type(kind) or pyarrow.string())
    number = pyarrow.repeat(pyarrow.scalar(0, pyarrow.int32()), length)
    return pyarrow.DictionaryArray.from_arrays(number, array) if array.type == pyarrow.string() else array.take(number)


def _stored(shard: Shard, schema: dict[str, str], columns: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The names and types that columns have in the file."""
    differs = {shown: (name, kind) for shown, name, kind in shard.differs}
    return {name: differs.get(name, (name, schema[name])) for name in columns}


@contextlib.contextmanager
def _told(shard: Shard, name: str) -> Iterator[None]:
    try:
        yield
    except (PolarsError, PanicException, pyarrow.ArrowException, ValueError, OverflowError) as error:
        reason = f"has values in {name!r} that cannot be read: {_short(error)}"
        raise ObjectUnreadable(f"{shard.uri} {reason}. Check the file.") from None


def _batches(
    shard: Shard, columns: Sequence[str], low: int, high: int, rows_per_batch: int | None, texts: Sequence[str] = ()
) -> Iterator[tuple[int, pyarrow.RecordBatch]]:
    """Rows `[low, high)` of a file, with the number of each batch's first row; None takes them from row groups that are kept.

    Of `texts`, columns with small dictionaries come as Arrow dictionaries.
    """
    few: list[str] = []
    try:
        if rows_per_batch is None:
            yield from rowgroups.rows(shard, columns, low, high)
            return
        with storage.open_input(shard.uri, version=shard.version, size=shard.size or None) as source:
            file = pyarrow.parquet.ParquetFile(source, pre_buffer=True)
            groups, first = rowgroups.between(file.metadata, low, high)
            few = _few(file, groups, texts)
            if few:
                file = pyarrow.parquet.ParquetFile(source, metadata=file.metadata, read_dictionary=few, pre_buffer=True)
            for batch in file.iter_batches(batch_size=rows_per_batch, row_groups=groups, columns=list(columns), use_threads=False):
                skip, stop = max(0, low - first), min(batch.num_rows, high - first)
                if stop > skip:
                    yield first + skip, batch.slice(skip, stop - skip)
                    low = first + stop
                first += batch.num_rows
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, StorageError | CredentialsError):
            raise
        if not few:
            raise ObjectUnreadable(f"{shard.uri} cannot be read as Parquet: {_short(error)}. Check the file.") from None
        # what is wrong with the file is told by who reads it plainly, if he cannot either
        yield from _batches(shard, columns, low, high, rows_per_batch)


def _few(file: pyarrow.parquet.ParquetFile, groups: Sequence[int], texts: Sequence[str]) -> list[str]:
    """Those of some columns of texts that are numbers of a small dictionary in all row groups."""
    few = set(texts if groups else ())
    for index in groups if few else ():
        group = file.metadata.row_group(index)
        chunks = (group.column(number) for number in range(group.num_columns))
        few &= {chunk.path_in_schema for chunk in chunks if chunk.path_in_schema in few and _has_few(chunk)}
    return sorted(few)


def _has_few(chunk: Any) -> bool:
    starts = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
    if starts is None or not _DICTIONARY.issuperset(chunk.encodings):
        return False
    return 0 < chunk.data_page_offset - starts <= min(_SMALL, chunk.num_values)  # of many rows few bytes


def _array(
    shard: Shard,
    schema: dict[str, str],
    stored: dict[str, tuple[str, str]],
    name: str,
    batch: pyarrow.RecordBatch,
    texts: Sequence[str] = (),
) -> Any:
    """A column of a batch as the corpus has it; of `texts`, a dictionary stays one."""
    inner, kind = stored[name]
    array = batch.column(inner) if kind else None
    if array is not None and inner in texts and pyarrow.types.is_dictionary(array.type):
        return array
    nested = unpacked_types(shard.nested)
    if array is not None and name in nested:
        array = array.cast(nested[name], safe=False)
    return _column(array, schema[name], kind, batch.num_rows)


def _column(array: Any, kind: str, stored: str, length: int) -> Any:
    """A column as the corpus has it: of type `kind`, where the file's is `stored` (empty: it has none)."""
    target = arrow_type(kind)
    if array is None:
        return pyarrow.nulls(length, target or pyarrow.string())
    if target is None:
        # a result's JSON column is text already
        return array if stored == JSON and pyarrow.types.is_string(array.type) else json_column(array)
    if isinstance(array, pyarrow.ExtensionArray):
        array = array.storage
    if pyarrow.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array if array.type == target else array.cast(target, safe=False)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
