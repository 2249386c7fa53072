"""What a batch will take, before it is asked; and the question whether it may be spent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rlm_ray.errors import BudgetExceeded, ConfirmationNeeded, PlanMade
from rlm_ray.handle.plan import Plan, Result
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.jobs import batch_plans
from rlm_ray.recursion.jobs.batch_plans import Learned, Sizes, off_by, plan_of
from rlm_ray.recursion.leaf.values import LeafSpec
from rlm_ray.testing import ModelServer, each
from tests.recursion.conftest import World

Make = Callable[..., World]
LEVEL = {"level": ["ERROR", "INFO"]}
PRICES = {"leaf": {"input": 1.0, "output": 4.0}}


@pytest.fixture
def served(world: Make, model_server: Callable[..., ModelServer]) -> Callable[..., tuple[World, ModelServer]]:
    def make(**options: Any) -> tuple[World, ModelServer]:
        server = model_server(leaf=each(lambda text: "ERROR" if "ERROR" in text else "INFO"), keep_messages=True)
        return world(base_url=server.base_url, prices=PRICES | {"root": PRICES["leaf"]}, **options), server

    return make


Served = Callable[..., tuple[World, ModelServer]]


def test_a_dry_batch_says_what_it_takes_and_asks_nothing(served: Served) -> None:
    made, server = served(records_per_call=10)
    plan: Any = made.verbs.llm_each("Which level?", made["rows"], LEVEL, show=["kind"], dry=True)
    assert server.count == 0
    assert (plan["records"], plan["distinct"], plan["answered"], plan["calls"]) == (100, 3, 0, 1)
    assert plan["usd_batch"] == pytest.approx(plan["usd"] / 2, abs=1e-6)
    assert "100 records read" in plan["rests_on"]


def test_the_second_plan_knows_the_answers_and_the_tokens_of_the_first_batch(served: Served) -> None:
    made, server = served(records_per_call=10)
    logs = made["logs"]
    first: Any = made.verbs.llm_each("Which level?", logs, LEVEL, dry=True)
    assert (first["distinct"], first["calls"]) == (120, 12)
    result: Any = made.verbs.llm_each("Which level?", logs.grep("auth|cart"), LEVEL)
    assert len(result) == 80
    again: Any = made.verbs.llm_each("Which level?", logs, LEVEL, dry=True)
    assert (again["distinct"], again["answered"], again["calls"]) == (120, 80, 4)
    used = server.requests
    assert again["prompt_tokens"] == pytest.approx(sum(item["prompt_tokens"] for item in used) / 2, rel=0.1)
    assert again["completion_tokens"] == pytest.approx(sum(item["completion_tokens"] for item in used) / 2, rel=0.1)
    assert "8 calls" in again["rests_on"]
    state = made.service.results.get(_id(result.plan))
    assert state.off["tokens"] == sum(item["prompt_tokens"] + item["completion_tokens"] for item in used)


def test_what_was_learned_is_there_for_the_next_run(served: Served) -> None:
    made, _ = served(records_per_call=10)
    assert len(made.verbs.llm_each("Which level?", made["logs"], LEVEL)) == 120
    later, _ = served(records_per_call=10)
    plan: Any = later.verbs.llm_each("Which level?", later["logs"], LEVEL, dry=True)
    assert "12 calls" in plan["rests_on"]


def test_a_dear_batch_is_an_error_that_names_narrower_ways(served: Served) -> None:
    made, server = served(confirm_over_usd=0.0005)
    with pytest.raises(BudgetExceeded, match="grep or where"):
        made.verbs.llm_each("Which level?", made["logs"], LEVEL)
    assert server.count == 0
    assert len(made.verbs.llm_each("Which level?", made["rows"], LEVEL, show=["kind"])) == 100


def test_in_a_program_it_ends_the_run(served: Served) -> None:
    made, server = served(confirm_over_usd=0.0005, call={"program": ("Final = 1",)})
    with pytest.raises(ConfirmationNeeded, match="resume"):
        made.verbs.llm_each("Which level?", made["logs"], LEVEL)
    assert server.count == 0


@pytest.mark.parametrize("yes", [True, False])
def test_a_person_is_asked_where_one_is_there(served: Served, monkeypatch: pytest.MonkeyPatch, yes: bool) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(batch_plans, "CONFIRM", lambda plan: asked.append(plan) or yes)
    made, server = served(confirm_over_usd=0.0005)
    if yes:
        assert len(made.verbs.llm_each("Which level?", made["logs"], LEVEL)) == 120
    else:
        with pytest.raises(ConfirmationNeeded):
            made.verbs.llm_each("Which level?", made["logs"], LEVEL)
        assert server.count == 0
    assert [plan["records"] for plan in asked] == [120]


def test_a_run_that_plans_stops_before_its_first_batch(served: Served) -> None:
    made, server = served(plan=True)
    with pytest.raises(PlanMade) as stopped:
        made.verbs.llm_each("Which level?", made["logs"], LEVEL)
    assert stopped.value.plan is not None
    assert stopped.value.plan["records"] == 120
    assert server.count == 0


def test_votes_and_packs_are_counted() -> None:
    spec = LeafSpec("records", "Which?", "leaf", LEVEL, votes=3, records_per_call=4, call_tokens=1_000)
    plan = plan_of("llm_each", spec, Sizes(9, 9, 0, [40] * 9), {}, 0.5, None)
    assert plan["calls"] == 9
    assert plan["usd"] is None
    small = plan_of(
        "llm_each", LeafSpec("records", "Which?", "leaf", LEVEL, call_tokens=600), Sizes(9, 9, 0, [400] * 9), {}, 0.5, None
    )
    assert small["calls"] > 1  # the tokens of a call hold fewer than records_per_call


def test_what_was_learned_takes_the_place_of_the_settings() -> None:
    spec = LeafSpec("records", "Which?", "leaf", LEVEL)
    learned = Learned(10, 30_000, 10_000, 500, 100)
    plan = plan_of("llm_each", spec, Sizes(100, 100, 0, [30] * 100), {}, 0.5, learned)
    assert plan["completion_tokens"] == 500
    assert plan["prompt_tokens"] > 1_000
    assert off_by(plan, Usage(2, plan["prompt_tokens"], 500))["off"] == 0


def _id(plan: Plan) -> str:
    assert isinstance(plan.origin, Result)
    return plan.origin.id
