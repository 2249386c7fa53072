"""Work under way that holds a slice of the budget: when it ends, however it ends, the slice comes back, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from rlm_ray.errors import ClusterError
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.jobs.lending import Purse
from rlm_ray.recursion.jobs.progress import BatchTally
from rlm_ray.recursion.ports import Future

ItemT = TypeVar("ItemT")
FutureT = TypeVar("FutureT", bound=Future)

#: Workers that may be lost with one group before its batch fails.
MOST_LOSSES = 3


class Settling:
    """A group under way: when it ends, its slice of the budget comes back, once."""

    def __init__(self, future: Future, budget: Budget, purse: Purse, counted: BatchTally, account: Callable[[], Any]) -> None:
        self.inner = future
        self._account = account
        self._budget = budget
        self._purse = purse
        self._counted = counted
        self._over = False
        purse.holders.add(self)

    def done(self) -> bool:
        """Whether it has ended; the first time it has, its slice is settled."""
        if self._over:
            return True
        if not self.inner.done():
            return False
        self._end()
        try:
            outcome = self.inner.result()
        except Exception:  # noqa: BLE001 - the error is raised again where the result is asked for
            self._lost()
        else:
            self._purse.back(outcome.budget)
            self._purse.measures.merge(outcome.measured)
            self._counted.over(self._budget.name, outcome.budget.usage)
        return True

    def give_up(self) -> None:
        """Take its slice back without waiting for it any longer."""
        if not self._over:
            self._end()
            self._lost()

    def _end(self) -> None:
        self._over = True
        self._purse.holders.discard(self)

    def _lost(self) -> None:
        # it counts as spent but for what the ledger proves: what was finished, and the most that was in flight
        self._purse.lost(self._budget, *self._account())
        self._counted.over(self._budget.name, None)

    def result(self) -> Any:
        """Return its outcome, or raise its error."""
        return self.inner.result()

    def cancel(self) -> None:
        """Ask it to end."""
        self.inner.cancel()


def ended_and_live(items: list[tuple[ItemT, FutureT]]) -> tuple[list[tuple[ItemT, FutureT]], list[tuple[ItemT, FutureT]]]:
    """Part what is over from what is under way, looking at each once: one may end while others are looked at."""
    ended: list[tuple[ItemT, FutureT]] = []
    live: list[tuple[ItemT, FutureT]] = []
    for item in items:
        (ended if item[1].done() else live).append(item)
    return ended, live


def may_run_again(error: ClusterError, losses: int) -> bool:
    """Whether work whose worker was lost, for the n-th time, is begun anew."""
    return error.worker_lost and losses <= MOST_LOSSES
