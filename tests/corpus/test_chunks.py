"""Chunks: every record in exactly one, in order, none larger than its target unless a record is."""

from __future__ import annotations

import gzip
import itertools
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray import storage
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.planning import chunk_ranges
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.planning.chunk_ranges import Cutter, join
from rlm_ray.handle.plan import Between, Grep, Select, Slice, Split, Step, Where

_sizes = st.lists(st.integers(1, 30), max_size=30)


@given(sizes=_sizes, batches=st.lists(st.integers(0, 30), max_size=4), target=st.integers(1, 60), overlap=st.integers(0, 59))
def test_the_cutter_covers_all_whatever_the_batches(sizes: list[int], batches: list[int], target: int, overlap: int) -> None:
    overlap = min(overlap, target - 1)
    cutter = Cutter(7, target, overlap)
    cuts = [0, *sorted(min(batch, len(sizes)) for batch in batches), len(sizes)]
    for start, stop in itertools.pairwise(cuts):
        positions = numpy.arange(start, stop)
        cutter.add(positions, positions * 0, numpy.asarray(sizes[start:stop], numpy.int64))
    covered = 0
    last_first = -1
    for start, stop, nbytes, count in cutter.finish():
        (shard, first, _), (_, last, _) = start, stop
        assert shard == 7
        assert last_first < first <= covered <= last
        here = sizes[first : last + 1]
        assert (nbytes, count) == (sum(here), len(here))
        assert nbytes <= target or len(here) == 1
        assert sum(sizes[first:covered]) <= overlap
        # full: the next record would not have fitted
        assert last + 1 == len(sizes) or nbytes + sizes[last + 1] > target
        covered, last_first = last + 1, first
    assert covered == len(sizes)


def test_join_puts_small_ends_together() -> None:
    first = [[[0, 0, 0], [0, 5, 1], 90, 5], [[0, 6, 0], [0, 7, 1], 30, 2]]
    second = [[[1, 0, 0], [1, 1, 1], 60, 2], [[1, 2, 0], [1, 3, 1], 20, 1]]
    assert join([first, [], second], 100) == [first[0], [[0, 6, 0], [1, 1, 1], 90, 4], second[1]]


def _texts(
    kit: SimpleNamespace, manifest: Manifest, steps: list[Step], borders: list[Any], by: str | None = None
) -> list[list[Any]]:
    parts = []
    for start, stop, _nbytes, count, *value in borders:
        key = [Where(((by, "==", value[0]),))] if by is not None else []
        between = Between(tuple(start), tuple(stop))
        found = kit.records(manifest, *kit.local(manifest, steps), *key, between)
        assert count is None or count == len(found)
        parts.append([record["_address"] for record in found])
    return parts


_steps = st.sampled_from(
    [
        [],
        [Grep("a")],
        [Split("text", "line")],
        [Slice(2, 11)],
        [Grep("b", invert=True), Slice(1, 9), Split("text", " ")],
        [Select(("text",))],
        [Between((0, 3, 0), (1, 9, 0))],
        [Where((("key", "in", ("k1", "k2")),))],
    ]
)
_rows = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | st.lists(st.sampled_from(["alpha", "beta b", "c\nd", "é", "x" * 30]), max_size=3).map(" ".join),
            "key": st.none() | st.sampled_from(["k1", "k2", "k3"]),
        }
    ),
    min_size=1,
    max_size=25,
)


@given(
    rows=_rows,
    steps=_steps,
    target=st.integers(1, 200),
    by=st.sampled_from([None, "key"]),
    shard_bytes=st.sampled_from([1, 1 << 20]),
)
def test_chunks_of_rows(
    kit: SimpleNamespace, rows: list[dict[str, Any]], steps: list[Step], target: int, by: str | None, shard_bytes: int
) -> None:
    if by is not None and any(isinstance(step, Select) for step in steps):
        by = None
    folder = kit.folder()
    table = pyarrow.Table.from_pylist(rows, schema=pyarrow.schema([("text", "string"), ("key", "string")]))
    kit.parquet(table, f"{folder}/a.parquet", row_group_size=7)
    kit.parquet(table.slice(0, 3), f"{folder}/b.parquet")
    manifest = open_manifest(folder, shard_bytes=shard_bytes)
    everything = [record["_address"] for record in kit.records(manifest, *kit.local(manifest, steps))]
    scanned = kit.operate(manifest, "chunk_ranges", *steps, target_bytes=target, by=by, overlap_bytes=0)
    parts = _texts(kit, manifest, steps, scanned, by)
    assert all(parts)
    if by is None:
        assert [address for part in parts for address in part] == everything
    else:
        # a chunk has one value; each value's chunks are in record order
        assert Counter(address for part in parts for address in part) == Counter(everything)
    for border in scanned:
        assert border[2] <= target or border[3] == 1
    plain = chunk_ranges.plain_chunk_ranges(bind(kit.local(manifest, steps), manifest.schema), manifest, target, by=by)
    if any(isinstance(step, Grep | Split | Where) for step in steps) or by is not None:
        assert plain is None or (plain == [] and not scanned)  # statistics may say that nothing is left
    else:
        assert plain is not None
        assert [address for part in _texts(kit, manifest, steps, plain) for address in part] == everything


