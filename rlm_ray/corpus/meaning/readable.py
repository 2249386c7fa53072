"""Values as people and models see them: the one function for every verb, in this process and in a sandbox for SQL.

What comes out are JSON values, and the numbers NaN and infinity, which Python's `json` writes and reads. Imports pyarrow only.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import fractions
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

import pyarrow
import pyarrow.compute

from rlm_ray.corpus.meaning.moments import moment_text
from rlm_ray.corpus.meaning.variant import decoded

#: How bytes are shown that are no plain text.
BASE64 = "base64:"
#: Characters that make bytes shown as `base64:…`, though they are UTF-8; in a form that Rust's and Python's patterns share.
CONTROL = "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]"

_CONTROL = re.compile(CONTROL)
_VARIANT = ({"metadata", "value"}, {"metadata", "value", "typed_value"}, {"metadata", "typed_value"})
_OUT_OF_RANGE = "<value out of range"


def is_variant(kind: pyarrow.DataType) -> bool:
    """Whether a type is that of Parquet's VARIANT: Arrow has no other mark of it than its members."""
    if not pyarrow.types.is_struct(kind) or {member.name for member in kind} not in _VARIANT or kind.num_fields > 3:
        return False
    types = {member.name: member.type for member in kind}
    parts = [types[name] for name in ("metadata", "value") if name in types]
    return all(pyarrow.types.is_binary(part) or pyarrow.types.is_large_binary(part) for part in parts)


def readable(array: pyarrow.Array) -> list[Any]:
    """Return the values of an Arrow array: whatever its type, nothing is lost and nothing raises.

    Examples
    --------
    >>> readable(pyarrow.array([{"when": datetime.date(2026, 1, 31), "raw": b"ab"}, None]))
    [{'when': '2026-01-31', 'raw': 'ab'}, None]
    """
    types, kind = pyarrow.types, array.type
    if types.is_integer(kind) or types.is_boolean(kind) or types.is_null(kind):
        values: list[Any] = array.to_pylist()
        return values
    if types.is_floating(kind):
        return list(array.cast(pyarrow.float64()).to_pylist())
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _texts(array)
    if types.is_temporal(kind):
        return _times(array)
    if isinstance(array, pyarrow.ExtensionArray):
        stored = array.storage
        is_uuid = kind.extension_name == "arrow.uuid"
        return [_uuid(value) for value in stored.to_pylist()] if is_uuid else readable(stored)
    if types.is_dictionary(kind):
        return readable(array.dictionary_decode())
    if types.is_struct(kind):
        return _structs(array)
    if types.is_map(kind):
        return _maps(array)
    if types.is_nested(kind):
        return _cut(array, readable(array.flatten()))
    return [jsonable(value) for value in array.to_pylist()]


def jsonable(value: Any) -> Any:
    """Return a Python value as JSON values.

    Examples
    --------
    >>> jsonable({"when": datetime.date(2026, 1, 31), "price": decimal.Decimal("1.50"), "x": float("nan"), "raw": b"ab"})
    {'when': '2026-01-31', 'price': '1.50', 'x': nan, 'raw': 'ab'}
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        # pyarrow gives a map as a list of pairs
        if isinstance(value, list) and value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
            return _mapping([(jsonable(key), jsonable(item)) for key, item in value])
        return [jsonable(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes_text(bytes(value))
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return format(value, "f") if value.is_finite() else str(value)
    return str(value)


def bytes_text(value: bytes) -> str:
    r"""Return bytes as text: themselves where they are UTF-8 without control characters, else `base64:…`.

    Examples
    --------
    >>> bytes_text(b"ab\n"), bytes_text(b"\xff"), bytes_of("base64:/w==")
    ('ab\n', 'base64:/w==', b'\xff')
    """
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = BASE64
    if text.startswith(BASE64) or _CONTROL.search(text):
        return BASE64 + base64.b64encode(value).decode()
    return text


def bytes_of(text: str) -> bytes:
    """Return the bytes that are shown as a text."""
    if text.startswith(BASE64):
        try:
            return base64.b64decode(text[len(BASE64) :], validate=True)
        except ValueError:
            pass
    return text.encode("utf-8", "surrogatepass")


def interval_text(value: bytes) -> str:
    """Return Parquet's interval of months, days and milliseconds as ISO 8601 writes it.

    Examples
    --------
    >>> interval_text(bytes([1, 0, 0, 0, 2, 0, 0, 0, 172, 13, 0, 0])), interval_text(bytes(12))
    ('P1M2DT3.5S', 'PT0S')
    """
    months, days, milliseconds = (int.from_bytes(value[at : at + 4], "little") for at in (0, 4, 8))
    seconds, rest = divmod(milliseconds, 1_000)
    clock = f"T{seconds}{f'.{rest:03d}'.rstrip('0') if rest else ''}S" if milliseconds else ""
    date = (f"{months}M" if months else "") + (f"{days}D" if days else "")
    return f"P{date}{clock}" if date or clock else "PT0S"


def _uuid(value: bytes | None) -> str | None:
    return None if value is None else str(uuid.UUID(bytes=value))


def _texts(array: pyarrow.Array) -> list[str | None]:
    try:
        values: list[str | None] = array.to_pylist()
    except UnicodeDecodeError:  # nobody checks what a Parquet file calls texts
        values = [None if data is None else data.decode(errors="replace") for data in array.cast(pyarrow.binary()).to_pylist()]
    return values


def _times(array: pyarrow.Array) -> list[Any]:
    types, kind = pyarrow.types, array.type
    if types.is_interval(kind):
        return [None if value is None else _seconds(value) for value in array.to_pylist()]
    if types.is_duration(kind):
        seconds = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        return [None if value is None else _exact_seconds(value, seconds) for value in array.cast(pyarrow.int64()).to_pylist()]
    if types.is_date64(kind):
        array = array.cast(pyarrow.date32())
    if types.is_timestamp(kind) and kind.tz:
        array = array.cast(pyarrow.timestamp(kind.unit, "UTC"))
    texts = pyarrow.compute.cast(array, pyarrow.string()).to_pylist()
    if any(text is not None and text.startswith(_OUT_OF_RANGE) for text in texts):
        return _far_times(array)
    return texts if types.is_date(kind) else [None if text is None else _short(text) for text in texts]


def _exact_seconds(ticks: int, seconds: int) -> float | str:
    """A duration as a number of seconds; as text where no double has all its digits."""
    number = ticks / seconds
    if abs(ticks) < 1 << 53 or fractions.Fraction(repr(number)) * seconds == ticks:
        return number
    return format(decimal.Decimal(ticks).scaleb(-len(str(seconds)) + 1), "f")


def _far_times(array: pyarrow.Array) -> list[Any]:
    """Times of years that Arrow has no texts for."""
    if pyarrow.types.is_date32(array.type):
        return [None if ticks is None else moment_text(ticks, "D") for ticks in array.cast(pyarrow.int32()).to_pylist()]
    unit, zone = array.type.unit, "Z" if array.type.tz else ""
    return [None if ticks is None else moment_text(ticks, unit, zone) for ticks in array.cast(pyarrow.int64()).to_pylist()]


def _short(text: str) -> str:
    text = text.replace(" ", "T", 1)
    head, dot, tail = text.partition(".")
    digits = tail.rstrip("Z")
    short = digits.rstrip("0")
    return head + (dot + short if short else "") + tail[len(digits) :] if dot else text


def _seconds(interval: Any) -> float:
    """An interval in seconds; a month counts as DuckDB's epoch counts it, as 30 days."""
    return float((interval.months * 30 + interval.days) * 86_400 + interval.nanoseconds / 1e9)


