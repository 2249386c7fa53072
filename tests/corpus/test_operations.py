"""What verbs compute: counts by value, samples, texts, single records, lengths; and spans against a plain reading."""

from __future__ import annotations

import random
import re
from collections import Counter
from types import SimpleNamespace
from typing import Any

import polars
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray import storage
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations import counting, operations
from rlm_ray.corpus.operations.operations import merge, run
from rlm_ray.corpus.planning import drawing, shard_choice, slicing
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.selections import save_selection
from rlm_ray.corpus.reading.spans import split
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, StorageError
from rlm_ray.handle.plan import Between, Grep, Keep, Slice, Split, Where, Window


@pytest.fixture(scope="module")
def hosts(kit: SimpleNamespace) -> Any:
    """Three files of 50 rows each, in row groups of 7."""
    base = kit.folder()
    draw = random.Random(1)
    for number in range(3):
        rows = [
            {"n": 50 * number + index, "host": draw.choice(["h1", "h2", None]), "x": draw.choice([0.5, 1.0])} for index in range(50)
        ]
        kit.parquet(pyarrow.Table.from_pylist(rows), f"{base}/{number}.parquet", row_group_size=7)
    return open_manifest(base, shard_bytes=100)


def test_count_by(kit: SimpleNamespace, hosts: Any) -> None:
    rows = kit.records(hosts)
    expected = Counter(row["host"] for row in rows)
    counted = kit.operate(hosts, "count_by", column="host", limit=10)
    assert counted["distinct"] == 3
    assert dict(counted["counts"]) == expected
    assert [count for _, count in counted["counts"]] == sorted(expected.values(), reverse=True)
    top = kit.operate(hosts, "count_by", column="host", limit=1)
    assert top == {"counts": counted["counts"][:1], "distinct": 3}
    filtered = kit.operate(hosts, "count_by", Where((("n", "<", 10),)), column="x", limit=10)
    assert sum(count for _, count in filtered["counts"]) == 10
    assert kit.operate(hosts, "count_by", Where((("n", "<", 0),)), column="x", limit=5) == {"counts": [], "distinct": 0}
    with pytest.raises(InputError, match="no column 'hots'"):
        kit.operate(hosts, "count_by", column="hots", limit=5)


