from __future__ import annotations

import pickle
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rlm_ray.errors import InputError
from rlm_ray.subcalls.schema import AnswerSchema

SHORT = {"label": ["spam", "ham"], "amount": "number", "quote": "string", "n": "integer", "flag": "boolean", "tags": ["string"]}


def test_columns_and_json_schema_of_the_short_form() -> None:
    schema = AnswerSchema.of(SHORT)
    assert schema.columns == {
        "label": "string", "amount": "double", "quote": "string", "n": "int64", "flag": "bool", "tags": "json"
    }  # fmt: skip
    form = schema.json_schema
    Draft202012Validator.check_schema(form)
    assert form["additionalProperties"] is False
    assert form["required"] == list(SHORT)
    assert form["properties"]["label"] == {"type": "string", "enum": ["spam", "ham"]}


def test_what_is_valid_is_valid_for_the_endpoint_too() -> None:
    schema = AnswerSchema.of(SHORT)
    answer = schema.validate(
        {"label": "HAM", "amount": "12", "quote": "q", "n": 3.0, "flag": "yes", "tags": ["a"], "because": "dropped"}
    )
    assert answer == {"label": "ham", "amount": 12, "quote": "q", "n": 3, "flag": True, "tags": ["a"]}
    Draft202012Validator(schema.json_schema).validate(answer)


def test_everything_but_a_label_may_be_null() -> None:
    schema = AnswerSchema.of(SHORT)
    nothing = {"label": "ham", "amount": None, "quote": None, "n": None, "flag": None, "tags": None}
    assert schema.validate(nothing) == nothing
    Draft202012Validator(schema.json_schema).validate(nothing)
    with pytest.raises(ValueError, match='"label" is null; it must be one of "spam", "ham"'):
        schema.validate(nothing | {"label": None})


@pytest.mark.parametrize("given", ["spam", "Spam", " SPAM ", '"spam"', "spam.", "**Spam**", "'spam'", ["spam"]])
def test_labels_are_met_halfway(given: Any) -> None:
    assert AnswerSchema.of({"label": ["spam", "ham"]}).validate({"label": given}) == {"label": "spam"}


def test_labels_that_differ_only_in_case_are_told_apart() -> None:
    schema = AnswerSchema.of({"label": ["US", "us"]})
    assert schema.validate({"label": "us"}) == {"label": "us"}
    with pytest.raises(ValueError, match="must be one of"):
        schema.validate({"label": "Us"})


def test_labels_of_more_than_one_word_and_numbers() -> None:
    schema = AnswerSchema.of({"label": ["human being", "a  thing"], "stars": [1, 2, 3]})
    assert schema.columns["stars"] == "int64"
    assert schema.validate({"label": "Human  Being", "stars": "3"}) == {"label": "human being", "stars": 3}


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("number", "a lot", 'is "a lot"; it must be a number'),
        ("number", True, "is true; it must be a number"),
        ("number", float("inf"), "must be a number"),
        ("integer", 1.5, "is 1.5; it must be an integer"),
        ("integer", 2**70, "must be an integer"),
        ("boolean", "maybe", "must be a boolean"),
        ("string", ["a"], "must be a string"),
        (["string"], "a", "not of type"),
        (["number"], ["a"], r"\[0\] 'a' is not of type 'number'"),
        ({"value": "number"}, {"value": 1, "more": 2}, "more"),
    ],
)
def test_says_what_is_wrong(column: Any, value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        AnswerSchema.of({"c": column}).validate({"c": value})
    assert '"c"' in str(caught.value)


def test_missing_and_misspelt_keys() -> None:
    schema = AnswerSchema.of({"a": "string", "b": "string"})
    assert schema.validate({"A": "x", " b ": "y"}) == {"a": "x", "b": "y"}
    with pytest.raises(ValueError, match='"b" is missing'):
        schema.validate({"a": "x"})
    with pytest.raises(ValueError, match="must be a JSON object"):
        schema.validate("x")


def test_a_bare_value_where_there_is_one_column() -> None:
    assert AnswerSchema.of({"label": ["yes", "no"]}).validate("No") == {"label": "no"}


def test_no_schema_is_one_text() -> None:
    schema = AnswerSchema.of(None)
    assert (schema.columns, schema.typed, schema.single) == ({"answer": "string"}, False, "answer")


def test_a_json_schema() -> None:
    schema = AnswerSchema.of(
        {
            "type": "object",
            "properties": {
                "amount": {"type": "number", "minimum": 0},
                "law": {"type": "string", "enum": ["New York", "Delaware"]},
                "parties": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
                "note": {"type": "string", "maxLength": 5},
            },
            "required": ["amount", "parties"],
        }
    )
    assert schema.columns == {"amount": "double", "law": "string", "parties": "json", "note": "string"}
    form = schema.json_schema
    assert form["required"] == ["amount", "law", "parties", "note"]
    assert form["properties"]["law"] == {"type": ["string", "null"], "enum": ["New York", "Delaware", None]}
    assert form["properties"]["parties"]["items"]["additionalProperties"] is False
    assert schema.validate({"amount": 1, "parties": []}) == {"amount": 1, "law": None, "parties": [], "note": None}
    for wrong, reason in (
        ({"amount": -1, "parties": []}, "minimum of 0"),
        ({"amount": 1, "parties": [{"name": 5}]}, r"\[0\].name 5 is not of type"),
        ({"amount": 1, "parties": [], "note": "too long"}, "too long"),
        ({"parties": []}, '"amount" is missing'),
    ):
        with pytest.raises(ValueError, match=reason):
            schema.validate(wrong)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({}, "mapping of column to type"),
        ([], "mapping of column to type"),
        ({"amount": "numbr"}, r'\["amount"\] = \'numbr\''),
        ({"amount": 5}, r'\["amount"\] = 5'),
        ({"label": []}, r'\["label"\] = \[\]'),
        ({"label": ["a", "a"]}, "names a label twice"),
        ({"label": ["a", ["b"]]}, r'holds \["b"\]'),
        ({"_label": ["a"]}, "'_label'.*'_'"),
        ({"": "string"}, "not empty"),
        ({1: "string"}, "column 1"),
        ({"type": "object"}, "object with properties"),
        ({"type": "array", "items": {"type": "string"}}, "object with properties"),
        ({"type": "object", "properties": {"_a": {"type": "string"}}}, "'_a'"),
        ({"type": "object", "properties": {"a": {"type": "nix"}}}, r"\['properties'\]\['a'\]\['type'\].*nix"),
        ({"a": {"type": "nix"}}, r'\["a"\].*nix'),
    ],
)
def test_schemas_that_cannot_work(schema: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        AnswerSchema.of(schema)


def test_travels() -> None:
    schema = AnswerSchema.of(SHORT)
    schema.validate({"label": "ham", "amount": 1, "quote": "", "n": 1, "flag": True, "tags": []})
    assert pickle.loads(pickle.dumps(AnswerSchema.of(SHORT))) == schema


def test_a_label_may_be_written_with_another_hyphen() -> None:
    schema = AnswerSchema.of({"clause": ["Non-Compete", "Party's Duty"]})
    assert schema.validate({"clause": "non‑compete"}) == {"clause": "Non-Compete"}
    assert schema.validate({"clause": "“Party’s Duty”"}) == {"clause": "Party's Duty"}
