"""What a cell asks for at once is done at once: from threads, and in batches that are started one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.testing import ModelServer, echo

PATIENCE = 60
PRICES = {name: {"input": 0.4, "output": 1.6} for name in ("root", "leaf")}

THREADS = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(20) as pool:
    Final = list(pool.map(llm_query, [f'question {number}' for number in range(20)]))
"""

BATCHES = """
texts = [f'text {number}' for number in range(4)]
mapped = llm_map('Which?', texts)
labelled = llm_each('Which?', context, schema={'answer': 'string'})
asked = rlm_map('What is there?', texts[:2])
handed_back = [mapped.progress, labelled.progress, asked.progress]
llm_query('All of it is under way.')
Final = [handed_back, mapped.count(), labelled.count(), asked.count()]
"""


def fenced(code: str) -> list[str]:
    return [f"```repl\n{code}\n```"]


@pytest.fixture
def lines(tmp_path: Path) -> Any:
    path = tmp_path / "app.log"
    path.write_text("".join(f"line {number}\n" for number in range(10)))
    return rlm_ray.open(str(path))


def released(server: ModelServer, count: int) -> threading.Thread:
    """Keep requests after the root's waiting until so many have come."""
    server.hold(after=1)

    def wait() -> None:
        server.wait_for(count, PATIENCE)
        server.release()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("limits", [{}, {"max_usd": 1.0, "max_calls": 100, "prices": PRICES}], ids=["free", "with limits"])
def test_questions_from_threads(
    ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path, limits: dict[str, Any]
) -> None:
    server = model_server(root=fenced(THREADS), leaf=echo)
    waits = released(server, 21)
    answer = rlm_ray.ask("nothing", "How many?", server.settings(run_dir=str(run_dir), **limits))
    waits.join()
    assert answer.value == [f"question {number}" for number in range(20)]
    assert server.most_in_flight == 20
    assert answer.usage["calls"] == 21


def test_batches_one_after_the_other(ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path, lines: Any) -> None:
    server = model_server(root={"How many": fenced(BATCHES), "What is there": fenced("Final = context")})
    # the root, four texts, ten records in two packs, the roots of two children, and the cell's last question
    waits = released(server, 1 + 4 + 2 + 2 + 1)
    settings = server.settings(run_dir=str(run_dir), records_per_call=5, call_attempts=1)
    answer = rlm_ray.ask(lines, "How many?", settings)
    waits.join()
    handed_back, *counts = answer.value
    assert counts == [4, 10, 2]
    assert [progress["expected"] for progress in handed_back] == [4, 10, 2]
    assert [progress["done"] for progress in handed_back] == [0, 0, 0]
    assert not any(progress["finished"] for progress in handed_back)
