"""Formats whose parsers read hostile bytes: the caller passes a function that runs them in a sandbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from rlm_ray.errors import ObjectUnreadable

#: What a parser is told: plain values by name.
Options = Mapping[str, Any]


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


def parsed(parse: Parse | None, name: str, kind: str, source: Source, options: Options) -> Iterator[Any]:
    """Yield what the parser of a kind finds in an object.

    Raises
    ------
    ObjectUnreadable
        It cannot be parsed within the sandbox's bounds; names the object and the reason.
    """
    if parse is None:
        raise ObjectUnreadable(f"{name} has to be parsed, and this process has no sandbox for it. Use rlm_ray.open or rlm-ray.")
    try:
        yield from parse(kind, source, options)
    except ValueError as error:
        raise ObjectUnreadable(f"{name} cannot be parsed: {error}") from None
