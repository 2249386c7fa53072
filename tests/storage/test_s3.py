"""What only an object store has: pages, etags, ranges, keys that it refuses."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow.parquet
import pytest

from rlm_ray import storage
from rlm_ray.errors import CredentialsError, InputError, ObjectChanged, StorageError
from rlm_ray.storage import connections, prefixes, s3contents
from rlm_ray.storage.connections import S3
from rlm_ray.storage.prefixes import pages
from rlm_ray.storage.s3 import Store
from rlm_ray.storage.stores import bucket_key
from tests.servers import free_ports


def test_a_listing_of_several_pages(prefix: Callable[[], str]) -> None:
    base = prefix()
    names = [f"n/{number:04d}.txt" for number in range(1_203)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: storage.write_bytes(f"{base}/{name}", b"x"), names))
    assert sorted(info.uri[len(base) + 1 :] for info in storage.listing(base)) == names
    assert len(list(storage.listing(f"{base}/n/0*.txt"))) == 1_000


def test_a_large_listing_goes_by_prefixes(prefix: Callable[[], str]) -> None:
    """Pages of 10 keys: prefixes with many keys are listed apart, down to any depth, others with what is above them."""
    base = prefix()
    names = [f"year={year}/month={month}/{number:02d}.txt" for year in (1, 2) for month in (1, 2, 3) for number in range(23)]
    names += [f"tiny/{number}/a.txt" for number in range(30)] + ["year=1/a.txt", "z.txt", "yes/a.txt"]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: storage.write_bytes(f"{base}/{name}", b"x"), names))
    bucket, key = bucket_key(base)
    asked: list[dict[str, Any]] = []

    class Counting(Store):
        def page(self, bucket: str, prefix: str, **arguments: Any) -> dict[str, Any]:
            asked.append({"prefix": prefix} | arguments)
            return super().page(bucket, prefix, **arguments)

    store = Counting(S3.filesystem)
    found = [item["Key"].removeprefix(f"{key}/") for page in pages(store, bucket, f"{key}/", page_keys=10) for item in page]
    assert sorted(found) == sorted(names)
    assert {request["prefix"].removeprefix(f"{key}/") for request in asked} >= {"", "year=1/month=2/", "year=2/month=3/", "tiny/"}
    assert "tiny/3/" not in {request["prefix"].removeprefix(f"{key}/") for request in asked}
    # left early, nothing goes on and nothing is left behind
    some = pages(store, bucket, f"{key}/", page_keys=10)
    next(some)
    some.close()  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="no bucket"):
        list(pages(store, "not-there-at-all", "", page_keys=10))


def test_a_prefix_that_ends_at_once_ends_no_listing(prefix: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is below a prefix may be at its end before the prefix itself is."""
    base = prefix()
    names = [f"{number % 2}/{number}" for number in range(50)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: storage.write_bytes(f"{base}/{name}", b"x"), names))
    begin = prefixes._Work.begin

    def at_once(work: prefixes._Work, prefix: str, first: dict[str, Any] | None = None) -> None:
        if threading.current_thread() is threading.main_thread():
            begin(work, prefix, first)
        else:
            work._list(prefix, first)

    monkeypatch.setattr(prefixes._Work, "begin", at_once)
    bucket, key = bucket_key(base)
    found = [item["Key"].removeprefix(f"{key}/") for page in pages(S3, bucket, f"{key}/", page_keys=10) for item in page]
    assert sorted(found) == sorted(names)


def test_a_prefix_that_fails_ends_the_listing(prefix: Callable[[], str]) -> None:
    base = prefix()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: storage.write_bytes(f"{base}/{name}", b"x"), [f"{n % 2}/{n}" for n in range(50)]))
    bucket, key = bucket_key(base)

    class Refusing(Store):
        def page(self, bucket: str, prefix: str, **arguments: Any) -> dict[str, Any]:
            if prefix.endswith("/1/"):
                raise StorageError("The store went away.")
            return super().page(bucket, prefix, **arguments)

    with pytest.raises(StorageError, match="went away"):
        list(pages(Refusing(S3.filesystem), bucket, f"{key}/", page_keys=10))


