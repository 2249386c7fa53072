from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from click.testing import Result

from rlm_ray.audit import programs
from rlm_ray.testing import ModelServer
from tests.audit.conftest import PROGRAM

Run = Callable[..., Result]


def findings(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.rglob("*.parquet")) for row in pyarrow.parquet.ParquetFile(file).read().to_pylist()]


def test_a_job_leaves_findings_a_report_and_a_summary(run: Run, job: Path) -> None:
    done = run("run", job, "--root-model", "root", "--run-id", "first")
    assert done.exit_code == 4, done.output  # one is severe
    rows = findings(job.parent / "out" / "findings")
    assert [(row["severity"], row["quote"]) for row in rows] == [
        ("low", "line 0 ERROR"),
        ("low", "line 5 ERROR"),
        ("low", "line 10 ERROR"),
        ("high", "line 15 ERROR"),
    ]
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [row["id"] for row in rows]
    assert "1 finding with severity >= high" in done.stderr
    reports = job.parent / "out" / "reports" / "first"
    assert "Which lines tell of trouble?" in (reports / "report.html").read_text()
    text = (reports / "summary.md").read_text()
    assert "4 findings, 1 of them fails the job; 0 were rejected" in text
    assert text.index("`high`") < text.index("`low`")
    again = run("run", job, "--root-model", "root", "--run-id", "first")
    assert again.exit_code == 4
    assert findings(job.parent / "out" / "findings") == rows  # the same partition, not one more


