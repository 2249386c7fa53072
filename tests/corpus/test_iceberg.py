"""Iceberg tables: the files that a snapshot's own planning names, by a catalogue or by a metadata file; deleted rows left out."""

from __future__ import annotations

import datetime
import gc
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.planning import shard_choice
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Where

pytest.importorskip("pyiceberg", reason="pip install 'rlm-ray[tables]' brings pyiceberg")
pytest.importorskip("sqlalchemy", reason="pip install 'pyiceberg[sql-sqlite]' brings a catalogue for the tests")


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A catalogue `prod` in a file, that pyiceberg's configuration names."""
    import pyiceberg.catalog
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.utils.config import Config

    uri = f"sqlite:///{tmp_path}/catalogue.db"
    monkeypatch.setenv("PYICEBERG_CATALOG__PROD__URI", uri)
    monkeypatch.setenv("PYICEBERG_CATALOG__PROD__TYPE", "sql")
    monkeypatch.setattr(pyiceberg.catalog, "_ENV_CONFIG", Config())  # read when it is imported
    made = SqlCatalog("prod", uri=uri, warehouse=f"file://{tmp_path}/lake")
    made.create_namespace("sales")
    yield made
    made.close()
    gc.collect()  # what was left open is this test's fault


_PAIRS = pyarrow.map_(pyarrow.string(), pyarrow.struct([("x", pyarrow.int64())]))


def _rows(first: int, count: int) -> pyarrow.Table:
    numbers = range(first, first + count)
    return pyarrow.table(
        {
            "n": pyarrow.array(numbers, pyarrow.int64()),
            "text": [f"row {number}" for number in numbers],
            "day": [datetime.date(2026, 1, 1 + number % 2) for number in numbers],
            "more": [{"a": number, "b": ["x"]} for number in numbers],
        }
    )


def _metadata(table: Any) -> str:
    return "iceberg+" + str(table.metadata_location).removeprefix("file://")


def _numbers(kit: SimpleNamespace, uri: str, *steps: Any) -> list[int]:
    return sorted(record["n"] for record in kit.records(open_manifest(uri), *steps))


def test_a_snapshot_is_pinned_and_read_again(kit: SimpleNamespace, catalogue: Any) -> None:
    table = catalogue.create_table("sales.orders", schema=_rows(0, 1).schema)
    table.append(_rows(0, 5))
    first = table.current_snapshot().snapshot_id
    manifest = open_manifest("iceberg:prod/sales.orders")
    assert manifest.uris == [f"iceberg:prod/sales.orders?snapshot={first}"]
    assert manifest.info()["table"] == f"Iceberg, snapshot {first}"
    table.append(_rows(5, 2))
    table.delete("n == 1")
    assert _numbers(kit, "iceberg:prod/sales.orders") == [0, 2, 3, 4, 5, 6]
    assert _numbers(kit, _metadata(table)) == [0, 2, 3, 4, 5, 6]
    assert _numbers(kit, f"{_metadata(table)}?snapshot={first}") == [0, 1, 2, 3, 4]
    assert [record["n"] for record in kit.records(manifest)] == [0, 1, 2, 3, 4]
    again = open_manifest(*manifest.uris)
    assert again.fingerprint == manifest.fingerprint
    assert kit.records(again)[3] == kit.records(manifest)[3]
    assert kit.records(again)[3]["more"] == {"a": 3, "b": ["x"]}
    with pytest.raises(InputError, match=r"no snapshot 5\. The newest there are: .*" + str(first)):
        open_manifest("iceberg:prod/sales.orders?snapshot=5")
    with pytest.raises(InputError, match=r"sales\.none cannot be read: Table does not exist"):
        open_manifest("iceberg:prod/sales.none")
    with pytest.raises(InputError, match="PYICEBERG_CATALOG__OTHER__URI"):
        open_manifest("iceberg:other/sales.orders")


def test_columns_keep_their_values_when_they_are_renamed(kit: SimpleNamespace, catalogue: Any) -> None:
    from pyiceberg.types import LongType

    table = catalogue.create_table("sales.orders", schema=_rows(0, 1).schema)
    with table.update_spec() as update:
        update.add_identity("day")
    table.append(_rows(0, 4))
    with table.update_schema() as update:
        update.rename_column("text", "words")
        update.add_column("price", LongType())
        update.delete_column("more")
    table.append(_rows(4, 1).select(["n", "day"]).append_column("words", [["new"]]).append_column("price", [[7]]))
    manifest = open_manifest(_metadata(table))
    assert manifest.schema == {"n": "int64", "words": "string", "price": "int64", "day": "date32[day]"}
    found = sorted(kit.records(manifest), key=lambda record: record["n"])
    assert [(record["words"], record["price"]) for record in found[-2:]] == [("row 3", None), ("new", 7)]
    second = Where((("day", "==", "2026-01-02"),))
    assert [record["n"] for record in kit.records(manifest, second)] == [1, 3]
    assert len(shard_choice.shards_for(bind([second], manifest.schema), manifest)) == 1