def test_the_version_is_the_etag(s3: Any, prefix: Callable[[], str]) -> None:
    uri = f"{prefix()}/x"
    storage.write_bytes(uri, b"x")
    assert s3.filesystem.info(uri)["ETag"].strip('"') == storage.current_version(uri)


def test_a_large_object_is_written_and_read_in_ranges(prefix: Callable[[], str]) -> None:
    uri = f"{prefix()}/large.bin"
    data = os.urandom(9 << 20)
    storage.write_bytes(uri, data)
    assert storage.read_range(uri, 5 << 20, (5 << 20) + 10) == data[5 << 20 : (5 << 20) + 10]
    with storage.open_input(uri) as file:
        assert file.read() == data


def test_reading_ahead_gives_the_same_bytes(prefix: Callable[[], str]) -> None:
    uri = f"{prefix()}/long.bin"
    data = os.urandom(1 << 20) * 40
    storage.write_bytes(uri, data)
    (info,) = storage.listing(uri)
    for start, stop in ((0, None), (7, len(data)), (17 << 20, 19 << 20), (len(data) - 3, None), (len(data), None)):
        with storage.open_stream(uri, version=info.version, size=info.size, start=start, stop=stop) as stream:
            got = bytearray(5)
            assert stream.readinto(got) == len(data[start : start + 5])
            assert bytes(got).rstrip(b"\0") == data[start : start + 5].rstrip(b"\0")
            # it goes on behind the announced end, and is asked for more than there is
            assert stream.read(3 << 20) == data[start + 5 : start + 5 + (3 << 20)]
            assert stream.read(1 << 40) == data[start + 5 + (3 << 20) :]
            assert stream.read(1) == b""


def test_a_stream_that_is_left_early_leaves_nothing_behind(prefix: Callable[[], str]) -> None:
    uri = f"{prefix()}/long.bin"
    storage.write_bytes(uri, bytes(40 << 20))
    (info,) = storage.listing(uri)
    with storage.open_stream(uri, version=info.version, size=info.size) as stream:
        assert stream.read(10) == bytes(10)
        asked = [reading.future for reading in stream._blocks]
    assert asked
    assert all(future.done() for future in asked)
    assert storage.read_range(uri, 0, 1) == b"\0"


def test_an_object_that_changes_while_it_is_streamed(prefix: Callable[[], str]) -> None:
    uri = f"{prefix()}/long.bin"
    storage.write_bytes(uri, b"1" * (40 << 20))
    (info,) = storage.listing(uri)
    with storage.open_stream(uri, version=info.version, size=info.size) as stream:
        assert stream.read(1) == b"1"
        storage.write_bytes(uri, b"2" * (40 << 20))
        with pytest.raises(ObjectChanged, match="long"):
            assert b"2" not in stream.read()


def test_bodies_that_break_off_are_continued(prefix: Callable[[], str], breaking: Callable[..., Any]) -> None:
    uri = f"{prefix()}/long.bin"
    data = os.urandom(1 << 20) * 40
    storage.write_bytes(uri, data)
    (info,) = storage.listing(uri)
    breaking("POST", "rules", [{"service": "s3", "operation": "GetObject", "times": 4, "response": {"abort_frac": 0.5}}])
    with storage.open_stream(uri, version=info.version, size=info.size) as stream:
        assert stream.read() == data
    fired = breaking("GET", "fired?limit=100")
    assert len(fired["fired"] if isinstance(fired, dict) else fired) >= 2


def test_what_fails_inside_the_store_is_asked_again(prefix: Callable[[], str], breaking: Callable[..., Any]) -> None:
    """s3fs gives up at a 500; one that comes back is a shard that cannot be read."""
    base = prefix()
    storage.write_bytes(f"{base}/a.txt", b"x")
    error = {"code": "InternalError", "status": 500}
    breaking("POST", "rules", [{"service": "s3", "operation": "ListObjectsV2", "times": 3, "error": error}])
    assert [info.uri for info in storage.listing(base)] == [f"{base}/a.txt"]
    fired = breaking("GET", "fired?limit=100")
    assert len(fired["fired"] if isinstance(fired, dict) else fired) == 3