def test_nothing_that_fails_the_job_is_exit_code_zero(run: Run, job: Path) -> None:
    done = run("run", job, "--root-model", "root", "--set", "fail_on=title == nothing", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert len(told["findings"]) == 4
    assert (told["failing"], told["broken"], told["rejected"]) == ([], "", [])


def test_a_finding_that_is_not_what_the_record_says_is_rejected_and_shown(
    run: Run, job: Path, model_server: Callable[..., ModelServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = """first, second, third, fourth = logs.grep("ERROR").head(4)
good = {"severity": "low", "title": "true", "address": first["_address"], "quote": "line 0"}
Final = [good, good,
    good | {"address": second["_address"], "quote": "line 6"},
    good | {"address": third["_address"].replace("a.log", "b.log")},
    good | {"address": "no address"},
]"""
    server = model_server(root=[f"```repl\n{cell}\n```"])
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    done = run("run", job, "--root-model", "root", "--json")
    told = json.loads(done.stdout)
    assert [finding["quote"] for finding in told["findings"]] == ["line 0"]  # once
    reasons = [item["reason"] for item in told["rejected"]]
    assert len(reasons) == 3
    assert "the quote 'line 6' is not in the record" in reasons[0]
    assert "no record of the job's corpora" in reasons[1]
    assert "is no address" in reasons[2]
    shown = run("run", job, "--root-model", "root")
    assert "rejected: 3" in shown.stderr


def test_a_pinned_run_is_the_same_check_without_a_root_model(run: Run, job: Path, server: ModelServer) -> None:
    assert run("run", job, "--root-model", "root", "--run-id", "first").exit_code == 4
    pinned = run("pin", "first", "-o", job.parent / "program")
    assert pinned.exit_code == 0, pinned.output
    cells = [file.read_text().rstrip("\n") for file in sorted((job.parent / "program" / "cells").iterdir())]
    assert cells == PROGRAM
    before = findings(job.parent / "out" / "findings")
    asked = [request["model"] for request in server.requests]
    job.write_text(job.read_text() + "program: program\n")
    done = run("run", job, "--run-id", "second")
    assert done.exit_code == 4, done.output
    assert [request["model"] for request in server.requests][len(asked) :] == ["leaf"] * asked.count("leaf")
    after = findings(job.parent / "out" / "findings" / "run=second")
    assert [row["id"] for row in after] == [row["id"] for row in before]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rename", "there is no corpus logs"),
        ("unit", "a record of logs is a document, and was a line"),
        ("answer", "cannot fit"),
    ],
)
def test_a_program_on_data_of_another_shape_stops_and_says_what_changed(run: Run, job: Path, change: str, message: str) -> None:
    assert run("run", job, "--root-model", "root", "--run-id", "first").exit_code == 4
    assert run("pin", "first", "-o", job.parent / "program").exit_code == 0
    text = job.read_text() + "program: program\n"
    if change == "rename":
        text = text.replace("  logs:", "  other:")
    elif change == "unit":
        text = text.replace("    uris:", "    unit: document\n    uris:")
    else:
        cell = job.parent / "program" / "cells" / "03.py"
        cell.write_text("Final = [{'severity': 'none'}]\n")
        message = "failed"
    job.write_text(text)
    done = run("run", job, "--run-id", "second")
    assert done.exit_code == 1, done.output
    assert done.stderr.count(message) == 1, "a program's failure is said once"
    assert not (job.parent / "out" / "findings" / "run=second").exists()


def test_a_module_that_a_program_imports_and_that_is_missing_is_said_before_it_starts(
    run: Run, job: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = job.parent / "program" / "cells"
    cells.mkdir(parents=True)
    (cells.parent / "program.yaml").write_text("question: Which?\n")
    (cells / "01.py").write_text("try:\n    import not_there_either\nexcept ImportError:\n    pass\nimport json\n")
    (cells / "02.py").write_text("def mined(records):\n    from not_there.at_all import thing\nFinal = []\n")
    job.write_text(job.read_text() + "program: program\n")
    done = run("run", job, "--run-id", "missing")
    assert (done.exit_code, server.count) == (2, 0)
    assert "Cell 2 of the program, which imports not_there, cannot run: not_there is not installed." in done.stderr
    monkeypatch.setitem(programs.EXTRAS, "not_there", "audit")
    assert "pip install 'rlm-ray[audit]'" in run("run", job, "--run-id", "missing").stderr


def test_a_finding_of_a_job_is_shown_by_its_number(run: Run, job: Path) -> None:
    assert run("run", job, "--root-model", "root", "--run-id", "first").exit_code == 4
    shown = run("show", "first", "--finding", "4")
    assert shown.exit_code == 0, shown.output
    assert "line 15" in shown.stdout
    assert "has 4 findings; there is none with the number 5" in run("show", "first", "--finding", "5").stderr


def test_what_cannot_be_pinned(run: Run, job: Path) -> None:
    assert "There is no run" in run("pin", "nothing", "-o", job.parent / "program").stderr
    assert run("run", job, "--root-model", "root", "--run-id", "first").exit_code == 4
    (job.parent / "there").mkdir()
    (job.parent / "there" / "cells").mkdir()
    assert "cannot be written" in run("pin", "first", "-o", job.parent / "there").stderr
    job.write_text(job.read_text() + "program: there\n")
    assert "holds no program" in run("run", job).stderr


def test_a_plan_is_printed_and_nothing_is_asked(job: Path, run: Run, server: ModelServer) -> None:
    planned = run("run", job, "--root-model", "root", "--plan", "--json")
    assert planned.exit_code == 0, planned.output
    plan = json.loads(planned.stdout)
    assert (plan["records"], plan["distinct"], plan["calls"]) == (4, 4, 1)
    assert all(request["model"] == "root" for request in server.requests)


def test_a_dear_batch_of_a_program_ends_with_a_code(job: Path, run: Run, server: ModelServer, tmp_path: Path) -> None:
    cells = tmp_path / "program" / "cells"
    cells.mkdir(parents=True)
    for number, cell in enumerate(PROGRAM, 1):
        (cells / f"{number:02d}.py").write_text(cell)
    (cells.parent / "program.yaml").write_text("question: Which lines tell of trouble?\n")
    job.write_text(job.read_text() + "program: program\n")
    ended = run("run", job, "--confirm-over-usd", "0.000001")
    assert ended.exit_code == 5, ended.output
    assert "resume" in ended.stderr
    assert server.count == 0
