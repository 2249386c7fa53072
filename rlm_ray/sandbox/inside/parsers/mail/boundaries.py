"""Where messages stand in an object: one after the other in an mbox, else one alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

#: A line of an mbox that begins a message: behind a blank line, with a time and a year, before a header.
_FROM = re.compile(rb"(?:\n\r?\n)(From [^\n]{0,300}\d\d:\d\d[^\n]{0,60}\n)(?=[!-9;-~]+[ \t]*:|\r?\n|>?From )")
_FIRST = re.compile(rb"From [^\n]{0,400}\r?\n")
_PIECE = 1 << 20
#: Bytes of a message that are looked at; of a larger one the beginning.
MAX_MESSAGE = 64 << 20
_LONGEST_MARK = 512


def messages(file: IO[bytes], low: int, high: int) -> Iterator[tuple[int, int, int, bytes, bool]]:
    """Yield the messages that have a byte in `[low, high)`: where each begins and ends, where the next begins, its bytes, and
    whether it stands in an mbox.

    Of one above `MAX_MESSAGE` the bytes are its beginning.
    """
    file.seek(0)
    if _FIRST.match(file.read(_LONGEST_MARK)) is None:
        file.seek(0)
        data = file.read(MAX_MESSAGE)
        stop = len(data)
        while more := file.read(_PIECE):
            stop += len(more)
        if data and low < stop:
            yield 0, stop, stop, data, False
        return
    yield from _of_mbox(file, _begin_of(file, low), high)


def _begin_of(file: IO[bytes], low: int) -> int:
    """Return where the message begins that has the byte `low`."""
    stop = low + _LONGEST_MARK
    while low > 0 and stop > 0:
        first = max(0, stop - _PIECE)
        file.seek(first)
        begins = [first + match.start(1) for match in _FROM.finditer(file.read(stop - first)) if first + match.start(1) <= low]
        if begins:
            return begins[-1]
        stop = first + _LONGEST_MARK if first else 0
    return 0


def _of_mbox(file: IO[bytes], begin: int, high: int) -> Iterator[tuple[int, int, int, bytes, bool]]:
    file.seek(begin)
    held, looked, cut = bytearray(), 0, 0  # `cut` bytes of a long message are left out behind its beginning
    ended = False
    while begin < high:
        match = _FROM.search(held, looked)
        if match is None and not ended:
            looked = max(0, len(held) - _LONGEST_MARK)
            more = file.read(_PIECE)
            ended = not more
            held += more
            if len(held) > MAX_MESSAGE + 4 * _PIECE:
                kept = len(held) - 2 * _PIECE
                cut += kept - MAX_MESSAGE if kept > MAX_MESSAGE else 0
                del held[MAX_MESSAGE:kept]
                looked = min(looked, MAX_MESSAGE)
            continue
        if match is None:
            if held:
                stop = begin + len(held) + cut
                yield begin, stop, stop, bytes(held), True
            return
        stop = match.start()
        yield begin, begin + stop + 1 + cut, begin + match.start(1) + cut, bytes(held[: stop + 1]), True
        begin += match.start(1) + cut
        del held[: match.start(1)]
        looked = cut = 0


def without_mark(data: bytes) -> int:
    """Return where a message's headers begin behind the line that begins it in an mbox."""
    match = _FIRST.match(data)
    return match.end() if match else 0
