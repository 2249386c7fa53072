"""The events of a sandbox, and its limits, as small frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Limits:
    """Bounds of one sandbox.

    Parameters
    ----------
    soft_seconds : float
        Seconds a cell may compute; then TimeoutError is raised in it. Waiting for the parent does not count.
    wall_seconds : float
        Seconds a cell may take in all.
    requests : int
        Requests that one cell may make.
    memory : int
        Bytes of address space above what the sandbox has mapped at its start.
    output_chars : int
        Characters of printed output that are kept of one cell; the middle goes first.
    grace_seconds : float
        Seconds between the soft limit, or an interrupt, and the end of the process.
    """

    soft_seconds: float = 60.0
    wall_seconds: float = 3_600.0
    requests: int = 100_000
    memory: int = 2 << 30
    output_chars: int = 200_000
    grace_seconds: float = 3.0


@dataclass(frozen=True)
class Final:
    """The value that root code gave as its answer.

    `kind` is ``json`` (`value` is a JSON value), ``records`` (a list of dicts), or ``corpus`` (a plan as JSON).
    """

    kind: Literal["json", "corpus", "records"]
    value: Any


@dataclass(frozen=True)
class Request:
    """A call from root code that waits for `Sandbox.reply`."""

    id: int
    verb: str
    args: dict[str, Any]
    blob: bytes = b""


@dataclass(frozen=True)
class CellDone:
    """A cell has ended, with or without an exception, and its variables have been kept."""

    output: str
    error: str | None
    final: Final | None
    final_problem: str | None
    requests: int
    lost: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    truncated: int = 0


@dataclass(frozen=True)
class Restarted:
    """The process ended (time, memory, a crash, a malformed frame) and another was started from the last snapshot.

    When a cell was running, it is over: no `CellDone` follows. `output` is what it had printed, the beginning and the end.
    """

    reason: str
    lost: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    in_cell: bool = False
    output: str = ""


Event = Request | CellDone | Restarted
