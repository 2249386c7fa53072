"""What a run's directory says, as one JSON value for the report. Reads the run directory in bounded amounts; calls no model."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import pyarrow.parquet

from rlm_ray import settings, storage
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.errors import SettingsError
from rlm_ray.ledger import coverage, finished
from rlm_ray.ledger.calllog import turns
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.ledger.segments import SegmentRecord
from rlm_ray.ledger.shares import CLASSES
from rlm_ray.recursion.loop import recovery
from rlm_ray.recursion.loop.history import Message
from rlm_ray.report.evidence import ShownNight, ShownSource, nights_of, sources_of
from rlm_ray.report.pictures import Intervals, Span
from rlm_ray.text import counted
from rlm_ray.types.json import Record
from rlm_ray.types.run import About, AnswerRecord, AskedVerb, JobOutcome, LogEntry, OutcomeRecord, TurnRecord, Validated
from rlm_ray.types.usage import UsageRecord

#: Rows of all results together, and characters of one value, that go into a report.
MAX_ROWS = 50_000
MAX_VALUE = 2_000
#: Recursive calls whose turns go into a report; of the others, what they came to.
MAX_CALLS = 500
#: Characters of those turns together.
MAX_TEXT = 16 << 20
MAX_OUTPUT = 20_000


class ShownOutcome(TypedDict):
    """The outcome of a recursive call; `value` is text, cut where it is long."""

    complete: bool
    stop_reason: str
    turns: int
    message: str
    value: str
    usage: UsageRecord | None


class ShownCall(TypedDict):
    """A call: its question, its turns (None where there is no room for them) and its outcome."""

    id: str
    depth: int
    question: str | None
    turns: list[TurnRecord] | None
    outcome: ShownOutcome | None


class ShownResult(TypedDict):
    """A result of sub-calls or functions: the first `rows` of `total`, and the sub-call that it belongs to."""

    asked: str | None
    columns: list[str]
    rows: list[Record]
    total: int
    failed: int
    finished: bool


class ShownShards(TypedDict):
    """The shards of a corpus: their names, and bytes by class (None where a shard could not be read)."""

    names: list[str]
    shares: list[tuple[int, int, int, int] | None]
    nbytes: int
    unreadable: list[dict[str, str]]


class GatheredRun(TypedDict):
    """A run as the report shows it: `calls` has the root first, `leaves` says when leaf calls were under way.

    `prompts` has for each turn of the root the places of its messages in `messages`.
    """

    run: str
    about: About
    answer: AnswerRecord | None
    validated: Validated | None
    calls: list[ShownCall]
    results: dict[str, ShownResult]
    shards: dict[str, ShownShards]
    spans: list[Span]
    leaves: Intervals
    seconds: float
    job: JobOutcome | None
    nights: list[ShownNight]
    sources: list[ShownSource]
    messages: list[Message]
    prompts: list[list[int]]


def gather(run: RunDirectory) -> GatheredRun:
    """Return a run as the report shows it."""
    about, answer, job = run.about(), run.answer(), run.outcome_of_job()
    messages, prompts = _prompts(run, about)
    room = MAX_ROWS
    results: dict[str, ShownResult] = {}
    for name in _results(run):
        results[name] = result = _result(run, name, room)
        room = max(0, room - len(result["rows"]))
    found = _calls(run, results)
    for call in found.calls:
        for item in (item for turn in call["turns"] or () for cell in turn["cells"] for item in cell.get("asked", ())):
            if item["result"]:
                results[item["result"]]["asked"] = f"{item['verb']}: {item['prompt']}"
    spans = [replace(span, begun=span.begun - found.began, ended=span.ended - found.began) for span in found.spans]
    leaves = Intervals.of((at - found.began, at - found.began + seconds) for at, seconds in finished.times(run.uri))
    return {
        "run": run.uri,
        "about": about,
        "answer": answer,
        "validated": run.validated(),
        "calls": found.calls,
        "results": results,
        "shards": {name: _shards(run, name, found.failures) for name in about.get("corpora", {})},
        "spans": spans,
        "leaves": leaves,
        "seconds": max((*(span.ended for span in spans), *leaves.ends[-1:]), default=0.0),
        "job": job,
        "nights": nights_of(run, job) if job is not None else [],
        "sources": sources_of(run, answer, job),
        "messages": messages,
        "prompts": prompts,
    }


def _prompts(run: RunDirectory, about: About) -> tuple[list[Message], list[list[int]]]:
    """The messages that the root model was sent, each once, and which of them were sent for each turn."""
    try:
        made = settings.make(about.get("settings", {}))
    except SettingsError:  # of a version with other settings
        return [], []
    asked = recovery.prompts(run.log("0").events(), made.history_tokens, made.bytes_per_token, made.max_turns)
    places: dict[tuple[str, str], int] = {}
    indexes = [[places.setdefault((item["role"], item["content"]), len(places)) for item in turn] for turn in asked]
    if sum(len(content) for _, content in places) > MAX_TEXT:
        return [], []
    return [{"role": role, "content": content} for role, content in places], indexes


def calls_of(run: RunDirectory) -> list[ShownCall]:
    """Return the calls of a run, the root's first, then by when they began."""
    return _calls(run, ()).calls


