"""Recursive calls, as jobs: each a Recursive Language Model of its own, one level deeper, as one task.

So many are live at a time as this call's width allows, and the children share the width, so that a deep tree never has
more than that many processes at any depth.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rlm_ray.errors import BudgetExceeded, ClusterError, DepthExceeded, RlmRayError, SubcallFailed
from rlm_ray.handle.plan import Plan, Slice
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.ledger.segments import Segment, SegmentWriter
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.answer import as_text
from rlm_ray.recursion.cell_reports import ends_run
from rlm_ray.recursion.jobs.lending import Purse
from rlm_ray.recursion.jobs.loans import Settling, ended_and_live, may_run_again
from rlm_ray.recursion.jobs.progress import BatchTally, Spending
from rlm_ray.recursion.jobs.results import Results, ResultState
from rlm_ray.recursion.jobs.scheduler import Job, Moment, Promise, Until
from rlm_ray.recursion.ports import Asked, Call, CallOutcome, Future, Ports
from rlm_ray.recursion.verbs.batches import Batches, answer_columns
from rlm_ray.recursion.verbs.scans import FailureLog, Scans, target
from rlm_ray.sandbox.outside import counts
from rlm_ray.settings import Settings
from rlm_ray.subcalls.schema import AnswerSchema


class Recursions:
    """The recursive verbs of one call."""

    def __init__(
        self, call: Call, ports: Ports, scans: Scans, results: Results, batches: Batches, purse: Purse, failures: FailureLog
    ) -> None:
        self._call = call
        self._settings = call.settings
        self._ports = ports
        self._scans = scans
        self._results = results
        self._batches = batches
        self._purse = purse
        self._failures = failures
        self._run = RunDirectory(call.run_dir)
        self._live: set[Recursing] = set()
        self._line: list[object] = []  # batches that have a call to start
        self._moved = Promise()
        self._waiting: dict[int, int] = {}  # calls of each batch that have not begun
        self._lasts = 0.0  # seconds of a call, of late
        self.notes: list[str] = []
        self.outcomes: list[CallOutcome] = []
        self.events: dict[str, int] = {}  # security events of all of them
        self.below: list[Call] = []  # that an earlier session finished

    def batched(
        self, questions: list[str], parts: list[str | Plan], asked: Asked, single: bool = False, model: str | None = None
    ) -> Job:
        """Ask recursive calls; return answers and errors by index, or the one answer. `model` writes their code."""
        if not asked.again:
            self._purse.check(len(questions))
        answers: list[str | None] = [None] * len(questions)
        errors: dict[int, str] = {}
        for index, told in (yield from self._recurse(list(zip(questions, parts, strict=True)), None, asked, model=model)):
            if told["error"] is None:
                answers[index] = as_text(told["value"])
            else:
                errors[index] = told["error"]
        if single:
            if errors:
                at_the_end = self._call.depth >= self._settings.max_depth and "too large" in errors[0]
                raise (DepthExceeded if at_the_end else SubcallFailed)(f"The recursive call failed: {errors[0]}")
            return answers[0]
        return {"answers": answers, "errors": errors}

    def map(self, question: str, parts: list[str | Plan], schema: Any, asked: Asked, keep: bool = False) -> Job:
        """Start a recursive call per part; return the handle of the result at once."""
        answer = AnswerSchema.of(schema)
        if not asked.again:
            self._purse.check(len(parts))
        elif (before := self._results.finished(asked.name)) is not None:
            if self._call.replay:
                self._reached(parts, question, answer if answer.typed else None, asked)
            return before.reply()
        columns = {**answer_columns(schema), "_address": "string", "_part": "int64", "_call": "string", "_error": "string"}
        state = self._results.new(asked.name, answer_columns(schema), len(parts))

        told: list[tuple[int, dict[str, Any]]] = []

        def written(name: str) -> list[Segment]:
            writer = SegmentWriter(self._results.folder(state.id), name, columns)
            for index, row in sorted(told, key=lambda item: item[0]):
                writer.add(_row(row, index, answer))
            return [self._ports.keep(segment) for segment in writer.close()]

        def work() -> Job:
            yield from self._recurse([(question, part) for part in parts], answer if answer.typed else None, asked, state, told)
            state.segments = written("000000")

        state.rows = lambda: written(f"so-far-{len(told):06d}")
        state.key = target("rlm_map", parts)
        self._batches.begin(state, work(), "rlm_map", question, keep)
        return state.reply()
        yield

    def _recurse(
        self,
        questions: list[tuple[str, str | Plan]],
        schema: AnswerSchema | None,
        asked: Asked,
        state: ResultState | None = None,
        told: list[tuple[int, dict[str, Any]]] | None = None,
        model: str | None = None,
    ) -> Job:
        """Run recursive calls, as many at a time as the width allows; return (index, what it came to) in any order.

        `told` is filled as they end.
        """
        told = [] if told is None else told
        if self._call.depth >= self._settings.max_depth:
            told += yield from self._as_leaves(questions, schema, asked, model)
            return told
        settings = self._settings if model is None else self._settings.with_root(self._batches.known_model(model))
        counted = self._batches.tally.begin(len(questions), recursive=True)
        try:
            return (yield from self._all(questions, schema, asked, state, told, settings, counted))
        finally:
            self._batches.tally.end(counted)
            self._waiting.pop(id(counted), None)

    def _all(
        self,
        questions: list[tuple[str, str | Plan]],
        schema: AnswerSchema | None,
        asked: Asked,
        state: ResultState | None,
        told: list[tuple[int, dict[str, Any]]],
        settings: Settings,
        counted: BatchTally,
    ) -> Job:
        live: list[tuple[int, Any]] = []
        for index, (question, part) in enumerate(questions):
            self._waiting[id(counted)] = len(questions) - index
            call = self._call_for(f"{asked.name}-{index}", question, part, schema, len(questions), settings)
            start = functools.partial(self._recursive_call, call, len(questions), asked.again, counted)
            ticket = object()
            try:
                address = yield from self._address(part)
                self._line.append(ticket)  # batches take turns: one behind another that is long need not wait for all of it
                while (later := self._later(ticket)) is not None:
                    yield Until((*self._live, self._moved, *later), 1)
                    live = self._told(live, told, state, counted)
                future = yield from self._when_paid_for(start)
            except RlmRayError as error:
                if ends_run(error):
                    raise
                told.append((index, {"value": None, "error": f"{type(error).__name__}: {error}", "address": None, "call": None}))
                counted.done, counted.failed = counted.done + 1, counted.failed + 1
                continue
            finally:
                self._leave(ticket)
            future.address, future.start = address, start
            live.append((index, future))
        self._waiting.pop(id(counted), None)
        while live:
            yield Until(tuple(future for _, future in live), 1)
            live = self._told(live, told, state, counted)
        return told

    def _later(self, ticket: object) -> tuple[Moment, ...] | None:
        """Return None when the ticket's call may begin, else when to look again beside when a call ends."""
        if self._line[0] is not ticket or len(self._live) >= self._call.width:
            return ()
        seconds = self._ports.room(len(self._live), self._ahead())
        return (Moment(seconds),) if seconds > 0 else None

    def _ahead(self) -> float:
        """Return seconds in which all that waits will have begun on the places that are taken now, as far as can be said."""
        if not self._live:
            return 0.0
        now = time.monotonic()
        lasts = max(self._lasts, *(now - one.began for one in self._live))
        return lasts * max(1.0, sum(self._waiting.values()) / len(self._live))

    def _leave(self, ticket: object) -> None:
        if ticket in self._line:
            self._line.remove(ticket)
        moved, self._moved = self._moved, Promise()
        moved.set()

    def _when_paid_for(self, start: Callable[[], Any]) -> Job:
        """Start a call; where nothing is left for it, wait for what others give back."""
        while True:
            try:
                return start()
            except BudgetExceeded:
                if not self._purse.budget.lent:
                    raise
            yield Until((self._purse.returned(),))

    def _told(
        self, live: list[tuple[int, Any]], told: list[Any], state: ResultState | None, counted: BatchTally
    ) -> list[tuple[int, Any]]:
        ended, live = ended_and_live(live)
        for index, future in ended:
            row = {"value": None, "error": None, "address": future.address, "call": future.call}
            try:
                outcome: CallOutcome = future.result()
            except RlmRayError as error:
                if ends_run(error):
                    raise
                if (anew := self._anew(future, error)) is not None:
                    live = [*live, (index, anew)]
                    continue
                row["error"] = f"{type(error).__name__}: {error}"
            else:
                self.outcomes.append(replace(outcome, value=None))
                counts.add(self.events, outcome.events)
                self._failures.add(outcome.failures)
                self._failures.verbs.extend(outcome.failed_verbs, future.call)
                row["value"] = outcome.value
                if outcome.kind == "none":
                    row["error"] = f"no answer ({outcome.stop_reason}){': ' + outcome.said if outcome.said else ''}"
            told.append((index, row))
            for one in (counted,) if state is None else (counted, state):
                one.done += 1
                one.failed += row["error"] is not None
        return live

    def _anew(self, lost: Recursing, error: RlmRayError) -> Recursing | None:
        """Begin a call again whose worker was lost: it goes on where its log ends."""
        if not isinstance(error, ClusterError) or not may_run_again(error, lost.losses + 1):
            return None
        try:
            again: Recursing = lost.start()
        except BudgetExceeded:
            return None
        again.address, again.start, again.losses = lost.address, lost.start, lost.losses + 1
        return again

    def _call_for(
        self, name: str, question: str, part: str | Plan, schema: AnswerSchema | None, siblings: int, settings: Settings
    ) -> Call:
        return replace(
            self._call,
            id=f"{self._call.id}-{name}",
            depth=self._call.depth + 1,
            question=question,
            settings=settings,
            text=part if isinstance(part, str) else None,
            contexts={} if isinstance(part, str) else {"context": {"plan": part.to_json(), "info": None}},
            main=None if isinstance(part, str) else "context",
            width=max(1, self._call.width // self._at_once(siblings)),
            schema=schema.json_schema if schema is not None else None,
        )

    def _at_once(self, siblings: int) -> int:
        return max(1, min(self._call.width, siblings))

    def _recursive_call(self, call: Call, siblings: int, again: bool, counted: BatchTally) -> Any:
        before = self._run.outcome(call.id) if again or call.replay else None
        if before is not None and (before["kind"] != "none" or call.replay):
            self.below.append(call)
            return Ended(call.id, CallOutcome.from_json(before))
        budget = self._purse.lend_call(self._at_once(siblings))

        def progress(spent: Usage, projected: Usage | None) -> None:
            if budget.name in counted.live:
                counted.live[budget.name] = Spending(spent, projected)

        counted.live[budget.name] = Spending()
        future = self._ports.recurse(replace(call, budget=budget), progress)
        made = Recursing(future, budget, call.id, self, self._purse, counted)
        self._live.add(made)
        return made

    def _reached(self, parts: list[str | Plan], question: str, schema: AnswerSchema | None, asked: Asked) -> None:
        """Take note of the calls of a batch that has ended: a verification goes on with them."""
        for index, part in enumerate(parts):
            call = self._call_for(f"{asked.name}-{index}", question, part, schema, len(parts), self._settings)
            if self._run.outcome(call.id) is not None:
                self.below.append(call)

    def _address(self, part: str | Plan) -> Job:
        """Return the address of a part's first record."""
        if isinstance(part, str):
            return None
        first = yield from self._scans.head(part.then(Slice(0, 1)), 1)
        return first[0].get("_address") if first else None

    def _as_leaves(
        self, questions: list[tuple[str, str | Plan]], schema: AnswerSchema | None, asked: Asked, model: str | None
    ) -> Job:
        """At the deepest level: one plain call where the part fits one."""
        depth = f"depth {self._call.depth} of {self._settings.max_depth}"
        rows = yield from self._batches.about(questions, schema.json_schema if schema is not None else None, model, asked)
        told: list[tuple[int, dict[str, Any]]] = []
        for index, row in enumerate(rows):
            error = row["error"]
            if error is not None:
                error = f"This is {depth}, where a recursive call is one plain call, and it failed: {error}"
            told.append((index, {"value": row["answer"], "error": error, "address": row["address"], "call": None}))
        self.notes.append(f"At {depth} a recursive call is one plain call: {len(rows):,} were.")
        return told

    def account(self, call: str) -> tuple[Any, tuple[int, int, int]]:
        """Return what the ledger knows of a call and all below it; see `RunDirectory.account`."""
        return self._run.account(call)

    def ended(self, recursing: Recursing) -> None:
        """Free a place."""
        self._live.discard(recursing)
        lasted = time.monotonic() - recursing.began
        self._lasts = lasted if not self._lasts else 0.7 * self._lasts + 0.3 * lasted


class Ended:
    """A recursive call that an earlier session finished."""

    address: str | None = None
    start: Any = None

    def __init__(self, call: str, outcome: CallOutcome) -> None:
        self.call = call
        self._outcome = outcome

    def done(self) -> bool:
        """Always."""
        return True

    def result(self) -> CallOutcome:
        """Return what it came to."""
        return self._outcome

    def cancel(self) -> None:
        """Do nothing."""


class Recursing(Settling):
    """A recursive call under way."""

    address: str | None = None
    start: Any = None
    losses = 0

    def __init__(self, future: Future, budget: Any, call: str, owner: Recursions, purse: Purse, counted: BatchTally) -> None:
        super().__init__(future, budget, purse, counted, lambda: owner.account(call))
        self.call = call
        self.began = time.monotonic()
        self._owner = owner

    def _end(self) -> None:
        """Its place is free again."""
        super()._end()
        self._owner.ended(self)


def _row(told: dict[str, Any], index: int, schema: AnswerSchema) -> dict[str, Any]:
    row = {"_address": told["address"], "_part": index, "_call": told["call"], "_error": told["error"]}
    if told["error"] is not None:
        return row
    value = told["value"]
    if not schema.typed:
        return row | {"answer": as_text(value)}
    try:
        checked = schema.validate(value)
    except ValueError as error:
        return row | {"_error": f"The answer does not fit the schema: {error}"}
    return row | checked
