"""Frames between the sandbox and its parent, and the cleaning of what comes out.

A frame is a prefix (two lengths and a flag), a JSON object, and a blob of bytes. Out of the sandbox nothing else
is ever accepted. Into it, a large blob travels as a sealed file in memory that the flag announces, so that the
parent never waits for a child that does not read.

Both sides import this module; it needs the standard library only and holds no state of a run.
"""

from __future__ import annotations

import functools
import json
import re
import struct

from rlm_ray.errors import ProtocolError

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any

    Header = dict[str, Any]
else:
    Header = dict

PREFIX = struct.Struct("!IIB")
MAX_HEADER = 8 << 20
MAX_BLOB = 256 << 20
MAX_DEPTH = 60
#: A larger blob travels to the child as a file in memory.
INLINE = 32 << 10
PLAIN, IN_MEMORY_FILE = 0, 1

_UNSEEN = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\U000e0000-\U000e007f]"
_LARGE_EXPONENT = rb"[eE]\+?\d{3}"
_SURROGATE_ESCAPE = rb"\\u[dD][89a-fA-F]"


# what cleans is the parent's, and is compiled when it first does: a sandbox starts with this file too
@functools.cache
def _pattern(text: Any) -> Any:
    return re.compile(text)


def encode(header: Header, blob: bytes = b"") -> bytes:
    """Make one frame. Lone surrogates become ``?``.

    Raises
    ------
    ValueError
        The frame would be larger than the other side accepts.
    TypeError
        The header is not JSON.
    """
    head = dumps(header)
    if len(head) > MAX_HEADER or len(blob) > MAX_BLOB:
        raise ValueError(
            f"a message of {len(head):,} + {len(blob):,} bytes is more than the sandbox's channel carries "
            f"({MAX_HEADER:,} + {MAX_BLOB:,}); send less at once"
        )
    return PREFIX.pack(len(head), len(blob), PLAIN) + head + blob


def dumps(value: Any) -> bytes:
    """Write JSON as UTF-8. Lone surrogates become ``?``.

    Raises
    ------
    TypeError, ValueError
        The value is not JSON.
    """
    return _ENCODER.encode(value).encode("utf-8", "replace")


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))  # json.dumps would make one each time


def parse_json(data: bytes | bytearray, *, depth: int = MAX_DEPTH, constants: bool = False) -> Any:
    """Parse JSON that root code may have written. Strict: UTF-8, no NaN, bounded depth; lone surrogates are replaced.

    Parameters
    ----------
    constants : bool
        Take NaN and infinities, as Python writes them: values of a corpus have them.

    Raises
    ------
    ProtocolError
        The bytes are not such JSON.

    Examples
    --------
    >>> parse_json(b'{"a": "\\\\ud800"}')
    {'a': '?'}
    """
    try:
        text = data.decode("utf-8")
        finite = _finite if not constants and _pattern(_LARGE_EXPONENT).search(data) else None
        value = json.loads(text, parse_constant=None if constants else _no_constant, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {type(error).__name__}: {str(error)[:200]}") from None
    _check_depth(value, depth)
    return _without_surrogates(value) if _pattern(_SURROGATE_ESCAPE).search(data) else value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def _check_depth(value: Any, depth: int) -> None:
    level = [value]
    for _ in range(depth):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
        level = [item for item in below if isinstance(item, (dict, list))]
        if not level:
            return
    raise ProtocolError(f"JSON nested deeper than {depth} levels")


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def clean(text: object, limit: int) -> str:
    """Make text from the sandbox fit to be shown: valid Unicode, no control or invisible characters, at most `limit` characters.

    Examples
    --------
    >>> clean("a\\x1b[31m\\u202eb", 100)
    'a[31mb'
    """
    string = text if isinstance(text, str) else ""
    cleaned: str = _pattern(_UNSEEN).sub("", string[:limit].encode("utf-8", "replace").decode("utf-8"))
    return cleaned


class Frame:
    """One frame as it came. Of a file in memory only the size is known here."""

    __slots__ = ("blob", "header", "in_file")

    def __init__(self, header: bytes, blob: bytes, in_file: int = 0) -> None:
        self.header = header
        self.blob = blob
        self.in_file = in_file


class FrameReader:
    """Cuts a stream of bytes into frames; the state survives any split of the stream.

    Parameters
    ----------
    max_header, max_blob : int
        Largest parts accepted, in bytes. A larger one is refused on its prefix, before anything is kept.
    files : bool
        Whether a blob may come as a file in memory: only the parent sends such.
    """

    def __init__(self, max_header: int = MAX_HEADER, max_blob: int = MAX_BLOB, *, files: bool = False) -> None:
        self._limits = max_header, max_blob
        self._flags = (PLAIN, IN_MEMORY_FILE) if files else (PLAIN,)
        self._current = b""
        self._offset = 0
        self._further: list[bytes] = []
        self._have = 0
        self._prefix: tuple[int, int, int] | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        self._further.append(data)
        self._have += len(data)

    def take(self) -> Frame | None:
        """Return the next frame, or None when more bytes are needed.

        Raises
        ------
        ProtocolError
            The prefix announces more than is accepted, or an unknown flag.
        """
        if self._prefix is None:
            if self._have < PREFIX.size:
                return None
            head, blob, flag = PREFIX.unpack(self._cut(PREFIX.size))
            if head > self._limits[0] or blob > self._limits[1]:
                raise ProtocolError(f"a frame of {head:,} + {blob:,} bytes is larger than accepted")
            if flag not in self._flags:
                raise ProtocolError(f"a frame with the flag {flag}, which is unknown or not for this direction")
            self._prefix = head, blob, flag
        head, blob, flag = self._prefix
        inline = 0 if flag == IN_MEMORY_FILE else blob
        if self._have < head + inline:
            return None
        self._prefix = None
        return Frame(self._cut(head), self._cut(inline), blob - inline)

    def _cut(self, size: int) -> bytes:
        if len(self._current) - self._offset < size:
            self._current = b"".join([self._current[self._offset :], *self._further])
            self._offset = 0
            self._further.clear()
        data = self._current[self._offset : self._offset + size]
        self._offset += size
        self._have -= size
        return data


def header_of(raw: bytes) -> Header:
    """Parse the header of a frame from the sandbox.

    Raises
    ------
    ProtocolError
        It is not a JSON object.
    """
    header = parse_json(raw)
    if not isinstance(header, dict):
        raise ProtocolError(f"a frame's header is a {type(header).__name__}, not an object")
    return header
