"""The arguments of operations, and the parts that shards return for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from rlm_ray.handle.plan import Place
from rlm_ray.types.json import Record


class OperationArgs(TypedDict, total=False):
    """The arguments of an operation; `operations.OPERATIONS` says which operation takes which."""

    n: int
    after: Sequence[int] | None
    max_bytes: int
    column: str
    limit: int
    ordinals: Sequence[int]
    address: str
    max_chars: int
    target_bytes: int
    by: str | None
    overlap_bytes: int


class PagePart(TypedDict):
    """The records of one shard for a page: with the place, the size and the end of each, and whether there are more."""

    records: list[Record]
    places: list[Place]
    sizes: list[int]
    ends: list[int]
    more: bool


class Page(TypedDict):
    """Some records, and the place to go on from; None is the end."""

    records: list[Record]
    after: list[int] | None


class TextPart(TypedDict):
    """The text of one shard's records, whether there is more, and where the last record ends."""

    text: str
    more: bool
    end: int | None


class ValueCounts(TypedDict):
    """The most frequent values with their counts, and the number of distinct values."""

    counts: list[list[Any]]
    distinct: int


class Lengths(TypedDict):
    """The number of records, their bytes, and the bytes of the longest."""

    records: int
    nbytes: int
    longest: int


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation: `run(work, args)` reads one shard, `merge(parts, args)` joins what the shards returned, in their order."""

    run: Callable[..., Any]
    merge: Callable[..., Any]
