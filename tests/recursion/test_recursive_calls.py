"""Recursive calls as jobs. What a call comes to is given by each test; the loop itself is tested with the driver."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rlm_ray.errors import BudgetExceeded, ClusterError, CredentialsError, DepthExceeded, InputError, SubcallFailed, SubcallsFailed
from rlm_ray.handle.plan import Plan
from rlm_ray.ledger.finished import Finished
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.recursion.jobs.scheduler import Promise
from rlm_ray.recursion.ports import Call, CallOutcome, ShardFailure
from rlm_ray.testing import Faults, ModelServer
from tests.recursion.conftest import World

Make = Callable[..., World]


def spent(call: Call, calls: int = 2) -> Any:
    """The call's budget after so many model calls."""
    meter = BudgetMeter(call.budget)
    for _ in range(calls):
        meter.settle(meter.reserve(100, 50, "root"), Usage(1, 80, 20))
    return meter.budget


def answers(call: Call) -> CallOutcome:
    """Says what it was asked about."""
    value = f"{call.question} {call.text if call.text is not None else call.contexts['context']['plan'][-1]['node']}"
    return CallOutcome("json", value, True, "answered", spent(call))


def test_one_recursive_call(world: Make) -> None:
    made = world(recurse=answers, max_depth=2, max_turns=7)
    assert made.verbs.rlm_query("What about", "this text?") == "What about this text?"
    (call,) = made.ports.calls
    assert (call.depth, call.budget.depth, call.text, call.contexts, call.main) == (1, 1, "this text?", {}, None)
    assert call.id.startswith("0-")
    assert call.settings.max_turns == 7
    assert made.budget.spent.calls == 2
    assert made.budget.lent == {}


def test_a_question_alone_is_its_own_context(world: Make) -> None:
    made = world(recurse=answers)
    made.verbs.rlm_query("How many moons has Mars?")
    assert made.ports.calls[0].text == "How many moons has Mars?"


def test_a_call_over_a_part_gets_its_plan_not_its_data(world: Make) -> None:
    made = world(recurse=answers)
    assert made.verbs.rlm_query("What about", made["logs"].grep("ERROR")) == "What about grep"
    (call,) = made.ports.calls
    assert call.text is None
    assert call.main == "context"
    assert Plan.from_json(call.contexts["context"]["plan"]) == made["logs"].grep("ERROR").plan


def test_many_calls_come_back_in_order(world: Make) -> None:
    made = world(recurse=answers, call={"width": 3})
    texts = [f"text {number}" for number in range(10)]
    assert made.verbs.rlm_query_batched(["What about"] * 10, texts) == [f"What about {text}" for text in texts]
    assert made.verbs.rlm_query_batched(["a", "b"]) == ["a a", "b b"]
    assert len({call.id for call in made.ports.calls}) == 12


def test_the_width_bounds_all_live_calls_of_all_batches(world: Make) -> None:
    gate = threading.Event()

    def waits(call: Call) -> CallOutcome:
        gate.wait(60)
        return answers(call)

    made = world(recurse=waits, call={"width": 3})
    results = [made.verbs.rlm_map("What about", [f"text {number}"]) for number in range(6)]
    ended = Promise()
    made.service.scheduler.start(
        made.service.dispatcher.job("rlm_query_batched", {"questions": ["q"] * 4, "parts": [{"text": "x"}] * 4}, b""),
        lambda value, error: ended.set(value, error),
    )
    assert len(made.ports.calls) == 3
    assert sum(len(counted.live) for counted in made.service.batches.tally.batches) == 3
    gate.set()
    assert [result.count() for result in results] == [1] * 6
    while not ended.done():
        if not made.service.scheduler.poll():
            made.service.scheduler.wait((), (), 60)
    assert len(made.ports.calls) == 10
    assert made.service.batches.tally.batches == []


def test_children_share_the_width_and_the_budget(world: Make) -> None:
    made = world(recurse=answers, call={"width": 8}, max_calls=101)
    made.verbs.rlm_query_batched(["q"] * 4)
    assert {call.width for call in made.ports.calls} == {2}
    assert made.ports.calls[0].budget.limits.calls == 20  # one of four, and something for the parent
    assert made.budget.spent.calls == 8
    assert made.budget.left["calls"] == 92


