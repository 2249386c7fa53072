from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rlm_ray.errors import BudgetExceeded, InputError
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.budget.amounts import NANO, NOTHING, Amount, Reservation, nanodollars
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.settings import Settings


def passing(error: BudgetExceeded) -> bool:
    return bool(getattr(error, "passing", False))


def test_reserve_settle_and_what_is_left() -> None:
    budget = Budget.start(calls=3, tokens=1_000, usd=1.0)
    budget, first = budget.reserve(prompt_tokens=500, completion_tokens=100, usd=0.4)
    assert (budget.left["calls"], budget.left["tokens"], budget.left["usd"]) == (2, 400, 0.6)
    budget = budget.settle(first, Usage(1, 100, 20, usd=0.05))
    assert (budget.left["calls"], budget.left["tokens"], budget.left["usd"]) == (2, 880, 0.95)
    assert budget.usage == Usage(1, 100, 20, usd=0.05)


def test_an_unknown_outcome_is_charged_in_full() -> None:
    budget, reservation = Budget.start(tokens=1_000).reserve(prompt_tokens=500, completion_tokens=100, usd=0.25)
    budget = budget.settle(reservation, None)
    assert budget.spent == (1, 600, 0.25 * NANO)
    assert budget.usage == Usage(1, 500, 100, 0, 0.25, estimated=1)


def test_a_reservation_is_settled_once() -> None:
    budget, reservation = Budget.start(calls=2).reserve()
    settled = budget.settle(reservation, Usage())
    with pytest.raises(ValueError, match="settled before"):
        settled.settle(reservation, Usage())


def test_the_refusal_has_both_numbers() -> None:
    budget, _ = Budget.start(tokens=1_000).reserve(prompt_tokens=700)
    with pytest.raises(BudgetExceeded, match=r"Up to 400 tokens .* 300 tokens of 1,000 tokens are left .*in flight 700") as caught:
        budget.reserve(prompt_tokens=400)
    assert passing(caught.value)
    assert passing(pickle.loads(pickle.dumps(caught.value)))
    with pytest.raises(BudgetExceeded) as caught:
        budget.reserve(prompt_tokens=1_001)
    assert not passing(caught.value)


def test_exactly_the_limit_fits() -> None:
    budget, reservation = Budget.start(usd=0.01).reserve(usd=0.01)
    with pytest.raises(BudgetExceeded):
        budget.reserve(nano=1)
    assert budget.settle(reservation, Usage(1, usd=0.01)).left["usd"] == 0


def test_exhaustion_latches_and_the_first_reason_stays() -> None:
    budget = Budget.start(calls=10).latched("no more").latched("other")
    for refused in (lambda: budget.reserve(), lambda: budget.split(), lambda: budget.check(1)):
        with pytest.raises(BudgetExceeded, match="no more"):
            refused()


def test_the_last_turn_has_its_own() -> None:
    budget = Budget.start(calls=10, tokens=1_000).keep_for_last_turn(calls=1, tokens=300)
    assert (budget.left["calls"], budget.left["tokens"]) == (9, 700)
    budget, _ = budget.reserve(prompt_tokens=700)
    with pytest.raises(BudgetExceeded, match="kept for the last turn 300 tokens"):
        budget.reserve(prompt_tokens=1)
    budget, _ = budget.latched("out").reserve(prompt_tokens=300, last_turn=True)
    assert budget.last_turn_reserve == NOTHING
    with pytest.raises(BudgetExceeded):
        budget.reserve(prompt_tokens=1, last_turn=True)


def test_at_most_half_is_kept_for_the_last_turn() -> None:
    budget = Budget.start(calls=1, tokens=100).keep_for_last_turn(calls=1, tokens=90, usd=5.0)
    assert budget.last_turn_reserve == (0, 50, 5 * NANO)


def test_time() -> None:
    budget = Budget.start(seconds=100, now=1_000.0).keep_for_last_turn(seconds=30)
    assert budget.seconds_left(1_010.0) == 60
    budget.reserve(now=1_069.0)
    with pytest.raises(BudgetExceeded, match="time of the run is up") as caught:
        budget.reserve(now=1_070.0)
    assert not passing(caught.value)
    budget.reserve(now=1_200.0, last_turn=True)
    _, child = budget.split(calls=1, now=1_000.0)
    assert child.deadline == 1_070.0


def test_a_batch_larger_than_the_calls_left_is_refused_whole() -> None:
    budget = Budget.start(calls=2_000)
    budget.check(2_000)
    with pytest.raises(BudgetExceeded, match=r"10,000 calls were asked for and 2,000 of 2,000 are left; none was made"):
        budget.check(10_000)


