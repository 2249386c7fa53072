from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rlm_ray.errors import StorageError
from rlm_ray.handle.plan import Plan, Result, Slice, Source
from rlm_ray.recursion import final as final_module
from rlm_ray.recursion.final import Finals, misfit
from rlm_ray.sandbox.outside.events import Final
from tests.recursion.conftest import World

ROWS = {"type": "array", "items": {"type": "object", "required": ["n"]}}


@pytest.fixture
def finals(world: Callable[..., World]) -> Callable[[dict[str, Any] | None], Finals]:
    service = world().service
    return lambda schema: Finals(service.scheduler, service.scans, service.results, schema)


Make = Callable[[dict[str, Any] | None], Finals]


@pytest.mark.parametrize("value", [0, "", [], {}, False, {"a": [1, None]}])
def test_a_json_value_is_taken_as_it_is(finals: Make, value: Any) -> None:
    assert finals(None).check(Final("json", value)) == ({"kind": "json", "value": value}, None)


def test_a_value_must_fit_the_schema(finals: Make) -> None:
    made = finals({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    assert made.check(Final("json", {"n": 5}))[1] is None
    assert made.check(Final("json", {"n": "five"})) == (None, misfit({"n": "five"}, {"properties": {"n": {"type": "integer"}}}))
    assert "n: 'five' is not of type 'integer'" in (made.check(Final("json", {"n": "five"}))[1] or "")
    assert "the value: 'n' is a required property" in (made.check(Final("json", {}))[1] or "")


def test_a_corpus_is_a_table(finals: Make) -> None:
    plan = Plan((Source("rows"), Slice(0, 3)))
    taken, problem = finals(None).check(Final("corpus", plan.to_json()))
    assert problem is None
    assert taken is not None
    assert taken["kind"] == "corpus"
    assert Plan.from_json(taken["value"]["plan"]) == plan


def test_a_table_for_the_call_above_is_whole_or_refused(world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    service = world().service
    made = Finals(service.scheduler, service.scans, service.results, None, handed_up=True)
    taken, _ = made.check(Final("corpus", Plan((Source("rows"),)).to_json()))
    assert taken is not None
    assert len(made.plain(taken["value"])[1]) == 100
    monkeypatch.setattr(final_module, "MAX_ROWS", 99)
    assert "a table of 100 rows is longer than 99" in (made.check(Final("corpus", Plan((Source("rows"),)).to_json()))[1] or "")


def test_a_table_under_a_schema_is_its_rows_all_of_them(finals: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = finals(ROWS)
    taken, _ = made.check(Final("corpus", Plan((Source("rows"),)).to_json()))
    assert taken is not None
    assert [row["n"] for row in taken["value"]] == list(range(100))
    assert set(taken["value"][0]) == {"n", "kind", "msg"}
    monkeypatch.setattr(final_module, "MAX_ROWS", 99)
    assert made.check(Final("corpus", Plan((Source("rows"),)).to_json())) == (
        None,
        "The answer must fit a JSON Schema; a table of 100 rows is too long to check. Set a JSON value.",
    )


@pytest.mark.parametrize("plan", [None, [], [{"node": "source", "corpus": "other"}], Plan((Result("0-none"),)).to_json()])
def test_a_corpus_that_cannot_be_read_is_no_answer(finals: Make, plan: Any) -> None:
    taken, problem = finals(None).check(Final("corpus", plan))
    assert taken is None
    assert (problem or "").startswith("The Corpus cannot be read: ")


def test_a_result_that_cannot_be_written_down_is_told_to_who_waits_for_it(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlm_ray import storage

    results = world().service.results
    state = results.new("made", {"answer": "string"})

    def full(uri: str, data: bytes) -> None:
        raise StorageError(f"{uri} cannot be written: no space. Make room.")

    monkeypatch.setattr(storage, "write_bytes", full)
    results.finish(state)
    with pytest.raises(StorageError, match="no space"):
        state.promise.result()
