"""Reads objects: whole, by ranges, at random, from front to back. Each read can be bound to a version."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_ray.errors import CredentialsError, InputError, ObjectChanged, StorageError
from rlm_ray.storage import local, objectfiles
from rlm_ray.storage.archives.places import is_member
from rlm_ray.storage.connections import memory, memory_path, store_of
from rlm_ray.storage.listings import check_version, stat
from rlm_ray.storage.names import is_remote, normal, scheme
from rlm_ray.storage.stores import Reading

if TYPE_CHECKING:
    import pyarrow

#: Small objects that are asked for before the first of them is taken.
_SMALL_AHEAD = 32


def open_input(uri: str, *, version: str = "", size: int | None = None) -> pyarrow.NativeFile:
    """Open an object for random access. No cache and no read-ahead: what is read is what is asked for.

    Parameters
    ----------
    uri : str
    version : str
        The version it must have; every request to a store is conditional on it.
    size : int, optional
        Its size where known: saves a request to a store.

    Raises
    ------
    ObjectChanged
        It has another version, or is gone.
    CredentialsError, StorageError
        The store refuses or cannot be reached.
    """
    import pyarrow

    if is_member(uri, version):
        from rlm_ray.storage.archives import members

        return members.open_input(_open_part, uri, version)
    if is_remote(uri):
        if size is None:
            info = stat(uri)
            if info is None:
                raise ObjectChanged(f"{uri} is gone. Open the corpus again.")
            size = info.size
        return pyarrow.PythonFile(objectfiles.ObjectFile(store_of(uri), uri, version, size), mode="r")
    check_version(uri, version)
    if scheme(uri) == "memory":
        return pyarrow.BufferReader(read_bytes(uri))
    path = normal(uri)
    try:
        return pyarrow.OSFile(path, mode="r")
    except FileNotFoundError:
        raise ObjectChanged(f"{path} is gone. Open the corpus again.") from None
    except PermissionError:
        raise CredentialsError(f"{path} may not be read by this user. Change its mode, or name another path.") from None


def open_stream(uri: str, *, version: str, size: int, start: int = 0, stop: int | None = None, early: bool = False) -> Any:
    """Open an object to be read from `start` on, from front to back; in a store it is read ahead, up to about `stop`.

    With `early` the reader may stop long before: it is asked for about what is read, of more than some megabytes for twice that.

    Returns
    -------
    stream
        With `read`, `readinto` and `close`, to be used in a `with`.

    Raises
    ------
    ObjectChanged
        It has another version, or is gone.
    CredentialsError, StorageError
        The store refuses or cannot be reached.
    """
    if is_member(uri, version):
        from rlm_ray.storage.archives import members

        return members.open_stream(_open_part, uri, version, size, start, early)
    if is_remote(uri):
        return objectfiles.ObjectStream(store_of(uri), uri, version, size, start, size if stop is None else stop, early)
    file = open_input(uri, version=version)
    file.seek(start)
    return file


def _open_part(uri: str, version: str, start: int, stop: int, early: bool) -> Any:
    """Open a range of an archive."""
    return open_stream(uri, version=version, size=stop, start=start, stop=stop, early=early)


def read_range(uri: str, start: int, stop: int, *, version: str = "") -> bytes:
    """Return bytes `start` to `stop` (exclusive) of an object; fewer where it ends before.

    Raises
    ------
    ObjectChanged
        It has another version than `version`, or is gone.
    """
    if is_member(uri, version):
        from rlm_ray.storage.archives import members

        return members.read_range(_open_part, uri, version, start, stop)
    if is_remote(uri):
        return store_of(uri).read(normal(uri), start, stop, version)
    with open_input(uri, version=version) as file:
        stop = min(stop, file.size())
        return file.read_at(stop - start, start) if stop > start else b""


def read_small(objects: Iterable[tuple[str, str, int]], most: int | None = None) -> Iterator[bytes | StorageError]:
    """Yield the bytes of small objects, given with their versions and sizes; for an object that cannot be read, the error.

    Requests to a store run a few ahead, and few objects are in memory at a time. With `most`, only the first bytes of each object.

    Raises
    ------
    CredentialsError
        The store refuses.
    """
    asked: deque[Reading | tuple[str, str, int]] = deque()
    for uri, version, size in objects:
        # of nothing there is no range to ask for
        stop = size if most is None else min(size, most)
        is_asked = stop and is_remote(uri) and not is_member(uri, version)
        asked.append(store_of(uri).begin(uri, 0, stop, version) if is_asked else (uri, version, size))
        if len(asked) > _SMALL_AHEAD:
            yield _small(asked.popleft(), most)
    while asked:
        yield _small(asked.popleft(), most)


def _small(asked: Reading | tuple[str, str, int], most: int | None) -> bytes | StorageError:
    try:
        if isinstance(asked, Reading):
            return bytes(store_of(asked.uri).result(asked))
        uri, version, size = asked
        is_file = scheme(uri) == "file" and not is_member(uri, version)
        if is_file and (found := local.read_head(uri, most)) is not None and found[1] == version:
            return found[0]
        data = read_range(uri, 0, size if most is None else min(size, most), version=version)
        check_version(uri, version)
        return data
    except StorageError as error:
        return error


def read_bytes(uri: str) -> bytes:
    """Return a whole object.

    Raises
    ------
    StorageError
        There is none of that name (`find_bytes` returns None instead).
    """
    data = find_bytes(uri)
    if data is None:
        raise StorageError(f"{uri} does not exist. Check the name.")
    return data


def find_bytes(uri: str) -> bytes | None:
    """Return a whole object, None where there is none of that name."""
    kind = scheme(uri)
    uri = normal(uri)
    if kind == "memory":
        item = memory().store.get(memory_path(uri))
        return None if item is None else bytes(item.getbuffer())
    if is_remote(uri):
        try:
            return store_of(uri).body(uri)
        except FileNotFoundError:
            return None
    try:
        return Path(uri).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{uri} cannot be read: {error.strerror}. Check the path and its mode.") from None


def polars_reads(uri: str, version: str = "") -> bool:
    """Whether polars is asked to read Parquet of this URI; other stores are read by ranges, each bound to the version."""
    return scheme(uri) in ("file", "memory", "s3") or is_member(uri, version)


def polars_source(uri: str, version: str = "") -> tuple[Any, dict[str, str] | None]:
    """Return what polars scans for this URI, and its storage options: the credentials and endpoint that s3fs uses.

    A member of an archive is held whole.
    """
    kind = scheme(uri)
    if is_member(uri, version):
        from rlm_ray.storage.archives import members

        return io.BytesIO(members.read_whole(_open_part, uri, version)), None
    if is_remote(uri):
        return uri, store_of(uri).table_options(uri)
    return (io.BytesIO(read_bytes(uri)) if kind == "memory" else normal(uri)), None


def table_options(uri: str) -> dict[str, str] | None:
    """Return the credentials and the endpoint of a store as delta-rs takes them; None for local paths.

    Raises
    ------
    InputError
        A table cannot be there.
    """
    if scheme(uri) == "memory":
        raise InputError(f"A Delta table cannot be at {uri}. Name one in object storage or on a local path.")
    return store_of(uri).table_options(uri) if is_remote(uri) else None
