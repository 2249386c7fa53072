"""Opens text objects as streams of bytes, and cuts lines out of them with exact offsets.

A shard owns the lines that *start* in its byte range. Offsets are those of the uncompressed text, as UTF-8 where the
object's encoding is a wide one; `\\n` ends a line, one `\\r` before it belongs to the end. A byte order mark belongs to no
line.
"""

from __future__ import annotations

import bisect
import codecs
import io
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow

from rlm_ray import storage
from rlm_ray.corpus.catalog.shard import FRAMED, Shard
from rlm_ray.corpus.catalog.signatures import DOCUMENTS, HEAD, Unpacked, otherwise
from rlm_ray.corpus.reading.decode_replacements import ERRORS, add
from rlm_ray.corpus.reading.text.compressed import frames, open_framed, open_indexed
from rlm_ray.corpus.reading.text.snappy import Framed, HadoopBlocks
from rlm_ray.errors import ObjectUnreadable, RlmRayError, StorageError

#: Bytes that are looked at together: fewer cost more calls, more do not stay in the processor's cache. The first are
#: fewer, since who looks at a few records wants no more.
PIECE, FIRST = 8 << 20, 1 << 20
#: Bytes of a block in which lines are counted.
_COUNTED = 512 << 10
#: Bytes behind a range that are read with it, for the rest of its last line.
_REST = 1 << 10
#: Bytes besides in memory that is filled again: the next fill begins with the rest of a line.
_ROOM = 64 << 10
BOM = b"\xef\xbb\xbf"

#: Longest record that is loaded: a line, or a document. A longer one fails its shard, with the reason.
MAX_RECORD = 256 << 20

#: Streams of what Arrow does not decompress as a stream.
_UNPACKED: dict[str, Callable[[Any], Any]] = {"xz": Unpacked, "snappy": Framed, "hadoop-snappy": HadoopBlocks}


@contextmanager
def opened(shard: Shard, start: int = 0, stop: int | None = None, early: bool = False) -> Iterator[Any]:
    """Open a shard's object as a stream of uncompressed bytes, from `start` on (from its beginning where it is not seekable).

    `early` suits a caller that may stop long before `stop`.
    """
    if shard.compression == FRAMED:
        with open_framed(shard, start, stop, early) as stream:
            yield stream
        return
    # from the beginning Arrow is faster, and checks all that it reads
    if shard.compression == "gzip" and shard.seekable and start > 0:
        with open_indexed(shard, start, stop) as stream:
            yield stream
        return
    begin, end = (0, None) if shard.packed else (start, stop)
    early = early or (shard.packed and stop is not None)  # it is not known which byte of the object that is
    with storage.open_stream(shard.uri, version=shard.version, size=shard.size, start=begin, stop=end, early=early) as source:
        file = source
        if shard.unseen and (begin or isinstance(source, pyarrow.NativeFile)):
            look_at(shard)
        elif shard.unseen:
            file = LookedAt(source, shard)
        if shard.compression is None:
            yield Recoded(file, shard.encoding) if shard.is_wide else file
        else:
            if shard.compression in _UNPACKED:
                unpacked = _UNPACKED[shard.compression](file)
                yield Recoded(unpacked, shard.encoding) if shard.is_wide else unpacked
                return
            packed = file if isinstance(file, pyarrow.NativeFile) else pyarrow.PythonFile(file, mode="r")
            with pyarrow.CompressedInputStream(packed, shard.compression) as arrow:
                stream = Members(arrow, shard) if shard.compression == "gzip" else arrow
                yield Recoded(stream, shard.encoding) if shard.is_wide else stream


def look_at(shard: Shard, head: bytes | None = None) -> None:
    """Check that an object is what its name says, by its first bytes, which are read unless they are given.

    Raises
    ------
    ObjectUnreadable
        The object is something else; the message says what.
    """
    if head is None:
        (given,) = storage.read_small([(shard.uri, shard.version, shard.size)], HEAD)
        if isinstance(given, StorageError):
            raise given
        head = given
    compression = "zstd" if shard.compression == FRAMED else shard.compression
    found = otherwise(head[:HEAD], compression, shard.encoding)
    if found is not None and not (shard.traits.is_parsed and found in DOCUMENTS):
        raise ObjectUnreadable(
            f"{shard.uri} is {found} by its first bytes, which is not what its name says. Name it so, convert it, or leave it out."
        )


