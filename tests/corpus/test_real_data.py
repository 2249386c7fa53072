"""Real files: everything in parquet-testing that pyarrow reads, and questions whose answers are known."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow
import pyarrow.parquet
import pytest

from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.meaning.readable import is_variant
from rlm_ray.corpus.meaning.types import shown_name
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations.operations import records
from rlm_ray.corpus.planning import chunk_ranges
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, ObjectUnreadable
from rlm_ray.handle.plan import Grep, Split, Where
from tests.corpus.same import same, same_variant

#: What pyarrow refuses: seven that are bad on purpose, a map whose keys may be null, and one whose texts are 2 GB.
REFUSED = [
    "ARROW-GH-41317.parquet",
    "ARROW-GH-41321.parquet",
    "ARROW-GH-45185.parquet",
    "ARROW-GH-47662.parquet",
    "ARROW-RS-GH-6229-DICTHEADER.parquet",
    "ARROW-RS-GH-6229-LEVELS.parquet",
    "PARQUET-1481.parquet",
    "incorrect_map_schema.parquet",
    "large_string_map.brotli.parquet",
]
#: Rows up to which a file's values are compared.
COMPARED = 20_000


def _by_pyarrow(path: Path) -> pyarrow.Table | None:
    try:
        # times of 96 bits in microseconds: in nanoseconds, its default, years beyond 2262 overflow without an error
        return pyarrow.parquet.ParquetFile(path, coerce_int96_timestamp_unit="us").read()
    except (pyarrow.ArrowException, OSError):
        return None


def _variants_by_duckdb(path: Path, name: str) -> list[Any] | None:
    """A column of VARIANT, which pyarrow gives as its parts; None where DuckDB refuses it."""
    try:
        rows = duckdb.execute(f"select to_json(\"{name}\") from '{path}'").fetchall()
    except duckdb.Error:
        return None
    return [None if row[0] is None else json.loads(row[0]) for row in rows]


def _differing(records: list[dict[str, Any]], table: pyarrow.Table, path: Path) -> Iterator[str]:
    """Columns in which a record shows another value than pyarrow has, or DuckDB of VARIANT."""
    for index, name in enumerate(table.column_names):
        if is_variant(table.schema.field(index).type):
            variants = None if "INVALID" in path.name else _variants_by_duckdb(path, name)
            if variants is not None and not all(map(same_variant, (record[name] for record in records), variants)):
                yield f"{name}: {records!r:.100} is {variants!r:.100}"
            continue
        try:
            values = table.column(index).to_pylist()
        except (ValueError, OverflowError):  # times that Python has none for
            continue
        shown = shown_name(name)
        for record, value in zip(records, values, strict=True):
            if not same(record[shown], value):
                yield f"{name}: {record[shown]!r:.100} is {value!r:.100}"
                break


def _read(path: Path) -> list[dict[str, Any]] | str:
    """The records of a file, or why it is refused."""
    try:
        manifest = open_manifest(str(path))
        return [record for shard in manifest.shards for page in records(Work(shard, bind((), manifest.schema))) for record in page]
    except (InputError, ObjectUnreadable) as error:
        return str(error)


def test_every_file_of_parquet_testing(data: Path) -> None:
    read, refused = [], []
    for path in sorted((data / "parquet-testing").rglob("*.parquet")):
        found = _read(path)
        table = _by_pyarrow(path)
        if isinstance(found, str):
            assert table is None, found
            assert path.name in found
            refused.append(path.name)
        else:
            assert table is not None, path
            assert len(found) == table.num_rows, path
            if table.num_rows <= COMPARED:
                assert list(_differing(found, table, path)) == [], path
            json.dumps(found)
            read.append(path.name)
    assert len(read) == 211
    assert sorted(refused) == REFUSED


def test_the_unreadable_are_so_many_failed_shards(data: Path) -> None:
    files = data / "parquet-testing"
    manifest = open_manifest(str(files / "bad_data"), f"{files}/data/[a-i]*", format="parquet")
    failed = {entry["object"]: entry["reason"] for entry in manifest.failed}
    for shard in manifest.shards:
        try:
            for _ in records(Work(shard, bind((), manifest.schema))):
                pass
        except ObjectUnreadable as error:
            failed[shard.uri] = str(error)
    assert len(failed) == 8
    assert all(reason for reason in failed.values())


def _gold(data: Path, question: str) -> Any:
    lines = (data / "questions.jsonl").read_text("utf-8").splitlines()
    return next(item["gold"] for item in map(json.loads, lines) if item["id"] == question)


@pytest.fixture(scope="module", params=["parquet", "text"])
def logs(request: pytest.FixtureRequest, data: Path) -> Any:
    def open_system(system: str) -> tuple[Manifest, str]:
        if request.param == "parquet":
            return open_manifest(str(data / "logs" / "parquet" / f"system={system}")), "raw"
        return open_manifest(str(data / "logs" / "text" / f"{system}.log"), shard_bytes=10_000), "text"

    return open_system


def test_questions_about_logs(kit: SimpleNamespace, data: Path, logs: Any) -> None:
    hdfs, column = logs("HDFS")
    assert kit.operate(hdfs, "count", Grep(r" WARN .*[Ee]xception while serving")) == _gold(data, "L06")
    blocks = {block for record in kit.records(hdfs) for block in re.findall(r"blk_-?\d+", record[column])}
    assert len(blocks) == _gold(data, "L07")
    ssh, column = logs("OpenSSH")
    tries: Counter[str] = Counter()
    for record in kit.records(ssh, Grep("Failed password")):
        tries.update(re.findall(r"from (\d+\.\d+\.\d+\.\d+)", record[column]))
    assert list(tries.most_common(1)[0]) == _gold(data, "L09")
    assert len(tries) == _gold(data, "L10")
    assert kit.operate(ssh, "count", Grep(r"\]: Failed password for invalid user")) == _gold(data, "L12")
    apache, _ = logs("Apache")
    errors = [Grep(r"\[error\]"), Grep("mod_jk child workerEnv in error state")]
    assert [kit.operate(apache, "count", *errors[:1]), kit.operate(apache, "count", *errors)] == _gold(data, "L16")
    zookeeper, _ = logs("Zookeeper")
    levels = {level: kit.operate(zookeeper, "count", Grep(rf" - {level} ")) for level in ("INFO", "WARN", "ERROR")}
    assert levels == _gold(data, "L17")


def test_haystacks(kit: SimpleNamespace, data: Path) -> None:
    manifest = open_manifest(str(data / "sniah" / "sniah_8192.jsonl"))
    for needle in kit.records(manifest):
        one = Where((("id", "==", needle["id"]),))
        spans = kit.records(manifest, one, Split("context", r"\. |\n"), Grep(re.escape(needle["key"]), column="context"))
        assert any(needle["outputs"][0] in span["context"] for span in spans)


def test_contracts(kit: SimpleNamespace, data: Path) -> None:
    manifest = open_manifest(str(data / "contracts"), format="parquet")
    assert manifest.records == 510
    texts = {record["file"]: record["text"] for record in kit.records(manifest)}
    spans = kit.records(manifest, Split("text", "paragraph", 4000))
    for span in spans:
        first, last = map(int, re.search(r"&chars=(\d+)-(\d+)$", span["_address"]).groups())  # type: ignore[union-attr]
        assert texts[span["file"]][first:last] == span["text"]
        assert len(span["text"]) <= 4000
    borders = chunk_ranges.plain_chunk_ranges(bind([], manifest.schema), manifest, 32_000)
    assert borders is not None
    assert sum(border[3] for border in borders) == 510
