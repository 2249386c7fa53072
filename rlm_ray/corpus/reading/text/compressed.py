"""Reads compressed text from the middle: gzip with an index that is built once, zstd by its frames.

An index of a gzip object holds what a decompressor needs to begin at some hundred places. indexed_gzip makes it when chunks
were cut, or as far as the first line reaches that is wanted from the middle; it is kept in the run directory::

    RUN/indexes/ID.gzi

What reads from the beginning does without: Arrow is faster, and checks all that it reads.

A zstd object can be cut where it ends with a seek table (the "seekable format": zstd's own contrib, t2sz, zeekstd); others
are one shard.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy
import pyarrow

from rlm_ray import storage
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.errors import ObjectUnreadable, RlmRayError, StorageError

#: Compressed bytes from which on a gzip object gets an index: of a smaller one all is read sooner than an index.
LEAST_INDEXED = 8 << 20
#: Uncompressed bytes between two places of an index, at least; and how many places it has about, at most: 32 KiB each.
SPACING, PLACES = 4 << 20, 512
_GROWTH = 5

_BLOCK = 4 << 20

#: Behind the end of an object comes a member of ours: one that ends in the middle of its own would look shorter without a word.
_LAST = b"\nend of object 7c1e5f0d\n"
_MEMBER = gzip.compress(_LAST, mtime=0)


def index_uri(run_dir: str, uri: str, version: str) -> str:
    """Return where a run keeps the index of one version of an object."""
    name = hashlib.sha256(f"{uri}\0{version}".encode()).hexdigest()[:32]
    return storage.join(run_dir, "indexes", f"{name}.gzi")


@contextmanager
def open_indexed(shard: Shard, start: int, stop: int | None) -> Iterator[Any]:
    """Open a gzip object as a stream of its text from byte `start` on, by the index at `shard.seeks`; builds what of it is missing.

    Raises
    ------
    ObjectUnreadable, ObjectChanged
        While it is read: it is damaged, or ends in the middle; it is another version.
    """
    known = _index(shard.seeks)
    source = _Source(shard)
    with _indexed_file(shard, source) as file:
        if known is not None:
            with contextlib.suppress(OSError):  # an index that does not fit is built again
                file.import_index(fileobj=io.BytesIO(known))
        before = sum(1 for _ in file.seek_points())
        source.likely = _likely_end(file, stop, shard.size)
        try:
            yield _Text(shard, file, source, start)
        finally:
            if sum(1 for _ in file.seek_points()) > max(1, before):
                _keep(shard.seeks, file)


def _indexed_file(shard: Shard, source: _Source) -> Any:
    import indexed_gzip

    spacing = max(SPACING, shard.size * _GROWTH // PLACES)
    return contextlib.closing(indexed_gzip.IndexedGzipFile(fileobj=source, spacing=spacing, readbuf_size=1 << 20))


def _likely_end(file: Any, stop: int | None, size: int) -> int:
    """The compressed byte up to which reading is likely to go on."""
    if stop is not None:
        for text, packed in file.seek_points():
            if text >= stop:
                return min(size, int(packed))
    return size


@lru_cache(maxsize=4)
def _loaded(uri: str, size: int) -> bytes:
    return zlib.decompress(storage.read_bytes(uri))


def _index(uri: str) -> bytes | None:
    info = storage.stat(uri)
    return None if info is None else _loaded(uri, info.size)


def build_index(shard: Shard) -> None:
    """Make the index of a gzip object, of all of it, where there is none. Reads the object; without an index only speed is lost."""
    if shard.compression != "gzip" or not shard.seekable or storage.stat(shard.seeks) is not None:
        return
    with contextlib.suppress(OSError), _indexed_file(shard, _Source(shard)) as file:
        file.build_full_index()
        _keep(shard.seeks, file)


def _keep(uri: str, file: Any) -> None:
    made = io.BytesIO()
    file.export_index(fileobj=made)
    packed = zlib.compress(made.getvalue(), 1)
    known = storage.stat(uri)
    # of two that were built at once, the longer one; without one, only speed is lost
    if known is None or known.size < len(packed):
        with contextlib.suppress(StorageError):
            storage.write_bytes(uri, packed)


class _Source(io.RawIOBase):
    """The bytes of a gzip object, from any place on read ahead, with the last member behind them."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._at = 0
        self._stream: Any = None
        self._stream_at = 0
        self.likely = shard.size
        self.error: RlmRayError | None = None  # what a read failed with: the decompressor says only that one did

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        end = self._shard.size + len(_MEMBER)
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: end}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, count: int | None = -1) -> bytes:
        try:
            return self._read(count)
        except RlmRayError as error:
            self.error = error
            raise

    def _read(self, count: int | None) -> bytes:
        shard = self._shard
        if self._at >= shard.size:
            first = self._at - shard.size
            data = _MEMBER[first:] if count is None or count < 0 else _MEMBER[first : first + count]
        else:
            if self._stream is None or self._stream_at != self._at:
                self._open()
            room = shard.size - self._at
            data = self._stream.read(room if count is None or count < 0 else min(count, room))
            if not data:
                storage.check_version(shard.uri, shard.version)
                raise ObjectUnreadable(f"{shard.uri} ends at byte {self._at} of {shard.size}. Open the corpus again.")
            self._stream_at += len(data)
        self._at += len(data)
        return bytes(data)

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _open(self) -> None:
        self._end()
        shard = self._shard
        stop = self.likely if self.likely > self._at else shard.size
        self._stream = storage.open_stream(shard.uri, version=shard.version, size=shard.size, start=self._at, stop=stop)
        self._stream_at = self._at

    def _end(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def close(self) -> None:
        self._end()
        super().close()


class _Text:
    """A decompressed stream without the last member, whose absence says that the object is not whole."""

    def __init__(self, shard: Shard, file: Any, source: _Source, start: int) -> None:
        self._shard, self._file, self._source, self._start = shard, file, source, start
        self._held = b""
        self._ready = memoryview(b"")
        self._ended = False

    def read(self, count: int) -> bytes:
        """Return the next bytes; fewer only at the end."""
        data = bytearray(count)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; not all of it at the end only."""
        target = memoryview(buffer).cast("B")
        at = 0
        while at < len(target) and (self._ready or self._next()):
            part = self._ready[: len(target) - at]
            target[at : at + len(part)] = part
            self._ready = self._ready[len(part) :]
            at += len(part)
        return at

    def _next(self) -> bool:
        while not self._ended and not self._ready:
            block = memoryview(bytearray(len(self._held) + _BLOCK))
            block[: len(self._held)] = self._held
            got = self._decompressed(block[len(self._held) :])
            if not got:
                self._ended = True
                if not _LAST.endswith(self._held):
                    raise self._damaged()
                break
            total = len(self._held) + got
            cut = max(0, total - len(_LAST))
            self._held = bytes(block[cut:total])
            self._ready = block[:cut]
        return bool(self._ready)

    def _decompressed(self, memory: memoryview) -> int:
        try:
            if self._start:
                self._file.seek(self._start)
                self._start = 0
            return int(self._file.readinto(memory))
        except OSError as error:
            if isinstance(error, RlmRayError):
                raise
            raise self._source.error or self._damaged() from None

    def _damaged(self) -> ObjectUnreadable:
        return ObjectUnreadable(f"{self._shard.uri} cannot be decompressed: it is damaged, or ends too early. Check the file.")


# -- zstd

#: Compressed bytes of the largest frame: one is held as a whole.
_MOST = 64 << 20

_FOOTER, _MAGIC, _SKIPPABLE = 9, b"\xb1\xea\x92\x8f", b"\x5e\x2a\x4d\x18"


@dataclass(frozen=True)
class Frames:
    """Where the frames of a zstd object begin: compressed and uncompressed bytes, and the end of the last one behind them."""

    packed: numpy.ndarray[Any, Any]
    text: numpy.ndarray[Any, Any]

    @property
    def nbytes(self) -> int:
        """Uncompressed bytes of all."""
        return int(self.text[-1])


@lru_cache(maxsize=256)
def frames(uri: str, version: str, size: int) -> Frames | None:
    """Return the frames that an object's seek table names; None where it has none. Reads the object's last bytes.

    Raises
    ------
    ObjectChanged
        It has another version, or is gone.
    """
    tail = storage.read_range(uri, max(0, size - (64 << 10)), size, version=version)
    if len(tail) < _FOOTER or tail[-4:] != _MAGIC or tail[-5] & 0x7C:
        return None
    count = int.from_bytes(tail[-9:-5], "little")
    width = 12 if tail[-5] & 0x80 else 8
    length = 8 + count * width + _FOOTER
    if count == 0 or length > size:
        return None
    table = tail[-length:] if length <= len(tail) else storage.read_range(uri, size - length, size, version=version)
    if table[:4] != _SKIPPABLE or int.from_bytes(table[4:8], "little") != length - 8:
        return None
    entries = numpy.frombuffer(table[8:-_FOOTER], "<u4").reshape(count, width // 4).astype(numpy.int64)
    packed, text = (numpy.concatenate(([0], numpy.cumsum(entries[:, column]))) for column in (0, 1))
    fits = int(packed[-1]) == size - length and int(entries[:, 0].max()) <= _MOST
    return Frames(packed, text) if fits else None


@contextmanager
def open_framed(shard: Shard, start: int, stop: int | None, early: bool) -> Iterator[Any]:
    """Open a zstd object that has a seek table as a stream of its text from byte `start` on."""
    table = frames(shard.uri, shard.version, shard.size)
    if table is None:
        raise ObjectUnreadable(f"{shard.uri} has lost its seek table. Open the corpus again.")
    count = len(table.text) - 1
    number = min(max(0, int(numpy.searchsorted(table.text, start, side="right")) - 1), count - 1)
    last = count if stop is None else min(count, int(numpy.searchsorted(table.text, stop)))
    begin, end = int(table.packed[number]), int(table.packed[max(last, number)])
    with storage.open_stream(shard.uri, version=shard.version, size=shard.size, start=begin, stop=end, early=early) as file:
        stream = _Framed(shard, file, table, number)
        skip = start - int(table.text[number])
        while skip > 0 and (data := stream.read(min(skip, _BLOCK))):
            skip -= len(data)
        yield stream


class _Framed:
    """The text of frames, one after the other; each has to be as long as the table says."""

    def __init__(self, shard: Shard, file: Any, table: Frames, number: int) -> None:
        self._shard, self._file, self._table, self._number = shard, file, table, number
        self._frame: Any = None
        self._left = 0

    def read(self, count: int) -> bytes:
        """Return the next bytes; fewer only at the end."""
        data = bytearray(count)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; not all of it at the end only."""
        target = memoryview(buffer).cast("B")
        at = 0
        while at < len(target) and (self._frame is not None or self._next()):
            got = int(self._frame.readinto(target[at:]))
            self._left -= got
            at += got
            if not got:
                if self._left:
                    raise ObjectUnreadable(
                        f"{self._shard.uri} has frames of other lengths than its seek table says. Check the file."
                    )
                self._frame = None
        return at

    def _next(self) -> bool:
        if self._number == len(self._table.text) - 1:
            return False
        lengths = (int(ends[self._number + 1] - ends[self._number]) for ends in (self._table.packed, self._table.text))
        packed, self._left = lengths
        data = self._file.read(packed)
        self._frame = pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd")
        self._number += 1
        return True
