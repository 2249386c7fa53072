"""TNEF, as Outlook wraps texts and attachments into `winmail.dat` ([MS-OXTNEF])."""

from __future__ import annotations

from collections.abc import Iterator

from rlm_ray.sandbox.inside.parsers.mail import mapi

MAGIC = b"\x78\x9f\x3e\x22"
_HEAD, _MOST, _DEPTH = 6, 5_000, 10
_ATTACHMENT, _TITLE, _DATA, _ATTACHED, _PROPERTIES, _BODY, _CODE_PAGE = 0x9002, 0x8010, 0x800F, 0x9005, 0x9003, 0x800C, 0x9007
_MANY, _NAMED = 0x1000, 0x8000
#: Bytes of a value by its type, where that says it; values are filled up to four.
_SIZES = {0: 0, 1: 0, 2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 0x0A: 4, 0x0B: 2, 0x14: 8, 0x40: 8, 0x48: 16}
_VARIABLE = (mapi.STRING8, mapi.UNICODE, mapi.BINARY, mapi.OBJECT)


def opened(data: bytes, depth: int = 0) -> tuple[mapi.Outlook, str]:
    """Return the properties and what is attached, as far as it can be read, and what is wrong with it."""
    code_page, problem = "cp1252", ""
    properties: dict[int, mapi.Value] = {}
    attached: list[mapi.Attached] = []
    try:
        for number, value, damage in _attributes(data):
            problem = problem or damage
            if number == _CODE_PAGE:
                code_page = mapi.code_page({0x3FDE: int.from_bytes(value[:4], "little")})
            elif number == _BODY:
                properties.setdefault(mapi.BODY, value.decode(code_page, "replace").rstrip("\0"))
            elif number == _PROPERTIES:
                properties |= _properties(value, code_page)
            elif number == _ATTACHMENT:
                attached.append(mapi.Attached("", "", b""))
            elif attached:
                _add(attached[-1], number, value, code_page, depth)
            if len(attached) > _MOST:
                raise ValueError(f"it has more than {_MOST:,} attachments")
    except (IndexError, ValueError) as error:
        problem = f"read in part: {error}"
    return mapi.Outlook(properties, [], attached), problem


def _attributes(data: bytes) -> Iterator[tuple[int, bytes, str]]:
    """Yield the number and the value of each attribute, and what is wrong with it.

    It is a level, four bytes that name it, its size, it, and a sum of its bytes, which some writers do not write right.
    """
    at = _HEAD
    while at + 9 <= len(data):
        number = int.from_bytes(data[at + 1 : at + 3], "little")
        size = int.from_bytes(data[at + 5 : at + 9], "little")
        value, checksum = data[at + 9 : at + 9 + size], data[at + 9 + size : at + 11 + size]
        if len(checksum) < 2:
            yield number, value, "it ends too early"
            return
        is_right = sum(value) & 0xFFFF == int.from_bytes(checksum, "little")
        yield number, value, "" if is_right else "a checksum differs"
        at += 11 + size


def _add(item: mapi.Attached, number: int, value: bytes, code_page: str, depth: int) -> None:
    """Take an attribute of an attachment: its full name stands among its properties, its short one before them."""
    if number == _TITLE:
        item.name = item.name or value.decode(code_page, "replace").rstrip("\0")
    elif number == _DATA:
        item.data = value
    elif number == _ATTACHED:
        found = _properties(value, code_page)
        item.name = mapi.text(found, mapi.LONG_NAME) or item.name
        item.kind = mapi.text(found, mapi.MIME)
        inner = found.get(mapi.DATA)
        if not isinstance(inner, bytes):
            return
        if inner.startswith(MAGIC) and depth < _DEPTH:
            item.kind, item.data = "text/plain", mapi.as_text(opened(inner, depth + 1)[0]).encode()
        elif not item.data:
            item.data = inner


def _properties(data: bytes, code_page: str) -> dict[int, mapi.Value]:
    found: dict[int, mapi.Value] = {}
    reader = _Bytes(data)
    for _ in range(reader.number()):
        kind, number = reader.number(2), reader.number(2)
        if number >= _NAMED:
            _pass_name(reader)
        base = kind & ~_MANY
        is_variable = base in _VARIABLE
        count = reader.number() if is_variable or kind & _MANY else 1
        if count > len(data):
            raise IndexError("a property has more values than bytes")
        for position in range(count):
            size = reader.number() if is_variable else _size(base)
            value = reader.take(size)
            reader.take(-size % 4)
            if position == 0 and number < _NAMED:
                # an object stands behind the identifier of its interface
                found[number] = value[16:] if base == mapi.OBJECT else mapi.value(base, value, code_page)
    return found


def _size(kind: int) -> int:
    if kind not in _SIZES:
        raise ValueError(f"a property has the unknown type {kind:#06x}")
    return _SIZES[kind]


def _pass_name(reader: _Bytes) -> None:
    reader.take(16)
    if reader.number() == 0:
        reader.take(4)
    else:
        size = reader.number()
        reader.take(size)
        reader.take(-size % 4)


class _Bytes:
    """Bytes that are read from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise IndexError("a property ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int = 4) -> int:
        return int.from_bytes(self.take(size), "little")
