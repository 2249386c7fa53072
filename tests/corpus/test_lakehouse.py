"""Tables: one version of them, its files and no others, without the rows that are deleted; what is not read is refused by name."""

from __future__ import annotations

import datetime
import decimal
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray import storage
from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.lakehouse.opening import manifest_of
from rlm_ray.corpus.catalog.lakehouse.table import DataFile, Table
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.meaning.readable import jsonable
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations.lookup import record_at, shard_of
from rlm_ray.corpus.planning import chunk_ranges, shard_choice, slicing
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, MissingExtra, ObjectChanged
from rlm_ray.handle.plan import Between, Grep, Select, Slice, Where

deltalake = pytest.importorskip("deltalake", reason="pip install 'rlm-ray[tables]' brings deltalake")


def _plain(records: list[dict[str, Any]]) -> list[str]:
    """Records without their addresses, in an order of their own."""
    return sorted(json.dumps({name: value for name, value in sorted(record.items()) if name != "_address"}) for record in records)


# -- deleted rows


@settings(max_examples=20)
@given(
    rows=st.integers(1, 60),
    gone=st.sets(st.integers(0, 70)),
    group=st.integers(1, 30),
    shard_bytes=st.integers(1, 2_000),
    start=st.integers(0, 40),
    length=st.integers(0, 30),
)
def test_deleted_rows_are_no_records_and_the_others_keep_their_numbers(
    kit: SimpleNamespace, rows: int, gone: set[int], group: int, shard_bytes: int, start: int, length: int
) -> None:
    columns = pyarrow.table({"n": range(rows), "text": [f"row {number}" for number in range(rows)]})
    uri = kit.parquet(columns, f"{kit.folder()}/a.parquet", row_group_size=group)
    left = [number for number in range(rows) if number not in gone]
    table = Table("Delta", 1, "version 1", columns.schema, [DataFile(uri, {}, numpy.array(sorted(gone), numpy.int64))])
    if not left:
        with pytest.raises(InputError, match="no rows"):
            manifest_of(table, "delta+x?version=1")
        return
    manifest = manifest_of(table, "delta+x?version=1", shard_bytes=shard_bytes)
    found = kit.records(manifest)
    assert [record["n"] for record in found] == left
    assert [Address.parse(record["_address"]).start for record in found] == left
    assert manifest.records == len(left) == kit.operate(manifest, "count")
    assert shard_choice.known_counts(bind((), manifest.schema), manifest.shards) == [shard.rows for shard in manifest.shards]
    # slices, by footers alone and by a scan
    cut = Slice(start, start + length)
    assert [record["n"] for record in kit.records(manifest, *kit.local(manifest, [cut]))] == left[start : start + length]
    assert kit.operate(manifest, "count", cut) == len(left[start : start + length])
    window = slicing.plain_window(cut.start, cut.stop, bind([], manifest.schema), manifest)
    assert window is not None
    assert [record["n"] for record in kit.records(manifest, window)] == left[start : start + length]
    even = [number for number in left if number % 2 == 0]
    steps = [Where((("n", "in", tuple(even)),)), cut]
    assert [record["n"] for record in kit.records(manifest, *kit.local(manifest, steps))] == even[start : start + length]
    # samples: each record by its number
    taken = []
    for shard in manifest.shards:
        ordinals = list(range(0, shard.rows or 0, 2))
        taken += [record["n"] for record in _at(shard, manifest, ordinals)]
    assert taken == [
        number for shard in manifest.shards for number in [item for item in left if shard.start <= item < shard.stop][::2]
    ]
    # chunks: each record once
    borders = chunk_ranges.plain_chunk_ranges(bind([], manifest.schema), manifest, 40)
    assert borders is not None
    parts = [kit.records(manifest, Between(tuple(border[0]), tuple(border[1]))) for border in borders]
    assert [record["n"] for part in parts for record in part] == left
    assert [border[3] for border in borders] == [len(part) for part in parts]
    # addresses: a deleted row has no record
    for number in range(rows):
        address = Address(uri, manifest.shards[0].version, "row", number, number + 1)
        shard = shard_of(manifest, address)
        record = None if shard is None else record_at(Work(shard, bind((), manifest.schema)), {"address": str(address)})
        assert (record is None) == (number in gone)
        assert record is None or record["n"] == number