def test_count_by_of_too_many_values_says_so(kit: SimpleNamespace, hosts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MAX_DISTINCT", 20)
    with pytest.raises(InputError, match="more than 20 different values"):
        kit.operate(hosts, "count_by", column="n", limit=5)
    monkeypatch.setattr(counting, "MAX_DISTINCT", 60)
    with pytest.raises(InputError, match="Narrow the handle"):
        kit.operate(hosts, "count_by", column="n", limit=5)


def test_records_by_their_number(kit: SimpleNamespace, hosts: Any) -> None:
    everything = kit.records(hosts)
    for steps in ([], [Grep("h1")], [Slice(13, 100)], [Between((1, 3, 0), None)]):
        local = kit.local(hosts, steps)
        start = 0
        expected = kit.records(hosts, *local)
        for shard in shard_choice.shards_for(bind(local, hosts.schema), hosts):
            work = Work(shard, bind(local, hosts.schema))
            count = run("count", work, {})
            ordinals = list(range(0, count, 2))
            assert merge("at", [run("at", work, {"ordinals": ordinals})], {}) == expected[start : start + count : 2]
            start += count
    assert run("at", Work(hosts.shards[0], bind((), hosts.schema)), {"ordinals": [0, 10**6]}) == everything[:1]
    assert run("at", Work(hosts.shards[0], bind((), hosts.schema)), {"ordinals": []}) == []


@given(counts=st.lists(st.integers(0, 20), min_size=1, max_size=6), n=st.integers(0, 40), seed=st.integers(0, 3))
def test_a_draw_is_without_repetition(counts: list[int], n: int, seed: int) -> None:
    drawn = drawing.draw(counts, n, seed)
    assert sum(map(len, drawn.values())) == min(n, sum(counts))
    for number, ordinals in drawn.items():
        assert ordinals == sorted(set(ordinals))
        assert set(ordinals) <= set(range(counts[number]))
    assert drawn == drawing.draw(counts, n, seed)


def test_a_draw_is_uniform() -> None:
    counts = [1, 9, 40]
    seen: Counter[tuple[int, int]] = Counter()
    for seed in range(4_000):
        for number, ordinals in drawing.draw(counts, 5, seed).items():
            seen.update((number, ordinal) for ordinal in ordinals)
    # 400 expected of each; the spread of a fair draw is 19
    assert len(seen) == 50
    assert max(abs(count - 400) for count in seen.values()) < 100


def test_text(kit: SimpleNamespace) -> None:
    manifest = open_manifest(kit.object(b"one\ntwo\nthree\n" * 3, ".log"), shard_bytes=14)
    assert kit.operate(manifest, "text", max_chars=1_000) == "\n".join(["one", "two", "three"] * 3)
    cut = kit.operate(manifest, "text", max_chars=9)
    assert cut.startswith("one\ntwo\nt\n")
    assert "9" in cut[9:]
    base = kit.folder()
    storage.write_bytes(f"{base}/a.txt", b"alpha")
    storage.write_bytes(f"{base}/b.txt", b"beta")
    documents = open_manifest(base, unit="document")
    assert kit.operate(documents, "text", max_chars=100) == "== a.txt ==\nalpha\n== b.txt ==\nbeta"
    rows = open_manifest(kit.parquet(pyarrow.table({"n": [1], "s": ["ü"]}), f"{base}/x/a.parquet"))
    assert kit.operate(rows, "text", max_chars=100) == '{"n": 1, "s": "ü"}'


def test_lengths(kit: SimpleNamespace) -> None:
    manifest = open_manifest(kit.object("ab\nü\n\n".encode(), ".log"))
    assert kit.operate(manifest, "lengths") == {"records": 3, "nbytes": 3 + 3 + 1, "longest": 3}
    assert kit.operate(manifest, "lengths", Grep("z")) == {"records": 0, "nbytes": 0, "longest": 0}


def test_records_come_in_bounded_lists(hosts: Any) -> None:
    work = Work(hosts.shards[0], bind((), hosts.schema))
    pages = list(operations.records(work, max_records=3))
    assert all(len(page) <= 3 for page in pages)
    assert [len(page) for page in operations.records(work, max_bytes=1)] == [1] * sum(map(len, pages))


def test_what_a_filter_kept(kit: SimpleNamespace, hosts: Any, tmp_path: Any) -> None:
    everything = kit.records(hosts, Split("host", "1|2"))
    kept = set(range(0, 150, 7))
    for shard in hosts.shards:
        save_selection(str(tmp_path), "r1", shard.index, [(row, 0) for row in range(shard.start, shard.stop) if row % 5 == 0])
    found = kit.records(hosts, Keep("r1"), run_dir=str(tmp_path))
    assert [row["n"] % 50 % 5 for row in found] == [0] * 30
    assert len(found) == 30
    assert kept
    spans = kit.records(hosts, Keep("r1"), Split("host", "1|2"), run_dir=str(tmp_path))
    assert spans == [row for row in everything if row["n"] % 50 % 5 == 0]
    with pytest.raises(StorageError, match="selections/r2/00000000"):
        kit.records(hosts, Keep("r2"), run_dir=str(tmp_path))
    with pytest.raises(InputError, match="Selection r1 belongs to a run"):
        kit.records(hosts, Keep("r1"))


def test_an_operation_that_is_none(hosts: Any) -> None:
    with pytest.raises(InputError, match="count, head, page"):
        run("median", Work(hosts.shards[0], bind((), hosts.schema)), {})


# -- windows


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=6), start=st.integers(0, 20), length=st.none() | st.integers(0, 20))
def test_a_slice_takes_the_same_as_its_window(kit: SimpleNamespace, counts: list[int], start: int, length: int | None) -> None:
    stop = None if length is None else start + length
    shards = [SimpleNamespace(index=3 * number) for number in range(len(counts))]
    known: list[int | None] = [None] * len(counts)
    asked = 0
    while (number := slicing.counts_wanted(start, stop, known)) is not None:
        known[number] = counts[number]
        asked += 1
    window: Window = slicing.window(start, stop, shards, known)  # type: ignore[arg-type]
    rows = [(shard.index, ordinal) for shard, count in zip(shards, counts, strict=True) for ordinal in range(count)]
    taken = [
        (index, ordinal)
        for index, ordinal in rows
        if window.first <= index
        and (window.last is None or index <= window.last)
        and (index != window.first or ordinal >= window.skip)
        and (index != window.last or ordinal < window.take)
    ]
    assert taken == rows[start:stop]
    # nothing behind the end of the slice is counted
    before = 0
    needed = 0
    for count in counts:
        if before >= (start if stop is None else stop):
            break
        needed += 1
        before += count
    assert asked <= needed


