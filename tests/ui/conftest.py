"""A folder of real runs: questions, a job with three nights, one that stopped, hostile ones; and its pages on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.settings import Settings
from rlm_ray.testing import ModelServer, each

pytest.importorskip("uvicorn", reason="pip install 'rlm-ray[ui]'")

from rlm_ray.ui.server import Server

HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=document.title='broken'>\u202e&amp;"
SPEC: dict[str, Any] = {
    "name": "log-audit",
    "question": "Which lines tell of trouble?",
    "finding": {"severity": ["low", "high"], "title": "string"},
    "settings": {"sub_model": "leaf", "max_calls": 50},
    "fail_on": "severity >= high",
}
TOKEN = "a-token-of-the-tests"


def cells(*codes: str) -> list[str]:
    return [f"```repl\n{code}\n```" for code in codes]


def program(word: str) -> list[str]:
    return cells(
        f"rows = llm_each('How bad?', logs.grep('{word}'), schema={{'severity': ['low', 'high']}})\nprint(len(rows))",
        "Final = [{'severity': r['severity'], 'title': 'trouble', 'address': r['_address'], 'quote': r['text']} for r in rows]",
    )


def make_runs(folder: Path, runs: Path) -> None:
    """Write real run directories below `runs`, by models that are scripted and answer over HTTP."""
    (folder / "logs").mkdir()
    lines = "".join(f"2026-01-01 line {n} {'ERROR' if n % 5 == 0 else 'INFO'} disk {n}\n" for n in range(20))
    (folder / "logs" / "a.log").write_text(lines)
    logs = str(folder / "logs")
    questions = {
        "20260101-a": (
            "How many errors?",
            cells("print(context.grep('ERROR').count())", "Final = {'errors': 4, 'hosts': ['a', 'b']}"),
        ),
        "20260102-b": (
            "How many errors are there?",
            cells("print(context.grep('INFO').count())", "Final = {'errors': 5, 'hosts': ['a', 'b']}"),
        ),
        "hostile": (HOSTILE, cells(f"print({HOSTILE!r})", f"Final = [{{{HOSTILE!r}: {HOSTILE!r}}}]")),
    }
    for name, (question, replies) in questions.items():
        with ModelServer(root=replies) as server:
            rlm_ray.ask(rlm_ray.open(logs), question, server.settings(run_dir=str(runs), run_id=name))
    out = {"findings": str(folder / "findings"), "reports": str(folder / "reports")}
    for number, word in enumerate(("line 15", "ERROR", "line 1")):
        with ModelServer(leaf=each(lambda text: "high" if "line 15" in text else "low"), root=program(word)) as server:
            settings = Settings(root_model="root", base_url=server.base_url, run_dir=str(runs))
            spec = SPEC | {"corpora": {"logs": {"uris": logs}}, "output": out}
            rlm_ray.run_job(spec, settings, changes={"settings.run_id": f"night-{number}"})
    RunDirectory.create(str(runs), "stopped", {"question": "Who stopped?", "made": "2020-01-01T00:00:00+00:00", "settings": {}})
    foreign = RunDirectory.create(str(runs), "foreign", {"question": HOSTILE, "made": HOSTILE, "settings": {}})
    foreign.save_job({"spec": {"name": HOSTILE}, "beside": "", "folder": ""})
    (runs / "foreign" / "findings.json").write_text(json.dumps({"findings": [3], "failing": None}))
    for name, text in (("torn", "{"), ("list", "[1]"), ("number", json.dumps({"made": 3, "question": {"a": HOSTILE}}))):
        (runs / name).mkdir()
        (runs / name / "run.json").write_text(text)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ui")
    (folder / "runs").mkdir(mode=0o700)
    make_runs(folder, folder / "runs")
    return folder / "runs"


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """A function that serves a folder of runs until the test ends."""
    started: list[tuple[Server, threading.Thread]] = []

    def start(base: Path | str) -> Server:
        server = Server(str(base), TOKEN)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for server, thread in started:
        server.close()
        thread.join(30)
        assert not thread.is_alive()