def _structs(array: Any) -> list[Any]:
    if is_variant(array.type) and (values := _variants(array)) is not None:
        return values
    names = _distinct([member.name for member in array.type])
    columns = [readable(column) for column in array.flatten()]
    rows = zip(*columns, strict=True) if columns else (() for _ in range(len(array)))
    there = array.is_valid().to_pylist()
    return [dict(zip(names, row, strict=True)) if valid else None for row, valid in zip(rows, there, strict=True)]


def _variants(array: Any) -> list[Any] | None:
    """The values of a VARIANT; None where the members are of another struct that has the same names."""
    try:
        return [None if row is None else jsonable(decoded(row)) for row in _rows(array)]
    except (ValueError, KeyError, TypeError, AttributeError, pyarrow.ArrowException, RecursionError):
        return None


def _rows(array: Any) -> list[Any]:
    """What a VARIANT is stored as: its bytes as such, what is shredded as values."""
    kind = array.type
    if not pyarrow.types.is_struct(kind):
        if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
            return _cut(array, _rows(array.flatten()))
        if pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind) or pyarrow.types.is_decimal(kind):
            return list(array.to_pylist())
        if pyarrow.types.is_fixed_size_binary(kind) and kind.byte_width == 16:
            return [_uuid(value) for value in array.to_pylist()]
        return readable(array)
    names = [member.name for member in kind]
    columns = [_rows(column) for column in array.flatten()]
    there = array.is_valid().to_pylist()
    return [
        dict(zip(names, row, strict=True)) if valid else None for row, valid in zip(zip(*columns, strict=True), there, strict=True)
    ]


def _maps(array: Any) -> list[Any]:
    offsets, there = array.offsets.to_pylist(), array.is_valid().to_pylist()
    first, length = offsets[0], offsets[-1] - offsets[0]
    columns = (readable(column.slice(first, length)) for column in (array.keys, array.items))
    pairs = list(zip(*columns, strict=True))
    spans = zip(offsets, offsets[1:], there, strict=False)
    return [_mapping(pairs[start - first : stop - first]) if valid else None for start, stop, valid in spans]


def _cut(array: Any, flat: list[Any]) -> list[Any]:
    """The members of a list's rows, put together again; those of a null are not among them."""
    found: list[Any] = []
    at = 0
    kind = array.type
    if pyarrow.types.is_fixed_size_list(kind):
        lengths = [kind.list_size if valid else None for valid in array.is_valid().to_pylist()]
    else:
        lengths = pyarrow.compute.list_value_length(array).to_pylist()
    for length in lengths:
        found.append(None if length is None else flat[at : at + length])
        at += length or 0
    return found


def _mapping(pairs: list[Any]) -> Any:
    """A map as a mapping; one that has a key twice as its pairs."""
    keys = [_key(key) for key, _ in pairs]
    if len(set(keys)) < len(keys):
        return [[key, item] for key, item in pairs]
    return dict(zip(keys, (item for _, item in pairs), strict=True))


def _key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key, ensure_ascii=False) if isinstance(key, dict | list) else str(key)


def _distinct(names: list[str]) -> list[str]:
    """Names that are each there once."""
    found: dict[str, None] = {}
    for name in names:
        number = 2
        other = name
        while other in found:
            other, number = f"{name}_{number}", number + 1
        found[other] = None
    return list(found)
