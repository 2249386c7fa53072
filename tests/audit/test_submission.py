"""Jobs submitted to a Ray that runs as a head of its own, with token authentication."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from rlm_ray.audit import spec as specs
from rlm_ray.audit import submission
from rlm_ray.errors import InputError
from rlm_ray.testing import ModelServer, each
from tests.servers import free_ports

COMMAND = Path(sysconfig.get_path("scripts"), "rlm-ray")
#: What the head needs for serving jobs.
NEEDED = ("aiohttp_cors", "opencensus", "prometheus_client", "grpc", "virtualenv")
#: Seconds after which what should have happened is a failure.
PATIENCE = 300
#: Heads that are started before it is a failure.
STARTS = 3
CELLS = [
    "rows = llm_each('How bad?', logs.grep('ERROR'), schema={'severity': ['low', 'high']})\nprint(rows.count_by('severity'))",
    "Final = [{'severity': row['severity'], 'title': 'trouble', 'address': row['_address'], 'quote': row['text']} for row in rows]",
]


@dataclass(frozen=True)
class Head:
    address: str
    environment: dict[str, str]

    def job(self, job: str) -> tuple[str, int | None]:
        """A job's status and exit code."""
        found = {item["submission_id"]: item for item in _ask(self.address, self.environment["RAY_AUTH_TOKEN"])}
        return found[job]["status"], found[job]["driver_exit_code"]

    def stop(self, job: str) -> None:
        """Stop a job."""
        assert _ask(self.address, self.environment["RAY_AUTH_TOKEN"], f"{job}/stop", "POST")["stopped"]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing or not COMMAND.exists():
        pytest.skip(f"no Ray that serves jobs ({', '.join(missing) or 'rlm-ray'} is missing): pip install 'ray[default]'")
    for _ in range(STARTS):
        with contextlib.ExitStack() as stack:
            started = _started(tmp_path_factory.mktemp("head"), stack)
            if started is not None:
                yield started
                return
    pytest.fail("no head came up")


