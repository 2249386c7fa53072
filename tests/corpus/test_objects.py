"""What names say, asked of columns as of one name."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from rlm_ray.corpus.catalog.objects import classify, kind_of, table_of
from rlm_ray.storage import ObjectInfo

_NAMES = st.lists(st.sampled_from([".", "a", "gz", "parquet", "PQ", "zst", "csv", "jsonl", "log", "\n", " ", "é"]), min_size=1)


@given(st.lists(_NAMES.map("".join), min_size=1, max_size=20))
@example(["x...gz", "..gz", "a..gz", ".hidden.csv", "a.b.jsonl.zst", "A.PQ", "...", "a.log\n"])
def test_a_column_of_names_says_what_each_says(names: list[str]) -> None:
    infos = [ObjectInfo(f"/lake.d/x/{name}", 1, "v") for name in names]
    for info in infos:
        table, unnamed = table_of([info])
        assert not unnamed
        kind, _, listed = classify(table, None, None)
        assert (kind, listed["compression"][0]) == kind_of(info.uri), info.uri


def test_names_that_are_no_text_are_told_apart() -> None:
    infos = [ObjectInfo("/lake/a.log", 1, "v"), ObjectInfo("/lake/b\udcff.log", 2, "w")]
    table, unnamed = table_of(infos)
    assert table.rows() == [("/lake/a.log", 1, "v")]
    assert unnamed == ["/lake/b\\udcff.log"]
