from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray import storage
from rlm_ray.errors import InputError
from rlm_ray.ledger import segments
from rlm_ray.ledger.segments import Segment, SegmentWriter, infer, kept_type, to_table

Write = Callable[..., list[Segment]]


@pytest.fixture
def write(tmp_path: Any) -> Write:
    def run(rows: list[dict[str, Any]], columns: dict[str, str] | None = None, name: str = "000000") -> list[Segment]:
        writer = SegmentWriter(str(tmp_path / "result"), name, columns)
        writer.extend(rows)
        return writer.close()

    return run


def read(made: list[Segment]) -> list[dict[str, Any]]:
    tables = [pyarrow.parquet.read_table(pyarrow.BufferReader(storage.read_bytes(segment.uri))) for segment in made]
    return [row for table in tables for row in table.to_pylist()]


def test_rows_come_back_in_order(write: Write) -> None:
    rows = [{"n": number, "text": f"text {number}", "_error": None} for number in range(1_000)]
    made = write(rows)
    assert read(made) == rows
    (segment,) = made
    assert (segment.rows, segment.failed) == (1_000, 0)
    assert segment.nbytes > 10_000
    assert segment.columns == {"n": "int64", "text": "string", "_error": "string"}


def test_failed_rows_are_counted(write: Write) -> None:
    (segment,) = write([{"_error": None}, {"_error": "no"}, {"_error": ""}])
    assert segment.failed == 2


def test_no_rows_no_file(write: Write) -> None:
    assert write([]) == []


def test_declared_columns_are_those_of_the_file(write: Write) -> None:
    columns = {"b": "int64", "a": "string", "x": "double", "flag": "bool", "tags": "json"}
    made = write([{"a": "one", "more": 5}, {"b": 2, "x": 1, "flag": True, "tags": ["t"]}], columns)
    assert read(made) == [
        {"b": None, "a": "one", "x": None, "flag": None, "tags": None},
        {"b": 2, "a": None, "x": 1.0, "flag": True, "tags": '["t"]'},
    ]
    assert made[0].columns == columns


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "int64"),
        ([1, 2.5], "double"),
        ([1.5, None], "double"),
        ([True, False, None], "bool"),
        ([True, 1], "string"),
        (["a", None], "string"),
        (["a", 1], "string"),
        ([[1], None], "json"),
        ([{"a": 1}], "json"),
        ([[1], "a"], "json"),
        ([None], "string"),
        ([1, 1 << 63], "string"),
        ([-(1 << 63), (1 << 63) - 1], "int64"),
    ],
)
def test_types_are_those_of_the_values(values: list[Any], kind: str) -> None:
    assert infer([{"column": value} for value in values]) == {"column": kind}


def test_nothing_is_lost_by_a_type(write: Write) -> None:
    assert read(write([{"n": 1}, {"n": 1 << 70}])) == [{"n": "1"}, {"n": str(1 << 70)}]
    assert read(write([{"v": True}, {"v": 1}, {"v": "x"}], name="1")) == [{"v": "true"}, {"v": "1"}, {"v": "x"}]
    nested = {"a": [1, {"b": None}], "ü": "é"}
    (row,) = read(write([{"v": nested}], name="2"))
    assert json.loads(row["v"]) == nested
    assert "é" in row["v"]


@pytest.mark.parametrize(
    ("kind", "given_", "kept"),
    [
        ("int64", "5", None),
        ("int64", 5.5, None),
        ("int64", True, None),
        ("int64", 1 << 63, None),
        ("double", 1 << 60, float(1 << 60)),
        ("double", 10**400, None),
        ("double", "5", None),
        ("double", [1], None),
        ("double", True, None),
        ("bool", 1, None),
        ("bool", "true", None),
        ("string", 5, "5"),
        ("string", {"a": 1}, '{"a": 1}'),
        ("string", "\ud800", "?"),
        ("json", "text", '"text"'),
        ("json", ["\ud800"], '["?"]'),
    ],
)
def test_a_value_of_another_type_breaks_no_file(kind: str, given_: Any, kept: Any) -> None:
    assert to_table([{"v": given_}], {"v": kind}).to_pylist() == [{"v": kept}]


