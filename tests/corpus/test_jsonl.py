"""JSON lines: the engine's reader gives what each line gives when it is read for itself."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import polars
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.reading.text import jsonl
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Where

SCHEMA = {"n": "int64", "x": "double", "b": "bool", "s": "string", "deep": "json", "_more": "json", "_error": "string"}
_NAMES = st.sampled_from(["n", "x", "b", "s", "deep", "late", "_pos", "pos_"])
_PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
_VALUES = st.recursive(_PLAIN, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner, max_size=2), max_leaves=4)
_FITTING = st.fixed_dictionaries(
    {"n": st.integers(-9, 9), "x": st.floats(allow_nan=False, allow_infinity=False), "b": st.booleans(), "s": st.text(max_size=3)}
).map(json.dumps)
_OBJECTS = st.dictionaries(_NAMES, _VALUES, max_size=4).flatmap(
    lambda item: st.sampled_from([json.dumps(item), json.dumps(item, ensure_ascii=False), json.dumps(item, separators=(",", ":"))])
)
_ODD = st.sampled_from(
    r"""
{}
 {}
{"n":1}{"n":2}
{"n":1,"n":2}
{"n":01}
{"n":1.0}
{"n":1e2}
{"n":-0}
{"x":1}
{"x":1e999}
{"n":NaN}
{"s":"\u0041\n"}
{"s":"\ud83d\ude00"}
{"s":"\ud800"}
{"\uDfff":{"s":"\udc00 \ud83d\ude00"}}
{"s":"}
{"}
[]
{
}
null
""".strip("\n").split("\n")
)


@given(
    st.lists(_FITTING | _OBJECTS | _ODD, min_size=1, max_size=80), st.lists(st.sampled_from(list(SCHEMA)), unique=True, min_size=1)
)
@example(['{"n":1}{"n":2}', "{}", '{"n": 3}'], ["n", "_more", "_error"])
@example(['{"s":"2026-01-01T00:00:00Z"}', '{"s":"x"}'], ["s"])
def test_as_if_each_line_were_read_for_itself(lines: list[str], columns: list[str]) -> None:
    found = jsonl.parse(polars.Series(lines, dtype=polars.String), SCHEMA, columns)
    wanted = jsonl._by_line(lines, SCHEMA, columns)
    assert [series.name for series in found] == columns
    for got, want in zip(found, wanted, strict=True):
        assert got.equals(want, check_dtypes=True, null_equal=True), (got.to_list(), want.to_list())


@pytest.mark.parametrize("bad", [[], [7], [0, 4_999], list(range(0, 5_000, 10))], ids=["none", "one", "ends", "many"])
def test_lines_that_do_not_fit_are_found_among_many(bad: list[int]) -> None:
    lines: list[Any] = [json.dumps({"n": number, "s": f"text {number}"}) for number in range(5_000)]
    for number in bad:
        lines[number] = '{"n": "many", "s": "text"}'
    found = {series.name: series.to_list() for series in jsonl.parse(polars.Series(lines), SCHEMA, ["n", "s", "_more"])}
    assert found["n"] == [None if number in set(bad) else number for number in range(5_000)]
    assert [number for number, value in enumerate(found["_more"]) if value is not None] == bad
    assert all(json.loads(found["_more"][number]) == {"n": "many"} for number in bad)


def test_half_a_character_is_no_text() -> None:
    lines = [r'{"s": "a\ud800b \ud83d\ude00", "late": "\udfff"}']
    found = {series.name: series.to_list() for series in jsonl.parse(polars.Series(lines), SCHEMA, ["s", "_more"])}
    assert found == {"s": ["a\ufffdb \U0001f600"], "_more": ['{"late": "\ufffd"}']}


def test_members_that_come_late_in_a_file_of_twenty_megabytes_are_columns(kit: SimpleNamespace) -> None:
    lines = ['{"id": 1, "text": "' + "x" * 80 + '"}'] * 200_000
    lines[123_456] = '{"id": "seven", "late": 5}'
    manifest = open_manifest(kit.object("\n".join(lines).encode(), ".jsonl"))
    assert {"id": "json", "late": "int64"}.items() <= manifest.schema.items()
    for condition in (("late", "==", 5), ("id", "==", "seven"), ("id", "!=", 1)):
        assert kit.operate(manifest, "count", Where((condition,))) == 1
    counts = dict(kit.operate(manifest, "count_by", column="id", limit=10)["counts"])
    assert counts == {1: 199_999, "seven": 1}


def test_a_column_that_no_record_was_seen_to_have_is_refused_with_where_it_may_be(kit: SimpleNamespace) -> None:
    manifest = open_manifest(kit.object(b'{"id": 1}', ".jsonl"))
    with pytest.raises(InputError, match=r"no column 'late'.*_more"):
        kit.operate(manifest, "count", Where((("late", "==", 5),)))


def test_numbers_that_are_none_and_marks_around_lines(kit: SimpleNamespace) -> None:
    data = '\x1e{"x": NaN}\n\ufeff{"x": 1.5}\n{"x": -Infinity}\n'.encode()
    manifest = open_manifest(kit.object(data, ".jsonl"))
    assert manifest.schema["x"] == "double"
    assert [repr(record["x"]) for record in kit.records(manifest)] == ["nan", "1.5", "-inf"]
    large = open_manifest(kit.object(b'{"x": 1e400}\n{"x": 1.5}\n', ".jsonl"))
    assert [record["x"] for record in kit.records(large)] == ["1e400", 1.5]
