"""Scans on a real S3 server: the same records as from files, bound to the version that was listed."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest

from rlm_ray import storage
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, ObjectChanged
from rlm_ray.handle.plan import Grep, Select, Slice, Split, Step, Where


@pytest.fixture(scope="module")
def bucket(s3: Any) -> str:
    return str(s3.bucket())


@pytest.fixture(params=["parquet", "log", "log.gz", "jsonl", "csv"])
def twins(request: pytest.FixtureRequest, kit: SimpleNamespace, bucket: str, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The same objects in a folder and on S3."""
    here, there = str(tmp_path / "lake"), f"s3://{bucket}/{request.param}/{kit.folder().rpartition('/')[2]}"
    for number in range(3):
        name = f"day={number}/part.{request.param}"
        rows = [{"n": index, "text": f"{'error' if index % 3 else 'fine'} {number} ü {index}"} for index in range(200)]
        if request.param == "parquet":
            for base in (here, there):
                kit.parquet(pyarrow.Table.from_pylist(rows), f"{base}/{name}", row_group_size=50)
            continue
        if request.param == "jsonl":
            data = "\n".join(f'{{"n": {row["n"]}, "text": "{row["text"]}"}}' for row in rows).encode()
        elif request.param == "csv":
            data = "\n".join(["n,text", *(f"{row['n']},{row['text']}" for row in rows)]).encode()
        else:
            data = "\r\n".join(str(row["text"]) for row in rows).encode()
        for base in (here, there):
            storage.write_bytes(f"{base}/{name}", gzip.compress(data) if name.endswith("gz") else data)
    yield here, there
    storage.delete_tree(there)


_PLANS: list[list[Step]] = [
    [],
    [Grep("error"), Select(("text",))],
    [Where((("day", ">=", 1),)), Slice(5, 250), Split("text", " ")],
]


@pytest.mark.parametrize("steps", _PLANS, ids=["all", "grep", "slice"])
def test_the_same_records_as_from_files(kit: SimpleNamespace, twins: tuple[str, str], steps: list[Step]) -> None:
    found = []
    for base in twins:
        manifest = open_manifest(base, shard_bytes=900)
        records = kit.records(manifest, *kit.local(manifest, steps))
        assert kit.operate(manifest, "count", *steps) == len(records)
        for record in records:
            place = record.pop("_address")
            assert place.startswith(base)
            record["place"] = (place.partition("@")[0][len(base) :], place.partition("#")[2])
        found.append(records)
    assert found[0] == found[1]
    assert found[0]


def test_a_changed_object_is_never_mixed(kit: SimpleNamespace, twins: tuple[str, str]) -> None:
    manifest = open_manifest(twins[1], shard_bytes=900)
    uri = manifest.shards[0].uri
    storage.write_bytes(uri, storage.read_bytes(uri) + b" ")
    with pytest.raises(ObjectChanged, match="part"):
        kit.records(manifest)
    storage.delete_tree(uri)
    with pytest.raises(ObjectChanged, match="gone"):
        kit.records(manifest)


def test_objects_are_counted_together_each_in_its_version(kit: SimpleNamespace, bucket: str) -> None:
    base = f"s3://{bucket}/counted"
    for number in range(3):
        rows = pyarrow.table({"n": range(90), "host": ["h1", "h2", "h3"] * 30})
        kit.parquet(rows, f"{base}/{number}.parquet", row_group_size=30)
    manifest = open_manifest(base, shard_bytes=700)
    steps = (Where((("n", ">=", 40),)),)
    works = [Work(shard, bind(steps, manifest.schema)) for shard in manifest.shards]
    counts = operations.run_all("count", works, {})
    assert len(counts) > 3
    assert sum(counts) == 150
    by_host = operations.merge("count_by", operations.run_all("count_by", works, args := {"column": "host", "limit": 9}), args)
    assert by_host == {"counts": [["h2", 51], ["h3", 51], ["h1", 48]], "distinct": 3}
    changed = works[0].shard.uri
    storage.write_bytes(changed, storage.read_bytes(changed) + b" ")
    found = operations.run_all("count", works, {})
    assert [isinstance(count, ObjectChanged) for count in found] == [work.shard.uri == changed for work in works]
    assert [count for count in found if isinstance(count, int)] == counts[-sum(isinstance(count, int) for count in found) :]


def test_broken_parquet_on_s3_is_a_reason(kit: SimpleNamespace, bucket: str) -> None:
    base = f"s3://{bucket}/broken"
    kit.parquet(pyarrow.table({"n": [1]}), f"{base}/a.parquet")
    storage.write_bytes(f"{base}/b.parquet", b"none of it")
    manifest = open_manifest(base)
    assert [entry["object"] for entry in manifest.failed] == [f"{base}/b.parquet"]
    assert kit.operate(manifest, "count") == 1


def test_results_on_s3_are_read_without_a_size(kit: SimpleNamespace, bucket: str) -> None:
    from rlm_ray.corpus.catalog.building import manifest_of_segments

    table = pyarrow.table({"_address": ["a@1#row=1"], "tags": ['["x"]'], "n": [1], "_error": pyarrow.nulls(1, "string")})
    uri = kit.parquet(table, f"s3://{bucket}/run/segments/0.parquet")
    schema = {"_address": "string", "tags": "json", "n": "double", "_error": "string"}
    columns = schema | {"n": "int64"}
    manifest = manifest_of_segments("r1", [{"uri": uri, "rows": 1, "nbytes": 10, "columns": columns}], schema)
    assert kit.records(manifest) == [{"_address": "a@1#row=1", "tags": ["x"], "n": 1.0, "_error": None}]


def test_a_prefix_that_is_no_directory(bucket: str, kit: SimpleNamespace) -> None:
    storage.write_bytes(f"s3://{bucket}/logs-2026/a.log", b"x\n")
    with pytest.raises(InputError, match=f"s3://{bucket}/logs-20"):
        open_manifest(f"s3://{bucket}/logs-20")
    assert kit.operate(open_manifest(f"s3://{bucket}/logs-20*"), "count") == 1
