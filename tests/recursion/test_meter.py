from __future__ import annotations

import random
import re
import threading

import pytest

from rlm_ray.errors import BudgetExceeded, SettingsError
from rlm_ray.models.contract import Usage
from rlm_ray.models.prices import Rate
from rlm_ray.recursion.budget.amounts import Amount
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.settings import Price

PRICES = {"m": Rate.of(Price(input=1, cached_input=0.1, output=10))}


def test_reserves_and_settles_in_dollars() -> None:
    meter = BudgetMeter(Budget.start(usd=0.002), PRICES)
    reservation = meter.reserve(1_000, 100, "m")
    assert meter.budget.left["usd"] == 0
    usage = meter.settle(reservation, Usage(1, 500, 10, cached_tokens=400))
    assert usage.usd == pytest.approx(0.00024)
    assert meter.budget.spent.nanodollars == 240_000


def test_an_unknown_price_under_a_dollar_limit_is_refused_before_the_call() -> None:
    meter = BudgetMeter(Budget.start(usd=1.0), PRICES)
    with pytest.raises(SettingsError, match="'other' is unknown"):
        meter.reserve(1, 1, "other")
    assert not meter.budget.reserved
    free = BudgetMeter(Budget.start(calls=1))
    assert free.settle(free.reserve(1, 1, "other"), Usage(1, 1, 1)).usd is None


def test_an_unknown_outcome() -> None:
    meter = BudgetMeter(Budget.start(calls=1), PRICES)
    assert meter.settle(meter.reserve(1_000, 100, "m"), None) == Usage(1, 1_000, 100, 0, 0.002, 1)


def test_a_refused_call_costs_nothing() -> None:
    meter = BudgetMeter(Budget.start(calls=1), PRICES)
    assert meter.settle(meter.reserve(1_000, 100, "m"), Usage()) == Usage()
    assert meter.budget.left["calls"] == 1


def test_exhaustion_latches_only_when_nothing_can_come_back() -> None:
    meter = BudgetMeter(Budget.start(tokens=100))
    reservation = meter.reserve(80, 0, "m")
    with pytest.raises(BudgetExceeded):
        meter.reserve(50, 0, "m")
    assert meter.budget.exhausted is None
    meter.settle(reservation, Usage(1, 10))
    meter.settle(meter.reserve(50, 0, "m"), Usage(1, 50))
    with pytest.raises(BudgetExceeded):
        meter.reserve(50, 0, "m")
    assert meter.budget.exhausted is not None
    with pytest.raises(BudgetExceeded):
        meter.reserve(1, 0, "m")


def test_the_last_turn() -> None:
    meter = BudgetMeter(Budget.start(calls=2).keep_for_last_turn(calls=1))
    meter.settle(meter.reserve(1, 1, "m"), Usage(1, 1, 1))
    with pytest.raises(BudgetExceeded):
        meter.reserve(1, 1, "m")
    last = meter.for_last_turn()
    last.settle(last.reserve(1, 1, "m"), Usage(1, 1, 1))
    assert meter.budget.spent.calls == 2


def test_children() -> None:
    meter = BudgetMeter(Budget.start(calls=10))
    one, two = meter.split(calls=4), meter.split(calls=4)
    child = BudgetMeter(one)
    child.settle(child.reserve(1, 1, "m"), Usage(1, 1, 1))
    meter.absorb(child.budget)
    meter.write_off(two.name, Usage(1, 1, 1), Amount(1, 0, 0))
    assert meter.budget.left["calls"] == 10 - 1 - 2
    meter.charge(Usage(3))
    meter.exhaust("stopped")
    assert meter.budget.left["calls"] == 4
    with pytest.raises(BudgetExceeded, match="stopped"):
        meter.split(calls=1)


def test_many_threads_never_pass_the_limit() -> None:
    meter = BudgetMeter(Budget.start(calls=500, tokens=10_000))
    made = [0] * 8

    def spend(place: int) -> None:
        while True:
            try:
                reservation = meter.reserve(30, 10, "m")
            except BudgetExceeded as error:
                if not error.passing:
                    return
                continue
            meter.settle(reservation, Usage(1, 20, 5))
            made[place] += 1

    threads = [threading.Thread(target=spend, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.budget.spent == (sum(made), 25 * sum(made), 0)
    assert 9_960 <= meter.budget.spent.tokens <= 10_000
    assert not meter.budget.reserved


def test_a_budget_that_was_told_stays_as_it_was() -> None:
    given = Budget.start(calls=10)
    meter = BudgetMeter(given)
    first = meter.reserve(10, 10, "small")
    told = meter.budget
    meter.reserve(10, 10, "small")
    meter.settle(first, None)
    assert (given.reserved, list(told.reserved), list(meter.budget.reserved)) == ({}, [0], [1])
    assert Budget.from_json(told.to_json()) == told
    assert meter.sums == (meter.budget.spent, meter.budget.outstanding, meter.budget.usage)


def test_a_meter_says_what_the_value_says() -> None:
    """What a meter counts by itself comes to the same as the value's own arithmetic, whatever the order."""
    chance = random.Random(7)
    prices = {"priced": Rate.of(Price(input=1.0, output=4.0))}
    for _ in range(30):
        limits = {"calls": chance.choice([None, 40]), "tokens": chance.choice([None, 3_000]), "seconds": 1_000.0}
        value = Budget.start(**limits).keep_for_last_turn(calls=2, tokens=50)
        meter, open_ = BudgetMeter(value, prices), []
        for _ in range(120):
            model = chance.choice(["priced", "free"])
            rate = prices.get(model)
            if chance.random() < 0.6 or not open_:
                prompt, completion, last = chance.randrange(100), chance.randrange(50), chance.random() < 0.02
                nano = rate.most_nanodollars(prompt, completion) if rate else 0
                given = (meter.for_last_turn() if last else meter, value)
                asked = {"nano": nano, "model": model, "priced": rate is not None, "last_turn": last}
                try:
                    value, wanted = given[1].reserve(prompt_tokens=prompt, completion_tokens=completion, **asked)
                except BudgetExceeded as error:
                    with pytest.raises(BudgetExceeded, match=re.escape(str(error))):
                        given[0].reserve(prompt, completion, model)
                    value = value if getattr(error, "passing", False) else value.latched(str(error))
                else:
                    assert given[0].reserve(prompt, completion, model) == wanted
                    open_.append(wanted)
            else:
                reservation = open_.pop(chance.randrange(len(open_)))
                usage = chance.choice([None, Usage(), Usage(1, chance.randrange(120), chance.randrange(60), 0, None)])
                value = value.settle(reservation, meter.settle(reservation, usage))
                with pytest.raises(ValueError, match="settled before"):
                    meter.settle(reservation, usage)
            assert meter.budget == value