def test_numbers_that_are_none() -> None:
    infinite, nan = to_table([{"v": math.inf}, {"v": math.nan}], {"v": "double"}).column("v").to_pylist()
    assert infinite == math.inf
    assert math.isnan(nan)


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("int8", "int64"),
        ("uint32", "int64"),
        ("uint64", "string"),
        ("float", "double"),
        ("halffloat", "double"),
        ("bool", "bool"),
        ("string", "string"),
        ("timestamp[us, tz=UTC]", "string"),
        ("date32[day]", "string"),
        ("decimal128(10, 2)", "string"),
        ("list<element: int64>", "json"),
        ("struct<a: int64>", "json"),
        ("map<string, int64>", "json"),
        ("json", "json"),
    ],
)
def test_the_types_of_a_corpus_as_a_segment_keeps_them(kind: str, kept: str) -> None:
    assert kept_type(kind) == kept


def test_many_rows_roll_over_into_files_in_order(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 100)
    made = write([{"n": number} for number in range(1_050)])
    assert [segment.rows for segment in made] == [100] * 10 + [50]
    assert [segment.uri for segment in made] == sorted(segment.uri for segment in made)
    assert [row["n"] for row in read(made)] == list(range(1_050))


@pytest.mark.parametrize("value", ["x" * 1_000, ["x" * 1_000], {"a": {"b": "x" * 1_000}}])
def test_large_rows_roll_over_too(write: Write, monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 10_000)
    assert 9 <= len(write([{"v": value}] * 100)) <= 11


def test_files_of_several_writers_sort_in_the_order_of_their_names(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 2)
    made = [segment for number in (2, 10, 0) for segment in write([{"n": number}] * 5, name=f"{number:06d}")]
    made.sort(key=lambda segment: segment.uri)
    assert [row["n"] for row in read(made)] == [0] * 5 + [2] * 5 + [10] * 5


def test_rows_with_ever_new_columns_are_refused(write: Write) -> None:
    """Code that a model wrote after reading hostile data must not make a table that no memory can hold."""
    with pytest.raises(InputError, match=r"more than 2,000 different columns\. Return the same keys"):
        write([{f"k{number}": 1} for number in range(3_000)])
    assert len(write([{f"k{number % 50}": number} for number in range(3_000)], name="1")) == 1


def test_wide_rows_are_written_in_smaller_files(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_CELLS", 1_000)
    made = write([{f"k{number}": 1 for number in range(100)}] * 35)
    assert [segment.rows for segment in made] == [10, 10, 10, 5]


def test_types_may_differ_from_file_to_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 1)
    assert [segment.columns for segment in write([{"v": 1}, {"v": "x"}])] == [{"v": "int64"}, {"v": "string"}]


def test_a_column_whose_name_is_no_text_everywhere(write: Write) -> None:
    (segment,) = made = write([{"a\ud800": 1, "": 2}])
    assert segment.columns == {"a?": "int64", "": "int64"}
    assert read(made) == [{"a?": 1, "": 2}]


def test_a_segment_is_json_both_ways_without_its_mirror() -> None:
    segment = Segment("s3://run/segments/0-r1/000000-0000.parquet", 5, 100, 1, {"a": "string"}, mirror=object())
    again = Segment.from_json(json.loads(json.dumps(segment.to_json())))
    assert again == Segment(segment.uri, 5, 100, 1, {"a": "string"})


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), _values), min_size=1, max_size=8))
def test_any_rows_can_be_kept_and_say_the_same(write: Write, rows: list[dict[str, Any]]) -> None:
    columns = infer(rows)
    kept = read(write([row | {"_error": None} for row in rows]))
    for row, found in zip(rows, kept, strict=True):
        for name, value in row.items():
            as_json = columns[name] == "json" or (columns[name] == "string" and not isinstance(value, str))
            assert (json.loads(found[name]) if as_json and value is not None else found[name]) == value
