"""`Reader`: the capabilities and functions of the reader of a format, found by the name of the format.

A format is one module with a `READER`, named in `catalog.formats`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import polars
import pyarrow

from rlm_ray.corpus.catalog.formats import FORMATS
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.planning.steps import BoundStep
from rlm_ray.corpus.reading.parsed.foreign import Parsers
from rlm_ray.corpus.reading.sampling import Sample
from rlm_ray.handle.plan import Step

#: What a verb makes of rows before they are taken out: a query over a query.
Reduce = Callable[[polars.LazyFrame], polars.LazyFrame]


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What a reader is asked for: the records of a shard that begin in `[low, high)`.

    Attributes
    ----------
    shard : Shard
    schema : dict
        The corpus' columns and type names.
    columns : sequence of str
        Those that are wanted, in the object itself unless the reader's `filters` is "all".
    low : int
    high : int or None
        Row numbers or byte offsets; None is the end.
    predicates : sequence of expressions
        Only records that fulfil them all.
    pattern : str, optional
        What is found in every text that holds such a record, from the reader's `prefilter`.
    extents : bool
        Add `_next`, the position behind each record, where records have no fixed width.
    early : bool
        The caller may soon stop: little is read at first.
    ordinals : sequence of int, optional
        Only the records of these numbers, which ascend; the first record is 0. See `Reader.takes_ordinals`.
    limit : int, optional
        At most so many records. This and what follows: of readers whose `filters` is "all".
    batch_bytes : int
        About the size of a frame.
    table : pyarrow.Table, optional
        The shard's rows, where they are at hand in memory.
    reduce : callable, optional
        Yield what it makes of the records, as a whole or in parts.
    parsers : Parsers, optional
        Parses foreign formats; without it, objects that need parsing cannot be read.
    """

    shard: Shard
    schema: dict[str, str]
    columns: Sequence[str]
    low: int
    high: int | None
    predicates: Sequence[polars.Expr] = ()
    pattern: str | None = None
    extents: bool = False
    early: bool = False
    ordinals: Sequence[int] | None = None
    limit: int | None = None
    batch_bytes: int = 8 << 20
    table: pyarrow.Table | None = None
    reduce: Reduce | None = None
    parsers: Parsers | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What a reader asks polars of a shard, not asked yet; `rows` is what its counts must come to, where known."""

    lazy: polars.LazyFrame
    rows: int | None


def _never(shard: Shard) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The reader of a format.

    Attributes
    ----------
    read : callable
        Yields frames of a request's columns, with `_pos` and (but for rows) `_end`.
    sample : callable, optional
        Finds the columns of a corpus when it is opened, from its shards; None where footers say them.
    sample_parsed : callable, optional
        The same, of a format that a sandbox parses.
    filters : {"all", "stored", "none"}
        The predicates that it takes: on all columns, those of the object's path included, with `limit` and `reduce`; on the
        object's own columns; or none.
    prefilter : callable, optional
        Returns a pattern that every text has which holds a record that a step leaves; None where there is none.
    count : callable, optional
        Counts the records of a request that one step leaves, without making them; returns None where it cannot.
    takes_ordinals : bool
        It finds records by their number without making the others.
    compares_versions : bool
        It binds what it reads to the object's version when it opens it; else the scan compares versions before it.
    spans_in_bytes : callable
        Whether spans of a shard's `text` have a place in bytes of the object.
    query : callable, optional
        Makes the query of a request with `reduce`, to be asked together with those of other shards; None where the shard takes
        more than one, or none. Reads nothing.
    """

    read: Callable[[ReadRequest], Iterator[polars.DataFrame]]
    sample: Callable[[Sequence[Shard]], Sample] | None = None
    sample_parsed: Callable[[Sequence[Shard], Parsers | None], Sample] | None = None
    filters: Literal["all", "stored", "none"] = "stored"
    prefilter: Callable[[BoundStep[Step]], str | None] | None = None
    count: Callable[[ReadRequest, BoundStep[Step]], int | None] | None = None
    takes_ordinals: bool = False
    compares_versions: bool = True
    spans_in_bytes: Callable[[Shard], bool] = _never
    query: Callable[[ReadRequest], Query | None] | None = None


def reader_of(format: str) -> Reader:
    """Return the reader of a format, by its name in `catalog.formats`."""
    return _loaded(FORMATS[format].reader)


@functools.cache
def _loaded(module: str) -> Reader:
    reader: Reader = importlib.import_module(module).READER
    return reader
