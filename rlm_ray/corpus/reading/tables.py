"""Yields a shard's records as Arrow tables of bounded size, for SQL."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars
import pyarrow
import pyarrow.compute

from rlm_ray import storage
from rlm_ray.corpus.catalog.footers import with_footer
from rlm_ray.corpus.meaning.types import arrow_type
from rlm_ray.corpus.reading.parquet import arrow_rows
from rlm_ray.corpus.reading.records import batch_addresses
from rlm_ray.corpus.reading.work import Work

ADDRESS = "_address"
#: Rows of a file that are read at a time.
_LEAST_ROWS, _ROWS = 256, 131_072


def pieces(work: Work, columns: Sequence[str], max_bytes: int) -> Iterator[pyarrow.Table]:
    """Yield a shard's records as tables of about `max_bytes`. Reads the shard, one piece at a time.

    Parameters
    ----------
    columns : sequence of str
        The columns wanted; `_address` is made where it is among them.

    Raises
    ------
    ObjectChanged, ObjectUnreadable
        As `scan.scan`.
    """
    schema = work.plan.columns
    wanted = [name for name in columns if name in schema or name == ADDRESS]
    stored = _is_stored(work) and ADDRESS not in wanted
    held: list[pyarrow.RecordBatch] = []
    have = 0
    for batch in _cut(_stored(work, wanted, max_bytes) if stored else _scanned(work, wanted, schema), max_bytes):
        size = nbytes(batch)
        if held and (have + size > max_bytes or batch.schema != held[0].schema):
            yield pyarrow.Table.from_batches(held)
            held, have = [], 0
        held.append(batch)
        have += size
    if held:
        yield pyarrow.Table.from_batches(held)


def _scanned(work: Work, columns: Sequence[str], schema: Mapping[str, str]) -> Iterator[pyarrow.RecordBatch]:
    for batch in work.scan(columns=[name for name in columns if name in schema]):
        arrays = {name: batch.column(name) for name in columns if name != ADDRESS}
        if ADDRESS in columns:
            addresses = batch_addresses(batch, work.shard, work.plan.span)
            arrays[ADDRESS] = addresses.to_arrow(compat_level=polars.CompatLevel.oldest()).cast(pyarrow.string())
        yield pyarrow.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _cut(batches: Iterator[pyarrow.RecordBatch], max_bytes: int) -> Iterator[pyarrow.RecordBatch]:
    """Cut what is larger than a piece may be: a few rows of a dictionary may be long texts."""
    for batch in batches:
        rows = max(_LEAST_ROWS, batch.num_rows * max_bytes // max(1, nbytes(batch)))
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _is_stored(work: Work) -> bool:
    """Whether the records are all rows of a Parquet file, or of a range of its row groups."""
    as_it_is = work.shard.traits.has_footers and not work.shard.deleted and work.table is None
    return as_it_is and work.plan.leaves_everything


def _stored(work: Work, columns: Sequence[str], max_bytes: int) -> Iterator[pyarrow.RecordBatch]:
    shard = with_footer(work.shard, work.plan.schema)
    low, high = shard.positions
    storage.check_version(shard.uri, shard.version)
    rows = max(_LEAST_ROWS, min(_ROWS, max_bytes * max(1, shard.rows or 1) // max(1, shard.nbytes)))
    yield from arrow_rows.records(shard, work.plan.schema, columns, low, high, rows)
    storage.check_version(shard.uri, shard.version)


def nbytes(table: pyarrow.RecordBatch | pyarrow.Table) -> int:
    """Return the most that records take where each text is written out."""
    size = 0
    for column in table.columns:
        for chunk in getattr(column, "chunks", [column]):
            if pyarrow.types.is_dictionary(chunk.type):
                longest = pyarrow.compute.max(pyarrow.compute.binary_length(chunk.dictionary)).as_py()
                size += len(chunk) * (4 + (longest or 0))
            else:
                size += chunk.nbytes
    return size


def empty(schema: Mapping[str, str]) -> pyarrow.Table:
    """Return a table without rows that has the columns of a handle, and `_address`.

    Examples
    --------
    >>> empty({"host": "string", "tags": "list<element: string>"}).schema.names
    ['host', 'tags', '_address']
    """
    fields = [pyarrow.field(name, arrow_type(kind) or pyarrow.string()) for name, kind in schema.items() if name != ADDRESS]
    return pyarrow.schema([*fields, pyarrow.field(ADDRESS, pyarrow.string())]).empty_table()


def stream(tables: Sequence[pyarrow.Table], schema: Mapping[str, str]) -> list[memoryview]:
    """Return tables, one below the other, as one Arrow IPC stream, in parts. Numbers widen, a missing column is null.

    The stream's metadata hold, as `columns`, all columns of a handle, also those that the tables were read without.
    """
    table = tables[0] if len(tables) == 1 else pyarrow.concat_tables(tables, promote_options="permissive")
    table = table.replace_schema_metadata({"columns": empty(schema).schema.serialize().to_pybytes()})
    sink = _Parts()
    with pyarrow.PythonFile(sink, "w") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return sink.parts


class _Parts(io.RawIOBase):
    """A file that keeps what is written to it, where it lies."""

    def __init__(self) -> None:
        self.parts: list[memoryview] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = memoryview(data)
        self.parts.append(part)
        return part.nbytes
