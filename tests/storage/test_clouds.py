"""What holds on every object store: Google's and Azure's emulators beside the S3 server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import deltalake
import pyarrow
import pyarrow.parquet
import pytest

import rlm_ray
from rlm_ray import storage
from rlm_ray.errors import InputError, ObjectChanged, RunBusy
from rlm_ray.ledger.lease import Lease
from rlm_ray.storage import prefixes
from rlm_ray.storage.connections import store_of
from rlm_ray.storage.stores import bucket_key

KEYS = ["a.log", "a-b", "a/b.log", "deep/a//b", "ü %2F?#&+ x.log", "/lead", "tab\tx", "day=1/_x=2/p.log"]
KEYS += ["quote'\"<>.log", "~$!*(),;:@=.log"]


_FIXTURES = {"s3": "prefix", "gs": "google", "az": "azure"}


@pytest.fixture(params=["gs", "az"])
def place(request: pytest.FixtureRequest) -> Callable[[], str]:
    """A function that names a prefix of its own each time, on each emulator."""
    found: Callable[[], str] = request.getfixturevalue(_FIXTURES[request.param])
    return found


@pytest.fixture(params=["s3", "gs", "az"])
def any_place(request: pytest.FixtureRequest) -> Callable[[], str]:
    """The same, also on the S3 server, which other tests know already."""
    found: Callable[[], str] = request.getfixturevalue(_FIXTURES[request.param])
    return found


def test_an_object_is_written_listed_read_and_removed(any_place: Callable[[], str]) -> None:
    base = any_place()
    assert storage.stat(f"{base}/a.log") is None
    assert storage.find_bytes(f"{base}/a.log") is None
    assert storage.write_bytes(f"{base}/a.log", b"hello\nworld\n")
    info = storage.stat(f"{base}/a.log")
    assert info is not None
    assert info.size == 12
    assert [*storage.listing(base)] == [info] == [*storage.listing(f"{base}/*.log")]
    assert storage.read_bytes(info.uri) == b"hello\nworld\n"
    assert storage.read_range(info.uri, 3, 8, version=info.version) == b"lo\nwo"
    assert storage.read_range(info.uri, 9, 800, version=info.version) == b"ld\n"
    assert storage.read_range(info.uri, 100, 800, version=info.version) == b""
    assert storage.read_range(info.uri, 5, 5) == b""
    assert storage.write_bytes(f"{base}/empty", b"")
    assert storage.read_bytes(f"{base}/empty") == b""
    assert [*storage.read_small([(info.uri, info.version, 12), (f"{base}/empty", "", 0)])] == [b"hello\nworld\n", b""]
    storage.delete_tree(base)
    storage.delete_tree(base)
    assert not storage.exists(base)


def test_every_key_has_its_object(any_place: Callable[[], str]) -> None:
    base = any_place()
    keys = [key for key in KEYS if not (base.startswith("s3") and "//" in f"/{key}")]  # SeaweedFS makes one slash of two
    for key in keys:
        storage.write_bytes(f"{base}/{key}", key.encode())
    found = {info.uri.removeprefix(f"{base}/"): info for info in storage.listing(base)}
    assert sorted(found) == sorted(keys)
    for key, info in found.items():
        assert storage.read_range(info.uri, 0, 100, version=info.version) == key.encode()
        assert storage.stat(info.uri) == info


def test_a_replaced_object_is_not_read_as_the_old(place: Callable[[], str]) -> None:
    uri = f"{place()}/a.log"
    storage.write_bytes(uri, b"OLD a\n")
    corpus, version = rlm_ray.open(uri), storage.current_version(uri)
    storage.write_bytes(uri, b"NEW a\n")
    with pytest.raises(ObjectChanged, match="no longer version"):
        storage.read_range(uri, 0, 3, version=version)
    with pytest.raises(ObjectChanged):
        storage.open_input(uri, version=version, size=6).read(3)
    with pytest.warns(rlm_ray.errors.UnreadShard, match="changed"):
        assert corpus.head(2) == []
    storage.delete_tree(uri)
    with pytest.raises(ObjectChanged, match="is gone"):
        storage.read_range(uri, 0, 3, version=version)


def test_one_writer_of_sixteen_wins(place: Callable[[], str]) -> None:
    uri = f"{place()}/lease"
    barrier = threading.Barrier(16)

    def write(number: int) -> bool:
        barrier.wait()
        return storage.write_bytes(uri, b"%d" % number, only_if_absent=True)

    with ThreadPoolExecutor(16) as pool:
        won = [number for number, found in enumerate(pool.map(write, range(16))) if found]
    assert len(won) == 1
    assert storage.read_bytes(uri) == b"%d" % won[0]


def test_a_large_listing_goes_by_prefixes(place: Callable[[], str]) -> None:
    base = place()
    names = [f"year={year}/month={month}/{number:02d}.txt" for year in (1, 2) for month in (1, 2) for number in range(13)]
    names += [f"tiny/{number}/a.txt" for number in range(12)] + ["z.txt"]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: storage.write_bytes(f"{base}/{name}", b"x"), names))
    bucket, key = bucket_key(base)
    store: Any = store_of(base)
    found = [item["Key"].removeprefix(f"{key}/") for page in prefixes.pages(store, bucket, f"{key}/", 10) for item in page]
    assert sorted(found) == sorted(names)
    with pytest.raises(InputError, match="There is no"):
        list(storage.listing(f"{base.split('://')[0]}://not-there-at-all/x"))


def test_lines_and_rows_are_read_by_ranges(any_place: Callable[[], str]) -> None:
    base = any_place()
    lines = [f"line {number} of an object that is longer than one range" for number in range(20_000)]
    storage.write_bytes(f"{base}/text/a.log", "\n".join(lines).encode())
    text = rlm_ray.open(f"{base}/text")
    assert text.count() == 20_000
    assert text.grep("line 1777 of").head(2)[0]["text"] == lines[1777]
    table = pyarrow.table({"n": range(50_000), "city": ["Oslo", "Bergen"] * 25_000, "list": [[1, 2]] * 50_000})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, row_group_size=10_000)
    storage.write_bytes(f"{base}/rows/day=1/p.parquet", sink.getvalue().to_pybytes())
    rows = rlm_ray.open(f"{base}/rows")
    assert rows.count() == 50_000
    assert rows.count_by("city") == {"Oslo": 25_000, "Bergen": 25_000}
    found = rows.where(("n", "in", [3, 49_999])).head(5)
    assert [(row["n"], row["city"], row["day"], row["list"]) for row in found] == [
        (3, "Bergen", "1", [1, 2]),
        (49_999, "Bergen", "1", [1, 2]),
    ]
    storage.write_bytes(f"{base}/rows/day=1/p.parquet", sink.getvalue().to_pybytes() + b" ")
    with pytest.warns(rlm_ray.errors.UnreadShard, match="changed"):
        assert rows.where(("n", "==", 3)).head(1) == []


def test_a_run_directory_has_one_holder(place: Callable[[], str]) -> None:
    folder = f"{place()}/runs/r1"
    with Lease(folder) as lease:
        lease.check()
        with pytest.raises(RunBusy, match="working on this run"), Lease(folder):
            raise AssertionError("two hold one run")
    with Lease(folder) as again:
        again.check()


def test_a_delta_table_is_read(place: Callable[[], str], tmp_path: Path) -> None:
    base = place()
    table = pyarrow.table({"n": [1, 2, 3], "city": ["Oslo", "Oslo", "Bergen"]})
    deltalake.write_deltalake(tmp_path, table, partition_by=["city"])
    for path in tmp_path.rglob("*.*"):
        storage.write_bytes(f"{base}/table/{path.relative_to(tmp_path)}", path.read_bytes())
    found = rlm_ray.open(f"delta+{base}/table")
    assert sorted((row["n"], row["city"]) for row in found.head(5)) == [(1, "Oslo"), (2, "Oslo"), (3, "Bergen")]
