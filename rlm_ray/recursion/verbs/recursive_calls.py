"""Recursive calls, as jobs: each a Recursive Language Model of its own, one level deeper, as one task.

So many are live at a time as this call's width allows, and the children share the width, so that a deep tree never has
more than that many processes at any depth.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rlm_ray.errors import BudgetExceeded, ClusterError, DepthExceeded, RlmRayError, SubcallFailed
from rlm_ray.handle.plan import Plan, Slice
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.ledger.segments import Segment, SegmentWriter
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.answer import as_text
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.cell_reports import ends_run
from rlm_ray.recursion.jobs.lending import BudgetLender
from rlm_ray.recursion.jobs.loans import BudgetLoan, may_run_again, settle_ended, starting
from rlm_ray.recursion.jobs.progress import BatchTally, Spending
from rlm_ray.recursion.jobs.results import ResultState
from rlm_ray.recursion.jobs.scheduler import Job, Promise, Timer, Until, immediate
from rlm_ray.recursion.ports import Call, CallOutcome, Future, RequestKey
from rlm_ray.recursion.verbs.batches import Batches, answer_columns
from rlm_ray.recursion.verbs.context import CallContext
from rlm_ray.recursion.verbs.scans import Scans, target
from rlm_ray.sandbox.outside import counts
from rlm_ray.settings import Settings
from rlm_ray.subcalls.quotes import refuse_quotes
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.types.run import Context


class RecursiveCalls:
    """The recursive verbs of one call."""

    def __init__(self, context: CallContext, scans: Scans, batches: Batches) -> None:
        self._call = context.call
        self._settings = context.call.settings
        self._ports = context.ports
        self._scans = scans
        self._results = context.results
        self._batches = batches
        self._lender = context.lender
        self._failures = context.failures
        self._run = RunDirectory(context.call.run_dir)
        self._live: set[RecursiveCall] = set()
        self._line: list[object] = []  # batches with a call to start
        self._moved = Promise()
        self._waiting: dict[int, int] = {}  # calls of each batch that have not started
        self._lasts = 0.0  # recent average of a call's seconds
        self._notes: list[str] = []
        self.outcomes: list[CallOutcome] = []
        self.events: dict[str, int] = {}  # security events of all of them
        self.below: list[Call] = []  # that an earlier session finished

    def batched(
        self, questions: list[str], parts: list[str | Plan], request: RequestKey, single: bool = False, model: str | None = None
    ) -> Job:
        """Ask recursive calls; return answers and errors by index, or the one answer. `model` writes their code."""
        if not request.resumed:
            self._lender.check(len(questions))
        answers: list[str | None] = [None] * len(questions)
        errors: dict[int, str] = {}
        replies: dict[int, Reply]
        replies = yield from self._recurse(list(zip(questions, parts, strict=True)), None, request, model=model)
        for index, reply in replies.items():
            if reply.error is None:
                answers[index] = as_text(reply.value)
            else:
                errors[index] = reply.error
        if single:
            if errors:
                at_the_end = self._call.depth >= self._settings.max_depth and "too large" in errors[0]
                raise (DepthExceeded if at_the_end else SubcallFailed)(f"The recursive call failed: {errors[0]}")
            return answers[0]
        return {"answers": answers, "errors": errors}

    @immediate
    def map(self, question: str, parts: list[str | Plan], schema: Any, request: RequestKey, keep: bool = False) -> Context:
        """Start a recursive call per part; return the handle of the result at once."""
        answer = AnswerSchema.of(schema)
        refuse_quotes(answer, "rlm_map")
        if not request.resumed:
            self._lender.check(len(parts))
        elif (before := self._results.finished(request.name)) is not None:
            if self._call.replay:
                self._reached(parts, question, answer if answer.typed else None, request)
            return before.reply()
        columns = {**answer_columns(schema), "_address": "string", "_part": "int64", "_call": "string", "_error": "string"}
        state = self._results.new(request.name, answer_columns(schema), len(parts))

        replies: dict[int, Reply] = {}

        def written(name: str) -> list[Segment]:
            writer = SegmentWriter(self._results.folder(state.id), name, columns)
            for index in sorted(replies):
                writer.add(_row(replies[index], index, answer))
            return writer.close()

        def work() -> Job:
            yield from self._recurse(
                [(question, part) for part in parts], answer if answer.typed else None, request, state, replies
            )
            state.segments = written("000000")

        state.rows = lambda: written(f"so-far-{len(replies):06d}")
        state.key = target("rlm_map", parts)
        self._batches.begin(state, work(), "rlm_map", question, keep)
        return state.reply()

    def _recurse(
        self,
        questions: list[tuple[str, str | Plan]],
        schema: AnswerSchema | None,
        request: RequestKey,
        state: ResultState | None = None,
        replies: dict[int, Reply] | None = None,
        model: str | None = None,
    ) -> Job:
        """Run recursive calls, as many at a time as the width allows; return their replies by index, in any order.

        `replies` is filled as they end.
        """
        replies = {} if replies is None else replies
        if self._call.depth >= self._settings.max_depth:
            replies |= yield from self._as_leaves(questions, schema, request, model)
            return replies
        settings = self._settings if model is None else self._settings.with_root(self._batches.known_model(model))
        counted = self._batches.tally.begin(len(questions), recursive=True)
        try:
            return (yield from self._all(questions, schema, request, state, replies, settings, counted))
        finally:
            self._batches.tally.end(counted)
            self._waiting.pop(id(counted), None)

    def _all(
        self,
        questions: list[tuple[str, str | Plan]],
        schema: AnswerSchema | None,
        request: RequestKey,
        state: ResultState | None,
        replies: dict[int, Reply],
        settings: Settings,
        counted: BatchTally,
    ) -> Job:
        live: Live = []
        for index, (question, part) in enumerate(questions):
            self._waiting[id(counted)] = len(questions) - index
            call = self._call_for(f"{request.name}-{index}", question, part, schema, len(questions), settings)
            start = functools.partial(self._recursive_call, call, len(questions), request.resumed, counted)
            ticket = object()
            try:
                address = yield from self._address(part)
                self._line.append(ticket)  # batches take turns: one behind another that is long need not wait for all of it
                while (later := self._later(ticket)) is not None:
                    yield Until((*self._live, self._moved, *later), 1)
                    self._lender.settle()  # also calls of other batches, whose places are free again
                    live = self._collect(live, replies, state, counted)
                future = yield from self._when_paid_for(start)
            except RlmRayError as error:
                if ends_run(error):
                    raise
                replies[index] = Reply(None, f"{type(error).__name__}: {error}")
                counted.done, counted.failed = counted.done + 1, counted.failed + 1
                continue
            finally:
                self._leave(ticket)
            live.append((Started(index, call.id, address, start), future))
        self._waiting.pop(id(counted), None)
        while live:
            yield Until(tuple(future for _, future in live), 1)
            live = self._collect(live, replies, state, counted)
        return replies

    def _later(self, ticket: object) -> tuple[Timer, ...] | None:
        """Return None when the ticket's call may begin, else when to look again beside when a call ends."""
        if self._line[0] is not ticket or len(self._live) >= self._call.width:
            return ()
        seconds = self._ports.room(len(self._live), self._ahead())
        return (Timer(seconds),) if seconds > 0 else None

    def _ahead(self) -> float:
        """Estimate the seconds until all waiting calls will have started on the places that are taken now."""
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

    def _when_paid_for(self, start: Callable[[], RecursiveCall | FinishedCall]) -> Job:
        """Start a call; where nothing is left for it, wait for what others give back."""
        while True:
            try:
                return start()
            except BudgetExceeded:
                if not self._lender.budget.lent:
                    raise
            yield from self._lender.next_repayment()

    def _collect(self, live: Live, replies: dict[int, Reply], state: ResultState | None, counted: BatchTally) -> Live:
        """Take the replies of the calls that have ended; return the calls under way."""
        ended, live = settle_ended(live)
        for started, future in ended:
            value, problem = None, None
            try:
                outcome: CallOutcome = future.result()
            except RlmRayError as error:
                if ends_run(error):
                    raise
                if (restarted := self._restart(started, error)) is not None:
                    live = [*live, restarted]
                    continue
                problem = f"{type(error).__name__}: {error}"
            else:
                self.outcomes.append(replace(outcome, value=None))
                counts.add(self.events, outcome.events)
                self._failures.add(outcome.failures)
                self._failures.verbs.extend(outcome.failed_verbs, started.call)
                value = outcome.value
                if outcome.kind == "none":
                    problem = f"no answer ({outcome.stop_reason}){': ' + outcome.message if outcome.message else ''}"
            replies[started.index] = Reply(value, problem, started.address, started.call)
            for one in (counted,) if state is None else (counted, state):
                one.done += 1
                one.failed += problem is not None
        return live

    def _restart(self, lost: Started, error: RlmRayError) -> tuple[Started, RecursiveCall | FinishedCall] | None:
        """Start a call again that lost its worker: it goes on where its log ends."""
        if not isinstance(error, ClusterError) or not may_run_again(error, lost.losses + 1):
            return None
        try:
            future = lost.start()
        except BudgetExceeded:
            return None
        return replace(lost, losses=lost.losses + 1), future

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

    def _recursive_call(self, call: Call, siblings: int, resumed: bool, counted: BatchTally) -> RecursiveCall | FinishedCall:
        before = self._run.outcome(call.id) if resumed or call.replay else None
        if before is not None and (before["kind"] != "none" or call.replay):
            self.below.append(call)
            return FinishedCall(CallOutcome.from_json(before))
        budget = self._lender.lend_call(self._at_once(siblings))

        def progress(spent: Usage, projected: Usage | None) -> None:
            if budget.name in counted.live:
                counted.live[budget.name] = Spending(spent, projected)

        counted.live[budget.name] = Spending()
        with starting(budget, self._lender, counted):
            future = self._ports.recurse(replace(call, budget=budget), progress)
        made = RecursiveCall(future, budget, call.id, self, self._lender, counted)
        self._live.add(made)
        return made

    def _reached(self, parts: list[str | Plan], question: str, schema: AnswerSchema | None, request: RequestKey) -> None:
        """Take note of the calls of a batch that has ended: a verification goes on with them."""
        for index, part in enumerate(parts):
            call = self._call_for(f"{request.name}-{index}", question, part, schema, len(parts), self._settings)
            if self._run.outcome(call.id) is not None:
                self.below.append(call)

    def _address(self, part: str | Plan) -> Job:
        """Return the address of a part's first record."""
        if isinstance(part, str):
            return None
        first = yield from self._scans.head(part.then(Slice(0, 1)), 1)
        return first[0].get("_address") if first else None

    def _as_leaves(
        self, questions: list[tuple[str, str | Plan]], schema: AnswerSchema | None, request: RequestKey, model: str | None
    ) -> Job:
        """At the deepest level: one plain call where the part fits one."""
        depth = f"depth {self._call.depth} of {self._settings.max_depth}"
        rows = yield from self._batches.about(questions, schema.json_schema if schema is not None else None, model, request)
        replies: dict[int, Reply] = {}
        for index, row in enumerate(rows):
            error = row["error"]
            if error is not None:
                error = f"This is {depth}, where a recursive call is one plain call, and it failed: {error}"
            replies[index] = Reply(row["answer"], error, row["address"])
        self._notes.append(f"At {depth} a recursive call is one plain call: {len(rows):,} were.")
        return replies

    def take_notes(self) -> list[str]:
        """Return the notes for the root model since the last time, once each."""
        notes, self._notes = self._notes, []
        return list(dict.fromkeys(notes))

    def account(self, call: str) -> tuple[Any, tuple[int, int, int]]:
        """Return what the ledger knows of a call and all below it; see `RunDirectory.account`."""
        return self._run.account(call)

    def ended(self, call: RecursiveCall) -> None:
        """Free a place."""
        self._live.discard(call)
        lasted = time.monotonic() - call.began
        self._lasts = lasted if not self._lasts else 0.7 * self._lasts + 0.3 * lasted


