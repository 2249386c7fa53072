"""A value means the same in every verb, with and without statistics, and what a second reader says it is."""

from __future__ import annotations

import datetime
import itertools
import json
import math
import operator
import os
import re
import struct
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy
import polars
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.corpus.meaning.moments import moment_text, parse_moment
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.handle.plan import Grep, Where

FULL = bool(os.environ.get("RLM_RAY_TEST_FULL"))
TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
TICKS = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999) | st.integers(-5, 5)


def _float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


#: Type -> values as a file stores them; what they are compared by; values of conditions, and what these are compared by.
KINDS: dict[str, tuple[Any, Any, Callable[[Any], Any], Any, Callable[[Any], Any]]] = {
    "int64": (
        pyarrow.int64(),
        st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-3, 3),
        lambda value: value,
        st.integers(-(1 << 70), 1 << 70) | st.integers(-3, 3) | st.sampled_from([0.5, -1.5, 2.0]),
        lambda value: value,
    ),
    "double": (
        pyarrow.float64(),
        st.floats(allow_nan=False) | st.sampled_from([0.1, -0.0, 1.0]),
        lambda value: value,
        st.floats(allow_nan=False) | st.sampled_from([0.1, 0, 1]),
        float,
    ),
    "float": (
        pyarrow.float32(),
        st.floats(width=32, allow_nan=False) | st.sampled_from([_float32(0.1), 0.5]),
        lambda value: value,
        st.floats(-1e6, 1e6) | st.sampled_from([0.1, 0.5, 1]),
        _float32,
    ),
    "decimal": (
        pyarrow.decimal128(38, 18),
        st.decimals(-10_000, 10_000, places=18) | st.sampled_from([Decimal("100.000000000000000001"), Decimal(100)]),
        lambda value: value,
        st.decimals(-10_000, 10_000, places=20).map(str) | st.sampled_from([100, 100.5, "100.000000000000000001"]),
        lambda value: Decimal(repr(value)) if isinstance(value, float) else Decimal(value),
    ),
    **{
        f"timestamp[{unit}]": (
            pyarrow.timestamp(unit),
            TICKS,
            lambda ticks, ns=ns: ticks * ns,
            st.builds(moment_text, st.integers(-(1 << 67), 1 << 67) | TICKS.map(lambda ticks: ticks * 1_000), st.just("ns"))
            | st.sampled_from(["9999-12-31", "0001-01-01", "1970-01-01"]),
            parse_moment,
        )
        for unit, ns in (("ms", 1_000_000), ("us", 1_000), ("ns", 1))
    },
    "date": (
        pyarrow.date32(),
        st.integers(-3_000_000, 3_000_000) | st.integers(-2, 2),
        lambda days: days * 86_400_000_000_000,
        st.sampled_from(["9999-12-31", "1970-01-01", "1970-01-02T12:00", "0001-01-01", "20206-01-01"]),
        parse_moment,
    ),
    "text": (pyarrow.string(), st.text(max_size=4), lambda value: value, st.text(max_size=4), lambda value: value),
    "binary": (
        pyarrow.binary(),
        st.binary(max_size=3),
        lambda value: value,
        st.text(max_size=3).filter(lambda text: not text.startswith("base64:")),
        lambda value: value.encode(),
    ),
}


def _array(kind: pyarrow.DataType, values: list[Any]) -> pyarrow.Array:
    if pyarrow.types.is_timestamp(kind) or pyarrow.types.is_date(kind):
        return pyarrow.array(values, pyarrow.int32() if pyarrow.types.is_date(kind) else pyarrow.int64()).cast(kind)
    return pyarrow.array(values, kind)


def _write(table: pyarrow.Table, path: str, writer: str, statistics: bool) -> None:
    if writer == "polars":
        polars.DataFrame(table).write_parquet(path, statistics=statistics, row_group_size=3)
    else:
        pyarrow.parquet.write_table(table, path, write_statistics=statistics, row_group_size=3)


def _found(kit: SimpleNamespace, manifest: Any, *conditions: Any) -> list[int]:
    found = [record["i"] for record in kit.records(manifest, Where(tuple(conditions)))]
    assert kit.operate(manifest, "count", Where(tuple(conditions))) == len(found)
    return found


