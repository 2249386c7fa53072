"""Writes whole objects, and removes them."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from pathlib import Path

from rlm_ray.errors import InputError, StorageError
from rlm_ray.storage import local
from rlm_ray.storage.connections import IGNORING, KEEPING, memory, memory_path, store_of
from rlm_ray.storage.names import is_local, is_remote, normal, scheme
from rlm_ray.storage.stores import ObjectStore, PreconditionFailed, bucket_key

_MEMORY_LOCK = threading.Lock()
#: After that long, writers of one object that did not see each other have written.
SETTLE_SECONDS = 1.0

_log = logging.getLogger(__name__)


def make_dirs(uri: str, mode: int = 0o700) -> None:
    """Make a local directory and its parents; object stores need none."""
    if is_local(uri):
        try:
            os.makedirs(normal(uri), mode=mode, exist_ok=True)
        except OSError as error:
            raise StorageError(f"Directory {uri} cannot be made: {error.strerror}. Name another run directory.") from None


def write_bytes(uri: str, data: bytes, *, only_if_absent: bool = False) -> bool:
    """Write a whole object at once: readers see the old content or the new, never a part. Local files get mode 0600.

    Parameters
    ----------
    only_if_absent : bool
        Leave an object that is there alone. Of several writers at once exactly one wins; on a store that takes no notice of
        conditions, the one whose object is there after a moment, which is said once.

    Returns
    -------
    bool
        Whether it was written; False only with `only_if_absent`.

    Raises
    ------
    CredentialsError, StorageError
        It cannot be written.
    """
    kind = scheme(uri)
    uri = normal(uri)
    if is_remote(uri):
        if only_if_absent:
            return _create(store_of(uri), uri, data)
        store_of(uri).put(uri, data)
        return True
    if kind == "memory":
        with _MEMORY_LOCK:
            if only_if_absent and memory_path(uri) in memory().store:
                return False
            memory().pipe_file(memory_path(uri), data)
        return True
    return local.write(Path(uri), data, only_if_absent)


def _create(store: ObjectStore, uri: str, data: bytes) -> bool:
    """Write an object that is not there. Buckets that were not seen yet to keep the condition are asked twice."""
    bucket = f"{uri.split('://', 1)[0]}://{bucket_key(uri)[0]}"
    if bucket in IGNORING and store.stat(uri) is not None:
        return False
    try:
        store.put(uri, data, only_if_absent=True)
    except PreconditionFailed:
        KEEPING.add(bucket)
        return False
    if bucket in KEEPING:
        return True
    try:
        if bucket not in IGNORING:
            store.put(uri, data, only_if_absent=True)  # it is there now: the condition does not hold
    except PreconditionFailed:
        KEEPING.add(bucket)
        return True
    if bucket not in IGNORING:
        IGNORING.add(bucket)
        _log.warning(
            "The store of %s takes no notice of conditions (write only if absent): two processes that begin one run at the same "
            "moment are told apart by reading back what was written. Begin each run once.",
            bucket,
        )
    time.sleep(SETTLE_SECONDS)
    return store.body(uri) == data


def delete_tree(uri: str) -> None:
    """Remove an object, and all below it. What is not there is no error."""
    kind = scheme(uri)
    uri = normal(uri)
    if kind == "file":
        if os.path.isdir(uri) and not os.path.islink(uri):
            shutil.rmtree(uri)
        else:
            Path(uri).unlink(missing_ok=True)
    elif kind == "memory":
        path = memory_path(uri)
        for name in [name for name in memory().store if name == path or name.startswith(path + "/")]:
            memory().store.pop(name, None)
    else:
        if not bucket_key(uri)[1]:
            raise InputError(f"{uri} is a whole bucket, which rlm_ray does not delete. Name a prefix in it.")
        store = store_of(uri)
        store.remove(uri)
        for page in store.walk(uri, ""):
            for info in page:
                store.remove(info.uri)
