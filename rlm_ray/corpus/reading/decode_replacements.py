"""Counts bytes that are no text. Readers show them as U+FFFD; an answer says which objects have some.

Readers decode with `ERRORS`, an error handler that counts per thread. A scan runs each step of its reader within `counting`,
and the run directory keeps the highest count that one scan of a shard found::

    RUN/replaced/ID.json    {"object": …, "bytes": …}
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rlm_ray import storage
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.errors import StorageError
from rlm_ray.types.run import Replaced

FOLDER = "replaced"
#: Name of the error handler for decoders: like "replace", and it counts.
ERRORS = "rlm_ray.replace"

_here = threading.local()


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    add(error.end - error.start)
    return "\ufffd", error.end


def add(nbytes: int) -> None:
    """Count bytes that this thread's reader replaced or skipped."""
    _here.count = getattr(_here, "count", 0) + nbytes


codecs.register_error(ERRORS, _replace)


class Replacements:
    """The number of bytes that one scan replaced.

    Examples
    --------
    >>> replaced = Replacements()
    >>> with replaced.counting():
    ...     b"caf\\xe9".decode("utf-8", ERRORS)
    'caf�'
    >>> replaced.nbytes
    1
    """

    def __init__(self) -> None:
        self.nbytes = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the bytes that this thread replaces inside the block."""
        before = getattr(_here, "count", 0)
        try:
            yield
        finally:
            self.nbytes += getattr(_here, "count", 0) - before


def note(run_dir: str, shard: Shard, replaced: Replacements) -> None:
    """Keep the count of one scan of a shard in the run directory, if it is higher than the count there."""
    if not replaced.nbytes:
        return
    name = hashlib.sha256(f"{shard.uri}\0{shard.version}\0{shard.start}".encode()).hexdigest()[:32]
    uri = storage.join(run_dir, FOLDER, f"{name}.json")
    known = storage.find_bytes(uri)
    if known is None or json.loads(known)["bytes"] < replaced.nbytes:
        with contextlib.suppress(StorageError):  # the records are good without the count
            storage.write_bytes(uri, json.dumps({"object": shard.uri, "bytes": replaced.nbytes}).encode())


def found(run_dir: str) -> list[Replaced]:
    """Return the objects in which a run replaced bytes, the highest count first."""
    folder = storage.join(run_dir, FOLDER)
    counts: Counter[str] = Counter()
    for item in storage.listing(folder) if storage.exists(folder) else ():
        entry = json.loads(storage.read_bytes(item.uri))
        counts[entry["object"]] += entry["bytes"]
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [{"object": uri, "bytes": nbytes} for uri, nbytes in ordered]
