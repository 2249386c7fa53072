"""Runs that were made, as Python and the command line show them: load, list, pages, reports, jobs."""

from __future__ import annotations

import asyncio
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import polars
import pytest
from click.testing import CliRunner
from pydantic import BaseModel
from rich.console import Console

import rlm_ray
from rlm_ray.cli import main
from rlm_ray.errors import InputError, RunNotFound, SpecError
from rlm_ray.report import run_pages
from rlm_ray.settings import Settings
from rlm_ray.testing import ModelServer, each
from rlm_ray.types.run import RunRow

Server = Callable[..., ModelServer]


class Trouble(BaseModel):
    severity: Literal["low", "high"]
    title: str | None


class Count(BaseModel):
    n: int
    hosts: list[str] = []


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.log").write_text("".join(f"line {n} {'ERROR' if n % 5 == 0 else 'INFO'} <b>&\n" for n in range(20)))
    return folder


def cells(*codes: str) -> list[str]:
    return [f"```repl\n{code}\n```" for code in codes]


CITED = cells(
    "hit = context.grep('line 5 ').head(1)[0]\ncite(hit, 'line 5 ERROR')\nprint(hit)",
    "Final = {'n': context.grep('ERROR').count(), 'hosts': ['a']}",
)


@pytest.fixture
def answer(logs: Path, run_dir: Path, model_server: Server) -> rlm_ray.Answer:
    settings = model_server(root=CITED).settings(run_dir=str(run_dir), run_id="night")
    return rlm_ray.ask(rlm_ray.open(str(logs)), "How many?", settings, Count)


def test_a_pydantic_model_is_a_schema_and_the_type_of_the_answer(answer: rlm_ray.Answer) -> None:
    assert answer.value == {"n": 4, "hosts": ["a"]}
    assert answer.parsed == Count(n=4, hosts=["a"])
    assert answer.parse(dict[str, Any]) == answer.value
    with pytest.raises(InputError, match="severity"):
        answer.parse(Trouble)


def test_a_citation_has_the_text_of_its_record(answer: rlm_ray.Answer) -> None:
    (cited,) = answer.citations
    assert cited.quote == cited["quote"] == "line 5 ERROR"
    assert "line 5 ERROR <b>&" in cited.text
    assert cited.record["text"] == "line 5 ERROR <b>&"
    around = cited.source()
    assert [row["text"] for row in around["before"]][-1].startswith("line 4")  # type: ignore[index]
    assert pickle.loads(pickle.dumps(cited)).text == cited.text
    json.dumps(answer.to_json())


