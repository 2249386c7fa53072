"""What a cell has printed so far, in memory that the child and its parent share: it outlives a child that is ended.

A file in memory of fixed, sealed size: the beginning of what was printed, a ring with its end, and how much there is of
each. The child only writes there and holds no descriptor of it. To the parent it is bytes, copied once, that mean
nothing until they are cleaned; numbers in it are clipped to its size.

Both sides import this module; it needs the standard library only.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

#: Bytes kept of the beginning, and of the end.
HALF = 16 << 10
_COUNTS = struct.Struct("=QQ")  # bytes of the beginning; bytes after it, in all
SIZE = _COUNTS.size + 2 * HALF
_F_ADD_SEALS = 1033
_SEALS = 0x1 | 0x2 | 0x4  # no reseal, no shrink, no grow


def make() -> int:
    """Return the descriptor of a new shared output."""
    handle = os.memfd_create("output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(handle, SIZE)
    fcntl.fcntl(handle, _F_ADD_SEALS, _SEALS)
    return handle


def wipe(handle: int) -> None:
    """Forget what is in a shared output: a cell begins."""
    os.pwrite(handle, bytes(_COUNTS.size), 0)


def read(handle: int) -> str:
    """Return what is in a shared output, as text that is not cleaned yet, whatever a child has made of it."""
    return text_of(os.pread(handle, SIZE, 0))


def text_of(data: bytes) -> str:
    """Return the text of the bytes of a shared output.

    Examples
    --------
    >>> text_of(_COUNTS.pack(2, 0) + b"hi" + bytes(2 * HALF - 2))
    'hi'
    """
    first, after = _COUNTS.unpack_from(data)
    head = data[_COUNTS.size :][: min(first, HALF)]
    ring = data[_COUNTS.size + HALF :]
    if after <= HALF:
        return (head + ring[:after]).decode("utf-8", "replace")
    place = after % HALF
    tail = (ring[place:] + ring[:place]).decode("utf-8", "replace")
    return f"{head.decode('utf-8', 'replace')}\n[… {after - HALF:,} bytes cut …]\n{tail}"


class SharedOutput:
    """The child's side. Closes the descriptor: what is mapped stays.

    Examples
    --------
    >>> handle = make()
    >>> output = SharedOutput(os.dup(handle))
    >>> output.begin()
    >>> output.write("so far")
    >>> read(handle)
    'so far'
    >>> os.close(handle)
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = _mapped(descriptor)
        os.close(descriptor)
        self.begin()

    def begin(self) -> None:
        """Forget everything."""
        self._first = self._after = 0
        self._count()

    def write(self, text: str) -> None:
        """Add text. Not safe from several threads at once."""
        passed_by = 0
        if len(text) > 4 * HALF:
            passed_by = len(text) - 3 * HALF
            text = f"{text[:HALF]}{text[-2 * HALF :]}"
        data = text.encode("utf-8", "replace")
        if self._first < HALF:
            first = data[: HALF - self._first]
            place = _COUNTS.size + self._first
            self._memory[place : place + len(first)] = first
            self._first += len(first)
            data = data[len(first) :]
        if data:
            kept = data[-HALF:]
            self._after += passed_by + len(data) - len(kept)
            while kept:
                place = self._after % HALF
                piece = kept[: HALF - place]
                start = _COUNTS.size + HALF + place
                self._memory[start : start + len(piece)] = piece
                self._after += len(piece)
                kept = kept[len(piece) :]
        self._count()

    def _count(self) -> None:
        _COUNTS.pack_into(self._memory, 0, self._first, self._after)


def _mapped(descriptor: int) -> memoryview:
    """Map a shared output. Not by the module `mmap`, which keeps a copy of the descriptor."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    read_write, shared = 0x1 | 0x2, 0x1
    address = library.mmap(None, SIZE, read_write, shared, descriptor, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        number = ctypes.get_errno()
        raise OSError(number, f"the shared output of the sandbox cannot be mapped: {os.strerror(number)}")
    return memoryview((ctypes.c_char * SIZE).from_address(address)).cast("B")
