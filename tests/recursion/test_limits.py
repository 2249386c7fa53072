from __future__ import annotations

import pytest

from rlm_ray.models.contract import Usage
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.loop.limits import MAX_DENIALS, MAX_RESTARTS, reached
from rlm_ray.settings import Settings

#: Without a limit of time: these are made long before the test runs.
FREE = Budget.start(calls=10)


@pytest.mark.parametrize(
    ("budget", "events", "told"),
    [
        (FREE, {}, None),
        (FREE, {"denials": MAX_DENIALS, "restarts": MAX_RESTARTS}, None),
        (Budget.start(seconds=0), {}, ("time", "The 1 second of the run is over.")),
        (FREE.latched("No calls are left."), {}, ("budget", "The budget is spent: No calls are left.")),
        (
            FREE,
            {"denials": MAX_DENIALS + 1, "restarts": 1},
            ("security", "The run is stopped: root code was denied 51 times and its sandbox restarted 1 time."),
        ),
        (FREE, {"restarts": MAX_RESTARTS + 1}, ("security", "The run is stopped: root code was denied 0 times and its sandbox")),
        (Budget.start(seconds=0).latched("x"), {"denials": 99}, ("time", "The 1 second")),
    ],
)
def test_the_limit_that_ends_a_call(budget: Budget, events: dict[str, int], told: tuple[str, str] | None) -> None:
    limit = reached(budget, events, Settings(max_seconds=1))
    if told is None:
        assert limit is None
    else:
        assert limit is not None
        assert (limit.reason, limit.message[: len(told[1])]) == told


def test_a_budget_says_what_is_spent_of_what() -> None:
    assert str(Budget.start().charge(Usage(1, 1, 0))) == "1 call, 1 token, $0.0000; depth 0 of 1"
    assert str(Budget.start(calls=1, usd=2).charge(Usage(1, 20, 0, usd=None))).startswith(
        "1 of 1 call, 20 tokens, price unknown of $2"
    )
