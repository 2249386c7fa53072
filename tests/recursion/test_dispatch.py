"""Requests come from a process that may be hostile: whatever they say, the answer is a value or an error to act on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.errors import BudgetExceeded, InputError
from rlm_ray.recursion.ports import Call, CallOutcome
from rlm_ray.recursion.verbs.dispatch import MAX_PROMPT, VERBS
from rlm_ray.testing import each
from tests.recursion.conftest import World
from tests.recursion.hostile import PLAN, VALUES

Make = Callable[..., World]

PART = {"base": PLAN, "step": {"node": "slice", "start": 0, "stop": 2}}

#: A request of each verb that works, but for `map`, `filter` and `aggregate`, which need a function.
REQUESTS: dict[str, dict[str, Any]] = {
    "count": {"plan": PLAN},
    "head": {"plan": PLAN, "n": 2},
    "record": {"plan": PLAN, "index": 1},
    "page": {"plan": PLAN, "after": None, "n": 3},
    "text": {"plan": PLAN, "max_chars": 100},
    "sample": {"plan": PLAN, "n": 2, "seed": 1},
    "draw": {"plan": PLAN, "n": 2, "seed": 1, "skip": 0},
    "count_by": {"plan": PLAN, "column": "text", "limit": 5},
    "sql": {"plan": PLAN, "query": "select count(*) n from context", "combine": None},
    "chunks": {"plan": PLAN, "tokens": 100, "by": None, "overlap": 0},
    "reading": {"plan": PLAN},
    "check_pattern": {"pattern": "a+", "ignore_case": False},
    "llm_query": {"prompt": "hello", "part": PART, "model": None},
    "llm_query_batched": {"prompts": ["a", "b"], "model": "leaf"},
    "llm_map": {"prompt": "hello", "parts": [PART, {"text": "x"}], "schema": None, "model": None, "votes": 1},
    "llm_each": {
        "prompt": "hello",
        "plan": [*PLAN, {"node": "slice", "start": 0, "stop": 3}],
        "schema": None,
        "model": None,
        "votes": 1,
    },
    "llm_each_plan": {
        "prompt": "hello",
        "plan": [*PLAN, {"node": "slice", "start": 0, "stop": 3}],
        "schema": None,
        "model": None,
        "votes": 1,
    },
    "rlm_query": {"question": "what?", "part": PART},
    "rlm_query_batched": {"questions": ["what?"], "parts": [{"text": "x"}]},
    "rlm_map": {"question": "what?", "parts": [PART], "schema": None},
    "estimate": {
        "plan": PLAN,
        "question": "how much?",
        "schema": {"amount": "number"},
        "model": None,
        "within": None,
        "delta": 0.1,
        "calls": 1,
        "by": None,
        "min": 0,
        "max": 2,
        "seed": 1,
    },
    "cite": {"address": "a@1#row=0", "quote": "x"},
    "budget": {},
}


def answered(call: Call) -> CallOutcome:
    return CallOutcome("json", "an answer", True, "answered", call.budget)


@pytest.fixture
def asked(world: Make, model_server: Callable[..., Any]) -> World:
    server = model_server(leaf=each(lambda text: 1))
    return world(recurse=answered, base_url=server.base_url, max_calls=1_000_000)


def finish(world: World, reply: Any) -> None:
    """Wait for a result that was started."""
    if isinstance(reply, dict) and "plan" in reply:
        world.ask("count", plan=reply["plan"])


@pytest.mark.parametrize("verb", [verb for verb in REQUESTS if verb != "cite"])  # of which test_citing knows more
def test_every_verb_answers(asked: World, verb: str) -> None:
    reply = asked.ask(verb, **REQUESTS[verb])
    finish(asked, reply)
    json.dumps(reply)


def test_there_is_a_request_for_every_verb(asked: World) -> None:
    assert set(REQUESTS) | {"map", "filter", "aggregate", "progress", "so_far"} == set(VERBS)


@pytest.mark.parametrize("verb", ["", "no such verb", "_verb_count", "__init__", "job", "call", "../count", "x" * 10_000])
def test_no_other_verb(asked: World, verb: str) -> None:
    with pytest.raises(InputError, match="There is no verb") as caught:
        asked.ask(verb)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("verb", list(REQUESTS))
def test_whatever_stands_in_an_argument(asked: World, verb: str) -> None:
    """Each argument of each verb in turn is left out, or replaced by each hostile value."""
    refused: list[str] = []
    for name in REQUESTS[verb]:
        for value in [*VALUES, ...]:
            args = {key: item for key, item in (REQUESTS[verb] | {name: value}).items() if item is not ...}
            try:
                finish(asked, asked.ask(verb, **args))
            except (InputError, IndexError, BudgetExceeded) as error:
                refused.append(str(error))
            except Exception as error:
                raise AssertionError(f"{verb}({name}={str(value)[:200]}) raised {type(error).__name__}: {error}") from error
    assert refused or not REQUESTS[verb]
    assert all(0 < len(message) < 2_000 for message in refused)
    assert asked.service.failures.failures == {}


def test_arguments_that_are_nested_too_deep(asked: World) -> None:
    deepest: Any = None
    for depth in range(100, 3_000, 50):
        try:
            deepest = json.loads("[" * depth + "]" * depth)
        except RecursionError:
            break
    asked_of = [(verb, name) for verb, args in REQUESTS.items() for name in args if name != "ignore_case"]
    for verb, name in asked_of:
        with pytest.raises(InputError):
            asked.ask(verb, **(REQUESTS[verb] | {name: deepest}))


def test_a_schema_is_never_fetched(asked: World, model_server: Callable[..., Any]) -> None:
    server = model_server()
    for form in ({"$ref": f"{server.base_url}/models"}, {"anyOf": [{"$dynamicRef": f"{server.base_url}/models"}]}):
        for schema in ({"type": "object", "properties": {"x": form}}, {"x": form}):
            with pytest.raises(InputError):
                asked.ask("llm_map", **(REQUESTS["llm_map"] | {"schema": schema}))


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["source", "logs", "text", "node", "=="]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["node", "corpus", "text", "base", "step", "a"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(verb=st.sampled_from([verb for verb in REQUESTS if not verb.startswith(("llm", "rlm"))]), args=st.dictionaries(
    st.sampled_from(["plan", "n", "index", "after", "column", "pattern", "tokens", "by", "address"]), _values, max_size=4
))  # fmt: skip
def test_arbitrary_arguments(asked: World, verb: str, args: dict[str, Any]) -> None:
    with contextlib.suppress(InputError, IndexError):
        json.dumps(asked.ask(verb, **args))


_nodes = st.fixed_dictionaries(
    {"node": st.sampled_from(["select", "where", "grep", "slice", "split", "keep", "between", "window", "source", "result"])},
    optional=dict.fromkeys(("columns", "conditions", "pattern", "start", "stop", "by", "column", "selection", "first"), _values),
)


@settings(max_examples=80, deadline=None)
@given(nodes=st.lists(_nodes, max_size=3), verb=st.sampled_from(["count", "head", "chunks", "llm_each"]))
def test_arbitrary_plans(asked: World, nodes: list[dict[str, Any]], verb: str) -> None:
    try:
        reply = asked.ask(verb, **(REQUESTS[verb] | {"plan": [*PLAN, *nodes]}))
    except (InputError, IndexError):
        return
    finish(asked, reply)


def test_sizes_are_bounded(asked: World) -> None:
    with pytest.raises(InputError, match="Pass data as a part"):
        asked.ask("llm_query", prompt="x" * (MAX_PROMPT + 1))
    with pytest.raises(InputError, match=r"more than 1,000,000\. Use larger chunks"):
        asked.ask("llm_map", prompt="x", parts=[{"text": ""}] * 1_000_001, votes=1)
    with pytest.raises(InputError, match="at most 1,000,000"):
        asked.ask("llm_query_batched", prompts=[""] * 1_000_001)
    assert asked.ports.groups == []


def test_a_model_that_is_not_of_this_run(asked: World) -> None:
    for verb in ("llm_query", "llm_query_batched", "llm_map", "llm_each"):
        with pytest.raises(InputError, match=r"'gpt-expensive' is not one of this run: leaf, root\."):
            asked.ask(verb, **(REQUESTS[verb] | {"model": "gpt-expensive"}))
    assert asked.ports.groups == []


def test_votes_are_bounded(asked: World) -> None:
    with pytest.raises(InputError, match="votes = 100 is more than 99"):
        asked.ask("llm_map", **(REQUESTS["llm_map"] | {"votes": 100}))


def test_questions_and_parts_go_in_pairs(asked: World) -> None:
    with pytest.raises(InputError, match="2 questions need as many parts, and were given 1"):
        asked.ask("rlm_query_batched", questions=["a", "b"], parts=[{"text": "x"}])


def test_progress_of_a_result(asked: World) -> None:
    reply = asked.ask("llm_map", **REQUESTS["llm_map"])
    finish(asked, reply)
    (node,) = reply["plan"]
    assert asked.ask("progress", id=node["id"]) == {"finished": True, "done": 2, "failed": 0, "expected": 2}
    assert asked.ask("so_far", id=node["id"])["plan"] == reply["plan"]
    for name in (None, 5, "none", "../../x", "a/b", "", "\x00"):
        for verb in ("progress", "so_far"):
            with pytest.raises(InputError):
                asked.ask(verb, id=name)


@pytest.fixture
def nothing(world: Make) -> World:
    return world()


@pytest.mark.parametrize("verb", ["map", "filter"])
@pytest.mark.parametrize("blob", [b"", b"garbage", b"\x80\x04N."])
def test_functions_that_are_none(nothing: World, verb: str, blob: bytes) -> None:
    with pytest.raises(InputError):
        nothing.ask(verb, blob, plan=PLAN)


@pytest.mark.parametrize("cut", [None, -1, 0, 4, 1 << 62, "4"])
def test_aggregates_that_are_none(nothing: World, cut: Any) -> None:
    with pytest.raises(InputError):
        nothing.ask("aggregate", b"\x80\x04N.", plan=PLAN, combine_at=cut)
