"""The numbers of one shard, from its marks: deleted rows, rows nobody counted, compressed text, lines over borders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.building import Builder
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.ledger.coverage import Noted, counted, measure, seen
from rlm_ray.ledger.read_log import ReadLog, ReadMarks
from rlm_ray.ledger.shares import CLASSES, Numbers, of_shard
from rlm_ray.storage import ObjectInfo

ROWS = Shard(0, 0, "a.parquet", "1", 500, "parquet", None, 0, 10, 10, 1_000)
LINES = Shard(0, 0, "a.log", "1", 100, "lines", None, 0, 100, None, 100)


def numbers(shard: Shard, marks: ReadMarks, *, code: bool = False, excluded: bool = False) -> dict[str, tuple[int, int | None]]:
    found = Noted()
    for entry in marks.entries():
        found.add(entry)
    told: Numbers = of_shard(shard, found.shards.get(("c", 0)), code=code, excluded=excluded)
    return {name: pair for name, pair in zip(CLASSES, zip(told.nbytes, told.records, strict=True), strict=True) if pair != (0, 0)}


def test_the_first_class_that_holds_counts() -> None:
    marks = ReadMarks()
    marks.read("c", 0, [(0, 8)], "excluded")
    marks.read("c", 0, [(2, 6)])
    marks.shown("c", 0, [(4, 4, 5, 5), (9, 9, 10, 10)])
    assert numbers(ROWS, marks) == {
        "excluded": (400, 4),
        "read_by_code": (300, 3),
        "read_by_model": (200, 2),
        "not_read": (100, 1),
    }
    assert numbers(ROWS, marks, code=True) == {"read_by_code": (800, 8), "read_by_model": (200, 2)}


def test_deleted_rows_are_no_records() -> None:
    shard = replace(ROWS, rows=7, deleted=deletions.pack([3, 4, 9]))
    marks = ReadMarks()
    marks.shown("c", 0, [(row, row, row + 1, row + 1) for row in range(6)])
    assert numbers(shard, marks) == {"read_by_model": (571, 4), "not_read": (429, 3)}


def test_rows_that_nobody_counted() -> None:
    marks = ReadMarks()
    marks.shown("c", 0, [(row, row, row + 1, row + 1) for row in range(4)])
    told = numbers(replace(ROWS, format="csv", rows=None), marks, code=True)
    assert told == {"read_by_code": (600, None), "read_by_model": (400, 4)}


def test_compressed_text_is_an_estimate_that_holds_together() -> None:
    marks = ReadMarks()
    marks.shown("c", 0, [(0, 0, 700, 700)])
    told = numbers(replace(LINES, compression="gzip", nbytes=500), marks, code=True)
    assert told == {"read_by_model": (500, 1)}


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.sampled_from(["code", "model", "excluded"])), max_size=12))
def test_classes_are_disjoint_and_whole(ranges: list[tuple[int, int, str]]) -> None:
    marks = ReadMarks()
    sets: dict[str, set[int]] = {"code": set(), "model": set(), "excluded": set()}
    for low, high, kind in ranges:
        marks.read("c", 0, [(low, high)], kind)
        sets[kind] |= set(range(low, high))
    found = Noted()
    for entry in marks.entries():
        found.add(entry)
    told = of_shard(LINES, found.shards.get(("c", 0)), code=False, excluded=False).nbytes
    model, code, excluded = (sets[name] for name in ("model", "code", "excluded"))
    assert told == (len(excluded - code - model), len(code - model), len(model), 100 - len(model | code | excluded))


def cut(tmp_path: Path) -> Manifest:
    builder = Builder()
    builder.add_object(ObjectInfo("a.log", 30, "1"))
    for start in (0, 10, 20):
        builder.add_shard(start, start + 10, None, 10)
    return Manifest("c", "lines", "line", [], builder.shards("lines", "utf-8"), {"text": "string"})


def test_a_line_over_several_shards_counts_in_each(tmp_path: Path) -> None:
    log = ReadLog(str(tmp_path))
    marks = ReadMarks()
    marks.shown("c", 0, [(5, 5, 25, 25)])
    log.add(marks.entries())
    log.close()
    told = measure(str(tmp_path), {"c": cut(tmp_path)})
    assert told["bytes"]["read_by_model"] == 20
    rows = pyarrow.parquet.read_table(tmp_path / "coverage.parquet").to_pylist()
    assert [(row["model_bytes"], row["model_records"], row["bytes"]) for row in rows] == [(5, 1, 10), (10, 0, 10), (5, 0, 10)]


_MARKS = st.tuples(st.integers(0, 11), st.integers(0, 9), st.integers(0, 30), st.sampled_from(["code", "model", "excluded"]))


@given(
    st.lists(_MARKS, max_size=8),
    st.lists(st.tuples(st.integers(0, 11), st.sampled_from(["code", "excluded"])), max_size=8),
    st.dictionaries(st.integers(0, 11), st.integers(0, 9), max_size=4),
    st.sets(st.integers(0, 11), max_size=3),
)
def test_shards_are_counted_by_columns_as_one_by_one(
    tmp_path_factory: pytest.TempPathFactory,
    marks: list[tuple[int, int, int, str]],
    whole: list[tuple[int, str]],
    counts: dict[int, int],
    failed: set[int],
) -> None:
    """Four objects of three shards of ten bytes each; what is marked may reach over the shards behind, up to the object's end."""
    builder = Builder()
    for number in range(4):
        builder.add_object(ObjectInfo(f"{number}.log", 30, "1"))
        for start in (0, 10, 20):
            builder.add_shard(start, start + 10, None, 10)
    manifest = Manifest("c", "lines", "line", [], builder.shards("lines", "utf-8"), {"text": "string"})
    run = str(tmp_path_factory.mktemp("run"))
    log = ReadLog(run)
    noted = ReadMarks()
    seen_at: dict[str, set[tuple[int, int]]] = {"code": set(), "model": set(), "excluded": set()}
    for shard, skip, length, kind in marks:
        start = 10 * (shard % 3) + skip
        noted.read("c", shard, [(start, stop := min(30, start + length))], kind)
        seen_at[kind] |= {(shard // 3, position) for position in range(start, stop)}
    log.add(noted.entries())
    for shard, kind in whole:
        log.whole(kind, "c", [shard])
    log.counts("c", counts)
    log.close()
    measure(run, {"c": manifest}, [(f"{shard // 3}.log", shard) for shard in failed])
    rows = pyarrow.parquet.read_table(f"{run}/coverage.parquet").to_pylist()
    assert [(row["shard"], row["object"], row["start"], row["failed"]) for row in rows] == [
        (shard, f"{shard // 3}.log", 10 * (shard % 3), shard in failed) for shard in range(12)
    ]
    for row in rows:
        shard = row["shard"]
        model, code, excluded = (
            {at for at in range(10) if (shard // 3, row["start"] + at) in seen_at[kind]} for kind in ("model", "code", "excluded")
        )
        code, excluded = code - model, excluded - model - code
        sizes = {"model": len(model), "code": len(code), "excluded": len(excluded), "unread": 0}
        rest = "code" if (shard, "code") in whole else "excluded" if (shard, "excluded") in whole else "unread"
        sizes[rest] += 10 - sum(sizes.values())
        if rest == "code":
            sizes["code"], sizes["excluded"] = sizes["code"] + sizes["excluded"], 0
        if shard in failed:
            sizes = dict.fromkeys(sizes, 0) | {"unread": 10}
        assert {kind: row[f"{kind}_bytes"] for kind in sizes} == sizes
        if shard in counts and rest == "code" and shard not in failed:
            assert row["records"] == row["code_records"] == counts[shard]


def test_a_record_of_which_a_model_saw_all_spans_was_seen_whole(tmp_path: Path) -> None:
    found = Noted()
    for places, whole in (([(0, 0, 40, 100)], []), ([(0, 40, 100, 100)], [0])):
        marks = ReadMarks()
        marks.shown("c", 0, places)
        for entry in marks.entries():
            found.add(entry)
        assert list(seen(found, "c", LINES)[0]) == whole


@pytest.mark.parametrize("failure", [("a.log", None), ("a.log", 1)])
def test_what_failed_is_not_read(tmp_path: Path, failure: tuple[str, int | None]) -> None:
    found = Noted()
    marks = ReadMarks()
    for shard in range(3):
        marks.whole("c", shard)
    for entry in marks.entries():
        found.add(entry)
    told = counted("c", cut(tmp_path), found, [failure, ("b.log", None), ("b.log", 0)])
    bad = [0, 1, 2] if failure[1] is None else [1]
    assert numpy.flatnonzero(told.failed).tolist() == bad
    assert told.nbytes.tolist() == [[0, 0, 0, 10] if number in bad else [0, 10, 0, 0] for number in range(3)]
