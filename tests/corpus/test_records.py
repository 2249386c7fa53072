"""The two ways from a batch to records agree."""

from __future__ import annotations

import datetime
import json
from types import SimpleNamespace

import pyarrow
import pytest

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.meaning.types import type_name
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.records import to_json, to_records
from rlm_ray.corpus.reading.work import Work
from rlm_ray.handle.plan import Grep

WHEN = datetime.datetime(2026, 1, 31, 12, 30, 0, 120_000, tzinfo=datetime.UTC)
COLUMNS = {
    "text": pyarrow.array(['a "quoted" \\ line\n\u2028', "", None]),
    "large": pyarrow.array([2**63 - 1, -1, None]),
    "unsigned": pyarrow.array([2**64 - 1, 0, None], pyarrow.uint64()),
    "true": pyarrow.array([True, False, None]),
    "real": pyarrow.array([1.0, float("nan"), float("-inf")]),
    "short": pyarrow.array([0.1, 1e30, None], pyarrow.float32()),
    "when": pyarrow.array([WHEN, None, WHEN]),
    "day": pyarrow.array([datetime.date(2026, 1, 31), None, None]),
    "took": pyarrow.array([datetime.timedelta(seconds=1.5), None, None]),
    "raw": pyarrow.array([b"ab", b"\xff", None]),
    "nothing": pyarrow.nulls(3),
}


def shard(uri: str, form: str) -> Shard:
    return Shard(0, 0, uri, "v1", 99, form, None, 0, 99, 30 if form in ("parquet", "segment") else None, 99)


def batch(columns: dict[str, pyarrow.Array], **places: list[int | None]) -> pyarrow.RecordBatch:
    given = {"_pos": [7, 8, 20], "_end": [8, 9, 21], "_char": [0, 0, 0], "_char_end": [None] * 3} | places
    return pyarrow.RecordBatch.from_pydict(columns | {name: pyarrow.array(place, pyarrow.int64()) for name, place in given.items()})


def same(found: pyarrow.RecordBatch, of: Shard, schema: dict[str, str], span: str | None = None) -> list[dict[str, object]]:
    records = to_records(found, of, schema, span)
    assert json.dumps(json.loads(to_json(found, of, schema, span))) == json.dumps(records)  # NaN equals nothing
    return records


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_the_same_in_json_written_by_the_engine(name):
    kind = type_name(COLUMNS[name].type)
    same(batch({name: COLUMNS[name]}), shard("s3://b/x.parquet", "parquet"), {name: kind})


def test_nested_and_json_columns_are_values():
    schema = {"tags": "list<element: string>", "made": "json"}
    columns = {"tags": pyarrow.array([["a"], [], None]), "made": pyarrow.array(['{"b": 1}', "no json", None])}
    records = same(batch(columns), shard("s3://b/x.parquet", "parquet"), schema)
    assert records[0]["made"] == {"b": 1}


def test_what_is_seldom_there_is_left_out_where_it_is_not():
    schema = {"text": "string", "_more": "json", "_error": "string"}
    columns = {"text": COLUMNS["text"], "_more": pyarrow.nulls(3, pyarrow.string()), "_error": pyarrow.nulls(3, pyarrow.string())}
    of = shard("s3://b/x.jsonl", "jsonl")
    assert list(same(batch(columns), of, schema)[0]) == ["_address", "text"]
    columns["_error"] = pyarrow.array([None, "no JSON", None])
    assert [len(record) for record in same(batch(columns), of, schema)] == [2, 3, 2]


def test_addresses_are_of_rows_bytes_and_spans_and_a_result_keeps_its_own():
    lines = shard("s3://b/x.log", "lines")
    text = {"text": COLUMNS["text"]}
    assert same(batch(text), lines, {"text": "string"})[2]["_address"] == "s3://b/x.log@v1#bytes=20-21"
    spans = same(batch(text, _char=[0, 3, 4], _char_end=[3, 4, None]), lines, {"text": "string"}, "text")
    assert spans[1]["_address"] == "s3://b/x.log@v1#bytes=8-9&column=text&chars=3-4"
    assert spans[2]["_address"] == "s3://b/x.log@v1#bytes=20-21"
    given = batch(text | {"_address": pyarrow.array([None, "s3://b/y@v#row=1", None])})
    result = shard("run/segments/1.parquet", "segment")
    assert same(given, result, {"text": "string"})[1]["_address"] == "s3://b/y@v#row=1"


def test_texts_of_parquet_that_are_no_utf8_are_shown_with_what_was_replaced(kit: SimpleNamespace) -> None:
    data = pyarrow.array([b"fine", b"bad\xff", None], pyarrow.binary())
    texts = pyarrow.Array.from_buffers(pyarrow.string(), 3, data.buffers(), data.null_count)
    uri = kit.parquet(pyarrow.table({"text": texts, "n": [1, 2, 3]}), f"{kit.folder()}/a.parquet")
    manifest = open_manifest(uri)
    expected = ["fine", "bad\ufffd", None]
    assert [record["text"] for record in kit.records(manifest)] == expected
    (work,) = (Work(shard, bind((), manifest.schema)) for shard in manifest.shards)
    ((body, _),) = operations.json_pages(work, max_records=10, max_bytes=1 << 20)
    assert [record["text"] for record in json.loads(body)] == expected
    counted = kit.operate(manifest, "count_by", column="text", limit=5)
    assert sorted(counted["counts"], key=str) == [["bad\ufffd", 1], ["fine", 1], [None, 1]]
    assert kit.operate(manifest, "count", Grep("bad")) == 1