def _at(shard: Any, manifest: Manifest, ordinals: list[int]) -> list[dict[str, Any]]:
    from rlm_ray.corpus.operations import operations

    found: list[dict[str, Any]] = operations.run(
        "at", Work(shard, bind((Select(("n",)),), manifest.schema)), {"ordinals": ordinals}
    )
    return found


def test_a_saved_manifest_knows_what_is_deleted(kit: SimpleNamespace) -> None:
    columns = pyarrow.table({"n": range(9)})
    uri = kit.parquet(columns, f"{kit.folder()}/a.parquet")
    when = datetime.date(2026, 1, 31)
    schema = columns.schema.append(pyarrow.field("day", pyarrow.date32())).append(pyarrow.field("k", pyarrow.string()))
    files = [DataFile(uri, {"day": when, "k": None}, numpy.array([2, 5]))]
    manifest = manifest_of(Table("Delta", 7, "version 7", schema, files), "delta+/lake/t?version=7")
    folder = kit.folder()
    manifest.save(folder)
    again = Manifest.load(folder)
    assert kit.records(again) == kit.records(manifest)
    assert [record["n"] for record in kit.records(again)] == [0, 1, 3, 4, 6, 7, 8]
    assert kit.records(again)[0] | {"_address": ""} == {"_address": "", "n": 0, "day": "2026-01-31", "k": None}
    assert (again.fingerprint, again.table, again.uris) == (manifest.fingerprint, "Delta, version 7", ["delta+/lake/t?version=7"])
    other = manifest_of(Table("Delta", 8, "version 8", schema, [DataFile(uri, files[0].values)]), "delta+/lake/t?version=8")
    assert other.fingerprint != manifest.fingerprint


def test_a_day_as_a_partition_prunes_and_compares(kit: SimpleNamespace) -> None:
    schema = pyarrow.schema([("n", pyarrow.int64()), ("day", pyarrow.date32()), ("price", pyarrow.decimal128(5, 2))])
    files = [
        DataFile(
            kit.parquet(pyarrow.table({"n": [number]}), f"{kit.folder()}/{number}.parquet"),
            {"day": datetime.date(2026, 1, number), "price": decimal.Decimal(number) / 4},
        )
        for number in (1, 2, 3)
    ]
    manifest = manifest_of(Table("Delta", 0, "version 0", schema, files), "delta+x?version=0")
    later = Where((("day", ">=", "2026-01-02"),))
    assert [record["n"] for record in kit.records(manifest, later)] == [2, 3]
    assert len(shard_choice.shards_for(bind([later], manifest.schema), manifest)) == 2
    assert [record["price"] for record in kit.records(manifest, Where((("price", ">", 0.4),)))] == ["0.50", "0.75"]
    assert kit.operate(manifest, "count", Where((("price", "==", 0.25),))) == 1


# -- Delta


def _delta(folder: Path, *parts: pyarrow.Table, **options: Any) -> str:
    for part in parts:
        deltalake.write_deltalake(str(folder), part, mode="append", **options)
    return f"delta+{folder}"


def test_the_newest_version_is_pinned_and_read_again(kit: SimpleNamespace, tmp_path: Path) -> None:
    table = tmp_path / "t"
    uri = _delta(table, pyarrow.table({"n": [1, 2]}))
    manifest = open_manifest(uri)
    assert manifest.uris == [f"{uri}?version=0"]
    _delta(table, pyarrow.table({"n": [3]}))
    assert [record["n"] for record in kit.records(manifest)] == [1, 2]
    assert sorted(record["n"] for record in kit.records(open_manifest(uri))) == [1, 2, 3]
    assert open_manifest(*manifest.uris).fingerprint == manifest.fingerprint != open_manifest(uri).fingerprint
    assert manifest.info()["table"] == "Delta, version 0"
    deltalake.DeltaTable(str(table)).delete("n = 1")
    assert sorted(record["n"] for record in kit.records(open_manifest(uri))) == [2, 3]
    with pytest.raises(InputError, match=r"in version 9: "):
        open_manifest(f"{uri}?version=9")


