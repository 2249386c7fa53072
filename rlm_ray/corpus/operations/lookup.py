"""Finds the record of an address, as a citation needs it."""

from __future__ import annotations

import numpy
import pyarrow.compute

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.reading.records import to_records
from rlm_ray.corpus.reading.work import Work
from rlm_ray.handle.plan import Between
from rlm_ray.types.json import Record


def shard_of(manifest: Manifest, address: Address) -> Shard | None:
    """Return the shard that has an address, in the version that the corpus was opened in; None where there is none.

    Reads nothing.
    """
    number = pyarrow.compute.index(manifest.shards.objects.column("uri"), address.object).as_py()
    if number < 0:
        return None
    objects = manifest.shards.table.column("object").to_numpy()
    first, behind = (int(numpy.searchsorted(objects, number, side=side)) for side in ("left", "right"))
    starts = manifest.shards.table.column("start").slice(first, behind - first).to_numpy()
    if not len(starts):
        return None
    shard = manifest.shards[first + max(0, int(numpy.searchsorted(starts, address.start, side="right")) - 1)]
    return shard if shard.version == address.version and (address.unit == "row") == shard.in_rows else None


def record_at(work: Work, args: Record) -> Record | None:
    """Return the record that an address names, with that address; None where no record is there. Reads that record.

    Parameters
    ----------
    work : Work
        The shard, without steps.
    args : dict
        `address`: str. Of a span, the record has just the span's text.

    Raises
    ------
    ObjectChanged, ObjectUnreadable
        As `scan.scan`.
    """
    address = Address.parse(str(args["address"]))
    whole = str(address.whole)
    index = work.shard.index
    place = Between((index, address.start, 0), (index, address.start + 1, 0))
    for batch in work.scan(steps=[place], limit=1):
        for record in to_records(batch, work.shard, work.plan.columns):
            # a row of a result has the address of what it was made from: it is known by its place alone
            if record["_address"] != whole and not work.shard.traits.is_result:
                return None
            return part_of(record | {"_address": whole}, address)
    return None


def part_of(record: Record, address: Address) -> Record | None:
    """Return what an address names of its record: all of it, or just the span's text; None where there is no such span."""
    if address.column is None or address.chars is None:
        return record
    first, last = address.chars
    text = record.get(address.column)
    if not isinstance(text, str) or not first < last <= len(text):
        return None
    return {"_address": str(address), address.column: text[first:last]}
