"""What is under way when a call ends: it ends too, at every level; nothing of it is left on the endpoint, on Ray, in the budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.errors import CredentialsError
from rlm_ray.testing import Faults, ModelServer

PATIENCE = 300  # only as long as it takes: a worker of Ray may need half a minute on a busy machine


def idle(ray: Any) -> bool:
    """Wait until no task holds a CPU."""
    total, ends = ray.cluster_resources()["CPU"], time.monotonic() + PATIENCE
    while ray.available_resources().get("CPU") != total:
        if time.monotonic() > ends:
            return False
        time.sleep(0.1)  # Ray tells only who asks
    return True


@pytest.fixture
def lines(tmp_path: Path) -> Any:
    path = tmp_path / "app.log"
    path.write_text("".join(f"line {number}\n" for number in range(40)))
    return rlm_ray.open(str(path))


def fenced(code: str) -> list[str]:
    return [f"```repl\n{code}\n```"]


CHILD = fenced("Final = llm_each('Bad?', context, schema={'bad': 'boolean'}).count()")


def test_an_answer_ends_what_nobody_waits_for(
    ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path, lines: Any
) -> None:
    root = fenced(
        "groups = llm_each('Bad?', context, schema={'bad': 'boolean'})\n"
        "below = rlm_map('Which of these?', [context[:20], context[20:]])\n"
        "while budget()['calls spent'] < 99:\n"
        "    if llm_query('Go on?') == 'no':\n"
        "        Final = 'enough'\n"
        "        break"
    )
    gate = threading.Event()

    async def leaf(prompt: str, schema: Any) -> str:
        import asyncio

        if prompt == "Go on?":
            await asyncio.to_thread(gate.wait, PATIENCE)
            return "no"
        await asyncio.Event().wait()  # until the client leaves
        return ""

    server = model_server(root={"Which of these": CHILD, "How many": root}, leaf=leaf)
    settings = server.settings(run_dir=str(run_dir), records_per_call=5, calls_per_group=4)
    # one root call, the first group's 4 packs (the other waits for a usable reply), two children's roots and 8 packs, one question
    arrived = 1 + 4 + 2 + 8 + 1
    opened = threading.Thread(target=lambda: (server.wait_for(arrived, PATIENCE), gate.set()))
    opened.start()
    answer = rlm_ray.ask(lines, "How many lines?", settings)
    opened.join()
    assert answer.value == "enough"
    server.wait_until_idle(PATIENCE)
    assert idle(ray_local)
    assert server.count == arrived
    assert answer.usage["calls"] == arrived


def test_a_refused_key_of_one_child_ends_its_siblings(
    ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path, lines: Any
) -> None:
    children = {
        "How many": fenced(
            "Final = rlm_query_batched(['Which one?', 'Who waits?', 'Who works?'], [context[:9], context[9:19], context[19:]])"
        ),
        "Which one": fenced("Final = llm_query('Bad?', context)"),
        "Who works": fenced("while True:\n    pass"),
    }
    seen: list[int] = []

    async def waits(messages: Any) -> str:
        import asyncio

        seen.append(1)
        await asyncio.Event().wait()  # until the client leaves
        return ""

    leaves = model_server(faults=Faults(key="another"))
    roots = model_server(root=children | {"Who waits": waits})
    settings = roots.settings(run_dir=str(run_dir), sub_base_url=leaves.base_url)
    with pytest.raises(CredentialsError):
        rlm_ray.ask(lines, "How many lines?", settings)
    roots.wait_until_idle(PATIENCE)
    leaves.wait_until_idle(PATIENCE)
    assert idle(ray_local)
    assert leaves.count == 1
    assert roots.count <= 4


def test_a_session_that_is_closed_ends_its_batches(ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path) -> None:
    server = model_server()
    with rlm_ray.session(server.settings(run_dir=str(run_dir), calls_per_group=2)) as session:
        assert session.llm_map("Bad?", ["z"]).ok.count() == 1  # a usable reply: all groups of the next begin
        server.hold()
        session.llm_map("Bad?", ["a", "b", "c"])
        server.wait_for(4)
    server.wait_until_idle(PATIENCE)
    assert idle(ray_local)
    assert server.count == 4


LAST = "```repl\nFinal = 'what there is'\n```"
BELOW = "below = rlm_map('Which of these?', [context[:20], context[20:]])\n"


def test_the_end_of_the_time_ends_all_levels(
    ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path, lines: Any
) -> None:
    async def leaf(prompt: str, schema: Any) -> str:
        import asyncio

        await asyncio.Event().wait()  # until the client leaves
        return ""

    waits = fenced("groups = llm_each('Bad?', context, schema={'bad': 'boolean'})\n" + BELOW + "below.count()")
    server = model_server(root={"Which of these": [*CHILD, LAST], "How many": [*waits, LAST]}, leaf=leaf)
    settings = server.settings(run_dir=str(run_dir), records_per_call=5, calls_per_group=4, max_seconds=8.0)
    answer = rlm_ray.ask(lines, "How many lines?", settings)
    assert (answer.value, answer.complete, answer.stop_reason) == ("what there is", False, "time")
    server.wait_until_idle(PATIENCE)
    assert idle(ray_local)
    # the root's two turns at least; how far the levels below had come depends on how fast workers start
    assert 2 <= server.count <= 2 + 8 + 2 * 2 + 8
    assert answer.usage["calls"] >= server.count


def test_a_spent_budget_ends_all_levels(
    ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path, lines: Any
) -> None:
    asks = "number = 0\nwhile True:\n    number += 1\n    llm_query(f'{depth}: number {number} of {context[0]}?')"
    roots = {
        "Which of these": [*fenced(asks.replace("{depth}", "below")), LAST],
        "How many": [*fenced(BELOW + asks.replace("{depth}", "root")), LAST],
    }
    server = model_server(root=roots, leaf=lambda prompt, schema: "no")
    answer = rlm_ray.ask(lines, "How many lines?", server.settings(run_dir=str(run_dir), max_calls=30))
    assert (answer.value, answer.complete, answer.stop_reason) == ("what there is", False, "budget")
    server.wait_until_idle(PATIENCE)
    assert idle(ray_local)
    assert server.count == answer.usage["calls"] <= 30
