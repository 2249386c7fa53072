from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_ray import storage
from rlm_ray.errors import InputError, RunNotFound
from rlm_ray.ledger.rundir import RunDirectory, default_base, new_id, runs

ABOUT = {"question": "How many?", "corpora": {}}


@pytest.fixture(params=["local", "memory"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder for runs: on disk, and in object storage (kept in memory)."""
    if request.param == "local":
        yield str(tmp_path / "runs")
        return
    uri = f"memory://runs-{os.getpid()}-{tmp_path.name}"
    yield uri
    storage.delete_tree(uri)


def test_a_run_is_made_and_found_by_its_id_and_by_its_directory(base: str) -> None:
    run = RunDirectory.create(base, "night-1", ABOUT)
    assert run.id == "night-1"
    assert run.about() | {"made": ""} == {"layout": 1, "id": "night-1", "made": "", **ABOUT}
    assert RunDirectory.find("night-1", base).uri == run.uri
    assert RunDirectory.find(run.uri).uri == run.uri
    assert RunDirectory.existing(base, "night-1") is not None
    assert RunDirectory.existing(base, "night-2") is None


def test_a_run_that_is_not_there(base: str) -> None:
    with pytest.raises(RunNotFound, match=r"There is no run 'nope', as a directory or under .*`rlm-ray runs` lists them"):
        RunDirectory.find("nope", base)


@pytest.mark.parametrize("run_id", ["a/b", "../x", "..", ".hidden", "a b", "a\x00", "ü/", "x\n"])
def test_an_id_becomes_a_file_name(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(InputError, match=r"cannot name a directory\. Use letters, digits"):
        RunDirectory.create(str(tmp_path / "runs"), run_id, ABOUT)
    assert not (tmp_path / "runs").exists()


def test_ids_sort_by_time_and_differ() -> None:
    ids = [new_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert [name[:15] for name in ids] == sorted(name[:15] for name in ids)


def test_what_is_written_comes_back(base: str) -> None:
    run = RunDirectory.create(base, None, ABOUT, text="the context \ud800 é")
    assert run.text() == "the context \ud800 é"
    assert run.answer() is None
    run.save_answer({"value": "é \ud800", "calls": 5})
    assert run.answer() == {"value": "é ?", "calls": 5}
    assert run.outcome("0-1") is None
    run.save_outcome("0-1", {"kind": "json", "value": [1]})
    assert run.outcome("0-1") == {"kind": "json", "value": [1]}
    assert run.calls() == ["0-1"]


def test_answers_of_older_versions_are_read(base: str) -> None:
    run = RunDirectory.create(base, "old", {})
    run.save_answer({"value": 1, "said": "over"})  # type: ignore[typeddict-item]
    assert run.answer() == {"value": 1, "message": "over"}


def test_a_run_without_a_text(base: str) -> None:
    assert RunDirectory.create(base, None, ABOUT).text() is None


def test_prompts_need_not_be_stored(base: str) -> None:
    run = RunDirectory.create(base, "secret", ABOUT | {"question": "What does Ada earn?"}, text="Ada earns 5", store_prompts=False)
    assert run.about()["question"] is None
    assert len(run.about()["question_sha256"]) == 64
    assert run.text() is None
    found = [storage.read_bytes(item.uri) for item in storage.listing(run.uri)]
    assert found
    assert not any(b"Ada" in data for data in found)


def test_a_new_run_has_spent_nothing(base: str) -> None:
    spent = RunDirectory.create(base, None, ABOUT).spent()
    assert (spent.usage.calls, spent.usage.tokens, spent.seconds) == (0, 0, 0.0)


def test_runs_are_listed_newest_first(base: str) -> None:
    assert list(runs(base)) == []
    for name in ("20260101-a", "20260301-c", "20260201-b"):
        RunDirectory.create(base, name, ABOUT)
    storage.write_bytes(storage.join(base, "no-run", "other.json"), b"{}")
    assert [run.id for run in runs(base)] == ["20260301-c", "20260201-b", "20260101-a"]


def test_a_run_can_be_forgotten(base: str) -> None:
    run = RunDirectory.create(base, "old", ABOUT, text="x")
    kept = RunDirectory.create(base, "kept", ABOUT)
    run.forget()
    assert [found.id for found in runs(base)] == [kept.id]


def test_a_local_run_is_for_its_owner_only(tmp_path: Path) -> None:
    run = RunDirectory.create(str(tmp_path / "runs"), "private", ABOUT)
    run.save_answer({"value": 1})
    for path in [Path(run.uri), *Path(run.uri).rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_base() == str(tmp_path / "rlm_ray" / "runs")
    RunDirectory.create(None, "x", ABOUT)
    assert json.loads((tmp_path / "rlm_ray" / "runs" / "x" / "run.json").read_text())["question"] == "How many?"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_base() == str(tmp_path / "home" / ".local" / "state" / "rlm_ray" / "runs")
