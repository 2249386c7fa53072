"""Reading members of archives: as streams, by ranges, whole.

A member that stands in its archive as it is, is read by ranges of the archive. One that is compressed is read from its beginning.
Of what is compressed as a whole (`.tar.gz`) some streams are kept open where they stand, so that members in their order are
read in one pass.
"""

from __future__ import annotations

import contextlib
import io
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyarrow

from rlm_ray.errors import ObjectUnreadable, RlmRayError
from rlm_ray.storage.archives import decompressing
from rlm_ray.storage.archives.decompressing import Limited, Stream
from rlm_ray.storage.archives.places import MARK, MEMBERS, Layer, parse

#: Opens a range of an object: `(uri, version, start, stop, early)`.
Open = Callable[[str, str, int, int, bool], Any]

#: Most bytes that are held of a member that has to be held whole.
MAX_HELD = 128 << 20
#: Streams that are kept open.
_KEPT = 6
_LOCAL_HEADER, _SIGNATURE = 30, b"PK\x03\x04"
#: Compressed bytes up to which a member is read at once.
_SMALL = 1 << 20
_SKIP = 1 << 20
#: Bytes of extra fields that most local headers have at most.
_EXTRA = 36


class _Below(NamedTuple):
    """What the bytes of a layer lie in."""

    uri: str
    version: str
    layers: tuple[Layer, ...]


def open_stream(
    open_object: Open, uri: str, version: str, size: int, start: int = 0, early: bool = False, stop: int | None = None
) -> Any:
    """Open a member as a stream from byte `start` on; it ends with the member.

    Raises
    ------
    ObjectUnreadable
        Also while it is read: it is damaged, or not as long as its archive says.
    """
    base, base_version, layers = parse(uri, version)
    below = _Below(base, base_version, layers)
    with _named(uri):
        return _Named(_from(open_object, below, start, size if stop is None else min(stop, size), early), uri)


def read_range(open_object: Open, uri: str, version: str, start: int, stop: int) -> bytes:
    """Return some bytes of a member; fewer where it ends before."""
    layer = parse(uri, version)[2][-1]
    stop = min(stop, layer.size)
    if stop <= start:
        return b""
    if not layer.is_plain and layer.packed <= _SMALL and layer.size <= 8 * _SMALL:
        with _named(uri):
            return _small(open_object, uri, version)[start:stop]
    with open_stream(open_object, uri, version, layer.size, start, stop=stop, early=True) as stream:
        data: bytes = stream.read(stop - start)
        return data


def read_whole(open_object: Open, uri: str, version: str) -> bytes:
    """Return a member whole.

    Raises
    ------
    ObjectUnreadable
        It is larger than `MAX_HELD`.
    """
    layer = parse(uri, version)[2][-1]
    if layer.size > MAX_HELD:
        raise ObjectUnreadable(
            f"{uri} has {layer.size >> 20:,} MiB and is compressed in its archive; a format that is read from the "
            f"middle needs at most {MAX_HELD >> 20} MiB there. Unpack the archive."
        )
    return read_range(open_object, uri, version, 0, layer.size)


def open_input(open_object: Open, uri: str, version: str) -> pyarrow.NativeFile:
    """Open a member for random access; one that is compressed is held whole."""
    layers = parse(uri, version)[2]
    if all(layer.is_plain for layer in layers):
        return pyarrow.PythonFile(_RandomAccess(open_object, uri, version, layers[-1].size), mode="r")
    return pyarrow.BufferReader(read_whole(open_object, uri, version))


class _RandomAccess(io.RawIOBase):
    """A member that stands in its archive as it is; each read is a range."""

    def __init__(self, open_object: Open, uri: str, version: str, size: int) -> None:
        super().__init__()
        self._open, self._uri, self._version, self._size, self._at = open_object, uri, version, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        return self._size

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, count: int | None = -1) -> bytes:
        stop = self._size if count is None or count < 0 else self._at + count
        data = read_range(self._open, self._uri, self._version, self._at, stop)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


# -- layers


def _from(open_object: Open, below: _Below, start: int, stop: int, early: bool) -> Any:
    """Open bytes `start` to `stop` of what some layers come to; the end of a compressed one is its own, and is checked."""
    if not below.layers:
        return open_object(below.uri, below.version, start, stop, early)
    layer, lower = below.layers[-1], _Below(below.uri, below.version, below.layers[:-1])
    if layer.is_plain:
        first = layer.offset if layer.letter == "t" else _data_offset(open_object, lower, layer)
        return Limited(_kept_or_from(open_object, lower, first + start, first + stop, early), stop - start)
    stream = _decompressed(open_object, lower, layer, early)
    _skip(stream, start)
    return stream


def _decompressed(open_object: Open, lower: _Below, layer: Layer, early: bool) -> Any:
    """Open a compressed layer from its beginning."""
    first = _data_offset(open_object, lower, layer) if layer.letter in MEMBERS else layer.offset
    source = Limited(_kept_or_from(open_object, lower, first, first + layer.packed, early), layer.packed)
    return decompressing.opened(source, layer)


def _data_offset(open_object: Open, lower: _Below, layer: Layer) -> int:
    """Return where the data of a zip's member begin, behind its local header (APPNOTE 4.3.7)."""
    place = layer.offset
    with contextlib.closing(_kept_or_from(open_object, lower, place, place + _LOCAL_HEADER, True)) as stream:
        head = stream.read(_LOCAL_HEADER)
    return place + _behind_header(head)


