"""Judgements that are read again: what changed is told to the root model and to the person, and changes no answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.testing import ModelServer, each
from rlm_ray.workspace import Session

ROWS = 400
LABEL = {"bad": ["yes", "no"]}
CELL = f"""```repl
r = llm_each("Is it bad?", context, schema={LABEL})
print(r.count_by("bad"))
Final = r.where([("bad", "==", "yes")]).count()
```"""


def unsure(prompt: str, schema: Any = None) -> str:
    """A leaf that errs on every tenth record when it reads it for the first time."""
    again = prompt.startswith("Judge each record anew")

    def reads(text: str) -> str:
        found = re.search(r"event (\d+)", text)
        assert found is not None
        number = int(found[1])
        return "yes" if (number % 4 == 0) != (number % 10 == 1 and not again) else "no"

    return each(reads)(prompt, schema)


@pytest.fixture
def lines(tmp_path: Path) -> str:
    (tmp_path / "a.log").write_text("".join(f"event {number}\n" for number in range(ROWS)))
    return str(tmp_path / "a.log")


@pytest.fixture
def opened(model_server: Callable[..., ModelServer], run_dir: Path) -> Iterator[Callable[..., tuple[Session, ModelServer]]]:
    made: list[Session] = []

    def make(**settings: Any) -> tuple[Session, ModelServer]:
        server = model_server(leaf=unsure)
        made.append(rlm_ray.session(server.settings(run_dir=str(run_dir), **settings)))
        return made[-1].__enter__(), server

    yield make
    for session in made:
        session.close()


def test_root_and_person_are_told(model_server: Callable[..., ModelServer], run_dir: Path, lines: str) -> None:
    server = model_server(root=[CELL.replace("Final", "found"), "```repl\nFinal = found\n```"], leaf=unsure, keep_messages=True)
    answer = rlm_ray.ask(rlm_ray.open(lines), "How many are bad?", server.settings(run_dir=str(run_dir)))
    assert answer.value == 140
    assert answer.complete
    (said,) = answer.sure
    assert re.match(r"\d+ of 50 changed on a second reading", said["sentence"])
    assert "Errors that repeat do not show" in said["sentence"]
    assert any(said["sentence"] in message["content"] for call in server.requests for message in call["messages"])
    assert rlm_ray.ask  # the answer itself stays what it was
    assert "second reading" in repr(answer.to_json()["sure"])


def test_how_many_change_is_right(opened: Callable[..., tuple[Session, ModelServer]], lines: str) -> None:
    session, server = opened(second_readings=400)
    before = server.count
    rows = session.llm_each("Is it bad?", session.open(lines), schema=LABEL)
    assert rows.count() == ROWS
    assert session.sure[0]["sentence"].startswith("40 of ")
    assert server.count == before + 8 + 7


@pytest.mark.parametrize("case", ["few", "off", "votes", "text", "open"])
def test_where_nothing_is_read_again(opened: Callable[..., tuple[Session, ModelServer]], lines: str, case: str) -> None:
    session, server = opened(second_readings=0 if case == "off" else 50)
    logs = session.open(lines)
    schema = {"text": {"why": "string"}, "open": {"why": {"type": ["string", "null"]}}}.get(case, LABEL)
    corpus = logs[:150] if case == "few" else logs
    rows = session.llm_each("Is it bad?", corpus, schema=schema, votes=2 if case == "votes" else 1)
    rows.count()
    assert server.count == {"few": 3, "votes": 16}.get(case, 8)


def test_no_second_reading_beyond_the_budget(opened: Callable[..., tuple[Session, ModelServer]], lines: str) -> None:
    session, server = opened(max_calls=9)
    assert session.llm_each("Is it bad?", session.open(lines), schema=LABEL).count() == ROWS
    assert server.count == 8
