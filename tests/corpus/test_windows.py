"""Slices made local by footers alone are those that looking at every shard gives."""

from __future__ import annotations

import random

import pytest

from rlm_ray.corpus.catalog.building import manifest_of_segments
from rlm_ray.corpus.planning import shard_choice, slicing
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.handle.plan import Between, Grep, Select, Window


def manifest(counts):
    return manifest_of_segments(
        "r", [{"uri": f"/s/{n}", "rows": rows, "nbytes": 9} for n, rows in enumerate(counts)], {"a": "string"}
    )


@pytest.mark.parametrize("seed", range(30))
def test_a_plain_slice_is_the_window_that_a_look_at_all_shards_gives(seed):
    draw = random.Random(seed)
    counts = [draw.choice((0, 0, 1, 1, 2, 7)) for _ in range(draw.randrange(8))]
    whole = manifest(counts)
    shards = shard_choice.shards_for(bind((), whole.schema), whole)
    kept = [shard.rows for shard in shards]
    for start in range(sum(counts) + 2):
        for stop in (None, *range(sum(counts) + 3)):
            plain = slicing.plain_window(start, stop, bind((Select(("a",)),), whole.schema), whole)
            looked = slicing.window(start, stop, shards, kept)
            assert _rows(plain, whole) == _rows(looked, whole) == list(range(sum(counts)))[start:stop]


def _rows(window, whole):
    """Return the numbers of the records that a window leaves."""
    found = []
    before = 0
    for shard in whole.shards:
        low, high = bind((window,), whole.schema).row_range(shard)
        assert (low < high) == (shard in shard_choice.shards_for(bind((window,), whole.schema), whole))
        found += range(before + low, before + high)
        before += shard.rows
    return found


def test_filters_need_a_look():
    assert slicing.plain_window(0, 1, bind((Grep("x"),), manifest([1]).schema), manifest([1])) is None


def test_places_name_the_shards_that_are_looked_at():
    whole = manifest([1] * 50)
    part = shard_choice.shards_for(bind((Between((3, 0, 0), (5, 0, 0)),), whole.schema), whole)
    assert [shard.index for shard in part] == [3, 4]
    assert [shard.index for shard in shard_choice.shards_for(bind((Window(7, 0, 8, 1),), whole.schema), whole)] == [7, 8]
    assert shard_choice.shards_for(bind((Window(1 << 40, 0),), whole.schema), whole) == []
