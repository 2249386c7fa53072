"""Rows of tables that a parser in the sandbox reads: Avro, ORC and sheets, as Arrow batches that are checked first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars
import pyarrow
import pyarrow.ipc

from rlm_ray.corpus.catalog.footers import Footer, unite_columns
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.meaning.types import JSON, arrow_type, shown_name, type_name
from rlm_ray.corpus.reading.parquet.arrow_rows import short, stored_column
from rlm_ray.corpus.reading.parsed.foreign import Parsers, ShardSource, parsed
from rlm_ray.corpus.reading.reader import Reader, ReadRequest
from rlm_ray.corpus.reading.sampling import Sample
from rlm_ray.errors import InputError, ObjectUnreadable, StorageError

#: Objects whose columns are looked at when a corpus is opened.
_SAMPLED = 16
_ALL = 1 << 62
#: Bytes of a value, guessed.
_WIDTH = 12.0


def read(request: ReadRequest) -> Iterator[polars.DataFrame]:
    """Yield frames of the columns and `_pos`, the row's number in the object."""
    shard = request.shard
    needed = set(request.columns).union(*(predicate.meta.root_names() for predicate in request.predicates))
    wanted = [name for name in request.schema if name in needed and name not in dict(shard.partitions)]
    options = {"schema": False, "low": request.low, "high": _ALL if request.high is None else request.high}
    with ShardSource(shard) as source:
        messages = parsed(
            request.parsers, shard.uri, shard.format, source, options | {"columns": [_stored(name) for name in wanted]}
        )
        _schema_of(shard, next(messages))
        at = request.low
        for message in messages:
            for batch in _checked(shard, message):
                frame = _frame(shard, request.schema, wanted, batch, at)
                at += batch.num_rows
                for predicate in request.predicates:
                    frame = frame.filter(predicate)
                if frame.height:
                    yield frame


def _stored(shown: str) -> str:
    """Return the name in the file of a column that is shown under another, as `types.shown_name` made it."""
    inner = "_" + shown[:-1]
    return inner if shown.endswith("_") and shown_name(inner) == shown else "" if shown == "unnamed" else shown


def _frame(
    shard: Shard, schema: dict[str, str], columns: Sequence[str], batch: pyarrow.RecordBatch, first: int
) -> polars.DataFrame:
    series = []
    for name in columns:
        stored = _stored(name)
        array = batch.column(stored) if stored in batch.schema.names else None
        kind = "" if array is None else _kind(batch.schema.field(stored))
        try:
            series.append(
                polars.Series(name, stored_column(_fitting(array, kind, schema[name]), schema[name], kind, batch.num_rows))
            )
        except (pyarrow.ArrowException, ValueError, OverflowError) as error:
            raise ObjectUnreadable(
                f"{shard.uri} has values in {name!r} that cannot be read: {short(error)}. Check the file."
            ) from None
    positions = polars.int_range(first, first + batch.num_rows, dtype=polars.Int64, eager=True)
    return polars.DataFrame([*series, positions.alias("_pos")])


def _fitting(array: Any, kind: str, wanted: str) -> Any:
    """Return a column whose type is not the corpus' own brought to it, if no value is lost by that."""
    target = arrow_type(wanted)
    if array is None or target is None or kind in (wanted, JSON) or array.type == target:
        return array
    return array.cast(target, safe=True)


def _kind(field: pyarrow.Field) -> str:
    is_json = field.metadata is not None and field.metadata.get(b"rlm_ray") == b"json"
    return JSON if is_json else type_name(field.type)


def _checked(shard: Shard, message: Any) -> Iterator[pyarrow.RecordBatch]:
    """Yield the batches of a stream that the sandbox sent, each checked whole: its offsets, and that its texts are UTF-8."""
    try:
        for batch in pyarrow.ipc.open_stream(pyarrow.py_buffer(message)):
            batch.validate(full=True)
            yield batch
    except (pyarrow.ArrowException, OSError, ValueError, TypeError) as error:
        raise ObjectUnreadable(f"{shard.uri} cannot be read: its parser sent {short(error)}.") from None


def _schema_of(shard: Shard, message: Any) -> pyarrow.Schema:
    try:
        return pyarrow.ipc.open_stream(pyarrow.py_buffer(message)).schema
    except (pyarrow.ArrowException, OSError, ValueError, TypeError) as error:
        raise ObjectUnreadable(f"{shard.uri} cannot be read: its parser sent {short(error)}.") from None


def sample(shards: Sequence[Shard], parsers: Parsers | None) -> Sample:
    """Return the columns of some objects, united.

    Raises
    ------
    InputError
        None of them can be read.
    """
    found: list[Footer] = []
    failure: StorageError | None = None
    step = max(1, len(shards) // _SAMPLED)
    for shard in shards[::step]:
        options = {"schema": True, "low": 0, "high": _ALL, "columns": None}
        try:
            with ShardSource(shard) as source:
                schema = _schema_of(shard, next(parsed(parsers, shard.uri, shard.format, source, options)))
        except StorageError as error:
            failure = error
            continue
        found.append(Footer({shown_name(field.name): (_kind(field), field.name) for field in schema}))
    if not found:
        raise InputError(f"No object could be sampled for its columns; the last one: {failure}")
    united, conflicts = unite_columns(found)
    note = f"columns of several types, as JSON: {', '.join(conflicts)}" if conflicts else ""
    return Sample(united, _WIDTH * max(1, len(united)), note)


READER = Reader(read=read, sample_parsed=sample)
