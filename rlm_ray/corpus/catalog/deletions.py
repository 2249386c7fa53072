"""Leaves out the rows of a file that its table has deleted; the other rows keep their numbers in the file.

A shard of such a file carries the numbers of its deleted rows, packed. Places and addresses are rows of the file, so they
have gaps; counts, slices and samples are of live rows. What is said here of a shard without deletions is plain arithmetic.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any

import numpy
import polars

from rlm_ray.corpus.catalog.shard import Shard


def pack(positions: Any) -> bytes:
    """Return row numbers, in order and each once, as a few bytes; none is no bytes.

    Examples
    --------
    >>> unpack(pack([3, 4, 900])).tolist(), pack([])
    ([3, 4, 900], b'')
    """
    numbers = numpy.asarray(positions, numpy.int64)
    return zlib.compress(numpy.diff(numbers, prepend=0).tobytes(), 1) if len(numbers) else b""


@lru_cache(maxsize=64)
def unpack(packed: bytes) -> Any:
    """Return the row numbers again, as an array."""
    return numpy.cumsum(numpy.frombuffer(zlib.decompress(packed), numpy.int64)) if packed else numpy.empty(0, numpy.int64)


def live(shard: Shard, low: int, high: int) -> int:
    """Return how many of the rows `[low, high)` are records."""
    if not shard.deleted or high <= low:
        return max(0, high - low)
    gone = unpack(shard.deleted)
    return int(high - low - (numpy.searchsorted(gone, high) - numpy.searchsorted(gone, low)))


def rows_of(shard: Shard, low: int, ordinals: Any) -> Any:
    """Return the rows of the records with these numbers, counted from row `low` on; behind the last one it goes on evenly."""
    numbers = numpy.asarray(ordinals, numpy.int64)
    if not shard.deleted:
        return numbers + low
    gone = unpack(shard.deleted)
    gone = gone[numpy.searchsorted(gone, low) :]
    # before the i-th deleted row there are so many records
    before = gone - low - numpy.arange(len(gone))
    return numbers + low + numpy.searchsorted(before, numbers, side="right")


def row_of(shard: Shard, low: int, ordinal: int) -> int:
    """Return the row of one record; see `rows_of`."""
    return int(rows_of(shard, low, [ordinal])[0]) if shard.deleted else low + ordinal


def kept(shard: Shard) -> polars.Expr:
    """Return whether a row is a record, by its number in `_pos`."""
    gone = polars.Series(unpack(shard.deleted), dtype=polars.Int64)
    return ~polars.col("_pos").is_in(polars.lit(gone).implode())
