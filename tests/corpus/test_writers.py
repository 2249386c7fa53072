"""The same values by several writers: every verb sees the same, and a second reader counts the same."""

from __future__ import annotations

import datetime
import gc
import math
from collections import Counter
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy
import polars
import pyarrow
import pyarrow.parquet
import pytest

from rlm_ray.corpus.opening import open_manifest
from rlm_ray.handle.plan import Grep, Where

deltalake = pytest.importorskip("deltalake", reason="pip install 'rlm-ray[tables]' brings it")

TABLE = pyarrow.table(
    {
        "i": pyarrow.array([0, 1, 2, 3]),
        "whole": pyarrow.array([1234567890123456789, -1, None, 7], pyarrow.int64()),
        "real": pyarrow.array([0.1, math.inf, None, math.nan], pyarrow.float64()),
        "short": pyarrow.array([0.1, -math.inf, None, 2.5], pyarrow.float32()),
        "price": pyarrow.array([Decimal("1.50"), Decimal("90071992547409.93"), None, Decimal("-0.01")], pyarrow.decimal128(20, 2)),
        "at": pyarrow.array(
            [datetime.datetime(9999, 12, 31), datetime.datetime(1, 1, 1), None, datetime.datetime(2026, 1, 31, 12, 0, 0, 5)],
            pyarrow.timestamp("us"),
        ),
        "day": pyarrow.array([datetime.date(9999, 12, 31), datetime.date(1, 1, 1), None, datetime.date(2026, 1, 31)]),
        "text": pyarrow.array(["ERROR ü", "", None, "01234"]),
        "raw": pyarrow.array([b"ab", b"\xff", None, b""]),
        "ok": pyarrow.array([True, False, None, True]),
    }
)
#: A column and the conditions on it, as duckdb writes them too.
CONDITIONS: list[tuple[str, str, Any, str]] = [
    ("whole", "==", 1234567890123456789, "whole = 1234567890123456789"),
    ("whole", "<", 7, "whole < 7"),
    ("real", "==", 0.1, "real = 0.1"),
    ("real", ">", 1, "real > 1"),
    ("real", "==", math.nan, "isnan(real)"),
    ("short", "==", 0.1, "short = 0.1::float"),
    ("short", "<", 0, "short < 0"),
    ("price", "==", "90071992547409.93", "price = 90071992547409.93"),
    ("price", "<=", 1.5, "price <= 1.50"),
    ("at", ">", "2100-01-01", "\"at\" > '2100-01-01'"),
    ("at", "==", "2026-01-31T12:00:00.000005", "\"at\" = '2026-01-31 12:00:00.000005'"),
    ("day", "<", "1900-01-01", "day < '1900-01-01'"),
    ("day", "!=", "2026-01-31", "day <> '2026-01-31'"),
    ("text", "==", "01234", "text = '01234'"),
    ("text", "==", None, "text is null"),
    ("raw", "==", "base64:/w==", "raw = '\\xFF'::blob"),
    ("raw", "!=", "ab", "raw <> 'ab'::blob"),
    ("ok", "==", True, "ok"),
]


def _pyarrow(folder: Path) -> str:
    pyarrow.parquet.write_table(TABLE, folder / "a.parquet", row_group_size=2)
    return str(folder)


def _pyarrow_without_statistics(folder: Path) -> str:
    pyarrow.parquet.write_table(TABLE, folder / "a.parquet", write_statistics=False)
    return str(folder)


def _polars(folder: Path) -> str:
    polars.DataFrame(TABLE).write_parquet(folder / "a.parquet", row_group_size=2)
    return str(folder)


def _duckdb(folder: Path) -> str:
    duckdb.from_arrow(TABLE).write_parquet(str(folder / "a.parquet"), compression="zstd")
    return str(folder)


def _deltalake(folder: Path) -> str:
    deltalake.write_deltalake(str(folder), TABLE)
    return f"delta+{folder}"


def _pyiceberg(folder: Path) -> str:
    catalog = pytest.importorskip(
        "pyiceberg.catalog.sql", reason="pip install 'pyiceberg[sql-sqlite]' brings a catalogue for the tests"
    )
    made = catalog.SqlCatalog("prod", uri=f"sqlite:///{folder}/catalogue.db", warehouse=f"file://{folder}/lake")
    made.create_namespace("a")
    table = made.create_table("a.b", TABLE.schema)
    table.append(TABLE)
    place = str(table.metadata_location).removeprefix("file://")
    made.close()
    gc.collect()
    return f"iceberg+{place}"


