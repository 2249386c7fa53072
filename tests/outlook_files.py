"""Writes mails as Outlook keeps them: MSG in a compound file ([MS-CFB] version 3), and TNEF."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

Tree = dict[str, "bytes | Tree"]
_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_CUTOFF, _SECTOR, _MINI = 4096, 512, 64


def compound_file(tree: Tree) -> bytes:
    """A compound file with these storages and streams."""
    entries: list[list[Any]] = [["Root Entry", 5, _FREE, _FREE, b""]]  # name, type, next sibling, first child, data

    def add(level: Tree) -> int:
        first, before = _FREE, -1
        for name, value in level.items():
            number = len(entries)
            entries.append([name, 1 if isinstance(value, dict) else 2, _FREE, _FREE, b"" if isinstance(value, dict) else value])
            if before < 0:
                first = number
            else:
                entries[before][2] = number
            before = number
            if isinstance(value, dict):
                entries[number][3] = add(value)
        return first

    entries[0][3] = add(tree)
    sectors: list[bytes] = []
    fat: list[int] = []
    mini, mini_fat = b"", list[int]()

    def stored(data: bytes) -> int:
        if not data:
            return _END
        start, count = len(sectors), -(-len(data) // _SECTOR)
        sectors.extend(data[at : at + _SECTOR].ljust(_SECTOR, b"\0") for at in range(0, len(data), _SECTOR))
        fat.extend([*range(start + 1, start + count), _END])
        return start

    places = [_END]
    for _, _, _, _, data in entries[1:]:
        if 0 < len(data) < _CUTOFF:
            start, count = len(mini_fat), -(-len(data) // _MINI)
            mini += data.ljust(count * _MINI, b"\0")
            mini_fat.extend([*range(start + 1, start + count), _END])
            places.append(start)
        else:
            places.append(stored(data))
    places[0] = stored(mini)
    table = b""
    for (name, kind, sibling, child, data), place in zip(entries, places, strict=True):
        raw = name.encode("utf-16-le") + b"\0\0"
        size = len(mini) if kind == 5 else len(data)
        table += raw.ljust(64, b"\0") + struct.pack("<HBBIII", len(raw), kind, 1, _FREE, sibling, child)
        table += bytes(36) + struct.pack("<IQ", place if kind != 1 else 0, size)
    directory = stored(table.ljust(-(-len(table) // _SECTOR) * _SECTOR, b"\0"))
    packed_mini = struct.pack(f"<{len(mini_fat)}I", *mini_fat)
    first_mini = stored(packed_mini.ljust(-(-len(packed_mini) // _SECTOR) * _SECTOR, b"\xff"))
    count = -(-(len(fat) + 1) // (_SECTOR // 4 - 1))
    fat_places = list(range(len(sectors), len(sectors) + count))
    full = [*fat, *[_FAT] * count]
    full += [_FREE] * (count * _SECTOR // 4 - len(full))
    assert count <= 109
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH6xI", 0x3E, 3, 0xFFFE, 9, 6, 0)
    head += struct.pack(
        "<IIIIIIII", count, directory, 0, _CUTOFF, first_mini, len(packed_mini) and -(-len(packed_mini) // _SECTOR), _END, 0
    )
    head += struct.pack("<109I", *fat_places, *[_FREE] * (109 - count))
    return head + b"".join(sectors) + struct.pack(f"<{len(full)}I", *full)


def _property(number: int, value: Any) -> tuple[int, bytes, bytes | None]:
    """Type, the eight bytes in the table, and the stream."""
    if isinstance(value, str):
        raw = value.encode("utf-16-le")
        return 0x1F, struct.pack("<Q", len(raw) + 2), raw
    if isinstance(value, bytes):
        return 0x102, struct.pack("<Q", len(value)), value
    if isinstance(value, datetime):
        since = value - datetime(1601, 1, 1, tzinfo=UTC)
        return 0x40, struct.pack("<Q", (since.days * 86_400 + since.seconds) * 10_000_000), None
    return 3, struct.pack("<Q", value), None


def storage(properties: dict[int, Any], head: int, **inside: Tree) -> Tree:
    """The storage of an object with properties; `head` bytes stand before its table."""
    tree: Tree = {}
    table = bytes(head)
    for number, value in properties.items():
        if isinstance(value, dict):
            table += struct.pack("<IIQ", number << 16 | 0x0D, 6, 0xFFFFFFFF)
            tree[f"__substg1.0_{number:04X}000D"] = value
            continue
        kind, data, stream = _property(number, value)
        table += struct.pack("<II", number << 16 | kind, 6) + data
        if stream is not None:
            tree[f"__substg1.0_{number:04X}{kind:04X}"] = stream
    return {"__properties_version1.0": table, **tree, **inside}


def msg(properties: dict[int, Any], recipients: list[dict[int, Any]], attached: list[dict[int, Any]], head: int = 32) -> Tree:
    """The tree of a mail; `compound_file` makes the file of it."""
    inside: dict[str, Tree] = {f"__recip_version1.0_#{at:08X}": storage(item, 8) for at, item in enumerate(recipients)}
    inside |= {f"__attach_version1.0_#{at:08X}": storage(item, 8) for at, item in enumerate(attached)}
    return storage(properties, head, **inside)


def tnef(properties: dict[int, Any], attached: list[tuple[str, str, bytes]]) -> bytes:
    """A `winmail.dat` with properties of the mail, and what is attached: a short name, a long one, the bytes."""
    data = b"\x78\x9f\x3e\x22\x01\x00" + _attribute(1, 0x00069007, struct.pack("<II", 1252, 0))
    data += _attribute(1, 0x00069003, _packed(properties))
    for short, long, content in attached:
        data += _attribute(2, 0x00069002, bytes(14)) + _attribute(2, 0x00018010, short.encode("cp1252") + b"\0")
        data += _attribute(2, 0x0006800F, content) + _attribute(2, 0x00069005, _packed({0x3707: long}))
    return data


def _attribute(level: int, number: int, value: bytes) -> bytes:
    return struct.pack("<BII", level, number, len(value)) + value + struct.pack("<H", sum(value) & 0xFFFF)


def _packed(properties: dict[int, Any]) -> bytes:
    data = struct.pack("<I", len(properties))
    for number, value in properties.items():
        kind, fixed, stream = _property(number, value)
        data += struct.pack("<HH", kind, number)
        if stream is None:
            data += fixed[:4] if kind == 3 else fixed
            continue
        stream += b"\0\0" if kind == 0x1F else b""
        data += struct.pack("<II", 1, len(stream)) + stream + bytes(-len(stream) % 4)
    return data