def test_values_of_partitions_come_from_the_log(kit: SimpleNamespace, tmp_path: Path) -> None:
    columns = pyarrow.table(
        {
            "n": [1, 2, 3, 4],
            "k": ["a b", "ü%/x", None, "z"],
            "d": [datetime.date(2026, 1, day) for day in (1, 2, 3, 4)],
            "x": [1.5, 2.5, None, 4.0],
            "m": pyarrow.array([decimal.Decimal("1.50")] * 4),
            "b": [True, False, True, None],
            "t": pyarrow.array([datetime.datetime(2026, 1, 1, 1, tzinfo=datetime.UTC)] * 4, pyarrow.timestamp("us", "UTC")),
            "i": pyarrow.array([1, 2, 3, 4], pyarrow.int32()),
        }
    )
    uri = _delta(tmp_path / "t", columns, partition_by=["k", "d", "x", "m", "b", "t", "i"])
    manifest = open_manifest(uri)
    found = sorted(kit.records(manifest), key=lambda record: record["n"])
    assert [{name: value for name, value in record.items() if name != "_address"} for record in found] == [
        {"n": 1, "k": "a b", "b": True, "i": 1, "d": "2026-01-01", "x": 1.5, "m": "1.50", "t": "2026-01-01T01:00:00Z"},
        {"n": 2, "k": "ü%/x", "b": False, "i": 2, "d": "2026-01-02", "x": 2.5, "m": "1.50", "t": "2026-01-01T01:00:00Z"},
        {"n": 3, "k": None, "b": True, "i": 3, "d": "2026-01-03", "x": None, "m": "1.50", "t": "2026-01-01T01:00:00Z"},
        {"n": 4, "k": "z", "b": None, "i": 4, "d": "2026-01-04", "x": 4.0, "m": "1.50", "t": "2026-01-01T01:00:00Z"},
    ]
    for condition, expected in [(("k", "==", "a b"), [1]), (("b", "!=", True), [2]), (("i", ">", 2), [3, 4]), (("x", "<", 2), [1])]:
        assert sorted(record["n"] for record in kit.records(manifest, Where((condition,)))) == expected
    assert len(shard_choice.shards_for(bind([Where((("i", ">", 2),))], manifest.schema), manifest)) == 2


def test_columns_that_came_later_are_null_in_older_files(kit: SimpleNamespace, tmp_path: Path) -> None:
    table = tmp_path / "t"
    uri = _delta(table, pyarrow.table({"n": [1]}))
    _delta(table, pyarrow.table({"n": [2], "more": ["x"], "list": [[1]]}), schema_mode="merge")
    found = sorted(kit.records(open_manifest(uri)), key=lambda record: record["n"])
    assert [(record["n"], record["more"], record["list"]) for record in found] == [(1, None, None), (2, "x", [1])]


def _log(
    folder: Path,
    protocol: dict[str, Any],
    configuration: dict[str, str],
    schema: dict[str, Any] | None = None,
    partitions: Sequence[str] = (),
) -> str:
    schema = schema or {"type": "struct", "fields": [{"name": "n", "type": "long", "nullable": True, "metadata": {}}]}
    meta = {
        "id": "5fba94ed-9794-4965-ba6e-6ee3c0d22af9",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps(schema),
        "partitionColumns": list(partitions),
        "configuration": configuration,
        "createdTime": 0,
    }
    log = folder / "_delta_log"
    log.mkdir(parents=True)
    lines = [{"protocol": protocol}, {"metaData": meta}]
    (log / f"{0:020d}.json").write_text("\n".join(map(json.dumps, lines)))
    return f"delta+{folder}"