def test_a_column_that_took_anothers_name_is_another(kit: SimpleNamespace, catalogue: Any) -> None:
    from pyiceberg.types import StringType

    table = catalogue.create_table("sales.orders", schema=_rows(0, 1).schema)
    table.append(_rows(0, 2))
    with table.update_schema() as update:
        update.rename_column("text", "old")
    with table.update_schema() as update:
        update.add_column("text", StringType())
    found = kit.records(open_manifest(_metadata(table)))
    assert [(record["old"], record["text"]) for record in found] == [("row 0", None), ("row 1", None)]


def test_members_of_nested_columns_are_found_by_their_numbers(kit: SimpleNamespace, catalogue: Any) -> None:
    """A member that came, one that went, one of another name, and one that took its name: as pyiceberg itself reads them."""
    from pyiceberg.types import LongType, StringType

    pairs = pyarrow.array([[("k", {"x": 1})], [("l", None)], []], _PAIRS)
    lists = pyarrow.array([[{"y": 1}, None], [{"y": 2}], []], pyarrow.list_(pyarrow.struct([("y", pyarrow.int32())])))
    rows = _rows(0, 3).append_column("kv", pairs).append_column("list", lists)
    table = catalogue.create_table("sales.orders", schema=rows.schema)
    table.append(rows)
    with table.update_schema() as update:
        update.rename_column(("more", "a"), "first")
        update.rename_column(("kv", "value", "x"), "z")
        update.update_column(("list", "element", "y"), LongType())
        update.add_column(("more", "c"), LongType())
        update.delete_column(("more", "b"))
    with table.update_schema() as update:
        update.add_column(("more", "a"), StringType())
    more = pyarrow.struct([("first", pyarrow.int64()), ("c", pyarrow.int64()), ("a", pyarrow.string())])
    later = pyarrow.table({"n": [3, 4], "more": pyarrow.array([{"first": 7, "c": 8, "a": "new"}, None], more)})
    table.append(later)
    found = sorted(kit.records(open_manifest(_metadata(table))), key=lambda record: record["n"])
    own = {row["n"]: row for row in table.scan().to_arrow().to_pylist()}
    assert [record["more"] for record in found] == [own[number]["more"] for number in range(5)]
    # of lists that a file has not pyiceberg makes empty ones
    assert [record["list"] for record in found] == [[{"y": 1}, None], [{"y": 2}], [], None, None]
    assert own[0]["list"] == [{"y": 1}, None]
    assert found[0]["more"] == {"first": 0, "c": None, "a": None}
    assert [record["kv"] for record in found] == [{"k": {"z": 1}}, {"l": None}, {}, None, None]


def test_columns_and_members_with_values_by_default(kit: SimpleNamespace, catalogue: Any, tmp_path: Path) -> None:
    table = catalogue.create_table("sales.orders", schema=_rows(0, 1).schema)
    table.append(_rows(0, 2))
    # pyiceberg reads what has defaults (format 3) and does not write it
    metadata = json.loads(Path(table.metadata_location.removeprefix("file://")).read_text())
    metadata |= {"format-version": 3, "next-row-id": 2, "last-column-id": 90}
    metadata["snapshots"][0] |= {"first-row-id": 0, "added-rows": 2}
    fields = metadata["schemas"][0]["fields"]
    price = {"id": 88, "name": "price", "required": False, "type": "long", "initial-default": 42, "write-default": 42}
    since = {"id": 89, "name": "since", "required": False, "type": "date", "initial-default": "2026-11-30"}
    member = {"id": 90, "name": "c", "required": False, "type": "string", "initial-default": "none"}
    next(field for field in fields if field["name"] == "more")["type"]["fields"].append(member)
    fields += [price, since]
    (tmp_path / "3.metadata.json").write_text(json.dumps(metadata))
    manifest = open_manifest(f"iceberg+{tmp_path}/3.metadata.json")
    found = kit.records(manifest)
    assert [(record["price"], record["since"], record["more"]["c"]) for record in found] == [(42, "2026-11-30", "none")] * 2
    assert kit.records(manifest, Where((("price", "==", 41),))) == []
    assert manifest.partition_columns == []


# -- files of deletions, which pyiceberg reads and does not write


