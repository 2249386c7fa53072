"""What one call of a run writes down: its events, the replies to its requests, its REPL's variables.

::

    calls/ID/events.jsonl     every event of the loop, before its commands are carried out
    calls/ID/requests.jsonl   replies to what the cells asked, but for sub-calls, which are in finished/
    calls/ID/snapshot-N       the REPL's variables after the N-th cell, opaque; the last two are kept
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

from rlm_ray import storage
from rlm_ray.ledger import journal
from rlm_ray.ledger.journal import Journal
from rlm_ray.models.contract import Usage
from rlm_ray.text import counted
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import AskedVerb, CellRecord, LogEntry, TurnRecord

#: A reply larger than this is computed again when a cell is run again.
MAX_REPLY = 256 << 10
#: Behind the name of a request: what is noted of it when it begins.
STARTED = " begun"


class CallLog:
    """The log of one call. Nothing is written before the first entry.

    Parameters
    ----------
    run_dir : str
    call : str
        The call's id.
    """

    def __init__(self, run_dir: str, call: str) -> None:
        self._folder = storage.join(run_dir, "calls", call)
        self._events: Journal | None = None
        self._requests: Journal | None = None
        self.cut = journal.Cut()

    def events(self) -> list[LogEntry]:
        """Return what the log has, in order; `cut` then has how many lines of it a kill had cut."""
        self.cut = journal.Cut()
        return cast(list[LogEntry], list(journal.read(storage.join(self._folder, "events"), self.cut)))

    def append(self, entry: LogEntry) -> None:
        """Write an event down."""
        if self._events is None:
            uri = storage.join(self._folder, "events")
            self._events = Journal(uri, journal.objects(uri))
        self._events.append(entry)

    def flush(self) -> None:
        """Make what was written durable."""
        for log in (self._requests, self._events):
            if log is not None:
                log.flush()

    def replies(self, cell: str) -> JsonObject:
        """Return the replies that a cell got, by the request's name."""
        return {
            entry["name"]: entry["value"] for entry in journal.read(storage.join(self._folder, "requests")) if entry["cell"] == cell
        }

    def begun(self) -> dict[str, dict[str, AskedVerb]]:
        """Return the sub-calls that began, by cell and the request's name."""
        cells: dict[str, dict[str, AskedVerb]] = {}
        for entry in journal.read(storage.join(self._folder, "requests"), having=STARTED.encode()):
            name, value = entry["name"], entry["value"]
            if name.endswith(STARTED) and isinstance(value, dict):
                cells.setdefault(entry["cell"], {})[name.removesuffix(STARTED)] = cast(AskedVerb, value)
        return cells

    def reply(self, cell: str, name: str, value: Any) -> None:
        """Write down the reply to a request, unless it is large."""
        if len(json.dumps(value, default=str)) > MAX_REPLY:
            return
        if self._requests is None:
            uri = storage.join(self._folder, "requests")
            self._requests = Journal(uri, journal.objects(uri))
        self._requests.append({"cell": cell, "name": name, "value": value})

    def save_snapshot(self, number: int, snapshot: bytes) -> None:
        """Keep the REPL's variables: opaque bytes, loaded only inside a sandbox."""
        storage.write_bytes(self._snapshot(number), snapshot)
        if number > 2:
            storage.delete_tree(self._snapshot(number - 2))

    def snapshot(self, number: int) -> bytes | None:
        """Return the variables after a cell."""
        return storage.find_bytes(self._snapshot(number))

    def close(self) -> None:
        """Write what is gathered, and end."""
        for log in (self._requests, self._events):
            if log is not None:
                log.close()
        self._requests = self._events = None

    def _snapshot(self, number: int) -> str:
        return storage.join(self._folder, f"snapshot-{number:06d}")


def turns(entries: Iterable[LogEntry]) -> list[TurnRecord]:
    """Return a log as turns, for people: the reply, its cells and their outputs."""
    found: list[TurnRecord] = []
    for entry in entries:
        given = entry.get("given", {})
        if entry["event"] == "Replied":
            found.append(
                TurnRecord(
                    turn=len(found) + 1,
                    reply=given["text"],
                    usage=entry.get("usage"),
                    seconds=entry.get("seconds"),
                    at=entry.get("at"),
                    cells=[],
                )
            )
        elif entry["event"] == "CellDone" and found:
            found[-1]["cells"].append(
                CellRecord(
                    code=entry["code"],
                    output=given["output"],
                    error=given["error"],
                    problem=given["problem"],
                    requests=given["requests"],
                )
            )
    return found


def stopped(entries: Iterable[LogEntry]) -> str:
    """Return where a call that has no answer is, or was when it was ended.

    Examples
    --------
    >>> log = [{"event": "Started"}, {"event": "Asking"}, {"event": "Replied"}, {"event": "CellDone"}]
    >>> stopped(log[:2]), stopped(log)
    ('turn 1: the root model was asked', 'turn 1: after 1 cell of it')
    >>> stopped([])
    'before its first turn'
    """
    turn, cells, asking = 0, 0, False
    for entry in entries:
        match entry["event"]:
            case "Asking":
                turn, cells, asking = turn + (not asking), 0, True
            case "Replied" | "AskFailed" | "TooLong" | "Unaffordable":
                asking = False
            case "CellDone":
                cells += 1
    if not turn:
        return "before its first turn"
    if asking:
        return f"turn {turn}: the root model was asked"
    return f"turn {turn}: after {counted(cells, 'cell')} of it"


def root_calls(entries: Iterable[LogEntry]) -> tuple[Usage, list[int] | None]:
    """Return what a call's root model used, and the most that a call to it may have cost of which no end is known."""
    usage, asking = Usage(), None
    for entry in entries:
        if entry.get("usage"):
            usage += Usage.from_json(entry["usage"])
        if entry["event"] == "Asking":
            if asking is not None:  # of a session that was killed
                usage += Usage(asking[0], asking[1], 0, 0, asking[2] / 1e9, asking[0])
            asking = entry["most"]
        elif entry["event"] in ("Replied", "AskFailed", "TooLong", "Unaffordable", "Paid"):
            asking = None
    return usage, asking


def session_seconds(entries: Iterable[LogEntry]) -> float:
    """Return how long the sessions of a run took together."""
    total, begun, last = 0.0, None, None
    for entry in entries:
        if entry.get("at") is None:
            continue
        if entry["event"] == "Session":
            if begun is not None and last is not None:
                total += last - begun
            begun = entry["at"]
        last = entry["at"]
    return total + (last - begun if begun is not None and last is not None else 0.0)
