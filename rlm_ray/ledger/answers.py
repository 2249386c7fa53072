"""A store of answers that runs share: validated answers by key, in segments that are only ever added.

A segment is a folder with `rows.parquet` (sorted by key: key, answer, time, run) and `keys` (the first half of each key), which is
written last and makes the segment visible. New segments hold all keys (`all-…`), and a compaction sorts them into ranges of keys
(`00-…` to `ff-…`), so that a search reads the keys of few files and the answers of those that have one. No two writers use the
same name, nothing is changed in place, and what a compaction that was killed leaves behind is the same answers once more.

The key of a sub-call holds the question (model, prompt, schema, parameters, prompt version) and a digest of the content; here the
endpoint is added. So the store holds no prompt and no record, only digests and answers.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy
import pyarrow
import pyarrow.parquet

from rlm_ray import storage
from rlm_ray.errors import InputError, StorageError
from rlm_ray.types.json import JsonObject

#: Seconds between two segments of one writer.
FLUSH_SECONDS = 1.0
#: New segments from which on a compaction is worth it.
MANY_SEGMENTS = 32
#: Seconds after which a compaction's mark is taken to be of a process that died.
STALE_SECONDS = 3_600.0
ROW_GROUP = 8_192
#: Segments that are searched at the same time.
THREADS = 8
_KEY, _HALF = 32, 16
_SCHEMA = pyarrow.schema(
    [
        ("key", pyarrow.binary(_KEY)),
        ("answer", pyarrow.string()),
        ("at", pyarrow.int64()),
        ("run", pyarrow.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment, as its name says it."""

    uri: str
    range: str

    @property
    def rows(self) -> str:
        """The file with the answers."""
        return storage.join(self.uri, "rows.parquet")

    @property
    def keys(self) -> str:
        """The file with the keys."""
        return storage.join(self.uri, "keys")


class AnswerStore:
    """The answers that runs share, as one process uses them.

    Parameters
    ----------
    uri : str
    endpoint : str
        The name of the endpoint: the same model name elsewhere may be another model.
    days : float, optional
        Older answers are not used.
    """

    def __init__(self, uri: str, endpoint: str, days: float | None = None) -> None:
        self._uri = uri
        self._endpoint = endpoint
        self._days = days
        self._new: list[tuple[bytes, str, int, str]] = []
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._flushed = time.monotonic()
        self._crowded = False  # when it was last searched, a compaction was worth it

    def find(self, keys: Sequence[str]) -> dict[str, JsonObject]:
        """Return the answers of those keys that have one. Reads the keys of the segments, and the answers that are asked for."""
        names = {self._name(key): key for key in keys}
        if not names:
            return {}
        oldest = 0 if self._days is None else int(time.time() - self._days * 86_400)
        for last in (False, True):
            try:
                segments = list(_segments(self._uri))
                self._crowded = sum(segment.range == "all" for segment in segments) >= MANY_SEGMENTS
                return {names[name]: json.loads(answer) for name, answer in _search(segments, sorted(names), oldest)}
            except StorageError:
                if last:
                    raise  # else a compaction has replaced a segment that was listed
        return {}

    def add(self, key: str, answer: JsonObject, run: str) -> None:
        """Add an answer; it is written with the next segment."""
        row = (self._name(key), json.dumps(answer, ensure_ascii=False, sort_keys=True), int(time.time()), run)
        with self._lock:
            self._new.append(row)
            late = time.monotonic() - self._flushed >= FLUSH_SECONDS
        if late and self._flushing.acquire(blocking=False):
            self._flushed = time.monotonic()
            threading.Thread(target=self._flush_and_release, name="rlm-ray-answers", daemon=True).start()

    def flush(self) -> None:
        """Write what was added, and compact the store where its last search found many new segments."""
        with self._flushing:
            self._flush()
        if self._crowded:
            self._crowded = False
            compact(self._uri, self._days)

    def _flush_and_release(self) -> None:
        try:
            self._flush()
        except StorageError:
            return  # the rows are kept, and the flush at the end of the group tells of the error
        finally:
            self._flushing.release()

    def _flush(self) -> None:
        with self._lock:
            rows, self._new = self._new, []
        if not rows:
            return
        try:
            _write(self._uri, "all", _table(rows))
        except StorageError:
            with self._lock:
                self._new = rows + self._new
            raise

    def _name(self, key: str) -> bytes:
        return hashlib.sha256(f"{self._endpoint}\n{key}".encode()).digest()


def compact(uri: str, days: float | None = None, without_run: str | None = None, *, least: int = MANY_SEGMENTS) -> int:
    """Sort new segments into those of their ranges, and leave out what is too old or of a run that is forgotten.

    Returns
    -------
    int
        Segments that were replaced; 0 where there are few new ones, or another process compacts.
    """
    segments = list(_segments(uri))
    new = [segment for segment in segments if segment.range == "all"]
    if without_run is None and len(new) < least:
        return 0
    mark = storage.join(uri, "compacting", "mark")
    if not _mark(mark):
        if without_run is None:
            return 0
        raise StorageError(f"The answers at {uri} are being compacted by another process. Forget the run again in a moment.")
    try:
        oldest = 0 if days is None else int(time.time() - days * 86_400)
        for name in [f"{number:02x}" for number in range(256)]:
            before = [segment for segment in segments if segment.range == name]
            parts = [_part(segment, name) for segment in new]
            if not any(len(part) for part in parts) and (without_run is None or not before):
                continue
            table = pyarrow.concat_tables([*parts, *(_read(segment) for segment in before)])
            table = _kept(table, oldest, without_run)
            if len(table):
                _write(uri, name, table)
            for segment in before:
                storage.delete_tree(segment.uri)
        for segment in new:
            storage.delete_tree(segment.uri)
        return len(segments)
    finally:
        storage.delete_tree(storage.join(uri, "compacting"))


