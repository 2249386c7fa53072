"""What chunks ask of S3, counted before the server: no more than a tenth above what they need."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest

from rlm_ray import storage
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.planning import chunk_ranges, shard_choice
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.parquet import row_groups
from rlm_ray.corpus.reading.work import Work
from rlm_ray.handle.plan import Between, Window
from tests.counting import CountingProxy, counted


@pytest.fixture
def proxy(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingProxy]:
    """All connections go through it, once the data is there."""
    with counted(s3.endpoint) as made:
        storage.forget_connections()
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
        yield made
        monkeypatch.undo()
        storage.forget_connections()


def read(manifest: Manifest, border: Any) -> Any:
    """The records of a chunk, as batches."""
    steps = (Between(*map(tuple, border[:2])),)
    return [
        batch
        for shard in shard_choice.shards_for(bind(steps, manifest.schema), manifest)
        for batch in Work(shard, bind(steps, manifest.schema)).scan()
    ]


def test_chunks_of_text(s3: Any, proxy: CountingProxy) -> None:
    lines = "".join(f"{number} {'x' * (number % 300)}\n" for number in range(20_000))
    uri = s3.put(f"s3://{s3.bucket()}/a.log", lines)
    manifest = open_manifest(uri, shard_bytes=1 << 20)
    chunks = chunk_ranges.plain_chunk_ranges(bind((), manifest.schema), manifest, 32_000) or []
    proxy.asked.clear()
    needed = 0
    for border in random.Random(1).sample(chunks, 20):
        batches = read(manifest, border)
        needed += batches[-1].column("_end")[-1].as_py() - batches[0].column("_pos")[0].as_py()
    assert len(proxy.asked) == 20
    assert needed < proxy.nbytes <= 1.1 * needed


_LINES = [f"{number},{'x' * (number % 300)}" for number in range(40_000)]
_JSON = [f'{{"n": {number}, "text": "{"x" * (number % 300)}"}}' for number in range(40_000)]


@pytest.mark.parametrize(
    ("name", "data", "encoding"),
    [
        ("a.log", "\n".join(_LINES).encode(), "utf-8"),
        ("a.jsonl", "\n".join(_JSON).encode(), "utf-8"),
        ("a.csv", "\n".join(["n,text", *_LINES]).encode(), "utf-8"),
        ("b.csv", "\n".join(["n,text", *_LINES]).encode("latin-1"), "latin-1"),
        ("a.log.gz", gzip.compress(random.Random(1).randbytes(6 << 20).hex("\n", 100).encode(), 1), "utf-8"),
    ],
)
def test_who_stops_early_has_asked_for_little(
    kit: SimpleNamespace, s3: Any, proxy: CountingProxy, name: str, data: bytes, encoding: str
) -> None:
    assert len(data) > 5 << 20
    uri = s3.put(f"s3://{s3.bucket()}/{name}", data)
    proxy.asked.clear()
    manifest = open_manifest(uri, encoding=encoding)
    # of a sample; of JSON lines that are few megabytes all, for their members
    assert proxy.nbytes <= (1.01 * len(data) if name.endswith(".jsonl") else 1.01 * (1 << 20))
    for verb, args in (("head", {"n": 5}), ("page", {"n": 50}), ("text", {"max_chars": 10_000})):
        proxy.asked.clear()
        assert kit.operate(manifest, verb, **args)
        assert 0 < proxy.nbytes <= 1 << 20
    proxy.asked.clear()
    assert len(kit.records(manifest, Window(0, 2, 0, 7))) == 5
    assert 0 < proxy.nbytes <= 1 << 20
    proxy.asked.clear()
    assert len(kit.records(manifest)) > 20_000
    assert len(data) <= proxy.nbytes <= 1.01 * len(data)


def test_a_stream_that_may_be_left_early(s3: Any, proxy: CountingProxy) -> None:
    uri = s3.put(f"s3://{s3.bucket()}/long.bin", bytes(20 << 20))
    info = storage.stat(uri)
    assert info is not None
    for megabytes, most in ((0.1, 1), (1.5, 2), (3.5, 4), (6, 8), (12, 16)):
        proxy.asked.clear()
        with storage.open_stream(uri, version=info.version, size=info.size, early=True) as stream:
            count = int(megabytes * (1 << 20))
            assert len(stream.read(count)) == count
        assert count <= proxy.nbytes <= most << 20


def test_neighbouring_chunks_of_parquet_share_a_row_group(kit: SimpleNamespace, s3: Any, proxy: CountingProxy) -> None:
    draw = random.Random(1)
    rows = pyarrow.table({"n": range(6_000), "text": [draw.randbytes(100).hex() for _ in range(6_000)]})
    uri = kit.parquet(rows, f"s3://{s3.bucket()}/a.parquet", row_group_size=1_000)
    manifest = open_manifest(uri)
    chunks = chunk_ranges.plain_chunk_ranges(bind((), manifest.schema), manifest, 20_000) or []
    size = storage.stat(uri).size  # type: ignore[union-attr]
    proxy.asked.clear()
    found = [number for border in chunks for batch in read(manifest, border) for number in batch.column("n").to_pylist()]
    assert found == list(range(6_000))
    assert len(chunks) > 20
    assert 0.9 * size < proxy.nbytes <= 1.1 * size + (64 << 10)  # the footer, with the 64 KiB that its reader takes at once


def test_a_row_group_is_kept_by_version_and_within_bounds(kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "_groups", row_groups._Kept(50_000))
    uri = f"{kit.folder()}/a.parquet"
    for base in (0, 1_000_000):
        kit.parquet(pyarrow.table({"n": range(base, base + 40_000)}), uri, row_group_size=2_000)
        manifest = open_manifest(uri)
        for start in (0, 5_000, 1_999, 0):
            found = [
                number for batch in read(manifest, [(0, start, 0), (0, start + 3, 0)]) for number in batch.column("n").to_pylist()
            ]
            assert found == [base + start, base + start + 1, base + start + 2]
        assert sum(nbytes for _, nbytes in row_groups._groups._items.values()) == row_groups._groups._nbytes <= 50_000
    assert {key[1] for key in row_groups._groups._items} == {manifest.shards[0].version}
