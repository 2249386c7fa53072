"""What scans of logs have seen: records without a known format, events that were cut, and the times of a shard.

A scan collects it, and the run directory keeps it: counts so that an answer can say them, times so that a later scan of other
times leaves the shard out::

    RUN/logs/ID.json    {"object": …, "unparsed": …, "cut": …, "times": [first, last] or null}
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypedDict

import polars

from rlm_ray import storage
from rlm_ray.corpus.catalog import statistics
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.catalog.statistics import RowGroup
from rlm_ray.corpus.planning import pruning
from rlm_ray.errors import StorageError
from rlm_ray.types.run import Unparsed

FOLDER = "logs"


class _Entry(TypedDict):
    """What is kept of a shard."""

    object: str
    unparsed: int
    cut: int
    times: tuple[int, int] | None


_here = threading.local()


class LogNotes:
    """What one scan of a shard has seen.

    Attributes
    ----------
    unparsed : int
        Records that have none of the formats.
    cut : int
        Records that continue an event which was cut.
    times : tuple of (int, int), optional
        The first and the last time of all records of the shard, in microseconds.
    """

    def __init__(self) -> None:
        self.unparsed = 0
        self.cut = 0
        self.times: tuple[int, int] | None = None

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect what this thread's reader sees inside the block."""
        before = getattr(_here, "notes", None)
        _here.notes = self
        try:
            yield
        finally:
            _here.notes = before


def seen() -> LogNotes:
    """Return the notes of the scan that this thread is in; some that nobody reads where there is none."""
    notes: LogNotes | None = getattr(_here, "notes", None)
    return LogNotes() if notes is None else notes


class Times:
    """The first and the last time of some columns."""

    def __init__(self) -> None:
        self._ends: tuple[int, int] | None = None

    def add(self, column: polars.Series) -> None:
        """Take the times of some records."""
        if column.dtype != polars.String and column.null_count() < len(column):
            whole = column.cast(polars.Int64)
            low, high = int(whole.min()), int(whole.max())  # type: ignore[arg-type]
            self._ends = (low, high) if self._ends is None else (min(low, self._ends[0]), max(high, self._ends[1]))

    @property
    def ends(self) -> tuple[int, int] | None:
        """The first and the last one; None where there was none."""
        return self._ends


def note(run_dir: str, shard: Shard, notes: LogNotes) -> None:
    """Keep what a scan of a shard has seen, where it is more than what is known."""
    if not (notes.unparsed or notes.cut or notes.times):
        return
    known = _known(run_dir, shard) or _Entry(object=shard.uri, unparsed=0, cut=0, times=None)
    entry: _Entry = {
        "object": shard.uri,
        "unparsed": max(notes.unparsed, known["unparsed"]),
        "cut": max(notes.cut, known["cut"]),
        "times": known["times"] or notes.times,
    }
    if known != entry:
        with contextlib.suppress(StorageError):  # the records are good without it
            storage.write_bytes(_uri(run_dir, shard), json.dumps(entry).encode())


def found(run_dir: str) -> list[Unparsed]:
    """Return the objects in which a run has met records without a known format, or cut events, the most first."""
    folder = storage.join(run_dir, FOLDER)
    counts: dict[str, Unparsed] = {}
    for item in storage.listing(folder) if storage.exists(folder) else ():
        entry = json.loads(storage.read_bytes(item.uri))
        sums = counts.setdefault(entry["object"], {"object": entry["object"], "records": 0, "cut": 0})
        sums["records"] += entry["unparsed"]
        sums["cut"] += entry["cut"]
    some = [item for item in counts.values() if item["records"] or item["cut"]]
    return sorted(some, key=lambda item: (-item["records"], -item["cut"], item["object"]))


def rules_out(run_dir: str, shard: Shard, conditions: Sequence[tuple[str, str, Any]], schema: dict[str, str]) -> bool:
    """Return whether the times that an earlier scan saw leave no room for conditions on them."""
    kind = schema.get("time", "string")
    if not statistics.is_ranged(kind) or kind == "string" or not any(column == "time" for column, _, _ in conditions):
        return False
    known = _known(run_dir, shard)
    if known is None or known["times"] is None:
        return False
    ranges = statistics.table([RowGroup(0, 0, 1, {"time": known["times"]})], {"time": kind})
    ruled = pruning.ruled_out([item for item in conditions if item[0] == "time"], ranges, schema, 0, 1)
    return ruled is not None and len(ruled.shards) > 0


def _known(run_dir: str, shard: Shard) -> _Entry | None:
    found_bytes = storage.find_bytes(_uri(run_dir, shard))
    if found_bytes is None:
        return None
    entry: _Entry = json.loads(found_bytes)
    entry["times"] = (entry["times"][0], entry["times"][1]) if entry["times"] else None
    return entry


def _uri(run_dir: str, shard: Shard) -> str:
    name = hashlib.sha256(f"{shard.uri}\0{shard.version}\0{shard.start}\0{shard.dialect}".encode()).hexdigest()[:32]
    return storage.join(run_dir, FOLDER, f"{name}.json")
