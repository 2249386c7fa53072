from __future__ import annotations

import pytest

from rlm_ray.subcalls.keys import call_key, digest, question_key
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.subcalls.votes import majority

SCHEMA = AnswerSchema.of({"label": ["a", "b", "c"], "amount": "number"})


def answer(label: str, amount: float | None = 1) -> dict[str, object]:
    return {"label": label, "amount": amount}


def test_each_column_by_itself() -> None:
    assert majority([answer("a", 1), answer("b", 2), answer("b", 1)], SCHEMA) == (answer("b", 1), 2 / 3)


def test_ties_do_not_depend_on_who_came_first() -> None:
    assert majority([answer("c"), answer("b")], SCHEMA)[0] == answer("b")
    assert majority([answer("b"), answer("c")], SCHEMA)[0] == answer("b")
    assert majority([answer("a", 7), answer("a", 5)], SCHEMA)[0] == answer("a", 7)


def test_votes_without_an_answer_count_against() -> None:
    assert majority([None, answer("a"), None], SCHEMA) == (answer("a"), 1 / 3)
    with pytest.raises(ValueError, match="no answer"):
        majority([None, None], SCHEMA)


def test_null_and_number_are_different_answers() -> None:
    assert majority([answer("a", None), answer("a", None), answer("a", 0)], SCHEMA)[0] == answer("a", None)


def test_every_part_of_the_question_is_in_the_key() -> None:
    base = ("records", "model", "prompt", "{}", None)
    keys = {question_key(*base)}
    for place, other in enumerate(("chunks", "model2", "prompt2", "[]", 0.5)):
        keys.add(question_key(*[other if at == place else value for at, value in enumerate(base)]))  # type: ignore[arg-type]
    assert len(keys) == 6
    question = question_key(*base)
    calls = {
        call_key(question, "c"),
        call_key(question, "c2"),
        call_key(question, "c", vote=1),
        call_key(question, "c", piece=1, pieces=2),
        call_key(question, "c", piece=1, pieces=3),
        call_key(question, "c", own="v"),
        call_key(question_key("chunks", "model", "prompt", "{}", None), "c"),
    }
    assert len(calls) == 7


def test_keys_are_the_same_on_every_day() -> None:
    question = question_key("records", "model", "prompt", "{}", None)
    assert question == question_key("records", "model", "prompt", "{}", None)
    assert len(call_key(question, digest("text"), own="address\ud800")) == 64
