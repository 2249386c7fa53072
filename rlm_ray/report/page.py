"""Writes a run as one HTML file that loads nothing from outside. Escapes all text of a corpus or a model."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypedDict

from rlm_ray import __version__
from rlm_ray.handle.values import size
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.recursion.answer import as_text
from rlm_ray.report.evidence import ShownNight, severity_of
from rlm_ray.report.gathering import MAX_ROWS, GatheredRun, ShownResult, ShownShards, gather
from rlm_ray.report.pictures import CLASSES, WORDS, cost_by_depth, shard_map, spark_line, timeline
from rlm_ray.report.terminal import shown_lines
from rlm_ray.text import counted
from rlm_ray.types.json import JsonObject, Record
from rlm_ray.types.run import AnswerRecord, JobOutcome
from rlm_ray.types.usage import ModelUsage

#: Turns of these calls stand in the page itself; those of the others are drawn when they are opened.
_DRAWN = ("0",)
#: Height of the frame in a notebook.
HEIGHT = 720
#: Characters of a text that stands large on top.
SHORT = 200
_SOURCE_MAP = re.compile(r"(//# |/\*# )sourceMappingURL=\S+( \*/)?")
_SPECIAL = re.compile("[&<>\u2028\u2029]")


class ShownTable(TypedDict):
    """An answer that is a table: the number of its rows, and the result that holds them."""

    rows: int
    result: str | None


class ShownReading(TypedDict):
    """How much of a corpus was read; `parts` is text for each class."""

    shards: int
    failed: int
    size: str
    parts: list[str]


class Report(str):
    """A run as HTML, complete in itself. A notebook shows it in a frame of its own."""

    __slots__ = ()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it to a file and return its path."""
        file = Path(path)
        file.write_text(self, "utf-8")
        return file

    def __repr__(self) -> str:
        return f"<Report of {len(self):,} characters: .save('report.html') writes it>"

    def _repr_html_(self) -> str:
        # the frame's content is a document of its own, which neither sees the notebook nor reaches any server
        frame = f'sandbox="allow-scripts allow-downloads" style="width:100%;height:{HEIGHT}px;border:0" title="the report of a run"'
        return f'<iframe {frame} srcdoc="{html.escape(self)}"></iframe>'


def report(run: str, base: str | None = None) -> Report:
    """Return the report of a run. Reads its directory, in bounded amounts; calls no model.

    Parameters
    ----------
    run, base : str
        A run directory, or an id and the folder that it is under.

    Returns
    -------
    Report
        A str of HTML, complete in itself.

    Raises
    ------
    RunNotFound
        There is no such run.
    """
    return Report(page(gather(RunDirectory.find(run, base))))


def page(gathered: GatheredRun) -> str:
    """Return the page of a gathered run."""
    style, script = _style(), _script()
    results, settings = gathered["results"], gathered["about"].get("settings", {})
    below = [call for call in gathered["calls"] if call["id"] not in _DRAWN]
    text: str = _template().render(
        version=__version__,
        policy=policy(),
        style=style,
        script=script,
        run=gathered["run"],
        about=gathered["about"],
        answer=gathered["answer"],
        validated=gathered["validated"],
        value=shown_value(gathered["answer"]),
        job=_job(gathered["job"], gathered["nights"]),
        job_data=_json(_findings(gathered["job"])),
        sources=gathered["sources"],
        sources_data=_json(gathered["sources"]),
        messages_data=_json({"messages": gathered["messages"], "prompts": gathered["prompts"]}),
        sure=_sure(gathered),
        table=_table(gathered["answer"]),
        numbers=_numbers(gathered),
        shown=shown_lines(gathered["answer"]["coverage"]) if gathered["answer"] is not None else [],
        quoted=_quoted(gathered["answer"]) if gathered["answer"] is not None else "",
        root=gathered["calls"][0] if gathered["calls"] else None,
        below=[{name: call[name] for name in ("id", "depth", "question", "outcome")} for call in below],
        below_data={call["id"]: _json(call) for call in below},
        results=results,
        results_data={name: _json(_result_rows(item)) for name, item in results.items()},
        maps={name: shard_map(item["shares"], item["names"]) for name, item in gathered["shards"].items() if item["shares"]},
        shards={name: _read(item) for name, item in gathered["shards"].items()},
        legend=[(name, WORDS[name]) for name in CLASSES] + [("failed", "failed")],
        unreadable=[failure for item in gathered["shards"].values() for failure in item["unreadable"]],
        timeline=timeline(gathered["spans"], gathered["seconds"], gathered["leaves"]) if gathered["spans"] else "",
        depths=cost_by_depth(_by_model(gathered["answer"])) if len(_by_model(gathered["answer"])) > 1 else "",
        settings={name: value for name, value in sorted(settings.items()) if value not in (None, {}, [])},
    )
    return text