def test_members_of_nested_columns_that_came_later_are_null_in_older_files(kit: SimpleNamespace, tmp_path: Path) -> None:
    table = tmp_path / "t"
    uri = _delta(table, pyarrow.table({"n": [1], "s": [{"a": 1}], "l": [[{"x": 1}, None]]}))
    later = pyarrow.table({"n": [2], "s": [{"b": "z", "a": 2}], "l": [[{"x": 1, "y": {"z": 2}}]]})
    _delta(table, later, schema_mode="merge")
    manifest = open_manifest(uri)
    found = sorted(kit.records(manifest), key=lambda record: record["n"])
    assert manifest.failed == []
    assert [(record["s"], record["l"]) for record in found] == [
        ({"a": 1, "b": None}, [{"x": 1, "y": None}, None]),
        ({"a": 2, "b": "z"}, [{"x": 1, "y": {"z": 2}}]),
    ]
    assert _plain(found) == _plain(_reference(table, None))
    folder = kit.folder()
    manifest.save(folder)
    assert _plain(kit.records(Manifest.load(folder))) == _plain(found)
    assert kit.operate(manifest, "count", Grep("z", column="s")) == 1


@pytest.mark.parametrize(
    ("features", "configuration", "named"),
    [
        (["variantType"], {}, "variantType"),
        (["somethingNew"], {}, "somethingNew"),
    ],
)
def test_features_that_are_not_read_are_named(
    tmp_path: Path, features: list[str], configuration: dict[str, str], named: str
) -> None:
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    with pytest.raises(InputError, match=named):
        open_manifest(_log(tmp_path / "t", protocol, configuration))


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("delta+{0}/none", "no _delta_log"),
        ("delta+{0}?v=3", r"\?version=3"),
        ("delta:{0}", r"delta\+s3://bucket/table"),
        ("iceberg:orders", r"iceberg:catalogue/namespace\.table"),
        ("iceberg+{0}", r"version-hint\.text"),
        ("delta+memory://lake/t", "in object storage or on a local path"),
        ("delta+", "names no place"),
    ],
)
def test_a_name_that_cannot_be_one_says_how_it_is_written(tmp_path: Path, uri: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_manifest(uri.format(tmp_path))


def _mapped(name: str, kind: Any, number: int) -> dict[str, Any]:
    about = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"col-{number}"}
    return {"name": name, "type": kind, "nullable": True, "metadata": about}


def _struct(*members: dict[str, Any]) -> dict[str, Any]:
    return {"type": "struct", "fields": list(members)}


def _in_file(name: str, kind: pyarrow.DataType, number: int | None) -> pyarrow.Field:
    return pyarrow.field(name, kind, metadata=None if number is None else {"PARQUET:field_id": str(number)})


@pytest.mark.parametrize("mode", ["name", "id"])
def test_columns_are_found_as_the_tables_column_mapping_says(kit: SimpleNamespace, tmp_path: Path, mode: str) -> None:
    """Columns and members have other names in files; in mode id only their numbers count, in mode name only their names."""
    element = _struct(_mapped("y", "string", 7))
    schema = _struct(
        _mapped("n", "long", 1),
        _mapped("city", "string", 2),
        _mapped("s", _struct(_mapped("a", "integer", 4), _mapped("later", "string", 5)), 3),
        _mapped("l", {"type": "array", "elementType": element, "containsNull": True}, 6),
        _mapped("part", "string", 8),
    )
    number = (lambda given: given) if mode == "id" else (lambda given: 100 - given)
    name = (lambda given: f"col-{given}") if mode == "name" else (lambda given: f"odd-{given}")
    fields = [
        _in_file(name(2), pyarrow.string(), number(2)),
        _in_file(name(1), pyarrow.int64(), number(1)),
        _in_file(name(3), pyarrow.struct([_in_file(name(4), pyarrow.int32(), number(4))]), number(3)),
        _in_file(name(6), pyarrow.list_(pyarrow.struct([_in_file(name(7), pyarrow.string(), number(7))])), number(6)),
    ]
    values = [["Oslo", None], [1, 2], [{name(4): 5}, None], [[{name(7): "z"}, None], None]]
    arrays = [pyarrow.array(given, field.type) for given, field in zip(values, fields, strict=True)]
    uri = _log(tmp_path / "t", {"minReaderVersion": 2, "minWriterVersion": 5}, {"delta.columnMapping.mode": mode}, schema, ["part"])
    _add(tmp_path / "t", pyarrow.table(arrays, schema=pyarrow.schema(fields)), {"col-8": "p1"})
    manifest = open_manifest(uri)
    assert manifest.failed == []
    assert [{column: value for column, value in record.items() if column != "_address"} for record in kit.records(manifest)] == [
        {"n": 1, "city": "Oslo", "s": {"a": 5, "later": None}, "l": [{"y": "z"}, None], "part": "p1"},
        {"n": 2, "city": None, "s": None, "l": None, "part": "p1"},
    ]
    assert [record["city"] for record in kit.records(manifest, Where((("n", "==", 1),)))] == ["Oslo"]


