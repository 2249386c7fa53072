"""A whole object as one record `{"path": …, "text": …}`: text as it is, documents as what a sandbox reads in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars

from rlm_ray.corpus.catalog.document_kinds import document_kind, kind_in
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.reading.decode_replacements import ERRORS
from rlm_ray.corpus.reading.documents.extracting import text_of
from rlm_ray.corpus.reading.reader import Reader, ReadRequest
from rlm_ray.corpus.reading.sampling import Sample
from rlm_ray.corpus.reading.text.streams import BOM, MAX_RECORD, PIECE, encoding_of, opened, readable
from rlm_ray.errors import ObjectUnreadable


def read(request: ReadRequest) -> Iterator[polars.DataFrame]:
    """Yield one frame of `text`, `_pos` (0) and `_end` (bytes of the text).

    Raises
    ------
    ObjectUnreadable
        The document is larger than `MAX_RECORD`, its compressed stream is damaged, or it cannot be parsed.
    """
    shard = request.shard
    parts = []
    size = 0
    with opened(shard) as stream, readable(shard):
        while data := stream.read(PIECE):
            parts.append(data)
            size += len(data)
            if size > MAX_RECORD:
                raise ObjectUnreadable(
                    f"{shard.uri} is larger than {MAX_RECORD >> 20} MiB, the most that is read as one document. "
                    "Open it with unit='line'."
                )
    data = b"".join(parts)
    if document_kind(shard.uri) is not None or kind_in(data) is not None:
        text = text_of(shard, data, None if request.parsers is None else request.parsers.extract)
    else:
        text = data.removeprefix(BOM).decode(encoding_of(shard), ERRORS)
    yield polars.DataFrame(
        {"text": [text], "_pos": polars.Series([0], dtype=polars.Int64), "_end": polars.Series([size], dtype=polars.Int64)}
    )


def sample(shards: Sequence[Shard]) -> Sample:
    """Return the columns, which all documents have. Reads nothing."""
    return Sample({"path": "string", "text": "string"})


def _is_text(shard: Shard) -> bool:
    return document_kind(shard.uri) is None


READER = Reader(read=read, sample=sample, filters="none", spans_in_bytes=_is_text)