def test_a_bucket_that_is_not_there(s3: Any) -> None:
    with pytest.raises(InputError, match="no bucket 'surely-no-such-bucket'"):
        list(storage.listing("s3://surely-no-such-bucket/logs"))
    with pytest.raises(InputError, match="no bucket 'surely-no-such-bucket'"):
        list(storage.listing("s3://surely-no-such-bucket/logs/*.gz"))
    assert storage.find_bytes("s3://surely-no-such-bucket/x") is None


def test_a_key_that_is_refused_and_none_at_all(prefix: Callable[[], str], fresh: pytest.MonkeyPatch) -> None:
    uri = f"{prefix()}/x"
    fresh.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    with pytest.raises(CredentialsError, match=re.escape(uri)) as refused:
        list(storage.listing(uri))
    assert "wrong-and-secret" not in str(refused.value)
    storage.forget_connections()
    fresh.delenv("AWS_ACCESS_KEY_ID")
    fresh.delenv("AWS_SECRET_ACCESS_KEY")
    fresh.setenv("HOME", "/nonexistent")
    with pytest.raises(CredentialsError, match="Set AWS_ACCESS_KEY_ID"):
        list(storage.listing(uri))
    with pytest.raises(CredentialsError, match="Set AWS_ACCESS_KEY_ID"):
        storage.polars_source(uri)


def test_a_store_that_does_not_answer(fresh: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    fresh.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    fresh.setenv("AWS_ACCESS_KEY_ID", "key")
    fresh.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL"):
        list(storage.listing("s3://bucket/x"))


def test_polars_and_pyarrow_read_with_the_same_credentials(prefix: Callable[[], str]) -> None:
    import polars

    uri = f"{prefix()}/t.parquet"
    table = pyarrow.table({"n": [1, 2, 3]})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    storage.write_bytes(uri, sink.getvalue().to_pybytes())
    source, options = storage.polars_source(uri)
    frame = polars.scan_parquet(source, storage_options=options, credential_provider=None).collect()
    assert frame["n"].to_list() == [1, 2, 3]
    assert pyarrow.parquet.read_table(storage.open_input(uri), pre_buffer=True) == table


def test_entries_are_those_that_botocore_finds(prefix: Callable[[], str]) -> None:
    base = prefix()
    for name in ("a b.log", "x&y<z>.log", "é/ü.log", "p%20q+r.log", 'quo"te.log', "empty"):
        storage.write_bytes(f"{base}/{name}", b"" if name == "empty" else name.encode())
    bucket, key = bucket_key(base)
    store = Store(connections._connect)
    # a connection that has not listed anything yet has botocore's own way
    plain = store.call("list_objects_v2", base, Bucket=bucket, Prefix=f"{key}/")
    page = store.page(bucket, f"{key}/")
    assert page["Contents"] == [{name: item[name] for name in ("Key", "Size", "ETag")} for item in plain["Contents"]]
    assert {name for name in plain if name not in page} == set()
    assert (page["KeyCount"], page["IsTruncated"]) == (6, False)
    level = store.page(bucket, f"{key}/", Delimiter="/")
    assert [item["Prefix"] for item in level["CommonPrefixes"]] == [f"{key}/é/"]
    assert "Contents" not in store.page(bucket, f"{key}/nothing")
    store.forget()


@pytest.mark.parametrize("body", [b"", b"<no", b"<a/>", b"<L><Contents><Key>a</Key><Size>1</Size></Contents></L>"])
def test_a_listing_that_s3_would_not_write_is_left_to_botocore(body: bytes) -> None:
    response: dict[str, Any] = {"status_code": 200, "body": body}
    given: dict[str, Any] = {}
    s3contents._take(response, given)
    assert (response["body"], given) == (body, {})
