"""What cells print: captured from every thread, bounded, with the middle cut out when there is too much."""

from __future__ import annotations

import io
import threading
from collections import deque

from rlm_ray.sandbox.wire.shared_output import SharedOutput

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any


class Capture(io.TextIOBase):
    """A text stream that keeps the beginning and the end of what is written to it.

    Parameters
    ----------
    shared : SharedOutput, optional
        Where it is written as well, so that it outlives this process.

    Examples
    --------
    >>> capture = Capture()
    >>> capture.begin(limit=8)
    >>> _ = capture.write("abcdefghij")
    >>> capture.end()
    ('abcd\\n[… 2 characters cut …]\\nghij', 2)
    """

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, shared: SharedOutput | None = None) -> None:
        self._shared = shared
        self._lock = threading.Lock()
        self.buffer = _Bytes(self)
        self.begin(limit=0)

    def begin(self, limit: int) -> None:
        """Forget everything; keep at most `limit` characters from now on."""
        self._half = max(1, limit // 2)
        self._head: list[str] = []
        self._head_size = 0
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._cut = 0
        self._at_line_start = True
        if self._shared is not None:
            self._shared.begin()

    def end(self) -> tuple[str, int]:
        """Return what was kept, and how many characters were not."""
        with self._lock:
            head, tail, cut = "".join(self._head), "".join(self._tail), self._cut
            over = len(tail) - self._half
            if over > 0:
                tail, cut = tail[over:], cut + over
            self.begin(limit=0)
        return (f"{head}\n[… {cut:,} characters cut …]\n{tail}", cut) if cut else (head + tail, 0)

    def write(self, text: str) -> int:
        """Take text, from any thread."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        size = len(text)
        with self._lock:
            rest = str(text)
            if self._shared is not None:
                self._shared.write(rest)
            if self._head_size < self._half:
                first = rest[: self._half - self._head_size]
                self._head.append(first)
                self._head_size += len(first)
                rest = rest[len(first) :]
            if rest:
                if len(rest) > self._half:
                    self._cut += len(rest) - self._half
                    rest = rest[-self._half :]
                self._tail.append(rest)
                self._tail_size += len(rest)
                while self._tail_size - len(self._tail[0]) >= self._half:
                    gone = len(self._tail.popleft())
                    self._tail_size -= gone
                    self._cut += gone
            if text:
                self._at_line_start = text.endswith("\n")
        return size

    def line(self, text: str) -> None:
        """Take a line that stands alone, whatever was written before it."""
        self.write(f"{text}\n" if self._at_line_start else f"\n{text}\n")

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return False."""
        return False


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer`: bytes are read as UTF-8."""

    def __init__(self, text: Capture) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raw = bytes(data)
        self._text.write(raw.decode("utf-8", "replace"))
        return len(raw)
