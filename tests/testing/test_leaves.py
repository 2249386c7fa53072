"""Leaves answer in the form that the engine's own prompts ask for, and its own readers accept the replies."""

from __future__ import annotations

import pytest

from rlm_ray.errors import InputError
from rlm_ray.subcalls.numbered import number_key, pack_messages, pack_schema, read_pack
from rlm_ray.subcalls.prompts import single
from rlm_ray.subcalls.replies import read_answer
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.testing import asked, each, from_gold, noisy, prompt_of

LABEL = AnswerSchema.of({"label": ["good", "bad"]})
TEXTS = ["disk full", "two\nlines, [7] one of them numbered", '{"message":"started"}', "----- end 0123456789 -----"]


def pack_prompt(schema, texts=TEXTS):
    return prompt_of(pack_messages("Good or bad?", texts, schema, key=number_key(schema)))


@pytest.mark.parametrize("with_schema", [True, False])
def test_every_record_of_a_pack_is_found_and_answered(with_schema):
    prompt = pack_prompt(LABEL)
    question = asked(prompt, pack_schema(LABEL, len(TEXTS)) if with_schema else None)
    assert question.texts == dict(enumerate(TEXTS, 1))
    assert question.columns == {"label": ["good", "bad"]}
    reply = question.reply({1: "bad", 2: "good", 3: "good", 4: {"label": "good"}})
    assert {n: row["label"] for n, row in read_pack(reply, 4, LABEL).answers.items()} == {1: "bad", 2: "good", 3: "good", 4: "good"}


@pytest.mark.parametrize(
    "schema",
    [
        {"label": ["good", "bad"], "n": "integer"},
        {"quote": "string"},
        {"why": "string", "label": ['a "b" | c', "d, e"]},
        {"where": {"host": "string"}, "tags": ["string"]},
        None,
    ],
)
def test_columns_are_read_from_schema_and_from_words_alike(schema):
    made = AnswerSchema.of(schema)
    in_words = asked(pack_prompt(made)).columns
    assert in_words == asked(pack_prompt(made), pack_schema(made, len(TEXTS), number_key(made))).columns
    if made.typed:
        alone = prompt_of(single("What?", "a record", made))
        assert asked(alone).columns == asked(alone, made.json_schema).columns == in_words


def test_each_answers_packs_parts_and_plain_prompts():
    leaf = each(lambda text: "bad" if "full" in text else "good")
    assert [row["label"] for row in read_pack(leaf(pack_prompt(LABEL), None), 4, LABEL).answers.values()] == ["bad", *["good"] * 3]
    part = prompt_of(single("Good or bad?", "the disk is full", LABEL))
    assert read_answer(leaf(part, None), LABEL) == {"label": "bad"}
    assert leaf(prompt_of(single("Good or bad?", "the disk is full", AnswerSchema.of(None))), None) == "bad"
    assert leaf("the disk is full", None) == "bad"


def test_a_value_for_several_columns_is_refused():
    schema = AnswerSchema.of({"label": ["good", "bad"], "why": "string"})
    with pytest.raises(InputError, match="Return a dict"):
        each(lambda text: "bad")(pack_prompt(schema), None)
    full = each(lambda text: {"label": "bad", "why": text})(pack_prompt(schema, ["x"]), None)
    assert read_pack(full, 1, schema).answers == {1: {"label": "bad", "why": "x"}}


def test_gold_by_text_by_column_and_by_part():
    leaf = from_gold({"disk full": "bad", "started": "good", "full": "good", "the disk is full": "bad"})
    texts = ["disk full", '{"host":"a","message":"started"}', "today the disk is full again"]
    assert [row["label"] for row in read_pack(leaf(pack_prompt(LABEL, texts), None), 3, LABEL).answers.values()] == [
        "bad",
        "good",
        "bad",
    ]
    with pytest.raises(InputError, match="no gold answer for 'unknown'"):
        leaf("unknown", None)


@pytest.mark.parametrize("with_schema", [True, False])
def test_noise_hits_the_same_records_in_any_pack(with_schema):
    texts = [f"record {n}" for n in range(400)]
    leaf = noisy(each(lambda text: "good"), accuracy=0.8, seed=3)

    def wrong(part):
        reply = leaf(pack_prompt(LABEL, part), pack_schema(LABEL, len(part)) if with_schema else None)
        answers = read_pack(reply, len(part), LABEL).answers
        assert len(answers) == len(part)
        return {text for text, row in zip(part, answers.values(), strict=True) if row["label"] == "bad"}

    together = wrong(texts)
    assert wrong(texts[:150]) | wrong(texts[150:]) == together
    assert 50 < len(together) < 110


def test_noise_in_numbers_and_texts():
    number = AnswerSchema.of({"amount": "number"})
    assert read_answer(noisy(each(lambda text: 4), 0.0)(prompt_of(single("How much?", "x", number)), None), number) == {"amount": 5}
    assert noisy(each(lambda text: "yes"), 0.0)("x", None) == "not yes"
    assert noisy(each(lambda text: "yes"), 0.0, labels=["yes", "no"])("x", None) == "no"
    assert noisy(each(lambda text: "yes"), 1.0)("x", None) == "yes"
