"""The runs of a folder, newest first, as the pages list them. Reads a run's files once, and again when a listing shows a change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, TypeVar

from rlm_ray.errors import RlmRayError
from rlm_ray.history import Run
from rlm_ray.ledger import lease, rundir
from rlm_ray.ledger.rundir import Inventory, RunDirectory
from rlm_ray.report.terminal import dollars_text
from rlm_ray.types.run import JobOutcome

#: Runs of a folder that are listed, files that are read at the same time, and runs on a page.
MAX_RUNS, THREADS, PAGE = 20_000, 16, 50
#: Seconds for which a listing holds; one that took long holds so many times as long as it took.
HOLDS, TIMES = 2.0, 10
#: Characters of a question that are held for the list and its filter.
MAX_QUESTION = 2_000
#: What reading a directory raises that others wrote: it may hold anything.
BROKEN = (RlmRayError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)

State = Literal["complete", "partial", "running", "stopped", "unreadable"]
STATES: tuple[State, ...] = ("complete", "partial", "running", "stopped", "unreadable")
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run as the list orders and filters it; `job` is empty where it is a question alone."""

    inventory: Inventory
    made: str
    question: str
    job: str
    problem: str = ""

    @property
    def id(self) -> str:
        """The run's id."""
        return self.inventory.id

    @property
    def directory(self) -> RunDirectory:
        """The run's directory."""
        return RunDirectory(self.inventory.uri)

    @property
    def is_answered(self) -> bool:
        """Whether it has an answer."""
        return "answer.json" in self.inventory.names


@dataclass(frozen=True, slots=True)
class DescribedRun:
    """A run as a line of the list shows it. `detail` says why it is partial, where it stopped, or why it cannot be read.

    Attributes
    ----------
    calls : int
    cost : str
        Dollars; "unknown" where a price is.
    findings : int or None
        Of a job: those that stand, and how many `failing` ones make it fail.
    """

    listed: ListedRun
    state: State
    detail: str = ""
    calls: int = 0
    cost: str = ""
    findings: int | None = None
    failing: int = 0


class Page(NamedTuple):
    """Some of the runs that a filter keeps: `runs` of `total`; `number` of `pages` counts from 1."""

    runs: list[DescribedRun]
    number: int
    pages: int
    total: int


