"""Formats whose parsers read hostile bytes: the caller passes functions that run them in a sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.reading.text.streams import opened, readable
from rlm_ray.errors import ObjectUnreadable

#: What a parser is told: plain values by name.
Options = Mapping[str, Any]
#: `extract(kind, data)` returns a document's pages; raises ValueError with the reason if it cannot.
Extractor = Callable[[str, bytes], list[str]]

#: Bytes that are read and left out rather than a stream opened anew.
_SKIPPED, _PIECE = 8 << 20, 1 << 20


class ParserFailed(ObjectUnreadable):
    """The parser of an object failed; the object itself could be read."""


class Source(Protocol):
    """What a parser reads by ranges.

    Attributes
    ----------
    size : int
        Its bytes; of one that is read from front to back alone, a number that is larger.
    """

    size: int

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes `start` to `stop`; fewer where it ends before."""
        ...


class Parse(Protocol):
    """Yields what the parser of a kind finds in a source: JSON values, or bytes; raises ValueError with a reason."""

    def __call__(self, kind: str, source: Source, options: Options) -> Iterator[Any]:
        """Parse."""
        ...


@dataclass(frozen=True, slots=True)
class Parsers:
    """Functions that parse foreign formats in a sandbox: documents held whole, and other objects by ranges."""

    extract: Extractor
    parse: Parse


def parsed(parsers: Parsers | None, name: str, kind: str, source: Source, options: Options) -> Iterator[Any]:
    """Yield what the parser of a kind finds in an object.

    Raises
    ------
    ObjectUnreadable
        This process has no sandbox, or the source cannot be read.
    ParserFailed
        The object cannot be parsed within the sandbox's bounds; names the object and the reason.
    """
    if parsers is None:
        raise ObjectUnreadable(f"{name} has to be parsed, and this process has no sandbox for it. Use rlm_ray.open or rlm-ray.")
    try:
        yield from parsers.parse(kind, source, options)
    except ValueError as error:
        raise ParserFailed(f"{name} cannot be parsed: {error}") from None


class ShardSource:
    """A shard's object, decompressed, as a source: a stream that is opened anew where reading goes back, or far ahead.

    To be used in a `with`.
    """

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self.size = 1 << 62 if shard.packed else shard.size
        self._open = ExitStack()
        self._stream: Any = None
        self._at = 0

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes `start` to `stop`; fewer where it ends before."""
        with readable(self._shard):
            if self._stream is None or start < self._at or (start > self._at + _SKIPPED and self._shard.seekable):
                self._begin(start)
            while self._at < start and (data := self._stream.read(min(_PIECE, start - self._at))):
                self._at += len(data)
            found = bytearray()
            while start <= self._at < stop and (data := self._stream.read(stop - self._at)):
                found += data
                self._at += len(data)
        return bytes(found)

    def _begin(self, start: int) -> None:
        self._open.close()
        self._stream = self._open.enter_context(opened(self._shard, start if self._shard.seekable else 0))
        self._at = start if self._shard.seekable else 0

    def __enter__(self) -> ShardSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
