"""What is counted by one query over several shards, and by codes, is what each shard gives by itself; so are the failures."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.corpus import opening
from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations import counting, operations
from rlm_ray.corpus.planning import shard_choice
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.parquet import dictionary_codes, polars_rows, row_groups
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, ObjectChanged, ObjectUnreadable
from rlm_ray.handle.plan import Between, Grep, Select, Split, Step, Where, Window

ROWS = 60


def _write(base: Path) -> list[dict[str, Any]]:
    """Three files of a day each, in row groups of 16 rows."""
    draw = random.Random(7)
    records = []
    for number in range(3):
        rows = [
            {
                "n": ROWS * number + index,
                "host": draw.choice(["h1", "h2", "h3", None]),
                "took": draw.choice([1, 2, 3, None]),
                "text": f"line {index} of {number}",
            }
            for index in range(ROWS)
        ]
        path = base / f"day={number}" / "part.parquet"
        path.parent.mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=16)
        records += [row | {"day": number} for row in rows]
    return records


@pytest.fixture
def days(tmp_path: Path) -> Manifest:
    """Those files, cut into several shards each."""
    _write(tmp_path)
    return open_manifest(str(tmp_path), shard_bytes=1_500)


@pytest.fixture
def joint(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many shards each query over several was over."""
    seen: list[int] = []
    ask = polars_rows.together

    def together(queries: Any, reduce: Any) -> Any:
        seen.append(len(queries))
        return ask(queries, reduce)

    monkeypatch.setattr(polars_rows, "together", together)
    return seen


def _works(manifest: Manifest, *steps: Step) -> list[Work]:
    return [Work(shard, bind(steps, manifest.schema)) for shard in shard_choice.shards_for(bind(steps, manifest.schema), manifest)]


