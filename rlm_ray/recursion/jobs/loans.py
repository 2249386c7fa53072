"""Work under way that holds a slice of the budget: a future whose slice is settled once, by an explicit step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from rlm_ray.errors import ClusterError
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.jobs.lending import BudgetLender
from rlm_ray.recursion.jobs.progress import BatchTally
from rlm_ray.recursion.jobs.scheduler import Wrapped
from rlm_ray.recursion.ports import Future

ItemT = TypeVar("ItemT")
LoanT = TypeVar("LoanT", bound="SettledFuture")

#: Lost workers of one group after which its batch fails.
MOST_LOSSES = 3

#: Returns what the ledger proves that lost work spent, and the most that was in flight beside it.
Account = Callable[[], tuple[Usage, tuple[int, int, int]]]


class SettledFuture(Future, Protocol):
    """A future with a last step, which is taken once its work has ended."""

    def settle(self) -> None:
        """Close the books on work that has ended."""


class BudgetLoan(Wrapped):
    """Work under way that holds a slice of the budget.

    Asking whether it is done changes nothing; `settle` gives the slice back.

    Parameters
    ----------
    future : Future
        The work; its result has `budget` and `measured`.
    budget : Budget
        The slice.
    lender : BudgetLender
    tally : BatchTally
        Of the batch that the work belongs to.
    account : callable
        Asked only if the work is lost.
    """

    def __init__(self, future: Future, budget: Budget, lender: BudgetLender, tally: BatchTally, account: Account) -> None:
        super().__init__(future)
        self._account = account
        self._budget = budget
        self._lender = lender
        self._tally = tally
        self._closed = False
        lender.loans.add(self)

    def done(self) -> bool:
        """Whether the work has ended, or was given up."""
        return self._closed or self.inner.done()

    def settle(self) -> None:
        """Give the slice back if the work has ended; the slice of lost work is written off. The second time nothing happens."""
        if self._closed or not self.inner.done():
            return
        self.close()
        try:
            outcome = self.inner.result()
        except Exception:  # noqa: BLE001 - `result` raises the error again
            self._write_off()
        else:
            self._lender.repay(outcome.budget)
            self._lender.measures.merge(outcome.measured)
            self._tally.settle(self._budget.name, outcome.budget.usage)

    def give_up(self) -> None:
        """Take the slice back without waiting for the work any longer."""
        if not self._closed:
            self.close()
            self._write_off()

    def close(self) -> None:
        """Stop counting the loan as open."""
        self._closed = True
        self._lender.loans.discard(self)

    def _write_off(self) -> None:
        # the slice counts as spent, except where the ledger proves less: finished calls, and the most that was in flight
        self._lender.write_off(self._budget, *self._account())
        self._tally.settle(self._budget.name, None)

    def result(self) -> Any:
        """Return the work's outcome, or raise its error."""
        return self.inner.result()

    def cancel(self) -> None:
        """Ask the work to end."""
        self.inner.cancel()


@contextlib.contextmanager
def starting(budget: Budget, lender: BudgetLender, tally: BatchTally) -> Iterator[None]:
    """Give a slice back whole if the work that it was lent for cannot start."""
    try:
        yield
    except BaseException:
        lender.repay(budget)
        tally.settle(budget.name, Usage())
        raise


def settle_ended(items: list[tuple[ItemT, LoanT]]) -> tuple[list[tuple[ItemT, LoanT]], list[tuple[ItemT, LoanT]]]:
    """Settle the work that has ended; return it and the work under way.

    Each future is asked once, since one may end while the others are asked.
    """
    ended: list[tuple[ItemT, LoanT]] = []
    live: list[tuple[ItemT, LoanT]] = []
    for item in items:
        if item[1].done():
            item[1].settle()
            ended.append(item)
        else:
            live.append(item)
    return ended, live


def may_run_again(error: ClusterError, losses: int) -> bool:
    """Whether work that lost its worker for the n-th time is started again."""
    return error.worker_lost and losses <= MOST_LOSSES
