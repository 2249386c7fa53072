"""An endpoint and a store that misbehave: the same answer, no error row that was not deserved, the rate within its limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import rlm_ray
from rlm_ray import history
from rlm_ray.cli import main
from rlm_ray.models.rates import LEASE_SECONDS
from rlm_ray.testing import Faults, ModelServer, each

LINES = 80
RATE = 1_200
CELLS = [
    "```repl\nfound = llm_each('Which?', context, schema={'n': 'integer'})\nprint(found.count())\n```",
    "```repl\nsaid = llm_map('All of them?', context.chunks(tokens=100))\n"
    "Final = [found.ok.count(), found.failed.count(), sum(row['n'] for row in found.ok), said.failed.count()]\n```",
]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    (folder / "a.log").write_text("".join(f"number {number} here\n" for number in range(LINES)))
    return folder


def reads(text: str) -> dict[str, int]:
    return {"n": int(text.split()[1])}


def test_a_third_of_the_requests_fails(lake: Path, ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path) -> None:
    faults = Faults(throttle=0.06, retry_after=0.1, error=0.06, hang=0.06, cut=0.06, garbled=0.06, seed=7)
    server = model_server(root=CELLS, leaf=each(reads), faults=faults)
    settings = server.settings(
        run_dir=str(run_dir), records_per_call=1, calls_per_group=60, call_timeout=1.5, call_attempts=8, requests_per_minute=RATE
    )
    begun = time.monotonic()
    answer = rlm_ray.ask(rlm_ray.open(str(lake)), "q", settings)
    seconds = time.monotonic() - begun
    assert answer.value == [LINES, 0, sum(range(LINES)), 0]
    assert answer.complete
    seen = [record.get("fault") for record in server.requests]
    assert {"throttle", "error", "hang", "cut", "garbled"} <= set(seen)
    assert 0.2 < sum(fault != "none" for fault in seen) / len(seen) < 0.4
    # a burst of a twelfth of the limit, then an even flow
    assert server.count <= RATE / 12 + 1 + (seconds + LEASE_SECONDS) * RATE / 60
    # what hung or was cut may have been answered: it is charged in full
    assert answer.usage["calls"] >= sum(fault in ("none", "hang", "cut", "garbled") for fault in seen)


def test_what_never_answers_is_an_error_row_and_harms_nobody(
    lake: Path, ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    def leaf(prompt: str, schema: Any) -> str:
        return "no numbers here" if "number 13 here" in prompt else each(reads)(prompt, schema)  # type: ignore[return-value]

    cells = [CELLS[0], "```repl\nFinal = [found.ok.count(), [row['text'] for row in found.failed]]\n```"]
    server = model_server(root=cells, leaf=leaf)
    answer = rlm_ray.ask(rlm_ray.open(str(lake)), "q", server.settings(run_dir=str(run_dir), records_per_call=1))
    assert answer.value == [LINES - 1, ["number 13 here"]]
    failed = history.load(answer.run).record["failed"]
    assert list(failed.values()) == [1]
    assert "after 5 askings" in next(iter(failed))
    told = CliRunner().invoke(main, ["show", answer.run, "--failures"]).output
    assert "1 sub-call failed:\n  once: No valid answer after 5 askings." in told
