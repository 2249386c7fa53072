"""Recognises an object by its first bytes, which count more than its name. Pure."""

from __future__ import annotations

import bz2
import lzma
import zlib
from dataclasses import dataclass
from typing import Any

import pyarrow

#: Largest block of Hadoop's snappy that is read: its writers' default is 256 KiB.
LARGEST_BLOCK = 64 << 20
#: Bytes that are looked at; and of compressed objects of which so few give no text yet.
HEAD, LONG_HEAD = 4 << 10, 1 << 20

_COMPRESSED = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy"),
)
_OTHER = (
    (b"PARE", "a Parquet file with an encrypted footer"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"PK\x03\x04", "a zip archive, or a document that is one (DOCX, XLSX, ODT)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (DOC, XLS)"),
    (b"ARROW1\x00\x00", "an Arrow file"),
    (b"SQLite format 3\x00", "a SQLite database"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x7fELF", "a program"),
    (b"\x1f\x9d", "compressed by compress (.Z)"),
    (b"\x5d\x00\x00", "compressed by LZMA alone"),
    (b"\x89LZO\x00", "compressed by lzop"),
    (b"LZIP\x01", "compressed by lzip"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
)
#: What is said of bytes of an unknown kind.
NO_TEXT = "no text in UTF-8 (if it is text, give its encoding=)"
#: Share of characters that no text has, from which on some bytes are no text; of fewer bytes nothing is said.
_NO_TEXT, _SOME = 0.3, 24
#: Bytes that no text has.
_CONTROLS = bytes(sorted(set(range(32)) - set(b"\t\n\v\f\r\x1b")))
_MARKS = ((b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


#: Those that are parsed as documents, under any name.
DOCUMENTS = frozenset(
    {
        "a PDF",
        "a zip archive, or a document that is one (DOCX, XLSX, ODT)",
        "an old Office document (DOC, XLS)",
    }
)


@dataclass(frozen=True, slots=True)
class Signature:
    """What first bytes say.

    Attributes
    ----------
    compression : str or None
        gzip, zstd, bz2, xz, lz4, snappy or hadoop-snappy.
    encoding : str or None
        A wide one, where a byte order mark or every second byte says so.
    kind : str or None
        "parquet", or what it is in words where it is neither text nor compressed text.
    is_text : bool
        False of bytes of an unknown kind that are no text in UTF-8.
    """

    compression: str | None = None
    encoding: str | None = None
    kind: str | None = None
    is_text: bool = True


def signature(head: bytes) -> Signature:
    """Return what an object's first bytes say.

    Examples
    --------
    >>> signature("ü".encode("utf-16"))
    Signature(compression=None, encoding='utf-16', kind=None, is_text=True)
    >>> signature(b"%PDF-1.7").kind
    'a PDF'
    """
    compression = compression_of(head)
    if compression is not None:
        inner = _kind(beginning(head, compression))
        return Signature(compression, encoding_of_text(beginning(head, compression)), None if inner == "parquet" else inner)
    encoding, kind = encoding_of_text(head), _kind(head)
    return Signature(None, encoding, kind, kind is not None or encoding is not None or not _is_no_text(head))


def otherwise(head: bytes, compression: str | None = None, encoding: str = "utf-8") -> str | None:
    """Return what an object's first bytes are, where they are not the text that its name says.

    Examples
    --------
    >>> otherwise(b"2026-01-01 started"), otherwise(b"\\x1f\\x8b\\x08"), otherwise(b"a", "gzip")
    (None, 'compressed by gzip', 'not compressed by gzip')
    """
    if compression is None and not head.startswith(_NOT_CONTROLLED) and _is_plain(head):
        return NO_TEXT if encoding == "utf-8" and _is_no_text(head) else None
    found = signature(head)
    if compression != found.compression:
        return f"compressed by {found.compression}" if found.compression else f"{found.kind or f'not compressed by {compression}'}"
    if found.kind is not None:
        return "a Parquet file" if found.kind == "parquet" else found.kind
    if found.encoding is not None and not encoding.startswith(found.encoding[:6]):
        return f"text in {found.encoding}"
    return None if found.is_text or encoding != "utf-8" else NO_TEXT


#: What begins an object that is no plain text, and has no control character.
_NOT_CONTROLLED = (b"\x28\xb5\x2f\xfd", b"BZh", b"\xff\xfe", b"\xfe\xff", b"%PDF-")


def compression_of(head: bytes) -> str | None:
    """Return how an object is compressed."""
    found = next((name for magic, name in _COMPRESSED if head.startswith(magic)), None)
    if found == "bz2" and head[4:10] not in (b"1AY&SY", b"\x17rE8P\x90"):
        return None
    # a zstd object may begin with frames that are skipped; so may one of lz4, by the same numbers
    if found is None and len(head) > 12 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
        behind = 8 + int.from_bytes(head[4:8], "little")
        return compression_of(head[behind:])
    return "hadoop-snappy" if found is None and _is_hadoop_block(head) else found


def unpacked_size(block: bytes) -> int | None:
    """Return how many bytes a block of snappy unpacks to, which it begins with; None where that is no number."""
    size = 0
    for position, byte in enumerate(block[:5]):
        size |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return size
    return None


def _is_hadoop_block(head: bytes) -> bool:
    """Whether an object begins with a block as Hadoop packs it: its size, a packed size, and a block of snappy."""
    size, packed = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    unpacked = unpacked_size(head[8:13])
    if not 0 < size <= LARGEST_BLOCK or not 2 < packed <= size + size // 6 + 32 or not unpacked or unpacked > size:
        return False
    tag = head[8 + _length(unpacked) : 9 + _length(unpacked)]
    return bool(tag) and tag[0] & 3 == 0  # a block begins with bytes as they are


def _length(number: int) -> int:
    return max(1, (number.bit_length() + 6) // 7)


def beginning(head: bytes, compression: str) -> bytes:
    """Return the text that some first bytes of a compressed object hold; what is damaged is found when it is read."""
    try:
        if compression in ("gzip", "zlib"):
            return zlib.decompressobj(31 if compression == "gzip" else 15).decompress(head, HEAD)
        if compression == "bz2":
            return bz2.BZ2Decompressor().decompress(head, HEAD)
        if compression == "xz":
            return lzma.LZMADecompressor(memlimit=_XZ_MEMORY).decompress(head, HEAD)
        if "snappy" in compression:
            first = head[8:] if compression == "hadoop-snappy" else head[18:]
            packed = (
                int.from_bytes(head[4:8], "big") if compression == "hadoop-snappy" else int.from_bytes(head[11:14], "little") - 4
            )
            block, size = first[:packed], unpacked_size(first)
            is_bounded = size is not None and 0 < size <= LONG_HEAD and len(block) == packed
            return pyarrow.Codec("snappy").decompress(block, size, asbytes=True)[:HEAD] if is_bounded else b""
        with pyarrow.CompressedInputStream(pyarrow.BufferReader(head), compression) as stream:
            data: bytes = stream.read(min(HEAD, 64))
            return data
    except (zlib.error, OSError, EOFError, lzma.LZMAError, pyarrow.ArrowException, ValueError):
        return b""


_XZ_MEMORY = 256 << 20


def _first_block(head: bytes, is_framed: bool) -> bytes:
    """Return what the first block of snappy holds, where it is there as a whole."""
    packed = int.from_bytes(head[11:14], "little") - 4 if is_framed else int.from_bytes(head[4:8], "big")
    block = head[18:][:packed] if is_framed else head[8:][:packed]
    size = unpacked_size(block)
    if size is None or not 0 < size <= LONG_HEAD or len(block) != packed:
        return b""
    data: bytes = pyarrow.Codec("snappy").decompress(block, size, asbytes=True)
    return data[:HEAD]


def _kind(head: bytes) -> str | None:
    if head.startswith(b"%PDF-"):
        return "a PDF"
    if _is_plain(head):
        return None  # a text may begin with the letters of any of them
    if head.startswith(b"PAR1"):
        return "parquet"
    found = next((name for magic, name in _OTHER if head.startswith(magic)), None)
    if found == "an Avro file" and b"avro.schema" not in head:
        return None
    if found is None and head[257:262] == b"ustar":
        return "a tar archive"
    if found is None and head[:2] in (b"x\x01", b"x\x9c", b"x\xda") and beginning(head, "zlib"):
        return "compressed by zlib"
    return found


def _is_no_text(head: bytes) -> bool:
    if len(head) < _SOME or encoding_of_text(head) is not None:
        return False
    text = head.decode("utf-8", "replace")
    other = text.count("\ufffd") + sum(head.count(control) for control in _CONTROLS)
    return other > _NO_TEXT * len(text)


def _is_plain(head: bytes) -> bool:
    return head.translate(None, _CONTROLS) == head


def encoding_of_text(head: bytes) -> str | None:
    """Return the wide encoding that a text's first bytes show, None where it is none.

    Examples
    --------
    >>> encoding_of_text("abc".encode("utf-16-le")), encoding_of_text(b"abc")
    ('utf-16-le', None)
    """
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if marked is not None:
        return marked
    for name, width, zeros in _UNMARKED:
        data = head[: len(head) // width * width]
        if len(data) < 2 * width:
            continue
        columns = [data[number::width] for number in range(width)]
        share = [column.count(0) / len(column) for column in columns]
        texts = [0 if 0 not in zeros else width - 1]
        if all(share[number] > _NARROW for number in zeros) and all(share[number] < 0.05 for number in texts):
            try:
                text = data.decode(name, "ignore")
            except UnicodeError:
                continue
            printable = sum(char.isprintable() or char in "\r\n\t" for char in text)
            if printable >= 0.9 * len(text) and any(char.isalnum() for char in text):
                return name
    return None


#: Encodings without a mark, bytes of a letter, and those of them that are 0 in Latin text; what share of them is.
_UNMARKED = (("utf-32-le", 4, (2, 3)), ("utf-32-be", 4, (0, 1)), ("utf-16-le", 2, (1,)), ("utf-16-be", 2, (0,)))
_NARROW = 0.7


class Unpacked:
    """A stream of xz, decompressed: one stream behind the other."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        self._rest = memoryview(b"")
        self._ended = False
        self._begun = False

    def read(self, count: int) -> bytes:
        """Return the next bytes; fewer only at the end."""
        data = bytearray(count)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; not all of it at the end only."""
        at = 0
        while at < len(buffer) and (self._rest or not self._ended):
            if not self._rest:
                self._next()
            part = self._rest[: len(buffer) - at]
            buffer[at : at + len(part)] = part
            self._rest = self._rest[len(part) :]
            at += len(part)
        return at

    def _next(self) -> None:
        try:
            if self._decompressor.eof:
                behind = self._decompressor.unused_data.lstrip(b"\0") or self._stream.read(1 << 20)
                if not behind:
                    self._ended = True
                    return
                if behind.strip(b"\0"):
                    self._decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
                    self._rest = memoryview(self._decompressor.decompress(behind.lstrip(b"\0"), 8 << 20))
                else:
                    self._decompressor = _Done()  # type: ignore[assignment]
                return
            data = self._stream.read(1 << 20) if self._decompressor.needs_input else b""
            if not data and self._decompressor.needs_input:
                raise OSError("it ends too early")
            self._rest = memoryview(self._decompressor.decompress(data, 8 << 20))
        except lzma.LZMAError as error:
            raise OSError(str(error)) from None


class _Done:
    """A decompressor behind its end."""

    eof, unused_data = True, b""