@given(
    lines=st.lists(st.text("ab ", max_size=30), min_size=1, max_size=20),
    shard_bytes=st.sampled_from([1, 20, 1 << 20]),
    target=st.integers(1, 100),
)
def test_chunks_of_lines_need_no_reading(kit: SimpleNamespace, lines: list[str], shard_bytes: int, target: int) -> None:
    base = kit.folder()
    for name in ("a", "b"):
        storage.write_bytes(f"{base}/{name}.log", "".join(line + "\n" for line in lines).encode())
    manifest = open_manifest(base, shard_bytes=shard_bytes)
    everything = [record["_address"] for record in kit.records(manifest)]
    borders = chunk_ranges.plain_chunk_ranges(bind([], manifest.schema), manifest, target)
    assert borders is not None
    assert [address for part in _texts(kit, manifest, [], borders) for address in part] == everything
    assert all(border[2] <= target for border in borders)
    assert sum(border[2] for border in borders) == manifest.nbytes


def test_documents_share_a_chunk_while_they_fit(kit: SimpleNamespace) -> None:
    base = kit.folder()
    for number, size in enumerate([10, 20, 200, 30, 5]):
        storage.write_bytes(f"{base}/{number}.txt", b"x" * size)
    manifest = open_manifest(base, unit="document")
    borders = chunk_ranges.plain_chunk_ranges(bind([], manifest.schema), manifest, 60)
    assert borders is not None
    assert [border[3] for border in borders] == [2, 1, 2]
    assert [len(part) for part in _texts(kit, manifest, [], borders)] == [2, 1, 2]


def test_overlap_repeats_a_tail(kit: SimpleNamespace) -> None:
    lines = [f"line {number:04d}" for number in range(100)]
    manifest = open_manifest(kit.object("\n".join(lines).encode(), ".log"))
    for borders in (
        kit.operate(manifest, "chunk_ranges", target_bytes=200, overlap_bytes=50),
        chunk_ranges.plain_chunk_ranges(bind([], manifest.schema), manifest, 200, 50),
    ):
        parts = _texts(kit, manifest, [], borders)
        assert len(parts) > 5
        for before, after in itertools.pairwise(parts):
            repeated = [address for address in before if address in after]
            assert repeated == before[-len(repeated) :] == after[: len(repeated)]
            assert 1 <= len(repeated) <= 5
        assert len({address for part in parts for address in part}) == 100


def test_by_a_partition_needs_no_reading(kit: SimpleNamespace) -> None:
    base = kit.folder()
    for day in (1, 2):
        for part in ("a", "b"):
            kit.parquet(pyarrow.table({"text": ["x" * 50] * 4}), f"{base}/day={day}/{part}.parquet")
    manifest = open_manifest(base)
    borders = chunk_ranges.plain_chunk_ranges(bind([], manifest.schema), manifest, 10_000, by="day")
    assert borders is not None
    assert [border[4] for border in borders] == ["1", "2"]
    assert [len(part) for part in _texts(kit, manifest, [], borders, by="day")] == [8, 8]
    only = chunk_ranges.plain_chunk_ranges(bind([Where((("day", "==", 2),))], manifest.schema), manifest, 10_000)
    assert only is not None
    assert [border[3] for border in only] == [8]


@pytest.mark.parametrize("extension", [".log.gz", ".csv"])
def test_what_has_no_known_length_is_scanned(kit: SimpleNamespace, extension: str) -> None:
    data = b"a,b\n1,2\n3,4\n"
    manifest = open_manifest(kit.object(gzip.compress(data) if extension.endswith("gz") else data, extension))
    assert chunk_ranges.plain_chunk_ranges(bind([], manifest.schema), manifest, 5) is None
    borders = kit.operate(manifest, "chunk_ranges", target_bytes=5)
    assert sum(border[3] for border in borders) == kit.operate(manifest, "count")


def test_estimates_of_repeated_text_are_of_its_length(kit: SimpleNamespace) -> None:
    # a dictionary stores the text once: its bytes in the file say nothing of its length
    table = pyarrow.table({"msg": ["y" * 500] * 10_000})
    manifest = open_manifest(kit.parquet(table, f"{kit.folder()}/a.parquet"))
    borders = chunk_ranges.plain_chunk_ranges(bind([], manifest.schema), manifest, 10_000)
    assert borders is not None
    assert max(border[3] for border in borders) <= 20