def test_columns_whose_type_was_widened_are_of_the_wider_type(kit: SimpleNamespace, tmp_path: Path) -> None:
    kinds = {"i": "long", "f": "double", "d": "decimal(12,3)", "day": "timestamp_ntz"}
    columns = [{"name": name, "type": kind, "nullable": True, "metadata": {}} for name, kind in kinds.items()]
    columns.append({"name": "s", "type": _struct(columns[0]), "nullable": True, "metadata": {}})
    features = ["typeWidening", "timestampNtz"]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    uri = _log(tmp_path / "t", protocol, {}, _struct(*columns))
    small = {
        "i": pyarrow.array([1], pyarrow.int8()),
        "f": pyarrow.array([0.5], pyarrow.float32()),
        "d": pyarrow.array([decimal.Decimal("1.25")], pyarrow.decimal128(5, 2)),
        "day": pyarrow.array([datetime.date(2026, 11, 30)]),
        "s": pyarrow.array([{"i": 3}], pyarrow.struct([("i", pyarrow.int16())])),
    }
    wide = {
        "i": pyarrow.array([1 << 40], pyarrow.int64()),
        "f": pyarrow.array([0.1], pyarrow.float64()),
        "d": pyarrow.array([decimal.Decimal("123456789.125")], pyarrow.decimal128(12, 3)),
        "day": pyarrow.array([datetime.datetime(2026, 11, 30, 12)], pyarrow.timestamp("us")),
        "s": pyarrow.array([{"i": 1 << 40}], pyarrow.struct([("i", pyarrow.int64())])),
    }
    _add(tmp_path / "t", pyarrow.table(small))
    _add(tmp_path / "t", pyarrow.table(wide))
    found = sorted(kit.records(open_manifest(uri)), key=lambda record: record["i"])
    assert [[record[column] for column in (*kinds, "s")] for record in found] == [
        [1, 0.5, "1.250", "2026-11-30T00:00:00", {"i": 3}],
        [1 << 40, 0.1, "123456789.125", "2026-11-30T12:00:00", {"i": 1 << 40}],
    ]


def _add(table: Path, rows: pyarrow.Table, values: dict[str, str] | None = None) -> None:
    """Add a file, in a version of its own."""
    number = len(list((table / "_delta_log").iterdir()))
    path = table / f"part-{number}.parquet"
    pyarrow.parquet.write_table(rows, path)
    size = path.stat().st_size
    action = {"path": path.name, "partitionValues": values or {}, "size": size, "modificationTime": 0, "dataChange": True}
    (table / "_delta_log" / f"{number:020d}.json").write_text(json.dumps({"add": action}))


def test_a_table_is_a_corpus_of_its_own(tmp_path: Path) -> None:
    uri = _delta(tmp_path / "t", pyarrow.table({"n": [1]}))
    with pytest.raises(InputError, match="a corpus of its own"):
        open_manifest(uri, str(tmp_path))
    with pytest.raises(InputError, match="rows"):
        open_manifest(uri, format="text")


@pytest.mark.parametrize(("module", "uri"), [("deltalake", "delta+/lake/t"), ("pyiceberg", "iceberg:prod/a.b")])
def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, module: str, uri: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"pip install 'rlm-ray\[tables\]'"):
        open_manifest(uri)


