"""The spans of a run, read from its directory, by OpenTelemetry's conventions for generative AI (semantic conventions 1.43).

::

    invoke_agent NAME          the run, and below it each recursive call
      turn N                   from the question to the root model to the end of the turn's last cell
        chat MODEL             the root model
        execute_tool python    a cell
          batch                leaf calls that were sent together
            chat MODEL         a leaf call

Identifiers are made from the run's id and the place in it, so that a trace that is sent twice is one trace. Prompts, replies and
records are in no span.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from rlm_ray import storage
from rlm_ray.ledger import finished, journal
from rlm_ray.ledger.finished import FinishedRow
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.models.contract import Usage
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import LogEntry
from rlm_ray.types.usage import UsageRecord

Attribute = str | bool | int | float
Attributes = Mapping[str, Attribute]
#: Leaf calls of a run that have a span each; the others are in the sums of their batch.
MAX_LEAVES = 20_000


@dataclass(frozen=True, slots=True)
class RunSpan:
    """One span.

    Attributes
    ----------
    place : str
        Where it is in the run: `0` the root call, `0/t2` its second turn. Its identifier is made from it.
    parent : str or None
        The place of the span that it is in.
    name : str
    begun, ended : float
        Seconds since 1970.
    is_request : bool
        It is a request to another service: a call to a model.
    error : str
        What went wrong; empty where nothing did.
    attributes : dict
    """

    place: str
    parent: str | None
    name: str
    begun: float
    ended: float
    is_request: bool = False
    error: str = ""
    attributes: Attributes = field(default_factory=dict)


def trace_id(run: str) -> int:
    """Return the identifier of a run's trace.

    Examples
    --------
    >>> f"{trace_id('20261201-040000-a1b2c3'):032x}"
    '6dfe0fdca0f1a4f61db2e4408d203383'
    """
    return int.from_bytes(hashlib.sha256(run.encode()).digest()[:16], "big")


def span_id(run: str, place: str) -> int:
    """Return the identifier of a span."""
    return int.from_bytes(hashlib.sha256(f"{run}\0{place}".encode()).digest()[:8], "big")


def spans(run: RunDirectory) -> Iterator[RunSpan]:
    """Yield a run's spans, a parent before those in it. Reads the run's logs, one at a time; calls no model.

    A run of which no log has a time has none.
    """
    about = run.about()
    facts = _Facts.of(run.id, about.get("settings", {}))
    calls = run.calls() or ["0"]
    cells: dict[str, list[tuple[float, float, str]]] = {}
    for call in calls:
        entries = [entry for entry in run.log(call).events() if entry.get("at")]
        if not entries:
            continue
        parent = _parent(call, calls)
        root = _root_span(run, call, parent, entries, facts)
        yield root
        cells[call] = []
        for span in _turns(call, entries, facts):
            if "/c" in span.place:
                cells[call].append((span.begun, span.ended, span.place))
            yield span
    yield from _leaves(run.uri, cells, facts)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What many spans of a run say."""

    run: str
    root: dict[str, str | int]
    leaf: dict[str, str | int]

    @classmethod
    def of(cls, run: str, settings: JsonObject) -> _Facts:
        root_url, leaf_url = settings.get("base_url"), settings.get("sub_base_url") or settings.get("base_url")
        root, leaf = settings.get("root_model"), settings.get("sub_model") or settings.get("root_model")
        return cls(run, _endpoint(root_url, root), _endpoint(leaf_url, leaf))

    def request(self, model: Mapping[str, str | int], usage: UsageRecord | None) -> dict[str, Attribute]:
        """Attributes of a call to a model."""
        found: dict[str, Attribute] = {"gen_ai.conversation.id": self.run, **_used(usage), **model}
        return found | {"gen_ai.operation.name": "chat"}


def _endpoint(url: object, model: object) -> dict[str, str | int]:
    parts = urlsplit(url) if isinstance(url, str) and url else urlsplit("https://api.openai.com/v1")
    host = parts.hostname or ""
    found: dict[str, str | int] = {"server.address": host, "gen_ai.provider.name": "openai" if host == "api.openai.com" else host}
    if parts.port:
        found["server.port"] = parts.port
    return found | ({"gen_ai.request.model": model} if isinstance(model, str) else {})


def _used(usage: UsageRecord | None) -> dict[str, Attribute]:
    if usage is None:
        return {}
    found: dict[str, Attribute] = {
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "gen_ai.usage.cache_read.input_tokens": usage["cached_tokens"],
        "rlm_ray.calls": usage["calls"],
    }
    return found | ({"rlm_ray.usd": usage["usd"]} if usage["usd"] is not None else {})


def _parent(call: str, calls: Iterable[str]) -> str | None:
    """The call that a recursive call belongs to: the one with the longest name that its own begins with."""
    return max((other for other in calls if call.startswith(f"{other}-")), key=len, default=None)