def _by_itself(name: str, works: list[Work], args: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    for work in works:
        found += operations.run_all(name, [work], args)
    return found


def _good(partials: list[Any]) -> list[Any]:
    return [partial for partial in partials if not isinstance(partial, Exception)]


SOME = Where((("n", ">=", 5),))
PLANS: list[tuple[Step, ...]] = [
    (SOME,),
    (Where((("host", "==", "h1"), ("day", "!=", 1))), Grep("line [0-9]*3")),
    (Grep("nothing has this"),),
    (Select(("n", "took")), Where((("took", "in", (1, None)),))),
    (Between((1, 3, 0), (8, 40, 0)), SOME),
    (SOME, Window(first=1, skip=2, last=7, take=3)),
    (Split("text", "line"), SOME),
]


@pytest.mark.parametrize("steps", PLANS, ids=str)
def test_shards_together_give_what_each_gives(days: Manifest, joint: list[int], steps: tuple[Step, ...]) -> None:
    works = _works(days, *steps)
    alone = _by_itself("count", works, {})
    assert not joint
    assert operations.run_all("count", works, {}) == alone
    by_value = any(isinstance(step, Window | Split) for step in steps)
    assert bool(joint) != by_value
    for column in ("took", "n", "day"):
        if column in bind(steps, days.schema).columns:
            args = {"column": column, "limit": 1_000}
            expected = operations.merge("count_by", _by_itself("count_by", works, args), args)
            assert operations.merge("count_by", operations.run_all("count_by", works, args), args) == expected


def test_counts_are_those_of_the_rows(tmp_path: Path, joint: list[int]) -> None:
    rows = _write(tmp_path)
    manifest = open_manifest(str(tmp_path), shard_bytes=1_500)
    works = _works(manifest, SOME)
    counts = operations.run_all("count", works, {})
    assert joint == [len(works)]
    at = 0
    for work, count in zip(works, counts, strict=True):
        rows_here = work.shard.stop - work.shard.start
        assert count == sum(row["n"] >= 5 for row in rows[at : at + rows_here])
        at += rows_here
    for column in ("host", "took", "n", "day"):
        args = {"column": column, "limit": 1_000}
        for steps in ((), (SOME,)):
            counted = operations.merge("count_by", operations.run_all("count_by", _works(manifest, *steps), args), args)
            expected = Counter(str(row[column]) if column == "day" else row[column] for row in rows if not steps or row["n"] >= 5)
            assert dict(counted["counts"]) == expected


def test_values_are_counted_in_portions(days: Manifest, joint: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    works, args = _works(days), {"column": "took", "limit": 9}
    rows = [work.shard.stop - work.shard.start for work in works]
    monkeypatch.setattr(counting, "_MOST_ROWS", 2 * max(rows))
    expected = operations.merge("count_by", _by_itself("count_by", works, args), args)
    assert operations.merge("count_by", operations.run_all("count_by", works, args), args) == expected
    assert len(joint) > 1
    assert 2 <= max(joint) <= 2 * max(rows) // min(rows)


def test_deleted_rows_and_rows_at_hand_are_counted_together(days: Manifest, joint: list[int]) -> None:
    works = _works(days, SOME)
    gone = replace(works[1].shard, deleted=deletions.pack([works[1].shard.start]))
    works[1] = replace(works[1], shard=gone)
    works[2] = replace(works[2], table=pyarrow.parquet.read_table(works[2].shard.uri)[:4])
    counts = operations.run_all("count", works, {})
    assert joint == [len(works)]
    assert counts == _by_itself("count", works, {})
    assert counts[1] == gone.stop - gone.start - 1


def test_footers_that_were_not_read_are_read_once(tmp_path: Path, joint: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _write(tmp_path)
    monkeypatch.setattr(opening, "MAX_FOOTERS", 1)
    monkeypatch.setattr(opening, "SOME_FOOTERS", 2)
    manifest = open_manifest(str(tmp_path))
    works = _works(manifest, Where((("took", "==", 1),)))
    assert [work.shard.rows for work in works] == [ROWS, None, ROWS]
    counts = operations.run_all("count", works, {})
    assert joint == [3]
    assert counts == [sum(row["took"] == 1 for row in rows if row["day"] == day) for day in range(3)]
    assert operations.run_all("count", _works(manifest), {}) == [ROWS] * 3
    (tmp_path / "day=1" / "part.parquet").write_bytes(b"PAR1")
    found = operations.run_all("count", works, {})
    assert [isinstance(partial, ObjectChanged) for partial in found] == [False, True, False]
    assert _good(found) == counts[::2]


def test_what_footers_say_is_not_asked(days: Manifest, joint: list[int]) -> None:
    works = _works(days)
    assert operations.run_all("count", works, {}) == [work.shard.stop - work.shard.start for work in works]
    assert not joint


def test_a_damaged_shard_fails_alone(days: Manifest, joint: list[int]) -> None:
    works = _works(days, SOME)
    good = operations.run_all("count", works, {})
    damaged = works[-1].shard
    data = bytearray(Path(damaged.uri).read_bytes())
    metadata = pyarrow.parquet.read_metadata(damaged.uri)
    for index in range(metadata.num_row_groups):
        chunk = metadata.row_group(index).column(0)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    Path(damaged.uri).write_bytes(data)
    works = [work if work.shard.uri != damaged.uri else replace(work, shard=replace(work.shard, version="")) for work in works]
    found = operations.run_all("count", works, {})
    bad = [number for number, work in enumerate(works) if work.shard.uri == damaged.uri]
    assert joint == [len(works), len(works)]
    assert [number for number, partial in enumerate(found) if isinstance(partial, ObjectUnreadable)] == bad
    assert _good(found) == [count for number, count in enumerate(good) if number not in bad]
    assert [str(found[number]) for number in bad] == [str(error) for error in _by_itself("count", [works[n] for n in bad], {})]


def test_a_changed_object_is_left_out_alone(days: Manifest, joint: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    works = _works(days, SOME)
    good = operations.run_all("count", works, {})
    changed = works[0].shard.uri
    ask = polars_rows.together

    def change_after(queries: Any, reduce: Any) -> Any:
        found = ask(queries, reduce)
        Path(changed).write_bytes(Path(changed).read_bytes() + b"more")
        return found

    for change in (change_after, ask):  # while it is read, and before
        monkeypatch.setattr(polars_rows, "together", change)
        for name, args in (("count", {}), ("count_by", {"column": "took", "limit": 9})):
            found = operations.run_all(name, works, args)
            failed = [isinstance(partial, ObjectChanged) for partial in found]
            assert failed == [work.shard.uri == changed for work in works]
            if name == "count":
                assert _good(found) == good[sum(failed) :]
    assert len(joint) == 2


def test_an_error_of_the_plan_is_raised(days: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no column 'hots'"):
        operations.run_all("count_by", _works(days), {"column": "hots", "limit": 5})
    monkeypatch.setattr(counting, "MAX_DISTINCT", 20)
    with pytest.raises(InputError, match="more than 20 different values"):
        operations.run_all("count_by", _works(days), {"column": "n", "limit": 5})


def test_equal_values_of_several_types_stay_apart() -> None:
    partials = [[("true", 1), (True, 2), (None, 3), ("null", 4)], [(1, 5), ("1", 6), (True, 1), ("true", 1), ([1, {"a": 2}], 7)]]
    merged = operations.merge("count_by", partials, {"column": "any", "limit": 10})
    assert merged == {
        "counts": [[[1, {"a": 2}], 7], ["1", 6], [1, 5], ["null", 4], [None, 3], [True, 3], ["true", 2]],
        "distinct": 7,
    }


# -- codes


def _shards(path: Path, shard_bytes: int = 1 << 20) -> list[Work]:
    return _works(open_manifest(str(path), shard_bytes=shard_bytes))


TEXTS = st.lists(st.sampled_from(["a", "b", "a longer text", "", "ü", None]), min_size=1, max_size=80)


@given(values=TEXTS, group=st.integers(1, 50), part=st.tuples(st.integers(0, 80), st.integers(0, 80)), batch=st.integers(1, 30))
def test_codes_count_what_the_rows_have(
    tmp_path_factory: pytest.TempPathFactory, values: list[str | None], group: int, part: tuple[int, int], batch: int
) -> None:
    path = tmp_path_factory.mktemp("codes") / "one.parquet"
    column = "the.host"
    table = pyarrow.table({column: pyarrow.array(values, pyarrow.string()), "n": range(len(values))})
    pyarrow.parquet.write_table(table, path, row_group_size=group)
    (work,) = _shards(path)
    low, high = min(*part, len(values)), min(max(part), len(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dictionary_codes, "_MOST_BYTES", 1_000)
        patch.setattr(dictionary_codes, "_BATCH_ROWS", batch)
        patch.setattr(row_groups, "is_part", lambda *_: False)
        assert dictionary_codes.counts(work.shard, work.plan.schema, column, low, high) == Counter(values[low:high])


def test_codes_that_give_way_to_texts_count_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.parquet"
    values = ["first"] * 2_000 + [f"text {number}" for number in range(500)] + ["last"] * 2_000
    # the dictionary is full half way: the pages behind are stored without
    options: dict[str, Any] = {"dictionary_pagesize_limit": 64, "data_page_size": 64, "write_batch_size": 16}
    pyarrow.parquet.write_table(pyarrow.table({"host": values}), path, **options)
    (work,) = _shards(path)
    assert dictionary_codes.counts(work.shard, work.plan.schema, "host", 0, len(values)) is None
    args = {"column": "host", "limit": 3}
    expected = {"counts": [["first", 2_000], ["last", 2_000], ["text 0", 1]], "distinct": 502}
    assert operations.merge("count_by", operations.run_all("count_by", [work], args), args) == expected
    monkeypatch.setattr(dictionary_codes, "_MOST_BYTES", 1_000)
    assert dictionary_codes.counts(work.shard, work.plan.schema, "host", 0, len(values)) == Counter(values)


def _plain(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"host": ["h"] * 9}), path, use_dictionary=False)


def _number(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"host": [1] * 9}), path)


def _nested(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"host": [["h"]] * 9}), path)


def _no_text(path: Path) -> None:
    bytes_ = pyarrow.array([b"\xff\xfe"] * 900, pyarrow.binary())
    pyarrow.parquet.write_table(pyarrow.table({"host": pyarrow.Array.from_buffers(pyarrow.string(), 900, bytes_.buffers())}), path)


@pytest.mark.parametrize("write", [_plain, _number, _nested, _no_text])
def test_what_is_no_text_in_codes_is_left_to_others(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "one.parquet")
    (work,) = _shards(tmp_path)
    assert dictionary_codes.counts(work.shard, work.plan.schema, "host", 0, work.shard.stop) is None


def test_codes_of_a_changed_object_are_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"host": ["h"] * 900}), path)
    (work,) = _shards(path)
    assert dictionary_codes.counts(work.shard, work.plan.schema, "host", 0, 900) == {"h": 900}
    path.write_bytes(path.read_bytes() + b"more")
    assert dictionary_codes.counts(work.shard, work.plan.schema, "host", 0, 900) is None
    (found,) = operations.run_all("count_by", [work], {"column": "host", "limit": 1})
    assert isinstance(found, ObjectChanged)
