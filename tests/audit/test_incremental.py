"""Nights: objects come, change, go and are renamed; runs die, repeat and meet. Each record is read by a model once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray import storage
from rlm_ray.audit.incremental import changes, is_exact
from rlm_ray.audit.spec import load
from rlm_ray.errors import SpecError
from rlm_ray.testing import ModelServer, each
from tests.servers import S3

Run = Callable[..., Result]

CELLS = [
    "rows = llm_each('How bad?', logs, schema={'severity': ['low', 'high']})\nprint(rows.count_by('severity'))",
    "Final = [{'severity': 'high', 'title': 'trouble', 'address': row['_address'], 'quote': row['text']} "
    "for row in rows if row['severity'] == 'high']",
]


@pytest.fixture
def nightly(job: Path) -> Path:
    """The job as an incremental one, with a program in which a model reads every line."""
    folder = job.parent / "program" / "cells"
    folder.mkdir(parents=True)
    for number, cell in enumerate(CELLS, 1):
        (folder / f"{number:02d}.py").write_text(cell + "\n")
    (folder.parent / "program.yaml").write_text("question: Which lines tell of trouble?\n")
    job.write_text(job.read_text() + "program: program\nincremental: true\n")
    for file in (job.parent / "logs").iterdir():
        file.unlink()
    write(job, "a.log", "a 1", "a line 15")
    write(job, "b.log", "b 1", "b line 15")
    return job


def write(job: Path, name: str, *lines: str) -> Path:
    file = job.parent / "logs" / name
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def table(job: Path, run: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (
        pyarrow.parquet.ParquetFile(job.parent / f"out/findings/run={run}/part-0.parquet").read().to_pylist()
    )
    return rows


def standing(job: Path, run: str) -> list[tuple[str, str, str]]:
    rows = [row for row in table(job, run) if row["status"] != "gone"]
    return sorted((row["id"], row["quote"], re.sub(r".*/(.*)@.*", r"\1", row["address"])) for row in rows)


def statuses(job: Path, run: str) -> dict[str, str]:
    return {row["quote"]: row["status"] for row in table(job, run)}


def read_by_a_model(server: ModelServer) -> Counter[str]:
    """How often each line was put before the leaf model."""
    prompts = [request["messages"][-1]["content"] for request in server.requests if request["model"] == "leaf"]
    return Counter(line for prompt in prompts for line in re.findall(r"^\[\d+\] (.*)$", prompt, re.MULTILINE))


def test_objects_come_change_go_and_are_renamed(run: Run, nightly: Path, server: ModelServer) -> None:
    logs = nightly.parent / "logs"
    assert run("run", nightly, "--run-id", "n1").exit_code == 4
    assert statuses(nightly, "n1") == {"a line 15": "new", "b line 15": "new"}

    nothing = run("run", nightly, "--run-id", "n2")
    assert nothing.exit_code == 0, nothing.output  # nothing new
    assert "findings: 2 (0 new, 2 carried, 0 gone)\n0 new findings with severity >= high" in nothing.stderr
    assert "Nothing was new, so nothing was read." in (nightly.parent / "out/reports/n2/summary.md").read_text()
    assert statuses(nightly, "n2") == {"a line 15": "carried", "b line 15": "carried"}

    write(nightly, "c.log", "c 1", "c line 15")  # comes
    write(nightly, "b.log", "changed 1", "changed line 15")  # changes
    (logs / "a.log").rename(logs / "d.log")  # is renamed
    done = run("run", nightly, "--run-id", "n3", "--json")
    assert done.exit_code == 4, done.output
    assert statuses(nightly, "n3") == {
        "c line 15": "new",
        "changed line 15": "new",
        "a line 15": "carried",
        "b line 15": "gone",
    }
    told = json.loads(done.stdout)
    assert {row["since"] for row in told["findings"]} == {"n1", "n3"}
    assert "(2 new, 1 carried, 1 gone)" in (nightly.parent / "out/reports/n3/summary.md").read_text()

    (logs / "c.log").unlink()  # goes
    assert run("run", nightly, "--run-id", "n4").exit_code == 0
    assert statuses(nightly, "n4") == {"changed line 15": "carried", "a line 15": "carried", "c line 15": "gone"}
    assert run("run", nightly, "--run-id", "n5").exit_code == 0
    assert statuses(nightly, "n5") == {"changed line 15": "carried", "a line 15": "carried"}

    counted = read_by_a_model(server)
    assert set(counted.values()) == {1}, counted
    assert len(counted) == 8
    full = run("run", nightly, "--run-id", "full", "--set", f"output.state={nightly.parent}/other")
    assert full.exit_code == 4
    assert standing(nightly, "full") == standing(nightly, "n5")


def test_a_finished_run_that_is_repeated_says_the_same_and_changes_nothing(run: Run, nightly: Path, server: ModelServer) -> None:
    assert run("run", nightly, "--run-id", "n1").exit_code == 4
    state = nightly.parent / "out/findings-state/runs/n1"
    before = {file.name: file.read_bytes() for file in state.iterdir()}
    rows = table(nightly, "n1")
    write(nightly, "c.log", "c line 15")
    again = run("run", nightly, "--run-id", "n1")
    assert again.exit_code == 4, again.output
    assert table(nightly, "n1") == rows
    assert {file.name: file.read_bytes() for file in state.iterdir()} == before
    assert run("run", nightly, "--run-id", "n2").exit_code == 4
    assert statuses(nightly, "n2") == {"c line 15": "new", "a line 15": "carried", "b line 15": "carried"}
    assert set(read_by_a_model(server).values()) == {1}


def test_another_question_begins_anew(run: Run, nightly: Path) -> None:
    assert run("run", nightly, "--run-id", "n1").exit_code == 4
    assert run("run", nightly, "--run-id", "n2", "--set", "finding.title=text").exit_code == 4
    assert set(statuses(nightly, "n2").values()) == {"new"}


@dataclass
class Gate:
    """A model that lets a run wait before its end: for a kill, or for another run."""

    server: ModelServer
    reached: threading.Event
    open: threading.Event


@pytest.fixture
def gate(nightly: Path, model_server: Callable[..., ModelServer], monkeypatch: pytest.MonkeyPatch) -> Gate:
    reached, opened = threading.Event(), threading.Event()
    reader = each(lambda text: "high" if "line 15" in text else "low")

    def leaf(prompt: str, schema: Any) -> str:
        if prompt == "gate":
            reached.set()
            assert opened.wait(120)
            return "open"
        return reader(prompt, schema)

    server = model_server(leaf=leaf, keep_messages=True)
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    cell = nightly.parent / "program" / "cells" / "01.py"
    cell.write_text(cell.read_text() + "llm_query('gate')\n")
    return Gate(server, reached, opened)


def started(job: Path, run_dir: Path, run_id: str, gate: Gate) -> subprocess.Popen[str]:
    """Run a job in a process of its own; return when all that it reads is answered, and it waits."""
    environment = os.environ | {"RLM_RAY_RUN_DIR": str(run_dir), "OPENAI_BASE_URL": gate.server.base_url}
    command = [sys.executable, "-c", "from rlm_ray.cli import main; main()", "run", str(job), "--run-id", run_id]
    gate.reached.clear()
    gate.open.clear()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert gate.reached.wait(120)
    return process


@pytest.mark.parametrize("same_id", [False, True])
def test_a_run_that_was_killed_is_gone_on_from(run: Run, nightly: Path, run_dir: Path, gate: Gate, same_id: bool) -> None:
    before = "new" if same_id else "carried"
    if not same_id:
        gate.open.set()
        assert run("run", nightly, "--run-id", "n1").exit_code == 4
    write(nightly, "c.log", "c 1", "c line 15")
    with started(nightly, run_dir, "died", gate) as process:
        process.kill()
    gate.open.set()
    assert not (nightly.parent / "out/findings-state/runs/died/done.json").exists()
    name = "died" if same_id else "n2"
    done = run("run", nightly, "--run-id", name)
    assert done.exit_code == 4, done.output
    assert statuses(nightly, name) == {"c line 15": "new", "a line 15": before, "b line 15": before}
    assert set(read_by_a_model(gate.server).values()) == {1}, read_by_a_model(gate.server)


def test_of_two_at_once_one_waits_for_another_night(run: Run, nightly: Path, run_dir: Path, gate: Gate) -> None:
    with started(nightly, run_dir, "first", gate) as process:
        refused = run("run", nightly, "--run-id", "second")
        gate.open.set()
        assert process.wait(timeout=120) == 4
    assert refused.exit_code == 1
    assert "Another run of this job is at work" in refused.stderr
    assert run("run", nightly, "--run-id", "third").exit_code == 0
    assert statuses(nightly, "third") == {"a line 15": "carried", "b line 15": "carried"}
    assert set(read_by_a_model(gate.server).values()) == {1}


def test_a_partial_run_has_not_finished(run: Run, nightly: Path, server: ModelServer) -> None:
    cell = nightly.parent / "program" / "cells" / "01.py"
    cell.write_text(cell.read_text().replace(", logs,", ", logs.grep('line'),"))
    partial = run("run", nightly, "--run-id", "n1", "--set", "require_coverage={read_by_model: 1.0}", "--set", "fail_on=")
    assert partial.exit_code == 3, partial.output
    assert not (nightly.parent / "out/findings-state/runs/n1/done.json").exists()
    done = run("run", nightly, "--run-id", "n2", "--set", "fail_on=")
    assert done.exit_code == 0, done.output
    assert statuses(nightly, "n2") == {"a line 15": "new", "b line 15": "new"}
    assert set(read_by_a_model(server).values()) == {1}


def test_an_object_that_cannot_be_read_is_tried_again(run: Run, nightly: Path) -> None:
    broken = nightly.parent / "logs" / "c.log.gz"
    broken.write_bytes(b"\x1f\x8b no gzip")
    partial = run("run", nightly, "--run-id", "n1", "--set", "fail_on=")
    assert partial.exit_code == 3, partial.output
    broken.unlink()
    write(nightly, "c.log", "c line 15")
    assert run("run", nightly, "--run-id", "n2").exit_code == 4
    assert statuses(nightly, "n2") == {"c line 15": "new", "a line 15": "carried", "b line 15": "carried"}


def test_what_cannot_be_incremental_is_said(nightly: Path, tmp_path: Path) -> None:
    text = nightly.read_text()
    nightly.write_text(text.replace("corpora:\n", f"corpora:\n  mails: {{uris: {tmp_path}}}\n"))
    with pytest.raises(SpecError, match="a job over several corpora cannot be"):
        load(nightly)
    nightly.write_text(text.replace("  title: string", "  title: string\n  since: string"))
    with pytest.raises(SpecError, match="every finding has 'since' already"):
        load(nightly)


def test_on_object_storage(run: Run, nightly: Path, s3: S3, server: ModelServer) -> None:
    bucket = f"s3://{s3.bucket()}"
    text = nightly.read_text().replace(f"uris: {nightly.parent}/logs", f"uris: {bucket}/logs")
    nightly.write_text(text.replace(f"findings: {nightly.parent}/out/findings", f"findings: {bucket}/findings"))
    for name in "ab":
        storage.write_bytes(f"{bucket}/logs/{name}.log", f"{name} 1\n{name} line 15\n".encode())
    assert run("run", nightly, "--run-id", "n1").exit_code == 4
    data = storage.read_bytes(f"{bucket}/logs/a.log")
    storage.delete_tree(f"{bucket}/logs/a.log")
    storage.write_bytes(f"{bucket}/logs/renamed.log", data)
    storage.write_bytes(f"{bucket}/logs/c.log", b"c line 15\n")
    done = run("run", nightly, "--run-id", "n2", "--json")
    assert done.exit_code == 4, done.output
    found = {row["quote"]: row["status"] for row in json.loads(done.stdout)["findings"]}
    assert found == {"c line 15": "new", "a line 15": "carried", "b line 15": "carried"}
    assert set(read_by_a_model(server).values()) == {1}


_OBJECTS = st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.sampled_from(["v1", "v2", "v3"]), st.integers(1, 2)))


@given(_OBJECTS, _OBJECTS)
def test_every_object_is_in_one_place(before: dict[str, Any], now: dict[str, Any]) -> None:
    found = changes(before, now)
    same = {uri for uri in now if before.get(uri) == now[uri]}
    assert found.fresh | set(found.renamed.values()) | same == set(now)
    assert found.gone | set(found.renamed) | same == set(before)
    assert all(before[old] == now[new] and old not in now and new not in before for old, new in found.renamed.items())
    assert len(set(found.renamed.values())) == len(found.renamed)


def test_a_time_of_whole_seconds_proves_no_rename() -> None:
    assert not is_exact(f"fe-{1_700_000_000_000_000_000:x}")
    assert changes({"a": ("fe-1", 2)}, {"b": ("fe-1", 2)}).renamed == {"a": "b"}
