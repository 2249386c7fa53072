"""Runs from their beginning to their end: one row for each fault of issue 15 that was seen here."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import rlm_ray
from rlm_ray import api, history, storage
from rlm_ray.cli import main
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.errors import InputError, RunNotFound, SettingsError, StorageError
from rlm_ray.ledger.lease import Lease
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.settings import Settings
from rlm_ray.testing import ModelServer

Server = Callable[..., ModelServer]
COUNT = "```repl\nFinal = context.count()\n```"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_text("".join(f"line {number} {'ERROR' if number % 5 == 0 else 'INFO'}\n" for number in range(20)))
    return path


def settings(server: ModelServer, base: Path | str, **more: Any) -> Settings:
    return Settings(root_model="root", sub_model="leaf", base_url=server.base_url, run_dir=str(base), **more)


def test_a_run_that_was_killed_before_its_manifest_goes_on(
    log: Path, run_dir: Path, model_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = settings(model_server(root=[COUNT] * 3), run_dir, run_id="nightly")
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "save", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            rlm_ray.ask(rlm_ray.open(str(log)), "How many?", made)
    assert rlm_ray.ask(rlm_ray.open(str(log)), "How many?", made).value == 20


def test_a_run_of_an_earlier_version_without_manifests_goes_on(log: Path, run_dir: Path, model_server: Server) -> None:
    made = settings(model_server(root=[COUNT] * 3), run_dir, run_id="nightly")
    about = {"question": "How many?", "corpora": {"context": {"uris": [str(log)]}}, "settings": {}}
    RunDirectory.create(str(run_dir), "nightly", about)
    with pytest.raises(rlm_ray.errors.RunError, match="Ask again with the run id 'nightly'"):
        rlm_ray.resume("nightly", made)
    assert rlm_ray.ask(rlm_ray.open(str(log)), "How many?", made).value == 20


def test_a_run_directory_that_vanishes_is_an_error(log: Path, run_dir: Path, model_server: Server) -> None:
    made = settings(model_server(root=["```repl\nprint(1)\n```", COUNT]), run_dir, run_id="gone")

    def vanish(progress: Any) -> None:
        if progress.turn == 1:
            storage.delete_tree(str(run_dir / "gone"))

    with pytest.raises(StorageError, match="gone is gone: it was removed while the run went on") as found:
        rlm_ray.ask(rlm_ray.open(str(log)), "How many?", made, observe=vanish)
    assert found.value.ends_run
    assert not (run_dir / "gone" / "answer.json").exists()
    assert not (run_dir / "gone" / "lease").exists()


def test_another_holder_is_seen_in_a_lease_of_the_same_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlm_ray.ledger import lease

    def overwritten(uri: str, data: bytes, only_if_absent: bool = False) -> bool:
        other = json.dumps(json.loads(data) | {"holder": "another"}).encode()
        return write(uri, other if only_if_absent else data)

    write = storage.write_bytes
    monkeypatch.setattr(lease.storage, "write_bytes", overwritten)
    with pytest.raises(rlm_ray.errors.RunBusy, match="at the same moment"), Lease(str(tmp_path)):
        pass


def test_the_beginning_of_an_id_names_a_run(run_dir: Path) -> None:
    for name in ("20260101-aa", "20260101-ab", "night"):
        RunDirectory.create(str(run_dir), name, {"question": "?"})
    assert RunDirectory.find("ni", str(run_dir)).id == "night"
    assert RunDirectory.find("20260101-aa", str(run_dir)).id == "20260101-aa"
    with pytest.raises(RunNotFound, match=r"2 runs under .* begin with '20260101': 20260101-ab, 20260101-aa"):
        RunDirectory.find("20260101", str(run_dir))
    for wrong in ("x", "*", "", "../night"):
        with pytest.raises(RunNotFound):
            RunDirectory.find(wrong, str(run_dir))


@pytest.mark.parametrize("text", ["{folder}", "{log}", "{folder}/*.log", "s3:/lake/logs", "s3://lake", "arn:aws:s3:::lake/a"])
def test_a_name_of_data_is_no_text(log: Path, run_dir: Path, model_server: Server, text: str) -> None:
    name = text.format(folder=log.parent, log=log)
    with pytest.raises(InputError, match=r"(is an existing path|looks like a URI)\. A str is the text itself: pass rlm_ray.open"):
        rlm_ray.ask(name, "How many?", settings(model_server(), run_dir))


def test_a_path_object_is_no_corpus(log: Path, run_dir: Path, model_server: Server) -> None:
    with pytest.raises(InputError, match=r"Pass rlm_ray.open\('.*app.log'\)"):
        rlm_ray.ask(log, "How many?", settings(model_server(), run_dir))  # type: ignore[arg-type]


@pytest.mark.parametrize("store", ["folder", "objects"])
def test_many_asks_leave_no_file_no_thread_and_no_memory(
    log: Path, run_dir: Path, model_server: Server, store: str, request: Any
) -> None:
    asks = 50 if os.environ.get("RLM_RAY_TEST_FULL") else 20
    code = "```repl\nFinal = llm_query('which?')\n```"
    made = settings(model_server(root=[code] * asks), run_dir)
    if store == "objects":
        made = made.with_(run_dir=f"s3://{request.getfixturevalue('s3').bucket()}/runs")

    def held() -> tuple[int, int, int]:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return len(os.listdir("/proc/self/fd")), threading.active_count(), pages * os.sysconf("SC_PAGESIZE")

    for number in range(asks):
        assert rlm_ray.ask("a text", "Which?", made).answered
        if number == 4:
            before = held()
    files, threads, memory = held()
    # a leak would be a file or a thread an ask; the test's own server has some of its own
    assert files - before[0] < 5
    assert threads - before[1] < 5
    if store == "folder":  # the allocators of the client of object storage have more play
        assert memory - before[2] < (asks - 5) << 20  # less than a megabyte an ask


def test_runs_are_listed_by_when_they_were_made(run_dir: Path) -> None:
    for name, made in (("zebra", "2026-01-01"), ("ant", "2026-03-01"), ("20260201-x", "2026-02-01")):
        RunDirectory.create(str(run_dir), name, {"question": "?" * 300, "made": made})
    assert [run.id for run in history.runs(str(run_dir))] == ["ant", "20260201-x", "zebra"]
    listed = CliRunner().invoke(main, ["runs", "--run-dir", str(run_dir)])
    assert [line.split("\t")[0] for line in listed.stdout.splitlines()] == ["run", "ant", "20260201-x", "zebra"]
    assert "?" * 300 in listed.stdout


JOB = """
name: errors
question: Which lines are errors?
corpora: {context: {uris: app.log}}
finding: {text: string}
output: {findings: out/findings, reports: out/reports}
fail_on: text != ''
"""
FIND = (
    "```repl\nFinal = [{'text': r['text'], 'address': r['_address'], 'quote': 'ERROR'} for r in context.grep('ERROR').head(9)]\n```"
)


def test_resume_ends_a_job_as_the_job_ends(
    log: Path, run_dir: Path, model_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(log.parent)
    Path("job.yaml").write_text(JOB)
    server = model_server(root=[FIND] * 2)
    flags = ["--root-model", "root", "--base-url", server.base_url, "--run-dir", str(run_dir)]

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        from rlm_ray.cluster import calls

        patch.setattr(calls, "run_call", interrupted)
        stopped = CliRunner().invoke(main, ["run", "job.yaml", *flags, "--run-id", "night"])
    assert stopped.exit_code == 130
    assert f"`rlm-ray resume {run_dir}/night`" in stopped.stderr
    other = tmp_path / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    (other / "s.yaml").write_text(f"run_dir: {run_dir}\n")
    done = CliRunner().invoke(main, ["resume", "nig", "--settings", "s.yaml", "--progress", "none"])
    assert done.exit_code == 4, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert (log.parent / "out/reports/night/report.html").exists()
    shown = CliRunner().invoke(main, ["show", "night", "--finding", "1", "--run-dir", str(run_dir)])
    assert shown.exit_code == 0, shown.stderr
    assert "> line 0 ERROR" in shown.stdout


def test_forget_without_a_terminal_says_what_to_do(run_dir: Path) -> None:
    RunDirectory.create(str(run_dir), "night", {"question": "?"})
    done = CliRunner().invoke(main, ["forget", "night", "--run-dir", str(run_dir)])
    assert (done.exit_code, "Give --yes" in done.stderr) == (2, True)


def test_a_wrong_setting_has_our_words() -> None:
    with pytest.raises(SettingsError, match="root_mdel: there is no such setting; did you mean root_model"):
        Settings(root_mdel="x")  # type: ignore[call-arg]


def test_a_condition_as_text_is_said_whole(log: Path) -> None:
    with pytest.raises(InputError, match="\"level = 'ERROR'\" is no condition"):
        rlm_ray.open(str(log)).where("level = 'ERROR'")  # type: ignore[arg-type]


def test_the_package_is_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "rlm_ray", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("rlm-ray, version")


def test_an_answer_is_short_in_a_repl(log: Path, run_dir: Path, model_server: Server) -> None:
    answer = api.ask("a text", "Which?", settings(model_server(root=["```repl\nFinal = 7\n```"]), run_dir))
    assert repr(answer).startswith("7\n[complete; 1 call")
    assert len(repr(answer)) < 300
