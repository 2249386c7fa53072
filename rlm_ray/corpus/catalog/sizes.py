"""Measures the bytes of a record in a prompt: from a scan's batch or, without data, from average widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import pyarrow
import pyarrow.compute

#: Quotes, colon and comma around a named value.
_FRAME = 6
_NUMBER = 8
_TIME = 26


def record_sizes(batch: pyarrow.RecordBatch) -> numpy.ndarray[Any, Any]:
    """Return the size of each record of a batch; columns that are ours do not count."""
    names = [name for name in batch.schema.names if not name.startswith("_")]
    sizes = numpy.zeros(batch.num_rows, numpy.int64)
    for name in names:
        array = batch.column(name)
        sizes += overhead(name, len(names))
        if pyarrow.types.is_string(array.type) or pyarrow.types.is_binary(array.type):
            sizes += pyarrow.compute.fill_null(pyarrow.compute.binary_length(array), 4).to_numpy(zero_copy_only=False)
        else:
            sizes += _TIME if pyarrow.types.is_temporal(array.type) else _NUMBER
    return sizes


def overhead(name: str, columns: int) -> int:
    """Bytes that a value takes besides itself: its name, or a line break where it is the only column."""
    return len(name.encode()) + _FRAME if columns > 1 else 1


def share(columns: Sequence[str], widths: Mapping[str, float]) -> float:
    """Return what part of all columns' bytes some of them have; all, where nothing is known of them.

    Examples
    --------
    >>> share(["level"], {"level": 5.0, "message": 95.0}), share(["level"], {})
    (0.05, 1.0)
    """
    total = sum(widths.values())
    return min(1.0, sum(widths.get(name, 0.0) for name in columns) / total) if total else 1.0


def mean_size(columns: Sequence[str], widths: Mapping[str, float]) -> float:
    """Return the size of a record by the columns' average widths."""
    return sum(widths.get(name, float(_NUMBER)) + overhead(name, len(columns)) for name in columns)