@dataclass(frozen=True, slots=True)
class _Calls:
    """The calls of a run, by when they began.

    Attributes
    ----------
    spans : list of Span
        In seconds of the clock.
    began : float
        When the first did.
    failures : list of (str, int or None)
        Shards that could not be read.
    """

    calls: list[ShownCall]
    spans: list[Span]
    began: float
    failures: list[tuple[str, int | None]]


def _calls(run: RunDirectory, results: Container[str]) -> _Calls:
    """Read the calls' logs: one at a time, and of each only what the report shows is kept."""
    found: list[tuple[float, ShownCall, list[Span]]] = []
    failures: dict[tuple[str, int | None], None] = {}
    room = MAX_TEXT
    for number, call in enumerate(run.calls() or ["0"]):
        entries = run.log(call).events() if number <= MAX_CALLS else None
        shown = _call(run, call, entries, results)
        size = len(json.dumps(shown["turns"]))
        if call != "0" and size > room:
            shown["turns"] = None
        else:
            room -= size
        for item in (item for entry in entries or () for item in entry.get("failures") or ()):
            failures[item["object"], item.get("shard")] = None
        found.append((_begun(entries), shown, list(_spans(call, entries or ()))))
    found.sort(key=lambda item: item[0])
    began = found[0][0] if found[0][0] < float("inf") else 0.0
    return _Calls([shown for _, shown, _ in found], [span for _, _, some in found for span in some], began, list(failures))


def _call(run: RunDirectory, call: str, entries: list[LogEntry] | None, results: Container[str]) -> ShownCall:
    outcome = run.outcome(call) if call != "0" else None
    shown: ShownCall = {"id": call, "depth": 1, "outcome": _outcome(outcome), "turns": None, "question": None}
    if entries is None:
        return shown
    started = next((entry for entry in entries if entry["event"] == "Started"), LogEntry(event="Started"))
    shown["depth"], shown["question"] = started.get("depth", int(call != "0")), _question(started.get("task", ""))
    shown["turns"] = found = turns(entries)
    asked = _asked(run, call)
    labels = iter([entry["cell"] for entry in entries if entry["event"] == "CellDone"])
    for turn in found:
        for cell in turn["cells"]:
            cell["label"] = next(labels, None)
            items = asked.get(cell["label"] or "", {}).items()
            cell["asked"] = [{**item, "result": name if name in results else None} for name, item in items]
            cell["output"] = _cut(cell["output"] or "", MAX_OUTPUT)
    return shown


