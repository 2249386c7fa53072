"""The bytes of compressed layers, as streams that know when they are damaged or grow without end."""

from __future__ import annotations

import io
import lzma
import zlib
from typing import Any

import pyarrow

from rlm_ray.storage.archives.places import FOLDER, IN_FOLDER, WHOLE, Layer

#: Bytes of a compressed stream that are read together.
_PIECE = 1 << 20
#: How much a whole object may grow, and bytes that any may have.
MAX_GROWTH, LEAST_BOUND = 1_000, 64 << 20
_XZ_MEMORY = 256 << 20


def opened(stream: Any, layer: Layer) -> Any:
    """Return a stream of what a layer's compressed bytes hold, given these as a stream that ends with them.

    Raises
    ------
    OSError, pyarrow.ArrowInvalid
        While it is read: it is damaged, or not as long as the archive says.
    """
    if layer.letter == "d":
        # as a gzip object: Arrow then compares the CRC-32 too
        trailer = layer.crc.to_bytes(4, "little") + (layer.size & 0xFFFFFFFF).to_bytes(4, "little")
        return _exact(_arrow(_Around(b"\x1f\x8b\x08\0\0\0\0\0\0\xff", stream, trailer), "gzip"), layer, checked=True)
    if layer.letter == IN_FOLDER:
        return _exact(stream, layer)
    if layer.letter == FOLDER:
        return _exact(_folder(stream, layer.coder), layer, checked=True)
    if layer.letter == "m":
        return _exact(_Lzma(stream, _raw_lzma(stream)), layer)
    if layer.letter in ("x", "w"):
        unpacked = _Xz(stream)
        return _exact(unpacked, layer) if layer.letter == "w" else _Bounded(unpacked, layer.packed)
    if layer.letter in WHOLE:
        return _Bounded(_arrow(stream, WHOLE[layer.letter]), layer.packed)
    return _exact(_arrow(stream, {"c": "bz2", "y": "zstd"}[layer.letter]), layer)


def _arrow(stream: Any, compression: str) -> Any:
    source = stream if isinstance(stream, pyarrow.NativeFile) else pyarrow.PythonFile(stream, mode="r")
    return pyarrow.CompressedInputStream(pyarrow.BufferedInputStream(source, _PIECE), compression)


class Stream(io.RawIOBase):
    """A stream over another one, which it closes."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, count: int | None = -1) -> bytes:
        """Return the next bytes; fewer only at the end."""
        if count is None or count < 0:
            return self.readall()
        data = bytearray(count)
        view, at = memoryview(data), 0
        while at < count and (got := self.readinto(view[at:])):
            at += got
        return bytes(view[:at])

    def close(self) -> None:
        """Close both."""
        if not self.closed:
            self._stream.close()
        super().close()


class Limited(Stream):
    """The next `count` bytes of a stream."""

    def __init__(self, stream: Any, count: int) -> None:
        super().__init__(stream)
        self._left = count

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        if not self._left:
            return 0
        view = memoryview(buffer).cast("B")
        got = int(self._stream.readinto(view[: self._left] if len(view) > self._left else view))
        self._left -= got
        if not got and len(view):
            raise OSError("it ends too early")
        return got


class _Around(Stream):
    """A stream with some bytes before and behind it."""

    def __init__(self, before: bytes, stream: Any, behind: bytes) -> None:
        super().__init__(stream)
        self._rest, self._behind = memoryview(before), memoryview(behind)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        view = memoryview(buffer).cast("B")
        if not self._rest:
            got = int(self._stream.readinto(view))
            if got or not len(view):
                return got
            self._rest, self._behind = self._behind, memoryview(b"")
        part = self._rest[: len(view)]
        view[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)


class _Bounded(Stream):
    """A stream that may not grow to more than some times its compressed bytes."""

    def __init__(self, stream: Any, packed: int) -> None:
        super().__init__(stream)
        self._left = max(packed * MAX_GROWTH, LEAST_BOUND)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        got = int(self._stream.readinto(buffer))
        self._left -= got
        if self._left < 0:
            raise OSError(f"it grows to more than {MAX_GROWTH:,} times its size, as an archive made to fill a disk does")
        return got


def _exact(stream: Any, layer: Layer, checked: bool = False) -> _Exact:
    return _Exact(stream, layer.size, None if checked else layer.crc)


class _Exact(Stream):
    """A stream that must have so many bytes, and a CRC-32 where one is given."""

    def __init__(self, stream: Any, size: int, crc: int | None) -> None:
        super().__init__(stream)
        self._left, self._wanted, self._crc, self._ended = size, crc, 0, False

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        view = memoryview(buffer).cast("B")
        if not len(view) or self._ended:
            return 0
        if not self._left:
            return self._end()
        got = int(self._stream.readinto(view[: self._left]))
        if not got:
            raise OSError(f"it ends {self._left:,} bytes too early")
        self._left -= got
        if self._wanted is not None:
            self._crc = zlib.crc32(view[:got], self._crc)
        if not self._left:
            self._end()
        return got

    def _end(self) -> int:
        self._ended = True
        if self._stream.read(1):
            raise OSError("it has more bytes than its archive says")
        if self._wanted is not None and self._crc != self._wanted:
            raise OSError("its checksum differs from that of its archive")
        return 0


def _folder(stream: Any, coder: str) -> Any:
    """Open the packed bytes of a 7z archive's folder by its method; its members have the checksums."""
    method, properties = coder[0], bytes.fromhex(coder[1:])
    if method == "l":
        return _Lzma(stream, _lzma1(properties))
    if method in "mb":
        return _Lzma(stream, _lzma2(properties[0], is_filtered=method == "b"))
    if method == "d":
        return _Lzma(stream, _Inflate())
    return stream if method == "s" else _arrow(stream, {"c": "bz2", "y": "zstd"}[method])


