"""Ranges of row groups: a filter leaves out shards that it cannot match, and never one that it can."""

from __future__ import annotations

import dataclasses
import datetime
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.corpus.catalog.manifest import Manifest, Shards
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.planning import shard_choice
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.handle.plan import Grep, Select, Slice, Split, Where

_WHEN = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1))
_COLUMNS: dict[str, tuple[Any, Any]] = {
    "n": (pyarrow.int32(), st.integers(-3, 3)),
    "x": (pyarrow.float64(), st.floats(-2, 2) | st.just(float("nan")) | st.just(0.0) | st.just(-0.0)),
    "s": (pyarrow.string(), st.text(st.sampled_from("aü\U0001f600"), max_size=3) | st.just("a" * 100) | st.just("ü" * 99)),
    "t": (pyarrow.timestamp("us", "UTC"), _WHEN.map(lambda when: when.replace(tzinfo=datetime.UTC))),
    "ns": (pyarrow.timestamp("ns"), _WHEN),
    "d": (pyarrow.date32(), st.dates(datetime.date(2026, 1, 1), datetime.date(2026, 1, 5))),
    "b": (pyarrow.bool_(), st.booleans()),
}


def without_ranges(manifest: Manifest) -> Manifest:
    shards = manifest.shards
    return dataclasses.replace(manifest, shards=Shards(shards.objects, shards.table, shards.format, shards.encoding))


def value_of(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.date) else value


@given(st.data(), st.sampled_from(list(_COLUMNS)), st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in"]))
def test_no_record_is_lost(kit: SimpleNamespace, data: Any, column: str, compared: str) -> None:
    kind, values = _COLUMNS[column]
    rows = data.draw(st.lists(st.none() | values, min_size=1, max_size=24))
    given = values.map(value_of)
    wanted = data.draw(st.lists(st.none() | given, max_size=4).map(tuple) if "in" in compared else given)
    table = pyarrow.table({column: pyarrow.array(rows, kind), "other": pyarrow.array(range(len(rows)))})
    uri = kit.parquet(table, f"{kit.folder()}/a.parquet", row_group_size=3)
    manifest = open_manifest(uri, shard_bytes=1)
    assert manifest.shards.ranges is not None
    step = Where(((column, compared, wanted),))
    # as texts: NaN equals nothing
    assert repr(kit.records(manifest, step)) == repr(kit.records(without_ranges(manifest), step))
    cut = [step, Slice(1, 4)]
    assert repr(kit.records(manifest, *kit.local(manifest, cut))) == repr(kit.records(manifest, step)[1:4])


@pytest.fixture
def days(kit: SimpleNamespace) -> Manifest:
    """Ten row groups, a day each."""
    base = kit.folder()
    for part in range(2):
        stamps = [datetime.datetime(2026, 1, 1 + part * 5 + number // 10, number % 10) for number in range(50)]
        text = [f"host-{number % 10} {'x' * 40}" for number in range(50)]
        kit.parquet(pyarrow.table({"ts": stamps, "text": text}), f"{base}/{part}.parquet", row_group_size=10)
    return open_manifest(base, shard_bytes=1)


def test_what_a_filter_would_read_is_known_before(kit: SimpleNamespace, days: Manifest) -> None:
    everything = shard_choice.reading(bind((), days.schema), days)
    assert (everything["shards"], everything["of_shards"]) == (10, 10)
    assert everything["nbytes"] == everything["of_nbytes"] == days.nbytes
    late = Where((("ts", ">=", "2026-01-08"),))
    bound = bind((late,), days.schema)
    assert shard_choice.reading(bound, days)["shards"] == 3
    assert (
        shard_choice.reading(bind((late, Select(("ts",))), days.schema), days)["nbytes"]
        < shard_choice.reading(bound, days)["nbytes"]
        < days.nbytes * 0.4
    )
    assert 0 < shard_choice.share_read(bound, (), days) < 0.4 < shard_choice.share_read(bound, ("text",), days) == 1.0
    assert shard_choice.share_read(bind((), days.schema), (), days) == 0.0
    assert (
        shard_choice.reading(bind((Where((("ts", "==", "2026-01-02 03:00:00"),)), Grep("host")), days.schema), days)["shards"] == 1
    )
    assert shard_choice.reading(bind((Where((("text", ">", "host-9y"),)),), days.schema), days)["shards"] == 0
    assert kit.operate(days, "count", late) == 30
    two = Where((("ts", "in", ("2026-01-02 03:00:00", "2026-01-09 04:00:00", "2027-01-01")),))
    assert shard_choice.reading(bind((two,), days.schema), days)["shards"] == kit.operate(days, "count", two) == 2
    assert shard_choice.reading(bind((Where((("ts", "in", ("2026-01-02 03:00:00", None)),)),), days.schema), days)["shards"] == 10
    assert kit.operate(days, "count", Where((("text", ">", "host-9y"),))) == 0


def test_ranges_are_saved_with_the_manifest(kit: SimpleNamespace, days: Manifest) -> None:
    folder = kit.folder()
    days.save(folder)
    loaded = Manifest.load(folder)
    assert loaded.shards.ranges == days.shards.ranges
    assert loaded.fingerprint == days.fingerprint == without_ranges(days).fingerprint


def test_spans_are_no_longer_what_a_footer_counts(kit: SimpleNamespace, days: Manifest) -> None:
    steps = (Split("text", r"\s"), Where((("text", ">", "w"),)))
    assert shard_choice.reading(bind(steps, days.schema), days)["shards"] == 10
    assert kit.operate(days, "count", *steps) == 100


def test_files_that_store_a_column_otherwise_are_read(kit: SimpleNamespace) -> None:
    base = kit.folder()
    kit.parquet(pyarrow.table({"n": pyarrow.array([1, 2], pyarrow.int64())}), f"{base}/a.parquet")
    kit.parquet(pyarrow.table({"n": pyarrow.array([7.5, 8.5])}), f"{base}/b.parquet")
    kit.parquet(pyarrow.table({"m": pyarrow.array([1])}), f"{base}/c.parquet")
    manifest = open_manifest(base)
    assert manifest.schema["n"] == "double"
    assert kit.operate(manifest, "count", Where((("n", "<=", 1),))) == 1
    assert kit.operate(manifest, "count", Where((("n", ">", 2),))) == 2
    assert kit.operate(manifest, "count", Where((("n", "==", None),))) == 1
