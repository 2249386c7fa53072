from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_ray import storage
from rlm_ray.errors import RunBusy
from rlm_ray.ledger import lease
from rlm_ray.ledger.lease import STALE_SECONDS, Lease


@pytest.fixture(params=["local", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "run")
        return
    uri = f"memory://lease-{os.getpid()}-{tmp_path.name}/run"
    yield uri
    storage.delete_tree(uri)


def left_behind(run: str, **changes: Any) -> None:
    """A lease of someone who said no more."""
    told = {"holder": "another", "host": "elsewhere", "pid": 1, "time": time.time(), "released": False} | changes
    storage.write_bytes(storage.join(run, "lease", "00000001.json"), json.dumps(told).encode())


def test_one_holds_a_run_and_others_are_told_who(run: str) -> None:
    with Lease(run), pytest.raises(RunBusy, match=rf"process {os.getpid()} .* is working on this run.*Wait until it has ended"):
        Lease(run).__enter__()
    with Lease(run):
        pass


def test_a_lease_that_was_not_renewed_is_taken_over(run: str) -> None:
    left_behind(run, time=time.time() - STALE_SECONDS - 1)
    with Lease(run) as lease:
        assert not lease.lost


def test_a_fresh_lease_of_another_machine_holds(run: str) -> None:
    left_behind(run)
    with pytest.raises(RunBusy, match="another is working on this run"):
        Lease(run).__enter__()


def test_a_lease_of_a_process_of_this_machine_that_is_no_more_is_taken_over_at_once(run: str) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left_behind(run, host=socket.gethostname(), pid=gone.pid)
    with Lease(run):
        pass


def test_a_released_lease_is_free(run: str) -> None:
    left_behind(run, released=True)
    with Lease(run):
        pass


def test_of_two_at_the_same_moment_one_wins(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_highest", lambda folder: (0, None))  # both looked before either wrote
    with Lease(run), pytest.raises(RunBusy, match="at the same moment"):
        Lease(run).__enter__()
