"""A notebook's workspace: the verbs of root code, run by a person's own Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

import rlm_ray
from rlm_ray.errors import BudgetExceeded, InputError, UnreadShard
from rlm_ray.testing import ModelServer
from rlm_ray.workspace import Session


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.log").write_text("".join(f"line {n} {'ERROR' if n % 5 == 0 else 'INFO'}\n" for n in range(20)))
    return folder


@pytest.fixture
def session(model_server: Callable[..., ModelServer], run_dir: Path) -> Iterator[Session]:
    server = model_server(leaf=lambda prompt, schema: "an answer", root=["```repl\nFinal = context.count()\n```"])
    with rlm_ray.session(server.settings(run_dir=str(run_dir), max_calls=20)) as made:
        yield made


def test_the_verbs_of_a_handle(session: Session, lake: Path) -> None:
    logs = session.open(str(lake))
    assert logs.count() == 20
    assert logs.grep("ERROR").head(1)[0]["text"] == "line 0 ERROR"
    assert logs.map(lambda record: {"n": len(record["text"])}).count() == 20


def test_what_cannot_be_read_is_said(session: Session, lake: Path) -> None:
    logs = session.open(str(lake))
    next(iter(sorted(lake.iterdir()))).unlink()
    with pytest.warns(UnreadShard, match="is left out"):
        assert list(logs) == []
    assert len(session.failures) == 1
    assert logs.count() == 0  # said once


def test_asking_models(session: Session, lake: Path) -> None:
    logs = session.open(str(lake), name="logs")
    assert session.llm_query("Why?", logs.grep("ERROR")) == "an answer"
    rows = list(session.llm_map("Why?", logs.chunks(tokens=50)))
    assert {row["answer"] for row in rows} == {"an answer"}
    assert session.budget()["calls spent"] == 1 + len(rows)


def test_one_budget_for_all(session: Session) -> None:
    with pytest.raises(BudgetExceeded, match="30 calls were asked for and 19 of 20 are left"):
        session.llm_query_batched([f"question {number}" for number in range(30)])


def test_results_go_into_the_run_directory(session: Session, lake: Path, run_dir: Path) -> None:
    session.llm_map("Why?", ["a", "b"]).count()
    (run,) = run_dir.iterdir()
    assert list((run / "segments").rglob("*.parquet"))


def test_a_handle_of_a_session_can_be_asked_about(session: Session, lake: Path) -> None:
    errors = session.open(str(lake), name="logs").grep("ERROR")
    assert rlm_ray.ask(errors, "How many?", session.settings).value == 4


def test_without_a_run_directory_nothing_stays(
    model_server: Callable[..., ModelServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import tempfile

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    server = model_server(leaf=lambda prompt, schema: "an answer")
    with rlm_ray.session(server.settings()) as made:
        assert made.llm_map("Why?", ["a"]).count() == 1
        assert list(scratch.iterdir())
    assert list(scratch.iterdir()) == []


def test_closing_twice_is_fine_and_the_session_can_be_used_again(session: Session) -> None:
    assert session.llm_query("Why?") == "an answer"
    session.close()
    session.close()
    assert session.llm_query("And why?") == "an answer"


def test_an_opened_corpus_has_a_session_of_its_own(lake: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_RAY_RUN_DIR", str(run_dir))
    logs = rlm_ray.open(str(lake))
    assert list(run_dir.iterdir()) == []  # opening alone makes nothing
    assert logs.count() == 20
    with pytest.raises(InputError, match="There is no column 'nope'"):
        logs.select("nope")


def test_a_notebook_shows_what_is_known_without_reading(session: Session, lake: Path) -> None:
    logs = session.open(str(lake)).grep("<b>ERROR")
    (lake / "a.log").unlink()
    shown = logs._repr_html_()
    assert "Corpus of lines" in shown
    assert "&lt;b&gt;ERROR" in shown
    assert session._service is None or not session.failures


def test_describe_says_what_a_filter_would_read(session: Session, tmp_path: Path) -> None:
    for day in ("2026-01-01", "2026-01-02"):
        (tmp_path / "rows" / f"day={day}").mkdir(parents=True)
        table = pyarrow.table({"n": list(range(int(day[-1]) * 100, int(day[-1]) * 100 + 100))})
        pyarrow.parquet.write_table(table, tmp_path / "rows" / f"day={day}" / "0.parquet")
    for rows in (rlm_ray.open(str(tmp_path / "rows")), session.open(str(tmp_path / "rows"))):
        assert "would read" not in rows.describe()
        assert rows.where([("day", "==", "2026-01-02")]).describe()["would read"].startswith("at most 1 of 2 shards")
        assert rows.where([("n", "<", 150)])[3:9].describe()["would read"].startswith("at most 1 of 2 shards")
        assert rows.where([("n", "<", 0)]).describe()["would read"].startswith("at most 0 of 2 shards")


def test_a_notebook_shows_an_answer(session: Session, lake: Path) -> None:
    answer = rlm_ray.ask(session.open(str(lake), name="logs"), "How many?", session.settings)
    shown = answer._repr_html_()
    assert "<b>20</b>" in shown
    assert "complete" in shown
