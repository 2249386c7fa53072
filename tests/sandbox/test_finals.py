from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import typing
from collections import Counter, OrderedDict, defaultdict, deque

import numpy
import polars
import pyarrow
import pytest

from rlm_ray.sandbox.inside import finals


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str]


def answer(value):
    kind, blob = finals.encode(value)
    return kind, json.loads(blob)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("text", "text"),
        (0, 0),
        (False, False),
        ("", ""),
        ([], []),
        (2.5, 2.5),
        (float("inf"), float("inf")),
        ((1, {2, 1}, frozenset("b")), [1, [1, 2], ["b"]]),
        ({"a": {1: float("-inf")}}, {"a": {"1": float("-inf")}}),
        (decimal.Decimal("1.234567890123456789"), "1.234567890123456789"),
        (decimal.Decimal("Infinity"), float("inf")),
        ({(1, "b"): 2, None: 3, True: 4}, {"1, b": 2, "None": 3, "True": 4}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(z=1), {"z": 1}),
        (defaultdict(list, k=[1]), {"k": [1]}),
        (deque([1, 2]), [1, 2]),
        ({"a": 1}.keys(), ["a"]),
        (range(3), [0, 1, 2]),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (decimal.Decimal("2.50"), 2.5),
        (decimal.Decimal("12345678901234567890"), 12345678901234567890),
        (Colour.RED, "red"),
        (Point(1, {"b", "a"}), {"x": 1, "tags": ["a", "b"]}),
        (numpy.int64(3), 3),
        (numpy.float32("-inf"), float("-inf")),
        (numpy.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (polars.Series([1, None]), [1, None]),
        ("\ud800", "?"),
    ],
)
def test_plain_values_become_json(value, plain):
    assert answer(value) == ("json", plain)


@pytest.mark.parametrize("value", [float("nan"), numpy.float32("nan"), decimal.Decimal("nan")])
def test_nan_is_not_null(value):
    assert str(answer([value])) == "('json', [nan])"


@pytest.mark.parametrize(
    "value",
    [
        [{"a": 1}, {"a": None}],
        ({"a": 1}, {"a": None}),
        polars.DataFrame({"a": [1, None]}),
        pyarrow.table({"a": [1, None]}),
    ],
)
def test_tables_become_records(value):
    assert answer(value) == ("records", [{"a": 1}, {"a": None}])


def test_an_empty_table_is_still_records():
    assert answer(polars.DataFrame({"a": []})) == ("records", [])


@pytest.mark.parametrize("value", [None, int, Point, typing.Final, typing.Any, Colour])
def test_classes_and_none_are_no_answer(value):
    assert not finals.is_set(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"bytes", "Final is a bytes"),
        ({"a": [object()]}, r"Final\['a'\]\[0\] is a object"),
        (open, "Final is a builtin_function_or_method"),
        ((n for n in "ab"), "generator"),
        ({"a": 10**5000}, "cannot be written as JSON"),
    ],
)
def test_other_values_are_told_with_what_to_do(value, message):
    with pytest.raises(finals.NoAnswer, match=message) as caught:
        finals.encode(value)
    assert str(caught.value).endswith(".")


def test_a_value_that_holds_itself_is_told():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(finals.NoAnswer, match="holds itself"):
        finals.encode(loop)


def test_a_corpus_is_its_plan_but_not_inside_another_value():
    from rlm_ray.handle.corpus import Corpus
    from rlm_ray.handle.plan import Grep, Plan, Source

    corpus = Corpus(Plan((Source("context"), Grep("timeout"))), {}, None)
    kind, plan = answer(corpus)
    assert kind == "corpus"
    assert Plan.from_json(plan) == corpus.plan
    with pytest.raises(finals.NoAnswer, match="Assign the Corpus itself"):
        finals.encode({"rows": corpus})
