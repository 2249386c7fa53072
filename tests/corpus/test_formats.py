"""JSON lines, CSV, documents and odd Parquet types as records."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray import storage
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.reading.sampling import Sample
from rlm_ray.errors import InputError, ObjectUnreadable
from rlm_ray.handle.plan import Grep, Select, Split, Where


def _bare(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name != "_address"} for record in records]


# -- JSON lines

_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
_names = st.sampled_from(["a", "b", "c", "ü"])


@given(
    rows=st.lists(st.dictionaries(_names, _values, max_size=4), min_size=1, max_size=12),
    shard_bytes=st.sampled_from([1, 50, 1 << 20]),
)
def test_every_member_of_every_line_is_kept(kit: SimpleNamespace, rows: list[dict[str, Any]], shard_bytes: int) -> None:
    rows = [{"always": 1}, *rows]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    manifest = open_manifest(kit.object(data, ".jsonl"), shard_bytes=shard_bytes)
    found = _bare(kit.records(manifest))
    assert [_merged(record) for record in found] == [{k: v for k, v in row.items() if v is not None} for row in rows]


def _merged(record: dict[str, Any]) -> dict[str, Any]:
    more = record.pop("_more", {})
    return {name: value for name, value in record.items() if value is not None} | more


def test_columns_are_those_of_the_sample(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlm_ray.corpus import opening
    from rlm_ray.corpus.reading.text import jsonl

    # of a large corpus only some lines are looked at
    looks_at_some = replace(jsonl.READER, sample=lambda shards: Sample(jsonl.infer(lines[:3]) | jsonl.EXTRA, 30.0))
    monkeypatch.setattr(opening, "reader_of", lambda format: looks_at_some)
    lines = [
        '{"n": 1, "x": 1, "s": "a", "mixed": 1, "deep": {"k": [1]}}',
        "",
        '{"n": 2, "x": 1.5, "mixed": "two", "empty": null}',
        '{"n": "late", "new": true, "s": "b", "deep": 5}',
        '{"n": 3.5, "x": 7}',
        "no json",
        "[1, 2]",
        '{"n": 99999999999999999999}',
        '{"_pos": "mine", "n": 4}',
    ]
    manifest = open_manifest(kit.object("\n".join(lines).encode(), ".jsonl"))
    assert manifest.schema == {
        "n": "int64",
        "x": "double",
        "s": "string",
        "mixed": "json",
        "deep": "json",
        "empty": "string",
        "_more": "json",
        "_error": "string",
    }
    found = kit.records(manifest)
    nulls = dict.fromkeys(("n", "x", "s", "mixed", "deep", "empty"))
    assert _bare(found) == [
        nulls | {"n": 1, "x": 1.0, "s": "a", "mixed": 1, "deep": {"k": [1]}},
        nulls | {"n": 2, "x": 1.5, "mixed": "two"},
        nulls | {"s": "b", "deep": 5, "_more": {"n": "late", "new": True}},
        nulls | {"x": 7.0, "_more": {"n": 3.5}},
        nulls | {"_error": "no JSON (Expecting value: line 1 column 1 (char 0)): no json"},
        nulls | {"_error": "no JSON object: [1, 2]"},
        nulls | {"_more": {"n": 99999999999999999999}},
        nulls | {"n": 4, "_more": {"pos_": "mine"}},
    ]
    address = Address.parse(found[2]["_address"])
    assert storage.read_range(address.object, address.start, address.stop).decode() == lines[3]
    assert kit.operate(manifest, "count", Where((("_error", "!=", None),))) == 2
    assert _bare(kit.records(manifest, Grep('"k": \\[1'), Select(("n",)))) == [{"n": 1}]
    assert kit.operate(manifest, "count", Where((("n", ">=", 2),))) == 2


# -- CSV


def test_csv_with_quotes_breaks_and_damage(kit: SimpleNamespace) -> None:
    rows = [
        "id,name,score,ok,code",
        '1,"a, b",1.5,true,007',
        '2,"line\r\nbreak ""quoted""",,FALSE,010',
        "3,ü,x,,1",
        "4,short",
        "",
        "5,last,2e3,True,2",
    ]
    data = b"\xef\xbb\xbf" + "\r\n".join(rows).encode()
    manifest = open_manifest(kit.object(data, ".csv"), shard_bytes=5)
    assert len(manifest.shards) == 1
    assert manifest.schema == {
        "id": "int64",
        "name": "string",
        "score": "string",
        "ok": "bool",
        "code": "string",
        "_more": "json",
        "_error": "string",
    }
    found = kit.records(manifest)
    assert [record["_address"].rpartition("#")[2] for record in found] == ["row=0", "row=1", "row=2", "row=3", "row=4"]
    nulls = dict.fromkeys(("id", "name", "score", "ok", "code"))
    assert _bare(found) == [
        {"id": 1, "name": "a, b", "score": "1.5", "ok": True, "code": "007"},
        {"id": 2, "name": 'line\r\nbreak "quoted"', "score": "", "ok": False, "code": "010"},
        {"id": 3, "name": "ü", "score": "x", "ok": None, "code": "1"},
        nulls | {"_error": "2 fields where the header has 5: ['4', 'short']"},
        {"id": 5, "name": "last", "score": "2e3", "ok": True, "code": "2"},
    ]


