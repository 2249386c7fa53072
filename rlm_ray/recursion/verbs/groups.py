"""Groups of leaf calls under way: each gets a slice of the budget, is one task, and gives its slice back.

A group whose slice ran out runs again when repaid slices suffice for it; a group that lost its worker is started again.
Earlier answers are taken from the ledger.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import ClusterError
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.budget.amounts import NOTHING, Amount
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.jobs.batch_plans import Learned
from rlm_ray.recursion.jobs.contents import GroupContents
from rlm_ray.recursion.jobs.loans import BudgetLoan, may_run_again, settle_ended, starting
from rlm_ray.recursion.jobs.progress import BatchTally, Spending, Tally
from rlm_ray.recursion.jobs.results import ResultState
from rlm_ray.recursion.jobs.scheduler import Job, Timer, Until
from rlm_ray.recursion.leaf.values import LeafSpec
from rlm_ray.recursion.ports import Future, LeafGroup, LeafOutcome, Prompted
from rlm_ray.recursion.verbs.context import CallContext

#: Groups in flight for each CPU: one works while the next is on its way.
GROUPS_PER_CPU = 2
#: Seconds between two looks whether the first group of a batch has a usable reply.
_TRIAL_LOOK = 0.02
#: Calls that a slice reaches for at least, by their upper estimates, when groups run again.
LEAST_CALLS = 8


@dataclass(slots=True)
class Piece:
    """The data of one group of a batch.

    Attributes
    ----------
    calls : int
        That it needs at least.
    reported : list of int
        Rows done and failed that were counted.
    losses : int
        Workers that were lost with it.
    contents : GroupContents, optional
        Those that other records of the batch have as well.
    failed : dict of str to str
        Errors by key, of what other groups asked about in vain.
    """

    number: int
    calls: int
    parts: tuple[Any, ...] = ()
    works: tuple[Work, ...] = ()
    first: int = 0
    reported: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    losses: int = 0
    contents: GroupContents | None = None
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Trial:
    """Whether a model has answered a question in form: until it has, one group of a batch asks it, and few times.

    Attributes
    ----------
    trusted : bool
        It has.
    unusable : str, optional
        Why the batch was stopped.
    """

    trusted: bool = False
    unusable: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The parts that all groups of a batch share.

    Attributes
    ----------
    columns : dict
        Type by column of the rows to write.
    folder : str
        Where the segments go.
    expected : int
        Distinct contents that are to be asked about, or rows that are to come where equal ones are asked about apart.
    landed : callable
        Called with the number and outcome of each group that ended.
    trial : Trial
        Of its question.
    """

    state: ResultState
    spec: LeafSpec
    columns: dict[str, str]
    folder: str
    expected: int
    landed: Callable[[int, LeafOutcome], None] = lambda number, outcome: None
    trial: Trial = field(default_factory=Trial)