def _raw_lzma(stream: Any) -> lzma.LZMADecompressor:
    head = stream.read(4)
    return _lzma1(stream.read(int.from_bytes(head[2:4], "little")))


def _lzma2(size: int, is_filtered: bool) -> lzma.LZMADecompressor:
    dictionary = (2 | size & 1) << (size // 2 + 11)
    if size > 40 or dictionary > _XZ_MEMORY:
        raise OSError("its dictionary is larger than 256 MiB")
    before = [{"id": lzma.FILTER_X86}] if is_filtered else []
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[*before, {"id": lzma.FILTER_LZMA2, "dict_size": dictionary}])


def _lzma1(properties: bytes) -> lzma.LZMADecompressor:
    if len(properties) != 5 or properties[0] >= 225:
        raise OSError("it is no LZMA")
    first = properties[0]
    size = int.from_bytes(properties[1:5], "little")
    if size > _XZ_MEMORY:
        raise OSError("its dictionary is larger than 256 MiB")
    options = {"id": lzma.FILTER_LZMA1, "lc": first % 9, "lp": first // 9 % 5, "pb": first // 45, "dict_size": max(size, 4_096)}
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[options])


class _Inflate:
    """A decompressor of raw deflate that is used as one of Python's lzma is."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(-15)
        self._has_more = False  # of what was put in: the output did not hold it

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._has_more

    def decompress(self, data: bytes, max_length: int) -> bytes:
        try:
            text = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
            self._has_more = not self._inner.eof and (bool(self._inner.unconsumed_tail) or len(text) == max_length)
            return text
        except zlib.error as error:
            raise OSError(str(error)) from None


class _Lzma(Stream):
    """A stream through a decompressor of Python's lzma."""

    def __init__(self, stream: Any, decompressor: lzma.LZMADecompressor | _Inflate) -> None:
        super().__init__(stream)
        self._decompressor = decompressor
        self._ended = False

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        view = memoryview(buffer).cast("B")
        while len(view) and not self._ended:
            data = self._stream.read(_PIECE) if self._decompressor.needs_input else b""
            if not data and self._decompressor.needs_input:
                self._ended = True  # raw LZMA need not say where it ends: its size is compared
                return 0
            try:
                text = self._decompressor.decompress(data, len(view))
            except lzma.LZMAError as error:
                raise OSError(str(error)) from None
            self._ended = self._decompressor.eof
            if text:
                view[: len(text)] = text
                return len(text)
        return 0


class _Xz(Stream):
    """Streams of xz, one behind the other, with their padding."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        self._data = b""

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        view = memoryview(buffer).cast("B")
        while len(view):
            if self._decompressor.eof and not self._next():
                return 0
            if not self._data and self._decompressor.needs_input:
                self._data = self._stream.read(_PIECE)
                if not self._data:
                    raise OSError("it ends too early")
            try:
                text = self._decompressor.decompress(self._data, len(view))
            except lzma.LZMAError as error:
                raise OSError(str(error)) from None
            self._data = b""
            if text:
                view[: len(text)] = text
                return len(text)
        return 0

    def _next(self) -> bool:
        self._data = self._decompressor.unused_data.lstrip(b"\0")
        while not self._data:
            more = self._stream.read(_PIECE)
            if not more:
                return False
            self._data = more.lstrip(b"\0")
        self._decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        return True