def test_children() -> None:
    root = Budget.start(calls=10, tokens=1_000, max_depth=2)
    root, child = root.split(calls=4, deeper=True)
    assert (child.depth, child.left["calls"], child.left["tokens"], child.left["depth"]) == (1, 4, 1_000, 1)
    with pytest.raises(BudgetExceeded) as caught:
        root.split(calls=7, tokens=0)
    assert passing(caught.value)
    child, reservation = child.reserve(prompt_tokens=300)
    child = child.settle(reservation, Usage(1, 200))
    root = root.absorb(child)
    assert (root.left["calls"], root.left["tokens"]) == (9, 800)
    with pytest.raises(ValueError, match="came back before"):
        root.absorb(child)


def test_no_limit_stays_no_limit() -> None:
    root, child = Budget.start(calls=5).split(calls=2)
    assert child.left["tokens"] is None
    assert root.left["usd"] is None


def test_what_a_child_left_open_counts_as_spent() -> None:
    root, child = Budget.start(calls=5, tokens=100).split(calls=2)
    child, _ = child.reserve(prompt_tokens=40)
    root = root.absorb(child)
    assert root.spent == (1, 40, 0)
    assert root.usage.estimated == 1


def test_a_dead_childs_slice() -> None:
    root, child = Budget.start(calls=10, tokens=1_000).split(calls=5, tokens=500)
    proven = Usage(2, 100, 20)
    assert root.write_off(child.name).spent == (5, 500, 0)
    assert root.write_off(child.name, proven).spent == (5, 500, 0)
    assert root.write_off(child.name, proven, Amount(1, 80, 0)).spent == (3, 200, 0)
    assert root.write_off(child.name, proven, Amount(99, 9_999, 0)).spent == (5, 500, 0)
    assert root.write_off(child.name, proven, NOTHING).usage == proven
    with pytest.raises(ValueError, match="came back before"):
        root.write_off(child.name).write_off(child.name)


def test_charged_before() -> None:
    assert Budget.start(calls=10, usd=1.0).charge(Usage(4, 100, 10, usd=0.25)).left["usd"] == 0.75


def test_a_price_that_is_unknown() -> None:
    budget, reservation = Budget.start(calls=2).reserve(priced=False)
    budget = budget.settle(reservation, Usage(1, 10, 1, usd=None))
    assert budget.usage.usd is None
    assert "price unknown" in str(budget)


def test_nothing_below_zero() -> None:
    with pytest.raises(InputError, match="below 0"):
        Budget.start().reserve(prompt_tokens=-1)


def test_of_settings() -> None:
    budget = Budget.of(Settings(max_calls=20, max_usd=0.5, max_depth=3), now=0.0)
    assert budget.limits == (20, None, 0.5 * NANO)
    assert (budget.left["calls"], budget.left["depth"], budget.deadline) == (19, 3, 3_600.0)


def test_dollars_to_nanodollars() -> None:
    for dollars in (0.01, 0.1 + 0.2, 1.0, 1e-9, 4.8, 0.07):
        assert nanodollars(nanodollars(dollars) / NANO) == nanodollars(dollars)
    assert nanodollars(0.1 + 0.2) == 300_000_000
    assert nanodollars(1.5e-9) == 2


def test_says_what_it_is() -> None:
    budget = Budget.start(calls=2_000, usd=1.0, seconds=60, now=0.0).charge(Usage(3, 100, 20, usd=0.0123))
    assert str(budget) == "3 of 2,000 calls, 120 tokens, $0.0123 of $1.0000; 0 s left; depth 0 of 1"


LIMITS = {"calls": 12, "tokens": 1_000, "usd": 0.001}
sizes = st.tuples(st.integers(1, 300), st.integers(0, 100), st.integers(0, 200_000))
shares = st.floats(0, 1)


