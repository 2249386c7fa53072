from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from rlm_ray.subcalls.numbered import number_key, pack_messages, pack_schema, read_pack
from rlm_ray.subcalls.schema import AnswerSchema

LABEL = AnswerSchema.of({"label": ["spam", "ham"]})
PAIR = AnswerSchema.of({"label": ["spam", "ham"], "why": "string"})
BOTH = {1: {"label": "spam"}, 2: {"label": "ham"}}


@pytest.mark.parametrize(
    "text",
    [
        '{"answers": [{"n": 1, "label": "spam"}, {"n": 2, "label": "ham"}]}',
        '[{"n": 1, "label": "spam"}, {"n": 2, "label": "ham"}]',
        '{"n": 1, "label": "spam"}\n{"n": 2, "label": "ham"}',
        '```json\n{"answers": [{"n": "1", "label": "Spam"}, {"n": "[2]", "label": "HAM"}]}\n```',
        '{"1": "spam", "2": "ham"}',
        '{"answers": {"1": {"label": "spam"}, "2": {"label": "ham"}}}',
        '{"results": [{"n": 1.0, "label": "spam"}, {"n": 2, "label": "ham"}]}',
        "1: spam\n2: ham",
        "[1] spam\n[2] ham\n",
        "1. spam\n2) ham",
        "<think>1: ham</think>\n1 - spam\n2 - ham",
    ],
)
def test_every_likely_form(text: str) -> None:
    reply = read_pack(text, 2, LABEL)
    assert (reply.answers, reply.missing, reply.invalid) == (BOTH, [], {})


def test_what_is_missing_or_invalid() -> None:
    answers = [{"n": 1, "label": "spam"}, {"n": 3, "label": "egg"}]
    reply = read_pack(json.dumps({"answers": answers}), 4, LABEL)
    assert reply.answers == {1: {"label": "spam"}}
    assert reply.missing == [2, 4]
    assert "egg" in reply.invalid[3]
    assert not reply.unreadable


@pytest.mark.parametrize("number", [0, 5, -1, 1_700_000_000])
def test_a_number_of_no_record_makes_the_reply_suspect(number: int) -> None:
    answers = [{"n": 1, "label": "spam"}, {"n": 2, "label": "ham"}, {"n": number, "label": "ham"}]
    reply = read_pack(json.dumps({"answers": answers}), 4, LABEL)
    assert (reply.answers, reply.invalid, reply.missing) == ({}, {}, [1, 2, 3, 4])
    assert reply.suspect == f"It named record {number}, but the records are numbered 1 to 4: use the numbers in square brackets."
    assert not reply.unreadable


def test_a_line_that_begins_with_another_number_is_no_answer() -> None:
    reply = read_pack("2024 was a good year\n1: spam\n2: ham", 2, LABEL)
    assert (reply.answers, reply.suspect) == (BOTH, "")


def test_a_number_that_is_answered_twice() -> None:
    same = read_pack('[{"n": 1, "label": "spam"}, {"n": 1, "label": "SPAM"}]', 1, LABEL)
    assert same.answers == {1: {"label": "spam"}}
    differs = read_pack('[{"n": 1, "label": "spam"}, {"n": 1, "label": "ham"}, {"n": 1, "label": "spam"}]', 1, LABEL)
    assert differs.answers == {}
    assert "twice" in differs.invalid[1]
    # an invalid answer first, then a valid one: which of them it means is not known
    mixed = read_pack('[{"n": 1, "label": "egg"}, {"n": 1, "label": "spam"}]', 1, LABEL)
    assert mixed.answers == {}


def test_a_reply_that_was_cut_keeps_its_whole_answers() -> None:
    whole = json.dumps({"answers": [{"n": n, "label": "ham"} for n in range(1, 11)]})
    reply = read_pack(whole[: len(whole) * 6 // 10], 10, LABEL)
    assert list(reply.answers) == [1, 2, 3, 4, 5]
    assert reply.missing == [6, 7, 8, 9, 10]


def test_a_single_record_needs_no_number() -> None:
    assert read_pack('{"label": "ham", "why": "because"}', 1, PAIR).answers == {1: {"label": "ham", "why": "because"}}


@pytest.mark.parametrize(
    ("text", "unreadable"),
    [
        ("", True),
        ("I am sorry, I cannot do that {", True),
        ("[" * 3_000 + "]" * 3_000, True),
        ("null", False),
        ("[]", False),
        ('{"answers": []}', False),
        ('{"label": "ham", "why": "because"}', False),
    ],
)
def test_no_answer_at_all(text: str, unreadable: bool) -> None:
    reply = read_pack(text, 3, PAIR)
    assert reply.unreadable is unreadable
    assert reply.missing == [1, 2, 3]


def test_a_column_named_n() -> None:
    schema = AnswerSchema.of({"n": "integer"})
    assert number_key(schema) == "record"
    assert read_pack('{"answers": [{"record": 1, "n": 7}]}', 1, schema, "record").answers == {1: {"n": 7}}
    assert '"record"' in pack_messages("Count.", ["x"], schema, key="record")[0]["content"]


@pytest.mark.parametrize(
    ("texts", "key"),
    [
        (["disk full"], "n"),
        (['{"n":7}'], "record"),
        (["disk full", "level=warn n=7"], "record"),
        (['{"deep":{"N":1}}', '{"record":2}'], "record_number"),
        (['{"n":1,"record":2,"record_number":3,"number_of_the_record":4,"record_0":5}'], "record_1"),
    ],
)
def test_the_number_has_a_key_that_no_record_has(texts: list[str], key: str) -> None:
    assert number_key(LABEL, texts) == key


def test_the_schema_for_the_endpoint() -> None:
    form = pack_schema(PAIR, 2)
    Draft202012Validator.check_schema(form)
    first, second = {"n": 1, "label": "ham", "why": None}, {"n": 2, "label": "spam", "why": "x"}
    Draft202012Validator(form).validate({"answers": [first, second]})
    for wrong in ([first], [first, second, first], [first, second | {"label": "egg"}]):
        assert not Draft202012Validator(form).is_valid({"answers": wrong})


def test_notes_on_an_earlier_reply() -> None:
    assert "not accepted: Mind the label." in pack_messages("L", ["x"], LABEL, ("Mind the label.",))[0]["content"]


names = st.sampled_from(["n", "label", "answers", "1", "x"])
json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["spam", "n", "label"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(json_values | st.text(max_size=60), st.integers(1, 5))
def test_any_reply_accounts_for_every_record_once(value: Any, count: int) -> None:
    reply = read_pack(value if isinstance(value, str) else json.dumps(value), count, LABEL)
    seen = [*reply.answers, *reply.invalid, *reply.missing]
    assert sorted(seen) == list(range(1, count + 1))
    assert all(answer in ({"label": "spam"}, {"label": "ham"}) for answer in reply.answers.values())
