"""Jobs of a folder, each with its nights: what every run of it found and cost. Reads the outcomes that the catalog holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rlm_ray.report.evidence import ShownNight, night_of, severity_of
from rlm_ray.report.pictures import spark_line
from rlm_ray.types.run import JobOutcome
from rlm_ray.ui.catalog import BROKEN, Catalog, DescribedRun, ListedRun

#: Nights of a job that are shown, the newest of them drawn as lines.
MAX_NIGHTS, DRAWN = 200, 30


@dataclass(frozen=True, slots=True)
class ShownJob:
    """A job in the list of jobs: how many runs it has, its newest one, and a line of its findings as SVG."""

    name: str
    runs: int
    newest: DescribedRun
    line: str


@dataclass(frozen=True, slots=True)
class Night:
    """A run of a job: what it found, None where it has no outcome, and the id of the run before it."""

    described: DescribedRun
    found: ShownNight | None
    statuses: dict[str, int]
    before: str


@dataclass(frozen=True, slots=True)
class JobHistory:
    """A job with its nights, newest first.

    Attributes
    ----------
    severities : list of str
        Labels of the column that tells how bad a finding is, the worst first.
    lines : list of (str, int, str)
        A label, its number in the newest night that ended, and its line as SVG.
    """

    name: str
    nights: list[Night]
    severities: list[str]
    lines: list[tuple[str, int, str]]
    total: int


def jobs(catalog: Catalog) -> list[ShownJob]:
    """Return the jobs of a folder, that which ran last first."""
    by_name: dict[str, list[ListedRun]] = {}
    for run in catalog.runs():
        if run.job:
            by_name.setdefault(run.job, []).append(run)
    newest = catalog.describe([runs[0] for runs in by_name.values()])
    shown = []
    for (name, runs), last in zip(by_name.items(), newest, strict=True):
        found = [night for night, _ in map(_night, runs, catalog.outcomes(runs[:DRAWN])) if night is not None]
        shown.append(ShownJob(name, len(runs), last, _line([night["total"] for night in found], "findings")))
    return shown


def history(catalog: Catalog, name: str) -> JobHistory | None:
    """Return a job with its nights; None where no run of the folder belongs to it."""
    runs = [run for run in catalog.runs() if run.job == name]
    if not runs:
        return None
    shown = runs[:MAX_NIGHTS]
    outcomes = catalog.outcomes(shown)
    found = list(map(_night, shown, outcomes))
    before = [run.id for run in runs[1 : len(shown) + 1]] + [""] * (len(runs) == len(shown))
    nights = [
        Night(described, *night, earlier) for described, night, earlier in zip(catalog.describe(shown), found, before, strict=True)
    ]
    drawn = [night for night, _ in found if night is not None][:DRAWN]
    severities = _severities(outcomes)
    lines = [(label, [night["counts"].get(label, 0) for night in drawn]) for label in severities]
    lines.append(("all findings", [night["total"] for night in drawn]))
    pictures = [(label, values[0], _line(values, label)) for label, values in lines if len(values) > 1]
    return JobHistory(name, nights, severities, pictures, len(runs))


def _night(run: ListedRun, outcome: JobOutcome | None) -> tuple[ShownNight | None, dict[str, int]]:
    """What a run found, by severity and by status; nothing where it has not ended or cannot be read."""
    if outcome is None:
        return None, {}
    try:
        statuses = Counter(str(row["status"]) for row in outcome["findings"] if row.get("status"))
        return night_of(run.id, run.made, outcome, severity_of(outcome)), dict(statuses)
    except BROKEN:  # the run's line says that it cannot be read
        return None, {}


def _severities(outcomes: Sequence[JobOutcome | None]) -> list[str]:
    """Labels of the newest outcome that has some, the worst first."""
    for outcome in outcomes:
        try:
            severity = severity_of(outcome) if outcome is not None else None
        except BROKEN:
            continue
        if severity is not None:
            return severity[1][::-1]
    return []


def _line(values: Sequence[int], title: str) -> str:
    """Numbers from night to night, given newest first and drawn oldest first; nothing where there is one night."""
    return spark_line(values[::-1], title) if len(values) > 1 else ""