class Trees(RuleBasedStateMachine):
    """Budgets that reserve, settle, split, return, die and are read back, in any order. `billed` is what an endpoint bills."""

    def __init__(self) -> None:
        super().__init__()
        root = Budget.start(**LIMITS, max_depth=9).keep_for_last_turn(calls=1, tokens=100, usd=0.0001)
        self.live: dict[str, Budget] = {root.name: root}
        self.open: dict[str, list[Reservation]] = {root.name: []}
        self.parents: dict[str, str] = {}
        self.billed = NOTHING  # for certain
        self.may_be_billed = NOTHING  # by calls whose outcome nobody knows
        self.certain = True

    def pick(self, data: Any, names: list[str]) -> str:
        return data.draw(st.sampled_from(sorted(names)))

    @rule(data=st.data(), size=sizes, last=st.booleans())
    def reserve(self, data: Any, size: tuple[int, int, int], last: bool) -> None:
        name = self.pick(data, list(self.live))
        before = self.live[name]
        try:
            after, reservation = before.reserve(
                prompt_tokens=size[0], completion_tokens=size[1], nano=size[2], last_turn=last and name == "0"
            )
        except BudgetExceeded:
            free = before.left
            kept = before.last_turn_reserve
            assert free["calls"] < 1 or free["tokens"] < size[0] + size[1] or round(free["usd"] * NANO) < size[2]
            if last and name == "0":
                assert (
                    free["calls"] + kept.calls < 1
                    or free["tokens"] + kept.tokens < size[0] + size[1]
                    or (round(free["usd"] * NANO) + kept.nanodollars < size[2])
                )
            return
        self.live[name] = after
        self.open[name].append(reservation)

    @precondition(lambda self: any(self.open.values()))
    @rule(data=st.data(), share=st.one_of(st.none(), shares))
    def settle(self, data: Any, share: float | None) -> None:
        name = self.pick(data, [name for name, open_ in self.open.items() if open_])
        reservation = self.open[name].pop(data.draw(st.integers(0, len(self.open[name]) - 1)))
        if share is None:
            self.live[name] = self.live[name].settle(reservation, None)
            self.may_be_billed = self.may_be_billed.plus(reservation.amount)
            self.certain = False
            return
        nano = int(reservation.nanodollars * share)
        usage = Usage(1, int(reservation.prompt_tokens * share), int(reservation.completion_tokens * share), 0, nano / NANO)
        self.live[name] = self.live[name].settle(reservation, usage)
        self.billed = self.billed.plus(Amount.of(usage))

    @precondition(lambda self: len(self.live) < 6)
    @rule(data=st.data(), share=shares)
    def split(self, data: Any, share: float) -> None:
        name = self.pick(data, list(self.live))
        left = self.live[name].left
        parent, child = self.live[name].split(
            calls=int(left["calls"] * share), tokens=int(left["tokens"] * share), usd=left["usd"] * share
        )
        self.live[name] = parent
        self.live[child.name] = child
        self.open[child.name] = []
        self.parents[child.name] = name

    def childless(self) -> list[str]:
        return [name for name in self.parents if name not in self.parents.values()]

    def gone(self, name: str) -> None:
        for reservation in self.open.pop(name):
            self.may_be_billed = self.may_be_billed.plus(reservation.amount)
            self.certain = False
        del self.live[name], self.parents[name]

    @precondition(lambda self: self.parents)
    @rule(data=st.data())
    def give_back(self, data: Any) -> None:
        name = self.pick(data, self.childless())
        parent = self.parents[name]
        self.live[parent] = self.live[parent].absorb(self.live[name])
        self.gone(name)

    @precondition(lambda self: self.parents)
    @rule(data=st.data(), ledger=st.booleans(), bounded=st.booleans())
    def die(self, data: Any, ledger: bool, bounded: bool) -> None:
        name = self.pick(data, self.childless())
        parent, child = self.parents[name], self.live[name]
        proven = child.usage if ledger else None
        self.live[parent] = self.live[parent].write_off(name, proven, child.outstanding if ledger and bounded else None)
        self.certain = False
        self.gone(name)

    @rule(data=st.data())
    def travel(self, data: Any) -> None:
        name = self.pick(data, list(self.live))
        budget = self.live[name]
        assert Budget.from_json(json.loads(json.dumps(budget.to_json()))) == budget
        assert pickle.loads(pickle.dumps(budget)) == budget
        self.live[name] = Budget.from_json(budget.to_json())

    @invariant()
    def within_the_limit(self) -> None:
        for budget in self.live.values():
            for spent, out, kept, limit in zip(
                budget.spent, budget.outstanding, budget.last_turn_reserve, budget.limits, strict=True
            ):
                assert limit is not None
                assert spent + out + kept <= limit

    @invariant()
    def nothing_leaks(self) -> None:
        root = self.live["0"]
        for name, budget in self.live.items():
            held = NOTHING
            for amount in (*budget.reserved.values(), *budget.lent.values()):
                held = held.plus(amount)
            assert held == budget.outstanding
            assert len(budget.reserved) == len(self.open[name])
        counted = root.spent.plus(root.outstanding)
        assert all(real <= known for real, known in zip(self.billed, counted, strict=True))
        most = self.billed.plus(self.may_be_billed)
        for reservations in self.open.values():
            for reservation in reservations:
                most = most.plus(reservation.amount)
        assert all(real <= limit for real, limit in zip(most, root.limits, strict=True))

    def teardown(self) -> None:
        while self.parents:
            name = self.childless()[0]
            parent = self.parents[name]
            self.live[parent] = self.live[parent].absorb(self.live[name])
            self.gone(name)
        root = self.live["0"]
        for reservation in self.open["0"]:
            root = root.settle(reservation, Usage())
        assert root.outstanding == NOTHING
        if self.certain:
            assert root.spent == self.billed
            assert Amount.of(root.usage) == root.spent


Trees.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTrees = Trees.TestCase