def _behind_header(head: bytes) -> int:
    if len(head) < _LOCAL_HEADER or not head.startswith(_SIGNATURE):
        raise OSError("its local header is damaged")
    return _LOCAL_HEADER + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")


def _small(open_object: Open, uri: str, version: str) -> bytes:
    """Return a small member by one read of its archive, where its header is not much larger than its name."""
    base, base_version, layers = parse(uri, version)
    layer, lower = layers[-1], _Below(base, base_version, layers[:-1])
    if layer.letter != "d":
        with _from(open_object, _Below(base, base_version, layers), 0, layer.size, True) as stream:
            data: bytes = stream.read(layer.size)
            return data
    name = uri.rpartition(MARK)[2]
    # no more than what stands behind the last member, in the archive's directory
    room = _LOCAL_HEADER + (len(name) if name.isascii() else 0) + _EXTRA
    with _kept_or_from(open_object, lower, layer.offset, layer.offset + room + layer.packed, True) as stream:
        packed = stream.read(room + layer.packed)
        first = _behind_header(packed)
        if len(packed) < first + layer.packed:
            packed += stream.read(first + layer.packed - len(packed))
    inflate = zlib.decompressobj(-15)
    try:
        text = inflate.decompress(memoryview(packed)[first : first + layer.packed], layer.size + 1)
    except zlib.error as error:
        raise OSError(str(error)) from None
    if len(text) != layer.size or zlib.crc32(text) != layer.crc:
        raise OSError("its size or its checksum differs from that of its archive")
    return text


# -- streams that are kept


class _Kept:
    """Streams of compressed layers that stand somewhere in the middle, to be taken by who reads from there on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: list[tuple[_Below, int, Any]] = []

    def take(self, below: _Below, start: int) -> tuple[int, Any] | None:
        """Return the stream that stands nearest before `start`, and where."""
        with self._lock:
            fitting = [item for item in self._streams if item[0] == below and item[1] <= start]
            if not fitting:
                return None
            chosen = max(fitting, key=lambda item: item[1])
            self._streams.remove(chosen)
            return chosen[1:]

    def put(self, below: _Below, at: int, stream: Any) -> None:
        """Keep a stream that stands at a byte; the oldest is closed."""
        with self._lock:
            self._streams.append((below, at, stream))
            oldest = self._streams.pop(0) if len(self._streams) > _KEPT else None
        if oldest is not None:
            oldest[2].close()

    def clear(self) -> None:
        """Close all."""
        with self._lock:
            streams, self._streams = self._streams, []
        for _, _, stream in streams:
            stream.close()


KEPT = _Kept()


def _kept_or_from(open_object: Open, below: _Below, start: int, stop: int, early: bool) -> Any:
    """Open a range; of a compressed layer by a stream that is kept where there is one."""
    if not below.layers or below.layers[-1].is_plain:
        return _from(open_object, below, start, stop, early)
    found = KEPT.take(below, start)
    if found is None:
        lower = _Below(below.uri, below.version, below.layers[:-1])
        found = 0, _decompressed(open_object, lower, below.layers[-1], False)
    at, stream = found
    _skip(stream, start - at)
    return _Returning(stream, below, start)


class _Returning(Stream):
    """A stream of a compressed layer that is kept when its reader is done."""

    def __init__(self, stream: Any, below: _Below, at: int) -> None:
        super().__init__(stream)
        self._below, self._at, self._is_fine = below, at, True

    def readinto(self, buffer: Any) -> int:
        try:
            got = int(self._stream.readinto(buffer))
        except BaseException:
            self._is_fine = False
            raise
        self._at += got
        return got

    def close(self) -> None:
        if not self.closed and self._is_fine:
            KEPT.put(self._below, self._at, self._stream)
            self._is_fine = False
            self._stream = io.BytesIO()
        super().close()


def _skip(stream: Any, count: int) -> None:
    buffer = memoryview(bytearray(min(count, _SKIP)))
    while count:
        got = int(stream.readinto(buffer[: min(count, len(buffer))]))
        if not got:
            raise OSError("it ends too early")
        count -= got


# -- errors


@contextmanager
def _named(uri: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, pyarrow.ArrowException) as error:
        if isinstance(error, RlmRayError):
            raise
        reason = " ".join(str(error).split())
        raise ObjectUnreadable(f"{uri} cannot be read from its archive: {reason}. Check the archive.") from None


class _Named(Stream):
    """A stream whose errors name the member."""

    def __init__(self, stream: Any, uri: str) -> None:
        super().__init__(stream)
        self._uri = uri

    def readinto(self, buffer: Any) -> int:
        with _named(self._uri):
            return int(self._stream.readinto(buffer))


def read_small(open_object: Open, objects: Sequence[tuple[str, str, int]]) -> list[bytes | ObjectUnreadable]:
    """Return small members whole; for one that cannot be read the error."""
    found: list[bytes | ObjectUnreadable] = []
    for uri, version, size in objects:
        try:
            found.append(read_range(open_object, uri, version, 0, size))
        except ObjectUnreadable as error:
            found.append(error)
    return found