class LookedAt(io.RawIOBase):
    """A stream of an object from its beginning, whose first bytes are checked when they are read; see `look_at`."""

    def __init__(self, stream: Any, shard: Shard) -> None:
        super().__init__()
        self._stream = stream
        self._shard: Shard | None = shard

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        got = int(self._stream.readinto(buffer))
        if self._shard is not None:
            look_at(self._shard, bytes(memoryview(buffer)[: min(got, HEAD)]))
            self._shard = None
        return got

    def read(self, count: int | None = -1) -> bytes:
        """Return the next bytes."""
        data = bytes(self._stream.read(count))
        if self._shard is not None:
            look_at(self._shard, data)
            self._shard = None
        return data


class Members:
    """A gzip stream as Arrow reads it; where bytes behind its last member are no gzip, as zlib does, which tells where they begin.

    Zeros there are padding; other bytes are counted as such that are no text.
    """

    _BEHIND = ("incorrect header check", "unknown compression method", "unknown header flags")

    def __init__(self, stream: Any, shard: Shard) -> None:
        self._stream, self._shard = stream, shard
        self._given = 0
        self._texts: Iterator[bytes] | None = None
        self._rest = memoryview(b"")

    def read(self, count: int) -> bytes:
        """Return the next bytes; fewer only at the end."""
        data = bytearray(count)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; not all of it at the end only."""
        if self._texts is None:
            try:
                got = int(self._stream.readinto(buffer))
                self._given += got
                return got
            except (pyarrow.ArrowException, OSError) as error:
                if isinstance(error, RlmRayError) or not any(text in str(error) for text in self._BEHIND):
                    raise
            self._texts = self._behind()
        at = 0
        while at < len(buffer):
            if not self._rest:
                self._rest = memoryview(next(self._texts, b""))
                if not self._rest:
                    break
            part = self._rest[: len(buffer) - at]
            buffer[at : at + len(part)] = part
            self._rest = self._rest[len(part) :]
            at += len(part)
        return at

    def _behind(self) -> Iterator[bytes]:
        """The text behind what was given."""
        shard, skip = self._shard, self._given
        with storage.open_stream(shard.uri, version=shard.version, size=shard.size) as file:
            inflate = zlib.decompressobj(31)
            data = b""
            while data := data or file.read(1 << 20):
                try:
                    text = inflate.decompress(data, 8 << 20)
                except zlib.error as error:
                    raise OSError(str(error)) from None
                data = inflate.unconsumed_tail or inflate.unused_data
                if len(text) > skip:
                    yield text[skip:]
                skip = max(0, skip - len(text))
                if inflate.eof:
                    while not (data := data.lstrip(b"\0")) and (more := file.read(1 << 20)):
                        data = more
                    data += file.read(1) if len(data) == 1 else b""
                    if data and not data.startswith(b"\x1f\x8b"):
                        size = len(data)
                        while more := file.read(1 << 20):
                            size += len(more)
                        add(size)
                        return
                    inflate = zlib.decompressobj(31)


class Recoded:
    """A stream of text in some encoding, as one in UTF-8; bytes that are no text become U+FFFD."""

    def __init__(self, stream: Any, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(ERRORS)
        self._rest = memoryview(b"")
        self._ended = False

    def read(self, count: int) -> bytes:
        """Return the next bytes; fewer only at the end."""
        data = bytearray(count)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; not all of it at the end only."""
        at = 0
        while at < len(buffer) and (self._rest or not self._ended):
            if not self._rest:
                data = self._stream.read(1 << 20)
                self._ended = not data
                text = self._decoder.decode(data, self._ended)
                self._rest = memoryview(text.encode("utf-8", "replace"))
            part = self._rest[: len(buffer) - at]
            buffer[at : at + len(part)] = part
            self._rest = self._rest[len(part) :]
            at += len(part)
        return at


def encoding_of(shard: Shard) -> str:
    """Return the encoding of what `opened` gives."""
    return "utf-8" if shard.is_wide else shard.encoding


