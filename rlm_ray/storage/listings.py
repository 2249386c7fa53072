"""Lists objects and their versions. Reads no object."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from rlm_ray.errors import InputError, ObjectChanged
from rlm_ray.storage import local
from rlm_ray.storage.archives.places import is_member, parse
from rlm_ray.storage.connections import memory, memory_path, store_of
from rlm_ray.storage.names import WILD, ObjectInfo, glob_regex, has_any_key, is_hidden, is_pattern, is_remote, normal, scheme


def listing(uri: str) -> Iterator[ObjectInfo]:
    """Yield the objects at a file, below a directory or prefix, or of a glob (`*`, `**`, `?`, `[…]`), in URI order
    (in object storage in none: large listings are made by several prefixes at once).

    Below directories and wildcards, names that begin with `.` or `_` (such as `_SUCCESS`, `_delta_log`) are left out,
    unless they are partitions (`_day=1`) or the glob spells them. Reads no object; holds some pages of a listing at a time.

    Raises
    ------
    InputError
        Nothing is there, or the scheme does not work.
    CredentialsError, StorageError
        The store refuses or cannot be reached.
    """
    uri = normal(uri)
    found = False
    for some in _list_any(uri):
        found = found or bool(some)
        yield from some
    if not found:
        hint = "The glob matches no object" if is_pattern(uri) else "No object has this name or lies below it"
        if scheme(uri) == "http":
            hint = "No object has this name, and a web server has no listing: name each object, or a list of them with list+"
        empty = " Its key has an empty part: two slashes that stand together are not one." if "//" in uri[5:] else ""
        raise InputError(f"Nothing to read at {uri}. {hint}; check the spelling, and quote globs in the shell.{empty}")


def _list_any(uri: str) -> Iterator[list[ObjectInfo]]:
    if not is_pattern(uri) or _stat(uri) is not None:
        yield from _list_tree(uri)
        return
    parts = uri.split("/")
    first = next(index for index, part in enumerate(parts) if WILD.search(part))
    base = "/".join(parts[:first]) or "/"
    if base.endswith("/") and has_any_key(uri):
        base += "/"  # an empty part of the key, which is part of the prefix
    wanted = glob_regex(uri)
    spelled = any(part.startswith((".", "_")) for part in parts[first:])
    lead = parts[first][: WILD.search(parts[first]).start()]  # type: ignore[union-attr]
    for some in _walk(base, lead, hidden=spelled):
        yield [info for info in some if wanted.fullmatch(info.uri)]


def _list_tree(uri: str) -> Iterator[list[ObjectInfo]]:
    info = _stat(uri)
    if info is not None:
        yield [info]
    else:
        yield from _walk(uri, "", hidden=False)


def _walk(base: str, lead: str, *, hidden: bool) -> Iterator[list[ObjectInfo]]:
    """Everything below `base` whose first name begins with `lead`, some at a time, in URI order."""
    kind = scheme(base)
    if kind == "file":
        yield from local.walk(base, lead, hidden=hidden)
        return
    skip = len(base.rstrip("/")) + 1
    for some in store_of(base).walk(base, lead) if is_remote(base) else _walk_memory(base, lead):
        yield some if hidden else [info for info in some if not any(is_hidden(name) for name in info.uri[skip:].split("/"))]


def _walk_memory(base: str, lead: str) -> Iterator[list[ObjectInfo]]:
    prefix = memory_path(base).rstrip("/") + "/" + lead
    for path in sorted(memory().store):
        if path.startswith(prefix) and (info := _stat(f"memory:/{path}")) is not None:
            yield [info]


# -- one object


def _stat(uri: str) -> ObjectInfo | None:
    kind = scheme(uri)
    if kind == "file":
        return local.stat(uri)
    if kind == "memory":
        item = memory().store.get(memory_path(uri))
        return None if item is None else ObjectInfo(uri, item.size, hashlib.sha256(item.getbuffer()).hexdigest()[:16])
    return store_of(uri).stat(uri)


def stat(uri: str) -> ObjectInfo | None:
    """Return what is known of one object, None where there is none. One request to a store."""
    return _stat(normal(uri))


def exists(uri: str) -> bool:
    """Whether there is an object of that name, or one below it."""
    uri = normal(uri)
    return _stat(uri) is not None or any(_walk(uri, "", hidden=True))


def current_version(uri: str) -> str:
    """Return the version that the object has now.

    Raises
    ------
    ObjectChanged
        It is gone.
    """
    info = stat(uri)
    if info is None:
        raise ObjectChanged(f"{uri} is gone since the corpus was opened. Open the corpus again.")
    return info.version


def check_version(uri: str, version: str) -> None:
    """Compare the object's version with `version`; nothing is compared where that is empty.

    Raises
    ------
    ObjectChanged
        Another version, or the object is gone.
    """
    if is_member(uri, version):
        uri, version, _ = parse(uri, version)
    if version and (now := current_version(uri)) != version:
        raise ObjectChanged(
            f"{uri} changed: it was version {version} when the corpus was opened and is {now} now. Open the corpus again."
        )
