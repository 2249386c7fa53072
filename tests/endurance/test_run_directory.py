"""A run directory has one driver, survives SIGTERM, holds no credential, is nobody else's to read, and can keep no prompts."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import rlm_ray
from rlm_ray import api, storage
from rlm_ray.cli import main
from rlm_ray.ledger import lease
from rlm_ray.ledger.lease import Lease
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.testing import ModelServer, each

LINES = 60
CELLS = [
    "```repl\nfound = llm_each('Which of the unmistakable?', context, schema={'n': 'integer'})\nprint(found.count())\n```",
    "```repl\nFinal = sum(row['n'] for row in found.ok)\n```",
]
SECRETS = {"OPENAI_API_KEY": "sk-hunter2-0123456789", "AWS_SECRET_ACCESS_KEY": "wJalr-hunter3-0123456789"}


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    (folder / "a.log").write_text("".join(f"number {number} here\n" for number in range(LINES)))
    return folder


def reads(text: str) -> dict[str, int]:
    return {"n": int(text.split()[1])}


def command(lake: Path, server: ModelServer, run_dir: Path, *more: str) -> list[str]:
    words = ["ask", str(lake), "-q", "the unmistakable question", "--root-model", "root", "--sub-model", "leaf"]
    return [*words, "--base-url", server.base_url, "--run-dir", str(run_dir), "--run-id", "night", "--json", *more]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_sigterm_leaves_a_run_that_goes_on(
    lake: Path, ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    server = model_server(root=CELLS, leaf=each(reads))
    server.hold(after=2)  # the last calls are never answered before the signal
    words = command(lake, server, run_dir)
    environment = os.environ | SECRETS | {"POLARS_MAX_THREADS": "1"}
    driver = subprocess.Popen(
        [sys.executable, "-c", "from rlm_ray.cli import main; main()", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    server.wait_for(3, timeout=240)
    second = CliRunner().invoke(main, ["resume", "night", "--run-dir", str(run_dir)])
    assert second.exit_code == 1
    assert f"process {driver.pid}" in second.output
    assert "is working on this run" in second.output
    driver.send_signal(signal.SIGTERM)
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 130, err
    assert "/night` goes on from here" in err
    server.release()
    for path, data in contents(run_dir).items():
        assert not any(secret.encode() in data for secret in SECRETS.values()), path
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    for path in run_dir.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    resumed = CliRunner().invoke(main, ["resume", "night", "--run-dir", str(run_dir), "--json"])
    assert resumed.exit_code == 0, resumed.output
    assert json.loads(resumed.stdout)["value"] == sum(range(LINES))


def test_no_prompts_are_kept_where_none_are_wanted(
    lake: Path, ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    server = model_server(root=CELLS, leaf=each(reads))
    ended = CliRunner().invoke(main, command(lake, server, run_dir, "--store-prompts", "no"))
    assert ended.exit_code == 0, ended.output
    for path, data in contents(run_dir).items():
        assert b"unmistakable" not in data, path
    about = RunDirectory.find("night", str(run_dir))
    assert about.spent().usage.calls == json.loads(ended.stdout)["usage"]["calls"], "what was paid is known all the same"
    with pytest.raises(rlm_ray.errors.RunError, match="keeps nothing to go on from"):
        api.resume("night", server.settings(run_dir=str(run_dir), store_prompts=False))


def test_a_stale_lease_is_taken_over_and_a_live_one_is_not(tmp_path: Path) -> None:
    folder = storage.normal(str(tmp_path))
    with Lease(folder) as first:
        with pytest.raises(rlm_ray.errors.RunBusy, match="is working on this run"):
            Lease(folder).__enter__()
        written = storage.join(folder, "lease", "00000001.json")
        held = json.loads(storage.read_bytes(written))
        # of a process on another machine, that has not been heard of for longer than a lease lasts
        old = held | {"host": "elsewhere", "time": time.time() - lease.STALE_SECONDS - 1}
        storage.write_bytes(written, json.dumps(old).encode())
        with Lease(folder), pytest.raises(rlm_ray.errors.RunBusy):
            Lease(folder).__enter__()
        assert not first.lost


def test_a_driver_whose_run_was_taken_over_ends(
    lake: Path, model_server: Callable[..., ModelServer], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that slept for a minute does when it wakes: it must not spend beside the other."""
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.02)

    def taken_over(prompt: str, schema: Any) -> Any:
        other = {"holder": "another", "host": "elsewhere", "pid": 1, "time": time.time(), "released": False}
        storage.write_bytes(str(run_dir / "night" / "lease" / "00000002.json"), json.dumps(other).encode())
        return each(reads)(prompt, schema)

    server = model_server(root=CELLS, leaf=taken_over)
    server.hold(after=2)  # the root's reply and one answer
    settings = server.settings(run_dir=str(run_dir), run_id="night", records_per_call=1, concurrency=2)
    with pytest.raises(rlm_ray.errors.RunBusy, match="Another process has taken this run over"):
        rlm_ray.ask(rlm_ray.open(str(lake)), "q", settings)
    assert server.count < LINES
    assert not (run_dir / "night" / "answer.json").exists()
    assert json.loads((run_dir / "night" / "lease" / "00000002.json").read_bytes())["holder"] == "another"
