"""A loan is asked without effect, and settled once, however its work ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from rlm_ray.errors import ClusterError
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.budget.measures import Rows
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.recursion.jobs.lending import BudgetLender
from rlm_ray.recursion.jobs.loans import BudgetLoan, settle_ended
from rlm_ray.recursion.jobs.progress import BatchTally
from rlm_ray.recursion.jobs.scheduler import Job, Promise, Scheduler
from tests.recursion.local_ports import LocalPorts

PROVEN = Usage(2, 30, 10)


@dataclass(frozen=True)
class Outcome:
    budget: Budget
    measured: Rows = ()


@pytest.fixture
def lender() -> BudgetLender:
    return BudgetLender(BudgetMeter(Budget.start(calls=10, tokens=1_000)))


@pytest.fixture
def ports() -> Iterator[LocalPorts]:
    made = LocalPorts()
    yield made
    made.close()


def lent(lender: BudgetLender, work: Promise, account: Any = lambda: (PROVEN, (0, 0, 0))) -> tuple[BudgetLoan, Budget, BatchTally]:
    budget, tally = lender.meter.split(calls=5, tokens=500), BatchTally(1)
    return BudgetLoan(work, budget, lender, tally, account), budget, tally


def spent(budget: Budget) -> Budget:
    used, reservation = budget.reserve(prompt_tokens=100, completion_tokens=20)
    return used.settle(reservation, Usage(1, 90, 10))


def test_asking_settles_nothing(lender: BudgetLender) -> None:
    work = Promise()
    loan, budget, tally = lent(lender, work)
    assert not loan.done()
    loan.settle()  # too early, so nothing happens
    work.set(Outcome(spent(budget)))
    before = lender.budget
    assert loan.done()
    assert loan.done()
    assert lender.budget == before
    assert lender.loans == {loan}
    assert tally.settled == Usage()


def test_a_loan_is_settled_once(lender: BudgetLender) -> None:
    work = Promise()
    loan, budget, tally = lent(lender, work)
    work.set(Outcome(spent(budget)))
    for _ in range(2):
        loan.settle()
        assert lender.budget.lent == {}
        assert lender.budget.usage == tally.settled == Usage(1, 90, 10)
        assert lender.loans == set()
    loan.give_up()
    assert lender.budget.usage == Usage(1, 90, 10)


def test_lost_work_counts_as_the_ledger_proves(lender: BudgetLender) -> None:
    work = Promise()
    loan, _, _ = lent(lender, work)
    work.set(error=ClusterError("The worker was lost."))
    loan.settle()
    assert lender.budget.usage.calls == PROVEN.calls
    with pytest.raises(ClusterError):
        loan.result()


def test_work_that_is_given_up_is_over(lender: BudgetLender) -> None:
    loan, _, _ = lent(lender, Promise(), lambda: (Usage(), (5, 500, 0)))
    loan.give_up()
    assert loan.done()
    assert lender.budget.spent == (5, 500, 0)


def test_the_ended_are_settled_and_the_others_are_not(lender: BudgetLender) -> None:
    done, live = Promise(), Promise()
    first, budget, _ = lent(lender, done)
    second, _, _ = lent(lender, live)
    done.set(Outcome(budget))
    assert settle_ended([("a", first), ("b", second)]) == ([("a", first)], [("b", second)])
    assert set(lender.budget.lent) == {second._budget.name}


def test_a_job_that_waits_for_a_slice_sees_its_own_loans_end(lender: BudgetLender, ports: LocalPorts) -> None:
    """Nobody else looks at them: the job that could is the one that waits."""
    work = Promise()
    _, budget, _ = lent(lender, work)

    def job() -> Job:
        yield from lender.next_repayment()
        return lender.budget.left["calls"]

    scheduler, left = Scheduler(ports), Promise()
    scheduler.start(job(), left.set)
    assert not scheduler.poll()
    work.set(Outcome(budget))
    assert scheduler.poll()
    assert left.result() == 10
