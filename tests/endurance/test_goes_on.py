"""Runs that go on: a variable that could not be kept, a line half written, another run's answers, a disk that is full."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import rlm_ray
from rlm_ray import api, history
from rlm_ray.cli import main
from rlm_ray.testing import ModelServer, each

LINES = 40
CELLS = [
    "```repl\nfound = llm_each('Which?', context, schema={'n': 'integer'})\nprint(found.count())\n```",
    "```repl\nFinal = [found.ok.count(), sum(row['n'] for row in found.ok)]\n```",
]
ANSWER = [LINES, sum(range(LINES))]

RUN = """
import sys
import rlm_ray
lake, runs, url = sys.argv[1:]
settings = rlm_ray.Settings(
    root_model="root", sub_model="leaf", base_url=url, run_dir=runs, run_id="night", num_cpus=2, records_per_call=1,
    concurrency=8,
)
print(rlm_ray.ask(rlm_ray.open(lake), "q", settings).value)
"""


def reads(text: str) -> dict[str, int]:
    return {"n": int(text.split()[1])}


def asked_more_than_once(server: ModelServer) -> list[str]:
    return [prompt for prompt, times in Counter(request["prompt"] for request in server.requests).items() if times > 1]


def test_where_a_variable_could_not_be_kept_the_cells_run_again(
    numbers: Callable[[int], Path],
    ray_local: Any,
    model_server: Callable[..., ModelServer],
    program: Callable[..., Any],
    run_dir: Path,
) -> None:
    cells = [
        "```repl\nimport threading\nlock, steps = threading.Lock(), [context.count()]\n```",
        "```repl\nwith lock:\n    steps.append(llm_query('first'))\n```",
        "```repl\nwith lock:\n    steps.append(llm_query('second'))\nFinal = steps\n```",
    ]
    server = model_server(root=cells, leaf=lambda prompt, schema: f"<{prompt}>")
    server.hold(after=4)  # three turns and the first question; the second is never answered
    driver = program(RUN, numbers(LINES), run_dir, server.base_url)
    server.wait_for(5, timeout=240)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    server.release()
    (row,) = history.runs(str(run_dir)).rows()
    assert (row["state"], row["calls"]) == ("unfinished (turn 3: after 0 cells of it)", 5), "what was in flight counts"
    said = CliRunner().invoke(main, ["show", "night", "--run-dir", str(run_dir)])
    assert "no answer yet: stopped in turn 3: after 0 cells of it\n" in said.output
    assert "3 turns, 5 calls, " in said.output
    answer = api.resume("night", server.settings(run_dir=str(run_dir)))
    assert answer.value == [LINES, "<first>", "<second>"]
    assert answer.complete
    assert len(asked_more_than_once(server)) == 1, "only what was in flight"
    assert server.count == 6


def test_a_half_written_line_is_left_out_and_said(
    numbers: Callable[[int], Path], model_server: Callable[..., ModelServer], run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = model_server(root=CELLS, leaf=each(reads))
    settings = server.settings(run_dir=str(run_dir), run_id="night", records_per_call=1)
    answer = rlm_ray.ask(rlm_ray.open(str(numbers(LINES))), "q", settings)
    run, asked = Path(answer.run), server.count
    (run / "answer.json").unlink()
    (finished,) = (run / "finished").glob("*.jsonl")
    rows = finished.read_bytes().splitlines(keepends=True)
    answered = [index for index, row in enumerate(rows) if b'"a":' in row]
    rows[answered[-1]] = rows[answered[-1]][:20] + b"\n"  # as one is after a kill, and another writer after it
    finished.write_bytes(b"".join(rows))
    events = run / "calls" / "0" / "events.jsonl"
    told = events.read_bytes().splitlines(keepends=True)
    last = next(index for index in range(len(told)) if b'"event":"CellDone"' in told[index])
    events.write_bytes(b"".join(told[:last]) + told[last][:50])  # killed while the first cell's end was written
    for result in run.glob("segments/*/result.json"):
        result.unlink()
    run.rename(run_dir / "later")  # this process knows what "night" has finished
    again = api.resume("later", settings)
    assert again.value == answer.value == ANSWER
    assert "2 half-written lines are in the logs of" in caplog.text
    # the answer that was cut is asked again, and the turn whose reply was not written down yet
    assert server.count == asked + 2


def test_answers_that_another_run_paid_for(
    numbers: Callable[[int], Path], model_server: Callable[..., ModelServer], run_dir: Path, tmp_path: Path
) -> None:
    server = model_server(root=CELLS, leaf=each(reads))
    lake = numbers(LINES)
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"records_per_call": 1}))
    words = ["ask", str(lake), "-q", "q", "--root-model", "root", "--sub-model", "leaf", "--base-url", server.base_url]
    words += ["--run-dir", str(run_dir), "--settings", str(settings), "--json"]
    first = CliRunner().invoke(main, [*words, "--run-id", "first"])
    assert (first.exit_code, server.count) == (0, len(CELLS) + LINES), first.output
    second = CliRunner().invoke(main, [*words, "--run-id", "second", "--reuse", "first"])
    assert (second.exit_code, json.loads(second.stdout)["value"]) == (0, ANSWER), second.output
    assert server.count == 2 * len(CELLS) + LINES, "only the root was asked again"
    assert json.loads(second.stdout)["usage"]["calls"] == len(CELLS)
    third = CliRunner().invoke(main, [*words, "--run-id", "third"])
    assert (third.exit_code, server.count) == (0, 3 * len(CELLS) + 2 * LINES)
    forgotten = CliRunner().invoke(main, ["forget", "first", "--yes", "--run-dir", str(run_dir)])
    assert forgotten.exit_code == 0, forgotten.output
    assert sorted(path.name for path in run_dir.iterdir() if path.is_dir()) == ["second", "third"]


def test_a_disk_that_is_full_ends_the_run_and_is_said(
    numbers: Callable[[int], Path], model_server: Callable[..., ModelServer], program: Callable[..., Any], run_dir: Path
) -> None:
    """A limit on the size of files stands for it: what writes past it gets an error, as on a full disk."""
    small = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    small += "resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))\n"
    cells = [CELLS[0].replace("{'n': 'integer'}", "{'n': 'integer', 'why': 'string'}"), CELLS[1]]
    server = model_server(root=cells, leaf=each(lambda text: reads(text) | {"why": "w" * 100_000}))
    lake = numbers(LINES)
    full = program(small + RUN, lake, run_dir, server.base_url)
    _, err = full.communicate(timeout=240)
    assert full.returncode == 1, err
    assert "rlm_ray.errors.StorageError: " in err
    assert "cannot be written: File too large. Make room, or give another --run-dir." in err
    seen = server.count
    assert 2 < seen < LINES
    # with room it goes on; what was paid for is not asked again, but for what could not be written down
    answer = api.resume("night", server.settings(run_dir=str(run_dir), records_per_call=1))
    assert answer.value == ANSWER
    assert len(asked_more_than_once(server)) <= 8 + 1, "what was in flight"