@dataclass(frozen=True, slots=True)
class Piece:
    """Some whole lines: line i is `memory[starts[i]:ends[i]]`, its end excluded. `offset` is the byte of the object that
    the memory begins with, or what is to be added for each line where the memory is put together of parts. `is_utf8` says
    that the lines are known to be UTF-8."""

    memory: numpy.ndarray[Any, Any]
    offset: int | numpy.ndarray[Any, Any]
    starts: numpy.ndarray[Any, Any]
    ends: numpy.ndarray[Any, Any]
    is_utf8: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Whole lines that are not cut yet: `memory[start:stop]`; the memory begins at byte `offset` of the object."""

    memory: numpy.ndarray[Any, Any]
    offset: int
    start: int
    stop: int

    def piece(self, is_utf8: bool = False) -> Piece:
        """Cut the lines; `is_utf8` says that they are known to be UTF-8."""
        breaks = numpy.flatnonzero(self.memory[self.start : self.stop] == 10) + self.start
        if not len(breaks) or breaks[-1] != self.stop - 1:
            breaks = numpy.append(breaks, self.stop)  # the object's last line, without a line break
        starts = numpy.empty(len(breaks), numpy.int64)
        starts[0] = self.start
        starts[1:] = breaks[:-1] + 1
        # one carriage return before the line break belongs to it
        ends = breaks - ((breaks > starts) & (self.memory[breaks - 1] == 13))
        return Piece(self.memory, self.offset, starts, ends, is_utf8)

    def breaks(self) -> list[int]:
        """Return how many line breaks there are up to the end of each block."""
        size = _block()
        counts = [
            numpy.count_nonzero(self.memory[at : min(at + size, self.stop)] == 10) for at in range(self.start, self.stop, size)
        ]
        return numpy.cumsum(counts).tolist()

    def chosen(self, numbers: Sequence[int], breaks: Sequence[int]) -> Piece:
        """Cut only the lines of these numbers, which ascend; `breaks` are this run's."""
        found: dict[int, Any] = {}
        size = _block()

        def behind(count: int) -> int:
            """The byte behind so many line breaks."""
            block = bisect.bisect_left(breaks, count)
            if count == 0 or block == len(breaks):
                return self.stop if count else self.start
            first = self.start + block * size
            if block not in found:
                found[block] = numpy.flatnonzero(self.memory[first : min(first + size, self.stop)] == 10)
            return first + int(found[block][count - 1 - (breaks[block - 1] if block else 0)]) + 1

        starts = numpy.array([behind(number) for number in numbers], numpy.int64)
        stops = numpy.array([behind(number + 1) for number in numbers], numpy.int64)
        ends = stops - (self.memory[stops - 1] == 10)
        return Piece(self.memory, self.offset, starts, ends - ((ends > starts) & (self.memory[ends - 1] == 13)))


def pieces(shard: Shard, low: int, high: int | None) -> Iterator[Piece]:
    """Yield the lines that start at a byte in `[low, high)`, in pieces of some megabytes; None is the object's end.

    Raises
    ------
    ObjectUnreadable
        A damaged compressed stream, or a line above `MAX_RECORD`.
    """
    return (run.piece() for run in runs(shard, low, high))


def runs(
    shard: Shard, low: int, high: int | None, early: bool = False, spare: list[numpy.ndarray[Any, Any]] | None = None
) -> Iterator[Run]:
    """Yield what `pieces` does, before the lines are cut.

    With `early`, little is read at first, for a caller that may soon stop. A caller that keeps nothing of a run puts its memory
    into `spare`, and it is filled again: fresh memory costs more than the bytes that are read into it.
    """
    first = low - 1 if low > len(BOM) else 0
    with opened(shard, first, None if high is None else high + _REST, early) as stream, readable(shard):
        for run in _whole_lines(shard, stream, low, high, early, [] if spare is None else spare):
            start, stop = run.start, run.stop
            if run.offset + start < low:
                start = min(stop, _next_break(run.memory, low - run.offset - 1) + 1)
            if high is not None and run.offset + stop > high:
                behind = high - run.offset
                stop = start if behind <= start else min(stop, _next_break(run.memory, behind - 1) + 1)
            if start < stop:
                yield Run(run.memory, run.offset, start, stop)


def _block() -> int:
    return min(PIECE, _COUNTED)


def count_lines(shard: Shard, low: int, high: int) -> int:
    """Return how many lines of an object that can be cut start in `[low, high)`."""
    table = frames(shard.uri, shard.version, shard.size) if shard.compression == FRAMED else None
    size = shard.size if table is None else table.nbytes
    # a line starts behind every line break but one at the very end; the first line is counted apart
    stop = min(high, size) - 1
    at = low - 1 if low > len(BOM) else 0
    count = 0
    memory = numpy.empty(_block() + len(BOM), numpy.uint8)
    with opened(shard, at, stop) as stream:
        while at < max(stop, len(BOM)) and (got := stream.readinto(memory.data[: min(len(memory), max(stop, len(BOM)) - at)])):
            begin = 0
            if at == 0:
                first = len(BOM) if memory[: len(BOM)].tobytes() == BOM and got >= len(BOM) else 0
                count += low <= first < min(high, size)
                begin = max(low - 1, 0)
            count += int(numpy.count_nonzero(memory[begin : max(begin, min(got, stop - at))] == 10))
            at += got
    return count