def _root_span(run: RunDirectory, call: str, parent: str | None, entries: list[LogEntry], facts: _Facts) -> RunSpan:
    attributes: dict[str, Attribute] = {"rlm_ray.run": facts.run, "rlm_ray.depth": call.count("-")}
    error = ""
    if call == "0":
        answer = run.answer()
        attributes |= {**_used_by_all(run), **_retries(run)}
        complete, reason = (answer["complete"], answer["stop_reason"]) if answer is not None else (False, "no answer")
    else:
        outcome = run.outcome(call)
        complete, reason = (outcome["complete"], outcome["stop_reason"]) if outcome is not None else (False, "no outcome")
    if reason in ("no answer", "no outcome"):
        error = reason
    job = run.job()
    name = str(job["spec"].get("name", "job")) if job is not None else "rlm_ray"
    attributes |= {"rlm_ray.complete": complete, "rlm_ray.stop_reason": reason}
    attributes |= {"gen_ai.agent.name": name, "gen_ai.conversation.id": facts.run, "gen_ai.operation.name": "invoke_agent"}
    begun, ended = entries[0]["at"], entries[-1]["at"]
    return RunSpan(call, parent, f"invoke_agent {name}", begun, ended, error=error, attributes=attributes)


def _used_by_all(run: RunDirectory) -> dict[str, Attribute]:
    return _used(run.spent().usage.to_json())


def _retries(run: RunDirectory) -> dict[str, int]:
    answer = run.answer()
    models = answer["usage"].get("by_model", []) if answer is not None else []
    return {"rlm_ray.retries": sum(item["retries"] for item in models)} if models else {}


def _turns(call: str, entries: list[LogEntry], facts: _Facts) -> Iterator[RunSpan]:
    """Yield the turns of a call, and what is in them."""
    number = 0
    inside: list[RunSpan] = []
    begun = last = entries[0]["at"]
    for entry in entries:
        at, event = entry["at"], entry["event"]
        if event == "Asking":
            if inside:
                yield from _turn(call, number, inside)
            number, inside, begun = number + 1, [], at
        elif event in ("Replied", "AskFailed", "TooLong", "Unaffordable", "Paid"):
            started = max(begun, at - (entry.get("seconds") or at - begun))
            error = "" if event in ("Replied", "Paid") else event
            attributes = facts.request(facts.root, entry.get("usage"))
            name = f"chat {facts.root.get('gen_ai.request.model', '')}".strip()
            place = f"{call}/t{number}/m{len(inside)}"
            inside.append(
                RunSpan(place, f"{call}/t{number}", name, started, at, is_request=True, error=error, attributes=attributes)
            )
        elif event == "CellDone":
            given = entry.get("given", {})
            attributes = {"gen_ai.tool.name": "python", "rlm_ray.cell": entry["cell"], "gen_ai.operation.name": "execute_tool"}
            error = (given.get("error") or "").strip().rpartition("\n")[2].partition(":")[0]
            place = f"{call}/t{number}/c{entry['cell']}"
            inside.append(RunSpan(place, f"{call}/t{number}", "execute_tool python", last, at, error=error, attributes=attributes))
        last = at
    if inside:
        yield from _turn(call, number, inside)


def _turn(call: str, number: int, inside: list[RunSpan]) -> Iterator[RunSpan]:
    begun, ended = min(span.begun for span in inside), max(span.ended for span in inside)
    yield RunSpan(f"{call}/t{number}", call, f"turn {number}", begun, ended, attributes={"rlm_ray.turn": number})
    yield from inside


# leaf calls


@dataclass(slots=True)
class _Batch:
    """What the leaf calls that were sent together came to."""

    begun: float = float("inf")
    ended: float = 0.0
    usage: Usage = field(default_factory=Usage)
    failed: int = 0


def _leaves(run_dir: str, cells: Mapping[str, list[tuple[float, float, str]]], facts: _Facts) -> Iterator[RunSpan]:
    """Yield the batches, then their calls, as far as there is room. Reads the logs twice, and holds what the batches come to."""
    batches: dict[str, _Batch] = {}
    for row in _rows(run_dir):
        batch = batches.setdefault(row["g"], _Batch())
        batch.begun = min(batch.begun, *(at for at, _ in row["t"]))
        batch.ended = max(batch.ended, *(at + seconds for at, seconds in row["t"]))
        batch.usage += Usage.from_json(row["u"])
        batch.failed += "e" in row
    places: dict[str, str] = {}
    for group, batch in batches.items():
        call = group.partition(":")[0]
        if call not in cells:
            continue
        within = (place for begun, ended, place in cells[call] if begun - 1 <= batch.begun <= ended + 1)
        places[group] = f"{call}/b{group}"
        attributes = {**_used(batch.usage.to_json()), "rlm_ray.failed": batch.failed}
        yield RunSpan(places[group], next(within, call), "batch", batch.begun, batch.ended, attributes=attributes)
    name = f"chat {facts.leaf.get('gen_ai.request.model', '')}".strip()
    numbers = itertools.count()
    for row in _rows(run_dir):
        if (parent := places.get(row["g"])) is None:
            continue
        for position, (at, seconds) in enumerate(row["t"]):
            if next(numbers) >= MAX_LEAVES:
                return
            attributes = facts.request(facts.leaf, row["u"] if len(row["t"]) == 1 else None)
            error = "the answer could not be used" if "e" in row and position == len(row["t"]) - 1 else ""
            place = f"{parent}/{row['k']}.{position}"
            yield RunSpan(place, parent, name, at, at + seconds, is_request=True, error=error, attributes=attributes)


def _rows(run_dir: str) -> Iterator[FinishedRow]:
    """Yield the rows of calls that were paid, with their times."""
    folder = storage.join(run_dir, finished.FOLDER)
    for item in storage.listing(folder) if storage.exists(folder) else ():
        for row in journal.values(storage.read_bytes(item.uri), having=b'"t":'):
            if row.get("t") and row.get("g") and row.get("u"):
                yield row
