"""The distinct contents of a batch: how many records have each, and which group of the batch asks about it.

A scan gives the contents of each shard, the driver unites them, and each group gets those of its own records that others have
as well. A content is what the model is shown of a record; its name here is its digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy
import polars

from rlm_ray.recursion.leaf.values import LeafSpec
from rlm_ray.subcalls.keys import digest
from rlm_ray.subcalls.numbered import pack_line
from rlm_ray.types.json import Record

_SCHEMA = {"name": polars.Binary, "count": polars.Int64, "bytes": polars.Int64, "first": polars.Int64}


def name_of(content: str) -> bytes:
    """Return the name of a content, from its digest in hex."""
    return bytes.fromhex(content)


@dataclass(frozen=True, slots=True)
class ShardContents:
    """The distinct contents of one shard's records.

    Attributes
    ----------
    records : int
    table : polars.DataFrame
        `name`, `count`, `bytes` of its line in a prompt, and `first`: the number of the first such record in the shard.
    """

    records: int
    table: polars.DataFrame


def contents_of(records: Iterable[Record], spec: LeafSpec) -> ShardContents:
    """Return the distinct contents of a shard's records, in order."""
    found: dict[bytes, list[int]] = {}
    number = -1
    for number, record in enumerate(records):
        text = spec.shown(record)
        name = name_of(digest(text))
        if (known := found.get(name)) is not None:
            known[0] += 1
        else:
            size = len(pack_line(spec.records_per_call, text).encode("utf-8", "replace"))
            found[name] = [1, size, number]
    rows = [(name, *values) for name, values in found.items()]
    return ShardContents(number + 1, polars.DataFrame(rows, _SCHEMA, orient="row"))


@dataclass(frozen=True, slots=True)
class GroupContents:
    """The contents that several records of a batch have, as one group of the batch needs them.

    Attributes
    ----------
    group : int
        Its number.
    known : dict of bytes to (int, int)
        By name: how many records of the batch have it, and the number of the group that asks about it.
    waits : frozenset of int
        The groups that have not ended: what they ask about is not asked here.
    """

    group: int
    known: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    waits: frozenset[int] = frozenset()

    def records(self, content: str) -> int:
        """Return how many records of the batch have a content."""
        return self.known.get(name_of(content), (1, 0))[0]

    def mine(self, content: str) -> bool:
        """Whether this group asks about a content."""
        return self.known.get(name_of(content), (1, self.group))[1] == self.group

    def deferred(self, content: str) -> bool:
        """Whether another group, which has not ended, asks about a content."""
        owner = self.known.get(name_of(content), (1, self.group))[1]
        return owner != self.group and owner in self.waits

    def elsewhere(self, content: str) -> bool:
        """Whether records of other groups may have a content as well."""
        return name_of(content) in self.known


class BatchContents:
    """The distinct contents of a batch of records.

    Parameters
    ----------
    shards : sequence of ShardContents or None
        In the order of the records; None where a shard cannot be read.

    Attributes
    ----------
    counts : list of int
        Records of each shard.
    table : polars.DataFrame
        `name`, `count`, `bytes`, `position` of the first record in the batch, in that order.
    """

    def __init__(self, shards: Sequence[ShardContents | None]) -> None:
        self.counts = [0 if shard is None else shard.records for shard in shards]
        self._starts = numpy.concatenate(([0], numpy.cumsum(self.counts))).astype(numpy.int64)
        parts = [
            shard.table.with_columns(polars.lit(number).alias("shard"), (polars.col("first") + start).alias("position"))
            for number, (shard, start) in enumerate(zip(shards, self._starts.tolist(), strict=False))
            if shard is not None
        ]
        empty = polars.DataFrame(schema={**_SCHEMA, "shard": polars.Int32, "position": polars.Int64})
        every = polars.concat(parts) if parts else empty
        self.table = every.group_by("name", maintain_order=True).agg(
            polars.col("count").sum(), polars.col("bytes").first(), polars.col("position").min()
        )
        several = self.table.filter(polars.col("count") > 1).select("name", of="count", at="position")
        self._several = every.select("name", "shard").join(several, on="name", maintain_order="left")

    @property
    def records(self) -> int:
        """All records."""
        return sum(self.counts)

    @property
    def distinct(self) -> int:
        """Distinct contents."""
        return len(self.table)

    def groups(self, sizes: Sequence[int]) -> list[tuple[int, GroupContents]]:
        """Return for groups of so many records, in order: how many contents each asks about, and what it must know of them."""
        ends = numpy.cumsum(sizes)
        owned = numpy.bincount(numpy.searchsorted(ends, self.table["position"].to_numpy(), side="right"), minlength=len(ends))
        owners = numpy.searchsorted(ends, self._several["at"].to_numpy(), side="right")
        several = self._several.with_columns(polars.Series("owner", owners, dtype=polars.Int64))
        found = []
        for number, (end, size) in enumerate(zip(ends.tolist(), sizes, strict=True)):
            first, last = numpy.searchsorted(self._starts, (end - size, end - 1), side="right") - 1
            own = several.filter(polars.col("shard").is_between(int(first), int(last)))
            known = {name: (of, owner) for name, of, owner in own.select("name", "of", "owner").iter_rows()}
            found.append((int(owned[number]), GroupContents(number, known)))
        return found
