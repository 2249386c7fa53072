"""Column types by their readable names, and how types of different objects unite.

A **flat** type is one that the scan engine compares and searches as it is. Columns of any other type (lists, structs,
maps, types in conflict) travel as JSON text and become values again in a record.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from functools import lru_cache

import pyarrow

from rlm_ray.corpus.meaning.readable import is_variant

#: Type name of a column that is JSON text because its values have no common type.
JSON = "json"

#: Types whose values scans have as text: what a file's folder says of it, and what the scan engine has no type for.
FOLDER = "folder"
CONVERTED = frozenset({"uuid", "interval", "decimal", "timestamp", "timestamptz"})
TEXTS = CONVERTED | {FOLDER}

#: What no type of Arrow holds exactly: numbers, and times, of several types; they are kept as texts and compare as what they are.
DECIMAL = "decimal"
_TIMES = ("timestamp", "timestamptz")

#: Columns that scans add; a data column of one of these names is shown with the underscore behind.
RESERVED = frozenset({"_pos", "_end", "_char", "_char_end", "_address", "_error", "_more"})

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOATS = ("halffloat", "float", "double")
_PLAIN = (*_INTEGERS, *_FLOATS, "bool", "string", "binary", "date32[day]", "null")

_OFFSET = re.compile(r"[+-]\d\d:?\d\d")


def type_name(kind: pyarrow.DataType) -> str:
    """Return the readable name of an Arrow type; storage variants (large, view, dictionary) share one.

    Examples
    --------
    >>> type_name(pyarrow.large_string()), type_name(pyarrow.dictionary(pyarrow.int8(), pyarrow.string()))
    ('string', 'string')
    >>> type_name(pyarrow.timestamp("us", "UTC")), type_name(pyarrow.list_(pyarrow.int64()))
    ('timestamp[us, tz=UTC]', 'list<item: int64>')
    """
    types = pyarrow.types
    if types.is_dictionary(kind):
        return type_name(kind.value_type)
    if isinstance(kind, pyarrow.BaseExtensionType) and kind.extension_name == "arrow.uuid":
        return "uuid"
    if isinstance(kind, pyarrow.BaseExtensionType):
        return type_name(kind.storage_type)
    if types.is_decimal256(kind):
        return DECIMAL
    if types.is_large_string(kind) or types.is_string_view(kind):
        return "string"
    if types.is_large_binary(kind) or types.is_binary_view(kind) or types.is_fixed_size_binary(kind):
        return "binary"
    if types.is_date64(kind):
        return "date32[day]"
    if types.is_time32(kind):
        return "time64[us]"
    if is_variant(kind):
        return "variant"
    return str(kind)


@lru_cache(maxsize=1000)
def arrow_type(name: str) -> pyarrow.DataType | None:
    """Return the Arrow type that a column of this type name has in a scan's batches; None for JSON text.

    Examples
    --------
    >>> arrow_type("int64"), arrow_type("decimal128(10, 2)"), arrow_type("list<element: int64>")
    (DataType(int64), Decimal128Type(decimal128(10, 2)), None)
    """
    if name == "halffloat":
        return pyarrow.float32()
    if name in _PLAIN:
        return pyarrow.type_for_alias({"date32[day]": "date32"}.get(name, name))
    if name in TEXTS:
        return pyarrow.string()
    if name in ("time64[us]", "time64[ns]"):
        return pyarrow.time64(name[7:9])
    kind, _, rest = name.partition("[")
    if kind == "timestamp" and rest.endswith("]"):
        unit, _, zone = rest[:-1].partition(", tz=")
        # the same instants: the scan engine knows no zones like -02:15
        zone = "UTC" if _OFFSET.fullmatch(zone) else zone
        return pyarrow.timestamp("ms" if unit == "s" else unit, zone or None)
    if kind == "duration" and rest.endswith("]"):
        return pyarrow.duration("ms" if rest[:-1] == "s" else rest[:-1])
    if name.startswith("decimal128("):
        precision, scale = (int(part) for part in name[len("decimal128(") : -1].split(","))
        return pyarrow.decimal128(precision, scale) if 0 <= scale <= precision else None
    if name.startswith(("decimal32(", "decimal64(")):
        return arrow_type("decimal128(" + name.partition("(")[2])
    return None


def packed_types(types: Mapping[str, pyarrow.DataType]) -> str:
    """Return columns' types as a text; none is no text.

    Examples
    --------
    >>> unpacked_types(packed_types({"s": pyarrow.struct([("a", pyarrow.int8())])}))
    {'s': StructType(struct<a: int8>)}
    """
    return base64.b64encode(pyarrow.schema(types).serialize().to_pybytes()).decode() if types else ""


@lru_cache(maxsize=64)
def unpacked_types(text: str) -> dict[str, pyarrow.DataType]:
    """Return the types again."""
    if not text:
        return {}
    schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(base64.b64decode(text)))
    return {column.name: column.type for column in schema}


def in_utc(name: str) -> str:
    """Return the type of the same times in UTC: the scan engine knows not every zone that a file may name.

    Examples
    --------
    >>> in_utc("timestamp[us, tz=+01:00]"), in_utc("timestamp[us]")
    ('timestamp[us, tz=UTC]', 'timestamp[us]')
    """
    return f"{name.partition(', tz=')[0]}, tz=UTC]" if name.startswith("timestamp[") and ", tz=" in name else name


def is_flat(name: str) -> bool:
    """Whether columns of this type are compared as they are; the others are JSON text."""
    return arrow_type(name) is not None


def is_text(name: str) -> bool:
    """Whether a search without a column looks here: text, and what is shown as JSON text."""
    return name in ("string", "uuid") or not is_flat(name)


def unite(left: str, right: str) -> str:
    """Return the type that holds values of both: numbers widen, null gives way, a conflict is JSON text.

    Examples
    --------
    >>> unite("int8", "int64"), unite("int64", "float"), unite("int64", "string"), unite("null", "bool")
    ('int64', 'double', 'json', 'bool')
    >>> unite("timestamp[ms]", "timestamp[us]"), unite("timestamp[us]", "timestamp[ns]"), unite("decimal128(38, 18)", "double")
    ('timestamp[us]', 'timestamp', 'decimal')
    """
    if left == right or right == "null":
        return left
    if left == "null":
        return right
    numbers = {left, right}
    if numbers <= set(_INTEGERS):
        signed = {name for name in numbers if not name.startswith("u")}
        if not signed or numbers == signed:
            return max(numbers, key=_INTEGERS.index)
        bits = max(_bits(name) * (2 if name.startswith("u") else 1) for name in numbers)
        return f"int{bits}" if bits <= 64 else JSON
    if numbers <= {"halffloat", "float"}:
        return "float"
    if all(name in _INTEGERS or name in _FLOATS or name.startswith("decimal") for name in numbers):
        return _unite_decimals(left, right) if any(name.startswith("decimal") for name in numbers) else "double"
    if all(name.startswith("timestamp") for name in numbers):
        return _unite_timestamps(left, right)
    if "date32[day]" in numbers and (stamp := next((name for name in numbers if name.startswith("timestamp[")), None)):
        return stamp if "tz=" not in stamp else JSON
    return JSON


def _bits(name: str) -> int:
    return int(name.lstrip("uint"))


def _unite_decimals(left: str, right: str) -> str:
    sizes = [_size(name) for name in (left, right)]
    if None in sizes:
        whole = next((size for size in sizes if size is not None), None)
        # a double has every decimal of 15 digits
        return "double" if DECIMAL not in (left, right) and whole is not None and whole[0] <= 15 else DECIMAL
    scale = max(size[1] for size in sizes if size)
    precision = scale + max(size[0] - size[1] for size in sizes if size)
    return f"decimal128({precision}, {scale})" if precision <= 38 else DECIMAL


_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}


def _size(name: str) -> tuple[int, int] | None:
    """The digits of a number, and how many of them stand behind the point; None of floats, and of decimals of any number."""
    if name in _INTEGERS:
        return _DIGITS[_bits(name)], 0
    found = re.fullmatch(r"decimal\d+\((\d+), (-?\d+)\)", name)
    return (int(found[1]), int(found[2])) if found else None


def _unite_timestamps(left: str, right: str) -> str:
    zones = {"UTC" if name == "timestamptz" else name.rstrip("]").partition(", tz=")[2] for name in (left, right)}
    if "" in zones and len(zones) > 1:
        return JSON
    units = {name.partition("[")[2].rstrip("]").partition(",")[0] for name in (left, right)}
    if "" in units or ("ns" in units and len(units) > 1):
        # in nanoseconds far dates overflow, in coarser units digits are lost
        return _TIMES[0] if zones == {""} else _TIMES[1]
    unit = max(units, key=("s", "ms", "us", "ns").index)
    zone = zones.pop() if len(zones) == 1 else "UTC"
    return f"timestamp[{unit}" + (f", tz={zone}]" if zone else "]")


def shown_name(name: str) -> str:
    """Return the name under which a data column is shown: `_pos` and the like are ours.

    Examples
    --------
    >>> shown_name("_pos"), shown_name("_id")
    ('pos_', '_id')
    """
    if not name:
        return "unnamed"  # neither polars nor SQL knows a column without a name
    return name[1:] + "_" if name in RESERVED else name
