from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.errors import InputError
from rlm_ray.worker import queries
from tests.recursion.conftest import World

Make = Callable[..., World]


def plain(rows: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]


def test_a_query_with_combine_is_exact_over_all_shards(world: Make) -> None:
    made = world(shard_bytes=300)
    assert made["logs"].shards > 3
    counted = made["logs"].sql(
        "select split_part(text, ' ', 1) service, count(*) n, sum(length(text)) chars from context group by 1",
        combine="select service, sum(n) n, sum(chars) chars from context group by service order by service",
    )
    assert counted.schema == {"service": "string", "n": "int64", "chars": "int64"}
    rows = plain(counted)
    assert [(row["service"], row["n"]) for row in rows] == [("auth", 40), ("cart", 40), ("mail", 40)]
    assert sum(row["chars"] for row in rows) == made["logs"].aggregate(
        lambda rs: sum(len(r["text"]) for r in rs), lambda a, b: a + b
    )


def test_without_combine_it_is_the_union_of_the_shards(world: Make) -> None:
    made = world()
    assert plain(made["rows"].sql("select count(*) n from context")) == [{"n": 50}, {"n": 50}]
    errors = made["logs"].sql("select text, _address from context where text like '%ERROR%'")
    assert errors.count() == 30
    direct = [record["_address"] for record in made["logs"].grep("ERROR")]
    assert [record["_address"] for record in errors] == direct


def test_the_result_is_a_corpus_like_any_other(world: Make) -> None:
    made = world()
    result = made["rows"].where([("n", "<", 60)]).sql("select kind, n, _address from context")
    assert result.count_by("kind") == {"k0": 20, "k1": 20, "k2": 20}
    assert plain(result.sql("select max(n) m from context")) == [{"m": 59}]
    assert result.failed.count() == 0


def test_only_the_columns_that_the_query_reads_are_read(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, ...]] = []
    real = queries.tables.pieces
    monkeypatch.setattr(queries.tables, "pieces", lambda work, columns, size: (read.append(columns), real(work, columns, size))[1])
    made = world()
    made["rows"].sql("select count(*) c from context where kind = 'k1'").head(1)
    made["rows"].sql("select 1 as one from context").head(1)
    made["rows"].sql("from context").head(1)
    assert read[:2] == [("kind",)] * 2
    assert read[2:4] == [("n",)] * 2
    assert {"n", "kind", "msg", "_address"} <= set(read[4])


def test_a_count_over_nothing_is_zero(world: Make) -> None:
    made = world()
    nothing = made["logs"].grep("no such thing at all")
    counted = nothing.sql("select count(*) n from context", combine="select sum(n) n from context")
    assert plain(counted) == [{"n": 0}]
    empty = nothing.sql("select text from context")
    assert empty.count() == 0
    assert empty.columns == ["text"]
    assert plain(empty.sql("select count(*) n from context")) == [{"n": 0}]


def test_pieces_bound_what_a_query_sees_at_once(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "PIECE_BYTES", 1)
    made = world()
    rows = made["rows"].sql("select count(*) n, min(n) low from context", combine="select sum(n) n, min(low) low from context")
    assert plain(rows) == [{"n": 100, "low": 0}]


def test_with_combine_small_shards_are_asked_together(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world()
    query, combine = "select count(*) n, min(n) low from context", "select count(*) parts, sum(n) n, min(low) low from context"
    assert plain(made["rows"].sql(query, combine=combine)) == [{"parts": 1, "n": 100, "low": 0}]
    assert made["rows"].sql(query).count() == 2
    monkeypatch.setattr(queries, "PIECE_BYTES", 1)
    assert plain(made["rows"].sql(query, combine=combine)) == [{"parts": 2, "n": 100, "low": 0}]


def test_parquet_with_few_texts_and_with_none(world: Make, tmp_path: Path) -> None:
    made = world()
    folder = tmp_path / "mixed"
    for number, hosts in enumerate((["a", "b"] * 50, [f"a{n}" for n in range(100)], None)):
        (folder / f"day={number}").mkdir(parents=True)
        columns = {"n": list(range(100))} | ({} if hosts is None else {"host": hosts})
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"day={number}" / "x.parquet")
    made._corpora["mixed"] = open_manifest(str(folder), name="mixed")
    query = "select day, left(host, 1) host, count(*) n, sum(n) total from context group by all"
    combine = "select day, host, sum(n) n, sum(total) total from context group by all order by all"
    expected = [("0", "a", 50, 2450), ("0", "b", 50, 2500), ("1", "a", 100, 4950), ("2", None, 100, 4950)]
    for found in (made["mixed"].sql(query, combine=combine), made["mixed"].sql(query)):
        assert sorted((row["day"], row["host"], row["n"], row["total"]) for row in found) == expected


