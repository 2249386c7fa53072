"""The store of answers that runs share."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rlm_ray import storage
from rlm_ray.ledger import answers
from rlm_ray.ledger.answers import AnswerStore, compact, forget


@pytest.fixture(params=["local", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "answers") if request.param == "local" else f"memory://answers-{tmp_path.name}"


def filled(uri: str, run: str, numbers: range, endpoint: str = "e") -> AnswerStore:
    store = AnswerStore(uri, endpoint)
    for number in numbers:
        store.add(f"key {number}", {"label": f"answer {number}"}, run)
    store.flush()
    return store


def keys(numbers: range) -> list[str]:
    return [f"key {number}" for number in numbers]


def test_what_one_writes_another_finds(uri: str) -> None:
    assert AnswerStore(uri, "e").find(keys(range(3))) == {}
    filled(uri, "one", range(100))
    filled(uri, "two", range(100, 150))
    found = AnswerStore(uri, "e").find(keys(range(90, 200)))
    assert found == {f"key {number}": {"label": f"answer {number}"} for number in range(90, 150)}


def test_no_answer_of_another_endpoint(uri: str) -> None:
    filled(uri, "one", range(10))
    assert AnswerStore(uri, "other").find(keys(range(10))) == {}


def test_a_compaction_keeps_each_answer_once(uri: str) -> None:
    for first in (0, 500, 250):
        filled(uri, "one", range(first, first + 500))
    assert compact(uri, least=1) == 3
    segments = list(answers._segments(uri))
    assert "all" not in {segment.range for segment in segments}
    assert sum(len(answers._read(segment)) for segment in segments) == 1_000
    filled(uri, "two", range(1_000, 1_100))
    assert compact(uri, least=1) > 0
    assert len(AnswerStore(uri, "e").find(keys(range(1_100)))) == 1_100


def test_a_forgotten_run_is_in_no_segment(uri: str) -> None:
    filled(uri, "one", range(50))
    filled(uri, "two", range(50, 100))
    compact(uri, least=1)
    filled(uri, "one", range(100, 120))
    forget(uri, "one")
    assert set(AnswerStore(uri, "e").find(keys(range(120)))) == set(keys(range(50, 100)))
    runs = {run for segment in answers._segments(uri) for run in answers._read(segment)["run"].to_pylist()}
    assert runs == {"two"}


def test_old_answers_are_asked_again(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(answers.time, "time", lambda: now - 10 * 86_400)
    filled(uri, "one", range(5))
    monkeypatch.setattr(answers.time, "time", lambda: now)
    filled(uri, "one", range(5, 10))
    assert set(AnswerStore(uri, "e", days=5).find(keys(range(10)))) == set(keys(range(5, 10)))
    assert len(AnswerStore(uri, "e", days=11).find(keys(range(10)))) == 10
    compact(uri, days=5, least=1)
    assert len(AnswerStore(uri, "e").find(keys(range(10)))) == 5


def test_many_writers_and_a_compaction_at_once(uri: str) -> None:
    failed: list[Any] = []

    def write(number: int) -> None:
        try:
            for part in range(3):
                filled(uri, f"run {number}", range(1_000 * number + 20 * part, 1_000 * number + 20 * part + 20))
        except BaseException as error:  # noqa: BLE001 - the test shows it
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    compact(uri, least=1)
    for thread in threads:
        thread.join()
    compact(uri, least=1)
    assert not failed
    wanted = [key for number in range(4) for key in keys(range(1_000 * number, 1_000 * number + 60))]
    assert len(AnswerStore(uri, "e").find(wanted)) == 240


def test_a_segment_that_was_not_finished_is_not_seen(uri: str) -> None:
    filled(uri, "one", range(5))
    (segment,) = answers._segments(uri)
    broken = segment.uri.rpartition("/")[0] + "/all-1-broken"
    storage.make_dirs(broken)
    storage.write_bytes(storage.join(broken, "rows.parquet"), b"half")
    assert len(AnswerStore(uri, "e").find(keys(range(5)))) == 5


def test_neither_prompt_nor_record_is_in_it(tmp_path: Path) -> None:
    store = AnswerStore(str(tmp_path / "answers"), "e")
    store.add("a key", {"label": "spam"}, "run")
    store.flush()
    for path in (tmp_path / "answers").rglob("*"):
        if path.is_file():
            assert b"a key" not in path.read_bytes()
