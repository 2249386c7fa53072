"""Objects of a store as files: one for random access, one from front to back that reads ahead."""

from __future__ import annotations

import collections
import io
import os
from typing import Any

from rlm_ray.storage.stores import ObjectStore, Reading

#: Reading ahead: first what a scan takes at once; then large ones, since a request costs the store as much as some megabytes, that
#: end where stores cut their own parts. So many are on their way while one is used.
_FIRST = 4 << 20
_BLOCK = 16 << 20
_AHEAD = 2
#: Of a stream that may be left early: it is asked for little, up to so much, and then for as much again as was read.
_LITTLE, _MOST_LITTLE = 1 << 20, 4 << 20
#: Behind the announced end: the rest of a line, at first little of it.
_REST, _MOST_REST = 4 << 10, 256 << 10


class ObjectStream(io.RawIOBase):
    """An object read from front to back: some blocks are on their way while one is used.

    Parameters
    ----------
    start, stop : int
        Where reading begins, and up to where it is likely to go on: only up to there is read ahead.
    early : bool
        Whether it may be left long before: then little is read ahead while little was read.
    """

    def __init__(self, store: ObjectStore, uri: str, version: str, size: int, start: int, stop: int, early: bool = False) -> None:
        self._store, self._uri, self._version, self._size = store, uri, version, size
        self._stop = min(stop, size)
        self._at = self._asked = start
        self._begun = False
        self._early, self._start, self._used = early, start, 0
        self._rest = _REST
        self._blocks: collections.deque[Reading] = collections.deque()
        self._block = memoryview(b"")

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with the next bytes; not all of it at the end only."""
        target = memoryview(buffer).cast("B")
        at = 0
        while at < len(target) and (self._block or self._next()):
            part = self._block[: len(target) - at]
            target[at : at + len(part)] = part
            self._block = self._block[len(part) :]
            at += len(part)
        self._at += at
        return at

    def read(self, count: int | None = -1) -> bytes:
        """Return the next bytes; fewer only at the end."""
        if count is None or count < 0:
            return self.readall()
        data = bytearray(min(count, max(0, self._size - self._at)))
        return bytes(memoryview(data)[: self.readinto(data)])

    def _next(self) -> bool:
        self._used = self._asked - self._start - sum(reading.nbytes for reading in self._blocks)
        self._fill()
        if not self._blocks and self._asked < self._size:
            self._ask(min(self._asked + self._rest, self._size))
            self._rest = min(4 * self._rest, _MOST_REST)
        if not self._blocks:
            return False
        self._block = self._store.result(self._blocks.popleft())
        self._fill()
        return bool(self._block)

    def _fill(self) -> None:
        stop = self._stop
        if self._early:
            stop = min(stop, self._start + self._used + (_LITTLE if self._used < _MOST_LITTLE else self._used))
        while len(self._blocks) < _AHEAD and self._asked < stop:
            large = (self._asked // _BLOCK + 1) * _BLOCK
            self._ask(min(large if self._begun else self._asked + _FIRST, stop))

    def _ask(self, stop: int) -> None:
        self._blocks.append(self._store.begin(self._uri, self._asked, stop, self._version))
        self._asked = stop
        self._begun = True

    def close(self) -> None:
        """Give up what is on its way."""
        while self._blocks:
            self._blocks.popleft().future.cancel()
        super().close()


class ObjectFile(io.RawIOBase):
    """An object as a file; each read is one ranged request, bound to one version."""

    def __init__(self, store: ObjectStore, uri: str, version: str, size: int) -> None:
        self._store, self._uri, self._version, self._size, self._at = store, uri, version, size, 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read anywhere."""
        return True

    def size(self) -> int:
        """Return the size in bytes."""
        return self._size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def read(self, count: int | None = -1) -> bytes:
        """Return the next bytes."""
        stop = self._size if count is None or count < 0 else min(self._at + count, self._size)
        data = self._store.read(self._uri, self._at, stop, self._version)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
