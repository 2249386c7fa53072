"""A format of its own, as a contributor would write it: lines `key=value`, each a row of two columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.reading.reader import Reader, ReadRequest
from rlm_ray.corpus.reading.sampling import Sample
from rlm_ray.corpus.reading.text.lines import frame, next_lines
from rlm_ray.corpus.reading.text.streams import pieces


def read(request: ReadRequest) -> Iterator[polars.DataFrame]:
    """Yield the rows of the lines that begin in `[low, high)`."""
    for piece in pieces(request.shard, request.low, request.high):
        lines = frame(piece, request.shard).with_columns(next_lines(piece))
        parts = lines["text"].str.splitn("=", 2).struct.rename_fields(["key", "value"]).struct.unnest()
        rows = lines.drop("text").hstack(parts)
        for predicate in request.predicates:
            rows = rows.filter(predicate)
        yield rows.select(*request.columns, "_pos", "_end", "_next")


def sample(shards: Sequence[Shard]) -> Sample:
    """Return the two columns."""
    return Sample({"key": "string", "value": "string"}, width=20.0)


READER = Reader(read=read, sample=sample)
