"""A call's side of the budget: lends slices to groups and recursive calls, and reports the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm_ray.errors import BudgetExceeded
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.budget.amounts import NANO, Amount, Limits
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.budget.measures import Measures
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.recursion.jobs.scheduler import Job, Promise, Until
from rlm_ray.text import counted

if TYPE_CHECKING:
    from rlm_ray.recursion.jobs.loans import BudgetLoan
    from rlm_ray.recursion.leaf.group import LeafSpec

#: Factor on the calls needed, and calls beside it, for retries of incomplete replies.
SLACK = 4
EXTRA = 16
KNOWN_SLACK = 3
PROMPT_OVERHEAD = 1_000
#: Name of a slice that is empty because nothing was left.
NOT_LENT = "none"


class BudgetLender:
    """Lends slices of one budget and takes them back.

    Parameters
    ----------
    meter : BudgetMeter
        Holds the budget; this process's own calls (the root's) reserve there too.
    """

    def __init__(self, meter: BudgetMeter) -> None:
        self.meter = meter
        #: Work under way that holds a slice.
        self.loans: set[BudgetLoan] = set()
        #: Sums of the model calls, here and below.
        self.measures = Measures()
        self._waiting: list[Promise] = []

    @property
    def budget(self) -> Budget:
        """The budget as it is now."""
        return self.meter.budget

    def check(self, calls: int) -> None:
        """Refuse a batch that needs more calls than are left, before anything is spent."""
        self.budget.check(calls)

    def lend(
        self, calls: int, spec: LeafSpec, spread: int, rest: int = 0, whole: bool = False, tokens: int | None = None
    ) -> Budget:
        """Lend a slice for a group of leaf calls; an empty one where nothing is left, so that its rows say why.

        Parameters
        ----------
        calls : int
            Calls that it needs at least. It gets more where more is free, since incomplete replies are retried.
        spread : int
            Groups that are in flight at once.
        rest : int
            Calls that the batch's later groups need: they are not lent away.
        whole : bool
            Lend all that is left.
        tokens : int, optional
            Most prompt tokens of one of its calls, where that is known: then it gets no more than some such calls take, so
            that many small questions are asked at once.
        """
        left = self.budget.left
        most = calls * SLACK + EXTRA if tokens is None else calls * KNOWN_SLACK
        free = None if left["calls"] is None else max(0, int(left["calls"]) - rest)
        wanted = most if free is None else min(most, max(calls, free // spread))
        size = (round(spec.call_tokens * spec.bytes_per_token) if tokens is None else tokens) + PROMPT_OVERHEAD
        each = size + spec.completion_tokens
        usd = None if left["usd"] is None else left["usd"] / spread if spread > 1 else left["usd"] / 2
        if usd is not None and tokens is not None:
            usd = min(usd, wanted * self.meter.estimate(size, spec.completion_tokens, spec.model).nanodollars / NANO)
        try:
            if whole:
                return self.meter.split()
            return self.meter.split(
                calls=None if left["calls"] is None else min(int(left["calls"]), wanted),
                tokens=None if left["tokens"] is None else min(wanted * each, int(left["tokens"]) // spread),
                usd=usd,
            )
        except BudgetExceeded as error:
            return Budget(Limits(0, 0, 0), exhausted=str(error), name=NOT_LENT)

    def lend_call(self, at_once: int) -> Budget:
        """Lend a slice for a recursive call: its share among those that run at once."""
        left = self.budget.left
        calls = left["calls"]
        if calls is not None and calls < 1:
            raise BudgetExceeded("No calls are left for a recursive call. Answer from what is there, or raise max_calls.")
        return self.meter.split(
            calls=None if calls is None else max(1, int(calls) // (at_once + 1)),
            tokens=None if left["tokens"] is None else int(left["tokens"]) // (at_once + 1),
            usd=None if left["usd"] is None else left["usd"] / (at_once + 1),
            deeper=True,
        )

    def repay(self, child: Budget) -> None:
        """Take a slice back with what is unspent."""
        if child.name in self.meter.budget.lent:  # one that was refused was never lent
            self.meter.absorb(child)
        self._notify()

    def write_off(self, child: Budget, proven: Usage | None = None, unproven: tuple[int, int, int] | None = None) -> None:
        """Write off the slice of a task that died; see `Budget.write_off`."""
        if child.name not in self.meter.budget.lent:
            return
        self.meter.write_off(child.name, proven, None if unproven is None else Amount(*unproven))
        self._notify()

    def problem(self, amount: Amount) -> BudgetExceeded | None:
        """Return why so much could not be set aside now, or None where it could."""
        try:
            self.budget.reserve(calls=amount.calls, prompt_tokens=amount.tokens, nano=amount.nanodollars)
        except BudgetExceeded as error:
            return error
        return None

    def times(self, amount: Amount) -> int:
        """Return how often so much could be set aside now."""
        left = self.budget.left
        free = (left["calls"], left["tokens"], None if left["usd"] is None else round(left["usd"] * NANO))
        return min(
            (int(room // part) for room, part in zip(free, amount, strict=True) if room is not None and part), default=1 << 30
        )

    def exhaust(self, reason: Exception) -> None:
        """Refuse ordinary reservations from now on: the rest does not cover the next call."""
        self.meter.exhaust(str(reason))

    def settle(self) -> None:
        """Settle every loan whose work has ended."""
        for loan in [loan for loan in self.loans if loan.done()]:
            loan.settle()

    def next_repayment(self) -> Job:
        """Wait until a slice comes back, whichever batch lent it."""
        promise = Promise()
        self._waiting.append(promise)
        yield Until((promise, *self.loans), 1)
        self.settle()

    def _notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for promise in waiting:
            promise.set()

    def to_dict(self) -> dict[str, float | None]:
        """Return what is left and spent, as root code sees it."""
        budget, left = self.budget, self.budget.left
        report: dict[str, float | None] = {"calls left": left["calls"], "tokens left": left["tokens"]}
        if left["usd"] is not None:
            report["dollars left"] = round(float(left["usd"]), 4)
        report |= {
            "seconds left": None if left["seconds"] is None else round(float(left["seconds"])),
            "depth left": left["depth"],
            "calls spent": budget.spent.calls,
            "tokens spent": budget.spent.tokens,
        }
        if budget.usage.usd:
            report["dollars spent"] = round(budget.usage.usd, 4)
        return report

    def summary(self) -> str:
        """Return what is left, in words for the root."""
        left = self.budget.left
        parts = [counted(left["calls"], "call")] if left["calls"] is not None else []
        if left["tokens"] is not None:
            parts.append(counted(left["tokens"], "token"))
        if left["usd"] is not None:
            parts.append(f"${left['usd']:.4f}")
        if left["seconds"] is not None:
            parts.append(counted(round(left["seconds"]), "second"))
        return f"Left: {', '.join(parts)}." if parts else ""