def test_partial_results_that_are_too_large_together(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "WHOLE_BYTES", 100)
    with pytest.raises(InputError, match="Aggregate more"):
        world()["rows"].sql("select * exclude (_address) from context", combine="select count(*) from context")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select nothing from context", "nothing"),
        ("selekt", "selekt"),
        ("", "single statement"),
        ("select 1; select 2", "single statement"),
        ("create table x as select 1", "single statement"),
        ("copy context to '/tmp/rlm-ray-made.csv'", "single statement"),
        ("select * from read_text('/etc/hostname')", "disabled|Permission"),
        ("select n, n from context", "same name|have the name"),
        ("select n as _mine from context", "ours"),
        ("select cast(msg as int) x from context", "Could not convert|Conversion"),
    ],
)
def test_a_query_that_does_not_fit_is_told(world: Make, query: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        world()["rows"].sql(query)
    assert not Path("/tmp/rlm-ray-made.csv").exists()


def test_a_combine_that_does_not_fit_is_told(world: Make) -> None:
    with pytest.raises(InputError, match="nothing"):
        world()["rows"].sql("select n from context", combine="select nothing from context")


def test_where_the_walls_cannot_hold_an_engine_it_is_refused(world: Make) -> None:
    with pytest.raises(InputError, match="noopen"):
        world(isolation="noopen")["rows"].sql("select 1 as x")


def test_addresses_that_a_query_makes_up_are_none(world: Make) -> None:
    rows = list(world()["rows"].sql("select n, 'anything' as _address from context limit 2"))
    assert all("/segments/" in row["_address"] for row in rows)  # its own place in the result, not "anything"


def test_an_unreadable_shard_is_reported_and_the_rest_counts(world: Make, tmp_path: Path) -> None:
    made = world()
    folder = tmp_path / "damaged"
    folder.mkdir()
    for number in range(2):
        pyarrow.parquet.write_table(pyarrow.table({"n": [1, 2, 3]}), folder / f"{number}.parquet")
    manifest = open_manifest(str(folder), name="damaged")
    (folder / "1.parquet").unlink()
    made._corpora["damaged"] = manifest
    total = made["damaged"].sql("select count(*) n from context", combine="select sum(n) n from context")
    assert plain(total) == [{"n": 3}]
    (failure,) = made.service.failures.failures.values()
    assert failure.object.endswith("1.parquet")


def test_values_keep_their_meaning(world: Make, tmp_path: Path) -> None:
    made = world()
    folder = tmp_path / "typed"
    folder.mkdir()
    table = pyarrow.table(
        {
            "when": pyarrow.array([0], pyarrow.timestamp("us", "UTC")),
            "price": pyarrow.array(["1.50"]).cast(pyarrow.decimal128(10, 2)),
            "tags": [["a", "b"]],
            "big": [2**62],
        }
    )
    pyarrow.parquet.write_table(table, folder / "x.parquet")
    made._corpora["typed"] = open_manifest(str(folder), name="typed")
    (row,) = made["typed"].sql(
        "select \"when\", price, tags, json_extract_string(tags, '$[1]') other, big, sum(big) over () total, "
        "\"when\" - timestamptz '1969-12-31' as ago from context"
    )
    assert row["when"].startswith("1970-01-01T00:00:00")
    assert (row["price"], row["other"], row["big"], row["total"]) == ("1.50", "b", 2**62, 2**62)
    assert row["ago"] == 86400
    assert json.loads(row["tags"]) == ["a", "b"]


def test_the_address_is_where_the_record_is(world: Make) -> None:
    made = world()
    (row,) = made["rows"].sql("select msg, _address from context where n = 77")
    assert Address.parse(row["_address"]).object.endswith("1.jsonl")
    assert made["rows"].where([("n", "==", 77)]).head(1)[0]["_address"] == row["_address"]
