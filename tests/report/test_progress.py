"""Progress in its forms: JSON lines, nothing, one line a step, and a notebook's display."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from rlm_ray.models.contract import Usage
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.jobs.progress import Progress, ShardTally, Spending
from rlm_ray.recursion.jobs.scheduler import Promise
from rlm_ray.report import progress as shows


@pytest.fixture
def progress() -> Progress:
    told = Progress(turn=2, max_turns=30, doing="found = llm_each(…)", budget=Budget.start(calls=100).charge(Usage(3, 30, 3)))
    batch = told.tally.begin(100)
    batch.done, batch.failed, batch.live = 50, 1, {"0.1": Spending(Usage(5, 50, 5))}
    told.shards = ShardTally({"context": 7})
    read = Promise()
    read.set()
    with told.shards.scanning([(read, [SimpleNamespace(corpus="context", shard=SimpleNamespace(index=at)) for at in (2, 4)])]):
        pass
    return told


def test_json_lines_hold_the_whole_value(progress: Progress) -> None:
    stream = io.StringIO()
    with shows.ProgressJson(stream) as show:
        show(progress)
        show(progress)  # the same step, within a second
        progress.doing = "Final = 1"
        show(progress)
    with progress.shards.scanning([(Promise(), [SimpleNamespace()])]):
        assert shows.to_json(progress)["scans"] == [{"expected": 1, "done": 0}]
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["turn"], first["max_turns"], first["doing"]) == (2, 30, "found = llm_each(…)")
    assert first["spent"] == {"calls": 8, "tokens": 88, "cached_tokens": 0, "usd": 0.0}
    assert first["projected"] == {"calls": 13, "tokens": 143, "cached_tokens": 0, "usd": 0.0}
    assert first["batches"] == [{"recursive": False, "expected": 100, "done": 50, "failed": 1, "under_way": 1}]
    assert (first["shards"], first["scans"]) == ({"scanned": 2, "of": 7}, [])
    assert second["doing"] == "Final = 1"


def test_a_log_has_one_line_a_step(progress: Progress) -> None:
    stream = io.StringIO()
    with shows.ProgressLine(Console(file=stream, force_terminal=False, width=300)) as show:
        for _ in range(5):
            show(progress)
    assert stream.getvalue().count("\n") == 1
    assert "50 of 100 answers (1 failed)" in stream.getvalue()


def test_none_is_none(progress: Progress, capsys: pytest.CaptureFixture[str]) -> None:
    with shows.shown("none") as show:
        show(progress)
    assert capsys.readouterr() == ("", "")


def test_a_notebook_has_one_display_that_is_updated(progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    handle = SimpleNamespace(update=lambda html: told.append(("update", html)))

    def display(html: str, display_id: bool) -> Any:
        told.append(("display", html))
        return handle

    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1), display=SimpleNamespace(display=display, HTML=str))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(shows, "NOTEBOOK_SECONDS", 0.0)
    show = shows.in_notebook()
    assert show is not None
    progress.doing = "print('<script>')"
    show(progress)
    show(progress)
    assert [kind for kind, _ in told] == ["display", "update"]
    assert "&lt;script&gt;" in told[0][1]
    assert "2 of 7 shards scanned · 50 of 100 answers" in told[1][1]


@pytest.mark.parametrize("shell", [None, SimpleNamespace()])
def test_outside_of_a_notebook_nothing_is_displayed(monkeypatch: pytest.MonkeyPatch, shell: Any) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert shows.in_notebook() is None
    monkeypatch.delitem(sys.modules, "IPython")
    assert shows.in_notebook() is None
