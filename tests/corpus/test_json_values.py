"""JSON that is not lines: the records are those that Python's `json` finds, wherever they stand, and their bytes are theirs."""

from __future__ import annotations

import dataclasses
import gzip
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations.lookup import record_at
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.text import json_values
from rlm_ray.corpus.reading.text.json_values import Layout, layout_of
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import ObjectUnreadable
from rlm_ray.handle.plan import Grep, Slice, Where

ROWS = [{"n": n, "text": f'{{"a}}[{n}] "ü" \\ \n', "deep": {"list": [[n], {"x": "]"}]}} for n in range(130)]
TEXTS = st.text(st.sampled_from('ab"\\{}[],: \nü'), max_size=6)
SCALARS = st.none() | st.booleans() | st.integers(-5, 2**70) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8)
OBJECTS = st.lists(st.dictionaries(st.sampled_from("nxyz"), VALUES, min_size=1, max_size=3), min_size=1, max_size=6)


def written(rows: list[Any], form: str, indent: int | None = None) -> bytes:
    if form == "array":
        text = json.dumps(rows, indent=indent)
    elif form == "member":
        text = json.dumps({"version": [1], "meta": {"x": [{"no": "record"}]}, "Records": rows, "more": {"y": {}}}, indent=indent)
    elif form == "sequence":
        text = "".join(f"\x1e{json.dumps(row, indent=indent, ensure_ascii=False)}\n" for row in rows)
    else:
        text = "".join(json.dumps(row, indent=indent, ensure_ascii=False) + form for row in rows)
    return text.encode()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "_BLOCK", 97)
    monkeypatch.setattr(json_values, "_HEAD", 256)


@pytest.mark.parametrize("ending", [".json", ".json.gz"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("form", ["array", "member", "sequence", "", "\n", " , "])
def test_records_and_their_bytes(kit: SimpleNamespace, small_blocks: None, form: str, indent: int | None, ending: str) -> None:
    data = written(ROWS, form, indent)
    uri = kit.object(gzip.compress(data) if ending.endswith("gz") else data, ending)
    manifest = open_manifest(uri)
    assert (manifest.format, manifest.unit, len(manifest.shards)) == ("json", "row", 1)
    assert {name: manifest.schema[name] for name in ("n", "text", "deep")} == {"n": "int64", "text": "string", "deep": "json"}
    found = kit.records(manifest)
    assert [{key: record[key] for key in ("n", "text", "deep")} for record in found] == ROWS
    for record, row in zip(found, ROWS, strict=True):
        place = Address.parse(record["_address"])
        assert json.loads(data[place.start : place.stop]) == row
    assert kit.operate(manifest, "count") == len(ROWS)
    assert kit.operate(manifest, "count", Where((("n", "<", 10),))) == 10
    assert kit.operate(manifest, "count", Grep(r"\[7\]", "text")) == 1
    assert kit.records(manifest, *kit.local(manifest, [Slice(7, 9)])) == found[7:9]
    work = Work(manifest.shards[0], bind((), manifest.schema))
    assert record_at(work, {"address": found[123]["_address"]}) == found[123]


@settings(max_examples=40)
@given(
    rows=OBJECTS,
    form=st.sampled_from(["array", "member", "sequence", "\n", ""]),
    indent=st.sampled_from([None, 1]),
    block=st.integers(1, 40),
)
def test_any_objects_in_any_blocks(kit: SimpleNamespace, rows: list[Any], form: str, indent: int | None, block: int) -> None:
    data = written(rows, form, indent)
    # an object that stands alone and has one array of objects is that array
    assume(layout_of(data, True).level == {"array": 1, "member": 2}.get(form, 0))
    (shard,) = open_manifest(kit.object(data, ".json")).shards
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "_BLOCK", block)
        found = [
            json.loads(piece.memory[start:end].tobytes())
            for piece in json_values.pieces(shard)
            for start, end in zip(piece.starts, piece.ends, strict=True)
        ]
    assert found == rows


def test_what_is_no_object_is_said(kit: SimpleNamespace) -> None:
    manifest = open_manifest(kit.object(b'[{"n": 1}, 17, "x", {"n": 2}, [3], {"n": 4}, null]', ".json"))
    found = kit.records(manifest)
    assert [record["n"] for record in found] == [1, None, 2, None, 4, None]
    assert [record["_error"] for record in found if "_error" in record] == [
        'no JSON (Extra data: line 1 column 3 (char 2)): 17, "x"',
        "no JSON object: [3]",
        "no JSON object: null",
    ]
    assert "JSON as an array" in manifest.reading


@pytest.mark.parametrize("data", [b'[{"n": 1}, {"n": ', b'[{"n": "1}]', b'{"n": 1}}', b'[{"n": 1}] {"n": 2}'])
def test_what_is_damaged_fails_as_a_whole(kit: SimpleNamespace, data: bytes) -> None:
    good, bad = kit.object(b'[{"n": 1}]', ".json"), kit.object(data, ".json")
    manifest = open_manifest(good)
    shard = dataclasses.replace(manifest.shards[0], uri=bad, version="", size=len(data))
    with pytest.raises(ObjectUnreadable, match=r"ends in the middle|closes nothing|has another value at byte"):
        list(Work(shard, bind((), manifest.schema)).scan())


@pytest.mark.parametrize("before", [True, False])
def test_a_second_array_of_a_large_object_is_not_lost_in_silence(kit: SimpleNamespace, small_blocks: None, before: bool) -> None:
    arrays = {"few": [{"a": 1}], "plain": [1, [2]], "Records": ROWS}
    if not before:
        arrays = {"plain": [1, [2]], "Records": ROWS, "few": [{"a": 1}]}
    manifest = open_manifest(kit.object(b'[{"n": 1}]', ".json"))
    data = json.dumps(arrays).encode()
    shard = dataclasses.replace(manifest.shards[0], uri=kit.object(data, ".json"), version="", size=len(data))
    with pytest.raises(ObjectUnreadable, match="has objects in the array 'few', at byte"):
        list(json_values.pieces(shard))
    del arrays["few"]
    found = kit.records(open_manifest(kit.object(json.dumps(arrays).encode(), ".json")))
    assert [record["n"] for record in found] == [row["n"] for row in ROWS]


def test_an_object_that_is_no_list_of_records_is_one_record(kit: SimpleNamespace) -> None:
    data = {"name": "x", "left": [{"a": 1}], "right": [{"b": 1}]}
    (record,) = kit.records(open_manifest(kit.object(json.dumps(data, indent=1).encode(), ".json")))
    assert {name: record[name] for name in data} == data


def test_lines_when_they_are_wanted(kit: SimpleNamespace) -> None:
    uri = kit.object(b'{\n"a": 1\n}\n', ".json")
    assert [record["text"] for record in kit.records(open_manifest(uri, format="text"))] == ["{", '"a": 1', "}"]


@pytest.mark.parametrize(
    ("data", "whole", "layout"),
    [
        (b'\xef\xbb\xbf \n[{"a"', False, Layout(1)),
        (b'{"next": "a[", "Records": [{"a": 1', False, Layout(2, "Records")),
        (b'{"a": {"b": [{"c": 1', False, Layout()),
        (b'{"a": 1}\n{"b": [{"c', False, Layout()),
        (b"17 18", True, Layout()),
    ],
)
def test_how_records_stand(data: bytes, whole: bool, layout: Layout) -> None:
    assert layout_of(data, whole) == layout
