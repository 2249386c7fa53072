"""Children that wait, locked, for a run; each serves one and is never given to another."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow
import pytest

from rlm_ray.sandbox.outside.events import Limits
from rlm_ray.sandbox.outside.process.connection import readable
from rlm_ray.sandbox.outside.process.pool import Child, Kind, pool
from rlm_ray.sandbox.outside.queries import QuerySandbox

MEMORY = 700 << 20  # a kind of its own: no other test takes its children


@pytest.fixture
def waiting(start):
    """The idle child that is there once a first sandbox has started."""
    first = start(limits={"memory": MEMORY})
    first.box.wait_ready()
    (child,) = pool()._idle[Kind("strict", MEMORY)]
    assert readable(child.socket.fileno(), 60)  # it has reported
    return child


def seccomp(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text("ascii", errors="replace").splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Seccomp:"))


def test_an_idle_child_is_locked_before_anybody_asks_for_it_and_serves_the_next_run(start, waiting):
    assert seccomp(waiting.pid) == "2"
    second = start(limits={"memory": MEMORY})
    assert second.box.pid == waiting.pid
    assert second.output("1 + 1") == "2\n"


def test_a_child_is_never_reused(start, waiting):
    second = start(limits={"memory": MEMORY})
    second.run("secret = 5")
    used = second.box.pid
    handle = os.pidfd_open(used)
    second.box.close()
    try:
        assert readable(handle, 60)  # it has ended
    finally:
        os.close(handle)
    third = start(limits={"memory": MEMORY})
    assert "NameError" in third.error("secret")
    assert third.box.pid != used


def test_an_idle_child_that_died_is_passed_over(start, waiting):
    os.kill(waiting.pid, signal.SIGKILL)
    handle = os.pidfd_open(waiting.pid)
    try:
        assert readable(handle, 60)
    finally:
        os.close(handle)
    driven = start(limits={"memory": MEMORY})
    assert driven.output("1") == "1\n"
    assert driven.box.events["restarts"] == 0


def test_a_child_that_was_reaped_gets_no_signal(start, monkeypatch):
    driven = start()
    driven.box.wait_ready()
    child: Child = driven.box._child
    driven.box.close()
    child.wait()
    sent = []
    monkeypatch.setattr(os, "kill", lambda *arguments: sent.append(arguments))
    monkeypatch.setattr(os, "killpg", lambda *arguments: sent.append(arguments))
    child.kill("again")
    child.interrupt()
    assert sent == []


def test_none_for_tables_waits_before_a_second_was_needed():
    kind = Kind("strict", MEMORY, tables=True)
    nothing = pyarrow.table({"n": pyarrow.array([], pyarrow.int64())})
    sink = pyarrow.BufferOutputStream()
    pyarrow.ipc.new_stream(sink, nothing.schema).close()
    for waits in (0, 1):
        with QuerySandbox(level="strict", limits=Limits(memory=MEMORY)) as box:
            assert box.sql("select count(*) as n from context", sink.getvalue().to_pybytes(), 60.0) == [{"n": 0}]
            assert len(pool()._idle[kind]) == waits
