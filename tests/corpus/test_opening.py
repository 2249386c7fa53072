"""From URIs to a manifest: formats, partitions, schemas that unite, files that cannot be read, and what is said of it all."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pytest

from rlm_ray import storage
from rlm_ray.corpus import opening
from rlm_ray.corpus.catalog.building import manifest_of_segments
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations.operations import run
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, ObjectChanged, ObjectUnreadable
from rlm_ray.handle.plan import Grep, Select, Where


@pytest.fixture
def lake(tmp_path: Path, kit: SimpleNamespace) -> str:
    for day, count in ((1, 3), (2, 5), (10, 2)):
        for system in ("web", "db"):
            table = pyarrow.table({"n": list(range(count)), "msg": [f"{system} {day} {number}" for number in range(count)]})
            kit.parquet(table, str(tmp_path / "lake" / f"day={day}" / f"system={system}" / "part-0.parquet"))
    storage.write_bytes(str(tmp_path / "lake" / "_SUCCESS"), b"")
    return str(tmp_path / "lake")


def test_info_of_a_partitioned_lake(lake: str) -> None:
    manifest = open_manifest(lake, name="logs")
    info = manifest.info()
    assert json.loads(json.dumps(info)) == info
    assert info["kind"] == "parquet"
    assert info["unit"] == "row"
    assert info["schema"] == {"n": "int64", "msg": "string", "day": "string", "system": "string"}
    assert (info["objects"], info["shards"], info["records"], info["estimate"]) == (6, 6, 20, None)
    assert info["nbytes"] > 0
    assert info["uris"] == [lake]
    assert info["partitions"] == {
        "day": {"values": ["1", "2", "10"], "distinct": 3, "min": "1", "max": "10"},
        "system": {"values": ["db", "web"], "distinct": 2, "min": "db", "max": "web"},
    }
    assert info["failed"] == info["conflicts"] == []


def test_partitions_are_columns_and_prune(kit: SimpleNamespace, lake: str) -> None:
    manifest = open_manifest(lake)
    found = kit.records(manifest, Where((("day", ">", 1), ("system", "==", "db"))), Select(("day", "msg")))
    assert [(record["day"], record["msg"]) for record in found] == [
        *(("10", f"db 10 {number}") for number in range(2)),
        *(("2", f"db 2 {number}") for number in range(5)),
    ]
    # the object order is that of the names, and a shard that cannot match is not opened
    for shard in manifest.shards:
        if shard.partitions != (("day", "1"), ("system", "web")):
            storage.delete_tree(shard.uri)
    assert len(kit.records(manifest, Where((("day", "==", 1), ("system", "in", ("web",)))))) == 3
    with pytest.raises(ObjectChanged):
        kit.records(manifest, Where((("day", "==", 2),)))


def test_one_file_of_a_partitioned_lake_keeps_its_partitions(lake: str) -> None:
    manifest = open_manifest(f"{lake}/day=2/system=web/part-0.parquet")
    assert manifest.schema["day"] == "folder"
    assert dict(manifest.shards[0].partitions) == {"day": "2", "system": "web"}


def test_partition_values(kit: SimpleNamespace) -> None:
    base = kit.folder()
    for name in ("p=1/q=a%20b/x.log", "p=__HIVE_DEFAULT_PARTITION__/q=2/y.log", "p=-3/z.log"):
        storage.write_bytes(f"{base}/lake/{name}", name.encode())
    manifest = open_manifest(f"{base}/lake")
    rows = [(record["text"], record["p"], record["q"]) for record in kit.records(manifest)]
    assert manifest.schema == {"text": "string", "p": "folder", "q": "folder"}
    assert rows == [
        ("p=-3/z.log", "-3", None),
        ("p=1/q=a%20b/x.log", "1", "a b"),
        ("p=__HIVE_DEFAULT_PARTITION__/q=2/y.log", None, "2"),
    ]
    assert kit.operate(manifest, "count", Where((("p", "==", None),))) == 1
    assert kit.operate(manifest, "count", Where((("q", "!=", None), ("p", "<", 5)))) == 1


def test_several_uris_are_one_corpus_in_name_order(kit: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("b.log", "a.log", "c/d.log"):
        storage.write_bytes(str(tmp_path / name), name.encode())
    manifest = open_manifest(str(tmp_path / "c"), f"{tmp_path}/*.log", str(tmp_path / "b.log"))
    assert [record["text"] for record in kit.records(manifest)] == ["a.log", "b.log", "c/d.log"]


@pytest.mark.parametrize(
    ("name", "format", "unit", "kind", "records"),
    [
        ("a.log", None, None, "lines", [{"text": '{"n": 1}'}, {"text": "x,y"}]),
        ("noextension", None, None, "lines", [{"text": '{"n": 1}'}, {"text": "x,y"}]),
        ("a.csv", "text", None, "lines", [{"text": '{"n": 1}'}, {"text": "x,y"}]),
        ("a.md", None, "document", "document", [{"path": "a.md", "text": '{"n": 1}\nx,y\n'}]),
        ("a.jsonl", None, "document", "document", [{"path": "a.jsonl", "text": '{"n": 1}\nx,y\n'}]),
        ("a.jsonl", None, None, "jsonl", [{"n": 1}, {"n": None, "_error": "no JSON"}]),
        ("a.log", "jsonl", None, "jsonl", [{"n": 1}, {"n": None, "_error": "no JSON"}]),
        ("a.csv", None, None, "csv", [{'{"n": 1}': None, "_error": "2 fields"}]),
    ],
)
def test_formats(
    kit: SimpleNamespace,
    tmp_path: Path,
    name: str,
    format: str | None,
    unit: str | None,
    kind: str,
    records: list[dict[str, object]],
) -> None:
    for suffix, data in (("", b'{"n": 1}\nx,y\n'), (".gz", gzip.compress(b'{"n": 1}\nx,y\n'))):
        uri = str(tmp_path / f"{name}{suffix}")
        storage.write_bytes(uri, data)
        manifest = open_manifest(uri, format=format, unit=unit)
        assert manifest.format == kind
        found = []
        for record in kit.records(manifest):
            del record["_address"]
            if "_error" in record:
                record["_error"] = record["_error"][:8].rstrip(" (")
            found.append(record)
        expected = [item | ({"path": f"{item['path']}{suffix}"} if "path" in item else {}) for item in records]
        assert found == [{key: value[:8] if key == "_error" else value for key, value in item.items()} for item in expected]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "xml"}, "parquet, text, jsonl, json, csv"),
        ({"unit": "page"}, "line, event, document, row"),
        ({"unit": "row"}, "unit='row' does not go with lines"),
        ({"format": "parquet", "unit": "document"}, "unit='document' does not go with parquet"),
    ],
)
def test_options_that_do_not_go_together(kit: SimpleNamespace, options: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_manifest(kit.object(b"x\n", ".log"), **options)


def test_mixed_formats_are_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a.log"), b"x\n")
    kit.parquet(pyarrow.table({"n": [1]}), str(tmp_path / "b.parquet"))
    with pytest.raises(InputError, match=r"lines \(.*a\.log\), parquet \(.*b\.parquet\)"):
        open_manifest(str(tmp_path))
    assert open_manifest(f"{tmp_path}/*.parquet").format == "parquet"
    rows = open_manifest(str(tmp_path), format="parquet")
    assert (rows.format, rows.records, rows.info()["left_out"]) == ("parquet", 1, "1 object of another format")
    assert kit.records(open_manifest(str(tmp_path), format="text"))[0]["text"] == "x"
    unnamed = kit.parquet(pyarrow.table({"n": [1]}), str(tmp_path / "odd" / "part-0"))
    assert open_manifest(unnamed, format="parquet").records == 1


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Nothing to read at"):
        open_manifest(str(tmp_path))
    (tmp_path / "a.log").write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        open_manifest(str(tmp_path))
    with pytest.raises(InputError, match="No URI"):
        open_manifest()


def test_schemas_unite_by_name(kit: SimpleNamespace, tmp_path: Path) -> None:
    kit.parquet(
        pyarrow.table({"a": pyarrow.array([1], "int8"), "b": ["x"], "c": [1], "e": [[1, 2]], "f": pyarrow.array([1.5], "float")}),
        str(tmp_path / "1.parquet"),
    )
    kit.parquet(
        pyarrow.table({"b": pyarrow.array(["y"]).dictionary_encode(), "a": [1 << 40], "c": ["one"], "d": [True], "f": [2]}),
        str(tmp_path / "2.parquet"),
    )
    manifest = open_manifest(str(tmp_path))
    assert manifest.schema == {
        "a": "int64",
        "b": "string",
        "c": "json",
        "e": "list<element: int64>",
        "f": "double",
        "d": "bool",
    }
    assert manifest.info()["conflicts"] == ["c"]
    found = kit.records(manifest)
    for record in found:
        del record["_address"]
    assert found == [
        {"a": 1, "b": "x", "c": 1, "e": [1, 2], "f": 1.5, "d": None},
        {"a": 1 << 40, "b": "y", "c": "one", "e": None, "f": 2.0, "d": True},
    ]
    assert kit.operate(manifest, "count", Where((("a", ">", 100),))) == 1
    assert kit.operate(manifest, "count", Where((("d", "==", None),))) == 1
    assert kit.operate(manifest, "count", Grep("one", column="c")) == 1
    assert kit.operate(manifest, "count", Grep("1, 2")) == 1
    assert kit.operate(manifest, "count_by", column="c", limit=5) == {"counts": [["one", 1], [1, 1]], "distinct": 2}


def test_columns_with_our_names_are_shown_under_another(kit: SimpleNamespace) -> None:
    table = pyarrow.table({"_pos": ["mine"], "_address": ["here"], "_id": [7]})
    manifest = open_manifest(kit.parquet(table, f"{kit.folder()}/a.parquet"))
    assert manifest.schema == {"pos_": "string", "address_": "string", "_id": "int64"}
    (record,) = kit.records(manifest, Where((("pos_", "==", "mine"),)))
    assert record.pop("_address").endswith("#row=0")
    assert record == {"pos_": "mine", "address_": "here", "_id": 7}


def test_an_unreadable_file_is_a_reason_and_the_rest_goes_on(kit: SimpleNamespace, lake: str) -> None:
    storage.write_bytes(f"{lake}/day=2/system=web/broken.parquet", b"PAR1 this is none PAR1")
    storage.write_bytes(f"{lake}/day=2/system=web/empty.parquet", b"")
    manifest = open_manifest(lake)
    assert [entry["object"].rpartition("/")[2] for entry in manifest.info()["failed"]] == ["broken.parquet", "empty.parquet"]
    assert all(len(entry["reason"]) > 5 for entry in manifest.failed)
    assert len(kit.records(manifest)) == 20
    with pytest.raises(InputError, match=r"No Parquet file at .*broken\.parquet can be read, of 1"):
        open_manifest(f"{lake}/day=2/system=web/broken.parquet")


def test_a_manifest_comes_back_from_its_directory(lake: str, tmp_path: Path) -> None:
    storage.write_bytes(f"{lake}/day=2/broken.parquet", b"none")
    manifest = open_manifest(lake, name="logs", shard_bytes=10)
    manifest.save(str(tmp_path / "run" / "manifest"))
    again = Manifest.load(str(tmp_path / "run" / "manifest"))
    assert again.info() == manifest.info()
    assert list(again.shards) == list(manifest.shards)
    assert again.fingerprint == manifest.fingerprint
    assert again.widths == manifest.widths
    assert pickle.loads(pickle.dumps(again)).info() == manifest.info()
    assert len(pickle.dumps(manifest.shards[0])) < 1_000


def test_the_fingerprint_is_that_of_the_content(kit: SimpleNamespace, lake: str) -> None:
    first = open_manifest(lake).fingerprint
    assert open_manifest(lake, name="other").fingerprint == first
    assert open_manifest(lake, shard_bytes=10).fingerprint != first
    kit.parquet(pyarrow.table({"n": [1], "msg": ["x"]}), f"{lake}/day=2/system=web/part-0.parquet")
    assert open_manifest(lake).fingerprint != first


def test_shards_are_a_sequence(lake: str) -> None:
    shards = open_manifest(lake).shards
    assert [shard.index for shard in shards] == list(range(6))
    assert shards[-1] == shards[5] == shards[4:][1]
    with pytest.raises(IndexError):
        shards[6]


def test_row_groups_become_shards(kit: SimpleNamespace) -> None:
    table = pyarrow.table({"n": list(range(1_000)), "text": ["x" * 100] * 1_000})
    uri = kit.parquet(table, f"{kit.folder()}/a.parquet", row_group_size=100, use_dictionary=False)
    whole = open_manifest(uri)
    assert [(shard.start, shard.stop, shard.rows) for shard in whole.shards] == [(0, 1_000, 1_000)]
    cut = open_manifest(uri, shard_bytes=25_000)
    assert [(shard.start, shard.stop) for shard in cut.shards] == [(at, at + 200) for at in range(0, 1_000, 200)]
    assert [record["n"] for record in kit.records(cut)] == list(range(1_000))


def test_a_changed_object_is_named_and_never_mixed(kit: SimpleNamespace, lake: str) -> None:
    manifest = open_manifest(lake)
    shard = manifest.shards[2]
    kit.parquet(pyarrow.table({"n": [99], "msg": ["new"]}), shard.uri)
    with pytest.raises(ObjectChanged, match=r"part-0\.parquet"):
        kit.records(manifest)


def test_of_very_many_files_some_footers_are_read(kit: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        table = pyarrow.table(
            {"n": [number] * (number + 1), "k": pyarrow.array([1] * (number + 1), "int32" if number % 2 else "int64")}
        )
        kit.parquet(table, str(tmp_path / "many" / f"{number:02d}.parquet"))
    everything = open_manifest(str(tmp_path / "many"))
    monkeypatch.setattr(opening, "MAX_FOOTERS", 10)
    monkeypatch.setattr(opening, "SOME_FOOTERS", 4)
    manifest = open_manifest(str(tmp_path / "many"))
    info = manifest.info()
    assert info["footers"] == "read of 4 of 20 files"
    assert (info["records"], info["shards"]) == (None, 20)
    assert info["estimate"] == pytest.approx(210, rel=0.3)
    assert kit.records(manifest) == kit.records(everything)
    assert kit.operate(manifest, "count") == 210
    assert kit.operate(manifest, "count", Where((("n", ">=", 18),))) == 19 + 20
    storage.write_bytes(str(tmp_path / "many" / "05.parquet"), b"broken")
    broken = open_manifest(str(tmp_path / "many"))
    with pytest.raises(ObjectUnreadable, match=r"05\.parquet"):
        run("count", Work(broken.shards[5], bind((), broken.schema)), {})


# -- results


def test_results_are_corpora_of_their_own(kit: SimpleNamespace, tmp_path: Path) -> None:
    first = pyarrow.table({"_address": ["a@1#row=0", None], "label": ["x", "y"], "tags": ['["t"]', None], "_error": [None, "bad"]})
    second = pyarrow.table({"_address": ["a@1#row=9"], "label": [7], "_error": pyarrow.array([None], "string")})
    kinds = {"_address": "string", "label": "string", "tags": "json", "_error": "string"}
    segments = [
        {"uri": kit.parquet(first, str(tmp_path / "0.parquet")), "rows": 2, "nbytes": 100, "columns": kinds},
        {
            "uri": kit.parquet(second, str(tmp_path / "1.parquet")),
            "rows": 1,
            "nbytes": 50,
            "columns": {"_address": "string", "label": "int64", "_error": "string"},
        },
    ]
    manifest = manifest_of_segments("r1", segments, kinds | {"label": "json"})
    expected = [
        {"_address": "a@1#row=0", "label": "x", "tags": ["t"], "_error": None},
        {"_address": f"{tmp_path}/0.parquet@#row=1", "label": "y", "tags": None, "_error": "bad"},
        {"_address": "a@1#row=9", "label": 7, "tags": None, "_error": None},
    ]
    assert kit.records(manifest) == expected
    assert kit.records(manifest, Where((("_error", "==", None),)), Select(("label",))) == [
        {"_address": "a@1#row=0", "label": "x", "_error": None},
        {"_address": "a@1#row=9", "label": 7, "_error": None},
    ]
    for shard, table in zip(manifest.shards, (first, second), strict=True):
        storage.delete_tree(shard.uri)
        assert run("count", Work(shard, bind((Grep("x|7"),), manifest.schema), table=table), {}) == 1
        assert run("at", Work(shard, bind((), manifest.schema), table=table), {"ordinals": [0]}) == [expected[2 * shard.index]]


def test_a_name_that_is_no_text_is_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a.log"), b"fine\n")
    (tmp_path / os.fsdecode(b"b\xff.log")).write_bytes(b"not fine\n")
    (tmp_path / os.fsdecode(b".b\xff.log")).symlink_to(tmp_path / "nowhere")
    manifest = open_manifest(str(tmp_path))
    assert [shard.uri for shard in manifest.shards] == [str(tmp_path / "a.log")]
    assert manifest.failed == [{"object": str(tmp_path / "b\\udcff.log"), "reason": "its name is not UTF-8; rename it"}]
    (tmp_path / "a.log").unlink()
    with pytest.raises(InputError, match=r"1 object.*Rename"):
        open_manifest(str(tmp_path))
