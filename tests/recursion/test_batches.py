"""Leaf calls in batches: one question about many prompts, chunks or records, against a real model server."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from rlm_ray.errors import BudgetExceeded, ClusterError, CredentialsError, InputError, SubcallFailed, SubcallsFailed
from rlm_ray.recursion.jobs.scheduler import Promise
from rlm_ray.recursion.verbs.groups import GROUPS_PER_CPU
from rlm_ray.testing import Faults, ModelServer
from tests.recursion.conftest import SERVICES, World, lines_of

Make = Callable[..., World]
Serve = Callable[..., ModelServer]
LEVEL = {"level": ["ERROR", "INFO"]}


def data_of(prompt: str) -> str:
    found = re.search(r"^----- data \w+ -----\n(.*?)\n----- end", prompt, re.DOTALL | re.MULTILINE)
    return found[1] if found is not None else ""


def reader(prompt: str, schema: dict[str, Any] | None = None) -> str:
    """A leaf that reads levels off log lines, and counts errors in chunks."""
    if "in square brackets" in prompt:
        pairs = re.findall(r"^\[(\d+)\] (.*)$", data_of(prompt), re.MULTILINE)
        return json.dumps({"answers": [{"n": int(n), "level": "ERROR" if "ERROR" in text else "INFO"} for n, text in pairs]})
    errors = data_of(prompt).count("ERROR")
    if schema is not None:
        return json.dumps({"errors": errors})
    return f"{errors} errors" if data_of(prompt) else f"<{prompt}>"


@pytest.fixture
def served(world: Make, model_server: Serve) -> Callable[..., tuple[World, ModelServer]]:
    """`served(**settings)` gives a world and the model server that it asks."""

    def make(leaf: Any = reader, faults: Faults | None = None, **options: Any) -> tuple[World, ModelServer]:
        server = model_server(leaf=leaf, faults=faults, keep_messages=True)
        return world(base_url=server.base_url, **options), server

    return make


Served = Callable[..., tuple[World, ModelServer]]


# bare prompts


def test_one_question(served: Served) -> None:
    made, server = served()
    assert made.verbs.llm_query("hello") == "<hello>"
    assert server.count == 1
    assert made.budget.spent.calls == 1
    assert made.budget.lent == {}


def test_one_question_about_a_part(served: Served) -> None:
    made, _ = served()
    assert made.verbs.llm_query("How many errors?", made["logs"].grep("auth")) == "10 errors"
    assert made.verbs.llm_query("How many errors?", "ERROR\nERROR\n") == "2 errors"


def test_a_part_without_records_is_an_error(served: Served) -> None:
    made, server = served()
    with pytest.raises(SubcallFailed, match="no records"):
        made.verbs.llm_query("How many errors?", made["logs"].grep("nothing like it"))
    assert server.count == 0


def test_a_part_that_is_too_large_for_one_call(served: Served) -> None:
    made, server = served(call_tokens=100)
    with pytest.raises(SubcallFailed, match=r"too large for one call.*Use chunks"):
        made.verbs.llm_query("How many errors?", made["logs"])
    assert server.count == 0


def test_many_questions_come_back_in_order(served: Served) -> None:
    made, server = served(calls_per_group=8)
    prompts = [f"question {number}" for number in range(50)]
    assert made.verbs.llm_query_batched(prompts) == [f"<{prompt}>" for prompt in prompts]
    assert server.count == 50
    assert [len(group.parts) for group in made.ports.groups] == [8] * 6 + [2]
    assert made.ports.spread == [True] * 7


def test_a_small_batch_stays_in_this_process(served: Served) -> None:
    made, _ = served()
    made.verbs.llm_query_batched(["a", "b"])
    assert made.ports.spread == [False]


def test_an_empty_batch(served: Served) -> None:
    made, server = served()
    assert made.verbs.llm_query_batched([]) == []
    assert server.count == 0


@pytest.mark.parametrize("most", [5, 256])
def test_equal_questions_are_asked_once(served: Served, most: int) -> None:
    """Also where the batch is many groups."""
    made, server = served(calls_per_group=most)
    assert made.verbs.llm_query_batched(["same"] * 20 + ["other"]) == ["<same>"] * 20 + ["<other>"]
    assert server.count == 2
    assert made.verbs.llm_query("same") == "<same>"
    assert server.count == 2
    assert made.budget.spent.calls == 2


def test_failed_questions_harm_no_others(served: Served) -> None:
    made, _ = served(call_tokens=100)
    with pytest.raises(SubcallsFailed, match=r"1 of 3 calls failed, the first at index 1: The prompt is too large") as caught:
        made.verbs.llm_query_batched(["a", "x" * 10_000, "c"])
    assert caught.value.answers == ["<a>", None, "<c>"]
    assert set(caught.value.errors) == {1}


def test_an_endpoint_that_is_down(served: Served) -> None:
    made, _ = served(faults=Faults(error=1), call_attempts=1)
    with pytest.raises(SubcallFailed, match="500"):
        made.verbs.llm_query("hello")
    with pytest.raises(SubcallsFailed, match="2 of 2 calls failed"):
        made.verbs.llm_query_batched(["a", "b"])


def test_another_model_of_the_run(served: Served) -> None:
    made, server = served()
    made.verbs.llm_query("hello", model="root")
    made.verbs.llm_query("hello")
    assert Counter(request["model"] for request in server.requests) == {"root": 1, "leaf": 1}


# limits


@pytest.mark.parametrize("verb", ["llm_query_batched", "llm_map", "llm_each", "rlm_map"])
def test_a_batch_larger_than_the_calls_left_is_refused_whole(served: Served, verb: str) -> None:
    made, server = served(max_calls=5, records_per_call=10)
    batch = {
        "llm_query_batched": lambda: made.verbs.llm_query_batched(list("abcdefgh")),
        "llm_map": lambda: made.verbs.llm_map("x", list("abc"), votes=3),
        "llm_each": lambda: made.verbs.llm_each("x", made["logs"], LEVEL),
        "rlm_map": lambda: made.verbs.rlm_map("x", list("abcdefgh")),
    }
    with pytest.raises(BudgetExceeded, match=r"(8|9|12) calls were asked for and 4 of 5 are left; none was made"):
        batch[verb]()
    assert server.count == 0
    assert made.ports.groups == []
    assert made.budget.spent.calls == 0


def test_a_batch_of_just_the_calls_left_is_answered_whole(served: Served) -> None:
    made, server = served(max_calls=41, calls_per_group=3)
    assert len(made.verbs.llm_query_batched([f"question {number}" for number in range(40)])) == 40
    assert server.count == made.budget.spent.calls == 40
    assert made.budget.left["calls"] == 0


def test_groups_are_in_flight_by_the_cpus(served: Served) -> None:
    made, server = served(calls_per_group=2)
    made.verbs.llm_query("a first one, which the model answers")
    made.ports.groups.clear()
    server.hold()
    ended = Promise()
    prompts = [f"question {number}" for number in range(40)]
    job = made.service.dispatcher.job("llm_query_batched", {"prompts": prompts}, b"")
    made.service.scheduler.start(job, lambda value, error: ended.set(value, error))
    assert len(made.ports.groups) == GROUPS_PER_CPU * made.ports.capacity()
    (counted,) = made.service.batches.tally.batches
    assert (counted.expected, counted.done, len(counted.live)) == (40, 0, len(made.ports.groups))
    server.release()
    while not ended.done():
        if not made.service.scheduler.poll():
            made.service.scheduler.wait((), (), 60)
    assert ended.result()["answers"] == [f"<{prompt}>" for prompt in prompts]
    assert (counted.done, counted.live) == (40, {})
    assert counted.settled.calls == made.budget.usage.calls - 1
    assert made.service.batches.tally.batches == []


def test_what_is_left_is_told(served: Served) -> None:
    made, _ = served(max_calls=100, max_tokens=50_000)
    made.verbs.llm_query_batched(["a", "b", "c"])
    told = made.verbs.budget()
    assert told["calls left"] == 96  # one is kept for the last turn
    assert told["calls spent"] == 3
    assert 0 < told["tokens spent"] < 1_000
    assert "calls left: 96" in repr(told)


def test_a_wrong_key_ends_it_all(served: Served) -> None:
    made, _ = served(faults=Faults(key="another"))
    with pytest.raises(CredentialsError):
        made.verbs.llm_query("hello")
    result = made.verbs.llm_each("x", made["logs"], LEVEL)
    with pytest.raises(CredentialsError):
        result.count()
    with pytest.raises(CredentialsError):
        made.service.scheduler.check()


# chunks


def test_one_row_for_each_chunk_in_order(served: Served) -> None:
    made, _ = served()
    chunks = made["logs"].chunks(tokens=60)
    result = made.verbs.llm_map("How many errors?", chunks)
    rows = list(result)
    assert len(rows) == len(chunks) > 10
    assert [row["answer"] for row in rows] == [f"{chunk.grep('ERROR').count()} errors" for chunk in chunks]
    assert [row["_address"] for row in rows] == [chunk.head(1)[0]["_address"] for chunk in chunks]
    assert [row["_part"] for row in rows] == list(range(len(chunks)))
    assert {row["_error"] for row in rows} == {None}
    assert result.schema == {"answer": "string"}


def test_typed_answers_can_be_counted(served: Served) -> None:
    made, _ = served(calls_per_group=4)
    result = made.verbs.llm_map("How many errors?", made["logs"].chunks(tokens=60), schema={"errors": "integer"})
    assert result.schema == {"errors": "int64"}
    assert sum(row["errors"] for row in result) == 30
    assert result.where([("errors", ">=", 1)]).count() == sum(row["errors"] >= 1 for row in result)
    assert len(made.ports.groups) > 1


def test_texts_are_chunks_too(served: Served) -> None:
    made, _ = served()
    rows = list(made.verbs.llm_map("How many errors?", ["ERROR", "INFO", "ERROR ERROR"]))
    assert [row["answer"] for row in rows] == ["1 errors", "0 errors", "2 errors"]
    assert all("/segments/" in row["_address"] for row in rows)  # a text is nowhere: the row is what can be cited


def test_a_chunk_that_fails_is_a_row(served: Served) -> None:
    made, _ = served()
    parts = [made["logs"][:4], made["logs"].grep("nothing like it"), made["logs"][4:8]]
    result = made.verbs.llm_map("How many errors?", parts)
    assert [row["_part"] for row in result] == [0, 2]
    assert result.count() == 2
    assert [row["_part"] for row in result.failed] == [1]
    assert "no records" in result.failed.head(1)[0]["_error"]
    assert [row["answer"] for row in result.ok] == ["1 errors", "1 errors"]
    assert result.progress == {"finished": True, "done": 3, "failed": 1, "expected": 3}


def test_a_chunk_that_is_too_large_gives_a_row_for_each_piece(served: Served) -> None:
    made, _ = served(call_tokens=300)
    rows = list(made.verbs.llm_map("How many errors?", [made["logs"]]))
    assert len(rows) > 2
    assert [row["_piece"] for row in rows] == list(range(1, len(rows) + 1))
    assert {row["_part"] for row in rows} == {0}
    assert sum(int(row["answer"].split()[0]) for row in rows) == 30


def test_votes_are_calls_of_their_own(served: Served) -> None:
    said = iter(["yes", "no", "no"])
    made, server = served(leaf=lambda prompt, schema: json.dumps({"answer": next(said)}), concurrency=1)
    (row,) = made.verbs.llm_map("Is it so?", ["it"], schema={"answer": ["yes", "no"]}, votes=3)
    assert row["answer"] == "no"
    assert row["_votes"] == pytest.approx(2 / 3)
    assert server.count == 3


def test_it_starts_at_once_and_reading_waits(served: Served) -> None:
    made, server = served()
    server.hold()
    first = made.verbs.llm_map("How many errors?", ["ERROR"])
    second = made.verbs.llm_each("Which level?", made["logs"][:3], LEVEL)
    server.wait_for(2)  # they run together
    assert first.progress["finished"] is False
    server.release()
    assert first.count() == 1
    assert second.count() == 3
    assert first.progress["finished"] is True


def test_an_empty_batch_of_chunks_is_an_empty_result(served: Served) -> None:
    made, server = served()
    result = made.verbs.llm_map("x", [], schema={"errors": "integer"})
    assert result.count() == 0
    assert list(result) == []
    assert result.schema == {"errors": "int64"}
    assert server.count == 0


# records


def test_exactly_one_row_for_each_record(served: Served) -> None:
    made, server = served(records_per_call=10)
    result = made.verbs.llm_each("Which level?", made["logs"], LEVEL)
    rows = list(result)
    assert [row["text"] for row in rows] == [line for service in SERVICES for line in lines_of(service)]
    assert all(row["level"] == row["text"].split()[2] for row in rows)
    assert [row["_address"] for row in rows] == [record["_address"] for record in made["logs"]]
    assert result.count_by("level") == {"INFO": 90, "ERROR": 30}
    assert server.count == 12
    assert made.budget.spent.calls == 12
    assert result.schema == {"text": "string", "level": "string"}


def test_records_of_many_groups_come_in_order(served: Served) -> None:
    made, _ = served(records_per_call=4, calls_per_group=2, shard_bytes=128)
    rows = list(made.verbs.llm_each("Which level?", made["logs"], LEVEL))
    assert [row["text"] for row in rows] == [line for service in SERVICES for line in lines_of(service)]
    assert len(made.ports.groups) > 10
    assert sum(group.calls for group in made.ports.groups) >= 30


def test_a_large_shard_is_cut_into_groups(served: Served) -> None:
    made, _ = served(records_per_call=4, calls_per_group=2)
    rows = list(made.verbs.llm_each("Which level?", made["logs"].grep("request"), LEVEL))
    assert len(rows) == 120
    assert len(made.ports.groups) >= 15


def test_the_columns_of_the_input_are_kept(served: Served) -> None:
    made, _ = served()
    rows = list(made.verbs.llm_each("Which level?", made["rows"][5:8], LEVEL))
    assert [{key: row[key] for key in ("n", "kind", "msg", "level")} for row in rows] == [
        {"n": n, "kind": f"k{n % 3}", "msg": f"message {n}", "level": "INFO"} for n in (5, 6, 7)
    ]
    narrow = list(made.verbs.llm_each("Which level?", made["rows"].select("msg")[:2], LEVEL))
    assert set(narrow[0]) == {"msg", "level", "_address", "_error"}


def test_an_answer_column_that_is_there_already(served: Served) -> None:
    made, server = served()
    with pytest.raises(InputError, match=r"already have the column 'kind'.*\.select\(\)"):
        made.verbs.llm_each("x", made["rows"], {"kind": "string"})
    with pytest.raises(InputError, match="_mine"):
        made.verbs.llm_each("x", made["rows"], {"_mine": "string"})
    assert server.count == 0


def test_no_records_no_rows(served: Served) -> None:
    made, server = served()
    result = made.verbs.llm_each("Which level?", made["logs"].grep("nothing like it"), LEVEL)
    assert result.count() == 0
    assert result.schema == {"text": "string", "level": "string"}
    assert list(result.where([("level", "==", "ERROR")])) == []
    assert server.count == 0


def test_records_without_an_answer_are_failed_rows(served: Served) -> None:
    def forgetful(prompt: str, schema: dict[str, Any] | None) -> str:
        answers = json.loads(reader(prompt))["answers"]
        texts = dict(re.findall(r"^\[(\d+)\] (.*)$", data_of(prompt), re.MULTILINE))
        return json.dumps({"answers": [answer for answer in answers if "cart 07" not in texts[str(answer["n"])]]})

    made, _ = served(leaf=forgetful)
    result = made.verbs.llm_each("Which level?", made["logs"], LEVEL)
    assert result.count() == 119
    assert result.failed.count() == 1, [(row["text"], row["_error"]) for row in result.failed][:5]
    (row,) = result.failed
    assert row["text"] == "cart 07 INFO request 7"
    assert row["level"] is None
    assert "No valid answer" in row["_error"]
    assert result.ok.count() == 119
    assert made.service.batches.tally.batches == []


def test_a_model_that_never_answers_in_form_gives_only_failed_rows(served: Served) -> None:
    made, _ = served(faults=Faults(malformed=1))
    result = made.verbs.llm_each("Which level?", made["logs"][:5], LEVEL)
    assert result.failed.count() == 5
    with pytest.raises(SubcallFailed, match=r"llm_each failed on 5 of 5: No valid answer.*look at \.failed|Look at \.failed"):
        result.count()
    kept = made.verbs.llm_each("Which level?", made["logs"][:5], LEVEL, on_error="keep")
    assert (kept.count(), kept.failed.count()) == (0, 5)


@pytest.mark.parametrize("kind", ["records", "chunks", "prompts"])
def test_a_batch_of_many_groups_stops_after_a_dozen_unusable_replies(served: Served, kind: str) -> None:
    """No group but the first asks before one reply was usable."""
    made, server = served(leaf=lambda prompt, schema: "", capacity=8, records_per_call=1, calls_per_group=12)
    texts = [f"{n} ERROR" for n in range(120)]
    if kind == "prompts":
        with pytest.raises(SubcallsFailed, match="120 of 120 calls failed") as caught:
            made.verbs.llm_query_batched(texts)
        errors = list(caught.value.errors.values())
    else:
        told = "Which level?"
        data = made["logs"]
        result = made.verbs.llm_each(told, data, LEVEL) if kind == "records" else made.verbs.llm_map(told, texts, LEVEL)
        assert result.failed.count() == 120
        errors = [row["_error"] for row in result.failed]
    assert sum("The batch was stopped: its first " in error for error in errors) >= 116
    assert 8 <= server.count <= 12
    assert made.budget.lent == {}


def test_a_question_that_was_answered_needs_no_trial(served: Served) -> None:
    made, server = served(records_per_call=1, calls_per_group=10, capacity=4)
    assert made.verbs.llm_each("Which level?", made["logs"][:20], LEVEL).ok.count() == 20
    server.hold()
    result = made.verbs.llm_each("Which level?", made["logs"][20:], LEVEL)
    server.wait_for(20 + 80)  # eight groups at once
    server.release()
    assert result.ok.count() == 100


def test_rows_that_the_budget_did_not_reach_say_so(served: Served) -> None:
    made, server = served(faults=Faults(malformed=1), max_calls=4, records_per_call=50)
    result = made.verbs.llm_each("Which level?", made["logs"][:100], LEVEL)
    assert (result.count(), result.failed.count()) == (0, 100)  # no error: the next call is refused, and says why
    assert any("budget" in row["_error"] for row in result.failed)
    assert server.count <= 4


# again


def test_a_result_is_a_corpus_that_can_be_asked_about(served: Served) -> None:
    made, _ = served()
    levels = made.verbs.llm_each("Which level?", made["logs"], LEVEL)
    errors = levels.where([("level", "==", "ERROR")])
    again = made.verbs.llm_map("How many errors?", errors.chunks(tokens=200), schema={"errors": "integer"})
    # each record shows its text and its level
    assert sum(row["errors"] for row in again) == 2 * 30
    sure = made.verbs.llm_each("Which level?", errors.select("text")[:2], {"sure": ["yes"]}, on_error="keep")
    assert (sure.count(), sure.failed.count()) == (0, 2)
    assert len({corpus.plan.origin for corpus in (levels, again)}) == 2


def test_the_models_read_what_was_selected_and_nothing_else(served: Served) -> None:
    made, server = served()
    made.verbs.llm_each("Which level?", made["rows"].select("msg")[:3], LEVEL).count()
    (request,) = server.requests
    read = data_of(request["messages"][0]["content"])
    assert "message 2" in read
    assert "kind" not in read
    assert "_address" not in read


def test_a_changed_object_is_a_failed_row_or_shard_never_a_mixture(served: Served, tmp_path: Any) -> None:
    from rlm_ray.corpus.opening import open_manifest

    made, server = served()
    path = tmp_path / "moving.log"
    path.write_text("a ERROR\nb INFO\n")
    made._corpora["moving"] = open_manifest(str(path), name="moving")
    chunks = made["moving"].chunks(tokens=16)
    path.write_text("c ERROR\nd INFO\ne INFO\n")
    result = made.verbs.llm_map("How many errors?", chunks)
    assert result.failed.count() == len(chunks)
    assert "moving.log" in result.failed.head(1)[0]["_error"]
    assert made.verbs.llm_each("Which level?", made["moving"], LEVEL).count() == 0
    (failure,) = made.service.failures.failures.values()
    assert failure.object == str(path)
    assert server.count == 0


def test_a_group_that_cannot_start_gives_its_slice_back_whole(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(max_calls=100)

    def refuses(group: Any, progress: Any, spread: bool) -> Any:
        raise ClusterError("Ray did not start.")

    monkeypatch.setattr(made.ports, "leaves", refuses)
    left = made.budget.left
    for _ in range(3):
        with pytest.raises(ClusterError, match="Ray did not start"):
            made.verbs.llm_query_batched(["a", "b"])
        assert made.budget.left["calls"] == left["calls"]
        assert (made.budget.lent, made.budget.spent.calls) == ({}, 0)
