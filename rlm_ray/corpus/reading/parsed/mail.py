"""Mail: a record for each message and each attachment of an mbox, an EML file, a Maildir's files or an MSG file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.reading.parsed.foreign import ParserFailed, ShardSource, parsed
from rlm_ray.corpus.reading.reader import Reader, ReadRequest
from rlm_ray.corpus.reading.sampling import Sample
from rlm_ray.errors import ObjectUnreadable

MOMENT = "timestamp[us, tz=UTC]"
SCHEMA = {
    "kind": "string",
    "from": "string",
    "to": "string",
    "cc": "string",
    "date": MOMENT,
    "date_text": "string",
    "subject": "string",
    "message_id": "string",
    "in_reply_to": "string",
    "thread": "string",
    "text": "string",
    "quoted": "string",
    "name": "string",
    "content_type": "string",
    "size": "int64",
    "part": "string",
    "note": "string",
}
#: Columns for which texts of attachments are read.
_TEXTS = frozenset({"text", "quoted", "note"})
_PLACES = ("_pos", "_end")
#: Messages of one object that may end its parser.
MAX_STOPPED = 20
#: Bytes of a record, guessed.
_WIDTH = 4_000.0


def read(request: ReadRequest) -> Iterator[polars.DataFrame]:
    """Yield frames of the columns, `_pos` and `_end`: the bytes at which a message, or a part of one, begins and ends.

    A message on which the parser ends is parsed again without its attachments, and then passed over with the reason.
    """
    shard = request.shard
    high = request.high if request.high is not None else 1 << 62
    at, stopped, reason = request.low, 0, ""
    plain: list[int] = []
    skip: dict[str, str] = {}
    with ShardSource(shard) as source:
        while True:
            options = {"low": at, "high": high, "texts": bool(_TEXTS & _looked_at(request)), "each": stopped > 0}
            try:
                for found in parsed(request.parsers, shard.uri, "mail", source, options | {"plain": plain, "skip": skip}):
                    yield from _frames(request, found["columns"])
                    at = max(at, int(found["next"]))
                return
            except ParserFailed as error:
                stopped, reason = stopped + 1, str(error)
                if stopped > MAX_STOPPED:
                    raise ObjectUnreadable(f"{shard.uri} ended its parser {stopped} times, at last: {reason}") from None
                if stopped == 1:
                    continue  # the first time it is not known which message it was
                if at not in plain:
                    plain.append(at)
                elif str(at) not in skip:
                    skip[str(at)] = f"not read: {reason.partition(' cannot be parsed: ')[2]}"
                else:
                    raise


def _looked_at(request: ReadRequest) -> set[str]:
    names = set(request.columns)
    for predicate in request.predicates:
        names |= set(predicate.meta.root_names())
    return names


def _frames(request: ReadRequest, columns: dict[str, list[Any]]) -> Iterator[polars.DataFrame]:
    if not columns["_pos"]:
        return
    places = [polars.Series(name, columns[name], polars.Int64) for name in _PLACES]
    wanted = [name for name in SCHEMA if name in _looked_at(request)]
    frame = polars.DataFrame([*(_series(name, columns[name]) for name in wanted), *places])
    if request.extents:
        frame = frame.with_columns(_next=polars.col("_end"))
    for predicate in request.predicates:
        frame = frame.filter(predicate)
    if frame.height:
        yield frame


def _series(name: str, values: list[Any]) -> polars.Series:
    if SCHEMA[name] == MOMENT:
        return polars.Series(name, values, polars.Int64).cast(polars.Datetime("us", "UTC"))
    return polars.Series(name, values, polars.Int64 if SCHEMA[name] == "int64" else polars.String)


def sample(shards: Sequence[Shard]) -> Sample:
    """Return the columns, which all mail has. Reads nothing."""
    return Sample(dict(SCHEMA), _WIDTH)


READER = Reader(read=read, sample=sample)
