"""How an answer compares with what was planted, and how plain searches would have done."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.demo.lake import Incident, Place, Truth
from rlm_ray.errors import InputError

#: What a person on call would type first: a level, or words.
SEARCHES: dict[str, tuple[str, str]] = {
    "level ERROR": ("level", r"^ERROR$"),
    "grep error|fail|crash|fatal": ("message", r"(?i)error|fail|crash|fatal"),
    "grep lost|stolen|damage|broken|twice|down": ("message", r"(?i)lost|stolen|damage|broken|twice|down"),
}


class ReportedIncident(TypedDict):
    """An incident as the answer reports it; `records` are the addresses of its lines."""

    kind: str
    service: str
    first: str
    last: str
    quotes: list[str]
    records: list[str]


class DemoAnswer(TypedDict):
    """An answer of the shape `program.ANSWER`."""

    incidents: list[ReportedIncident]


class ScoreRecord(TypedDict):
    """A `Score` as JSON."""

    found: int
    wrong: int
    missed: int
    precision: float
    recall: float


class ComparisonRecord(TypedDict):
    """A `Comparison` as JSON."""

    incidents: ScoreRecord
    records: ScoreRecord
    kinds_right: int


@dataclass(frozen=True)
class Score:
    """How many were found, were claimed wrongly, and were missed.

    Examples
    --------
    >>> score = Score.of({1, 2, 3}, {2, 3, 4, 5})
    >>> round(score.precision, 2), score.recall
    (0.67, 0.5)
    """

    found: int
    wrong: int
    missed: int

    @classmethod
    def of(cls, claimed: Iterable[Any], true: Iterable[Any]) -> Score:
        """Compare two sets."""
        claims, truths = set(claimed), set(true)
        return cls(len(claims & truths), len(claims - truths), len(truths - claims))

    @property
    def precision(self) -> float:
        """Share of what was claimed that is true; 1 where nothing was claimed."""
        return self.found / (self.found + self.wrong) if self.found + self.wrong else 1.0

    @property
    def recall(self) -> float:
        """Share of what is true that was claimed; 1 where there was nothing."""
        return self.found / (self.found + self.missed) if self.found + self.missed else 1.0

    def to_json(self) -> ScoreRecord:
        """Return the counts and both shares."""
        return {"found": self.found, "wrong": self.wrong, "missed": self.missed, "precision": self.precision, "recall": self.recall}


@dataclass(frozen=True)
class Finding:
    """One incident of the answer, and the planted one that it is, if any.

    Attributes
    ----------
    reported : dict
        As the answer has it.
    planted : Incident or None
    right : int
        Reported lines that are lines of `planted`.
    """

    reported: ReportedIncident
    planted: Incident | None
    right: int

    @property
    def kind_is_right(self) -> bool:
        """Whether its kind is the planted one's."""
        return self.planted is not None and self.reported["kind"] == self.planted.kind


@dataclass(frozen=True)
class Comparison:
    """An answer beside the truth.

    Attributes
    ----------
    findings : tuple of Finding
        In the answer's order.
    missed : tuple of Incident
        Planted and not reported.
    incidents, records : Score
    """

    findings: tuple[Finding, ...]
    missed: tuple[Incident, ...]
    incidents: Score
    records: Score

    @property
    def kinds_right(self) -> int:
        """Findings that are incidents and have the right kind."""
        return sum(finding.kind_is_right for finding in self.findings)

    def to_json(self) -> ComparisonRecord:
        """Return the scores."""
        return {"incidents": self.incidents.to_json(), "records": self.records.to_json(), "kinds_right": self.kinds_right}


def compare(value: DemoAnswer, truth: Truth) -> Comparison:
    """Compare an answer of the shape `program.ANSWER` with the truth.

    A reported incident is a planted one when more than half of the lines of each are lines of the other. A line counts
    once, however often it is reported.
    """
    findings, open_ = [], list(truth.incidents)
    claimed: set[Place | str] = set()
    for reported in value["incidents"]:
        places = {place_of(address) for address in reported["records"]}
        claimed |= places
        planted = max(open_, key=lambda incident: len(places & incident.records), default=None)
        right = len(places & planted.records) if planted is not None else 0
        if planted is not None and 2 * right > len(places) and 2 * right > len(planted.records):
            open_.remove(planted)
            findings.append(Finding(reported, planted, right))
        else:
            findings.append(Finding(reported, None, 0))
    found = len(truth.incidents) - len(open_)
    incidents = Score(found, len(findings) - found, len(open_))
    return Comparison(tuple(findings), tuple(open_), incidents, Score.of(claimed, truth.records))


def place_of(address: str) -> Place | str:
    """Return the object (its last two path parts) and row of an address; what is no address is returned as it is.

    Examples
    --------
    >>> place_of("file:///lake/day=2026-09-07/part-1.parquet@1f#row=17")
    ('day=2026-09-07/part-1.parquet', 17)
    """
    try:
        parsed = Address.parse(address)
    except InputError:  # a live model may make one up: it is a wrong claim, not an error
        return address
    return "/".join(parsed.object.split("/")[-2:]), parsed.start


def searches(folder: str | os.PathLike[str], truth: Truth) -> dict[str, Score]:
    """Return how each of SEARCHES does on the lake's lines. Reads the lake."""
    import pyarrow.parquet as pq

    found: dict[str, set[Place]] = {name: set() for name in SEARCHES}
    for path in sorted(Path(folder).glob("day=*/*.parquet")):
        table = pq.read_table(path, columns=["level", "message"], partitioning=None)
        for name, (column, pattern) in SEARCHES.items():
            hit = re.compile(pattern).search
            rows = (row for row, text in enumerate(table.column(column).to_pylist()) if hit(text))
            found[name] |= {(f"{path.parent.name}/{path.name}", row) for row in rows}
    return {name: Score.of(places, truth.records) for name, places in found.items()}
