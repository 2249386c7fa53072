"""Counts texts that Parquet stores as codes of a dictionary, by their codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet

from rlm_ray import storage
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.reading.parquet import row_groups
from rlm_ray.errors import StorageError

#: Bytes that a row may take in a column chunk: codes take fewer, texts that are stored by themselves a length and more.
_MOST_BYTES = 4
_BATCH_ROWS = 1 << 17
#: Bytes of a dictionary, as it is in the file, that is handed on as one; and how a column is written that has one.
_SMALL = 64 << 10
_DICTIONARY = frozenset({"PLAIN", "PLAIN_DICTIONARY", "RLE", "RLE_DICTIONARY", "BIT_PACKED"})


def counts(shard: Shard, schema: dict[str, str], column: str, low: int, high: int) -> dict[Any, int] | None:
    """Return how many of the rows `[low, high)` have each value; None where the column is no text in codes, or cannot be read so.

    Nothing is raised: the reader that is asked instead says why.
    """
    other = {name for name, _, _ in shard.differs} | dict(shard.partitions).keys() | dict(shard.constants).keys()
    if not shard.traits.has_footers or schema[column] != "string" or column in other or shard.deleted:
        return None
    if storage.is_remote(shard.uri) or row_groups.is_part(shard, low, high):
        return None  # many small requests, which polars has under way at once; row groups that are kept for neighbours
    try:
        metadata = row_groups.footer(shard)
        if "." in column and any(column.startswith(f"{name}.") for name in metadata.schema.to_arrow_schema().names):
            return None  # it may be the path of another column's member
        groups, first = row_groups.between(metadata, low, high)
        if not all(_in_codes(metadata.row_group(group), column) for group in groups):
            return None
        with storage.open_input(shard.uri, version=shard.version, size=shard.size or None) as source:
            file = pyarrow.parquet.ParquetFile(source, metadata=metadata, read_dictionary=[column], pre_buffer=True)
            found, rows = _counted(file, column, groups, low - first, high - first)
        storage.check_version(shard.uri, shard.version)
    except (pyarrow.ArrowException, StorageError, OSError, ValueError):
        return None
    return found if rows == high - low else None


def _counted(file: Any, column: str, groups: list[int], low: int, high: int) -> tuple[dict[Any, int], int]:
    """Return the counts of rows `[low, high)` of these row groups, and how many rows there were."""
    found: dict[Any, int] = {}
    at = rows = 0
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, columns=[column], use_threads=False):
        skip, stop = max(0, low - at), min(batch.num_rows, high - at)
        at += batch.num_rows
        if stop <= skip:
            continue
        array = batch.column(0).slice(skip, stop - skip)
        rows += len(array)
        if array.null_count:
            found[None] = found.get(None, 0) + array.null_count
        numbers = array.indices.drop_null() if array.null_count else array.indices
        values = array.dictionary.to_pylist()
        for value, count in zip(values, numpy.bincount(numbers, minlength=len(values)).tolist(), strict=True):
            if count:
                found[value] = found.get(value, 0) + count
    return found, rows


def _in_codes(group: Any, column: str) -> bool:
    for index in range(group.num_columns):
        chunk = group.column(index)
        if chunk.path_in_schema == column:
            narrow = chunk.total_uncompressed_size <= _MOST_BYTES * chunk.num_values
            return chunk.physical_type == "BYTE_ARRAY" and chunk.has_dictionary_page and narrow
    return False


def few(metadata: Any, groups: Sequence[int], texts: Sequence[str]) -> list[str]:
    """Return those of some columns of texts that are numbers of a small dictionary in all row groups."""
    names = set(texts if groups else ())
    for index in groups if names else ():
        group = metadata.row_group(index)
        chunks = (group.column(number) for number in range(group.num_columns))
        names &= {chunk.path_in_schema for chunk in chunks if chunk.path_in_schema in names and _has_few(chunk)}
    return sorted(names)


def _has_few(chunk: Any) -> bool:
    starts = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
    if starts is None or not _DICTIONARY.issuperset(chunk.encodings):
        return False
    return 0 < chunk.data_page_offset - starts <= min(_SMALL, chunk.num_values)  # of many rows few bytes
