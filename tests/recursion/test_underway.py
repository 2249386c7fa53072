"""Equal sub-calls that are under way at the same time are one call: between threads, batches and a cell that runs again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.recursion.jobs.scheduler import Promise
from rlm_ray.testing import ModelServer
from tests.recursion.conftest import World
from tests.recursion.test_batches import LEVEL, reader

Served = Callable[..., tuple[World, ModelServer]]


@pytest.fixture
def served(world: Callable[..., World], model_server: Callable[..., ModelServer]) -> Served:
    def make(**options: Any) -> tuple[World, ModelServer]:
        server = model_server(leaf=reader, keep_messages=True)
        return world(base_url=server.base_url, **options), server

    return make


def started(made: World, verb: str, **args: Any) -> Promise:
    """Begin a request as a thread of root code does, and go on."""
    reply = Promise()
    made.service.scheduler.start(made.service.dispatcher.job(verb, args, b""), reply.set)
    return reply


def ended(made: World, replies: list[Promise]) -> list[Any]:
    while not all(reply.done() for reply in replies):
        if not made.service.scheduler.poll():
            made.service.scheduler.wait((), (), None)
    return [reply.result() for reply in replies]


def test_threads_that_ask_the_same(served: Served) -> None:
    made, server = served()
    server.hold()
    replies = [started(made, "llm_query", prompt="same") for _ in range(8)]
    server.wait_for(1)
    server.release()
    assert ended(made, replies) == ["<same>"] * 8
    assert server.count == 1
    assert made.budget.spent.calls == 1
    assert made.budget.lent == {}


def test_about_the_same_part(served: Served) -> None:
    made, server = served()
    server.hold()
    part = {"base": made["logs"].grep("ERROR").plan.to_json()}
    replies = [started(made, "llm_query", prompt="How many?", part=part) for _ in range(3)]
    replies.append(started(made, "llm_query", prompt="How many errors?", part=part))
    server.wait_for(2)
    server.release()
    assert ended(made, replies) == ["30 errors"] * 4
    assert server.count == 2


def test_batches_that_overlap(served: Served) -> None:
    made, server = served()
    made.verbs.llm_query("a first one, so that no batch has to try the model")
    server.hold()
    first = started(made, "llm_query_batched", prompts=[f"p{n}" for n in range(60)])
    second = started(made, "llm_query_batched", prompts=[f"p{n}" for n in range(40, 100)])
    server.wait_for(101)  # the second does not wait with what it alone asks
    server.release()
    replies = ended(made, [first, second])
    assert replies[0]["answers"] == [f"<p{n}>" for n in range(60)]
    assert replies[1]["answers"] == [f"<p{n}>" for n in range(40, 100)]
    assert server.count == 101


@pytest.mark.parametrize("capacity", [1, 4])
def test_results_over_the_same_records(served: Served, capacity: int) -> None:
    made, server = served(capacity=capacity, records_per_call=4, calls_per_group=5)
    server.hold()
    whole = made.verbs.llm_each("Which level?", made["logs"], LEVEL)
    again = made.verbs.llm_each("Which level?", made["logs"], LEVEL)
    narrow = made.verbs.llm_each("Which level?", made["logs"].grep("ERROR"), LEVEL)
    server.wait_for(1)
    server.release()
    assert [one.ok.count() for one in (whole, again, narrow)] == [120, 120, 30]
    assert narrow.where([("level", "==", "ERROR")]).count() == 30
    assert server.count == 30


def test_results_over_the_same_chunks(served: Served) -> None:
    made, server = served()
    server.hold()
    chunks = made["logs"].chunks(tokens=250)
    first = made.verbs.llm_map("How many errors?", chunks)
    second = made.verbs.llm_map("How many errors?", [*chunks, "ERROR"])
    server.wait_for(1)
    server.release()
    assert (first.count(), second.count()) == (len(chunks), len(chunks) + 1)
    assert server.count == len(chunks) + 1 > 3


def test_other_records_or_another_question_wait_for_nobody(served: Served) -> None:
    made, server = served()
    server.hold()
    parts = [made.verbs.llm_each("Which level?", made["logs"][first : first + 20], LEVEL) for first in (0, 20)]
    other = made.verbs.llm_each("Which level is it?", made["logs"], LEVEL)
    server.wait_for(5)
    server.release()
    assert [one.ok.count() for one in (*parts, other)] == [20, 20, 120]


def test_one_that_is_dropped_is_asked_by_the_next(served: Served) -> None:
    made, server = served()
    server.hold()
    first = made.service.dispatcher.job("llm_query", {"prompt": "same"}, b"")
    until = next(first)
    second = started(made, "llm_query", prompt="same")
    server.wait_for(1)
    for future in until.futures:
        future.cancel()
    first.close()
    made.service.scheduler.poll()
    server.wait_for(2)
    server.release()
    assert ended(made, [second]) == ["<same>"]
    assert server.count == 2


def test_a_sandbox_that_is_replaced_in_mid_batch(model_server: Callable[..., ModelServer], run_dir: Path) -> None:
    batch = "answers = llm_query_batched([f'q{n}' for n in range(60)])"
    dies = f"import os, threading\nthreading.Timer(0.5, lambda: os._exit(9)).start()\n{batch}"
    cells = [f"```repl\n{dies}\n```", f"```repl\n{batch}\nFinal = answers\n```"]
    server = model_server(root=cells, leaf=lambda prompt, schema: f"<{prompt}>")
    server.hold(after=11)  # the first turn and ten answers

    def released() -> None:
        server.wait_for(62)  # the second turn is asked: the sandbox has been replaced
        server.release()

    releases = threading.Thread(target=released)
    releases.start()
    answer = rlm_ray.ask("a text", "q", server.settings(run_dir=str(run_dir)))
    releases.join()
    assert answer.value == [f"<q{n}>" for n in range(60)]
    assert Counter(request["model"] for request in server.requests) == {"root": 2, "leaf": 60}
