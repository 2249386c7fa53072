from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.errors import InputError
from rlm_ray.handle.plan import MAX_NODES, Between, Grep, Keep, Plan, Result, Select, Slice, Source, Split, Step, Where, Window

NODES: list[Step] = [
    Source("context"),
    Result("0-3f2a-1"),
    Select(("a", "b")),
    Where((("level", "==", "ERROR"), ("n", "in", (1, 2.5, None, "x", True)))),
    Grep("timeout after \\d+", "msg", True, True),
    Slice(5),
    Slice(5, 10),
    Split("text", r"\n\n", 4_000),
    Keep("0-3f2a"),
    Between((0, 5, 0), None),
    Between(None, (3, 1 << 50, 7)),
    Window(0, 5, 3, 9),
    Window(2, 0),
]


@pytest.mark.parametrize("node", NODES, ids=lambda node: type(node).__name__)
def test_each_node_is_json_both_ways(node: Step) -> None:
    origin = isinstance(node, Source | Result)
    plan = Plan((node,)) if origin else Plan((Source("c"), node))
    written = json.loads(json.dumps(plan.to_json()))
    assert Plan.from_json(written) == plan
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert hash(Plan.from_json(written)) == hash(plan)


def test_the_written_form_is_stable() -> None:
    """Snapshots and logs of older runs hold it."""
    plan = Plan((Source("logs"), Where((("n", "in", (1, 2)),)), Grep("x"), Between((0, 1, 2), None)))
    assert plan.to_json() == [
        {"node": "source", "corpus": "logs"},
        {"node": "where", "conditions": (("n", "in", (1, 2)),)},
        {"node": "grep", "pattern": "x", "column": None, "ignore_case": False, "invert": False},
        {"node": "between", "start": (0, 1, 2), "stop": None},
    ]
    assert plan.fingerprint() == "5f09def94ded61d6bb17402a0cd131e8"


def test_fingerprints_tell_plans_apart() -> None:
    plans = [Plan((Source("a"),)), Plan((Source("b"),)), *(Plan((Source("a"), node)) for node in NODES[2:])]
    plans += [Plan((Source("a"), Grep("x"), Slice(0, 5))), Plan((Source("a"), Slice(0, 5), Grep("x")))]
    assert len({plan.fingerprint() for plan in plans}) == len(plans)
    assert all(len(plan.fingerprint()) == 32 for plan in plans)


def test_a_plan_grows_and_stays() -> None:
    plan = Plan((Source("c"),))
    longer = plan.then(Grep("x")).then(Slice(0, 5))
    assert longer.origin == Source("c")
    assert longer.steps == (Grep("x"), Slice(0, 5))
    assert plan.steps == ()
    with pytest.raises(AttributeError):
        plan.nodes = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Plan(()),
        lambda: Plan((Grep("x"),)),
        lambda: Plan((Source("a"), Source("b"))),
        lambda: Plan((Source("a"), Result("b"))),
        lambda: Plan((Source("a"), *[Grep("x")] * MAX_NODES)),
        lambda: Source(""),
        lambda: Source("x" * 201),
        lambda: Select(()),
        lambda: Select("ab"),  # type: ignore[arg-type]
        lambda: Where("abc"),  # type: ignore[arg-type]
        lambda: Where(("abc",)),  # type: ignore[arg-type]
        lambda: Select((5,)),  # type: ignore[arg-type]
        lambda: Where((("a", "=="),)),  # type: ignore[arg-type]
        lambda: Where((("a", "like", "x"),)),
        lambda: Where((("a", "in", "abc"),)),
        lambda: Where((("a", "==", [1]),)),
        lambda: Where(((5, "==", 1),)),  # type: ignore[arg-type]
        lambda: Where((("a", "in", (0,) * 100_001),)),
        lambda: Grep(5),  # type: ignore[arg-type]
        lambda: Grep("x" * 10_001),
        lambda: Grep("x", ignore_case=1),  # type: ignore[arg-type]
        lambda: Slice(-1),
        lambda: Slice(True),
        lambda: Slice(0, 1 << 62),
        lambda: Split("a", ""),
        lambda: Split("a", "line", 0),
        lambda: Between((0, 0), None),  # type: ignore[arg-type]
        lambda: Between((0, -1, 0), None),
        lambda: Window(0, -1),
    ],
)
def test_what_cannot_be_part_of_a_plan(make: Any) -> None:
    with pytest.raises(InputError, match="cannot be part of a plan"):
        make()


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "a.b", "a b", "a--b", "-a", "ä", "x" * 201, "a\x00", "a\n"])
def test_ids_become_file_names(name: str) -> None:
    for node in (Result, Keep):
        with pytest.raises(InputError):
            node(name)


@pytest.mark.parametrize(
    "written",
    [
        None,
        "x",
        {},
        [],
        [None],
        [{}],
        [{"node": "nope"}],
        [{"node": []}],
        [{"node": "source"}],
        [{"node": "source", "corpus": "c", "more": 1}],
        [{"node": "source", "corpus": ["c"]}],
        [{"node": "source", "corpus": "c"}, {"node": "where", "conditions": 5}],
        [{"node": "source", "corpus": "c"}, {"node": "slice", "start": "5"}],
        [{"node": "source", "corpus": "c"}] * 300,
    ],
)
def test_what_is_no_plan(written: Any) -> None:
    with pytest.raises(InputError):
        Plan.from_json(written)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
_kinds = st.sampled_from(["select", "where", "grep", "slice", "split", "keep", "between", "window", "source", "result", "x"])
_fields = st.sampled_from(["columns", "conditions", "pattern", "column", "start", "stop", "by", "selection", "first", "skip", "id"])


@given(
    st.lists(
        st.dictionaries(_fields, _json, max_size=3).flatmap(lambda item: _kinds.map(lambda kind: {"node": kind} | item)), max_size=3
    )
)
def test_anything_is_a_plan_that_comes_back_or_an_error_to_act_on(nodes: list[dict[str, Any]]) -> None:
    try:
        plan = Plan.from_json([{"node": "source", "corpus": "c"}, *nodes])
    except InputError:
        return
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert len(plan.fingerprint()) == 32
