"""Avro, ORC and sheets: the same rows as their own readers give, of all types; what is damaged is an object with a reason."""

from __future__ import annotations

import datetime
import decimal
import functools
import io
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.orc
import pytest

from rlm_ray.corpus import opening
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, ObjectUnreadable, SandboxUnavailable
from rlm_ray.handle.plan import Where
from rlm_ray.sandbox.outside import isolation, parsing

fastavro = pytest.importorskip("fastavro", reason="pip install 'rlm-ray[tables]' brings fastavro")
open_manifest = functools.partial(opening.open_manifest, parsers=parsing.PARSERS)
UTC = datetime.UTC


@pytest.fixture(autouse=True)
def _strict() -> None:
    try:
        isolation.choose("strict")
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def records(kit: SimpleNamespace, manifest: Any, *steps: Any) -> list[dict[str, Any]]:
    return kit.records(manifest, *steps, parsers=parsing.PARSERS)


def bare(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name != "_address"} for record in found]


MEMBERS = [
    ("n", "long"),
    ("i", ["null", "int"]),
    ("x", "double"),
    ("ok", "boolean"),
    ("name", ["null", "string"]),
    ("raw", "bytes"),
    ("color", {"type": "enum", "name": "Color", "symbols": ["red", "green"]}),
    ("day", {"type": "int", "logicalType": "date"}),
    ("at", {"type": "long", "logicalType": "timestamp-micros"}),
    ("here", {"type": "long", "logicalType": "local-timestamp-millis"}),
    ("price", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}),
    ("tags", {"type": "array", "items": "string"}),
    ("extra", {"type": "map", "values": "long"}),
    ("either", ["null", "string", "long"]),
    ("deep", {"type": "record", "name": "Deep", "fields": [{"name": "k", "type": ["null", "long"]}]}),
]
SCHEMA = {"type": "record", "name": "Row", "fields": [{"name": name, "type": kind} for name, kind in MEMBERS]}


def row(number: int) -> dict[str, Any]:
    return {
        "n": number,
        "i": None if number % 3 else number,
        "x": number / 4,
        "ok": number % 2 == 0,
        "name": f"Zeile ü {number}",
        "raw": b"\xff\x00" if number % 2 else b"ab",
        "color": "red" if number % 2 else "green",
        "day": datetime.date(2024, 1, 1 + number % 28),
        "at": datetime.datetime(2024, 1, 1, 12, 0, 0, number, UTC),
        "here": datetime.datetime(2024, 1, 1, 12, 0, number % 60),
        "price": decimal.Decimal(number) / 100,
        "tags": ["a", f"b{number}"],
        "extra": {"k": number},
        "either": number if number % 2 else f"text {number}",
        "deep": {"k": number},
    }


def shown(number: int) -> dict[str, Any]:
    """The row as docs/values.md says it is shown."""
    given = row(number)
    return given | {
        "raw": "base64:/wA=" if number % 2 else "ab",
        "day": given["day"].isoformat(),
        "at": f"2024-01-01T12:00:00.{number:06}".rstrip("0").rstrip(".") + "Z" if number else "2024-01-01T12:00:00Z",
        "here": f"2024-01-01T12:00:{number % 60:02}",
        "price": f"{given['price']:.2f}",
    }


def avro(rows: list[dict[str, Any]], schema: Any = SCHEMA, codec: str = "deflate") -> bytes:
    sink = io.BytesIO()
    fastavro.writer(sink, schema, rows, codec=codec, sync_interval=2_000)
    return sink.getvalue()


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy", "bzip2", "xz"])
def test_avro_is_read_as_its_values_are(kit: SimpleNamespace, codec: str) -> None:
    data = avro([row(number) for number in range(200)], codec=codec)
    manifest = open_manifest(kit.object(data, ".avro"))
    assert {name: manifest.schema[name] for name in ("n", "i", "day", "at", "here", "price", "either")} == {
        "n": "int64",
        "i": "int32",
        "day": "date32[day]",
        "at": "timestamp[us, tz=UTC]",
        "here": "timestamp[ms]",
        "price": "decimal128(10, 2)",
        "either": "json",
    }
    found = records(kit, manifest)
    assert bare(found) == [shown(number) for number in range(200)]
    assert [record["n"] for record in fastavro.reader(io.BytesIO(data))] == [record["n"] for record in found]
    assert found[7]["_address"].endswith("#row=7")
    assert bare(records(kit, manifest, Where((("n", ">=", 150), ("ok", "==", True))))) == [shown(n) for n in range(150, 200, 2)]
    again = operations.run(
        "record", Work(manifest.shards[0], bind((), manifest.schema), parsers=parsing.PARSERS), {"address": found[123]["_address"]}
    )
    assert again == found[123]


