"""Compares two runs: question, settings, prompts, cells, answer, findings, cost. Reads their directories; calls no model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from rlm_ray.handle.values import cell_text
from rlm_ray.ledger.calllog import turns
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.report.run_pages import place_text
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import AnswerRecord, JobOutcome, LogEntry
from rlm_ray.types.usage import RunUsageRecord, UsageRecord

#: Lines of a text that are compared, characters of one, and equal lines that are shown around a difference.
MAX_LINES, MAX_LINE, AROUND = 1_000, 2_000, 3
#: Findings of each kind that are shown.
MAX_FINDINGS = 200
#: Columns of a finding that say where it is and since when, not what it is.
_PLACES = ("id", "address", "quote", "status", "since")


class Line(NamedTuple):
    """A line of a comparison: equal in both, only in the `left`, only in the `right`, or a `gap` of equal lines left out."""

    kind: Literal["equal", "left", "right", "gap"]
    text: str


class Amount(NamedTuple):
    """A number of both runs as text, and the change."""

    name: str
    left: str
    right: str
    change: str


class Change(NamedTuple):
    """A finding of one of the two runs, or of both with other words; `columns` are name, left, right of those that differ."""

    kind: Literal["left", "right", "changed"]
    text: str
    place: str
    columns: list[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Texts:
    """Two texts under a heading; no `lines` where they are the same."""

    title: str
    lines: list[Line]
    is_empty: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs side by side.

    Attributes
    ----------
    texts : list of Texts
        Question, settings, prompts, cells, answer.
    findings : list of Change or None
        None where neither run belongs to a job; `same` findings are in both.
    """

    texts: list[Texts]
    amounts: list[Amount]
    findings: list[Change] | None
    same: int


@dataclass(frozen=True, slots=True)
class _Side:
    question: str
    settings: str
    data: str
    prompt: str
    asked: str
    cells: str
    answer: AnswerRecord | None
    usage: UsageRecord | RunUsageRecord
    turns: int
    job: JobOutcome | None


def compare(left: RunDirectory, right: RunDirectory) -> Comparison:
    """Return what differs between two runs. Reads their logs, answers and findings, and nothing of the lake."""
    one, other = _side(left), _side(right)
    texts = [
        _texts("Question", one.question, other.question),
        _texts("Answer", _answer(one), _answer(other)),
        _texts("Settings", one.settings, other.settings),
        _texts("Data", one.data, other.data),
        _texts("Prompt of the root model", one.prompt, other.prompt),
        _texts("Prompts of sub-calls", one.asked, other.asked),
        _texts("Cells", one.cells, other.cells),
    ]
    changes, same = _findings(one.job, other.job)
    return Comparison(texts, list(_amounts(one, other)), None if one.job is other.job is None else changes, same)


def _side(run: RunDirectory) -> _Side:
    about, answer, log = run.about(), run.answer(), run.log("0")
    entries = log.events()
    started = next((entry for entry in entries if entry["event"] == "Started"), LogEntry(event="Started"))
    asked = [f"{item['verb']}: {item['prompt']}" for verbs in log.begun().values() for item in verbs.values()]
    went = turns(entries)
    return _Side(
        question=about.get("question") or "(not stored)",
        settings="\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in _set(about.get("settings", {}))),
        data="\n".join(
            f"{name}: {', '.join(item['uris'])} ({item['fingerprint'][:12]})" for name, item in about.get("corpora", {}).items()
        ),
        prompt="\n\n".join(filter(None, (started.get("system"), started.get("task")))),
        asked="\n".join(asked),
        cells="\n\n".join(cell["code"] for turn in went for cell in turn["cells"] if cell["code"]),
        answer=answer,
        usage=answer["usage"] if answer is not None else run.spent().usage.to_json(),
        turns=len(went),
        job=run.outcome_of_job(),
    )


def _set(settings: JsonObject) -> Iterator[tuple[str, object]]:
    """The settings of a run that say something, but its id."""
    return ((name, value) for name, value in sorted(settings.items()) if value not in (None, {}, []) and name != "run_id")


