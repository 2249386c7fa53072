"""Decodes values of Parquet's VARIANT: the binary encoding, and members shredded into columns. Pure."""

from __future__ import annotations

import decimal
import itertools
import struct
import uuid
from collections.abc import Mapping
from typing import Any

from rlm_ray.corpus.meaning.moments import moment_text

#: Nesting beyond it is refused.
_DEPTH = 200
_WHOLE = {3: "<b", 4: "<h", 5: "<i", 6: "<q", 7: "<d", 14: "<f"}
_DECIMALS = {8: 4, 9: 8, 10: 16}
_MOMENTS = {12: ("us", "Z"), 13: ("us", ""), 18: ("ns", "Z"), 19: ("ns", "")}


def decoded(row: Mapping[str, Any]) -> Any:
    """Return the value of one row: its `metadata`, `value` and, where it is shredded, `typed_value`, as Python has them.

    Decimals, bytes and UUIDs stay so; dates and times are texts.

    Raises
    ------
    ValueError
        The bytes are no VARIANT.

    Examples
    --------
    >>> decoded({"metadata": bytes([1, 1, 0, 3]) + b"msg", "value": bytes([2, 1, 0, 0, 3]) + bytes([9]) + b"hi"})
    {'msg': 'hi'}
    """
    value = _joined(row.get("value"), row.get("typed_value"), _names(row["metadata"]), 0)
    return None if value is _ABSENT else value


class _Absent:
    """What a shredded object does not have."""


_ABSENT = _Absent()


def _names(data: bytes) -> list[str]:
    if not data or data[0] & 15 != 1:
        raise ValueError("the metadata are of no known version")
    width = (data[0] >> 6) + 1
    count = _number(data, 1, width)
    first = 1 + width * (count + 2)
    if first > len(data):
        raise ValueError("the metadata end too early")
    offsets = [_number(data, 1 + width * (index + 1), width) for index in range(count + 1)]
    if first + offsets[-1] > len(data) or any(low > high for low, high in itertools.pairwise(offsets)):
        raise ValueError("the metadata name bytes behind their end")
    return [data[first + low : first + high].decode() for low, high in itertools.pairwise(offsets)]


def _joined(value: bytes | None, typed: Any, names: list[str], depth: int) -> Any:
    """One value of what is shredded and what is not."""
    if depth > _DEPTH:
        raise ValueError("the value is nested too deeply")
    if typed is None:
        return _ABSENT if value is None else _value(value, 0, names, depth)[0]
    if isinstance(typed, dict):
        found = {}
        for name, member in typed.items():
            item = _ABSENT if member is None else _joined(member.get("value"), member.get("typed_value"), names, depth + 1)
            if item is not _ABSENT:
                found[name] = item
        rest = {} if value is None else _value(value, 0, names, depth)[0]
        if not isinstance(rest, dict):
            raise ValueError("the value is an object and something else")
        return found | {name: item for name, item in rest.items() if name not in found}
    if isinstance(typed, list):
        items = [_joined(item.get("value"), item.get("typed_value"), names, depth + 1) for item in typed if item is not None]
        return [None if item is _ABSENT else item for item in items]
    return typed


def _value(data: bytes, at: int, names: list[str], depth: int) -> tuple[Any, int]:
    """The value that begins at a byte, and where it ends."""
    if depth > _DEPTH:
        raise ValueError("the value is nested too deeply")
    head = _bytes(data, at, 1)[0]
    kind, detail = head & 3, head >> 2
    at += 1
    if kind == 1:
        return _bytes(data, at, detail).decode(), at + detail
    if kind == 0:
        return _primitive(data, at, detail)
    large = detail >> 4 & 1 if kind == 2 else detail >> 2 & 1
    wide, width = (detail >> 2 & 3) + 1, (detail & 3) + 1
    count = _number(data, at, 4 if large else 1)
    at += 4 if large else 1
    if count * (width + (wide if kind == 2 else 0)) > len(data):
        raise ValueError("the value names more members than it has bytes")
    keys = []
    if kind == 2:
        keys = [_number(data, at + index * wide, wide) for index in range(count)]
        at += count * wide
    offsets = [_number(data, at + index * width, width) for index in range(count + 1)]
    first = at + (count + 1) * width
    items = [_value(data, first + offset, names, depth + 1)[0] for offset in offsets[:count]]
    end = first + (offsets[-1] if offsets else 0)
    if kind == 3:
        return items, end
    if any(key >= len(names) for key in keys):
        raise ValueError("the value names a member that its metadata lack")
    return {names[key]: item for key, item in zip(keys, items, strict=True)}, end


def _primitive(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind <= 2:
        return (None, True, False)[kind], at
    if kind in _WHOLE:
        size = struct.calcsize(_WHOLE[kind])
        return struct.unpack(_WHOLE[kind], _bytes(data, at, size))[0], at + size
    if kind in _DECIMALS:
        size = _DECIMALS[kind]
        scale = _bytes(data, at, 1)[0]
        whole = int.from_bytes(_bytes(data, at + 1, size), "little", signed=True)
        digits = tuple(int(digit) for digit in str(abs(whole)))
        return decimal.Decimal((int(whole < 0), digits, -scale)), at + 1 + size
    if kind == 11:
        return moment_text(int.from_bytes(_bytes(data, at, 4), "little", signed=True), "D"), at + 4
    if kind in _MOMENTS:
        return moment_text(int.from_bytes(_bytes(data, at, 8), "little", signed=True), *_MOMENTS[kind]), at + 8
    if kind in (15, 16):
        size = _number(data, at, 4)
        raw = _bytes(data, at + 4, size)
        return raw if kind == 15 else raw.decode(), at + 4 + size
    if kind == 17:
        return moment_text(int.from_bytes(_bytes(data, at, 8), "little", signed=True), "us").partition("T")[2], at + 8
    if kind == 20:
        return uuid.UUID(bytes=bytes(_bytes(data, at, 16))), at + 16
    raise ValueError(f"a value is of the unknown kind {kind}")


def _number(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(_bytes(data, at, width), "little")


def _bytes(data: bytes, at: int, size: int) -> bytes:
    found = data[at : at + size]
    if len(found) < size:
        raise ValueError("a value ends too early")
    return found