def forget(uri: str, run: str) -> int:
    """Take the answers of a run out of the store; returns how many segments were looked through."""
    return compact(uri, without_run=run)


def _mark(uri: str) -> bool:
    if storage.write_bytes(uri, str(time.time()).encode(), only_if_absent=True):
        return True
    found = storage.find_bytes(uri)
    if found is not None and time.time() - float(found or b"0") < STALE_SECONDS:
        return False
    return storage.write_bytes(uri, str(time.time()).encode())


def _segments(uri: str) -> Iterator[Segment]:
    folder = storage.join(uri, "segments")
    try:
        for item in storage.listing(folder):
            base, _, name = item.uri.rpartition("/")
            if name == "keys":
                yield Segment(base, base.rpartition("/")[2].partition("-")[0])
    except InputError:
        return  # nothing was ever written there


def _search(segments: Sequence[Segment], names: Sequence[bytes], oldest: int) -> Iterator[tuple[bytes, str]]:
    """Yield what is found of sorted names, segment by segment."""
    high, low = _halves(b"".join(name[:_HALF] for name in names))
    firsts = numpy.frombuffer(b"".join(name[:1] for name in names), dtype=numpy.uint8)

    def look(segment: Segment) -> list[tuple[bytes, str]]:
        start, stop = 0, len(names)
        if segment.range != "all":
            number = int(segment.range, 16)
            start, stop = numpy.searchsorted(firsts, [number, number + 1]).tolist()
        if start == stop:
            return []
        return _in_segment(segment, names[start:stop], high[start:stop], low[start:stop], oldest)

    with ThreadPoolExecutor(THREADS) as threads:
        for found in threads.map(look, segments):
            yield from found


def _in_segment(
    segment: Segment, names: Sequence[bytes], high: numpy.ndarray, low: numpy.ndarray, oldest: int
) -> list[tuple[bytes, str]]:
    data = storage.read_bytes(segment.keys)
    keys_high, keys_low = _split(data)
    at = numpy.minimum(numpy.searchsorted(keys_high, high), len(keys_high) - 1)
    hits = numpy.flatnonzero((keys_high[at] == high) & (keys_low[at] == low))
    if not len(hits):
        return []
    rows = at[hits]
    with pyarrow.parquet.ParquetFile(storage.open_input(segment.rows)) as file:
        groups = numpy.unique(rows // ROW_GROUP)
        table = file.read_row_groups(groups.tolist(), columns=["answer", "at"], use_threads=False)
    inside = numpy.searchsorted(groups, rows // ROW_GROUP) * ROW_GROUP + rows % ROW_GROUP
    table = table.take(pyarrow.array(inside))
    answers, times = table["answer"].to_pylist(), table["at"].to_pylist()
    return [(names[hit], answer) for hit, answer, when in zip(hits.tolist(), answers, times, strict=True) if when >= oldest]


def _halves(data: bytes) -> tuple[numpy.ndarray, numpy.ndarray]:
    words = numpy.frombuffer(data, dtype=">u8").astype(numpy.uint64).reshape(-1, 2)
    return words[:, 0], words[:, 1]


def _split(data: bytes) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return both words of all keys of a file: all first words, then all second ones."""
    words = numpy.frombuffer(data, dtype=numpy.uint64)
    return words[: len(words) // 2], words[len(words) // 2 :]


def _table(rows: Iterable[tuple[bytes, str, int, str]]) -> pyarrow.Table:
    columns = list(zip(*rows, strict=True))
    return pyarrow.table(
        [pyarrow.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
    )


def _write(uri: str, name: str, table: pyarrow.Table) -> None:
    table = table.sort_by("key")
    folder = storage.join(uri, "segments", f"{name}-{int(time.time() * 1000)}-{secrets.token_hex(6)}")
    data = io.BytesIO()
    pyarrow.parquet.write_table(
        table, data, row_group_size=ROW_GROUP, compression="zstd", use_dictionary=["answer", "run"], write_statistics=False
    )
    storage.make_dirs(folder)
    storage.write_bytes(storage.join(folder, "rows.parquet"), data.getvalue())
    high, low = _halves(b"".join(key[:_HALF] for key in table["key"].to_pylist()))
    storage.write_bytes(storage.join(folder, "keys"), high.tobytes() + low.tobytes())


def _read(segment: Segment) -> pyarrow.Table:
    with pyarrow.parquet.ParquetFile(storage.open_input(segment.rows)) as file:
        return file.read(use_threads=False).cast(_SCHEMA)


def _part(segment: Segment, name: str) -> pyarrow.Table:
    """Return the rows of a new segment whose keys are of a range."""
    high, _ = _split(storage.read_bytes(segment.keys))
    number = int(name, 16)
    start, stop = numpy.searchsorted((high >> numpy.uint64(56)).astype(numpy.int64), [number, number + 1]).tolist()
    return _read(segment).slice(start, stop - start) if stop > start else _SCHEMA.empty_table()


def _kept(table: pyarrow.Table, oldest: int, without_run: str | None) -> pyarrow.Table:
    """Return a table with each key once, its newest answer, without what is too old or forgotten."""
    import polars

    frame = polars.DataFrame(table.cast(pyarrow.schema([("key", pyarrow.binary()), *list(_SCHEMA)[1:]])))
    frame = frame.filter(polars.col("at") >= oldest)
    if without_run is not None:
        frame = frame.filter(polars.col("run") != without_run)
    frame = frame.sort("key", "at").unique("key", keep="last", maintain_order=True)
    return frame.to_arrow().cast(_SCHEMA)