def test_one_row_for_each_part(world: Make) -> None:
    made = world(recurse=answers)
    chunks = made["docs"].chunks(tokens=20)
    result = made.verbs.rlm_map("What about", chunks)
    rows = list(result)
    assert [row["answer"] for row in rows] == ["What about between"] * len(chunks)
    assert [row["_part"] for row in rows] == list(range(len(chunks)))
    assert [row["_address"] for row in rows] == [chunk.head(1)[0]["_address"] for chunk in chunks]
    assert {row["_call"] for row in rows} == {call.id for call in made.ports.calls}
    assert result.failed.count() == 0
    assert result.progress == {"finished": True, "done": len(chunks), "failed": 0, "expected": len(chunks)}


def test_typed_answers(world: Make) -> None:
    def typed(call: Call) -> CallOutcome:
        assert call.schema is not None
        assert set(call.schema["properties"]) == {"label", "amount"}
        value: Any = {"label": "SPAM", "amount": "5"} if call.text != "bad" else {"label": "egg", "amount": 1}
        return CallOutcome("json", value, True, "answered", call.budget)

    made = world(recurse=typed)
    result = made.verbs.rlm_map("What is it?", ["good", "bad"], schema={"label": ["spam", "ham"], "amount": "number"})
    (good,) = list(result)
    (bad,) = result.failed
    assert (good["label"], good["amount"], good["_error"]) == ("spam", 5.0, None)
    assert bad["label"] is None
    assert "does not fit the schema" in bad["_error"]
    assert result.schema == {"label": "string", "amount": "double"}


def test_a_call_without_an_answer_is_a_failed_row_and_the_others_go_on(world: Make) -> None:
    def mixed(call: Call) -> CallOutcome:
        if call.text == "silent":
            return CallOutcome("none", None, False, "turns", call.budget)
        if call.text == "lost":
            raise ClusterError("A worker of the cluster was lost: out of memory.")
        return CallOutcome("json", {"n": 5}, True, "answered", call.budget)

    made = world(recurse=mixed)
    result = made.verbs.rlm_map("q", ["fine", "silent", "lost", "fine"])
    assert [row["answer"] for row in result] == ['{"n": 5}', '{"n": 5}']
    rows = list(result.failed)
    assert rows[0]["_error"] == "no answer (turns)"
    assert rows[1]["_error"] == "ClusterError: A worker of the cluster was lost: out of memory."
    with pytest.raises(SubcallsFailed, match=r"1 of 2 calls failed, the first at index 1: no answer \(turns\)") as caught:
        made.verbs.rlm_query_batched(["q", "q"], ["fine", "silent"])
    assert caught.value.answers == ['{"n": 5}', None]
    with pytest.raises(SubcallFailed, match=r"The recursive call failed: ClusterError"):
        made.verbs.rlm_query("q", "lost")


def test_the_slice_of_a_call_that_died_is_spent_except_what_the_ledger_proves(world: Make) -> None:
    def dies(call: Call) -> CallOutcome:
        finished = Finished(call.run_dir)
        finished.expose(f"{call.id}:a", (4, 100, 0))
        finished.add("key", {"answer": 1}, None, Usage(3, 60, 10), f"{call.id}:a")
        finished.expose(f"{call.id}-below-0:b", (2, 50, 0))
        finished.expose(f"{call.id}-below-0:c", (9, 90, 0))
        finished.end(f"{call.id}-below-0:c")
        finished.expose("0-another:d", (5, 50, 0))
        raise ClusterError("gone")

    made = world(recurse=dies, max_calls=21)
    with pytest.raises(SubcallFailed):
        made.verbs.rlm_query("q", "x")
    assert made.ports.calls[0].budget.limits.calls == 10
    assert made.budget.spent == (3 + 4 + 2, 70, 0), "of tokens there was no limit, so none were lent"


def test_what_a_call_found_out_comes_up(world: Make) -> None:
    failure = ShardFailure("s3://lake/a", "it is gone", 3)

    def cites(call: Call) -> CallOutcome:
        return replace(
            answers(call),
            failures=(failure,),
            citations=({"address": call.id, "quote": None},),
            events={"denials": 2},
        )

    made = world(recurse=cites)
    made.verbs.rlm_query_batched(["a", "b"])
    assert list(made.service.failures.failures.values()) == [failure]
    assert {item["address"] for item in made.service.citations()} == {call.id for call in made.ports.calls}
    assert made.service.events() == {"denials": 4}


