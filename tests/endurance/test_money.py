"""A limit holds over the whole tree, whatever the tree: by the model server's own count, never a cent above it.

Ten random trees by default, 50 with RLM_RAY_TEST_FULL=1.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.recursion.answer import Answer
from rlm_ray.settings import Price
from rlm_ray.testing import Faults, ModelServer, each

TREES = 50 if os.environ.get("RLM_RAY_TEST_FULL") == "1" else 10
LINES = 120
PRICES = {"root": Price(input=2.0, output=8.0), "leaf": Price(input=1.0, cached_input=0.1, output=4.0)}

CHEAP_ROOT = PRICES | {"root": Price(input=0.05, output=0.2)}


def numbers(text: str) -> dict[str, int]:
    return {"number": int(text.split()[1])}


def cost(server: ModelServer, prices: dict[str, Price] = PRICES) -> float:
    """Dollars of all that the server answered, by its own count; nothing is cached."""
    return sum(
        (record["prompt_tokens"] * prices[record["model"]].input + record["completion_tokens"] * prices[record["model"]].output)
        / 1_000_000
        for record in server.requests
        if "prompt_tokens" in record
    )


def program(draw: random.Random, depth: int) -> list[str]:
    """Some turns that ask in all the ways there are; what fails for lack of money is only counted."""
    ways = [
        f"found = llm_each('Which? {draw.random()}', context, schema={{'number': 'integer'}}, votes={draw.choice([1, 1, 3])})\n"
        "total += found.ok.count()",
        f"found = llm_map('Which number? {draw.random()}', context.chunks(tokens={draw.choice([40, 100])}))\n"
        "total += found.ok.count()",
        f"said = llm_query_batched([f'{draw.random()} {{i}}' for i in range({draw.randint(1, 30)})])\ntotal += len(said)",
        f"total += len(llm_query('Again {draw.random()}', context[:3]))",
    ]
    if depth < 2:
        step = draw.choice([20, 30])
        ways += [
            f"parts = [context[at : at + {step}] for at in range(0, context.count(), {step})]\n"
            f"total += rlm_map('depth {depth + 1} of {draw.random()}', parts).ok.count()"
        ] * 2
    cells = [
        f"```repl\ntry:\n    total\nexcept NameError:\n    total = 0\n{draw.choice(ways)}\nprint(total)\n```" for _ in range(2)
    ]
    return [*cells, "```repl\nFinal = total\n```"]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    (folder / "a.log").write_text("".join(f"number {number} here\n" for number in range(LINES)))
    return folder


@pytest.mark.parametrize("seed", range(TREES))
def test_a_random_tree(seed: int, lake: Path, ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path) -> None:
    draw = random.Random(seed)
    limit = 0.01 if seed == 0 else draw.choice([0.01, 0.02, 0.05, 0.2])
    faults = (
        Faults(error=0.05, cut=0.05, malformed=0.05, throttle=0.05, retry_after=0.01, seed=seed)
        if draw.random() < 0.5
        else Faults()
    )

    def root(messages: list[Any]) -> str:
        opening = "".join(str(message["content"]) for message in messages[:2])
        depth = next((level for level in (2, 1) if f"depth {level} of" in opening), 0)
        turn = sum(message["role"] == "assistant" for message in messages)
        return program(random.Random(f"{seed} {opening}"), depth)[min(turn, 2)]

    server = model_server(root=root, leaf=each(numbers), faults=faults)
    answer = rlm_ray.ask(
        rlm_ray.open(str(lake)),
        "how many?",
        server.settings(
            run_dir=str(run_dir),
            prices=PRICES,
            max_usd=limit,
            max_depth=draw.choice([0, 1, 2]),
            records_per_call=draw.choice([1, 10]),
            calls_per_group=draw.choice([30, 64]),
            completion_tokens=100,
            root_completion_tokens=500,
        ),
    )
    check(server, answer, limit)


def check(server: ModelServer, answer: Answer, limit: float) -> None:
    seen = cost(server)
    assert seen <= limit
    assert seen - 1e-9 <= answer.usage["usd"] <= limit + 1e-9
    assert answer.usage["calls"] >= server.stats()["statuses"].get("200", 0)


def test_what_a_group_gives_back_is_there_for_the_others(
    lake: Path, ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    """Upper estimates are several times the cost: the slices run out long before the money does, and every record is answered."""
    cells = [
        "```repl\nfound = llm_each('Which?', context, schema={'number': 'integer'})\nprint(found.count())\n```",
        "```repl\nFinal = [found.count(), found.ok.count(), sum(row['number'] for row in found.ok)]\n```",
    ]
    server = model_server(root=cells, leaf=each(numbers))
    settings = server.settings(
        run_dir=str(run_dir),
        prices=CHEAP_ROOT,
        records_per_call=1,
        calls_per_group=30,
        completion_tokens=200,
        root_completion_tokens=200,
    )
    free = rlm_ray.ask(rlm_ray.open(str(lake)), "how many?", settings)
    needed = cost(server, CHEAP_ROOT)
    # a call reserves some five times what it costs, so the limit has room for few at once
    limit = round(needed + 0.008, 4)
    answer = rlm_ray.ask(rlm_ray.open(str(lake)), "how many?", settings.with_(max_usd=limit))
    assert answer.value == free.value == [LINES, LINES, sum(range(LINES))]
    assert answer.complete
    assert cost(server, CHEAP_ROOT) - needed <= limit


def test_when_the_money_is_spent_the_root_is_told_and_has_its_last_turn(
    lake: Path, ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    told: list[str] = []

    def root(messages: list[Any]) -> str:
        told.append(messages[-1]["content"])
        if len(told) == 1:
            return "```repl\nfound = llm_each('Which?', context, schema={'number': 'integer'})\nprint(found.ok.count())\n```"
        return "```repl\nFinal = [found.count() + found.failed.count(), found.ok.count(), found.failed.head(1)[0]['_error']]\n```"

    server = model_server(root=root, leaf=each(numbers))
    settings = server.settings(
        run_dir=str(run_dir), prices=PRICES, records_per_call=1, calls_per_group=30, max_usd=0.045, completion_tokens=200,
        root_completion_tokens=500,
    )  # fmt: skip
    answer = rlm_ray.ask(rlm_ray.open(str(lake)), "how many?", settings)
    assert len(told) == 2
    assert "last turn" in told[1].lower()
    rows, answered, error = answer.value
    assert rows == LINES
    assert 0 < answered < LINES
    assert error.startswith("not asked: budget: Up to $")
    assert (answer.complete, answer.stop_reason) == (False, "budget")
    assert cost(server) <= 0.045


def test_a_dollar_limit_with_an_unknown_price_refuses_before_the_first_call(
    lake: Path, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    server = model_server(root=["```repl\nFinal = 1\n```"])
    with pytest.raises(rlm_ray.errors.SettingsError, match=r"the price of 'leaf' is unknown.*prices: \{leaf:"):
        rlm_ray.ask(rlm_ray.open(str(lake)), "q", server.settings(run_dir=str(run_dir), max_usd=1, prices={"root": PRICES["root"]}))
    assert server.count == 0


def test_a_batch_larger_than_the_calls_left_is_refused_whole(
    lake: Path, ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    cell = (
        "```repl\ntry:\n    llm_each('Which?', context, schema={'number': 'integer'}).count()\n"
        "except BudgetExceeded as error:\n    Final = str(error)\n```"
    )
    server = model_server(root=[cell])
    answer = rlm_ray.ask(rlm_ray.open(str(lake)), "q", server.settings(run_dir=str(run_dir), max_calls=100, records_per_call=1))
    assert answer.value.startswith(f"{LINES} calls were asked for and 98 of 100 are left; none was made.")
    assert server.count == 1
