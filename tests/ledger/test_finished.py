from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_ray import storage
from rlm_ray.ledger import finished
from rlm_ray.ledger.finished import Finished
from rlm_ray.models.contract import Usage


@pytest.fixture(params=["local", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "run")
        return
    uri = f"memory://finished-{os.getpid()}-{tmp_path.name}/run"
    yield uri
    storage.delete_tree(uri)


def test_what_one_process_finished_another_finds(run: str) -> None:
    one, other = Finished(run), Finished(run)
    other.refresh()
    assert other.get("k1") is None
    one.add("k1", {"answer": "é \u2028 \ud800"}, None, Usage(1, 10, 2))
    one.add("k2", None, "it failed", Usage(1, 10, 0))
    one.flush()
    other.refresh()
    assert other.get("k1") == {"answer": "é \u2028 ?"}
    assert other.get("k2") is None, "only validated answers are reused"
    one.add("k3", {"answer": 3}, None, Usage())
    one.flush()
    other.refresh()
    assert other.get("k3") == {"answer": 3}


def test_another_runs_answers_are_read_and_never_written(run: str) -> None:
    before, now = Finished(f"{run}-before"), Finished(run, (f"{run}-before",))
    before.add("k1", {"answer": 1}, None, Usage(1, 10, 2))
    before.flush()
    now.refresh()
    assert now.get("k1") == {"answer": 1}
    now.add("k2", {"answer": 2}, None, Usage(1, 10, 2))
    now.flush()
    assert finished.account(f"{run}-before").usage.calls == 1
    assert finished.account(run).usage.calls == 1


def test_the_times_of_calls_and_rows_of_older_versions_without(run: str) -> None:
    log = Finished(run)
    log.add("k1", {"t": 1}, None, Usage(2, 10, 2), "0:aa", [(1_000.00049, 2.5), (1_001.5, 0.25)])
    log.add("k2", {"answer": "of a version that kept no times"}, None, Usage(1, 10, 2))
    log.add("k3", {"answer": "from the same call as k1"}, None, Usage(), "0:aa")
    log.flush()
    assert list(finished.times(run)) == [(1_000.0, 2.5), (1_001.5, 0.25)]
    assert finished.account(run).usage.calls == 3
    again = Finished(run)
    again.refresh()
    assert [again.get(key) for key in ("k1", "k3")] == [{"t": 1}, {"answer": "from the same call as k1"}]
    assert list(finished.times(f"{run}-none")) == []


def test_the_account_of_all_of_a_group_and_of_a_call(run: str) -> None:
    log = Finished(run)
    for number, group in enumerate(("0:aa", "0:aab", "0-1:cc", "0-1-x:dd", "0-12:ee")):
        log.add(f"k{number}", {"answer": 1}, None, Usage(10**number, 1, 1), group)
    log.expose("0:aa", (5, 50, 500))
    log.expose("0-1:cc", (7, 70, 700))
    log.end("0-1:cc")
    log.flush()
    assert finished.account(run).usage.calls == 11_111
    assert finished.account(run).open == {"0:aa": [5, 50, 500]}
    assert (finished.account(run, "0:aa").usage.calls, finished.account(run, "0:aa").open) == (1, {"0:aa": [5, 50, 500]})
    # a call and all below it, and none whose name only begins like it
    assert finished.account(run, "0-1").usage.calls == 1_100
    assert finished.account(run, "0-1").open == {}


def test_a_row_that_a_kill_cut_is_left_out_and_counted(tmp_path: Path) -> None:
    log = Finished(str(tmp_path))
    log.add("k1", {"answer": 1}, None, Usage(1, 10, 2))
    log.flush()
    (file,) = (tmp_path / "finished").glob("*.jsonl")
    file.write_bytes(file.read_bytes() + b'{"k":"k2","a":{"ans')
    found = finished.account(str(tmp_path))
    assert (found.usage.calls, found.cut.lines) == (1, 1)
    again = Finished(str(tmp_path))
    again.refresh()
    assert again.get("k1") == {"answer": 1}
    assert again.get("k2") is None
