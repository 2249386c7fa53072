"""The protocol of an object store: listings, ranges of one version, conditional writes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypedDict

from rlm_ray.storage.names import ObjectInfo


class PreconditionFailed(Exception):
    """The condition of a request did not hold."""


class BehindTheEnd(Exception):
    """A range that begins behind the end of its object."""


class Entry(TypedDict):
    """An object in a listing."""

    Key: str
    Size: int
    ETag: str


class CommonPrefix(TypedDict):
    """A folder in a listing."""

    Prefix: str


class Page(TypedDict, total=False):
    """A page of a listing, as ListObjectsV2 of S3 returns it: the keys that are read here. Other stores are put into this form."""

    Contents: list[Entry]
    CommonPrefixes: list[CommonPrefix]
    IsTruncated: bool
    NextContinuationToken: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A range that was asked for. Its future may be cancelled."""

    uri: str
    version: str
    nbytes: int
    future: Future[memoryview]


class ObjectStore(Protocol):
    """Objects with versions. Failures of requests are errors of rlm_ray, but for the two above and FileNotFoundError."""

    def stat(self, uri: str) -> ObjectInfo | None:
        """Return one object's size and version; None where it is not there."""
        ...

    def walk(self, base: str, lead: str) -> Iterator[list[ObjectInfo]]:
        """Yield what is below `base` and whose first name begins with `lead`, some at a time, in no order."""
        ...

    def read(self, uri: str, start: int, stop: int, version: str) -> bytes:
        """Return a range of an object, on the condition that it has this version."""
        ...

    def begin(self, uri: str, start: int, stop: int, version: str) -> Reading:
        """Ask for a range of an object; `result` waits for it."""
        ...

    def result(self, reading: Reading) -> memoryview:
        """Return the bytes of a range, fewer where the object ends before."""
        ...

    def body(self, uri: str) -> bytes:
        """Return a whole object; FileNotFoundError where there is none."""
        ...

    def put(self, uri: str, data: bytes, *, only_if_absent: bool = False) -> None:
        """Write an object whole; PreconditionFailed where it was to be absent and is not."""
        ...

    def remove(self, uri: str) -> None:
        """Remove one object. What is not there is no error."""
        ...

    def table_options(self, uri: str) -> dict[str, str]:
        """Return the credentials and the endpoint as Rust's `object_store` takes them: polars and delta-rs."""
        ...

    def forget(self) -> None:
        """Close the connections and connect anew at the next request."""
        ...


class PagedStore(Protocol):
    """A store that lists by pages."""

    def page(self, bucket: str, prefix: str, *, MaxKeys: int, Delimiter: str = "", ContinuationToken: str = "") -> Page:
        """Return one page of the objects whose keys begin with `prefix`."""
        ...


def bucket_key(uri: str) -> tuple[str, str]:
    """Split a URI such as `s3://bucket/key`.

    Examples
    --------
    >>> bucket_key("gs://lake/logs/a.log"), bucket_key("s3://lake//a")
    (('lake', 'logs/a.log'), ('lake', '/a'))
    """
    bucket, _, key = uri.split("://", 1)[1].partition("/")
    return bucket, key


def infos(root: str, entries: list[Entry]) -> list[ObjectInfo]:
    """Return what is in a page; a name that ends in a slash is a folder marker of some consoles, and no object."""
    return [ObjectInfo(root + item["Key"], item["Size"], item["ETag"]) for item in entries if not item["Key"].endswith("/")]


def prefix_of(base: str, lead: str) -> tuple[str, str]:
    """Return the bucket, and what all keys below `base` whose first name begins with `lead` begin with."""
    bucket, key = bucket_key(base)
    return bucket, (key if not key or key.endswith("/") else key + "/") + lead