@functools.cache
def policy() -> str:
    """Return the Content-Security-Policy of every report: its own style and script, and nothing from outside."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(_style())}'",
            f"script-src '{_hash(_script())}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


@functools.cache
def _style() -> str:
    return _asset("tabulator/tabulator.min.css") + own_style()


def own_style() -> str:
    """Return the style of a report without that of its tables: other pages of a run look like it."""
    return _asset("report.css")


@functools.cache
def _script() -> str:
    return _asset("tabulator/tabulator.min.js") + "\n" + _asset("report.js")


@functools.cache
def _asset(name: str) -> str:
    text = files("rlm_ray.report").joinpath("templates", *name.split("/")).read_text("utf-8")
    return _SOURCE_MAP.sub("", text)


@functools.cache
def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["counted"] = counted
    return environment.from_string(_asset("report.html"))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _json(value: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return _SPECIAL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class ShownValue(TypedDict):
    """An answer's value as the page shows it: `short` text, a long `text`, `facts` by name, or `rows` (drawn as a table)."""

    kind: Literal["none", "short", "text", "facts", "rows"]
    text: str
    facts: list[tuple[str, str]]
    rows: str


def shown_value(answer: AnswerRecord | None) -> ShownValue:
    """Choose how to show an answer's value.

    Examples
    --------
    >>> [shown_value({"value": value})["kind"] for value in (None, 3, "yes", "x" * 999, {"n": 1}, [{"n": 1}], [1])]
    ['none', 'short', 'short', 'text', 'facts', 'rows', 'text']
    """
    value = answer["value"] if answer is not None else None
    shown: ShownValue = {"kind": "none", "text": "", "facts": [], "rows": ""}
    if value is None:
        return shown
    if isinstance(value, dict) and value:
        facts = [(str(name), as_text(item)) for name, item in value.items()]
        return {**shown, "kind": "facts", "facts": facts}
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        columns = list(dict.fromkeys(str(name) for row in value for name in row))
        return {**shown, "kind": "rows", "rows": _json(_drawn(columns, value[:MAX_ROWS]))}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {**shown, "kind": "short", "text": f"{value:,}"}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    short = len(text) <= SHORT and "\n" not in text
    return {**shown, "kind": "short" if short else "text", "text": text}


class ShownJob(TypedDict):
    """What a job came to, in words, and its severities from run to run."""

    sentence: str
    verdict: str
    fails: bool
    nights: list[tuple[str, int, str]]
    since: str
    rejected: list[JsonObject]
    broken: str


def _job(job: JobOutcome | None, nights: list[ShownNight]) -> ShownJob | None:
    """Return a job's findings in a sentence, whether it failed, and a spark line for each severity."""
    if job is None:
        return None
    found = Counter(str(row["status"]) for row in job["findings"] if row.get("status"))
    statuses = ", ".join(f"{found[status]:,} {status}" for status in ("new", "carried", "gone") if found)
    severity = severity_of(job)
    counts = Counter(str(row.get(severity[0])) for row in job["findings"] if row.get("status") != "gone") if severity else Counter()
    by_label = ", ".join(f"{counts[label]:,} {label}" for label in reversed(severity[1] if severity else []) if counts[label])
    rejected = counted(len(job["rejected"]), "was rejected", "were rejected") if job["rejected"] else ""
    parts = "; ".join(filter(None, (by_label, statuses, rejected)))
    failing = len(job["failing"])
    verdict = ""
    if job["fail_on"] is not None:
        met = counted(failing, "finding fulfils", "findings fulfil") if failing else "No finding fulfils"
        verdict = f"{met} {job['fail_on']}: the job {'fails' if failing else 'passes'}."
    lines: list[tuple[str, int, str]] = []
    if len(nights) > 1:
        for label in [*reversed(severity[1] if severity else [])]:
            values = [night["counts"].get(label, 0) for night in nights]
            lines.append((label, values[-1], spark_line(values, label)))
        totals = [night["total"] for night in nights]
        lines.append(("all", totals[-1], spark_line(totals, "all")))
    return {
        "sentence": f"{counted(len(job['findings']), 'finding')}{f': {parts}' if parts else ''}.",
        "verdict": verdict,
        "fails": failing > 0,
        "nights": lines,
        "since": f"{counted(len(nights), 'run')} since {nights[0]['made'][:10]}" if len(nights) > 1 else "",
        "rejected": job["rejected"][:500],
        "broken": job["broken"],
    }


def _findings(job: JobOutcome | None) -> DrawnRows | None:
    """The findings as a table: those that make the job fail first."""
    if job is None:
        return None
    rows = sorted(job["findings"], key=lambda row: row["id"] not in job["failing"])[:MAX_ROWS]
    names = dict.fromkeys(name for row in rows for name in row if name not in ("id", "address", "quote", "since"))
    first = [name for name in ("status", *(severity_of(job) or ("",))[:1]) if name in names]
    columns = [*first, *(name for name in names if name not in first), "quote", "address"]
    return _drawn(columns, rows, {number for number, row in enumerate(rows) if row["id"] in job["failing"]})


