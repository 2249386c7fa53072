"""What of an object is read where a record, or a span of one, is read."""

from __future__ import annotations

from typing import Any, TypeAlias

import polars

from rlm_ray.corpus.catalog.shard import Shard

#: What those with extents add: the positions at which what is read of a record begins and ends, and at which the record
#: ends, its line break included. Of rows, and of JSON, a span counts as the whole record.
EXTENT = ("_first", "_last", "_next")


def with_read_ranges(frame: polars.DataFrame, shard: Shard) -> polars.DataFrame:
    """Return a frame with the columns of `EXTENT`."""
    position = polars.col("_pos")
    if shard.in_rows:
        end = position + 1
    elif shard.traits.whole_objects:
        end = polars.col("_end")
    else:
        end = polars.col("_next")
    frame = frame.with_columns(end.alias("_next"))
    if "_byte" not in frame.columns:
        return frame.with_columns(position.alias("_first"), polars.col("_next").alias("_last"))
    first, last = position + polars.col("_byte"), position + polars.col("_byte_end")
    # bytes that are no text were replaced by longer ones
    return frame.with_columns(
        polars.min_horizontal(first, polars.col("_next")).alias("_first"),
        polars.min_horizontal(last, polars.col("_next")).alias("_last"),
    )


#: Of a record: its position, where what is read of it begins and ends, and where the record ends.
ReadRange: TypeAlias = tuple[int, int, int, int]


def read_ranges_of(batch: Any) -> list[ReadRange]:
    """Return the extent of each record of a scan's batch."""
    return list(zip(*(batch.column(name).to_pylist() for name in ("_pos", *EXTENT)), strict=True))
