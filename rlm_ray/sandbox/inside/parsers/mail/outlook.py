"""Mails in Outlook's own files, MSG ([MS-OXMSG]): properties in the streams of a compound file."""

from __future__ import annotations

import io
from typing import Any

from rlm_ray.sandbox.inside.parsers.mail import mapi

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: How deep mails lie in each other, and what one may have attached; bytes of all together.
_DEPTH, _MOST, _BYTES = 10, 5_000, 64 << 20
_TABLE = "__properties_version1.0"
#: Bytes before the table's rows, in a mail, in one in another, and elsewhere.
_HEADS = {"mail": 32, "inner": 24, "item": 8}
_EMBEDDED = 5


def is_mail(data: bytes) -> bool:
    """Whether bytes are those of a compound file with a mail's table of properties."""
    return data.startswith(MAGIC) and _TABLE.encode("utf-16-le") in data


def message(data: bytes) -> bytes:
    """Return a mail of Outlook in the form in which it is sent.

    Raises
    ------
    ValueError
        It cannot be read; says why.
    """
    try:
        import olefile
    except ImportError as error:
        raise ValueError(f"{error}: reading MSG needs the extra mail: pip install 'rlm-ray[mail]'") from None
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as file:
            return _File(file).message((), "mail", 0)
    except (MemoryError, TimeoutError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it says of a hostile file
        raise ValueError(f"it is damaged: {' '.join(str(error).split())[:200]}") from None


class _File:
    """The streams of a compound file."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = _BYTES
        paths = [tuple(path) for path in file.listdir(streams=True, storages=True)]
        self._paths = dict.fromkeys(paths)

    def message(self, at: tuple[str, ...], kind: str, depth: int) -> bytes:
        """Return the mail at a path."""
        recipients = [self._properties(path, "item") for path in self._below(at, "__recip_version1.0_#")]
        attached = [self._attached(path, depth) for path in self._below(at, "__attach_version1.0_#")]
        return mapi.message(mapi.Outlook(self._properties(at, kind), recipients, attached))

    def _below(self, at: tuple[str, ...], begin: str) -> list[tuple[str, ...]]:
        return [path for path in self._paths if len(path) == len(at) + 1 and path[:-1] == at and path[-1].startswith(begin)][:_MOST]

    def _attached(self, at: tuple[str, ...], depth: int) -> mapi.Attached:
        found = self._properties(at, "item")
        name = mapi.text(found, mapi.LONG_NAME) or mapi.text(found, mapi.SHORT_NAME) or mapi.text(found, mapi.DISPLAY)
        inner = (*at, f"__substg1.0_{mapi.DATA:04X}{mapi.OBJECT:04X}")
        if found.get(mapi.METHOD) == _EMBEDDED and inner in self._paths:
            if depth >= _DEPTH:
                return mapi.Attached(name, "application/octet-stream", b"")
            return mapi.Attached(name or "mail.eml", "message/rfc822", self.message(inner, "inner", depth + 1))
        data = found.get(mapi.DATA, b"")
        return mapi.Attached(name, mapi.text(found, mapi.MIME), data if isinstance(data, bytes) else b"")

    def _properties(self, at: tuple[str, ...], kind: str) -> mapi.Properties:
        """Return the properties at a path: numbers stand in its table, texts and bytes in streams of their own."""
        rows = self._read((*at, _TABLE))[_HEADS[kind] :]
        found: dict[int, mapi.Value] = {}
        texts: list[tuple[int, bytes]] = []
        for place in range(0, len(rows) // 16 * 16, 16):
            tag, data = int.from_bytes(rows[place : place + 4], "little"), rows[place + 8 : place + 16]
            number, type_ = tag >> 16, tag & 0xFFFF
            if type_ not in (mapi.UNICODE, mapi.STRING8, mapi.BINARY):
                found[number] = mapi.value(type_, data)
                continue
            path = (*at, f"__substg1.0_{number:04X}{type_:04X}")
            if path not in self._paths:
                continue
            if type_ == mapi.STRING8:
                texts.append((number, self._read(path)))
            else:
                found[number] = mapi.value(type_, self._read(path))
        for number, raw in texts:
            found[number] = mapi.value(mapi.STRING8, raw, mapi.code_page(found))
        return found

    def _read(self, path: tuple[str, ...]) -> bytes:
        if path not in self._paths:
            return b""
        self._left -= self._file.get_size(list(path))
        if self._left < 0:
            raise ValueError(f"its parts come to more than {_BYTES >> 20} MiB")
        data: bytes = self._file.openstream(list(path)).read()
        return data