def _begun(entries: list[LogEntry] | None) -> float:
    return next((entry["at"] for entry in entries or () if entry.get("at")), float("inf"))


def _asked(run: RunDirectory, call: str) -> dict[str, dict[str, AskedVerb]]:
    """The sub-calls of each cell, by the name of their result."""
    return {label: {f"{call}-{name}": value for name, value in begun.items()} for label, begun in run.log(call).begun().items()}


def _outcome(outcome: OutcomeRecord | None) -> ShownOutcome | None:
    if outcome is None:
        return None
    value = outcome["value"] if isinstance(outcome["value"], str) else json.dumps(outcome["value"], ensure_ascii=False)
    return {
        "complete": outcome["complete"],
        "stop_reason": outcome["stop_reason"],
        "turns": outcome["turns"],
        "message": outcome["message"],
        "value": _cut(value, MAX_VALUE),
        "usage": outcome["budget"].get("usage"),
    }


def _question(task: str) -> str:
    return task.partition("Question: ")[2].split("\n\n", 1)[0]


def _spans(call: str, entries: Iterable[LogEntry]) -> Iterator[Span]:
    first = last = None
    turn = 0
    for entry in entries:
        at = entry.get("at")
        if at is None:
            continue
        first = at if first is None else first
        if call == "0" and entry["event"] == "Replied":
            turn += 1
            yield Span("root", max(first, at - (entry.get("seconds") or 0.0)), at, f"turn {turn}, root model")
        elif call == "0" and entry["event"] == "CellDone" and last is not None:
            yield Span("cell", last, at, f"turn {entry['cell'].replace('.', ', cell ')}")
        last = at
    if call != "0" and first is not None and last is not None:
        yield Span("call", first, last, call)


# results of sub-calls and of functions over shards


def _results(run: RunDirectory) -> list[str]:
    folder = run.path("segments")
    if not storage.exists(folder):
        return []
    skip = len(folder.rstrip("/")) + 1
    return sorted({item.uri[skip:].split("/", 1)[0] for item in storage.listing(folder)})


def _result(run: RunDirectory, name: str, room: int) -> ShownResult:
    data = storage.find_bytes(run.path("segments", name, "result.json"))
    segments: list[SegmentRecord] = json.loads(data)["segments"] if data is not None else []
    rows: list[Record] = []
    for segment in segments:
        if len(rows) >= room:
            break
        with storage.open_input(segment["uri"]) as file:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=500):
                rows += [{key: _shown(value) for key, value in row.items()} for row in batch.to_pylist()]
                if len(rows) >= room:
                    break
    columns = sorted({column for segment in segments for column in segment["columns"]}, key=lambda column: column.startswith("_"))
    return {
        "asked": None,
        "columns": columns,
        "rows": rows[:room],
        "total": sum(segment["rows"] for segment in segments),
        "failed": sum(segment["failed"] for segment in segments),
        "finished": data is not None,
    }


def _shown(value: Any) -> Any:
    return _cut(value, MAX_VALUE) if isinstance(value, str) else value


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} … [{counted(len(text) - most, 'more character')}]"


# shards


def _shards(run: RunDirectory, name: str, failures: list[tuple[str, int | None]]) -> ShownShards:
    manifest = Manifest.load(run.path("manifest", name))
    counts = coverage.counted(name, manifest, coverage.noted(run.uri), failures)
    starts = manifest.shards.table.column("start").to_pylist()
    names = [f"{uri}:{start}" for uri, start in zip(coverage.uris(manifest).to_pylist(), starts, strict=True)]
    order = [CLASSES.index(kind) for kind in ("read_by_model", "read_by_code", "excluded", "not_read")]
    nbytes = zip(counts.nbytes[:, order].tolist(), counts.failed.tolist(), strict=True)
    shares = [None if failed else tuple(share) for share, failed in nbytes]
    return {"names": names, "shares": shares, "nbytes": manifest.nbytes, "unreadable": manifest.failed}