class FinishedCall:
    """A recursive call that an earlier session finished: a future that is done."""

    def __init__(self, outcome: CallOutcome) -> None:
        self._outcome = outcome

    def done(self) -> bool:
        """Whether the call has ended, which is always so."""
        return True

    def settle(self) -> None:
        """Do nothing: the earlier session paid."""

    def result(self) -> CallOutcome:
        """Return the call's outcome."""
        return self._outcome

    def cancel(self) -> None:
        """Do nothing."""


class RecursiveCall(BudgetLoan):
    """A recursive call under way."""

    def __init__(
        self, future: Future, budget: Budget, call: str, owner: RecursiveCalls, lender: BudgetLender, counted: BatchTally
    ) -> None:
        super().__init__(future, budget, lender, counted, lambda: owner.account(call))
        self.began = time.monotonic()
        self._owner = owner

    def close(self) -> None:
        """Stop counting the call as live."""
        super().close()
        self._owner.ended(self)


@dataclass(frozen=True, slots=True)
class Started:
    """One recursive call of a batch, and how to start it again.

    Attributes
    ----------
    index : int
        In the batch.
    call : str
        Id of the call.
    address : str, optional
        Of the first record of its part.
    start : callable
        Starts the call, or finds that an earlier session finished it.
    losses : int
        Workers that were lost with it.
    """

    index: int
    call: str
    address: str | None
    start: Callable[[], RecursiveCall | FinishedCall]
    losses: int = 0


#: The started calls of a batch with their futures.
Live = list[tuple[Started, "RecursiveCall | FinishedCall"]]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer of one recursive call, or its error.

    Attributes
    ----------
    value : Any
        JSON value.
    call : str, optional
        Id of the call; None if none was made.
    """

    value: Any
    error: str | None = None
    address: str | None = None
    call: str | None = None


def _row(reply: Reply, index: int, schema: AnswerSchema) -> dict[str, object]:
    row: dict[str, object] = {"_address": reply.address, "_part": index, "_call": reply.call, "_error": reply.error}
    if reply.error is not None:
        return row
    if not schema.typed:
        return row | {"answer": as_text(reply.value)}
    try:
        checked = schema.validate(reply.value)
    except ValueError as error:
        return row | {"_error": f"The answer does not fit the schema: {error}"}
    return row | checked