def steps(early: bool) -> Iterator[int]:
    """Yield how many bytes to take at a time: few at first, and so for longer where who takes them may soon stop."""
    step = min(FIRST, PIECE)
    yield from itertools.repeat(step, 4 if early else 1)
    while True:
        step = min(2 * step, PIECE)
        yield step


def _whole_lines(
    shard: Shard, stream: Any, low: int, high: int | None, early: bool, spare: list[numpy.ndarray[Any, Any]]
) -> Iterator[Run]:
    """Yield runs of whole lines, from about `low` until a line starts at `high` or behind it."""
    seekable = shard.seekable
    offset = 0  # of the memory's first byte
    in_middle = seekable and low > len(BOM)
    if in_middle:
        # the stream begins at the byte before, which says whether a line starts exactly at `low`
        offset = low - 1
    rest = numpy.empty(0, numpy.uint8)
    sizes = steps(early)
    while high is None or offset < high:
        # a long line doubles what is read, so that it is not copied again and again
        count = max(next(sizes), len(BOM), len(rest))
        if high is not None and seekable:
            # past the shard's end only the rest of its last line is wanted
            count = min(count, max(_REST, len(rest), high - offset - len(rest) + _REST))
        memory, ended = filled(stream, rest, count, spare)
        start = 0
        if in_middle:
            start = _next_break(memory, 0) + 1
            if start > len(memory):
                if ended:
                    return
                offset += len(memory)  # of a line that starts before `low` nothing is kept
                continue
            in_middle = False
        elif offset == 0 and memory[: len(BOM)].tobytes() == BOM:
            start = len(BOM)
        cut = len(memory) if ended else _last_break(memory, len(rest)) + 1
        if cut > start:
            yield Run(memory, offset, start, cut)
        if ended:
            return
        rest = memory[cut:]
        offset += cut
        if len(rest) > MAX_RECORD:
            raise ObjectUnreadable(
                f"{shard.uri} has a line of more than {MAX_RECORD >> 20} MiB at byte {offset}. Cut it into lines, or open "
                "the object in another format."
            )


def _next_break(memory: numpy.ndarray[Any, Any], at: int) -> int:
    """Return where the next line break is, from `at` on; the memory's length where there is none."""
    width = 256
    while at < len(memory):
        found = numpy.flatnonzero(memory[at : at + width] == 10)
        if len(found):
            return at + int(found[0])
        at, width = at + width, width * 4
    return len(memory)


def _last_break(memory: numpy.ndarray[Any, Any], least: int) -> int:
    """Return where the last line break is, at `least` or behind it; -1 where there is none."""
    stop, width = len(memory), 256
    while stop > least:
        first = max(least, stop - width)
        found = numpy.flatnonzero(memory[first:stop] == 10)
        if len(found):
            return first + int(found[-1])
        stop, width = first, width * 4
    return -1


def filled(
    stream: Any, rest: numpy.ndarray[Any, Any], count: int, spare: list[numpy.ndarray[Any, Any]] | None = None
) -> tuple[numpy.ndarray[Any, Any], bool]:
    """Return `rest` and the next `count` bytes behind it, and whether the stream has ended; in memory out of `spare` if it does."""
    memory = _memory(len(rest) + count, spare)
    memory[: len(rest)] = rest
    at = len(rest)
    while at < len(memory):
        got = stream.readinto(memory.data[at:])
        if not got:
            return memory[:at], True
        at += got
    return memory, False


def _memory(size: int, spare: list[numpy.ndarray[Any, Any]] | None) -> numpy.ndarray[Any, Any]:
    """Memory of some size: of what is spare where that is large enough, else fresh, with room for the rest of a line."""
    while spare:
        memory = spare.pop()
        whole = memory if memory.base is None else memory.base
        if len(whole) >= size:
            return whole[:size]
    return numpy.empty(size if spare is None else size + _ROOM, numpy.uint8)[:size]


@contextmanager
def readable(shard: Shard) -> Iterator[None]:
    """Turn what a decompressor refuses into ObjectUnreadable."""
    try:
        yield
    except (pyarrow.ArrowInvalid, OSError) as error:
        if isinstance(error, RlmRayError):
            raise
        reason = " ".join(str(error).split())
        raise ObjectUnreadable(f"{shard.uri} cannot be decompressed: {reason}. Check the file.") from None
