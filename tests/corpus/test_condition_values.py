"""Values of Python that a condition takes: each finds what DuckDB finds with the same value."""

from __future__ import annotations

import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pytest
from pyarrow import parquet

import rlm_ray

IDS = [uuid.UUID(int=number).bytes for number in range(3)]
TABLE = pyarrow.table(
    {
        "price": pyarrow.array([Decimal("1.10"), Decimal("123456789012345.25"), Decimal("-2.00")], pyarrow.decimal128(20, 2)),
        "raw": pyarrow.array([b"ab", b"\xff\x00", b""], pyarrow.binary()),
        "id": pyarrow.ExtensionArray.from_storage(pyarrow.uuid(), pyarrow.array(IDS, pyarrow.binary(16))),
    }
)


PRICES = [Decimal("1.1"), Decimal("123456789012345.25"), Decimal("-2E+0"), Decimal("7")]
EQUAL = [("raw", b"ab"), ("raw", b"\xff\x00"), ("raw", b""), ("id", uuid.UUID(int=2)), ("id", uuid.UUID(int=9))]
CASES = [("price", operator, value) for operator in ("==", "!=", "<", ">=", "in") for value in PRICES]
CASES += [(column, operator, value) for operator in ("==", "!=", "in") for column, value in EQUAL]


@pytest.mark.parametrize(("column", "operator", "value"), CASES)
def test_a_value_finds_what_duckdb_finds(tmp_path: Path, column: str, operator: str, value: Any) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(TABLE, path)
    test = {"==": "= $1", "!=": "<> $1", "<": "< $1", ">=": ">= $1", "in": "in ($1)"}[operator]
    [(expected,)] = duckdb.sql(f"select count(*) from '{path}' where {column} {test}", params=[value]).fetchall()
    given = [value] if operator == "in" else value
    assert rlm_ray.open(str(path)).where([(column, operator, given)]).count() == expected