def test_a_table_on_s3(kit: SimpleNamespace, s3: Any) -> None:
    place = f"s3://{s3.bucket()}/tables/events"
    _, options = storage.polars_source(place)
    for number in range(3):
        part = pyarrow.table({"n": [number, number + 10], "day": [number] * 2})
        deltalake.write_deltalake(place, part, mode="append", partition_by=["day"], storage_options=options)
    manifest = open_manifest(f"delta+{place}?version=1")
    assert manifest.uris == [f"delta+{place}?version=1"]
    found = kit.records(manifest, Where((("day", "==", 1),)))
    assert [(record["n"], record["day"]) for record in found] == [(1, 1), (11, 1)]
    assert manifest.records == 4
    # a file that went before the corpus was opened, and one that goes behind its back
    newest = open_manifest(f"delta+{place}")
    uris = [shard.uri for shard in newest.shards]
    storage.delete_tree(uris[0])
    with pytest.raises(ObjectChanged, match="is gone"):
        kit.records(newest)
    left = open_manifest(f"delta+{place}")
    assert [(entry["object"], "vacuum" in entry["reason"]) for entry in left.failed] == [(uris[0], True)]
    assert left.records == 4


def _reference(folder: Path, version: int | None) -> list[dict[str, Any]]:
    """What delta-rs' own engine reads."""
    table = deltalake.DeltaTable(str(folder), version=version)
    rows = pyarrow.table(deltalake.QueryBuilder().register("t", table).execute("select * from t"))
    return [_as_shown(row) for row in rows.to_pylist()]


def _as_shown(row: dict[str, Any]) -> dict[str, Any]:
    stamps = {name: value for name, value in row.items() if isinstance(value, datetime.datetime)}
    texts = {name: value.astimezone(datetime.UTC).isoformat().removesuffix("+00:00") + "Z" for name, value in stamps.items()}
    shown: dict[str, Any] = jsonable(row)
    return shown | texts


@pytest.mark.parametrize(
    ("name", "version", "rows"),
    [
        ("checkpoint-v2-table", None, 44),
        ("checkpoint-v2-table", 3, None),
        ("partition-type-primitives", None, 16),
        ("simple_table", None, 3),
        ("simple_table", 0, None),
        ("table_with_deletion_logs", None, 98),
        ("table_with_deletion_logs", 0, 100),
        ("table_with_deletion_logs", 12, None),
    ],
)
def test_real_tables_are_read_as_the_reference_reads_them(
    kit: SimpleNamespace, data: Path, name: str, version: int | None, rows: int | None
) -> None:
    folder = data / "delta" / name
    if not folder.is_dir():
        pytest.skip(f"no table {name}")
    manifest = open_manifest(f"delta+{folder}" + ("" if version is None else f"?version={version}"))
    found = kit.records(manifest)
    assert not manifest.failed
    assert _plain(found) == _plain(_reference(folder, version))
    assert manifest.records == len(found)
    assert rows is None or len(found) == rows


def test_a_real_table_that_no_reader_takes_is_refused(data: Path) -> None:
    folder = data / "delta" / "simple_table_features"
    if not folder.is_dir():
        pytest.skip("no such table")
    with pytest.raises(InputError, match=r"simple_table_features cannot be read as a Delta table: .*Reader features"):
        open_manifest(f"delta+{folder}")


@pytest.mark.parametrize("linked", [False, True])
def test_what_a_deletion_vector_names_is_what_is_missing(kit: SimpleNamespace, data: Path, tmp_path: Path, linked: bool) -> None:
    folder = data / "delta" / "table_with_deletion_logs"
    if not folder.is_dir():
        pytest.skip("no such table")
    if linked:  # a path with more than one name
        (tmp_path / "link").symlink_to(folder)
        folder = tmp_path / "link"
    manifest = open_manifest(f"delta+{folder}")
    rows = [Address.parse(record["_address"]).start for record in kit.records(manifest)]
    gone = [int(row) for shard in manifest.shards for row in deletions.unpack(shard.deleted)]
    assert len(gone) == 2
    assert sorted(rows + gone) == list(range(100))
