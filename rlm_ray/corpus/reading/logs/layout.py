"""How text becomes events and fields: what the caller says, and what a sample shows. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache

import polars

from rlm_ray.corpus.reading.logs.beginnings import Beginnings
from rlm_ray.errors import InputError

#: Bytes at which an event is cut.
EVENT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What the caller says of events; None is found in samples.

    Attributes
    ----------
    event_start : str, optional
        A pattern, searched in each line: a line that has it begins an event.
    event_bytes : int
        An event is cut where it goes on for more than one to two times as many bytes.
    """

    event_start: str | None = None
    event_bytes: int = EVENT_BYTES

    def __post_init__(self) -> None:
        if self.event_bytes < 1:
            raise InputError(f"event_bytes={self.event_bytes} does not work. Give a positive number.")
        if self.event_start is not None:
            try:
                polars.Series([""]).str.contains(self.event_start)
            except polars.exceptions.ComputeError as error:
                raise InputError(f"event_start={self.event_start!r:.200} is no pattern: {' '.join(str(error).split())}") from None

    def to_text(self) -> str:
        """Return it as a shard carries it until a sample was taken."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> LogOptions:
        """Return what `to_text` wrote."""
        return cls(**json.loads(text)) if text else cls()


#: Nothing is said: all is found in samples.
FOUND = LogOptions()


@dataclass(frozen=True, slots=True)
class Layout:
    """How the events of an object are found.

    Attributes
    ----------
    beginnings : Beginnings
        What the lines have that begin an event.
    event_bytes : int
        See `LogOptions`.
    container : bool
        Lines are those of a container runtime (CRI), whose streams stand one between the other.
    """

    beginnings: Beginnings
    event_bytes: int = EVENT_BYTES
    container: bool = False

    def to_text(self) -> str:
        """Return it as a shard carries it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Layout:
        """Return what `to_text` wrote."""
        return _parsed(text)

    def __str__(self) -> str:
        """Return the layout as `inspect` shows it."""
        return f"an event begins with {self.beginnings}" + (", in each stream of a container" if self.container else "")


@lru_cache(maxsize=64)
def _parsed(text: str) -> Layout:
    fields = json.loads(text)
    found = {name: tuple(items) for name, items in fields.pop("beginnings").items()}
    return Layout(Beginnings(**found), **fields)