def _started(home: Path, stack: contextlib.ExitStack) -> Head | None:
    """Start a head that ends with the stack; None where it gave up, as Ray does on a machine that others keep busy."""
    dashboard, *ports = [port for port in free_ports(60) if port > 20_000][:6]  # below are Ray's workers
    named = ("port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "ray-client-server-port", "metrics-export-port")
    environment = {
        "HOME": str(home),
        "PATH": f"{COMMAND.parent}:{os.defpath}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "OPENAI_API_KEY": "test-key",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    # Unix sockets below it have short names only
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rlm-ray-", ignore_cleanup_errors=True))
    log = stack.enter_context((home / "head.log").open("wb"))
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats",
         "--include-dashboard=true", f"--dashboard-port={dashboard}", f"--temp-dir={folder}", "--object-store-memory=100000000",
         *(f"--{name}={port}" for name, port in zip(named, ports, strict=False))],
        env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    stack.callback(_end, process)
    address = f"http://127.0.0.1:{dashboard}"
    _until(lambda: process.poll() is not None or _is_up(home / "head.log", address, environment["RAY_AUTH_TOKEN"]))
    return Head(address, environment) if process.poll() is None else None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # it ends what it has started
    try:
        process.wait(120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_up(log: Path, address: str, token: str) -> bool:
    return "Ray runtime started" in log.read_text(errors="replace") and _serves(address, token)


def _serves(address: str, token: str) -> bool:
    try:
        _ask(address, token)
    except OSError:
        return False
    return True


def _ask(address: str, token: str, path: str = "", method: str = "GET") -> Any:
    """Ask the head for its jobs, or to stop one. Not through Ray: a process that has used one keeps that one's token."""
    request = urllib.request.Request(f"{address}/api/jobs/{path}", headers={"Authorization": f"Bearer {token}"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def _until(holds: Callable[[], Any]) -> None:
    ends = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.1)


@pytest.fixture
def spec(job: Path, tmp_path: Path) -> Path:
    (tmp_path / "program" / "cells").mkdir(parents=True)
    (tmp_path / "program" / "program.yaml").write_text("question: x\n")
    for number, cell in enumerate(CELLS, 1):
        (tmp_path / "program" / "cells" / f"{number:02d}.py").write_text(cell + "\n")
    job.write_text(job.read_text() + "program: program\n")
    return job


@pytest.fixture
def submit(head: Head, spec: Path, tmp_path: Path, model_server: Callable[..., ModelServer]) -> Any:
    """Start `rlm-ray submit` of the job as a process, with further arguments."""

    @dataclass
    class Submits:
        leaf: ModelServer
        started: list[subprocess.Popen[str]]

        def start(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
            sets = [
                f"settings.base_url={self.leaf.base_url}",
                f"settings.run_dir={tmp_path / 'runs'}",
                "settings.records_per_call=1",
            ]
            command = [str(COMMAND), "submit", str(spec), "--address", head.address, *arguments]
            process = subprocess.Popen(
                [*command, *(part for change in sets for part in ("--set", change))],
                env=head.environment | changes, cwd=tmp_path, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
            )  # fmt: skip
            self.started.append(process)
            return process

        def __call__(self, *arguments: str, **changes: str) -> tuple[int, str]:
            process = self.start(*arguments, **changes)
            out, err = process.communicate(timeout=PATIENCE)
            assert out == ""
            return process.returncode, err

        def findings(self) -> list[str]:
            files = sorted((tmp_path / "out" / "findings").rglob("*.parquet"))
            return [row["quote"] for file in files for row in pyarrow.parquet.ParquetFile(file).read().to_pylist()]

    submits = Submits(model_server(leaf=each(lambda text: "high" if "line 15" in text else "low")), [])
    yield submits
    for process in submits.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


QUOTES = ["line 0 ERROR", "line 5 ERROR", "line 10 ERROR", "line 15 ERROR"]


def test_what_a_job_prints_and_its_exit_code_come_back(submit: Any) -> None:
    code, said = submit("--run-id", "first", "--wait")
    assert code == 4, said  # one is severe
    assert "submitted the run first, as job first" in said
    assert "1 finding with severity >= high" in said
    assert submit.findings() == QUOTES
    code, said = submit("--wait", "--set", "corpora.logs.uris=/not/there")
    assert code == 2, said  # which the head finds out
    assert "/not/there" in said


@pytest.mark.skipif(os.environ.get("RLM_RAY_TEST_FULL") != "1", reason="long: RLM_RAY_TEST_FULL=1 runs it")
def test_a_run_that_has_ended_is_not_paid_again(submit: Any) -> None:
    assert submit("--run-id", "ended", "--wait")[0] == 4
    asked = submit.leaf.count
    code, said = submit("--run-id", "ended", "--wait")
    assert code == 4, said
    assert "submitted the run ended again, as job ended.2" in said
    assert (submit.findings(), submit.leaf.count) == (QUOTES, asked)  # the same table, and no call
    code, said = submit("--wait", "--set", "fail_on=title == nothing")
    assert code == 0, said


def test_a_job_goes_on_without_who_follows_and_is_taken_up_where_it_was_stopped(submit: Any, head: Head) -> None:
    submit.leaf.hold(after=2)
    follows = submit.start("--run-id", "second", "--wait")
    submit.leaf.wait_for(3, timeout=PATIENCE)
    # twice at once: the second follows the first
    code, said = submit("--run-id", "second")
    assert code == 0, said
    assert "the run second is under way, as job second" in said
    # Ctrl-C: nobody follows, and the job goes on
    follows.send_signal(signal.SIGINT)
    _, said = follows.communicate(timeout=PATIENCE)
    assert follows.returncode == 130, said
    assert "The job second goes on" in said
    assert head.job("second") == ("RUNNING", None)
    with pytest.raises(KeyError):
        head.job("second.2")
    # stopped, and submitted again: what was paid is not asked again
    head.stop("second")
    _until(lambda: head.job("second")[0] == "STOPPED")
    before = submit.leaf.count
    submit.leaf.release()
    code, said = submit("--run-id", "second", "--wait")
    assert code == 4, said
    assert "it goes on from where it stopped" in said
    assert submit.findings() == QUOTES
    assert submit.leaf.count - before <= 2
    assert head.job("second")[0] == "STOPPED"
    assert head.job("second.2") == ("FAILED", 4)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("corpora.logs.uris=[logs, s3://b/logs]", "corpora.logs.uris"),
        ("corpora.logs.uris=delta+tables/events", "corpora.logs.uris"),
        ("output.findings=out", "output.findings"),
        ("output.reports=out", "output.reports"),
        ("settings.run_dir=runs", "settings.run_dir"),
        ("corpora.logs.uris=[s3://b/logs, file:///logs]", None),
        ("corpora.logs.uris=iceberg:prod/sales.orders", None),
        ("corpora.logs.uris=delta+s3://b/events", None),
    ],
)
def test_a_folder_beside_who_submits_is_refused(job: Path, change: str, key: str | None) -> None:
    made = specs.load(job, [change])
    if key is None:
        submission.check_places(made)
        return
    with pytest.raises(InputError, match=f"^{key} = .*is a folder beside you"):
        submission.check_places(made)


def test_who_may_not_and_what_is_not_there(submit: Any, spec: Path) -> None:
    assert submit("--wait", RAY_AUTH_TOKEN="0" * 32)[0] == 2
    code, said = submit("--set", "output.findings=out")
    assert code == 2
    assert "output.findings = 'out' is a folder beside you" in said
    (spec.parent / "program" / "program.yaml").unlink()
    assert submit()[0] == 2
