"""Caches footers and recent row groups, since neighbouring chunks need the same ones."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow
import pyarrow.parquet

from rlm_ray import storage
from rlm_ray.corpus.catalog.shard import Shard

#: Bytes of all that is kept by a process; a row group above it is not kept.
_MOST = 48 << 20
#: Footers that are kept.
_FOOTERS = 64
#: A range of more rows than this part of its shard is read by itself.
_PART = 4


class _Kept:
    """What was used last, by key, up to so many bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    def get(self, key: Any) -> Any:
        with self._lock:
            if key not in self._items:
                return None
            self._items.move_to_end(key)
            return self._items[key][0]

    def put(self, key: Any, item: Any, nbytes: int) -> None:
        with self._lock:
            if nbytes > self._most or key in self._items:
                return
            self._items[key] = (item, nbytes)
            self._nbytes += nbytes
            while self._nbytes > self._most:
                self._nbytes -= self._items.popitem(last=False)[1][1]


_groups, _footers = _Kept(_MOST), _Kept(_FOOTERS)


def is_part(shard: Shard, low: int, high: int) -> bool:
    """Whether rows `[low, high)` are so few of their shard that others are likely to be asked for."""
    return bool(shard.version) and shard.rows is not None and (high - low) * _PART < shard.rows and shard.nbytes <= 2 * _MOST


def rows(shard: Shard, columns: Sequence[str], low: int, high: int) -> Iterator[tuple[int, pyarrow.RecordBatch]]:
    """Yield rows `[low, high)` of a file, with the number of each batch's first row; reads whole row groups, and keeps them."""
    metadata = footer(shard)
    first = 0
    for index in range(metadata.num_row_groups):
        count = metadata.row_group(index).num_rows
        if first < high and first + count > low:
            table = _group(shard, metadata, index, tuple(columns))
            start, stop = max(low - first, 0), min(high - first, count)
            for batch in table.slice(start, stop - start).combine_chunks().to_batches():
                yield first + start, batch
                start += batch.num_rows
        first += count


def opened(source: Any, **options: Any) -> Any:
    """Open a file for its rows: times of 96 bits are microseconds, which hold all of their years."""
    return pyarrow.parquet.ParquetFile(source, coerce_int96_timestamp_unit="us", **options)


def footer(shard: Shard) -> Any:
    """Return what pyarrow has of a file's footer. Reads it, if it is not kept."""
    name = (shard.uri, shard.version)
    metadata = _footers.get(name)
    if metadata is None:
        with storage.open_input(shard.uri, version=shard.version, size=shard.size or None) as source:
            metadata = pyarrow.parquet.ParquetFile(source).metadata
        if shard.version:
            _footers.put(name, metadata, 1)
    return metadata


def between(metadata: Any, low: int, high: int) -> tuple[list[int], int]:
    """Return the row groups that hold rows `[low, high)`, and the first one's first row."""
    groups: list[int] = []
    first, at = 0, 0
    for index in range(metadata.num_row_groups):
        count = metadata.row_group(index).num_rows
        if at < high and at + count > low and count:
            if not groups:
                first = at
            groups.append(index)
        at += count
    return groups, first


def _group(shard: Shard, metadata: Any, index: int, columns: tuple[str, ...]) -> pyarrow.Table:
    key = (shard.uri, shard.version, index, columns)
    table = _groups.get(key)
    if table is None:
        with storage.open_input(shard.uri, version=shard.version, size=shard.size or None) as source:
            file = opened(source, metadata=metadata, pre_buffer=True)
            table = file.read_row_group(index, columns=list(columns), use_threads=False)
        _groups.put(key, table, table.nbytes)
    return table
