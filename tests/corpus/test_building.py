"""Shards that are cut from a listing all at once."""

from __future__ import annotations

import numpy
import polars
from hypothesis import given
from hypothesis import strategies as st

from rlm_ray.corpus.catalog.building import text_shards


@given(st.lists(st.tuples(st.integers(1, 1_000), st.booleans()), min_size=1, max_size=20), st.integers(1, 400))
def test_shards_cover_each_object_once_and_in_order(objects: list[tuple[int, bool]], shard_bytes: int) -> None:
    names = [f"/lake/{number}.log" for number in range(len(objects))]
    sizes = numpy.array([size for size, _ in objects], numpy.int64)
    whole = numpy.array([is_whole for _, is_whole in objects])
    table = polars.DataFrame({"uri": names, "version": names, "size": sizes})
    shards = text_shards(table, sizes, whole, shard_bytes, "lines", "utf-8", growth=numpy.where(whole, 5, 1))
    left = list(shards)
    assert [shard.index for shard in left] == list(range(len(shards)))
    for number, (size, is_whole) in enumerate(objects):
        mine = [shard for shard in left if shard.object == number]
        assert {(shard.uri, shard.size, shard.rows) for shard in mine} == {(names[number], size, None)}
        assert [shard.start for shard in mine] == ([0] if is_whole else list(range(0, size, shard_bytes)))
        assert [shard.stop for shard in mine] == [*(shard.start for shard in mine[1:]), size]
        assert [shard.nbytes for shard in mine] == [(shard.stop - shard.start) * (5 if is_whole else 1) for shard in mine]


def test_a_document_is_a_record_also_where_it_is_empty() -> None:
    table = polars.DataFrame({"uri": ["/a.txt", "/b.txt"], "version": ["1", "2"], "size": [0, 90]})
    sizes = numpy.array([0, 90])
    shards = text_shards(table, sizes, numpy.array([True, True]), 64, "document", "utf-8", growth=numpy.array([1, 1]))
    assert [(shard.start, shard.stop, shard.rows) for shard in shards] == [(0, 0, 1), (0, 90, 1)]
