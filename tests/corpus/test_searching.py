"""A search through blocks of lines finds what a search through each line does, and no other."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import polars
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlm_ray import storage
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.reading.reader import ReadRequest
from rlm_ray.corpus.reading.text import line_search, lines, streams
from rlm_ray.handle.plan import Grep, Where

_PATTERNS = [
    r"b",
    r"a b",
    r"^a",
    r"a$",
    r"^$",
    r"^\s*$",
    r"\Aa",
    r"a\z",
    r"[^a]b",
    r"a\sb",
    r"(?s)a.b",
    r"\ba\b",
    r"a.*é",
    r"(?-i)A",
    r"(?m)a$",
    r"\r",
    r"a|^é",
    r"x*",
    r"\W",
    r"\\",
    r'"',
    r"(?i:A)",
    r"(?U)a.*",
    r"[[:^alpha:]]b",
    r"[b-xé]",
    r"a\n?b",
    r"\Ba",
    r"a{2,}|z",
    r"a.",
]
_BITS = st.sampled_from(["a", "b", "A", " ", "é", "\r", '"', "\\", "\t", "xx", "zzzzzzzz", ""])
_LINES = st.lists(st.lists(_BITS, max_size=4).map("".join), min_size=1, max_size=30)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_search, "_CUT_BLOCK", 16)
    monkeypatch.setattr(line_search, "_COUNTED_BLOCK", 16)
    monkeypatch.setattr(line_search, "_REACH", 12)


def _found(texts: list[str], pattern: str, ignore_case: bool) -> list[str]:
    hit = polars.Series(texts, dtype=polars.String).str.contains(f"(?i){pattern}" if ignore_case else pattern)
    return [text for text, there in zip(texts, hit, strict=True) if there]


@pytest.mark.usefixtures("small_blocks")
@given(
    lines=_LINES,
    end=st.sampled_from([b"\n", b"\r\n"]),
    damage=st.sampled_from([b"", b"", b"\xff"]),
    encoding=st.sampled_from(["utf-8", "utf-8", "latin-1"]),
    pattern=st.sampled_from(_PATTERNS),
    ignore_case=st.booleans(),
    cut=st.tuples(st.integers(20, 90), st.integers(20, 200)),
)
@example([*"aaaaaaaa", "b", *"aaaaaaaaaaaaaaaaaaaaa"], b"\n", b"", "utf-8", "b", False, (90, 200))
def test_lines_are_found_as_one_by_one(
    kit: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    end: bytes,
    damage: bytes,
    encoding: str,
    pattern: str,
    ignore_case: bool,
    cut: tuple[int, int],
) -> None:
    monkeypatch.setattr(streams, "PIECE", cut[1])
    data = end.join(line.encode() for line in lines) + damage + end
    uri = kit.object(data, ".log")
    manifest = open_manifest(uri, shard_bytes=cut[0], encoding=encoding)
    found = kit.records(manifest, Grep(pattern, ignore_case=ignore_case))
    everything = [record["text"] for record in kit.records(manifest)]
    assert [record["text"] for record in found] == _found(everything, pattern, ignore_case)
    for record in found:
        place = Address.parse(record["_address"])
        assert storage.read_range(uri, place.start, place.stop).decode(encoding, "replace") == record["text"]
    inverted = kit.operate(manifest, "count", Grep(pattern, ignore_case=ignore_case, invert=True))
    assert inverted + kit.operate(manifest, "count", Grep(pattern, ignore_case=ignore_case)) == len(everything)


_ITEMS = st.fixed_dictionaries(
    {"s": st.none() | st.lists(_BITS, max_size=4).map("".join)},
    optional={
        "n": st.integers(0, 3),
        "more": st.text("ab", max_size=3),
        "t": st.lists(_BITS, max_size=3).map("".join) | st.integers(0, 2),
    },
)


@pytest.mark.usefixtures("small_blocks")
@given(
    items=st.lists(st.tuples(_ITEMS, st.booleans()), min_size=1, max_size=30),
    step=st.sampled_from([Grep(pattern, column="s") for pattern in _PATTERNS])
    | st.lists(_BITS, max_size=3).map("".join).map(lambda text: Where((("s", "==", text),)))
    | st.lists(st.none() | st.lists(_BITS, max_size=2).map("".join), max_size=3).map(
        lambda texts: Where((("s", "in", tuple(texts)),))
    ),
)
def test_json_lines_are_found_as_one_by_one(kit: SimpleNamespace, items: list[tuple[Any, bool]], step: Any) -> None:
    head = {"s": "x", "n": 1}
    data = "\n".join(json.dumps(item, ensure_ascii=ascii) for item, ascii in [(head, True), *items]).encode()
    manifest = open_manifest(kit.object(data, ".jsonl"), shard_bytes=200)
    everything = [record["s"] for record in kit.records(manifest)]
    if isinstance(step, Grep):
        expected = _found([text for text in everything if text is not None], step.pattern, False)
    else:
        ((_, compared, wanted),) = step.conditions
        expected = [text for text in everything if (text == wanted if compared == "==" else text in wanted)]
    assert [record["s"] for record in kit.records(manifest, step)] == expected


def test_most_blocks_are_never_cut(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[int] = []
    whole = streams.Run.piece

    def piece(run: streams.Run, is_utf8: bool = False) -> streams.Piece:
        cut.append(run.stop - run.start)
        return whole(run, is_utf8)

    data = b"".join(b"line %06d %s\n" % (number, b"needle" if number == 70_000 else b"x" * 40) for number in range(100_000))
    manifest = open_manifest(kit.object(data, ".log"))
    monkeypatch.setattr(streams.Run, "piece", piece)
    (record,) = kit.records(manifest, Grep("need[l]e"))
    assert record["text"] == "line 070000 needle"
    assert sum(cut) <= 2 * line_search._CUT_BLOCK
    cut.clear()
    assert kit.operate(manifest, "count", Grep("need[l]e")) == 1
    assert not cut


def test_blocks_are_not_searched_where_most_are_found(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PIECE", 1 << 16)
    asked: list[int] = []
    whole = line_search._texts
    monkeypatch.setattr(line_search, "_texts", lambda data, borders: asked.append(len(data)) or whole(data, borders))
    data = b"".join(b"line %06d %s\n" % (number, b"needle" * (number % 2)) for number in range(100_000))
    manifest = open_manifest(kit.object(data, ".log"))
    assert [record["text"][5:11] for record in kit.records(manifest, Grep("needle"))] == [
        f"{number:06d}" for number in range(1, 100_000, 2)
    ]
    assert 0 < sum(asked) < len(data) / 8


def test_what_is_found_stays_while_its_memory_is_filled_again(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PIECE", 1 << 14)
    monkeypatch.setattr(line_search, "_CUT_BLOCK", 1 << 11)
    data = b"".join(b"line %06d %s\n" % (number, b"needle" if number % 400 == 7 else b"x") for number in range(20_000))
    manifest = open_manifest(kit.object(data, ".log"))
    frames = list(lines.read(ReadRequest(manifest.shards[0], manifest.schema, ["text"], 0, None, pattern="(?m)needle")))
    texts = [text for frame in frames for text in frame["text"] if "needle" in text]
    assert texts == [f"line {number:06d} needle" for number in range(7, 20_000, 400)]
