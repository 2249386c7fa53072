"""Reads text that is compressed by snappy: its framing format, and the blocks that Hadoop writes.

Sources: framing_format.txt of snappy 1.2; BlockCompressorStream of Hadoop 3.4: a block is its size, then pieces of it, each
behind its own packed size, all numbers with the highest byte first.
"""

from __future__ import annotations

from typing import Any

import pyarrow

from rlm_ray.corpus.catalog.signatures import LARGEST_BLOCK, unpacked_size

#: Bytes that are read together.
_PIECE = 1 << 20
_IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"
_SKIPPED = range(0x80, 0xFF)


class _Stream:
    """A stream of what blocks unpack to; a subclass unpacks the next ones."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._packed = b""
        self._rest = memoryview(b"")

    def read(self, count: int) -> bytes:
        """Return the next bytes; fewer only at the end."""
        data = bytearray(count)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; not all of it at the end only."""
        at = 0
        while at < len(buffer) and (self._rest or self._more()):
            part = self._rest[: len(buffer) - at]
            buffer[at : at + len(part)] = part
            self._rest = self._rest[len(part) :]
            at += len(part)
        return at

    def _more(self) -> bool:
        while not self._rest:
            found = self._next()
            if found is None:
                return False
            self._rest = memoryview(found)
        return True

    def _next(self) -> bytes | None:
        raise NotImplementedError

    def _held(self, count: int) -> bool:
        """Read on until so many packed bytes are held; False where the stream ends before the first of them."""
        while len(self._packed) < count:
            data = self._stream.read(max(_PIECE, count - len(self._packed)))
            if not data:
                if self._packed:
                    raise OSError("it ends too early")
                return False
            self._packed += data
        return True


class Framed(_Stream):
    """A stream in snappy's framing format; each chunk's checksum is compared. Needs the extra tables, or raises OSError."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        try:
            import cramjam
        except ImportError:
            raise OSError("text in snappy's frames needs the extra tables: pip install 'rlm-ray[tables]'") from None
        self._library = cramjam

    def _next(self) -> bytes | None:
        if not self._held(4) or not self._held(4 + _size(self._packed, 0)):
            return None
        at = 0
        while at + 4 <= len(self._packed) and at + 4 + _size(self._packed, at) <= len(self._packed):
            kind = self._packed[at]
            if kind not in (0, 1, 0xFF) and kind not in _SKIPPED:
                raise OSError(f"it has a chunk of the unknown kind {kind}")
            at += 4 + _size(self._packed, at)
        chunks, self._packed = self._packed[:at], self._packed[at:]
        try:
            return bytes(self._library.snappy.decompress(_IDENTIFIER + chunks))
        except self._library.DecompressionError as error:
            raise OSError(str(error)) from None


def _size(data: bytes, at: int) -> int:
    return int.from_bytes(data[at + 1 : at + 4], "little")


class HadoopBlocks(_Stream):
    """A stream of Hadoop's blocks, which have no checksums."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._codec = pyarrow.Codec("snappy")
        self._left = 0  # bytes of the block that are still to come

    def _next(self) -> bytes | None:
        if not self._left:
            if not self._held(4):
                return None
            self._left = self._number()
            if not self._left:
                return b""
            if self._left > LARGEST_BLOCK:
                raise OSError(f"it has a block of more than {LARGEST_BLOCK >> 20} MiB")
        self._whole(4)
        packed = self._number()
        if packed > LARGEST_BLOCK + LARGEST_BLOCK // 6 + 32:
            raise OSError("a piece is larger than its block can be")
        self._whole(packed)
        piece, self._packed = self._packed[:packed], self._packed[packed:]
        size = unpacked_size(piece)
        if size is None or size > self._left:
            raise OSError("a piece is damaged")
        self._left -= size
        return self._codec.decompress(piece, size, asbytes=True) if size else b""

    def _whole(self, count: int) -> None:
        if not self._held(count):
            raise OSError("it ends too early")

    def _number(self) -> int:
        found = int.from_bytes(self._packed[:4], "big")
        self._packed = self._packed[4:]
        return found
