"""The records that an answer or a job's findings rest on, as the report shows them; and the nights of a job before it.

Reads the cited records from the lake, in bounded amounts; calls no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict

from rlm_ray.corpus.operations.operations import shown_text
from rlm_ray.errors import RlmRayError
from rlm_ray.handle.values import cell_text
from rlm_ray.ledger import rundir
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.report.sources import source_at
from rlm_ray.types.json import JsonObject, Record
from rlm_ray.types.run import AnswerRecord, Citation, JobOutcome

#: Cited records that are read, as many at the same time as `THREADS`, and characters of one that are kept.
MAX_SOURCES, THREADS, MAX_RECORD = 200, 8, 8_000
#: Nights of a job that are compared, and runs that are looked at to find them.
MAX_NIGHTS, MAX_RUNS = 30, 200


class ShownSource(TypedDict):
    """A cited record with what stands around it, as text; `problem` says why it cannot be shown."""

    label: str
    address: str
    quote: str | None
    before: str
    record: str
    behind: str
    problem: str


class ShownNight(TypedDict):
    """A run of the same job: how many findings of each severity, in all, and how many made it fail."""

    run: str
    made: str
    counts: dict[str, int]
    total: int
    failing: int


def sources_of(run: RunDirectory, answer: AnswerRecord | None, job: JobOutcome | None) -> list[ShownSource]:
    """Return the records that the findings of a job, or else the citations of an answer, rest on."""
    asked = list(_asked(answer, job))[:MAX_SOURCES]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda item: _source(run, *item), asked))


def _asked(answer: AnswerRecord | None, job: JobOutcome | None) -> Iterator[tuple[str, Citation]]:
    """The evidence of findings, those that make the job fail first; else the citations."""
    if job is not None:
        for finding in sorted(job["findings"], key=lambda item: item["id"] not in job["failing"]):
            if finding.get("status") != "gone":
                yield _label(finding, job), {"address": str(finding["address"]), "quote": finding.get("quote")}
        return
    for citation in answer["citations"] if answer is not None else ():
        yield "", citation


def _label(finding: JsonObject, job: JobOutcome) -> str:
    """A finding in a line: what its columns say."""
    return " · ".join(cell_text(finding[name])[:80] for name in job["columns"] if finding.get(name) is not None)


def _source(run: RunDirectory, label: str, citation: Citation) -> ShownSource:
    shown: ShownSource = {
        "label": label, "address": citation["address"], "quote": citation["quote"], "before": "", "record": "", "behind": "",
        "problem": "",
    }  # fmt: skip
    try:
        found = source_at(run, citation)
    except (RlmRayError, OSError) as error:
        return {**shown, "problem": str(error)}
    record = _text(found["record"])
    quote = citation["quote"] or ""
    at = max(0, record.find(quote) - MAX_RECORD // 2) if len(record) > MAX_RECORD else 0
    cut = f"{'… ' if at else ''}{record[at : at + MAX_RECORD]}{' …' if len(record) > at + MAX_RECORD else ''}"
    before, behind = ("\n".join(_text(item)[:MAX_RECORD] for item in items) for items in (found["before"], found["behind"]))
    return {**shown, "before": before, "record": cut, "behind": behind}


def _text(record: Record | str) -> str:
    return record if isinstance(record, str) else shown_text({**record})


def severity_of(job: JobOutcome) -> tuple[str, list[str]] | None:
    """Return the column that tells how bad a finding is, and its labels in their order: that of `fail_on`, or the first one.

    Examples
    --------
    >>> severity_of({"columns": {"n": {"type": "integer"}, "level": {"enum": ["low", "high"]}}, "fail_on": None})
    ('level', ['low', 'high'])
    """
    closed = {name: form["enum"] for name, form in job["columns"].items() if "enum" in form}
    labels = {name: [str(label) for label in known if label is not None] for name, known in closed.items()}
    named = (job["fail_on"] or "").split(" ", 1)[0]
    name = next((name for name in (named, "severity", *labels) if name in labels), None)
    return None if name is None else (name, labels[name])


def nights_of(run: RunDirectory, job: JobOutcome) -> list[ShownNight]:
    """Return the runs of the same job in the same folder up to this one, the oldest first."""
    base = run.uri.rstrip("/").rsplit("/", 1)[0]
    made = run.about().get("made") or ""
    found: list[ShownNight] = []
    for number, other in enumerate(rundir.runs(base)):
        if number >= MAX_RUNS:
            break
        outcome = other.outcome_of_job()
        if outcome is None or outcome.get("name") != job["name"]:
            continue
        when = other.about().get("made") or ""
        if when <= made:
            found.append(night_of(other.id, when, outcome, severity_of(job)))
    return sorted(found, key=lambda night: (night["made"], night["run"]))[-MAX_NIGHTS:]


def night_of(run: str, made: str, outcome: JobOutcome, severity: tuple[str, Sequence[str]] | None) -> ShownNight:
    """Return a run of a job as the line of its nights shows it; `severity` as `severity_of` tells it."""
    standing: list[Mapping[str, object]] = [row for row in outcome["findings"] if row.get("status") != "gone"]
    counts = Counter(str(row.get(severity[0])) for row in standing) if severity is not None else Counter[str]()
    return {"run": run, "made": made, "counts": dict(counts), "total": len(standing), "failing": len(outcome["failing"])}