class DrawnRows(TypedDict):
    """Rows as the page's script draws them: a list of values each, and the places of those that stand out."""

    columns: list[str]
    rows: list[list[Any]]
    marked: list[int]


def _drawn(columns: list[str], rows: Sequence[Record], marked: Iterable[int] = ()) -> DrawnRows:
    return {"columns": columns, "rows": [[row.get(name) for name in columns] for row in rows], "marked": sorted(marked)}


def _result_rows(result: ShownResult) -> DrawnRows:
    failed = (number for number, row in enumerate(result["rows"]) if row.get("_error"))
    return _drawn(result["columns"], result["rows"], failed)


def _sure(gathered: GatheredRun) -> list[str]:
    """Say how far the answer can be relied on, in sentences."""
    answer, job = gathered["answer"], gathered["job"]
    if answer is None:
        return []
    lines = []
    if job is not None and (job["findings"] or job["rejected"]):
        lines.append(
            f"Each of the {counted(len(job['findings']), 'finding')} names a record; the record was read again, and a quote that "
            f"is not in it rejects the finding ({len(job['rejected']):,} so)."
        )
    elif answer["citations"]:
        lines.append(f"{counted(len(answer['citations']), 'record is', 'records are')} cited{_quoted(answer)}.")
    elif job is None:
        lines.append("No record is cited: the answer rests on what code counted and models said.")
    if refused := answer.get("refused"):
        lines.append(f"{counted(len(refused), 'citation was', 'citations were')} refused: the quote is not in its record.")
    lines += [line[0].upper() + line[1:] + "." for line in shown_lines(answer["coverage"])]
    unread = [item for item in answer["failures"] if "object" in item]
    verbs = [item for item in answer["failures"] if "verb" in item]
    if unread:
        could = counted(len(unread), "shard could not be read and is", "shards could not be read and are")
        lines.append(f"{could} not part of it.")
    if verbs:
        lines.append(f"{counted(len(verbs), 'step')} failed on some of what the answer may rest on.")
    if answer["complete"]:
        lines.append("Nothing that was asked for was left out." if not unread and not verbs else "")
    return [line for line in lines if line]


def _by_model(answer: AnswerRecord | None) -> list[ModelUsage]:
    return list(answer["usage"].get("by_model") or ()) if answer is not None else []


def _table(answer: AnswerRecord | None) -> ShownTable | None:
    """Of an answer that is a table: how many rows, and the result that they are in."""
    value = answer["value"] if answer is not None else None
    if not isinstance(value, dict) or set(value) != {"table", "info", "rows"}:
        return None
    return {"rows": value["rows"], "result": value["table"][0].get("id")}


def _read(item: ShownShards) -> ShownReading:
    """Return how much of a corpus was read, as text."""
    known = [shares for shares in item["shares"] if shares is not None]
    total = sum(map(sum, known))
    parts = [(name, sum(shares[at] for shares in known)) for at, name in enumerate(CLASSES)]
    return {
        "shards": len(item["shares"]),
        "failed": len(item["shares"]) - len(known),
        "size": size(item["nbytes"]),
        "parts": [f"{size(count)} ({count / total:.1%}) {WORDS[name]}" for name, count in parts if count],
    }


def _quoted(answer: AnswerRecord) -> str:
    """What is known of the quotes of an answer's citations. Versions that refused none did not look for them.

    Examples
    --------
    >>> _quoted({"citations": [{"quote": "a"}, {"quote": "b"}, {"address": "…"}], "refused": []})
    '; each of the 2 quotes was found in its record'
    >>> _quoted({"citations": [{"address": "…"}], "refused": []})
    '; no quote was given'
    """
    quotes = sum(bool(item.get("quote")) for item in answer["citations"])
    if "refused" not in answer:
        return ""
    if quotes < 2:
        return "; the quote was found in its record" if quotes else "; no quote was given"
    return f"; each of the {quotes:,} quotes was found in its record"


def _numbers(gathered: GatheredRun) -> list[tuple[str, str]]:
    answer = gathered["answer"]
    if answer is None:
        return [("seconds so far", f"{gathered['seconds']:,.1f}")]
    usage = answer["usage"]
    return [
        ("model calls", f"{usage['calls']:,}"),
        ("tokens in", f"{usage['prompt_tokens']:,}"),
        ("of them cached", f"{usage['cached_tokens']:,}"),
        ("tokens out", f"{usage['completion_tokens']:,}"),
        ("cost", "unknown" if usage["usd"] is None else f"${usage['usd']:,.4f}"),
        ("seconds", f"{usage['seconds']:,.1f}"),
        ("turns", f"{answer['turns']:,}"),
    ]