def _with_deletes(table: Any, folder: Path, content: Any, path: Path, kind: Any, equality_ids: list[int] | None = None) -> str:
    """The table's metadata with one more snapshot, that has a file of deletions."""
    from pyiceberg.manifest import (
        DataFile,
        ManifestContent,
        ManifestEntry,
        ManifestEntryStatus,
        ManifestWriterV2,
        write_manifest_list,
    )
    from pyiceberg.serializers import ToOutputFile
    from pyiceberg.table.snapshots import Operation, Snapshot, Summary
    from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate, update_table_metadata
    from pyiceberg.typedef import Record

    class Deletes(ManifestWriterV2):
        def content(self) -> ManifestContent:
            return ManifestContent.DELETES

        @property
        def _meta(self) -> dict[str, str]:
            return {**super()._meta, "content": "deletes"}

    before = table.current_snapshot()
    number, sequence = before.snapshot_id + 1, before.sequence_number + 1
    file = DataFile.from_args(
        content=content,
        file_path=f"file://{path}",
        file_format=kind,
        partition=Record(),
        record_count=1,
        file_size_in_bytes=path.stat().st_size,
        equality_ids=equality_ids,
    )
    file.spec_id = table.spec().spec_id
    with Deletes(table.spec(), table.schema(), table.io.new_output(f"file://{folder}/deletes.avro"), number, "deflate") as writer:
        entry = ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=number, data_file=file)
        writer.add(entry)
    manifests = [*before.manifests(table.io), writer.to_manifest_file()]
    listed = f"file://{folder}/list.avro"
    with write_manifest_list(2, table.io.new_output(listed), number, before.snapshot_id, sequence, "deflate") as lists:
        lists.add_manifests(manifests)
    snapshot = Snapshot(
        snapshot_id=number,
        parent_snapshot_id=before.snapshot_id,
        sequence_number=sequence,
        timestamp_ms=before.timestamp_ms + 1,
        manifest_list=listed,
        summary=Summary(Operation.DELETE),
        schema_id=before.schema_id,
    )
    updates = (
        AddSnapshotUpdate(snapshot=snapshot),
        SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=number),
    )
    made = f"{folder}/0-deletes.metadata.json"
    ToOutputFile.table_metadata(update_table_metadata(table.metadata, updates), table.io.new_output(f"file://{made}"), True)
    return f"iceberg+{made}"


def _file_of(table: Any) -> str:
    (task,) = table.scan().plan_files()
    return str(task.file.file_path)


def test_rows_that_are_deleted_by_position_are_left_out(kit: SimpleNamespace, catalogue: Any, tmp_path: Path) -> None:
    from pyiceberg.manifest import DataFileContent, FileFormat

    table = catalogue.create_table("sales.orders", schema=_rows(0, 1).schema)
    table.append(_rows(0, 10))
    names = [_file_of(table)] * 3 + ["file:///of/another"]
    pyarrow.parquet.write_table(pyarrow.table({"file_path": names, "pos": [7, 2, 2, 1]}), tmp_path / "deletes.parquet")
    uri = _with_deletes(table, tmp_path, DataFileContent.POSITION_DELETES, tmp_path / "deletes.parquet", FileFormat.PARQUET)
    manifest = open_manifest(uri)
    left = [0, 1, 3, 4, 5, 6, 8, 9]
    assert [record["n"] for record in kit.records(manifest)] == left
    assert [Address.parse(record["_address"]).start for record in kit.records(manifest)] == left
    assert manifest.records == 8
    assert len(kit.records(open_manifest(_metadata(table)))) == 10


def _puffin(path: str, positions: list[int]) -> bytes:
    """A file with one deletion vector, as the format's specification has it."""
    from pyroaring import BitMap

    vector = b"\xd1\xd3\x39\x64" + struct.pack("<q", 1) + struct.pack("<i", 0) + bytes(BitMap(positions).serialize())
    blob = struct.pack(">i", len(vector)) + vector + struct.pack(">I", zlib.crc32(vector))
    entry = {
        "type": "deletion-vector-v1",
        "fields": [],
        "snapshot-id": -1,
        "sequence-number": -1,
        "offset": 4,
        "length": len(blob),
        "properties": {"referenced-data-file": path, "cardinality": str(len(positions))},
    }
    footer = json.dumps({"blobs": [entry]}).encode()
    return b"PFA1" + blob + b"PFA1" + footer + struct.pack("<i", len(footer)) + b"\0\0\0\0" + b"PFA1"