def test_a_window_needs_its_counts() -> None:
    with pytest.raises(InputError, match="needs more counts"):
        slicing.window(5, 6, [SimpleNamespace(index=0)], [None])  # type: ignore[list-item]


# -- spans

_parts = st.sampled_from(["a", "bb", " ", "\n", "\r\n", "\n\n", "--", "é", "😀", "word", "=", "\t", "1", "22"])
_all_texts = st.lists(st.none() | st.lists(_parts, max_size=12).map("".join), min_size=1, max_size=5)


@given(
    texts=_all_texts,
    by=st.sampled_from(["line", "paragraph", r"\s+", "--|=", r"\d+", "(?i)A", "[^a-z]", r"\bword\b", "é", "b*a"]),
    limit=st.none() | st.integers(1, 8),
)
def test_spans_are_cut_from_their_text(texts: list[str | None], by: str, limit: int | None) -> None:
    frame = polars.DataFrame(
        {"text": polars.Series(texts, dtype=polars.String), "row": range(len(texts)), "_char": [0] * len(texts)}
    )
    found = split(frame, Split("text", by, limit)).to_dicts()
    separator = re.compile({"line": r"\r?\n", "paragraph": r"\r?\n(?:[ \t]*\r?\n)+"}.get(by, by))
    expected = []
    for row, text in enumerate(texts):
        pieces, at = [], 0
        for match in separator.finditer(text or ""):
            pieces.append((at, match.start()))
            at = match.end()
        expected += [(row, start, stop) for start, stop in [*pieces, (at, len(text or ""))] if (text or "")[start:stop].strip()]
    for span in found:
        assert texts[span["row"]][span["_char"] : span["_char_end"]] == span["text"]  # type: ignore[index]
        assert span["text"].strip()
        assert limit is None or len(span["text"]) <= limit
    if limit is None:
        assert [(span["row"], span["_char"], span["_char_end"]) for span in found] == expected
    else:
        # cutting loses only pieces of white space
        covered = {(span["row"], char) for span in found for char in range(span["_char"], span["_char_end"])}
        wanted = {(row, char) for row, start, stop in expected for char in range(start, stop)}
        assert covered <= wanted
        assert all(texts[row][char].isspace() for row, char in wanted - covered)  # type: ignore[index]


def test_a_long_span_is_cut_at_white_space(kit: SimpleNamespace) -> None:
    manifest = open_manifest(kit.object(b"the quick brown fox jumps over the lazy dog", ".txt"), unit="document")
    spans = kit.records(manifest, Split("text", "paragraph", 16))
    assert [span["text"] for span in spans] == ["the quick brown ", "fox jumps over ", "the lazy dog"]