WRITERS = [_pyarrow, _pyarrow_without_statistics, _polars, _duckdb, _deltalake, _pyiceberg]


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__[1:])
def test_every_writers_values_are_the_same_in_every_verb(kit: SimpleNamespace, tmp_path: Path, writer: Any) -> None:
    manifest = open_manifest(writer(tmp_path))
    shown = [{name: value for name, value in record.items() if name != "_address"} for record in kit.records(manifest)]
    assert {name: repr(value) for name, value in shown[0].items()} == {
        "i": "0",
        "whole": "1234567890123456789",
        "real": "0.1",
        "short": repr(numpy.float64(numpy.float32(0.1)).item()),
        "price": "'1.50'",
        "at": "'9999-12-31T00:00:00'",
        "day": "'9999-12-31'",
        "text": "'ERROR ü'",
        "raw": "'ab'",
        "ok": "True",
    }
    seen = [(row["real"], row["short"], row["raw"]) for row in shown[1:3]]
    assert seen == [(math.inf, -math.inf, "base64:/w=="), (None, None, None)]
    assert math.isnan(shown[3]["real"])
    assert set(shown[2].values()) == {2, None}
    second = duckdb.from_arrow(TABLE)
    for column, compared, value, condition in CONDITIONS:
        right = sorted(row[0] for row in second.filter(condition).project("i").fetchall())
        found = [record["i"] for record in kit.records(manifest, Where(((column, compared, value),)))]
        assert found == right, (column, compared, value)
        assert kit.operate(manifest, "count", Where(((column, compared, value),))) == len(right)
    for name in TABLE.column_names:
        counts = kit.operate(manifest, "count_by", column=name, limit=10)["counts"]
        assert Counter({repr(key): count for key, count in counts}) == Counter(repr(row[name]) for row in shown), name
    assert [record["i"] for record in kit.records(manifest, Grep("ERROR"))] == [0]


@pytest.mark.parametrize("times", ["int64", "int96"])
def test_fastparquets_values_are_those_of_the_second_reader(kit: SimpleNamespace, tmp_path: Path, times: str) -> None:
    fastparquet = pytest.importorskip("fastparquet", reason="pip install fastparquet brings another writer for the tests")
    pandas = pytest.importorskip("pandas")
    moments = ["2026-01-31 12:00:00.000005", None, "1700-01-01"]
    frame = pandas.DataFrame(
        {
            "i": [0, 1, 2],
            "whole": pandas.array([1234567890123456789, None, -1], dtype="Int64"),
            "real": [0.1, math.nan, math.inf],
            "text": ["ERROR ü", None, "01234"],
            "raw": [b"ab", b"\xff", None],
            "ok": pandas.array([True, None, False], dtype="boolean"),
            "at": pandas.to_datetime(moments, format="ISO8601").astype("datetime64[ns]"),
            "letter": pandas.Categorical(["a", "b", "a"]),
        }
    )
    path = str(tmp_path / "a.parquet")
    fastparquet.write(path, frame, times=times, object_encoding={"text": "utf8", "raw": "bytes"}, row_group_offsets=[0, 2])
    manifest = open_manifest(path)
    second = duckdb.read_parquet(path)
    for column, compared, value, condition in (
        ("whole", "==", 1234567890123456789, "whole = 1234567890123456789"),
        ("real", "==", None, "real is null"),
        ("real", ">", 1, "real > 1"),
        ("text", "==", "01234", "text = '01234'"),
        ("raw", "==", "base64:/w==", "raw = '\\xFF'::blob"),
        ("ok", "==", None, "ok is null"),
        ("at", "<", "1800-01-01", "\"at\" < '1800-01-01'"),
        ("at", "==", "2026-01-31T12:00:00.000005", "\"at\" = '2026-01-31 12:00:00.000005'"),
        ("letter", "==", "a", "letter = 'a'"),
    ):
        right = sorted(row[0] for row in second.filter(condition).project("i").fetchall())
        assert right
        assert [record["i"] for record in kit.records(manifest, Where(((column, compared, value),)))] == right
    assert [record["i"] for record in kit.records(manifest, Grep("ERROR"))] == [0]