def test_a_csv_value_that_does_not_fit_is_kept_aside(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlm_ray.corpus.reading.text import csv

    monkeypatch.setattr(csv, "SAMPLE_LINES", 2)
    monkeypatch.setattr(csv, "_ROWS", 2)
    manifest = open_manifest(kit.object(b"n,x\n1,0.5\n2,1\nmany,1\n4,\n", ".csv"))
    assert manifest.schema == {"n": "int64", "x": "double", "_more": "json", "_error": "string"}
    assert _bare(kit.records(manifest)) == [
        {"n": 1, "x": 0.5},
        {"n": 2, "x": 1.0},
        {"n": None, "x": 1.0, "_more": {"n": "many"}},
        {"n": 4, "x": None},
    ]
    assert kit.operate(manifest, "count", Where((("n", ">", 1),))) == 2
    assert kit.operate(manifest, "count") == 4


def test_a_csv_header_with_a_column_twice(kit: SimpleNamespace) -> None:
    assert kit.records(open_manifest(kit.object(b"a,a\n1,2\n", ".csv")))[0]["a_2"] == 2


# -- documents


def test_documents(kit: SimpleNamespace) -> None:
    base = kit.folder()
    texts = {"a.txt": "one\r\n\r\ntwo ü\n", "sub/b.md": "", "sub/c.txt": "x"}
    for name, text in texts.items():
        storage.write_bytes(f"{base}/{name}", b"\xef\xbb\xbf" * (name == "a.txt") + text.encode())
    manifest = open_manifest(base, unit="document")
    assert manifest.info()["partitions"] == {}
    assert manifest.records == 3
    found = kit.records(manifest)
    assert _bare(found) == [{"path": name, "text": text} for name, text in texts.items()]
    assert found[0]["_address"].endswith(f"#bytes=0-{len(texts['a.txt'].encode()) + 3}")
    assert [record["path"] for record in kit.records(manifest, Where((("path", "==", "sub/c.txt"),)))] == ["sub/c.txt"]
    # a search without a column is one of the text
    assert kit.operate(manifest, "count", Grep("txt")) == 0
    assert kit.operate(manifest, "count", Grep("txt", column="path")) == 2
    spans = kit.records(manifest, Split("text", "paragraph"))
    assert [record["text"] for record in spans] == ["one", "two ü\n", "x"]
    assert spans[1]["_address"].endswith("&column=text&chars=7-13")


def test_a_span_that_is_too_long_ends_with_a_paragraph_a_line_or_a_word(kit: SimpleNamespace) -> None:
    base = kit.folder()
    texts = {"a": "one two.\n\nthree\nfour five six", "b": "one two three\nfour five", "c": "one two three four", "d": "x" * 30}
    for name, text in texts.items():
        storage.write_bytes(f"{base}/{name}.txt", text.encode())
    manifest = open_manifest(base, unit="document")
    spans: dict[str, list[str]] = {}
    for record in kit.records(manifest, Split("text", "\f", 16)):
        spans.setdefault(record["path"][0], []).append(record["text"])
    assert spans == {
        "a": ["one two.\n\n", "three\nfour five ", "six"],
        "b": ["one two three\n", "four five"],
        "c": ["one two three ", "four"],
        "d": ["x" * 16, "x" * 14],
    }


def test_a_document_above_the_limit_is_a_reason(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlm_ray.corpus import opening
    from rlm_ray.corpus.reading.documents import document

    base = kit.folder()
    storage.write_bytes(f"{base}/large.txt", b"x" * 100)
    storage.write_bytes(f"{base}/small.txt", b"x")
    whole = open_manifest(base, unit="document")
    monkeypatch.setattr(opening, "MAX_RECORD", 50)
    monkeypatch.setattr(document, "MAX_RECORD", 50)
    manifest = open_manifest(base, unit="document")
    assert [entry["object"] for entry in manifest.failed] == [f"{base}/large.txt"]
    assert [record["path"] for record in kit.records(manifest)] == ["small.txt"]
    with pytest.raises(ObjectUnreadable, match=r"large\.txt is larger"):
        kit.records(whole)
    with pytest.raises(InputError, match="unit='line'"):
        open_manifest(f"{base}/large.txt", unit="document")


# -- Parquet types


def test_values_of_every_type_are_json(kit: SimpleNamespace) -> None:
    moment = datetime.datetime(2026, 1, 31, 12, 0, 0, 250_000)
    columns = {
        "i8": pyarrow.array([1, None], "int8"),
        "u64": pyarrow.array([1 << 63, None], "uint64"),
        "f16": pyarrow.array([1.5, None], "float16"),
        "nan": pyarrow.array([float("nan"), float("inf")]),
        "b": pyarrow.array([True, None]),
        "raw": pyarrow.array([b"abc", b"\xff\x00"]),
        "fixed": pyarrow.array([b"ab", None], pyarrow.binary(2)),
        "day": pyarrow.array([moment.date(), None]),
        "sec": pyarrow.array([moment.replace(microsecond=0), None], pyarrow.timestamp("s")),
        "us": pyarrow.array([moment, None], pyarrow.timestamp("us")),
        "ns": pyarrow.array([1_769_860_800_000_000_001, None], pyarrow.timestamp("ns")),
        "zone": pyarrow.array([moment, None], pyarrow.timestamp("ms", "Europe/Berlin")),
        "time": pyarrow.array([datetime.time(1, 2, 3), None], pyarrow.time32("s")),
        "took": pyarrow.array([datetime.timedelta(milliseconds=1500), None], pyarrow.duration("ms")),
        "price": pyarrow.array([decimal.Decimal("1.50"), None], pyarrow.decimal128(10, 2)),
        "huge": pyarrow.array([decimal.Decimal("1.5"), None], pyarrow.decimal256(50, 1)),
        "cat": pyarrow.array(["x", None]).dictionary_encode(),
        "tags": pyarrow.array([["a", None], None]),
        "inner": pyarrow.array([{"k": 1, "when": moment}, None]),
        "map": pyarrow.array([[("k", 1)], None], pyarrow.map_("string", "int64")),
        "nothing": pyarrow.nulls(2),
    }
    manifest = open_manifest(kit.parquet(pyarrow.table(columns), f"{kit.folder()}/a.parquet"))
    first, second = _bare(kit.records(manifest))
    assert repr(first.pop("nan")) == "nan"  # no null
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert first == {
        "i8": 1,
        "u64": 1 << 63,
        "f16": 1.5,
        "b": True,
        "raw": "abc",
        "fixed": "ab",
        "day": "2026-01-31",
        "sec": "2026-01-31T12:00:00",
        "us": "2026-01-31T12:00:00.25",
        "ns": "2026-01-31T12:00:00.000000001",
        "zone": "2026-01-31T12:00:00.25Z",
        "time": "01:02:03",
        "took": 1.5,
        "price": "1.50",
        "huge": "1.5",
        "cat": "x",
        "tags": ["a", None],
        "inner": {"k": 1, "when": "2026-01-31T12:00:00.25"},
        "map": {"k": 1},
        "nothing": None,
    }
    assert second.pop("raw") == "base64:/wA="
    assert second.pop("nan") == math.inf
    assert set(second.values()) == {None}
    simple = Select(("i8", "us", "cat"))
    assert _bare(kit.records(manifest, simple)) == [
        {"i8": 1, "us": "2026-01-31T12:00:00.25", "cat": "x"},
        dict.fromkeys(("i8", "us", "cat")),
    ]


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        (("us", "==", "2026-01-31 12:00:00.25"), 1),
        (("us", ">=", "2026-01-31"), 1),
        (("us", ">", "2026-01-31T13:00:00+02:00"), 1),
        (("us", "<", "2026-01-31"), 1),
        (("us", "in", ("2026-01-31T12:00:00.250", "2020-01-01")), 1),
        (("us", "!=", "2026-01-31"), 2),
        (("zone", "==", "2026-01-31T13:00:00+01:00"), 1),
        (("zone", ">", "2026-01-31 11:59"), 1),
        (("day", "==", "2026-01-31"), 1),
        (("day", "<=", "2026-01-31 23:59:59"), 2),
        (("time", ">", "01:00"), 1),
        (("price", "==", 1.5), 1),
        (("price", ">=", 1), 2),
        (("price", "in", (1.5, 7)), 1),
        (("raw", "==", "abc"), 1),
        (("big", "==", 2**62), 1),
        (("big", ">", 2**70), 0),
        (("big", "<", 2**70), 2),
        (("big", "in", (2**62, 2**70)), 1),
        (("small", "<", 1000), 2),
        (("small", "==", 1.5), 0),
        (("small", "in", (1, 2.5)), 1),
        (("x", "==", 1), 1),
        (("unsigned", "==", 2**63), 1),
        (("unsigned", "in", (2**63, -1, 2**70)), 1),
        (("unsigned", "not in", (0.5, 0.0)), 1),
        (("zone", "in", ("2026-01-31T13:00:00+01:00", "2026-01-01")), 2),
        (("tags", "==", '["a"]'), 1),
        (("us", "in", ()), 0),
        (("us", "not in", ()), 2),
    ],
)
def test_conditions_by_type(kit: SimpleNamespace, condition: tuple[str, str, Any], count: int) -> None:
    noon, before = datetime.datetime(2026, 1, 31, 12, 0, 0, 250_000), datetime.datetime(2026, 1, 1)
    columns = {
        "us": pyarrow.array([noon, before, None], pyarrow.timestamp("us")),
        "zone": pyarrow.array([noon.replace(microsecond=0), before, None], pyarrow.timestamp("ms", "America/New_York")),
        "day": pyarrow.array([noon.date(), before.date(), None]),
        "time": pyarrow.array([datetime.time(1, 2, 3), datetime.time(0), None], pyarrow.time64("us")),
        "price": pyarrow.array([decimal.Decimal("1.50"), decimal.Decimal("2.00"), None], pyarrow.decimal128(10, 2)),
        "raw": pyarrow.array([b"abc", b"\xff", None]),
        "big": pyarrow.array([2**62, 0, None], "int64"),
        "unsigned": pyarrow.array([2**63, 0, None], "uint64"),
        "small": pyarrow.array([1, 2, None], "int8"),
        "x": pyarrow.array([1.0, 2.5, None], "float32"),
        "tags": pyarrow.array([["a"], ["b"], None]),
    }
    manifest = open_manifest(kit.parquet(pyarrow.table(columns), f"{kit.folder()}/a.parquet"))
    assert kit.operate(manifest, "count", Where((condition,))) == count
