"""The records of a plan as Arrow batches in the person's own process, and what is made of them.

Shards are read ahead by a few threads; batches come in the order of the records, and few are held at a time.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import polars
import pyarrow
import pyarrow.parquet

from rlm_ray import storage
from rlm_ray.corpus.meaning.types import arrow_type
from rlm_ray.corpus.reading.records import batch_addresses
from rlm_ray.corpus.reading.scan import PLACE
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, MissingExtra, StorageError, UnreadShard
from rlm_ray.handle.plan import Plan
from rlm_ray.recursion.jobs.scheduler import Job
from rlm_ray.recursion.ports import ShardFailure
from rlm_ray.recursion.verbs.scans import Scans
from rlm_ray.worker.work import at_hand

if TYPE_CHECKING:
    import duckdb
    import pandas

#: Shards that are read at a time, and batches of each that wait for their turn.
THREADS, WAITING = 4, 2
#: A reader looks so often whether nobody wants its batches any more.
_LOOK_SECONDS = 0.1

#: The batches of a shard, then None, or the error that ended them.
_Queue = queue.Queue[pyarrow.RecordBatch | Exception | None]
_MODES = ("error", "append", "overwrite")


class RecordTable:
    """Implements `handle.tabular.Table`.

    Parameters
    ----------
    works : sequence of Work
        The shards of the plan, in order.
    schema : dict of str to str
        The columns, by their readable types.
    failed : callable
        Takes the shards that could not be read; raises where the run stops at the first.
    """

    def __init__(self, works: Sequence[Work], schema: dict[str, str], failed: Callable[[Sequence[ShardFailure]], None]) -> None:
        self._works = at_hand(works, {})
        self._columns = schema
        self._failed = failed

    def schema(self, address: bool) -> pyarrow.Schema:
        """Return the columns with their types; reads nothing."""
        columns = [(name, arrow_type(kind) or pyarrow.string()) for name, kind in self._columns.items() if name != "_address"]
        return pyarrow.schema([*columns, ("_address", pyarrow.string())] if address else columns)

    def reader(self, address: bool) -> pyarrow.RecordBatchReader:
        """See `Table.reader`."""
        schema = self.schema(address)
        return pyarrow.RecordBatchReader.from_batches(schema, self._batches(schema))

    def to_polars(self, address: bool) -> polars.DataFrame:
        """See `Table.to_polars`."""
        return polars.DataFrame(self.reader(address).read_all())

    def to_duckdb(self, connection: duckdb.DuckDBPyConnection | None, address: bool) -> duckdb.DuckDBPyRelation:
        """See `Table.to_duckdb`."""
        import duckdb

        return (connection or duckdb.default_connection()).from_arrow(self.reader(address).read_all())

    def to_pandas(self, address: bool) -> pandas.DataFrame:
        """See `Table.to_pandas`."""
        try:
            import pandas
        except ImportError:
            raise MissingExtra("A DataFrame of pandas", "pandas") from None
        return self.reader(address).read_all().to_pandas(types_mapper=pandas.ArrowDtype)

    def write_parquet(self, uri: str, address: bool, file_bytes: int) -> list[str]:
        """See `Table.write_parquet`."""
        if file_bytes < 1:
            raise InputError(f"file_bytes is {file_bytes}. Give the size of a file in bytes, such as {64 << 20}.")
        place = storage.normal(uri)
        if not _is_empty(place):
            raise InputError(f"{storage.shown(place)} has objects already. Name an empty folder, or remove them first.")
        reader = self.reader(address)
        written: list[str] = []
        for table in _pieces(reader.schema, reader, file_bytes):
            sink = pyarrow.BufferOutputStream()
            pyarrow.parquet.write_table(table, sink, compression="zstd")
            written.append(storage.join(place, f"part-{len(written):05d}.parquet"))
            storage.write_bytes(written[-1], sink.getvalue().to_pybytes())
        return written

    def write_delta(self, uri: str, address: bool, mode: str) -> str:
        """See `Table.write_delta`."""
        if mode not in _MODES:
            raise InputError(f"mode is {mode!r}. Give 'error', 'append' or 'overwrite'.")
        try:
            import deltalake
            from deltalake.exceptions import DeltaError
        except ImportError:
            raise MissingExtra("Writing a Delta table", "tables") from None
        place = storage.normal(uri)
        if storage.is_local(place):
            storage.make_dirs(place)
        options = storage.table_options(place)
        refused: list[InputError] = []
        try:
            # its types know the mode by overloads, one for each
            write: Callable[..., None] = deltalake.write_deltalake
            write(place, _for_delta(self.reader(address), refused), mode=mode, storage_options=options)
        except (DeltaError, OSError, ValueError) as error:
            if refused:  # what the reader raises comes back as a text
                raise refused[0] from None
            reason = " ".join(str(error).split())[:300].rstrip(".")
            raise StorageError(f"{storage.shown(place)} cannot be written as a Delta table: {reason}. Check the place.") from None
        return place

    def _batches(self, schema: pyarrow.Schema) -> Iterator[pyarrow.RecordBatch]:
        for number, found in enumerate(_ahead(self._works)):
            work, rows = self._works[number], 0
            try:
                for batch in found:
                    rows += batch.num_rows
                    yield _with_address(batch, work, schema)
            except StorageError as error:
                failure = ShardFailure(work.shard.uri, str(error), work.shard.index)
                self._failed([failure])
                part = f" behind its first {rows:,} records" if rows else ""
                warnings.warn(f"{failure.object} is left out{part}: {failure.reason}", UnreadShard, stacklevel=2)


def job(scans: Scans, plan: Plan, schema: dict[str, str], failed: Callable[[Sequence[ShardFailure]], None]) -> Job:
    """Return the table of a plan, as a job of the scheduler; it waits for the result that the plan is over."""
    works = yield from scans.works(plan)
    return RecordTable(works, schema, failed)


#: Types that Delta has not, and what holds all their values there.
_DELTA = {
    pyarrow.uint8(): pyarrow.int16(),
    pyarrow.uint16(): pyarrow.int32(),
    pyarrow.uint32(): pyarrow.int64(),
    pyarrow.uint64(): pyarrow.decimal128(20, 0),
    pyarrow.time64("us"): pyarrow.string(),
    pyarrow.time64("ns"): pyarrow.string(),
    pyarrow.duration("ms"): pyarrow.int64(),
    pyarrow.duration("us"): pyarrow.int64(),
    pyarrow.duration("ns"): pyarrow.int64(),
}


def _for_delta(reader: pyarrow.RecordBatchReader, refused: list[InputError]) -> pyarrow.RecordBatchReader:
    """Return the batches with types that Delta has; its writer would cut nanoseconds and refuse some unsigned values.

    An error of a value goes into `refused` too.
    """
    fields = []
    for column in reader.schema:
        kind = _DELTA.get(column.type, column.type)
        if pyarrow.types.is_timestamp(kind) and kind.unit == "ns":
            kind = pyarrow.timestamp("us", kind.tz)
        fields.append(pyarrow.field(column.name, kind))
    schema = pyarrow.schema(fields)
    return pyarrow.RecordBatchReader.from_batches(schema, (_cast(batch, schema, refused) for batch in reader))


def _cast(batch: pyarrow.RecordBatch, schema: pyarrow.Schema, refused: list[InputError]) -> pyarrow.RecordBatch:
    columns = []
    for name, column in zip(schema.names, batch.columns, strict=True):
        try:
            columns.append(column.cast(schema.field(name).type))
        except pyarrow.ArrowInvalid as error:
            reason = InputError(
                f"Column {name!r} has values that a Delta table does not hold exactly: {error}. "
                "Write Parquet files instead, or leave the column out by .select()."
            )
            refused.append(reason)
            raise reason from None
    return pyarrow.record_batch(columns, schema=schema)


def _is_empty(place: str) -> bool:
    try:
        return next(storage.listing(place), None) is None
    except InputError:  # there is no such folder yet
        return True


def _with_address(batch: pyarrow.RecordBatch, work: Work, schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    columns = {name: batch.column(name) for name in batch.schema.names if name not in PLACE}
    if "_address" in schema.names:
        columns["_address"] = batch_addresses(batch, work.shard, work.plan.span).to_arrow().cast(pyarrow.string())
    return pyarrow.record_batch([columns[name] for name in schema.names], schema=schema)


def _pieces(schema: pyarrow.Schema, batches: Iterable[pyarrow.RecordBatch], nbytes: int) -> Iterator[pyarrow.Table]:
    """Yield tables of about `nbytes`; one without rows where there are none."""
    held: list[pyarrow.RecordBatch] = []
    size = 0
    pieces = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= nbytes:
            yield pyarrow.Table.from_batches(held, schema)
            held, size, pieces = [], 0, pieces + 1
    if held or not pieces:
        yield pyarrow.Table.from_batches(held, schema)


def _ahead(works: Sequence[Work]) -> Iterator[Iterator[pyarrow.RecordBatch]]:
    """Yield an iterator of batches for each work, in order, while the next ones are read by threads."""
    stopped = threading.Event()
    with ThreadPoolExecutor(min(THREADS, max(1, len(works))), thread_name_prefix="rlm-ray-table") as pool:
        waiting: list[_Queue] = []
        try:
            for number in range(len(works)):
                while len(waiting) < THREADS and number + len(waiting) < len(works):
                    batches: _Queue = queue.Queue(WAITING)
                    pool.submit(_read, works[number + len(waiting)], batches, stopped)
                    waiting.append(batches)
                yield _taken(waiting.pop(0))
        finally:
            stopped.set()


def _read(work: Work, batches: _Queue, stopped: threading.Event) -> None:
    ended: Exception | None = None
    try:
        for batch in work.scan():
            if not _put(batches, batch, stopped):
                return
    except Exception as error:  # noqa: BLE001 - it is raised where the batches are taken
        ended = error
    _put(batches, ended, stopped)


def _put(
    batches: _Queue,
    item: pyarrow.RecordBatch | Exception | None,
    stopped: threading.Event,
) -> bool:
    while not stopped.is_set():
        with contextlib.suppress(queue.Full):
            batches.put(item, timeout=_LOOK_SECONDS)
            return True
    return False


def _taken(batches: _Queue) -> Iterator[pyarrow.RecordBatch]:
    while (item := batches.get()) is not None:
        if isinstance(item, Exception):
            raise item
        yield item
