"""Writes a call's events as lines of a log, and restores the call's state from them. Pure: knows no file.

Every event that the loop takes is written down before its commands are carried out. The loop is a pure state machine,
so the same events lead to the same state, and the last commands are the ones to carry out next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from rlm_ray.recursion.loop import loop
from rlm_ray.recursion.loop.history import History, Message
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import Citation, Failure, LogEntry, RefusedCitation, SureRecord

_EVENTS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        loop.Started,
        loop.Replied,
        loop.AskFailed,
        loop.TooLong,
        loop.CellDone,
        loop.LimitReached,
        loop.Unaffordable,
        loop.ProgramEnded,
    )
}


def entry_of(event: loop.Event, left: str, **more: Any) -> LogEntry:
    """Return an event as a line of the log.

    Examples
    --------
    >>> entry_of(loop.Replied("hi"), "Left: 3 calls.", turn=1)
    {'event': 'Replied', 'given': {'text': 'hi', 'cut': False, 'problem': ''}, 'left': 'Left: 3 calls.', 'turn': 1}
    """
    return cast(LogEntry, {"event": type(event).__name__, "given": asdict(event), "left": left} | more)


def event_of(entry: LogEntry) -> loop.Event | None:
    """Return the event of a log's line; None if the line is no event."""
    kind = _EVENTS.get(entry["event"])
    if kind is None:
        return None
    # older versions wrote `said` for `message`
    event: loop.Event = kind(**{("message" if name == "said" else name): value for name, value in entry["given"].items()})
    return event


@dataclass(slots=True)
class Past:
    """The state that a log leads to.

    Attributes
    ----------
    state : loop.State
    commands : list of loop.Command
        The last commands, which are to be carried out.
    cells : list of (label, code)
        The cells that ended, in order.
    snapshot : int
        Number of the snapshot after the last of them; 0 is none.
    lost : list of str
        Names that this snapshot could not keep.
    trouble : str, optional
        The error of the last of them, or why what it set is no answer.
    """

    state: loop.State
    commands: list[loop.Command]
    cells: list[tuple[str, str]] = field(default_factory=list)
    snapshot: int = 0
    lost: list[str] = field(default_factory=list)
    trouble: str | None = None
    citations: list[Citation] = field(default_factory=list)
    refused: list[RefusedCitation] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    failed_verbs: list[JsonObject] = field(default_factory=list)
    sure: list[SureRecord] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)


def prompts(entries: Sequence[LogEntry], limit_tokens: int, bytes_per_token: float, max_turns: int) -> list[list[Message]]:
    """Return the messages that each turn's reply answers, to the letter: what the root model was sent."""
    started = next((entry for entry in entries if entry["event"] == "Started"), None)
    if started is None or "system" not in started:
        return []
    history = History(started["system"], started["task"], limit_tokens=limit_tokens, bytes_per_token=bytes_per_token)
    state = loop.State(history, max_turns, questions_unread=started["questions_unread"])
    asked: list[Message] = []
    found: list[list[Message]] = []
    for entry in entries:
        event = event_of(entry)
        if event is None:
            continue
        if isinstance(event, loop.Replied):
            found.append(asked)
        state, commands = loop.step(state, event, entry["left"])
        asked = next((list(command.messages) for command in commands if isinstance(command, loop.AskRoot)), asked)
    return found


def replay(entries: Sequence[LogEntry], limit_tokens: int, bytes_per_token: float, max_turns: int) -> Past | None:
    """Return where the events of a log lead; None if the call had not started."""
    started = next((entry for entry in entries if entry["event"] == "Started"), None)
    if started is None:
        return None
    history = History(started["system"], started["task"], limit_tokens=limit_tokens, bytes_per_token=bytes_per_token)
    past = Past(loop.State(history, max_turns, questions_unread=started["questions_unread"]), [])
    for entry in entries:
        event = event_of(entry)
        if event is None:
            continue
        past.state, commands = loop.step(past.state, event, entry["left"])
        # a limit changes the state and commands nothing: what was commanded before still stands
        past.commands = commands or past.commands
        if isinstance(event, loop.CellDone):
            past.cells.append((entry["cell"], entry["code"]))
            past.snapshot, past.lost = entry["snapshot"], entry["lost"]
            past.trouble = event.error or event.problem
            past.citations += entry.get("citations", [])
            past.refused += entry.get("refused", [])
            past.failures += entry.get("failures", [])
            past.failed_verbs = entry.get("failed_verbs", [])
            past.sure = entry.get("sure", [])
            past.events = entry.get("events", {})
    return past
