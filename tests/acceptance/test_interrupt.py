"""Ctrl-C and SIGTERM at known points of a run: it ends soon, says how to go on, and leaves no process behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import PATIENCE, scripted

FULL = os.environ.get("RLM_RAY_TEST_FULL") == "1"
QUESTION = "How many lines are bad?"


def family(root: int) -> dict[int, int]:
    """Return a process and all below it: an open pidfd by pid, so that no later process can be taken for one of them."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            fields = Path(f"/proc/{int(entry)}/stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry))
    found: dict[int, int] = {}
    left = [root]
    while left:
        pid = left.pop()
        with contextlib.suppress(ProcessLookupError):
            found[pid] = os.pidfd_open(pid)
        left += children.get(pid, [])
    return found


def names(pids: Any) -> list[str]:
    said = []
    for pid in pids:
        with contextlib.suppress(OSError):
            said.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:120])
    return said


def left_over(processes: dict[int, int]) -> list[str]:
    """Wait for processes to end, and return those that do not."""
    waiting = {descriptor: pid for pid, descriptor in processes.items()}
    ends = time.monotonic() + 30
    while waiting and time.monotonic() < ends:
        ended, _, _ = select.select(list(waiting), [], [], ends - time.monotonic())
        for descriptor in ended:
            os.close(descriptor)
            del waiting[descriptor]
    return names(waiting.values())


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_text("".join(f"line {number}\n" for number in range(400)))
    return path


@pytest.fixture
def started(command: str, run_dir: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `rlm-ray ask`, in a process group of its own, as a shell does."""
    running: list[subprocess.Popen[str]] = []
    settings = tmp_path / "settings.yaml"
    settings.write_text("calls_per_group: 2\nnum_cpus: 2\nrecords_per_call: 20\n")

    def start(path: Path, base_url: str) -> subprocess.Popen[str]:
        asking = [
            "-q",
            QUESTION,
            "--settings",
            str(settings),
            "--root-model",
            "root",
            "--sub-model",
            "leaf",
            "--base-url",
            base_url,
        ]
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        running.append(
            subprocess.Popen(
                [command, "ask", str(path), *asking],
                env=environment | {"RLM_RAY_RUN_DIR": str(run_dir)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return running[-1]

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


LOOP = "llm_query('Begin?')\nwhile True:\n    pass"
SWALLOW = "llm_query('Begin?')\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass"
EACH = "Final = llm_each('Bad?', context, schema={'bad': 'boolean'}).count()"
CHILDREN = {
    QUESTION: ["Final = rlm_map('Which of these?', [context[:100], context[100:200], context[200:]]).count()"],
    "Which of these": ["Final = llm_query('Bad?', context[:5])"],
}

#: What runs, how many requests have come when it is interrupted, and whether those after the first ones are kept waiting.
POINTS = {
    "root model is asked": ([EACH], 1, 0),
    "cell computes": ([LOOP], 2, None),
    "cell does not stop": ([SWALLOW], 2, None),
    "leaf calls in Ray tasks": ([EACH], 5, 3),  # a first group tries the model, alone
    "recursive calls in Ray tasks": (CHILDREN, 3, 1),
}


#: Each takes a Ray of its own, so that not every signal meets every point by default.
CASES = [
    (point, by)
    for number, point in enumerate(POINTS)
    for by in (("Ctrl-C", "SIGTERM") if FULL else [("Ctrl-C", "SIGTERM")[number % 2]])
]


@pytest.mark.parametrize(("point", "by"), CASES)
def test_an_interrupted_run_ends_cleanly(started, cli, model_server, lines, run_dir, point, by):
    cells, count, kept_after = POINTS[point]
    server = model_server(root=scripted(cells))
    if kept_after is not None:
        server.hold(after=kept_after)
    process = started(lines, server.base_url)
    server.wait_for(count, timeout=PATIENCE)
    everything = family(process.pid)
    if by == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    else:
        process.terminate()
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    said = err.splitlines()[-1]
    assert said.startswith("rlm-ray: Interrupted.")
    [run] = run_dir.iterdir()
    assert f"`rlm-ray resume {run}`" in said
    assert left_over(everything) == []
    server.release()
    shown = cli("show", run.name)
    assert shown.code == 0
    assert "no answer yet" in shown.out
