"""JSON lines and text, cut anywhere: the shards' records are the file's, once and in order, whatever stands at a cut."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlm_ray import storage
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.planning import chunk_ranges
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.text import streams
from rlm_ray.handle.plan import Between, Grep

_TEXTS = st.sampled_from(["", "a", "é漢😀", "line\nbreak", "\r", "x" * 50, "\u2028", "\ufeff"])
_ROWS = st.lists(st.tuples(_TEXTS, st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"])), min_size=1, max_size=12)


@settings(max_examples=40)
@given(rows=_ROWS, bom=st.booleans(), ended=st.booleans(), shard_bytes=st.integers(1, 80), piece=st.integers(1, 60))
@example(rows=[("é漢😀", "\r\n"), ("x" * 50, "\n")], bom=True, ended=False, shard_bytes=1, piece=1)
def test_json_lines_are_the_files_whatever_the_cut(
    kit: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[tuple[str, str]],
    bom: bool,
    ended: bool,
    shard_bytes: int,
    piece: int,
) -> None:
    monkeypatch.setattr(streams, "PIECE", piece)
    lines = [json.dumps({"n": number, "text": text}, ensure_ascii=False) for number, (text, _) in enumerate(rows)]
    data = "".join(line + end for line, (_, end) in zip(lines, rows, strict=True))
    data = data if ended else data.rstrip("\r\n \t")
    uri = kit.object(b"\xef\xbb\xbf" * bom + data.encode(), ".jsonl")
    manifest = open_manifest(uri, shard_bytes=shard_bytes)
    found = kit.records(manifest)
    assert [(record["n"], record["text"]) for record in found] == [(number, text) for number, (text, _) in enumerate(rows)]
    assert not any("_error" in record or "_more" in record for record in found)
    assert kit.operate(manifest, "count") == len(rows)
    assert [record["n"] for record in kit.records(manifest, Grep("x{50}"))] == [
        n for n, (text, _) in enumerate(rows) if "x" in text
    ]
    for record, line in zip(found, lines, strict=True):
        place = Address.parse(record["_address"])
        assert storage.read_range(uri, place.start, place.stop, version=place.version).decode() == line


@settings(max_examples=30)
@given(
    lines=st.lists(st.sampled_from(["", "a", "é", "漢😀", "\r", "x" * 90]), min_size=1, max_size=12),
    end=st.sampled_from(["\n", "\r\n"]),
    shard_bytes=st.integers(1, 40),
    target=st.integers(1, 60),
)
def test_chunks_of_text_are_its_lines_whatever_the_cut(
    kit: SimpleNamespace, lines: list[str], end: str, shard_bytes: int, target: int
) -> None:
    data = end.join(lines).encode() or b"\n"
    manifest = open_manifest(kit.object(data, ".log"), shard_bytes=shard_bytes)
    whole: list[dict[str, Any]] = kit.records(manifest)
    plain = chunk_ranges.plain_chunk_ranges(bind([], manifest.schema), manifest, target) or []
    scanned = kit.operate(manifest, "chunk_ranges", target_bytes=target)
    for borders in (plain, scanned):
        parts = [kit.records(manifest, Between(tuple(border[0]), tuple(border[1]))) for border in borders]
        assert [record for part in parts for record in part] == whole
