"""The sandbox's end of the channel: many threads may wait for replies on one socket.

There is no reader thread. Of the threads that wait, one leads: it reads the socket and hands each frame to the
thread that waits for it; when its own has come it passes the lead on. An interrupt (the clock, or the parent) is
raised in the main thread only, and never inside a piece of bookkeeping: `Interrupts` holds it back until then.
"""

from __future__ import annotations

import _socket
import json
import os
import select
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rlm_ray.sandbox.wire.channel import FrameReader, Header, encode

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

#: What the main thread waits for when it is idle.
COMMAND = 0


_TOO_LATE = "the cell of this thread has ended; join threads before the cell ends"


class Interrupts:
    """Turns SIGALRM into TimeoutError and SIGINT into KeyboardInterrupt, while a cell runs, at a safe place."""

    def __init__(self) -> None:
        self._main = threading.get_ident()
        self._held = 0
        self._blocking = False
        self._pending: BaseException | None = None
        self.armed = False
        self.message = ""

    def install(self) -> None:
        """Take the two signals. Root code may take them away: then the parent's deadline is what is left."""
        signal.signal(signal.SIGALRM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.armed:
            return
        error: BaseException = TimeoutError(self.message) if number == signal.SIGALRM else KeyboardInterrupt("interrupted")
        if self._held and not self._blocking:
            self._pending = error
            return
        raise error

    def disarm(self) -> None:
        """Let no interrupt through from now on, and forget one that was held back."""
        self.armed = False
        self._pending = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold interrupts back; one that came is raised at the end."""
        if threading.get_ident() != self._main:
            yield
            return
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._pending is not None and not self._held:
            error, self._pending = self._pending, None
            raise error

    @contextmanager
    def blocking(self) -> Iterator[None]:
        """Inside `held`: the one call that waits, and that an interrupt may end."""
        if threading.get_ident() != self._main:
            yield
            return
        self._blocking = True
        try:
            if self._pending is not None:
                error, self._pending = self._pending, None
                raise error
            yield
        finally:
            self._blocking = False


class _Slot:
    """Where one waiting thread finds its frame, or the lead."""

    __slots__ = ("frame", "promoted", "waits", "wake")

    def __init__(self) -> None:
        self.frame: tuple[Header, bytes] | None = None
        self.wake = threading.Lock()
        self.wake.acquire()
        self.waits = False
        self.promoted = False


class Link:
    """Frames over one socket.

    Parameters
    ----------
    connection : socket.socket
        Blocking stream to the parent.
    interrupts : Interrupts
        Of the same process.
    """

    def __init__(self, connection: _socket.socket, interrupts: Interrupts) -> None:
        self._socket = connection
        self._interrupts = interrupts
        self._reader = FrameReader(max_header=1 << 30, max_blob=1 << 31, files=True)
        self._files: list[int] = []
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._state = threading.Lock()
        self._writing = threading.Lock()
        self._slots: dict[int, _Slot] = {COMMAND: _Slot()}
        self._led = False
        self._last = 0
        self.accepting = False
        self._commands: deque[tuple[Header, bytes]] = deque()

    def readable(self) -> bool:
        """Tell whether the parent has sent something."""
        return bool(self._poll.poll(0))

    def send(self, header: Header, blob: bytes = b"", *, ends_cell: bool = False) -> None:
        """Write one frame, whole, also if an interrupt comes meanwhile.

        With `ends_cell` no request follows it, and whoever still waits for a reply is told that none will come.
        """
        data = encode(header, blob)
        with self._interrupts.held(), self._writing:
            if ends_cell:
                self.accepting = False
                self._abandon()
            self._socket.sendall(data)

    def _abandon(self) -> None:
        with self._state:
            for number, slot in self._slots.items():
                if number != COMMAND and slot.frame is None:
                    slot.frame = {"error": ["RuntimeError", _TOO_LATE, {}]}, b""
                    if slot.waits and not slot.promoted:
                        slot.wake.release()

    def command(self) -> tuple[Header, bytes]:
        """Wait for the parent's next command."""
        frame = self._wait(COMMAND, self._slots[COMMAND])
        with self._state:
            self._slots[COMMAND] = slot = _Slot()
            if self._commands:
                slot.frame = self._commands.popleft()
        return frame

    def ask(self, header: Header, blob: bytes = b"") -> tuple[Header, bytes]:
        """Send a request and wait for its reply. Safe from several threads at once."""
        slot = _Slot()
        with self._interrupts.held(), self._writing:  # numbered in the order in which they are written
            if not self.accepting:
                raise RuntimeError(_TOO_LATE)
            number = self._last + 1
            data = encode(header | {"id": number}, blob)
            with self._state:
                self._last = number
                self._slots[number] = slot
            self._socket.sendall(data)
        return self._wait(number, slot)

    def _wait(self, number: int, slot: _Slot) -> tuple[Header, bytes]:
        leads = False
        with self._interrupts.held():
            try:
                with self._state:
                    if slot.frame is None:
                        slot.waits = True
                        leads, self._led = not self._led, True
                if slot.frame is None and not leads:
                    with self._interrupts.blocking():
                        slot.wake.acquire()
                while slot.frame is None:
                    with self._interrupts.blocking():
                        self._poll.poll()
                    self._read()
            finally:
                with self._state:
                    slot.waits = False
                    if number != COMMAND:
                        self._slots.pop(number, None)
                    if leads or slot.promoted:
                        self._pass_on()
            return slot.frame

    def _pass_on(self) -> None:
        """Give the lead to a thread that waits without a frame, if there is one."""
        for slot in self._slots.values():
            if slot.waits and slot.frame is None:
                slot.promoted = True
                slot.wake.release()
                return
        self._led = False

    def _read(self) -> None:
        """Read what is there and hand it out. Leader only."""
        data, ancillary, _, _ = self._socket.recvmsg(1 << 16, _socket.CMSG_SPACE(16 * 4))
        if not data:
            os._exit(0)  # the parent is gone
        for level, kind, payload in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                import array

                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                self._files += numbers
        self._reader.feed(data)
        while (frame := self._reader.take()) is not None:
            header, blob = json.loads(frame.header), frame.blob
            if frame.in_file:
                try:
                    blob = self._load(frame.in_file, mapped=header.get("mapped", False))
                except (MemoryError, OSError):
                    note = f"a reply of {frame.in_file:,} bytes does not fit into the sandbox's memory; ask for less at once"
                    header = {"id": header.get("id", COMMAND), "t": header.get("t"), "error": ["MemoryError", note, {}]}
            self._deliver(header, blob)

    def _load(self, size: int, *, mapped: bool) -> Any:
        """The bytes of a file in memory; or, mapped, a view of them where they lie: it has the methods of no bytes."""
        import mmap

        handle = self._files.pop(0)
        try:
            if mapped:
                return memoryview(mmap.mmap(handle, size, prot=mmap.PROT_READ))
            with mmap.mmap(handle, size, prot=mmap.PROT_READ) as view:
                return view[:]
        finally:
            os.close(handle)

    def _deliver(self, header: Header, blob: bytes) -> None:
        number: Any = header.get("id", COMMAND)
        with self._state:
            slot = self._slots.get(number)
            if slot is None:
                return  # the request was given up
            if slot.frame is not None:
                self._commands.append((header, blob))
                return
            slot.frame = header, blob
            if slot.waits and not slot.promoted:
                slot.wake.release()
