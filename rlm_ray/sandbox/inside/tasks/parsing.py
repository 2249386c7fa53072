"""Inside the sandbox: parsers of foreign formats that read an object by ranges and yield what they find, part by part.

The object lies with the parent: the child asks it for each range, so neither holds more than a piece. Imported by children that
parse one; the parsers are loaded behind the walls.
"""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Iterator
from typing import Any

from rlm_ray.sandbox.inside.link import Link
from rlm_ray.types.json import JsonObject

#: The module of each kind, whose `read(file, options)` yields lists of JSON values, JSON as text, or bytes.
PARSERS = {
    "zip": "rlm_ray.sandbox.inside.parsers.archives.zip_members",
    "tar": "rlm_ray.sandbox.inside.parsers.archives.tar_members",
    "7z": "rlm_ray.sandbox.inside.parsers.archives.sevenzip_members",
    "avro": "rlm_ray.sandbox.inside.parsers.tables.avro",
    "orc": "rlm_ray.sandbox.inside.parsers.tables.orc",
    "sheet": "rlm_ray.sandbox.inside.parsers.tables.sheets",
    "mail": "rlm_ray.sandbox.inside.parsers.mail.records",
}
#: Bytes that are asked for at least.
AT_ONCE = 64 << 10


def parsed(kind: str, file: RemoteFile, options: JsonObject) -> Iterator[Any]:
    """Yield what the parser of a kind finds in a file."""
    found: Iterator[Any] = importlib.import_module(PARSERS[kind]).read(file, options)
    return found


class RemoteFile(io.RawIOBase):
    """An object that lies with the parent, as a file.

    Parameters
    ----------
    link : Link
    size : int
        Its bytes; of one that is read from front to back alone a number that is larger.
    at_once : int
        Bytes that are asked for at least.
    """

    def __init__(self, link: Link, size: int, at_once: int = AT_ONCE) -> None:
        super().__init__()
        self._link, self._size, self._at_once = link, size, at_once
        self._at = self._first = 0
        self._held = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if self._at < 0:
            raise OSError("a seek before the beginning")
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, count: int | None = -1) -> bytes:
        """Return the next bytes; fewer only at the end."""
        stop = self._size if count is None or count < 0 else min(self._size, self._at + count)
        if stop <= self._at:
            return b""
        begin = self._at - self._first
        if begin < 0 or stop - self._first > len(self._held):
            head = self._held[begin:] if 0 <= begin < len(self._held) else b""
            first = self._at + len(head)
            self._held = head + self._asked(first, min(self._size, max(stop, first + self._at_once)))
            self._first, begin = self._at, 0
        data = self._held[begin : begin + stop - self._at]
        self._at += len(data)
        return data

    def _asked(self, start: int, stop: int) -> bytes:
        self._link.send({"t": "want", "start": start, "stop": stop})
        return self._link.command()[1]
