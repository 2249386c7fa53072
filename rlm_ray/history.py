"""Runs that were made: list them, load one, remove one. Reads run directories; calls no model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import SupportsIndex, overload

from rlm_ray import settings as settings_module
from rlm_ray.conversion import saved_answer
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.handle.values import facts_html, rows_html
from rlm_ray.ledger import answers, rundir
from rlm_ray.ledger.calllog import stopped, turns
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.recursion.answer import Answer, partial_because, shown_characters
from rlm_ray.report.gathering import ShownCall, calls_of
from rlm_ray.report.page import Report, report
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import AnswerRecord, RunRecord, RunRow, TurnRecord


class Run:
    """A run as its directory says it: what was asked, how it went, what it answered.

    Attributes
    ----------
    id, uri : str
        The run's id and its directory.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    @property
    def id(self) -> str:
        """The run's id."""
        return self._directory.id

    @property
    def uri(self) -> str:
        """The run's directory."""
        return self._directory.uri

    @cached_property
    def record(self) -> RunRecord:
        """All that the directory says, as JSON: what `rlm-ray show --json` prints."""
        directory = self._directory
        answer, entries = directory.answer(), directory.log("0").events()
        return {
            "run": directory.uri,
            "about": directory.about(),
            "answer": answer,
            "turns": turns(entries),
            "stopped": None if answer is not None else stopped(entries),
            "usage": answer["usage"] if answer is not None else directory.spent().usage.to_json(),
            "failed": directory.failed(),
            "job": directory.outcome_of_job(),
        }

    @cached_property
    def summary(self) -> RunRow:
        """The run in a line: what `rlm-ray runs --json` prints."""
        about, answer = self._directory.about(), self._directory.answer()
        usage = answer["usage"] if answer else self._directory.spent().usage.to_json()
        return {
            "run": self.id,
            "made": about.get("made"),
            "state": _state(answer, self._directory),
            "calls": usage["calls"],
            "dollars": usage["usd"],
            "shown": None if answer is None else shown_characters(answer["coverage"]),
            "question": about.get("question"),
        }

    @property
    def question(self) -> str | None:
        """What was asked; None where it was not stored."""
        return self.summary["question"]

    @property
    def state(self) -> str:
        """Whether it is complete; else why not, or where it stopped."""
        return self.summary["state"]

    @property
    def settings(self) -> JsonObject:
        """What was set, without secrets."""
        return self.record["about"].get("settings", {})

    @cached_property
    def answer(self) -> Answer | None:
        """The answer; None where there is none yet. A table among it is read from the run directory."""
        saved, about = self._directory.answer(), self._directory.about()
        if saved is None:
            return None
        corpora = {name: Manifest.load(self._directory.path("manifest", name)) for name in about.get("corpora", {})}
        return saved_answer(saved, self._directory, settings_module.make(about.get("settings", {})), corpora)

    @property
    def turns(self) -> list[TurnRecord]:
        """The root model's turns: its reply, and its cells with what they gave."""
        return self.record["turns"]

    @property
    def calls(self) -> list[ShownCall]:
        """The tree of calls, the root's first: `id`, `depth`, `question`, `turns` and `outcome` of each."""
        return calls_of(self._directory)

    @property
    def findings(self) -> list[JsonObject]:
        """The findings of a job that stand; none where the run is a question alone."""
        job = self.record["job"]
        return [] if job is None else job["findings"]

    def report(self) -> Report:
        """Return the run as one HTML page that loads nothing: `save` it, or let a notebook show it."""
        return report(self.uri)

    def send_trace(self) -> int:
        """Send the run's trace to the collector of OTEL_EXPORTER_OTLP_ENDPOINT; return how many spans it has.

        Raises
        ------
        MissingExtra
            The extra otel is not installed.
        TraceNotSent
            The collector could not be reached, or refused the trace.
        """
        from rlm_ray.traces import sending

        return sending.send(self._directory)

    def forget(self) -> None:
        """Remove the run's directory, with all prompts, records and answers in it."""
        store = self._directory.about().get("settings", {}).get("answers")
        if store is not None:
            answers.forget(store, self._directory.id)
        self._directory.forget()

    def __repr__(self) -> str:
        question = " ".join((self.question or "(not stored)").split())
        return f"<Run {self.id}: {self.state}; {question if len(question) <= 120 else question[:119] + '…'}>"

    def _repr_html_(self) -> str:
        """Show in a notebook the question and the answer, or where the run stopped."""
        facts = {"question": self.question or "(not stored)", "state": self.state, "run": self.uri}
        head = facts_html(f"Run {self.id}", facts)
        return head if self.answer is None else head + self.answer._repr_html_()


class Runs(list[Run]):
    """Runs, newest first. A list that a notebook shows as a table."""

    @overload
    def __getitem__(self, key: SupportsIndex) -> Run: ...
    @overload
    def __getitem__(self, key: slice) -> Runs: ...
    def __getitem__(self, key: SupportsIndex | slice) -> Run | Runs:
        return Runs(super().__getitem__(key)) if isinstance(key, slice) else super().__getitem__(key)

    def rows(self) -> list[RunRow]:
        """Return a dict for each run: `run`, `made`, `state`, `calls`, `dollars`, `shown`, `question`."""
        return [run.summary for run in self]

    def _repr_html_(self) -> str:
        return rows_html([{**run.summary} for run in self[:50]], len(self), "run")


def load(run: str | Answer, run_dir: str | None = None) -> Run:
    """Return a run that was made. Reads its directory; calls no model.

    Parameters
    ----------
    run : str or Answer
        Its directory, its id, the beginning of one id alone; or its answer.
    run_dir : str, optional
        The folder of run directories; from the environment where not given.

    Raises
    ------
    RunNotFound
        There is no such run, or several ids begin so.
    """
    if isinstance(run, Answer):
        run = run.run
    return Run(RunDirectory.find(run, run_dir or settings_module.load().run_dir))


def runs(run_dir: str | None = None) -> Runs:
    """Return the runs under a folder, newest first.

    Parameters
    ----------
    run_dir : str, optional
        The folder of run directories; from the environment where not given.

    Returns
    -------
    Runs
        A list of `Run`; a notebook shows it as a table.
    """
    return Runs(listed(run_dir or settings_module.load().run_dir))


def listed(base: str | None = None) -> Iterator[Run]:
    """Iterate over the runs under a folder, newest first."""
    known = [(directory, directory.about()) for directory in rundir.runs(base)]
    known.sort(key=lambda item: (item[1].get("made") or "", item[0].id), reverse=True)
    for directory, _ in known:
        yield Run(directory)


def _state(answer: AnswerRecord | None, directory: RunDirectory) -> str:
    if answer is None:
        return f"unfinished ({stopped(directory.log('0').events())})"
    return "complete" if answer["complete"] else f"partial ({partial_because(answer['stop_reason'], answer['failures'])})"
