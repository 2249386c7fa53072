"""How text becomes events and fields: what the caller says, and what a sample shows. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Protocol

import polars

from rlm_ray.corpus.reading.logs.beginnings import Beginnings
from rlm_ray.corpus.reading.logs.fields import Parser
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
    parse : str, optional
        "auto", a format's name, or a pattern with names: records get columns.
    patterns : tuple of (str, str)
        The user's own formats, by name.
    """

    event_start: str | None = None
    event_bytes: int = EVENT_BYTES
    parse: str | None = None
    patterns: tuple[tuple[str, str], ...] = ()

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
        fields = json.loads(text) if text else {}
        return cls(**fields | {"patterns": tuple(tuple(item) for item in fields.get("patterns", ()))})


class LogSettings(Protocol):
    """What settings say of logs."""

    event_start: str | None
    event_bytes: int
    parse: str | None
    log_patterns: dict[str, str]


def log_options(settings: LogSettings, event_start: str | None = None, parse: str | None = None) -> LogOptions:
    """Return the options of a corpus: what the caller gives, else what the settings say."""
    return LogOptions(
        settings.event_start if event_start is None else event_start,
        settings.event_bytes,
        settings.parse if parse is None else parse,
        tuple(settings.log_patterns.items()),
    )


#: Nothing is said: all is found in samples.
FOUND = LogOptions()


@dataclass(frozen=True, slots=True)
class Layout:
    """How the records of an object are found, and their columns.

    Attributes
    ----------
    beginnings : Beginnings
        What the lines have that begin an event.
    event_bytes : int
        See `LogOptions`.
    container : bool
        Lines are those of a container runtime (CRI), whose streams stand one between the other.
    is_events : bool
        A record is an event; else a line.
    parsers : tuple of Parser
        The formats that give columns; without one, a record has its text.
    schema : tuple of (str, str)
        The columns and their types.
    """

    beginnings: Beginnings
    event_bytes: int = EVENT_BYTES
    container: bool = False
    is_events: bool = True
    parsers: tuple[Parser, ...] = ()
    schema: tuple[tuple[str, str], ...] = ()

    def to_text(self) -> str:
        """Return it as a shard carries it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Layout:
        """Return what `to_text` wrote."""
        return _parsed(text)

    def __str__(self) -> str:
        """Return the layout as `inspect` shows it."""
        if not self.is_events:
            return "a record is a line"
        return f"an event begins with {self.beginnings}" + (", in each stream of a container" if self.container else "")


@lru_cache(maxsize=64)
def _parsed(text: str) -> Layout:
    fields = json.loads(text)
    found = {name: tuple(items) for name, items in fields.pop("beginnings").items()}
    parsers = tuple(Parser(**{name: _tuples(value) for name, value in item.items()}) for item in fields.pop("parsers"))
    schema = tuple(tuple(item) for item in fields.pop("schema"))
    return Layout(Beginnings(**found), parsers=parsers, schema=schema, **fields)


def _tuples(value: Any) -> Any:
    return tuple(tuple(item) for item in value) if isinstance(value, list) else value
