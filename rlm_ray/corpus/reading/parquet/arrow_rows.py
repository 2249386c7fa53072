"""Rows of Parquet files as pyarrow reads them: nested columns, columns that differ, and whole columns for SQL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import polars
import pyarrow
from polars.exceptions import PanicException, PolarsError

from rlm_ray import storage
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.meaning.constants import constant
from rlm_ray.corpus.meaning.nested import conformed
from rlm_ray.corpus.meaning.types import CONVERTED, JSON, arrow_type, unpacked_types
from rlm_ray.corpus.reading.parquet import dictionary_codes, row_groups
from rlm_ray.corpus.reading.records import json_column, text_column
from rlm_ray.errors import CredentialsError, ObjectUnreadable, StorageError


def frames(
    shard: Shard,
    schema: dict[str, str],
    columns: Sequence[str],
    low: int,
    high: int,
    rows_per_batch: int | None,
    table: pyarrow.Table | None,
) -> Iterator[polars.DataFrame]:
    """Yield rows `[low, high)` of a file, or of its `table`, with their numbers as `_pos`; None takes row groups that are kept.

    Raises
    ------
    ObjectUnreadable
        Arrow does not take the file.
    """
    stored = _stored(shard, schema, columns)
    there = [name for name, kind in stored.values() if kind]
    if table is not None:
        batches = iter([(low, table.select(there).slice(low, high - low).combine_chunks().to_batches()[0])] if high > low else [])
    else:
        batches = _batches(shard, there, low, high, rows_per_batch)
    for first, batch in batches:
        series = []
        for name in stored:
            with _named_error(shard, name):
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
            with _named_error(shard, name):
                arrays[name] = _array(shard, schema, stored, name, batch, texts)
        yield pyarrow.RecordBatch.from_pydict(arrays)


def _repeated(value: Any, kind: str, length: int) -> Any:
    """A column that is the same in the whole file, as `_constant` has it."""
    array = constant(value, kind)
    number = pyarrow.repeat(pyarrow.scalar(0, pyarrow.int32()), length)
    return pyarrow.DictionaryArray.from_arrays(number, array) if array.type == pyarrow.string() else array.take(number)


def _stored(shard: Shard, schema: dict[str, str], columns: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The names and types that columns have in the file."""
    differs = {shown: (name, kind) for shown, name, kind in shard.differs}
    return {name: differs.get(name, (name, schema[name])) for name in columns}


@contextlib.contextmanager
def _named_error(shard: Shard, name: str) -> Iterator[None]:
    try:
        yield
    except (PolarsError, PanicException, pyarrow.ArrowException, ValueError, OverflowError) as error:
        reason = f"has values in {name!r} that cannot be read: {short(error)}"
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
            yield from row_groups.rows(shard, columns, low, high)
            return
        with storage.open_input(shard.uri, version=shard.version, size=shard.size or None) as source:
            file = row_groups.opened(source, pre_buffer=True)
            groups, first = row_groups.between(file.metadata, low, high)
            few = dictionary_codes.few(file.metadata, groups, texts)
            if few:
                file = row_groups.opened(source, metadata=file.metadata, read_dictionary=few, pre_buffer=True)
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
            raise ObjectUnreadable(f"{shard.uri} cannot be read as Parquet: {short(error)}. Check the file.") from None
        # what is wrong with the file is told by who reads it plainly, if he cannot either
        yield from _batches(shard, columns, low, high, rows_per_batch)


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
        array = conformed(array, nested[name])
    return stored_column(array, schema[name], kind, batch.num_rows)


def stored_column(array: Any, kind: str, stored: str, length: int) -> Any:
    """Return a column as the corpus has it: of type `kind`, where the file's is `stored` (empty: it has none)."""
    target = arrow_type(kind)
    if array is None:
        return pyarrow.nulls(length, target or pyarrow.string())
    if target is None:
        # a result's JSON column is text already
        return array if stored == JSON and pyarrow.types.is_string(array.type) else json_column(array)
    if kind in CONVERTED:
        return text_column(array, kind)
    if isinstance(array, pyarrow.ExtensionArray):
        array = array.storage
    if pyarrow.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    # a value that the type does not hold is an error, no other value; a date64 may have a time of day
    return array if array.type == target else array.cast(target, safe=not pyarrow.types.is_date64(array.type))


def short(error: BaseException) -> str:
    """Return what an error says, in one line that is not too long."""
    return " ".join(str(error).split())[:300]
