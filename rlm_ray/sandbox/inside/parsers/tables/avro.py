"""Avro container files, a block at a time (Avro specification 1.12)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

from rlm_ray.sandbox.inside.parsers.tables.arrow import JSON_MARK, message, pyarrow

#: Rows, and bytes in the file, of a batch.
_ROWS, _BYTES = 20_000, 2 << 20
_PLAIN = {
    "null": pyarrow.null(),
    "boolean": pyarrow.bool_(),
    "int": pyarrow.int32(),
    "long": pyarrow.int64(),
    "float": pyarrow.float32(),
    "double": pyarrow.float64(),
    "bytes": pyarrow.binary(),
    "string": pyarrow.string(),
    "enum": pyarrow.string(),
    "fixed": pyarrow.binary(),
}
_LOGICAL = {
    ("int", "date"): pyarrow.date32(),
    ("int", "time-millis"): pyarrow.time32("ms"),
    ("long", "time-micros"): pyarrow.time64("us"),
    ("long", "timestamp-millis"): pyarrow.timestamp("ms", "UTC"),
    ("long", "timestamp-micros"): pyarrow.timestamp("us", "UTC"),
    ("long", "timestamp-nanos"): pyarrow.timestamp("ns", "UTC"),
    ("long", "local-timestamp-millis"): pyarrow.timestamp("ms"),
    ("long", "local-timestamp-micros"): pyarrow.timestamp("us"),
    ("long", "local-timestamp-nanos"): pyarrow.timestamp("ns"),
}


class _Untyped(Exception):
    """A type for which Arrow has none: a union of several, a record in itself."""


def read(file: IO[bytes], options: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the schema as an Arrow IPC stream, then the rows `[low, high)` of some `columns` in batches; None is all columns.

    With `schema` the schema alone. Values of a column for whose type Arrow has none are JSON text.
    """
    try:
        import fastavro
    except ImportError as error:
        raise ValueError(f"{error}: reading Avro needs the extra tables: pip install 'rlm-ray[tables]'") from None
    # moments and decimals come as they are stored: Python has no years beyond 9999
    for name in list(fastavro.read.LOGICAL_READERS):
        if not name.endswith("-decimal"):
            del fastavro.read.LOGICAL_READERS[name]
    try:
        blocks = fastavro.block_reader(file)
    except (ValueError, EOFError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is damaged: {str(error)[:200]}") from None
    schema = _schema(blocks.writer_schema)
    yield message(schema)
    if not options["schema"]:
        yield from _batches(blocks, schema, options)


def _batches(blocks: Any, schema: pyarrow.Schema, options: Mapping[str, Any]) -> Iterator[bytes]:
    wanted = (
        schema
        if options["columns"] is None
        else pyarrow.schema([item for item in schema if item.name in options["columns"]], schema.metadata)
    )
    wanted = wanted if len(wanted) else pyarrow.schema([schema.field(0)], schema.metadata)
    rows: list[Any] = []
    first = size = 0
    try:
        for block in blocks:
            if first >= options["high"]:
                break
            low, high = max(0, options["low"] - first), min(block.num_records, options["high"] - first)
            first += block.num_records
            if high <= low:
                continue
            found = list(block)
            rows += found if (low, high) == (0, len(found)) else found[low:high]
            size += block.size
            if len(rows) >= _ROWS or size > _BYTES:
                yield from _messages(rows, wanted)
                rows, size = [], 0
    except (EOFError, KeyError, TypeError, IndexError, OverflowError, RecursionError, OSError) as error:
        raise ValueError(f"it is damaged behind row {first:,}: {type(error).__name__}: {str(error)[:200]}") from None
    yield from _messages(rows, wanted)


def _messages(rows: list[Any], schema: pyarrow.Schema) -> Iterator[bytes]:
    is_wrapped = (schema.metadata or {}).get(b"wrapped") == b"yes"
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        arrays = [_array(some if is_wrapped else [row[field.name] for row in some], field) for field in schema]
        yield message(pyarrow.RecordBatch.from_arrays(arrays, schema=schema))


def _array(values: list[Any], field: pyarrow.Field) -> pyarrow.Array:
    if field.metadata is not None and field.metadata.get(b"rlm_ray") == b"json":
        values = [None if value is None else json.dumps(value, ensure_ascii=False, default=_plain) for value in values]
        return pyarrow.array(values, pyarrow.string())
    try:
        if pyarrow.types.is_temporal(field.type):
            stored = pyarrow.int32() if field.type.bit_width == 32 else pyarrow.int64()
            return pyarrow.array(values, stored).view(field.type)
        return pyarrow.array(values, field.type)
    except (pyarrow.ArrowException, OverflowError) as error:
        raise ValueError(f"its column {field.name!r} cannot be read: {str(error)[:200]}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return "base64:" + base64.b64encode(value).decode("ascii")
    return str(value)


def _schema(schema: Any) -> pyarrow.Schema:
    """Return an Avro schema as Arrow's; what is no record is the column `value` of one."""
    named: dict[str, Any] = {}
    if not isinstance(schema, dict) or schema.get("type") not in ("record", "error"):
        return pyarrow.schema([_field("value", schema, named)], metadata={"wrapped": "yes"})
    named[str(schema["name"])] = None  # in itself it has no type in Arrow
    fields = [_field(str(item["name"]), item["type"], named) for item in schema["fields"]]
    return pyarrow.schema(fields)


def _field(name: str, schema: Any, named: dict[str, Any]) -> pyarrow.Field:
    try:
        return pyarrow.field(name, _type(schema, named, 0))
    except _Untyped:
        return pyarrow.field(name, pyarrow.string(), metadata=JSON_MARK)


def _type(schema: Any, named: dict[str, Any], depth: int) -> pyarrow.DataType:
    if depth > 50:
        raise _Untyped
    if isinstance(schema, list):
        others = [item for item in schema if item != "null"]
        if len(others) != 1:
            raise _Untyped
        return _type(others[0], named, depth + 1)
    if isinstance(schema, str):
        if schema in _PLAIN:
            return _PLAIN[schema]
        if named.get(schema) is None:
            raise _Untyped
        return named[schema]
    kind = schema["type"]
    if isinstance(kind, (dict, list)):
        return _type(kind, named, depth + 1)
    found = _complex(schema, kind, named, depth)
    if "name" in schema:
        named[str(schema["name"])] = found
    return found


def _complex(schema: Mapping[str, Any], kind: str, named: dict[str, Any], depth: int) -> pyarrow.DataType:
    if kind in ("record", "error"):
        named[str(schema["name"])] = None
        members = [pyarrow.field(str(item["name"]), _type(item["type"], named, depth + 1)) for item in schema["fields"]]
        return pyarrow.struct(members)
    if kind == "array":
        return pyarrow.list_(_type(schema["items"], named, depth + 1))
    if kind == "map":
        # Arrow's map takes pairs, Avro's reader gives dicts
        raise _Untyped
    logical = str(schema.get("logicalType", ""))
    if logical == "decimal" and kind in ("bytes", "fixed"):
        precision, scale = int(schema.get("precision", 0)), int(schema.get("scale", 0))
        if 0 < precision <= 38 and 0 <= scale <= precision:
            return pyarrow.decimal128(precision, scale)
        raise _Untyped
    if (kind, logical) in _LOGICAL:
        return _LOGICAL[kind, logical]
    return _type(kind, named, depth + 1)
