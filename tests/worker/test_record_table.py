"""A corpus as tables of other libraries, against the files that it was made of."""

from __future__ import annotations

import datetime
import decimal
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars
import pyarrow
import pyarrow.parquet
import pytest

import rlm_ray
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.errors import InputError, UnreadShard
from rlm_ray.handle.corpus import Corpus
from rlm_ray.sandbox.inside.backend import Backend
from rlm_ray.settings import Settings
from rlm_ray.worker import record_table

ROWS = 1_000
TABLE = pyarrow.table(
    {
        "n": list(range(ROWS)),
        "when": pyarrow.array([datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)] * ROWS, pyarrow.timestamp("us", "UTC")),
        "price": pyarrow.array([decimal.Decimal("1.50")] * ROWS, pyarrow.decimal128(10, 2)),
        "host": [f"h{n % 7}" for n in range(ROWS)],
        "tags": [["a", "b"]] * ROWS,
        "gone": pyarrow.array([None] * ROWS, pyarrow.int32()),
    }
)
FLAT = TABLE.drop_columns(["tags"])


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "rows"
    folder.mkdir()
    for number in range(9):
        pyarrow.parquet.write_table(TABLE.slice(number * 112, 112), folder / f"{number}.parquet", row_group_size=50)
    return folder


@pytest.fixture
def corpus(lake: Path, run_dir: Path) -> Iterator[Corpus]:
    with rlm_ray.session(Settings(run_dir=str(run_dir))) as session:
        yield session.open(str(lake))


def test_types_and_values_are_those_of_the_files(corpus: Corpus) -> None:
    found = corpus.to_arrow(address=False)
    assert found.select(FLAT.column_names).equals(FLAT)
    assert set(found.column("tags").to_pylist()) == {'["a", "b"]'}


def test_the_address_is_where_the_row_is(corpus: Corpus) -> None:
    found = corpus.where([("n", "==", 500)]).to_arrow()
    assert found.column_names == [*TABLE.column_names, "_address"]
    place = Address.parse(found.column("_address")[0].as_py())
    rows = pyarrow.parquet.read_table(place.object.removeprefix("file://")).slice(place.start, 1)
    assert rows.column("n").to_pylist() == [500]
    assert found.column("_address").to_pylist() == [record["_address"] for record in corpus.where([("n", "==", 500)])]


def test_narrowed_handles_and_slices(corpus: Corpus) -> None:
    assert corpus.where([("host", "==", "h3")]).select("n").to_arrow(address=False).to_pydict() == {"n": list(range(3, ROWS, 7))}
    assert corpus[100:130].select("n").to_polars(address=False)["n"].to_list() == list(range(100, 130))
    assert corpus.grep("no such text").to_arrow().num_rows == 0
    mapped = corpus.map(lambda record: {"twice": 2 * record["n"]}).to_polars(address=False)
    assert mapped["twice"].sort().to_list() == list(range(0, 2 * ROWS, 2))


def test_other_libraries(corpus: Corpus) -> None:
    pandas = pytest.importorskip("pandas")
    assert polars.DataFrame(corpus)["n"].sum() == sum(range(ROWS))  # by the PyCapsule interface
    frame = corpus.to_pandas(address=False)
    assert isinstance(frame, pandas.DataFrame)
    assert (str(frame["n"].dtype), frame["price"].sum()) == ("int64[pyarrow]", decimal.Decimal("1500.00"))
    with duckdb.connect() as connection:
        assert corpus.to_duckdb(connection).filter("host = 'h3'").count("*").fetchall() == [(len(range(3, ROWS, 7)),)]


def test_text_and_spans(tmp_path: Path, run_dir: Path) -> None:
    (tmp_path / "a.log").write_text("one ä\ntwo\n")
    with rlm_ray.session(Settings(run_dir=str(run_dir))) as session:
        lines = session.open(str(tmp_path / "a.log"))
        assert lines.to_polars(address=False)["text"].to_list() == ["one ä", "two"]
        spans = lines.split(by=" ")
        assert spans.to_polars()["_address"].to_list() == [record["_address"] for record in spans]


def test_batches_are_read_as_they_are_taken(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    kept = record_table.Work.scan
    monkeypatch.setattr(record_table.Work, "scan", lambda work, *args, **more: read.append(work) or kept(work, *args, **more))
    batches = corpus.to_batches()
    assert next(batches).num_rows > 0
    assert len(read) <= record_table.THREADS + 1
    del batches
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rlm-ray-table") and not _ends(thread)]


def _ends(thread: threading.Thread) -> bool:
    thread.join(5)
    return not thread.is_alive()


def test_a_shard_that_cannot_be_read_is_left_out_and_said(corpus: Corpus, lake: Path) -> None:
    (lake / "3.parquet").unlink()
    with pytest.warns(UnreadShard, match=r"3\.parquet is left out"):
        assert corpus.to_arrow().num_rows == ROWS - 112


def test_parquet_files(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = corpus.write_parquet(str(out), file_bytes=20_000)
    assert len(names) > 1
    back = pyarrow.parquet.read_table(out)
    assert back.select(FLAT.column_names).equals(FLAT)
    with pytest.raises(InputError, match="has objects already"):
        corpus.write_parquet(str(out))
    assert corpus.grep("no such text").write_parquet(str(tmp_path / "empty"), address=False)
    assert pyarrow.parquet.read_table(tmp_path / "empty").schema.names == TABLE.column_names


def test_a_delta_table(corpus: Corpus, tmp_path: Path) -> None:
    place = corpus.write_delta(str(tmp_path / "delta"))
    assert polars.read_delta(place)["n"].sum() == sum(range(ROWS))
    with pytest.raises(InputError, match="mode is 'merge'"):
        corpus.write_delta(place, mode="merge")


def test_delta_holds_every_value_or_refuses(tmp_path: Path, run_dir: Path) -> None:
    most = {"u8": 2**8 - 1, "u16": 2**16 - 1, "u32": 2**32 - 1, "u64": 2**64 - 1}
    columns = {name: pyarrow.array([value], getattr(pyarrow, f"uint{name[1:]}")()) for name, value in most.items()}
    whole = columns | {"t": pyarrow.array([1_700_000_000_123_456_000], pyarrow.timestamp("ns"))}
    finer = {"t": pyarrow.array([1_700_000_000_123_456_789], pyarrow.timestamp("ns"))}
    with rlm_ray.session(Settings(run_dir=str(run_dir))) as session:
        for name, table in (("whole", whole), ("finer", finer)):
            (tmp_path / name).mkdir()
            pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / name / "x.parquet")
        place = session.open(str(tmp_path / "whole")).write_delta(str(tmp_path / "delta"), address=False)
        (row,) = polars.read_delta(place).to_dicts()
        assert {name: int(row[name]) for name in most} == most
        assert row["t"] == datetime.datetime(2023, 11, 14, 22, 13, 20, 123456)
        with pytest.raises(InputError, match="Column 't' has values that a Delta table does not hold exactly"):
            session.open(str(tmp_path / "finer")).write_delta(str(tmp_path / "delta2"))


def test_root_code_is_told_what_to_do_instead() -> None:
    with pytest.raises(InputError, match=r"Compute with \.sql"):
        Backend.table(None, None, {})  # type: ignore[arg-type]  # needs neither
