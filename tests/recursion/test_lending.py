from __future__ import annotations

import pytest

from rlm_ray.errors import BudgetExceeded
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.recursion.jobs.lending import EXTRA, SLACK, BudgetLender
from rlm_ray.recursion.leaf.values import LeafSpec

SPEC = LeafSpec("prompts", "", "leaf", call_tokens=100, completion_tokens=50)


def lender(**limits: float) -> BudgetLender:
    return BudgetLender(BudgetMeter(Budget.start(**limits)))  # type: ignore[arg-type]


def lent(budget: Budget) -> tuple[int | None, int | None, int | None]:
    return budget.limits.calls, budget.limits.tokens, budget.limits.nanodollars


def test_a_group_gets_more_calls_than_it_needs_where_more_are_free() -> None:
    assert lender(calls=10_000).lend(10, SPEC, 4).limits.calls == 10 * SLACK + EXTRA
    assert lender(calls=40).lend(10, SPEC, 4).limits.calls == 10
    assert lender(calls=5).lend(10, SPEC, 4).limits.calls == 5


def test_what_later_groups_need_is_not_lent_away() -> None:
    assert lender(calls=100).lend(10, SPEC, 1).limits.calls == 56
    assert lender(calls=100).lend(10, SPEC, 1, rest=60).limits.calls == 40
    assert lender(calls=100).lend(10, SPEC, 1, rest=95).limits.calls == 10


def test_a_limit_that_is_not_there_is_not_lent() -> None:
    assert lent(lender().lend(10, SPEC, 4)) == (None, None, None)


def test_tokens_and_dollars_are_shared_among_those_in_flight() -> None:
    assert lender(tokens=1_000).lend(10, SPEC, 4).limits.tokens == 250
    assert lender(usd=1.0).lend(10, SPEC, 4).limits.nanodollars == 250_000_000
    assert lender(usd=1.0).lend(10, SPEC, 1).limits.nanodollars == 500_000_000
    assert (lender(tokens=10**9).lend(1, SPEC, 1).limits.tokens or 0) < 10**5


def test_a_recursive_call_gets_its_share_and_leaves_one_for_its_parent() -> None:
    child = lender(calls=100, tokens=1_000, usd=1.0).lend_call(4)
    assert lent(child) == (20, 200, 200_000_000)
    assert child.depth == 1
    assert lender(calls=1).lend_call(4).limits.calls == 1
    with pytest.raises(BudgetExceeded, match=r"No calls are left for a recursive call\. Answer from what is there"):
        lender(calls=0).lend_call(4)


def test_what_comes_back_unspent_is_free_again_and_what_is_lost_is_spent() -> None:
    owner = lender(calls=100)
    child = owner.lend(10, SPEC, 1)
    meter = BudgetMeter(child)
    meter.settle(meter.reserve(10, 10, "leaf"), Usage(1, 8, 2))
    owner.repay(meter.budget)
    assert owner.budget.left["calls"] == 99
    owner.write_off(owner.lend(1, SPEC, 1))
    assert owner.budget.left["calls"] == 99 - (SLACK + EXTRA)


def test_what_is_told_to_the_root() -> None:
    owner = lender(calls=1_200, tokens=5_000, usd=1.5)
    assert owner.summary() == "Left: 1,200 calls, 5,000 tokens, $1.5000."
    assert lender().summary() == ""
    assert owner.to_dict() == {
        "calls left": 1_200,
        "tokens left": 5_000,
        "dollars left": 1.5,
        "seconds left": None,
        "depth left": 1,
        "calls spent": 0,
        "tokens spent": 0,
    }
    seconds = lender(seconds=90).to_dict()["seconds left"]
    assert 80 <= seconds <= 90