def _answer(side: _Side) -> str:
    if side.answer is None:
        return ""
    value = side.answer["value"]
    if isinstance(value, list):  # a row a line, so that rows are compared
        return "\n".join(json.dumps(row, ensure_ascii=False, default=str) for row in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _texts(title: str, left: str, right: str) -> Texts:
    return Texts(title, [] if left == right else list(differences(left, right)), not left and not right)


def differences(left: str, right: str) -> Iterator[Line]:
    """Compare two texts by lines; of long stretches of equal lines, a few stay. Time is bounded by `MAX_LINES`.

    Examples
    --------
    >>> [tuple(line) for line in differences("a\\nb", "a\\nc")]
    [('equal', 'a'), ('left', 'b'), ('right', 'c')]
    """
    one, other = _lines(left), _lines(right)
    groups = SequenceMatcher(None, one, other).get_grouped_opcodes(AROUND)
    ended = 0
    for group in groups:
        if group[0][1] > ended:
            yield Line("gap", f"{group[0][1] - ended:,} equal lines" if group[0][1] - ended > 1 else "1 equal line")
        for kind, begin, end, begins, ends in group:
            if kind == "equal":
                yield from (Line("equal", text) for text in one[begin:end])
            else:
                yield from (Line("left", text) for text in one[begin:end])
                yield from (Line("right", text) for text in other[begins:ends])
        ended = group[-1][2]
    if len(one) > ended:
        yield Line("gap", f"{len(one) - ended:,} equal lines" if len(one) - ended > 1 else "1 equal line")


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    if len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], f"… {len(lines) - MAX_LINES:,} more lines, which are not compared"]
    return [line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} …" for line in lines]


# findings


def _findings(left: JobOutcome | None, right: JobOutcome | None) -> tuple[list[Change], int]:
    """What is in one run alone, and what rests on the same record with other words; and how many are the same."""
    one = {str(row["id"]): row for row in _standing(left)}
    other = {str(row["id"]): row for row in _standing(right)}
    same = len(one.keys() & other.keys())
    gone = [row for name, row in one.items() if name not in other]
    new = [row for name, row in other.items() if name not in one]
    by_place: dict[str, list[JsonObject]] = {}
    for row in new:
        by_place.setdefault(str(row.get("address")), []).append(row)
    changes: list[Change] = []
    only_left: list[Change] = []
    for row in gone:
        there = by_place.get(str(row.get("address")))
        if there:
            changes.append(_change(row, there.pop(0)))
        else:
            only_left.append(Change("left", _as_line(row), _place(row), []))
    only_right = [Change("right", _as_line(row), _place(row), []) for rows in by_place.values() for row in rows]
    return [*only_right[:MAX_FINDINGS], *only_left[:MAX_FINDINGS], *changes[:MAX_FINDINGS]], same


def _standing(job: JobOutcome | None) -> Sequence[JsonObject]:
    return [] if job is None else [row for row in job["findings"] if row.get("status") != "gone"]


def _change(left: JsonObject, right: JsonObject) -> Change:
    names = [name for name in {**left, **right} if name not in _PLACES or name == "quote"]
    columns = [(name, cell_text(left.get(name)), cell_text(right.get(name))) for name in names if left.get(name) != right.get(name)]
    return Change("changed", _as_line(right), _place(right), columns)


def _as_line(row: Mapping[str, object]) -> str:
    """A finding in a line: what its columns say, and its quote."""
    words = [cell_text(value) for name, value in row.items() if name not in _PLACES and value is not None]
    return " · ".join([*words, f"“{cell_text(row['quote'])}”"] if row.get("quote") else words)


def _place(row: Mapping[str, object]) -> str:
    return place_text(str(row.get("address") or ""))


# cost


def _amounts(left: _Side, right: _Side) -> Iterable[Amount]:
    for name, key in (("model calls", "calls"), ("tokens in", "prompt_tokens"), ("tokens out", "completion_tokens")):
        one, other = int(left.usage[key]), int(right.usage[key])  # type: ignore[literal-required]
        yield Amount(name, f"{one:,}", f"{other:,}", _change_of(one, other))
    one_usd, other_usd = left.usage["usd"], right.usage["usd"]
    known = one_usd is not None and other_usd is not None
    change = _change_of(one_usd, other_usd) if one_usd is not None and other_usd is not None else ""
    yield Amount("cost", _dollars(one_usd), _dollars(other_usd), change if known else "")
    yield Amount("turns", f"{left.turns:,}", f"{right.turns:,}", _change_of(left.turns, right.turns))
    if left.answer is not None and right.answer is not None:
        seconds = left.answer["usage"]["seconds"], right.answer["usage"]["seconds"]
        yield Amount("seconds", f"{seconds[0]:,.1f}", f"{seconds[1]:,.1f}", _change_of(*seconds))


def _dollars(usd: float | None) -> str:
    return "price unknown" if usd is None else f"${usd:,.4f}"


def _change_of(left: float, right: float) -> str:
    """The change in percent.

    Examples
    --------
    >>> _change_of(4, 5), _change_of(5, 4), _change_of(4, 4), _change_of(0, 4)
    ('+25%', '−20%', 'the same', 'new')
    """
    if left == right:
        return "the same"
    if not left:
        return "new"
    share = right / left - 1
    return f"{'+' if share > 0 else '−'}{abs(share):.0%}"
