"""Exchanges frames with one child: sends without blocking, and receives within bounds."""

from __future__ import annotations

import fcntl
import os
import select
import socket
from collections import deque
from collections.abc import Iterator, Sequence

from rlm_ray.sandbox.wire.channel import IN_MEMORY_FILE, INLINE, PLAIN, PREFIX, FrameReader, Header, dumps, header_of

#: What a frame carries beside its header: bytes, or parts of them that lie anywhere.
Blob = bytes | Sequence[memoryview]

#: Bytes that may wait for a child that does not read.
MAX_PENDING = 4 << 20
#: Bytes read in one go, so that a child that floods does not keep its parent from everything else.
READ_AT_ONCE = 32 << 20
_PIECE = 1 << 18
_F_ADD_SEALS = 1033
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # no reseal, no shrink, no grow, no write


class Connection:
    """Frames over the parent's end of a child's socket, which does not block.

    Every method that touches the socket raises ConnectionResetError when the child is gone; `frames` raises
    ProtocolError when it sent something that is no frame.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._reader = FrameReader()
        self._waiting: deque[tuple[bytes, int | None]] = deque()
        self._pending = 0

    @property
    def unsent(self) -> bool:
        """Whether frames wait for the child to read."""
        return bool(self._waiting)

    @property
    def stuck(self) -> bool:
        """Whether more waits than a child that reads would ever leave."""
        return self._pending > MAX_PENDING

    def send(self, header: Header, blob: Blob = b"") -> None:
        """Queue a frame and write what the socket takes; a large blob goes as a sealed file in memory."""
        head, parts = dumps(header), parts_of(blob)
        size = sum(part.nbytes for part in parts)
        if size > INLINE:
            data, handle = PREFIX.pack(len(head), size, IN_MEMORY_FILE) + head, memory_file(blob)
        else:
            data, handle = b"".join([PREFIX.pack(len(head), size, PLAIN), head, *parts]), None
        self._waiting.append((data, handle))
        self._pending += len(data)
        self.flush()

    def flush(self) -> None:
        """Write what waits, as far as the socket takes it."""
        while self._waiting:
            data, handle = self._waiting[0]
            try:
                sent = self._socket.send(data) if handle is None else socket.send_fds(self._socket, [data], [handle])
            except BlockingIOError:
                return
            except OSError as error:
                raise ConnectionResetError(str(error)) from None
            if handle is not None:
                os.close(handle)
            self._pending -= sent
            self._waiting.popleft()
            if sent < len(data):
                self._waiting.appendleft((data[sent:], None))

    def frames(self) -> Iterator[tuple[Header, bytes]]:
        """Yield the frames that have arrived."""
        taken = 0
        while taken < READ_AT_ONCE:
            try:
                data = self._socket.recv(_PIECE)
            except BlockingIOError:
                return
            except OSError as error:
                raise ConnectionResetError(str(error)) from None
            if not data:
                raise ConnectionResetError("end of the stream")
            taken += len(data)
            self._reader.feed(data)
            while (frame := self._reader.take()) is not None:
                yield header_of(frame.header), frame.blob

    def drop(self) -> None:
        """Forget what waits to be sent."""
        for _, handle in self._waiting:
            if handle is not None:
                os.close(handle)
        self._waiting.clear()
        self._pending = 0


def readable(descriptor: int, seconds: float | None) -> bool:
    """Wait until a descriptor, however high its number, can be read; return whether it can."""
    look = select.poll()
    look.register(descriptor, select.POLLIN)
    return bool(look.poll(None if seconds is None else max(0.0, seconds) * 1000))


def parts_of(blob: Blob) -> list[memoryview]:
    """Return the parts of a blob, as bytes."""
    return [memoryview(part).cast("B") for part in ([blob] if isinstance(blob, bytes) else blob)]


def memory_file(blob: Blob) -> int:
    """Return the descriptor of a file in memory that holds `blob` and that nobody can change any more."""
    handle = os.memfd_create("frame", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for view in parts_of(blob):
            while view:
                view = view[os.write(handle, view) :]
        fcntl.fcntl(handle, _F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(handle)
        raise
    return handle