def test_a_wrong_key_below_ends_it_all(world: Make) -> None:
    def refused(call: Call) -> CallOutcome:
        raise CredentialsError("HTTP 401")

    made = world(recurse=refused)
    with pytest.raises(CredentialsError):
        made.verbs.rlm_query("q", "x")
    with pytest.raises(CredentialsError):
        made.verbs.rlm_map("q", ["x"]).count()
    with pytest.raises(CredentialsError):
        made.service.scheduler.check()


def test_more_calls_than_are_left(world: Make) -> None:
    made = world(recurse=answers, max_calls=4)
    with pytest.raises(BudgetExceeded):
        made.verbs.rlm_query_batched(["q"] * 4)
    assert made.ports.calls == []


@pytest.fixture
def deepest(world: Make, model_server: Callable[..., ModelServer]) -> Callable[..., tuple[World, ModelServer]]:
    """A call at the deepest level, and its model server."""

    def make(leaf: Any, faults: Faults | None = None, **options: Any) -> tuple[World, ModelServer]:
        server = model_server(leaf=leaf, faults=faults, keep_messages=True)
        return world(base_url=server.base_url, max_depth=1, call={"depth": 1}, **options), server

    return make


Deepest = Callable[..., tuple[World, ModelServer]]


def test_at_the_deepest_level_a_recursive_call_is_one_plain_call_and_says_so(deepest: Deepest) -> None:
    made, server = deepest(lambda prompt, schema: "an answer")
    assert made.verbs.rlm_query("What about", made["logs"][:3]) == "an answer"
    assert made.verbs.rlm_query_batched(["a", "b"], ["x", "y"]) == ["an answer", "an answer"]
    assert made.ports.calls == []
    assert server.count == 3
    assert made.service.recursive_calls.take_notes()[0] == "At depth 1 of 1 a recursive call is one plain call: 1 were."
    prompts = [request["messages"][0]["content"] for request in server.requests]
    assert prompts[0].startswith("What about")
    assert "auth 02 INFO" in prompts[0]


def test_at_the_deepest_level_a_batch_runs_together(deepest: Deepest) -> None:
    made, server = deepest(lambda prompt, schema: json.dumps({"errors": prompt.count("ERROR")}))
    server.hold(after=1)
    result = made.verbs.rlm_map("How many?", made["logs"].chunks(tokens=100), schema={"errors": "integer"})
    server.wait_for(len(made["logs"].chunks(tokens=100)))
    server.release()
    rows = list(result)
    assert sum(row["errors"] for row in rows) == 30
    assert all(row["_address"] for row in rows)
    assert {row["_call"] for row in rows} == {None}


def test_at_the_deepest_level_a_part_that_does_not_fit_is_an_error_to_act_on(deepest: Deepest) -> None:
    made, server = deepest(lambda prompt, schema: "an answer", call_tokens=200)
    with pytest.raises(DepthExceeded, match=r"This is depth 1 of 1, where a recursive call is one plain call.*Use chunks"):
        made.verbs.rlm_query("What about", made["logs"])
    result = made.verbs.rlm_map("What about", [made["logs"], made["logs"][:2]])
    assert [row["_part"] for row in result] == [1]
    rows = list(result.failed)
    assert "too large for one call" in rows[0]["_error"]
    assert server.count == 1


def test_at_the_deepest_level_a_wrong_key_ends_it_all(deepest: Deepest) -> None:
    made, _ = deepest(lambda prompt, schema: "x", faults=Faults(key="another"))
    with pytest.raises(CredentialsError):
        made.verbs.rlm_query("q", "x")


def test_parts_must_be_parts(world: Make) -> None:
    made = world(recurse=answers)
    with pytest.raises(InputError, match="rlm_map takes parts"):
        made.verbs.rlm_map("q", made["logs"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="2 questions need as many parts, and were given 1"):
        made.verbs.rlm_query_batched(["a", "b"], ["x"])


def test_a_call_that_cannot_start_gives_its_slice_back_whole(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(recurse=answers, max_depth=2, max_calls=100)

    def refuses(call: Call, progress: Any) -> Any:
        raise ClusterError("Ray did not start.")

    monkeypatch.setattr(made.ports, "recurse", refuses)
    left = made.budget.left
    for _ in range(3):
        with pytest.raises(SubcallFailed, match="Ray did not start"):
            made.verbs.rlm_query("What about", "this text?")
        assert made.budget.left["calls"] == left["calls"]
        assert (made.budget.lent, made.budget.spent.calls) == ({}, 0)
    monkeypatch.undo()
    assert made.verbs.rlm_query("What about", "this text?") == "What about this text?"