class Groups:
    """Runs the groups of batches on slices of the budget."""

    def __init__(self, context: CallContext, tally: Tally) -> None:
        self._call = context.call
        self._ports = context.ports
        self._results = context.results
        self._lender = context.lender
        self._failures = context.failures
        self._tally = tally
        self._read_log = context.read_log
        self._run_dir = RunDirectory(context.call.run_dir)

    def run(self, batch: Batch, groups: list[Piece]) -> Job:
        """Run the groups of a batch and return their outcomes, in order."""
        counted = self._tally.begin(batch.expected)
        try:
            return (yield from self._run(batch, groups, counted))
        finally:
            self._tally.end(counted)
            batch.state.used = counted.settled

    def _run(self, batch: Batch, groups: list[Piece], counted: BatchTally) -> Job:
        outcomes: dict[int, LeafOutcome] = {}
        spread, todo, left = 0, groups, None
        while todo:
            self._defer(groups, outcomes)
            yield from self._round(batch, todo, counted, outcomes, spread, whole=todo is not groups)
            todo = [group for group in groups if outcomes[group.number].unasked]
            if not todo:
                break
            # rows that wait for another group's answers cost nothing, so they need no room in the budget
            deferred = sum(outcomes[group.number].deferred for group in todo)
            if deferred and deferred != left:
                todo, left = [group for group in todo if outcomes[group.number].deferred], deferred
                continue
            needed = max(Amount(*(outcomes[group.number].refused or NOTHING)) for group in todo)
            while (problem := self._lender.problem(needed)) is not None and self._lender.budget.lent:
                yield from self._lender.next_repayment()
            if problem is not None:
                self._lender.exhaust(problem)
                break
            spread = max(1, min(self._most(), len(todo), self._lender.times(needed) // LEAST_CALLS))
        return [outcomes[group.number] for group in groups]

    def _defer(self, groups: Sequence[Piece], outcomes: Mapping[int, LeafOutcome]) -> None:
        """Let each group defer what another group that has not ended asks about, and know what one that has ended asked in vain."""
        waits = frozenset(group.number for group in groups if group.number not in outcomes or outcomes[group.number].unasked)
        failed = {key: error for outcome in outcomes.values() for key, error in outcome.failed.items()}
        for group in groups:
            group.failed = failed
            if group.contents is not None:
                group.contents = replace(group.contents, waits=waits)

    def _most(self) -> int:
        """Return how many groups may be in flight; nodes come and go."""
        return GROUPS_PER_CPU * self._ports.capacity()

    def _round(
        self, batch: Batch, groups: list[Piece], counted: BatchTally, outcomes: dict[int, LeafOutcome], spread: int, whole: bool
    ) -> Job:
        """Run groups once each, `spread` at a time (0: as many as the cluster bears). A group that lost its worker starts again."""
        limit = spread
        waiting = deque(groups)
        pending: list[tuple[Piece, BudgetLoan]] = []
        alone = len(groups) == 1 and not whole
        trial = batch.trial
        tried = trial.trusted  # or a group has ended
        while waiting or pending:
            spread = limit or self._most() if tried else 1
            while waiting and len(pending) < spread:
                group = waiting.popleft()
                rest = sum(other.calls for other in waiting)
                at_once = min(spread, len(waiting) + len(pending) + 1) if whole else 1 if alone else spread
                tokens = largest(group) if alone and batch.spec.kind == "prompts" else None
                budget = self._lender.lend(group.calls, batch.spec, at_once, rest, whole and at_once == 1, tokens)
                pending.append((group, self._start(batch, group, counted, budget, not alone)))
            futures: tuple[Future, ...] = tuple(future for _, future in pending)
            yield Until(futures if tried or not waiting else (*futures, Timer(_TRIAL_LOOK)), 1)
            ended, pending = settle_ended(pending)
            tried = trial.trusted or bool(ended) or tried
            for group, future in ended:
                outcome = self._settled(group, future)
                if outcome is None:
                    waiting.append(group)
                else:
                    batch.state.learned += outcome.learned or Learned()
                    outcomes[group.number] = outcome
                    trial.unusable = trial.unusable or outcome.unusable
                    batch.landed(group.number, outcome)

    def _start(self, batch: Batch, piece: Piece, counted: BatchTally, budget: Budget, spread: bool) -> BudgetLoan:
        uris = {work.shard.uri for work in (*piece.works, *(work for part in piece.parts for work in _works(part)))}
        group = LeafGroup(
            batch.state.id,
            piece.number,
            batch.spec,
            piece.parts,
            piece.works,
            batch.columns,
            batch.folder,
            budget,
            self._call.settings,
            piece.calls,
            run_dir=self._call.run_dir,
            tables=self._results.mirrors(uris),
            others=self._call.others,
            first=piece.first,
            id=f"{self._call.id}:{secrets.token_hex(4)}",
            depth=self._call.depth,
            contents=piece.contents,
            failed=piece.failed,
            trusted=batch.trial.trusted,
            unusable=batch.trial.unusable,
        )
        reported = piece.reported

        def progress(done: int, failed: int, spent: Usage, contents: tuple[int, int]) -> None:
            for one, now, before in ((batch.state, (done, failed), reported[:2]), (counted, contents, reported[2:])):
                one.done += now[0] - before[0]
                one.failed += now[1] - before[1]
            reported[:] = [done, failed, *contents]
            batch.trial.trusted |= done > failed
            if budget.name in counted.live:
                counted.live[budget.name] = Spending(spent)

        counted.live[budget.name] = Spending()  # here: another thread must not change the size of what this one looks through
        with starting(budget, self._lender, counted):
            future = self._ports.leaves(group, progress, spread)
        return BudgetLoan(future, budget, self._lender, counted, lambda: self._run_dir.account(group.id))

    def _settled(self, group: Piece, future: Future) -> LeafOutcome | None:
        """Return the outcome of a group; None if it lost its worker and may run again."""
        try:
            outcome: LeafOutcome = future.result()
        except ClusterError as error:
            group.losses += 1
            if not may_run_again(error, group.losses):
                raise
            return None
        self._failures.add(outcome.failures)
        self._read_log.add(outcome.noted)
        return outcome


def largest(group: Piece) -> int | None:
    """Return the most bytes of one of a group's bare prompts, each of which is at least one token; None where there are others."""
    if group.works or not all(isinstance(part, str) for part in group.parts):
        return None
    return max((len(part.encode("utf-8", "replace")) for part in group.parts), default=None)


def _works(part: Any) -> tuple[Work, ...]:
    return part.works if isinstance(part, Prompted) else () if isinstance(part, str) else part
