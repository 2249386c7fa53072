"""What SQL gets of a Parquet file is what a scan gives, though another reader reads it, and few texts as numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.planning import shard_choice
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading import tables
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import ObjectUnreadable
from rlm_ray.handle.plan import Select, Where

Write = Callable[..., None]
PIECE = 1 << 20


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def one(name: str, columns: dict[str, Any], **options: Any) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / name, **options)

    return one


def works(folder: Path, *steps: Any) -> list[Work]:
    manifest = open_manifest(str(folder))
    return [Work(shard, bind(steps, manifest.schema)) for shard in shard_choice.shards_for(bind(steps, manifest.schema), manifest)]


def rows(found: Sequence[Any]) -> list[dict[str, Any]]:
    return [row for part in found for row in part.to_pylist()]


def check(found: list[Work], columns: Sequence[str]) -> list[pyarrow.Table]:
    """The pieces of all works, after they were compared with scans."""
    pieces = [list(tables.pieces(work, columns, PIECE)) for work in found]
    for work, some in zip(found, pieces, strict=True):
        assert rows(some) == rows([batch.select(list(columns)) for batch in work.scan(columns=list(columns))])
    return [piece for some in pieces for piece in some]


def kinds(piece: pyarrow.Table) -> dict[str, bool]:
    return {field.name: pyarrow.types.is_dictionary(field.type) for field in piece.schema}


def test_texts_of_few_values_stay_numbers(write: Write, tmp_path: Path) -> None:
    write(
        "x.parquet",
        {
            "host": [f"node-{number % 7}" if number % 5 else None for number in range(5_000)],
            "note": [f"note {number} of many that are no two alike" for number in range(5_000)],
            "n": list(range(5_000)),
        },
        row_group_size=900,
    )
    (work,) = works(tmp_path)
    pieces = check([work], ["host", "note", "n"])
    assert kinds(pieces[0]) == {"host": True, "note": False, "n": False}
    assert sum(piece.num_rows for piece in pieces) == 5_000
    (narrow,) = works(tmp_path, Select(("n", "host")))
    assert kinds(check([narrow], ["host"])[0]) == {"host": True}


def test_what_is_filtered_or_has_addresses_comes_from_the_scan(write: Write, tmp_path: Path) -> None:
    write("x.parquet", {"host": ["a", "b"] * 10, "n": list(range(20))})
    (work,) = works(tmp_path, Where((("n", "<", 5),)))
    assert rows(check([work], ["host"])) == [{"host": "a"}, {"host": "b"}] * 2 + [{"host": "a"}]
    (whole,) = works(tmp_path)
    (piece,) = tables.pieces(whole, ["host", "_address"], PIECE)
    assert piece.column("_address")[3].as_py().endswith("#row=3")


def test_folders_types_that_differ_and_nested_columns(write: Write, tmp_path: Path) -> None:
    nested = {"tags": [["x"], None, []], "who": [{"id": 1}, {"id": 2}, None]}
    write("day=1/x.parquet", {"k": ["a", "b", "a"], "n": [1, 2, 3], **nested})
    write("day=2/x.parquet", {"k": ["c", None, "c"], "n": [1.5, None, 2.5], "_pos": ["p", "q", "p"], "a.b": ["d", "d", "d"]})
    write("day=2/y.parquet", {"k": [1, 2, 3]})
    found = works(tmp_path)
    columns = [*found[0].plan.schema]
    assert {"day", "pos_", "tags", "who", "a.b"} <= {*columns}
    check(found, columns)
    assert rows(check(found, ["day"]))[::3] == [{"day": "1"}, {"day": "2"}, {"day": "2"}]


def test_a_dictionary_that_the_writer_gave_up(write: Write, tmp_path: Path) -> None:
    texts = [f"{number % 3_000:08d}" for number in range(20_000)]
    write("x.parquet", {"t": texts, "u": [text[-1] for text in texts]}, dictionary_pagesize_limit=1_000, data_page_size=1_000)
    check(works(tmp_path), ["t", "u"])


def test_a_shard_that_is_a_part_of_a_file(write: Write, tmp_path: Path) -> None:
    write("x.parquet", {"host": [f"h{number // 1_000}" for number in range(6_000)]}, row_group_size=1_000)
    manifest = open_manifest(str(tmp_path), shard_bytes=1)
    found = [Work(shard, bind((), manifest.schema)) for shard in manifest.shards]
    assert len(found) == 6
    pieces = check(found, ["host"])
    assert [row["host"] for row in rows(pieces)] == [f"h{number // 1_000}" for number in range(6_000)]


def test_long_texts_of_a_dictionary_count_as_they_are_written_out(write: Write, tmp_path: Path) -> None:
    write("x.parquet", {"t": ["a" * 8_000, "b" * 8_000] * 1_000})
    (work,) = works(tmp_path)
    pieces = check([work], ["t"])
    assert kinds(pieces[0]) == {"t": True}
    assert all(piece.num_rows * 8_000 <= 2 * PIECE for piece in pieces)


def test_a_damaged_file_is_told_as_a_scan_tells_it(write: Write, tmp_path: Path) -> None:
    write("x.parquet", {"host": ["a", "b", "c", "d"] * 5_000}, compression="none", row_group_size=5_000)
    path = tmp_path / "x.parquet"
    data = bytearray(path.read_bytes())
    footer = pyarrow.parquet.read_metadata(path)
    start = footer.row_group(1).column(0).data_page_offset
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(data)
    (work,) = works(tmp_path)
    with pytest.raises(ObjectUnreadable) as scanned:
        list(work.scan(columns=["host"]))
    with pytest.raises(ObjectUnreadable) as read:
        list(tables.pieces(work, ["host"], PIECE))
    assert str(read.value).partition(":")[0] == str(scanned.value).partition(":")[0]
