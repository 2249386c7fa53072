"""Compressed text from the middle: by an index that is made once, or by the frames that a seek table names."""

from __future__ import annotations

import gzip
import json
import random
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray import storage
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning import chunk_ranges
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.text import compressed, streams
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, ObjectChanged, ObjectUnreadable
from rlm_ray.handle.plan import Between, Grep


def _lines(count: int, seed: int = 1) -> bytes:
    draw = random.Random(seed)
    return b"".join(b"%x line %d\n" % (draw.getrandbits(60), number) for number in range(count))


def _framed(data: bytes, frame: int, *, checksums: bool = False) -> bytes:
    """Data in the seekable format of zstd."""
    codec = pyarrow.Codec("zstd")
    parts = [data[start : start + frame] for start in range(0, len(data), frame)]
    made = [codec.compress(part, asbytes=True) for part in parts]
    sizes = [struct.pack("<II", len(got), len(part)) + b"abcd" * checksums for got, part in zip(made, parts, strict=True)]
    table = b"".join(sizes) + struct.pack("<IB", len(parts), 0x80 * checksums) + b"\xb1\xea\x92\x8f"
    return b"".join(made) + b"\x5e\x2a\x4d\x18" + struct.pack("<I", len(table)) + table


# -- zstd

_TEXTS = st.lists(st.sampled_from(["a\n", "bc\r\n", "é漢😀", "\n", "x" * 30]), min_size=1, max_size=20).map("".join)


