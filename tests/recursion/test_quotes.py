"""The schema type "quote": words that stand in what the model was shown, and that cite the row from then on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.errors import InputError
from rlm_ray.testing import ModelServer
from rlm_ray.testing.leaves import asked
from rlm_ray.workspace import Session

SCHEMA = {"bad": ["yes", "no"], "words": "quote"}
LINES = ["disk  full on n1", "all is well", "the “fan” has stopped"]
#: What a careless reader says first, by record: too loose, made up, and with other quotation marks.
FIRST = {LINES[0]: "disk full", LINES[1]: "nothing to report", LINES[2]: 'the "fan" has'}


def careless(prompt: str, schema: Any = None) -> str:
    """Makes words up where it is not told that an earlier reply was not accepted."""
    question = asked(prompt, schema)
    told = "not accepted" in prompt
    rows = {}
    for number, text in question.texts.items():
        line = next(line for line in LINES if line in text)
        rows[number] = {
            "bad": "no" if line == LINES[1] else "yes",
            "words": "is well" if told and line == LINES[1] else FIRST[line],
        }
    return question.reply(rows)


@pytest.fixture
def started(model_server: Callable[..., ModelServer], run_dir: Path, tmp_path: Path) -> Any:
    (tmp_path / "a.log").write_text("".join(f"{line}\n" for line in LINES))
    made: list[Session] = []

    def start(leaf: Any = careless) -> tuple[Session, Any, ModelServer]:
        server = model_server(leaf=leaf, keep_messages=True)
        made.append(rlm_ray.session(server.settings(run_dir=str(run_dir), max_failed_share=1.0)))
        session = made[-1].__enter__()
        return session, session.open(str(tmp_path / "a.log")), server

    yield start
    for session in made:
        session.close()


def test_words_that_are_not_there_are_asked_for_again(started: Any) -> None:
    session, logs, server = started()
    rows = list(session.llm_each("Bad?", logs, schema=SCHEMA))
    assert [row["words"] for row in rows] == ["disk  full", "is well", "the “fan” has"]  # in the record's own characters
    assert [row["_quote"] for row in rows] == [row["words"] for row in rows]
    assert server.count == 2
    again = server.requests[1]["messages"][-1]["content"]
    assert '"words" holds words that are not in the record. Copy them from it to the letter.' in again
    assert list(asked(again).texts.values()) == [LINES[1]]
    assert "words copied from the record to the letter" in again


def test_a_row_is_cited_with_its_words(started: Any) -> None:
    session, logs, _ = started()
    rows = list(session.llm_each("Bad?", logs, schema=SCHEMA).where([("bad", "==", "yes")]))
    assert [session.cite(row)["quote"] for row in rows] == ["disk  full", "the “fan” has"]
    assert session.cite(rows[0], "on n1")["quote"] == "on n1"


def test_words_that_never_are_there_fail_the_record_alone(started: Any) -> None:
    session, logs, _ = started(lambda prompt, schema: careless(prompt.replace("not accepted", ""), schema))
    rows = session.llm_each("Bad?", logs, schema=SCHEMA)
    assert rows.count() == 2
    (failed,) = rows.failed
    assert failed["text"] == LINES[1]
    assert "not in the record" in failed["_error"]


def test_no_words_are_an_answer(started: Any) -> None:
    def silent(prompt: str, schema: Any = None) -> str:
        question = asked(prompt, schema)
        return question.reply({number: {"bad": "no", "words": " " if number % 2 else None} for number in question.texts})

    session, logs, server = started(silent)
    rows = list(session.llm_each("Bad?", logs, schema=SCHEMA))
    assert [(row["words"], row["_quote"]) for row in rows] == [(None, None)] * 3
    assert server.count == 1
    assert session.cite(rows[0])["quote"] is None


def test_words_of_a_column_that_is_not_shown_do_not_count(started: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "secret", "text": 'said "stop" twice', "n": 7}) + "\n")

    def reader(prompt: str, schema: Any = None) -> str:
        question = asked(prompt, schema)
        words = 'said "stop"' if "not accepted" in prompt else "secret"
        return question.reply({number: {"words": [words], "n_": 1} for number in question.texts})

    session, _, server = started(reader)
    rows = session.open(str(tmp_path / "rows.jsonl"))
    (row,) = session.llm_each("Which words?", rows, schema={"words": ["quote"], "n_": "integer"}, show=["text", "n"])
    assert (row["words"], row["_quote"], server.count) == (['said "stop"'], 'said "stop"', 2)
    assert session.cite(row)["quote"] == 'said "stop"'


def test_a_chunk_s_row_names_the_record_that_has_the_words(started: Any) -> None:
    def reader(prompt: str, schema: Any = None) -> str:
        found = re.search(r"the .fan.", prompt)
        return json.dumps({"words": "is well the" if "not accepted" not in prompt and found else found and found[0]})

    session, logs, server = started(reader)
    (row,) = session.llm_map("What stopped?", logs.chunks(), schema={"words": "quote"})
    assert row["words"] == "the “fan”"
    assert session.cite(row) == {"address": list(logs)[2]["_address"], "quote": "the “fan”"}
    assert server.count == 2  # words across two records cannot be cited
    (text,) = session.llm_map("What stopped?", [LINES[2]], schema={"words": "quote"})
    assert text["words"] == session.cite(text)["quote"] == "the “fan”"  # the row itself is the record


def test_a_json_schema_says_it_by_its_format(started: Any) -> None:
    item = {"type": "object", "properties": {"clause": {"type": "string"}, "words": {"type": "string", "format": "quote"}}}

    def reader(prompt: str, schema: Any = None) -> str:
        question = asked(prompt, schema)
        words = "well" if "not accepted" in prompt else "good"
        some = [{"clause": "x", "words": words}]
        return question.reply({number: {"found": some if LINES[1] in text else []} for number, text in question.texts.items()})

    session, logs, server = started(reader)
    rows = list(session.llm_each("What is there?", logs, schema={"found": {"type": "array", "items": item}}))
    assert [row["found"] for row in rows] == [[], [{"clause": "x", "words": "well"}], []]
    assert [row["_quote"] for row in rows] == [None, "well", None]
    assert '"format"' not in json.dumps(server.requests)


def test_where_nobody_knows_what_was_shown_it_is_refused(started: Any) -> None:
    session, logs, _ = started()
    with pytest.raises(InputError, match="rlm_map cannot"):
        session.rlm_map("Which?", logs.chunks(), schema=SCHEMA)
    with pytest.raises(InputError, match="the answer of a run cannot"):
        rlm_ray.api.check_schema(SCHEMA)