def test_avro_beyond_pythons_years_and_other_schemas(kit: SimpleNamespace) -> None:
    late = {"type": "record", "name": "R", "fields": [{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}
    data = avro([{"at": 300_000_000_000_000}, {"at": datetime.datetime(2024, 1, 1, tzinfo=UTC)}], late)
    found = records(kit, open_manifest(kit.object(data, ".avro")))
    assert [record["at"] for record in found] == ["11476-08-15T05:20:00Z", "2024-01-01T00:00:00Z"]
    numbers = avro([1, 2, 3], "long")
    assert bare(records(kit, open_manifest(kit.object(numbers, ".avro")))) == [{"value": 1}, {"value": 2}, {"value": 3}]


def test_files_with_other_columns_are_united(kit: SimpleNamespace) -> None:
    from rlm_ray import storage

    folder = kit.folder()
    narrow = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}]}
    wide = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}, {"name": "c", "type": "double"}]}
    storage.write_bytes(f"{folder}/day=1/x.avro", avro([{"a": 1, "b": "x"}], narrow))
    storage.write_bytes(f"{folder}/day=2/y.avro", avro([{"a": 1 << 40, "c": 0.5}], wide))
    manifest = open_manifest(folder)
    assert bare(records(kit, manifest)) == [
        {"a": 1, "b": "x", "c": None, "day": "1"},
        {"a": 1 << 40, "b": None, "c": 0.5, "day": "2"},
    ]


TABLE = pyarrow.table(
    {
        "n": pyarrow.array(range(5_000), pyarrow.int64()),
        "name": [f"row {number}" if number % 5 else None for number in range(5_000)],
        "x": pyarrow.array([number / 8 for number in range(5_000)], pyarrow.float32()),
        "day": pyarrow.array([number % 9_000 for number in range(5_000)], pyarrow.int32()).cast(pyarrow.date32()),
        "at": pyarrow.array([number * 1_000_001 for number in range(5_000)], pyarrow.timestamp("us")),
        "price": pyarrow.array([decimal.Decimal(number) / 100 for number in range(5_000)], pyarrow.decimal128(12, 2)),
        "tags": [[number, number + 1] for number in range(5_000)],
        "deep": [{"k": str(number)} for number in range(5_000)],
    }
)


@pytest.mark.parametrize("compression", ["uncompressed", "zlib", "snappy", "zstd", "lz4"])
def test_orc_is_read_as_parquet_is(kit: SimpleNamespace, compression: str) -> None:
    sink = io.BytesIO()
    pyarrow.orc.write_table(TABLE, sink, compression=compression, stripe_size=20_000, batch_size=512)
    found = records(kit, open_manifest(kit.object(sink.getvalue(), ".orc")))
    uri = f"{kit.folder()}/same.parquet"
    kit.parquet(TABLE, uri)
    assert bare(found) == bare(kit.records(open_manifest(uri)))
    pyorc = pytest.importorskip("pyorc")
    assert [record["name"] for record in found] == [record[1] for record in pyorc.Reader(io.BytesIO(sink.getvalue()))]
    manifest = open_manifest(kit.object(sink.getvalue(), ".orc"))
    assert [record["n"] for record in records(kit, manifest, Where((("n", ">", 4_990), ("name", "!=", None))))] == [
        4991, 4992, 4993, 4994, 4996, 4997, 4998, 4999,
    ]  # fmt: skip


def workbook() -> bytes:
    openpyxl = pytest.importorskip("openpyxl")
    made = openpyxl.Workbook()
    first = made.active
    first.title = "Orders"
    first.append([None, None])
    first.append(["id", "customer", "sum", "paid", "on", "mixed"])
    for number in range(40):
        first.append(
            [
                number,
                f"Kundin {number}",
                number / 3,
                number % 2 == 0,
                datetime.datetime(2024, 1, 1 + number % 28, 10),
                number if number % 2 else "x",
            ]
        )
    second = made.create_sheet("Notes")
    second.append(["id", "note"])
    second.append([7, "late"])
    sink = io.BytesIO()
    made.save(sink)
    return sink.getvalue()


def test_sheets_are_rows_of_all_sheets(kit: SimpleNamespace) -> None:
    pytest.importorskip("python_calamine")
    openpyxl = pytest.importorskip("openpyxl")
    data = workbook()
    manifest = open_manifest(kit.object(data, ".xlsx"))
    assert manifest.schema == {
        "sheet": "string", "row": "int64", "id": "int64", "customer": "string", "sum": "double", "paid": "bool",
        "on": "timestamp[us]",
        "mixed": "string", "note": "string",
    }  # fmt: skip
    found = bare(records(kit, manifest))
    cells = list(openpyxl.load_workbook(io.BytesIO(data), data_only=True)["Orders"].iter_rows(min_row=3, values_only=True))
    assert [(record["id"], record["customer"], record["sum"], record["paid"]) for record in found[:-1]] == [
        cell[:4] for cell in cells
    ]
    assert [record["on"] for record in found[:2]] == ["2024-01-01T10:00:00", "2024-01-02T10:00:00"]
    assert [record["mixed"] for record in found[:4]] == ["x", "1", "x", "3"]
    assert found[0]["row"] == 3
    assert found[-1] == dict.fromkeys(manifest.schema) | {"sheet": "Notes", "row": 2, "id": 7, "note": "late"}
    assert len(records(kit, manifest, Where((("paid", "==", True), ("id", "<", 10))))) == 5


@pytest.mark.parametrize("ending", [".avro", ".orc", ".xlsx"])
def test_what_is_damaged_has_a_reason(kit: SimpleNamespace, ending: str) -> None:
    with pytest.raises(InputError, match=r"could be sampled.*cannot be parsed"):
        open_manifest(kit.object(b"nothing of the kind" * 50, ending))
    if ending == ".avro":
        data = avro([row(number) for number in range(200)])
        manifest = open_manifest(kit.object(data[: len(data) * 2 // 3], ending))
        with pytest.raises(ObjectUnreadable, match="it is damaged behind row"):
            records(kit, manifest)
