"""A shard's records as Arrow tables of bounded size, for an engine that wants tables: SQL."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars
import pyarrow

from rlm_ray.corpus.records import batch_addresses
from rlm_ray.corpus.steps import check, span_column
from rlm_ray.corpus.types import arrow_type
from rlm_ray.corpus.work import Work

ADDRESS = "_address"


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
    schema = check(work.steps, work.schema)
    wanted = [name for name in columns if name in schema]
    held: list[pyarrow.RecordBatch] = []
    nbytes = 0
    for batch in work.scan(columns=wanted):
        if held and nbytes + batch.nbytes > max_bytes:
            yield pyarrow.Table.from_batches(held)
            held, nbytes = [], 0
        arrays = {name: batch.column(name) for name in wanted if name != ADDRESS}
        if ADDRESS in columns:
            addresses = batch_addresses(batch, work.shard, span_column(work.steps))
            arrays[ADDRESS] = addresses.to_arrow(compat_level=polars.CompatLevel.oldest()).cast(pyarrow.string())
        held.append(pyarrow.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays)))
        nbytes += held[-1].nbytes
    if held:
        yield pyarrow.Table.from_batches(held)


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