class Catalog:
    """The runs under a folder. Threads may share it.

    Parameters
    ----------
    base : str
        The folder of run directories: a path or a URL.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self._lock = threading.Lock()
        self._listed: dict[str, ListedRun] = {}
        self._described: dict[str, DescribedRun] = {}
        self._outcomes: dict[str, tuple[int, JobOutcome | None]] = {}
        self._ends = 0.0
        self.is_cut = False

    def runs(self) -> Sequence[ListedRun]:
        """Return the runs, newest first. Lists the folder, unless that was done just before; reads what is new.

        Raises
        ------
        CredentialsError, StorageError
            The store refuses or cannot be reached.
        """
        with self._lock:
            begun = time.monotonic()
            if begun >= self._ends:
                self._refresh()
                ended = time.monotonic()
                self._ends = ended + max(HOLDS, TIMES * (ended - begun))
            return list(self._listed.values())

    def find(self, run_id: str) -> ListedRun | None:
        """Return the run of an id; None where the folder has none of that name. An id is never taken for a path."""
        return next((run for run in self.runs() if run.id == run_id), None)

    def page(self, text: str = "", state: str = "", job: str = "", number: int = 1) -> Page:
        """Return a page of the runs that a filter keeps. Reads the answers of those on the page; of all, to filter by state.

        Parameters
        ----------
        text : str
            What the id, the question or the job must contain, in any case.
        state, job : str
            One of `STATES`, and the name of a job.
        """
        wanted = text.casefold().split()
        kept = [run for run in self.runs() if (not job or run.job == job) and all(word in _searched(run) for word in wanted)]
        if state:
            kept = [run.listed for run in self.describe(kept) if run.state == state]
        pages = max(1, -(-len(kept) // PAGE))
        number = min(max(1, number), pages)
        return Page(self.describe(kept[(number - 1) * PAGE : number * PAGE]), number, pages, len(kept))

    def describe(self, runs: Iterable[ListedRun]) -> list[DescribedRun]:
        """Return runs with their state, their cost and how many findings they have. Reads what changed."""
        return self._in_threads(self._describe, runs)

    def outcomes(self, runs: Iterable[ListedRun]) -> list[JobOutcome | None]:
        """Return what the jobs of runs came to; None where one has not ended or cannot be read. Reads what changed."""
        return self._in_threads(self._readable_outcome, runs)

    def _readable_outcome(self, run: ListedRun) -> JobOutcome | None:
        try:
            return self._outcome(run)
        except BROKEN:  # the run's line in the list says why
            return None

    def _outcome(self, run: ListedRun) -> JobOutcome | None:
        known = self._outcomes.get(run.id)
        if known is None or known[0] != run.inventory.stamp:
            known = (run.inventory.stamp, run.directory.outcome_of_job() if "findings.json" in run.inventory.names else None)
            self._outcomes[run.id] = known
        return known[1]

    def _refresh(self) -> None:
        found = rundir.inventories(self.base)
        self.is_cut = len(found) > MAX_RUNS
        found = sorted(found, key=lambda item: item.id, reverse=True)[:MAX_RUNS]
        runs = self._in_threads(self._list, found)
        runs.sort(key=lambda run: (run.made, run.id), reverse=True)
        self._listed = {run.id: run for run in runs}
        for kept in (self._described, self._outcomes):
            for gone in [name for name in kept if name not in self._listed]:
                kept.pop(gone, None)

    def _list(self, inventory: Inventory) -> ListedRun:
        known = self._listed.get(inventory.id)
        if known is not None and known.inventory.stamp == inventory.stamp:
            return known
        directory = RunDirectory(inventory.uri)
        try:
            about = directory.about()
            job = directory.job() if "job.json" in inventory.names else None
            question = " ".join(str(about.get("question") or "").split())[:MAX_QUESTION]
            return ListedRun(inventory, _moment(about.get("made")), question, str(job["spec"]["name"]) if job is not None else "")
        except BROKEN as error:
            return ListedRun(inventory, "", "", "", f"{type(error).__name__}: {error}"[:500])

    def _describe(self, run: ListedRun) -> DescribedRun:
        known = self._described.get(run.id)
        if known is not None and known.listed.inventory.stamp == run.inventory.stamp and run.is_answered:
            return known
        described = self._read(run)
        self._described[run.id] = described
        return described

    def _read(self, run: ListedRun) -> DescribedRun:
        if run.problem:
            return DescribedRun(run, "unreadable", run.problem)
        try:
            row, job = Run(run.directory).summary, self._outcome(run)
            state: State = "complete" if row["state"] == "complete" else "partial"
            if not run.is_answered:
                state = "stopped" if lease.holder(run.inventory.uri) is None else "running"
            detail = row["state"].partition(" (")[2].removesuffix(")")
            cost = dollars_text(row["dollars"])
            if job is None:
                return DescribedRun(run, state, detail, int(row["calls"]), cost)
            standing = sum(finding.get("status") != "gone" for finding in job["findings"])
            return DescribedRun(run, state, detail, int(row["calls"]), cost, standing, len(job["failing"]))
        except BROKEN as error:
            return DescribedRun(run, "unreadable", f"{type(error).__name__}: {error}"[:500])

    @staticmethod
    def _in_threads(work: Callable[..., Read], items: Iterable[object]) -> list[Read]:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(work, items))


def _searched(run: ListedRun) -> str:
    return f"{run.id}\n{run.question}\n{run.job}".casefold()


def _moment(made: object) -> str:
    """When a run was made; nothing where that is no time. A word in its place would stand before all times.

    Examples
    --------
    >>> _moment("2026-01-02T03:04:05+00:00"), _moment("zebra"), _moment(3)
    ('2026-01-02T03:04:05+00:00', '', '')
    """
    try:
        return made if isinstance(made, str) and datetime.fromisoformat(made) else ""
    except ValueError:
        return ""