@settings(max_examples=4_000 if FULL else 12, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", KINDS)
def test_conditions_mean_what_is_written(kit: SimpleNamespace, tmp_path_factory: Any, name: str, data: st.DataObject) -> None:
    kind, stored, meaning, wanted, wanted_meaning = KINDS[name]
    values = data.draw(st.lists(stored | st.none(), min_size=1, max_size=7))
    value, test = data.draw(wanted), data.draw(st.sampled_from(sorted(TESTS)))
    table = pyarrow.table({"x": _array(kind, values), "i": list(range(len(values)))})
    # polars rounds no decimals and no times, and has no dates beyond its own years
    writer = data.draw(st.sampled_from(["pyarrow", "polars"])) if name not in ("date",) else "pyarrow"
    path = str(tmp_path_factory.mktemp("meaning") / "a.parquet")
    _write(table, path, writer, data.draw(st.booleans()))
    manifest = open_manifest(path, shard_bytes=data.draw(st.sampled_from([1, 1 << 20])))
    right = wanted_meaning(value)
    there = [(number, meaning(item)) for number, item in enumerate(values) if item is not None]
    assert _found(kit, manifest, ("x", test, value)) == [number for number, item in there if TESTS[test](item, right)]
    equal = [number for number, item in there if item == right]
    assert _found(kit, manifest, ("x", "in", (value,))) == equal
    assert _found(kit, manifest, ("x", "not in", (value,))) == [number for number, _ in there if number not in equal]
    assert _found(kit, manifest, ("x", "==", None)) == [number for number, item in enumerate(values) if item is None]
    shown = [record["x"] for record in kit.records(manifest)]
    counts = kit.operate(manifest, "count_by", column="x", limit=1_000)["counts"]
    if 0.0 not in shown:  # of two zeros one is counted
        assert Counter({repr(key): number for key, number in counts}) == Counter(map(repr, shown))
    for text in shown[:1]:
        # what is shown is found by a search for it, in the column and in all
        pattern = re.escape(text if isinstance(text, str) else repr(text))
        if text is not None:
            assert 0 in [record["i"] for record in kit.records(manifest, Grep(pattern, column="x"))]
            assert 0 in [record["i"] for record in kit.records(manifest, Grep(pattern))]
    if pyarrow.types.is_temporal(kind):
        # what is shown is found by itself
        for number, text in enumerate(shown):
            assert text is None or number in _found(kit, manifest, ("x", "==", text))


def test_nan_infinity_and_null_are_three_things(kit: SimpleNamespace) -> None:
    table = pyarrow.table({"x": [math.nan, None, 1.0, math.inf, -math.inf]})
    manifest = open_manifest(kit.parquet(table, f"{kit.folder()}/a.parquet"))
    assert [repr(record["x"]) for record in kit.records(manifest)] == ["nan", "None", "1.0", "inf", "-inf"]
    for value, count in ((math.nan, 1), (None, 1), (math.inf, 1), (-math.inf, 1)):
        assert kit.operate(manifest, "count", Where((("x", "==", value),))) == count
    assert len(kit.operate(manifest, "count_by", column="x", limit=10)["counts"]) == 5


@pytest.mark.parametrize("kind", [pyarrow.float16(), pyarrow.float32()])
def test_short_floats_compare_as_written(kit: SimpleNamespace, kind: pyarrow.DataType) -> None:
    values = numpy.array([0.1, 0.5, 0.2], kind.to_pandas_dtype())
    manifest = open_manifest(kit.parquet(pyarrow.table({"x": pyarrow.array(values, kind)}), f"{kit.folder()}/a.parquet"))
    for condition in (("x", "==", 0.1), ("x", "in", (0.1,)), ("x", "<=", 0.1)):
        assert kit.operate(manifest, "count", Where((condition,))) == 1


def test_times_of_96_bits_are_those_of_the_second_reader(kit: SimpleNamespace, tmp_path: Path) -> None:
    ends = [datetime.datetime(9999, 12, 31), datetime.datetime(1, 1, 1), datetime.datetime(2026, 1, 1, 12, 0, 0, 5)]
    path = str(tmp_path / "a.parquet")
    pyarrow.parquet.write_table(
        pyarrow.table({"t": pyarrow.array(ends, pyarrow.timestamp("us"))}), path, use_deprecated_int96_timestamps=True
    )
    second = [row[0].isoformat() for row in duckdb.execute(f"select t from '{path}'").fetchall()]
    assert [record["t"] for record in kit.records(open_manifest(path))] == second == [end.isoformat() for end in ends]


def test_duckdbs_types(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    duckdb.execute(
        "copy (select i, ('00000000-0000-0000-0000-00000000000' || i)::uuid u, interval '1 month 2 days 3.5 seconds' iv, "
        "'a'::enum('a', 'b') e, "
        "case i % 3 when 0 then {'msg': 'disk full'}::variant when 1 then 'timeout'::variant else 5::variant end v, "
        f"'infinity'::timestamp far, date '20206-01-01' as day, '\\xff'::blob raw from range(3) t(i)) to '{path}'"
    )
    manifest = open_manifest(path)
    first, second, third = kit.records(manifest)
    assert second["u"] == "00000000-0000-0000-0000-000000000001"
    assert (first["iv"], first["e"], first["raw"], first["day"]) == ("P1M2DT3.5S", "a", "base64:/w==", "20206-01-01")
    assert [first["v"], second["v"], third["v"]] == [{"msg": "disk full"}, "timeout", 5]
    for condition in (("u", "==", second["u"].upper()), ("v", "==", "timeout"), ("v", ">", 4)):
        assert len(kit.records(manifest, Where((condition,)))) == 1
    for pattern in ("base64:/w==", "P1M2DT3.5S", "20206-01-01"):
        assert len(kit.records(manifest, Grep(re.escape(pattern)))) == 3
    for condition in (("raw", "==", "base64:/w=="), ("day", ">", "9999-12-31"), ("far", ">", "9999-12-31")):
        assert len(kit.records(manifest, Where((condition,)))) == 3
    assert len(kit.records(manifest, Grep("timeout"))) == 1
    assert len(kit.records(manifest, Grep("0002"))) == 1


def test_a_variant_that_is_wholly_shredded_needs_no_bytes(kit: SimpleNamespace) -> None:
    table = pyarrow.table({"v": [{"metadata": b"\x01\x00\x00", "typed_value": "timeout"}]})
    manifest = open_manifest(kit.parquet(table, f"{kit.folder()}/a.parquet"))
    assert [record["v"] for record in kit.records(manifest)] == ["timeout"]
    assert kit.operate(manifest, "count", Where((("v", "==", "timeout"),))) == 1


def test_long_numbers_among_other_values_compare_by_their_digits(kit: SimpleNamespace, tmp_path: Path) -> None:
    ids = [1234567890123456788, "x", 1234567890123456789, 0.5, 10**30, 1e300]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": item}) + "\n" for item in ids))
    manifest = open_manifest(str(tmp_path / "a.jsonl"))
    for (operator_, test), value in itertools.product(TESTS.items(), (ids[0], 10**30, 10**40)):
        right = [item for item in ids if (operator_ == "!=" if isinstance(item, str) else test(item, value))]
        assert [record["id"] for record in kit.records(manifest, Where((("id", operator_, value),)))] == right


@pytest.mark.parametrize(
    ("arrays", "kind", "shown", "condition"),
    [
        (
            [pyarrow.array([1]).cast(pyarrow.timestamp("ns")), pyarrow.array([253402300799], pyarrow.timestamp("s"))],
            "timestamp",
            ["1970-01-01T00:00:00.000000001", "9999-12-31T23:59:59"],
            ("==", "1970-01-01T00:00:00.000000001"),
        ),
        (
            [pyarrow.array([1], pyarrow.timestamp("us", "UTC")), pyarrow.array([1], pyarrow.timestamp("ms", "+02:00"))],
            "timestamp[us, tz=UTC]",
            ["1970-01-01T00:00:00.000001Z", "1970-01-01T00:00:00.001Z"],
            ("<", "1970-01-01T00:00:00.001Z"),
        ),
        (
            [pyarrow.array([1], pyarrow.timestamp("us", "UTC")), pyarrow.array([1], pyarrow.timestamp("ns", "UTC"))],
            "timestamptz",
            ["1970-01-01T00:00:00.000001Z", "1970-01-01T00:00:00.000000001Z"],
            (">", "1970-01-01T01:00:00.000000001+01:00"),
        ),
        ([pyarrow.array([2**53 + 1]), pyarrow.array([0.5])], "decimal", ["9007199254740993", "0.5"], ("==", 2**53 + 1)),
        ([pyarrow.array([3]), pyarrow.array([0.5])], "double", [3.0, 0.5], ("in", (3, 4))),
        (
            [pyarrow.array([2**53 + 1]), pyarrow.array([Decimal("0.1")])],
            "decimal128(21, 1)",
            ["9007199254740993.0", "0.1"],
            (">", 1),
        ),
        (
            [pyarrow.array([Decimal(1)], pyarrow.decimal128(38, 0)), pyarrow.array([Decimal("0.1")], pyarrow.decimal128(38, 18))],
            "decimal",
            ["1", "0.100000000000000000"],
            ("in", (1,)),
        ),
        (
            [pyarrow.array([Decimal("2.5")], pyarrow.decimal128(38, 20)), pyarrow.array([math.nan])],
            "decimal",
            ["2.50000000000000000000", "nan"],
            ("<=", "2.5"),
        ),
        (
            [
                pyarrow.array([Decimal(10**40)], pyarrow.decimal256(50, 1)),
                pyarrow.array([Decimal("2.0")], pyarrow.decimal256(50, 1)),
            ],
            "decimal",
            [f"{10**40}.0", "2.0"],
            (">", 2),
        ),
        (
            [pyarrow.array([10**18 + 1], pyarrow.duration("ns")), pyarrow.array([1], pyarrow.duration("ns"))],
            "duration[ns]",
            ["1000000000.000000001", 1e-9],
            ("==", "1000000000.000000001"),
        ),
    ],
)
def test_files_that_differ_in_a_type_lose_nothing(
    kit: SimpleNamespace, tmp_path: Path, arrays: list[Any], kind: str, shown: list[Any], condition: tuple[str, Any]
) -> None:
    for number, array in enumerate(arrays):
        kit.parquet(pyarrow.table({"x": array}), str(tmp_path / f"{number}.parquet"))
    manifest = open_manifest(str(tmp_path))
    assert manifest.info()["schema"] == {"x": kind}
    assert [record["x"] for record in kit.records(manifest)] == shown
    assert [record["x"] for record in kit.records(manifest, Where((("x", *condition),)))] == shown[:1]
    assert len(kit.operate(manifest, "count_by", column="x", limit=9)["counts"]) == 2


def test_a_column_is_found_by_its_path(kit: SimpleNamespace) -> None:
    table = pyarrow.table({"a": [{"b": 1}, {"b": 2}], "a.b": [100, 200]})
    manifest = open_manifest(kit.parquet(table, f"{kit.folder()}/a.parquet"))
    assert [(record["a"], record["a.b"]) for record in kit.records(manifest)] == [({"b": 1}, 100), ({"b": 2}, 200)]
    assert kit.operate(manifest, "count", Where((("a.b", ">", 50),))) == 2
    assert kit.operate(manifest, "count", Where((("a.b", "==", 1),))) == 0


def test_a_map_that_has_a_key_twice_is_its_pairs(kit: SimpleNamespace) -> None:
    maps = pyarrow.array([[("k", 1), ("k", 2)], [("k", 3)], None], pyarrow.map_("string", "int64"))
    manifest = open_manifest(kit.parquet(pyarrow.table({"m": maps, "i": [0, 1, 2]}), f"{kit.folder()}/a.parquet"))
    assert [record["m"] for record in kit.records(manifest)] == [[["k", 1], ["k", 2]], {"k": 3}, None]


def test_folders_are_what_stands_in_their_names(kit: SimpleNamespace, tmp_path: Path) -> None:
    for code, year in itertools.product(("007", "7", "01234"), ("2024", "2025")):
        kit.parquet(pyarrow.table({"x": [1]}), str(tmp_path / f"code={code}" / f"year={year}" / "a.parquet"))
    manifest = open_manifest(str(tmp_path))
    assert manifest.info()["schema"] == {"x": "int64", "code": "string", "year": "string"}
    for condition, count in (
        (("code", "==", "007"), 2),
        (("code", "==", 7), 4),
        (("code", "in", ("01234", 8)), 2),
        (("year", ">=", 2025), 3),
        (("year", "<", "2025"), 3),
    ):
        assert kit.operate(manifest, "count", Where((condition,))) == count
        assert len(kit.records(manifest, Where((condition, ("x", "==", 1))))) == count
