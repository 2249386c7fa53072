"""Budgets, loans and the scheduler together, in any order: no call, token or dollar is lost or spent twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rlm_ray.errors import BudgetExceeded, ClusterError
from rlm_ray.models.contract import Usage
from rlm_ray.models.prices import Rate
from rlm_ray.recursion.budget.amounts import NANO, NOTHING, Amount, Reservation
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.recursion.jobs.lending import NOT_LENT, BudgetLender
from rlm_ray.recursion.jobs.loans import BudgetLoan, starting
from rlm_ray.recursion.jobs.progress import BatchTally
from rlm_ray.recursion.jobs.scheduler import Job, Scheduler, Until
from rlm_ray.recursion.leaf.values import LeafSpec
from rlm_ray.recursion.ports import CallOutcome, LeafOutcome
from rlm_ray.settings import Price

LIMITS = {"calls": 40, "tokens": 60_000, "usd": 0.02}
PRICES = {"small": Rate.of(Price(input=0.1, output=0.4)), "large": Rate.of(Price(input=1.0, output=3.0))}
SPEC = LeafSpec("prompts", "", "small", completion_tokens=40, call_tokens=60, bytes_per_token=1.0)
shares = st.floats(0, 1)


class Work:
    """Work somewhere else, which the machine ends."""

    def __init__(self) -> None:
        self._value: Any = None
        self._error: Exception | None = None
        self._done = self.cancelled = False

    def end(self, value: Any = None, error: Exception | None = None) -> None:
        self._value, self._error, self._done = value, error, True

    def done(self) -> bool:
        return self._done

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Ledger:
    """What survives a process that dies: what finished calls used, and the most that was in flight."""

    finished: Usage = field(default_factory=Usage)
    mark: Amount = NOTHING


class Node:
    """One process of the tree: it meters calls of its own, and lends slices to those below it."""

    def __init__(self, budget: Budget, above: Node | None = None, leaves: bool = False) -> None:
        self.meter = BudgetMeter(budget, PRICES)
        self.lender = BudgetLender(self.meter)
        self.scheduler = Scheduler(None)  # type: ignore[arg-type]  # nothing waits: the machine polls
        self.tally = BatchTally(1)
        self.above = above
        self.leaves = leaves
        self.work = Work()
        self.open: list[Reservation] = []
        self.below: dict[str, Node] = {}
        self.ledger = Ledger()
        self.ends: list[str] = []

    @property
    def name(self) -> str:
        return self.meter.budget.name

    def account(self) -> tuple[Usage, tuple[int, int, int]]:
        """What the ledger proves of this process and all below it."""
        used, mark = self.ledger.finished, self.ledger.mark
        for node in self.below.values():
            below, most = node.account()
            used, mark = used + below, mark.plus(Amount(*most))
        return used, tuple(mark)  # type: ignore[return-value]

    def forget(self, child: Node) -> None:
        """Work below is gone; what the ledger proves of it stays."""
        used, mark = child.account()
        self.ledger.finished += used
        self.ledger.mark = self.ledger.mark.plus(Amount(*mark))
        del self.below[child.name]

    def in_flight(self) -> Amount:
        """The most that the calls in flight, here and below, may be billed."""
        most = NOTHING
        for reservation in self.open:
            most = most.plus(reservation.amount)
        for node in self.below.values():
            most = most.plus(node.in_flight())
        return most


class Money(RuleBasedStateMachine):
    """A tree of calls that ask, lend, end, fail to start, die and are given up. `billed` is what the endpoint bills."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Node(Budget.start(**LIMITS, max_depth=3).keep_for_last_turn(calls=1, tokens=500, usd=0.0005))
        self.billed = NOTHING
        self.may_be_billed = NOTHING  # calls that went out and whose bill nobody knows

    # the tree

    def nodes(self, where: Callable[[Node], bool] = lambda node: True) -> list[Node]:
        found, waiting = [], [self.root]
        while waiting:
            node = waiting.pop()
            found += [node] if where(node) else []
            waiting += node.below.values()
        return sorted(found, key=lambda node: node.name)

    def pick(self, data: Any, where: Callable[[Node], bool] = lambda node: True) -> Node:
        return data.draw(st.sampled_from(self.nodes(where)))

    def child(self, data: Any) -> Node:
        return self.pick(data, lambda node: node.above is not None and not node.below)

    has_child = precondition(lambda self: bool(self.root.below))

    # calls

    @rule(data=st.data(), prompt=st.integers(0, 3_000), model=st.sampled_from(sorted(PRICES)), last=st.booleans())
    def call(self, data: Any, prompt: int, model: str, last: bool) -> None:
        """Reserve for a call, and send it; a refusal changes no number."""
        node = self.pick(data)
        before = node.meter.budget
        meter = node.meter.for_last_turn() if last and node is self.root else node.meter
        try:
            reservation = meter.reserve(prompt, 40, model)
        except BudgetExceeded:
            after = node.meter.budget
            assert (after.spent, after.outstanding, after.reserved, after.lent) == (
                before.spent,
                before.outstanding,
                before.reserved,
                before.lent,
            )
            return
        node.open.append(reservation)
        node.ledger.mark = node.ledger.mark.plus(reservation.amount)  # written down before the call goes out

    @precondition(lambda self: self.nodes(lambda node: bool(node.open)))
    @rule(data=st.data(), share=st.one_of(st.none(), st.just(0.0), shares), sent=st.booleans())
    def reply(self, data: Any, share: float | None, sent: bool) -> None:
        """A call ends with its bill, with none that anybody knows, or without having left the process."""
        node = self.pick(data, lambda node: bool(node.open))
        reservation = node.open.pop(data.draw(st.integers(0, len(node.open) - 1)))
        node.ledger.mark = node.ledger.mark.minus(reservation.amount)
        spent = node.meter.budget.spent
        if not sent:
            node.meter.settle(reservation, Usage())
            assert node.meter.budget.spent == spent  # nothing is booked for it
            return
        if share is None:
            used = node.meter.settle(reservation, None)
            self.may_be_billed = self.may_be_billed.plus(reservation.amount)
        else:
            tokens = int(reservation.prompt_tokens * share), int(reservation.completion_tokens * share)
            used = node.meter.settle(reservation, Usage(1, *tokens))
            self.billed = self.billed.plus(Amount.of(used))
        node.ledger.finished += used

    # work below

    def begin(self, parent: Node, budget: Budget, leaves: bool) -> None:
        node = Node(budget, parent, leaves)
        parent.tally.live.clear()
        loan = BudgetLoan(node.work, budget, parent.lender, parent.tally, node.account)

        def job() -> Job:
            yield Until((loan,))
            loan.settle()
            return loan.result()

        parent.below[budget.name] = node
        parent.scheduler.start(job(), lambda value, error: parent.ends.append(budget.name))

    @precondition(lambda self: len(self.nodes()) < 8)
    @rule(data=st.data(), calls=st.integers(1, 12), spread=st.integers(1, 4), whole=st.booleans(), starts=st.booleans())
    def group(self, data: Any, calls: int, spread: int, whole: bool, starts: bool) -> None:
        """Lend a slice to a group of leaf calls, which begins, or cannot."""
        parent = self.pick(data, lambda node: not node.leaves)
        before = parent.meter.budget
        budget = parent.lender.lend(calls, SPEC, spread, whole=whole)
        if budget.name == NOT_LENT:
            assert parent.meter.budget.left["calls"] == before.left["calls"]
            assert parent.meter.budget.lent == before.lent
            return
        self.start(parent, before, budget, starts, leaves=True)

    @precondition(lambda self: len(self.nodes()) < 8)
    @rule(data=st.data(), at_once=st.integers(1, 4), starts=st.booleans())
    def recursive_call(self, data: Any, at_once: int, starts: bool) -> None:
        """Lend a slice to a recursive call, which begins, or cannot."""
        parent = self.pick(data, lambda node: not node.leaves and node.meter.budget.depth < 3)
        before = parent.meter.budget
        try:
            budget = parent.lender.lend_call(at_once)
        except BudgetExceeded:
            assert (parent.meter.budget.spent, parent.meter.budget.lent) == (before.spent, before.lent)
            return
        self.start(parent, before, budget, starts, leaves=False)

    def start(self, parent: Node, before: Budget, budget: Budget, starts: bool, leaves: bool) -> None:
        if starts:
            self.begin(parent, budget, leaves)
            return
        try:
            with starting(budget, parent.lender, parent.tally):
                raise ClusterError("Ray did not start.")
        except ClusterError:
            after = parent.meter.budget
        assert (after.spent, after.outstanding, after.lent, after.usage) == (
            before.spent,
            before.outstanding,
            before.lent,
            before.usage,
        )
        assert after.left == before.left

    # how work ends

    def gone(self, node: Node) -> None:
        """The parent's jobs go on, and the slice is back, once."""
        parent = node.above
        assert parent is not None
        slice_ = parent.meter.budget.lent[node.name]
        spent, outstanding = parent.meter.budget.spent, parent.meter.budget.outstanding
        while parent.scheduler.poll():
            pass
        assert parent.ends.count(node.name) == 1
        after = parent.meter.budget
        assert node.name not in after.lent
        assert after.outstanding == outstanding.minus(slice_)
        assert all(more <= most for more, most in zip(after.spent, spent.plus(slice_), strict=True))
        self.may_be_billed = self.may_be_billed.plus(node.in_flight())
        parent.forget(node)

    @has_child
    @rule(data=st.data())
    def end(self, data: Any) -> None:
        """Work ends well: its slice comes back with what is unspent."""
        node = self.child(data)
        assert node.above is not None
        budget, before = node.meter.budget, node.above.meter.budget.spent
        outcome: Any = LeafOutcome((), budget) if node.leaves else CallOutcome("json", None, True, "answered", budget)
        node.work.end(outcome)
        self.gone(node)
        assert node.above.meter.budget.spent == before.plus(budget.spent).plus(budget.outstanding)

    @has_child
    @rule(data=st.data())
    def die(self, data: Any) -> None:
        """A worker is lost: the ledger says what its calls used, and what was in flight counts as spent."""
        node = self.child(data)
        assert node.above is not None
        before = node.above.meter.budget.spent
        used, in_flight = node.account()
        assert Amount.of(used).plus(Amount(*in_flight)) == node.meter.budget.spent.plus(node.meter.budget.outstanding)
        node.work.end(error=ClusterError("A worker was lost."))
        self.gone(node)
        assert node.above.meter.budget.spent == before.plus(Amount.of(used)).plus(Amount(*in_flight))

    @has_child
    @rule(data=st.data())
    def give_up(self, data: Any) -> None:
        """A call that ends waits no longer for one below it; what that one says afterwards changes nothing."""
        node = self.child(data)
        parent = node.above
        assert parent is not None
        (loan,) = [loan for loan in parent.lender.loans if loan.inner is node.work]
        loan.give_up()
        settled = parent.meter.budget
        parent.ends.append(node.name)
        node.work.end(LeafOutcome((), node.meter.budget))
        while parent.scheduler.poll():
            pass
        loan.settle()
        loan.give_up()
        assert parent.meter.budget == settled
        self.may_be_billed = self.may_be_billed.plus(node.in_flight())
        parent.forget(node)

    @has_child
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        """A call that is cancelled cancels the work that its jobs wait for, and takes every slice back."""
        parent = self.pick(data, lambda node: bool(node.below) and not any(child.below for child in node.below.values()))
        children = list(parent.below.values())
        parent.scheduler.cancel()
        assert parent.scheduler.busy == 0
        for node in children:
            assert node.work.cancelled
            node.work.end(LeafOutcome((), node.meter.budget))
        parent.lender.settle()
        assert parent.meter.budget.lent == {}
        for node in children:
            self.may_be_billed = self.may_be_billed.plus(node.in_flight())
            parent.forget(node)

    # what always holds

    @invariant()
    def spent_reserved_and_left_are_the_limit(self) -> None:
        for node in self.nodes():
            budget = node.meter.budget
            left = budget.left
            free = (left["calls"], left["tokens"], None if left["usd"] is None else round(left["usd"] * NANO))
            held = NOTHING
            for amount in (*budget.reserved.values(), *budget.lent.values()):
                held = held.plus(amount)
            assert held == budget.outstanding
            assert len(budget.reserved) == len(node.open)
            assert set(budget.lent) == set(node.below)
            for limit, *parts in zip(budget.limits, budget.spent, held, budget.last_turn_reserve, free, strict=True):
                assert limit is not None
                assert min(parts) >= 0
                assert sum(parts) == limit

    @invariant()
    def limits_are_never_passed(self) -> None:
        limits = self.root.meter.budget.limits
        most = self.billed.plus(self.may_be_billed).plus(self.root.in_flight())
        assert all(limit is not None and real <= limit for real, limit in zip(most, limits, strict=True))

    @invariant()
    def what_is_billed_is_known(self) -> None:
        budget = self.root.meter.budget
        counted = budget.spent.plus(budget.outstanding)
        assert all(real <= known for real, known in zip(self.billed, counted, strict=True))
        assert Amount.of(budget.usage)[:2] == budget.spent[:2]

    def teardown(self) -> None:
        """All comes back: then what is spent is what was billed, and what may have been."""
        while children := self.nodes(lambda node: node.above is not None and not node.below):
            node = children[0]
            for reservation in node.open:
                node.meter.settle(reservation, Usage())
            node.open.clear()
            node.work.end(LeafOutcome((), node.meter.budget))
            self.gone(node)
        for reservation in self.root.open:
            self.root.meter.settle(reservation, Usage())
        budget = self.root.meter.budget
        assert budget.outstanding == NOTHING
        assert budget.spent == self.billed.plus(self.may_be_billed)
        assert self.root.scheduler.busy == 0


Money.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMoney = Money.TestCase
