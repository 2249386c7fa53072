"""Bytes that are no text: shown as U+FFFD and counted, so that an answer can say in which objects there were some.

A scan counts what it replaces; the most that one scan of a shard has found is kept in the run directory::

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
from typing import Any

from rlm_ray import storage
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.errors import StorageError
from rlm_ray.types.run import Replaced

FOLDER = "replaced"
#: As "replace" for a decoder, which also counts.
ERRORS = "rlm_ray.replace"

_here = threading.local()


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    _here.count = getattr(_here, "count", 0) + error.end - error.start
    return "\ufffd", error.end


codecs.register_error(ERRORS, _replace)


class Damage:
    """How many bytes a scan has replaced.

    Examples
    --------
    >>> damage = Damage()
    >>> with damage.counting():
    ...     b"caf\\xe9".decode("utf-8", ERRORS)
    'caf�'
    >>> damage.nbytes
    1
    """

    def __init__(self) -> None:
        self.nbytes = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is decoded in this thread within."""
        before = getattr(_here, "count", 0)
        try:
            yield
        finally:
            self.nbytes += getattr(_here, "count", 0) - before


def counted(shard: Shard) -> Any:
    """Return the context in which what a shard's reader decodes is counted, where somebody asks for it."""
    return contextlib.nullcontext() if shard.damage is None else shard.damage.counting()


def note(run_dir: str, shard: Shard) -> None:
    """Write down what a scan of a shard has replaced, where that is more than was known."""
    if shard.damage is None or not shard.damage.nbytes:
        return
    name = hashlib.sha256(f"{shard.uri}\0{shard.version}\0{shard.start}".encode()).hexdigest()[:32]
    uri = storage.join(run_dir, FOLDER, f"{name}.json")
    known = storage.find_bytes(uri)
    if known is None or json.loads(known)["bytes"] < shard.damage.nbytes:
        with contextlib.suppress(StorageError):  # what was read is good without it
            storage.write_bytes(uri, json.dumps({"object": shard.uri, "bytes": shard.damage.nbytes}).encode())


def found(run_dir: str) -> list[Replaced]:
    """Return the objects in which a run has replaced bytes, those with most first: `object`, `bytes`."""
    folder = storage.join(run_dir, FOLDER)
    counts: Counter[str] = Counter()
    for item in storage.listing(folder) if storage.exists(folder) else ():
        told = json.loads(storage.read_bytes(item.uri))
        counts[told["object"]] += told["bytes"]
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [{"object": uri, "bytes": nbytes} for uri, nbytes in ordered]
