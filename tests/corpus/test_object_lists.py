"""Lists of objects: each form gives the corpus that the listing of the same objects gives."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus

import deltalake
import pyarrow
import pyarrow.parquet
import pytest

import rlm_ray
from rlm_ray import storage
from rlm_ray.conversion import names_data
from rlm_ray.corpus import object_lists
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.errors import InputError, UnreadShard
from rlm_ray.storage import ObjectInfo

NAMES = ("a b.log", "b+c.log", "deep/ü.log", "z.log")


@pytest.fixture
def logs(tmp_path: Path) -> list[ObjectInfo]:
    folder = tmp_path / "logs"
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"first of {number}\nsecond of {number}\n")
    (folder / "left.log").write_text("is in no list\n")
    return [info for info in sorted(storage.listing(str(folder))) if not info.uri.endswith("left.log")]


def rows(infos: list[ObjectInfo]) -> dict[str, list[Any]]:
    return {"uri": [info.uri for info in infos], "size": [info.size for info in infos], "etag": [info.version for info in infos]}


def as_text(infos: list[ObjectInfo], folder: Path) -> str:
    (folder / "list.txt").write_text("".join(f"{info.uri}\n\n" for info in infos))
    return str(folder / "list.txt")


def as_relative(infos: list[ObjectInfo], folder: Path) -> str:
    (folder / "list.txt.gz").write_bytes(gzip.compress("".join(f"logs/{name}\n" for name in NAMES).encode()))
    return str(folder / "list.txt.gz")


def as_tabs(infos: list[ObjectInfo], folder: Path) -> str:
    (folder / "list.txt").write_text("".join(f"{info.uri}\t{info.size}\t{info.version}\n" for info in infos))
    return str(folder / "list.txt")


def as_csv(infos: list[ObjectInfo], folder: Path) -> str:
    with (folder / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["Size", "URL", "ETag"], *([info.size, info.uri, f'"{info.version}"'] for info in infos)])
    return str(folder / "list.csv")


def as_jsonl(infos: list[ObjectInfo], folder: Path) -> str:
    (folder / "list.jsonl").write_text("".join(json.dumps({"path": info.uri, "note": [1]}) + "\n" for info in infos))
    return str(folder / "list.jsonl")


def as_parquet(infos: list[ObjectInfo], folder: Path) -> str:
    pyarrow.parquet.write_table(pyarrow.table(rows(infos)), folder / "list.parquet")
    return str(folder / "list.parquet")


def as_delta(infos: list[ObjectInfo], folder: Path) -> str:
    deltalake.write_deltalake(folder / "list", pyarrow.table(rows(infos)))
    return f"delta+{folder / 'list'}"


@pytest.mark.parametrize("write", [as_text, as_relative, as_tabs, as_csv, as_jsonl, as_parquet, as_delta])
def test_a_list_gives_what_the_listing_gives(
    logs: list[ObjectInfo], tmp_path: Path, write: Callable[[list[ObjectInfo], Path], str]
) -> None:
    manifest = open_manifest(f"list+{write(logs, tmp_path)}")
    direct = open_manifest(*(info.uri for info in logs))
    assert manifest.fingerprint == direct.fingerprint
    assert [shard.uri for shard in manifest.shards] == [info.uri for info in logs]


def test_nothing_is_asked_of_the_store_where_size_and_version_are_known(
    logs: list[ObjectInfo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(object_lists.storage, "stat", asked.append)
    assert len(object_lists.listed_in(f"list+{as_parquet(logs, tmp_path)}", open_manifest)[0]) == len(NAMES)
    assert asked == []


def test_what_is_gone_is_a_failed_object_and_what_changed_a_failed_shard(logs: list[ObjectInfo], tmp_path: Path) -> None:
    name = as_tabs(logs, tmp_path)
    with Path(name).open("a") as file:
        file.write(f"{tmp_path}/logs/gone.log\n")
    Path(logs[0].uri).write_text("quite another text, longer than before\n")
    corpus = rlm_ray.open(f"list+{name}")
    assert "gone.log" in str(corpus.describe())
    with pytest.warns(UnreadShard, match="a b.log is left out"):
        assert len(list(corpus)) == 2 * (len(NAMES) - 1)


def test_lists_beside_other_uris(logs: list[ObjectInfo], tmp_path: Path) -> None:
    manifest = open_manifest(f"list+{as_text(logs[:1], tmp_path)}", str(tmp_path / "logs" / "left.log"))
    assert [Path(shard.uri).name for shard in manifest.shards] == ["a b.log", "left.log"]


def test_what_is_no_list_is_refused(logs: list[ObjectInfo], tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("host,n\na,1\n")
    with pytest.raises(InputError, match="has no column of URIs"):
        open_manifest(f"list+{tmp_path / 'other.csv'}")
    (tmp_path / "none.txt").write_text(f"{tmp_path}/1\n{tmp_path}/2\n")
    with pytest.raises(InputError, match="names 2 objects, and none is in the store"):
        open_manifest(f"list+{tmp_path / 'none.txt'}")
    (tmp_path / "bad.txt").write_text(f"{logs[0].uri}\tmany\tv\n")
    with pytest.raises(InputError, match="no number of bytes"):
        open_manifest(f"list+{tmp_path / 'bad.txt'}")
    with pytest.raises(InputError, match="Nothing to read"):
        open_manifest(f"list+{tmp_path / 'no such list'}")
    assert names_data(f"list+{tmp_path / 'none.txt'}")


@pytest.mark.parametrize("form", ["CSV", "Parquet"])
def test_an_inventory_of_s3(s3: Any, kit: SimpleNamespace, form: str) -> None:
    bucket = s3.bucket()
    for number, name in enumerate(NAMES):
        storage.write_bytes(f"s3://{bucket}/logs/{name}", f"first of {number}\n".encode())
    infos = sorted(storage.listing(f"s3://{bucket}/logs"))
    keys = [info.uri.removeprefix(f"s3://{bucket}/") for info in infos]
    file = f"inventory/data/1.{'csv.gz' if form == 'CSV' else 'parquet'}"
    if form == "CSV":
        text = io.StringIO(newline="")
        old = [bucket, "old.log", "v0", "false", "false", "1", "e"]
        lines = [
            [bucket, quote_plus(key), "v", "true", "false", info.size, info.version] for key, info in zip(keys, infos, strict=True)
        ]
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows([*lines, old])
        storage.write_bytes(f"s3://{bucket}/{file}", gzip.compress(text.getvalue().encode()))
        schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag"
    else:
        count = len(keys) + 1
        columns = {
            "bucket": [bucket] * count,
            "key": [*keys, "old.log"],
            "is_latest": [*[True] * len(keys), False],
            "size": [*(info.size for info in infos), 1],
            "e_tag": [*(info.version for info in infos), "e"],
        }
        kit.parquet(pyarrow.table(columns), f"s3://{bucket}/{file}")
        schema = "message s3.inventory { required binary bucket (STRING); }"
    about = {
        "sourceBucket": bucket,
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "fileFormat": form,
        "fileSchema": schema,
        "files": [{"key": file, "size": 1, "MD5checksum": ""}],
    }
    storage.write_bytes(f"s3://{bucket}/inventory/manifest.json", json.dumps(about).encode())
    manifest = open_manifest(f"list+s3://{bucket}/inventory/manifest.json")
    assert manifest.fingerprint == open_manifest(f"s3://{bucket}/logs").fingerprint
    assert [record["text"] for record in kit.records(manifest)] == [f"first of {number}" for number in range(len(NAMES))]