@settings(max_examples=40)
@given(text=_TEXTS, bom=st.booleans(), frame=st.integers(1, 40), shard_bytes=st.integers(1, 50), checksums=st.booleans())
def test_frames_are_cut_anywhere_and_give_every_line_once(
    kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, text: str, bom: bool, frame: int, shard_bytes: int, checksums: bool
) -> None:
    monkeypatch.setattr(streams, "PIECE", 16)
    data = b"\xef\xbb\xbf" * bom + text.encode()
    manifest = open_manifest(kit.object(_framed(data, frame, checksums=checksums), ".log.zst"), shard_bytes=shard_bytes)
    plain = open_manifest(kit.object(data, ".log"), shard_bytes=shard_bytes)
    assert len(manifest.shards) == len(plain.shards) == -(-len(data) // shard_bytes)
    found = kit.records(manifest)
    assert [record["text"] for record in found] == [record["text"] for record in kit.records(plain)]
    assert [_place(record) for record in found] == [_place(record) for record in kit.records(plain)]
    assert kit.operate(manifest, "count") == len(found)
    assert manifest.nbytes == len(data)


def _place(record: dict[str, Any]) -> str:
    return str(record["_address"].partition("#")[2])


def test_json_lines_in_frames(kit: SimpleNamespace) -> None:
    rows = [{"n": number, "text": "ü" * (number % 7)} for number in range(200)]
    data = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    manifest = open_manifest(kit.object(_framed(data, 97), ".jsonl.zst"), shard_bytes=1_000)
    assert len(manifest.shards) > 3
    assert [(record["n"], record["text"]) for record in kit.records(manifest)] == [(row["n"], row["text"]) for row in rows]
    assert [record["n"] for record in kit.records(manifest, Grep("üüüüüü"))] == list(range(6, 200, 7))
    lines = open_manifest(kit.object(_framed(data, 97), ".log.zst"), shard_bytes=1_000)
    borders = chunk_ranges.plain_chunk_ranges(
        bind([], lines.schema),
        lines,
        500,
    )
    assert borders is not None


@pytest.mark.parametrize("spoilt", ["no table", "no frames", "half a table"])
def test_without_a_table_that_fits_it_is_one_shard(kit: SimpleNamespace, spoilt: str) -> None:
    data = _lines(500)
    whole = _framed(data, 1_000)
    spoilt_data = {
        "no table": pyarrow.Codec("zstd").compress(data, asbytes=True),
        "half a table": whole + whole[-12:],
        "no frames": _framed(b"", 10) + pyarrow.Codec("zstd").compress(data, asbytes=True),
    }[spoilt]
    uri = kit.object(spoilt_data, ".log.zst")
    if spoilt == "half a table":
        with pytest.raises(InputError, match="cannot be decompressed"):
            open_manifest(uri, shard_bytes=1_000)
        return
    manifest = open_manifest(uri, shard_bytes=1_000)
    assert len(manifest.shards) == 1
    assert [record["text"] for record in kit.records(manifest)] == data.decode().splitlines()


def test_a_table_that_lies_is_a_reason(kit: SimpleNamespace) -> None:
    whole = _framed(_lines(500), 1_000)
    uri = kit.object(whole[:-13] + b"\x01" + whole[-12:], ".log.zst")
    with pytest.raises(InputError, match="other lengths than its seek table says"):
        open_manifest(uri, shard_bytes=1_000)


def test_a_shard_of_frames_asks_for_its_own_bytes_only(kit: SimpleNamespace, s3: Any) -> None:
    data = _lines(60_000)
    place = s3.put(f"s3://{s3.bucket()}/frames/app.log.zst", _framed(data, 50_000))
    manifest = open_manifest(place, shard_bytes=300_000)
    assert [record["text"] for record in kit.records(manifest)] == data.decode().splitlines()
    assert kit.operate(manifest, "count") == 60_000
    storage.write_bytes(place, _framed(data + b"more\n", 50_000))
    compressed.frames.cache_clear()
    with pytest.raises(ObjectChanged):
        kit.records(manifest)


# -- gzip


@pytest.fixture
def small_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every gzip object gets an index, with places close together."""
    monkeypatch.setattr(compressed, "LEAST_INDEXED", 0)
    monkeypatch.setattr(compressed, "SPACING", 1 << 16)
    monkeypatch.setattr(compressed, "PLACES", 1 << 20)
    monkeypatch.setattr(compressed, "_BLOCK", 1 << 16)


def _page(manifest: Any, start: int, run_dir: str | None, n: int = 3) -> Any:
    work = Work(manifest.shards[0], bind((Between((0, start, 0)),), manifest.schema), run_dir)
    return operations.run("page", work, {"n": n, "max_bytes": 100 << 20})


@pytest.mark.usefixtures("small_indexes")
def test_cutting_chunks_leaves_an_index_and_lines_far_behind_are_found_by_it(
    kit: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _lines(80_000)
    file = tmp_path / "app.log.gz"
    file.write_bytes(gzip.compress(data[:1_000_000]) + gzip.compress(data[1_000_000:]))
    manifest = open_manifest(str(file))
    run = str(tmp_path / "run")
    work = Work(manifest.shards[0], bind((), manifest.schema), run)
    assert operations.run("count", work, {}) == 80_000
    assert not (tmp_path / "run").exists()  # one reading from the beginning needs none
    assert operations.run("chunk_ranges", work, {"target_bytes": 100_000})
    (index,) = (tmp_path / "run" / "indexes").iterdir()
    assert 0 < index.stat().st_size < len(data) // 2
    asked: list[int] = []
    opened = compressed._Source._open

    def counted(source: Any) -> None:
        asked.append(source._at)
        opened(source)

    monkeypatch.setattr(compressed._Source, "_open", counted)
    for start in (0, 1, 999_990, 1_000_000, len(data) // 2, len(data) - 30, len(data) - 1, len(data), len(data) + 99):
        assert _page(manifest, start, run) == _page(manifest, start, None), start
    assert _page(manifest, len(data) - 30, run)["records"]
    assert asked[-1] > file.stat().st_size * 0.8  # of the bytes before it none were read
    # the same records, all of them, again
    found = [record for page in operations.records(work) for record in page]
    assert [record["text"] for record in found] == data.decode().splitlines()


@pytest.mark.usefixtures("small_indexes")
def test_an_index_grows_with_what_is_read(tmp_path: Path) -> None:
    data = _lines(120_000)
    file = tmp_path / "app.log.gz"
    file.write_bytes(gzip.compress(data))
    manifest = open_manifest(str(file))
    run = str(tmp_path / "run")
    sizes = []
    for share in (0.3, 0.9, 0.1, 0.95):
        start = int(len(data) * share)
        assert _page(manifest, start, run) == _page(manifest, start, None)
        (index,) = (tmp_path / "run" / "indexes").iterdir()
        sizes.append(index.stat().st_size)
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1]


def test_a_small_object_gets_none(tmp_path: Path) -> None:
    file = tmp_path / "app.log.gz"
    file.write_bytes(gzip.compress(_lines(1_000)))
    manifest = open_manifest(str(file))
    assert operations.run(
        "chunk_ranges", Work(manifest.shards[0], bind((), manifest.schema), str(tmp_path / "run")), {"target_bytes": 99}
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("small_indexes")
@pytest.mark.parametrize("damage", ["late", "end"])
def test_an_object_that_ends_early_is_a_reason_from_the_middle_too(tmp_path: Path, damage: str) -> None:
    whole = gzip.compress(_lines(250_000), 1)  # more than what is looked at when it is opened
    file = tmp_path / "app.log.gz"
    file.write_bytes({"late": whole[:-1000], "end": whole[:-5]}[damage])
    manifest = open_manifest(str(file))
    for run in (None, str(tmp_path / "run")):
        for start in (0, 3_000_000):
            with pytest.raises(ObjectUnreadable, match=r"app\.log\.gz cannot be decompressed: .* Check the file\."):
                _page(manifest, start, run, n=300_000)


@pytest.mark.usefixtures("small_indexes")
def test_an_index_on_s3_of_an_object_on_s3(kit: SimpleNamespace, s3: Any) -> None:
    data = _lines(60_000)
    base = f"s3://{s3.bucket()}"
    place = s3.put(f"{base}/logs/app.log.gz", gzip.compress(data))
    manifest = open_manifest(place)
    work = Work(manifest.shards[0], bind((), manifest.schema), f"{base}/run")
    assert operations.run("chunk_ranges", work, {"target_bytes": 100_000})
    assert len(list(storage.listing(f"{base}/run/indexes"))) == 1
    for start in (0, len(data) // 2, len(data) - 50):
        assert _page(manifest, start, f"{base}/run") == _page(manifest, start, None)
    s3.put(place, gzip.compress(data + b"more\n"))
    with pytest.raises(ObjectChanged):
        _page(manifest, len(data) // 2, f"{base}/run")
