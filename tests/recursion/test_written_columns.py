"""Columns that models wrote are not shown to the next reader, unless it asks for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.recursion.jobs.results import Results
from rlm_ray.testing import ModelServer, each

LABEL = {"verdict": ["guilty", "innocent"]}
AGAIN = {"second": ["guilty", "innocent"]}


@pytest.fixture
def server(model_server: Callable[..., ModelServer]) -> ModelServer:
    return model_server(leaf=each(lambda text: "guilty"), keep_messages=True)


def asked(server: ModelServer, question: str) -> str:
    """What the model was sent with a question."""
    found = [json.dumps(request["messages"]) for request in server.requests if question in json.dumps(request["messages"])]
    assert found, question
    return " ".join(found)


def test_a_second_reader_sees_no_verdict(server: ModelServer, run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("the butler\nthe cook\n")
    with rlm_ray.session(server.settings(run_dir=str(run_dir))) as session:
        first = session.llm_each("Question one?", session.open(str(tmp_path / "a.log")), schema=LABEL)
        second = session.llm_each("Question two?", first.where([("verdict", "==", "guilty")]), schema=AGAIN)
        assert [(row["text"], row["verdict"], row["second"]) for row in second] == [
            ("the butler", "guilty", "guilty"),
            ("the cook", "guilty", "guilty"),
        ]  # the column is there still; it is not shown
        third = {"third": "string"}
        session.llm_each("Question three?", second, schema=third).count()
        session.llm_each("Question four?", second, schema=third, show=["text", "verdict"]).count()
        session.llm_each("Question five?", second.select("second"), schema=third).count()
        kept = first.filter(lambda record: True).map(lambda record: record).sort("text")
        session.llm_each("Question six?", kept, schema=third).count()
        groups = first.sql("select verdict, count(*) as n from context group by verdict")
        session.llm_each("Question seven?", groups, schema=third).count()
    for question in ("Question two?", "Question three?", "Question six?"):
        assert "butler" in asked(server, question)
        assert "guilty" not in asked(server, question).partition("butler")[2].partition("cook")[0]
    assert '\\"verdict\\"' in asked(server, "Question four?").replace("\\\\", "\\")
    assert '\\"second\\"' not in asked(server, "Question four?")
    assert "guilty" in asked(server, "Question five?")  # nothing else is left to show
    assert '\\"verdict\\"' in asked(server, "Question seven?").replace("\\\\", "\\")  # the label of a group is its data


def test_the_root_model_is_told_what_was_not_shown(model_server: Callable[..., ModelServer], run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("the butler\n")
    cells = [
        f"first = llm_each('Question one?', context, schema={LABEL})\nsecond = llm_each('Question two?', first, schema={AGAIN})",
        "Final = second.count()",
    ]
    root = [f"```repl\n{cell}\n```" for cell in cells]
    server = model_server(root=root, leaf=each(lambda text: "guilty"), keep_messages=True)
    answer = rlm_ray.ask(rlm_ray.open(str(tmp_path / "a.log")), "Who?", server.settings(run_dir=str(run_dir)))
    assert answer.value == 1
    assert "llm_each did not show the model 'verdict', which a model wrote" in json.dumps(server.requests)


def test_a_later_session_knows_them_too(server: ModelServer, run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("the butler\n")
    with rlm_ray.session(server.settings(run_dir=str(run_dir))) as session:
        first: Any = session.llm_each("Question one?", session.open(str(tmp_path / "a.log")), schema=LABEL)
        assert first.count() == 1
        result = first.plan.origin.id
        (folder,) = (path.parent for path in run_dir.rglob("result.json"))
        assert Results(str(folder.parents[1]), "0").get(result).written == ("verdict",)
