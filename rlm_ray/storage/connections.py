"""Holds the open connections of this process, and the memory of `memory://`. Only this file imports fsspec and s3fs."""

from __future__ import annotations

import threading
from typing import Any

from rlm_ray.storage import s3
from rlm_ray.storage.names import scheme
from rlm_ray.storage.rest.azure import AzureStore
from rlm_ray.storage.rest.google import GoogleStore
from rlm_ray.storage.rest.hub import HubStore
from rlm_ray.storage.rest.transports import AzurePipeline, GoogleSession, HubSession, Session
from rlm_ray.storage.rest.web import WebStore
from rlm_ray.storage.stores import ObjectStore, bucket_key


def _connect() -> Any:
    import s3fs

    filesystem = s3fs.S3FileSystem(
        default_cache_type="none",
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": 64,
            # some stores send the checksum of a whole object with a range of it; a range is bound to its object's version
            "response_checksum_validation": "when_required",
            # and some do not know the trailing checksums of uploads
            "request_checksum_calculation": "when_required",
            # these are for what s3fs does not ask again: 500 and the like
            "retries": {"max_attempts": 5, "mode": "standard"},
        },
    )
    filesystem.retries = 8  # SlowDown and resets, with growing pauses
    return filesystem


def _loop() -> Any:
    import fsspec.asyn

    return fsspec.asyn.get_loop()


#: S3 as this process sees it; connects at the first request.
S3 = s3.Store(_connect)
#: Each other store, by what names it; made when it is first named.
_STORES: dict[str, ObjectStore] = {"s3": S3}
_LOCK = threading.Lock()
#: Buckets that were seen to keep the condition of a write, and those that were seen not to.
KEEPING: set[str] = set()
IGNORING: set[str] = set()


def store_of(uri: str) -> ObjectStore:
    """Return the store that an object is in. Connects to nothing.

    Raises
    ------
    InputError
        The URI is in no store.
    """
    kind = scheme(uri)
    account = bucket_key(uri)[0].partition("@")[2].partition(".")[0] if kind == "az" else ""
    with _LOCK:
        name = f"{kind} {account}".rstrip()
        if name not in _STORES:
            _STORES[name] = _made(kind, account)
        return _STORES[name]


def _made(kind: str, account: str) -> ObjectStore:
    if kind == "gs":
        return GoogleStore(GoogleSession)
    if kind == "az":
        return AzureStore(lambda: AzurePipeline(account))
    if kind == "hf":
        return HubStore(lambda: HubSession(_loop()))
    assert kind == "http", kind
    return WebStore(lambda: Session(_loop()))


def forget_connections() -> None:
    """Close what is open to stores. The next request reads the environment anew."""
    with _LOCK:
        stores = list(_STORES.values())
    for store in stores:
        store.forget()
    KEEPING.clear()
    IGNORING.clear()


def memory() -> Any:
    """Return the objects of `memory://`: an fsspec file system whose `store` maps paths to files."""
    import fsspec

    return fsspec.filesystem("memory")


def memory_path(uri: str) -> str:
    """Return an object's path in that store."""
    return "/" + uri.split("://", 1)[1].strip("/")
