"""The list of runs: what it reads, when it reads again, what a filter keeps, what it says of directories that others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlm_ray import storage
from rlm_ray.ledger.lease import Lease
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.ui import catalog as catalogs
from rlm_ray.ui.catalog import Catalog
from rlm_ray.ui.pages import list_page


def made(base: Path | str, name: str, when: str = "2026-01-01T00:00:00+00:00", question: str = "?") -> RunDirectory:
    return RunDirectory.create(str(base), name, {"question": question, "made": when, "settings": {}})


@pytest.fixture(params=["local", "memory"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://ui-{tmp_path.name}"


@pytest.fixture(autouse=True)
def _listed_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogs, "HOLDS", 0.0)
    monkeypatch.setattr(catalogs, "TIMES", 0)


def test_runs_come_newest_first_as_they_were_made(base: str) -> None:
    for name, when in (("zebra", "2026-01-01"), ("ant", "2026-03-01"), ("bee", "2026-02-01"), ("word", "zzz")):
        made(base, name, when)
    assert [run.id for run in Catalog(base).runs()] == ["ant", "bee", "zebra", "word"]


def test_a_folder_that_is_not_there_has_no_runs(tmp_path: Path) -> None:
    page = Catalog(str(tmp_path / "none")).page()
    assert (page.runs, page.number, page.pages, page.total) == ([], 1, 1, 0)


def test_a_run_is_read_once_until_it_changes(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made(base, "a")
    run = made(base, "b")
    asked: list[str] = []
    read = storage.find_bytes
    monkeypatch.setattr(storage, "find_bytes", lambda uri: (asked.append(uri), read(uri))[1])
    catalog = Catalog(base)
    assert len(catalog.runs()) == 2
    assert len([uri for uri in asked if uri.endswith("run.json")]) == 2
    asked.clear()
    assert len(catalog.runs()) == 2
    assert asked == []
    run.save_job({"spec": {"name": "night"}, "beside": "", "folder": ""})
    assert [item.job for item in catalog.runs() if item.job] == ["night"]
    assert {uri.rsplit("/", 2)[1] for uri in asked} == {"b"}


def test_the_state_says_whether_somebody_works_on_it(base: str) -> None:
    run = made(base, "a")
    catalog = Catalog(base)
    assert [item.state for item in catalog.page().runs] == ["stopped"]
    with Lease(run.uri):
        assert [item.state for item in catalog.page().runs] == ["running"]
    assert [item.state for item in catalog.page().runs] == ["stopped"]


def test_a_filter_and_pages(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogs, "PAGE", 2)
    for number in range(5):
        made(base, f"run-{number}", f"2026-01-0{number + 1}", "Which ERRORS, and why?" if number else "How many?")
    catalog = Catalog(base)
    page = catalog.page("errors WHY", "stopped", number=2)
    assert ([run.listed.id for run in page.runs], page.number, page.pages, page.total) == (["run-2", "run-1"], 2, 2, 4)
    assert catalog.page("errors", number=99).number == 2
    assert catalog.page(state="complete").total == 0
    assert [run.listed.id for run in catalog.page("run-0").runs] == ["run-0"]


@pytest.mark.parametrize("text", ["{", "[1]", "3", "[" * 100_000, '{"question": {"a": 1}, "made": [2]}', "\ufeff{}"])
def test_what_others_wrote_breaks_no_list(tmp_path: Path, text: str) -> None:
    made(tmp_path, "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text(text)
    (tmp_path / "bad" / "answer.json").write_text(text)
    states = {run.listed.id: run.state for run in Catalog(str(tmp_path)).page().runs}
    assert states == {"good": "stopped", "bad": "unreadable"}


def test_an_id_is_no_path(tmp_path: Path) -> None:
    made(tmp_path / "runs", "a")
    made(tmp_path / "elsewhere", "b")
    catalog = Catalog(str(tmp_path / "runs"))
    for name in ("../elsewhere/b", str(tmp_path / "elsewhere" / "b"), "", ".", "*", "a/"):
        assert catalog.find(name) is None
    assert catalog.find("a") is not None


def test_of_very_many_the_newest_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogs, "MAX_RUNS", 2)
    for name in "abc":
        made(tmp_path, name)
    catalog = Catalog(str(tmp_path))
    assert [run.id for run in catalog.runs()] == ["c", "b"]
    assert catalog.is_cut
    assert "The folder has more" in list_page(catalog, "", "", "", 1)


def test_runs_on_object_storage(s3: Any) -> None:
    base = f"s3://{s3.bucket()}/runs"
    run = made(base, "a", question="On S3?")
    catalog = Catalog(base)
    assert [(item.listed.question, item.state) for item in catalog.page().runs] == [("On S3?", "stopped")]
    storage.write_bytes(run.path("run.json"), json.dumps({"question": "Again?"}).encode())
    assert [item.question for item in catalog.runs()] == ["Again?"]