def test_a_run_is_loaded_by_its_directory_its_id_a_beginning_and_its_answer(
    answer: rlm_ray.Answer, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_RAY_RUN_DIR", str(run_dir))
    for name in (answer.run, "night", "ni", answer):
        assert rlm_ray.load(name).uri == answer.run
    run = rlm_ray.load("night")
    assert (run.question, run.state) == ("How many?", "complete")
    assert run.answer is not None
    assert run.answer.value == answer.value
    assert run.answer.citations[0].text == answer.citations[0].text
    assert run.answer.usage == answer.usage
    assert [turn["turn"] for turn in run.turns] == [1, 2]
    assert [call["id"] for call in run.calls] == ["0"]
    assert run.findings == []
    assert [item.id for item in rlm_ray.runs()] == ["night"]
    assert rlm_ray.runs().rows()[0]["calls"] == 2
    assert isinstance(rlm_ray.runs()[:1], type(rlm_ray.runs()))
    with pytest.raises(RunNotFound):
        rlm_ray.load("day")
    rlm_ray.load("night").forget()
    assert rlm_ray.runs() == []


def test_a_run_in_a_notebook(answer: rlm_ray.Answer, run_dir: Path, tmp_path: Path) -> None:
    run = rlm_ray.load(answer)
    for shown in (run._repr_html_(), answer._repr_html_(), rlm_ray.runs(str(run_dir))._repr_html_()):
        assert "<table>" in shown
    assert "<tr><th>n</th><td>4</td></tr>" in answer._repr_html_()
    assert "line 5 ERROR" in answer._repr_html_()
    page = run.report()
    assert page.save(tmp_path / "r.html").read_text("utf-8") == page
    assert page._repr_html_().startswith("<iframe")
    assert "<script" not in page._repr_html_()  # it stands in an attribute, escaped
    assert "report.html" in repr(page)


def test_a_corpus_in_a_notebook_shows_rows_where_looking_is_cheap(logs: Path, run_dir: Path) -> None:
    corpus = rlm_ray.open(str(logs), settings=Settings(run_dir=str(run_dir)))
    shown = corpus._repr_html_()
    assert "line 4 INFO &lt;b&gt;&amp;" in shown
    assert "<b>&" not in shown
    assert "not looked at" in corpus.grep("ERROR")._repr_html_()
    (logs / "a.log").write_text("other")
    assert "cannot be read" in rlm_ray.open(str(logs))._repr_html_() or "other" in rlm_ray.open(str(logs))._repr_html_()


SPEC: dict[str, Any] = {
    "name": "night",
    "question": "Which lines tell of trouble?",
    "finding": {"severity": ["low", "high"], "title": "string"},
    "settings": {"sub_model": "leaf", "max_calls": 50},
    "fail_on": "severity >= high",
}
PROGRAM = cells(
    "hits = logs.grep('ERROR')",
    "rows = llm_each('How bad?', hits, schema={'severity': ['low', 'high']})",
    "Final = [{'severity': row['severity'], 'title': 'trouble', 'address': row['_address'], 'quote': row['text']} for row in rows]",
)


@pytest.fixture
def job(logs: Path, tmp_path: Path, run_dir: Path, model_server: Server) -> Callable[..., Any]:
    server = model_server(leaf=each(lambda text: "high" if "line 15" in text else "low"), root=PROGRAM)
    settings = Settings(root_model="root", base_url=server.base_url, run_dir=str(run_dir))
    out = {"findings": str(tmp_path / "findings"), "reports": str(tmp_path / "reports")}
    spec = SPEC | {"corpora": {"logs": {"uris": str(logs)}}, "output": out}
    return lambda call=rlm_ray.run_job, **more: call(spec | more.pop("spec", {}), settings, **more)


def test_a_job_from_python(job: Callable[..., Any], run_dir: Path) -> None:
    result = job(changes={"settings.run_id": "first"})
    assert len(result.findings) == 4
    assert [finding["severity"] for finding in result.failing] == ["high"]
    assert result.parse(Trouble)[0] == Trouble(severity="low", title="trouble")
    assert result.to_polars()["severity"].to_list().count("low") == 3
    assert polars.from_pandas(result.to_pandas()).height == 4
    assert "1 of them make the job fail" in repr(result)
    assert result._repr_html_().index("high") < result._repr_html_().index("low")
    run = rlm_ray.load(result.answer)
    assert run.findings == result.findings
    assert run.record["job"]["failing"] == [result.failing[0]["id"]]  # type: ignore[index]
    done = CliRunner().invoke(main, ["show", "first", "--run-dir", str(run_dir)])
    assert done.exit_code == 0, done.output
    assert "4 findings; 1 with severity >= high" in done.stdout
    assert "✗" in done.stdout


def test_the_awaitable_twins(job: Callable[..., Any], logs: Path, run_dir: Path) -> None:
    async def run() -> Any:
        result = await job(rlm_ray.arun_job, changes={"settings.run_id": "later"})
        return result, await rlm_ray.aresume("later", Settings(run_dir=str(run_dir), root_model="root"))

    result, resumed = asyncio.run(run())
    assert resumed.value == result.answer.value
    assert rlm_ray.aask.__doc__ == "As `ask`, awaitable: the run has a thread of its own."
    assert rlm_ray.arun_job.__name__ == "arun_job"


def test_a_job_that_cannot_be(job: Callable[..., Any]) -> None:
    with pytest.raises(SpecError, match=r"the job.*questoin: there is no such key; did you mean question"):
        job(spec={"questoin": "?"})


def test_a_session_takes_a_pydantic_model(logs: Path, run_dir: Path, model_server: Server, ray_local: Any) -> None:
    server = model_server(leaf=each(lambda text: {"severity": "high", "title": text[:6]}))
    with rlm_ray.session(server.settings(run_dir=str(run_dir))) as session:
        rows = session.llm_each("How bad?", session.open(str(logs)).grep("line 5 "), schema=Trouble)
        (found,) = [Trouble(**row) for row in rows]
    assert found == Trouble(severity="high", title="line 5")


class Node(BaseModel):
    below: list[Node] = []


def test_a_model_that_refers_to_itself_is_no_schema() -> None:
    with pytest.raises(InputError, match="Node refers to itself"):
        rlm_ray.ask("text", "What?", Settings(root_model="x"), Node)


# the command line


def test_show_is_a_page_and_its_parts_have_the_rest(answer: rlm_ray.Answer, run_dir: Path) -> None:
    def show(*flags: str) -> str:
        done = CliRunner().invoke(main, ["show", "night", "--run-dir", str(run_dir), *flags])
        assert done.exit_code == 0, done.output
        return done.stdout

    page = show()
    assert page.startswith("How many?")
    assert '"n": 4' in page
    assert "“line 5 ERROR”" in page
    assert len(page.splitlines()) < 40
    assert "context.grep" not in page
    assert "context.grep" in show("--turns")
    assert answer.citations[0].address in show("--citations")
    assert show("--failures") == "nothing failed\n"


def rows(*ids: str) -> list[RunRow]:
    made: dict[str, Any] = {"made": "2026-01-01", "state": "partial (turns)", "calls": 3, "dollars": None, "shown": 5}
    return [RunRow(run=name, question="a question of many words " * 9, **made) for name in ids]


def test_the_list_fits_eighty_columns_and_a_line_a_run() -> None:
    ids = ("20260101-120000-abcdef", "night-of-the-warehouse-audit-2026-01-01", "night-of-the-warehouse-audit-2026-01-02")
    out = io.StringIO()
    Console(file=out, width=80, force_terminal=False).print(run_pages.runs_table(rows(*ids)))
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= 80
    assert ids[0] in lines[1]
    assert run_pages.runs_lines(rows(*ids))[2].split("\t")[0] == ids[1]


def test_the_list_of_a_beginning(answer: rlm_ray.Answer, run_dir: Path) -> None:
    def listed(*more: str) -> str:
        return CliRunner().invoke(main, ["runs", *more, "--run-dir", str(run_dir)]).stdout

    assert listed("ni") == listed()
    assert "night\tcomplete" in listed()
    assert listed("day") == "no run begins with day\n"