def test_rows_that_a_deletion_vector_names_are_left_out(kit: SimpleNamespace, catalogue: Any, tmp_path: Path) -> None:
    from pyiceberg.manifest import DataFileContent, FileFormat

    table = catalogue.create_table("sales.orders", schema=_rows(0, 1).schema)
    table.append(_rows(0, 10))
    (tmp_path / "d.puffin").write_bytes(_puffin(_file_of(table), [0, 9]))
    uri = _with_deletes(table, tmp_path, DataFileContent.POSITION_DELETES, tmp_path / "d.puffin", FileFormat.PUFFIN)
    assert _numbers(kit, uri) == list(range(1, 9))


def test_rows_that_are_deleted_by_value_are_left_out(kit: SimpleNamespace, catalogue: Any, tmp_path: Path) -> None:
    """Nulls equal nulls; what was written after the delete stays."""
    from pyiceberg.manifest import DataFileContent, FileFormat

    rows = pyarrow.table({"n": pyarrow.array([0, 1, 2, 3, 4], pyarrow.int64()), "text": ["a", None, "a", "b", None]})
    table = catalogue.create_table("sales.orders", schema=rows.schema)
    table.append(rows)
    number = table.schema().find_field("text").field_id
    keys = pyarrow.schema([pyarrow.field("text", pyarrow.string(), metadata={"PARQUET:field_id": str(number)})])
    path = tmp_path / "deletes.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array(["b", None, "zz"])}, schema=keys), path)
    uri = _with_deletes(table, tmp_path, DataFileContent.EQUALITY_DELETES, path, FileFormat.PARQUET, [number])
    found = kit.records(open_manifest(uri))
    assert [(record["n"], record["text"]) for record in found] == [(0, "a"), (2, "a")]
    assert [Address.parse(record["_address"]).start for record in found] == [0, 2]
    assert _numbers(kit, _metadata(table)) == [0, 1, 2, 3, 4]


def test_deletes_by_value_that_name_no_columns_are_refused(catalogue: Any, tmp_path: Path) -> None:
    from pyiceberg.manifest import DataFileContent, FileFormat

    table = catalogue.create_table("sales.orders", schema=_rows(0, 1).schema)
    table.append(_rows(0, 3))
    pyarrow.parquet.write_table(pyarrow.table({"n": [1]}), tmp_path / "deletes.parquet")
    uri = _with_deletes(table, tmp_path, DataFileContent.EQUALITY_DELETES, tmp_path / "deletes.parquet", FileFormat.PARQUET)
    with pytest.raises(InputError, match="equality deletes that name no columns"):
        open_manifest(uri)


def test_a_table_without_a_snapshot_is_empty(catalogue: Any) -> None:
    table = catalogue.create_table("sales.orders", schema=_rows(0, 1).schema)
    with pytest.raises(InputError, match="is empty: it has no snapshot"):
        open_manifest(_metadata(table))


def test_a_folder_says_which_metadata_is_newest(kit: SimpleNamespace, catalogue: Any) -> None:
    table = catalogue.create_table("sales.orders", schema=_rows(0, 1).schema)
    table.append(_rows(0, 3))
    file = Path(_metadata(table).removeprefix("iceberg+"))
    file.with_name("version-hint.text").write_text(file.name)
    assert _numbers(kit, f"iceberg+{file.parent.parent}") == [0, 1, 2]


def test_a_table_on_s3(kit: SimpleNamespace, s3: Any, tmp_path: Path) -> None:
    from pyiceberg.catalog.sql import SqlCatalog

    server: dict[str, str] = s3.environment
    options = {
        "s3.endpoint": server["AWS_ENDPOINT_URL"],
        "s3.access-key-id": server["AWS_ACCESS_KEY_ID"],
        "s3.secret-access-key": server["AWS_SECRET_ACCESS_KEY"],
        "s3.region": server["AWS_REGION"],
    }
    catalogue = SqlCatalog("s3", uri=f"sqlite:///{tmp_path}/s3.db", warehouse=f"s3://{s3.bucket()}/lake", **options)
    try:
        catalogue.create_namespace("sales")
        table = catalogue.create_table("sales.orders", schema=_rows(0, 1).schema)
        table.append(_rows(0, 5))
        assert _numbers(kit, f"iceberg+{table.metadata_location}", Where((("n", ">", 2),))) == [3, 4]
    finally:
        catalogue.close()


def test_what_a_tables_own_properties_name_is_not_loaded(kit: SimpleNamespace, catalogue: Any, tmp_path: Path) -> None:
    table = catalogue.create_table("sales.orders", schema=_rows(0, 1).schema)
    table.append(_rows(0, 1))
    metadata = json.loads(Path(_metadata(table).removeprefix("iceberg+")).read_text())
    metadata["properties"]["py-io-impl"] = "tests.hostile.IO"
    (tmp_path / "0.metadata.json").write_text(json.dumps(metadata))
    assert _numbers(kit, f"iceberg+{tmp_path}/0.metadata.json") == [0]
