"""Which shards a plan touches, what is known without a scan, and how work is put into tasks. Pure: reads nothing."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar

import numpy

from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.formats import FORMATS
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.catalog.sizes import mean_size, share
from rlm_ray.corpus.meaning.comparing import holds
from rlm_ray.corpus.planning import chunk_ranges, pruning
from rlm_ray.corpus.planning.bind import BoundPlan
from rlm_ray.corpus.planning.drawing import by_shard
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Node, Slice, Window

_T = TypeVar("_T")


# -- which shards


def shards_for(plan: BoundPlan, manifest: Manifest) -> list[Shard]:
    """Return the shards that may hold records of a plan, by partitions, the ranges of row groups, places and windows."""
    return chosen(plan, manifest).shards


@dataclass(frozen=True, slots=True)
class Choice:
    """The shards that may hold records of a plan, and what statistics exclude: partition values, ranges of row groups.

    Attributes
    ----------
    shards : list of Shard
    excluded : list of int
        Shards of which nothing can match, whole.
    rows : dict of int to tuple of (int, int)
        Rows that cannot match, by shard: those of row groups that are ruled out.
    """

    shards: list[Shard]
    excluded: list[int] = field(default_factory=list)
    rows: dict[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)


def chosen(plan: BoundPlan, manifest: Manifest) -> Choice:
    """Choose the shards of a plan. Reads nothing."""
    first, behind = _between(plan, len(manifest.shards))
    conditions = [condition for step in plan.steps for condition in step.conditions]
    ruled = pruning.ruled_out(conditions, manifest.shards.ranges, manifest.schema, first, behind)
    choice = Choice([]) if ruled is None else Choice([], rows=ruled.rows)
    left: Iterable[Shard] = ()
    if ruled is None:
        left = manifest.shards[first:behind]
    else:
        choice.excluded.extend(ruled.shards.tolist())
        left = (manifest.shards[index] for index in numpy.setdiff1d(numpy.arange(first, behind), ruled.shards).tolist())
    placed = bool(conditions) or any(step.narrows_places for step in plan.steps)
    for shard in left:
        if not placed and shard.start < shard.stop:
            choice.shards.append(shard)
        elif conditions and not _partition_holds(shard, conditions):
            choice.excluded.append(shard.index)
        elif _place_holds(shard, plan):
            choice.shards.append(shard)
    return choice


class Reading(TypedDict):
    """What a plan would read at most: of how many shards and bytes."""

    shards: int
    of_shards: int
    nbytes: int
    of_nbytes: int


def reading(plan: BoundPlan, manifest: Manifest) -> Reading:
    """Return what the steps would read at most, by listing and footers.

    Bytes are uncompressed ones, estimated; of Parquet, those of the columns that the steps name or leave.
    """
    shards = shards_for(plan, manifest)
    part = share_read(plan, plan.columns, manifest)
    return {
        "shards": len(shards),
        "of_shards": len(manifest.shards),
        "nbytes": round(sum(shard.nbytes for shard in shards) * part),
        "of_nbytes": manifest.nbytes,
    }


def share_read(plan: BoundPlan, columns: Iterable[str], manifest: Manifest) -> float:
    """Return what part of its shards' bytes a scan reads that gives these columns: of Parquet, those that are named."""
    return share(plan.needed(columns), manifest.widths) if FORMATS[manifest.format].has_footers else 1.0


def before_slices(steps: Sequence[Node]) -> tuple[Node, ...]:
    """Return the steps up to the first slice: which shards it leaves may take counting."""
    return tuple(itertools.takewhile(lambda step: not isinstance(step, Slice), steps))


def _between(plan: BoundPlan, count: int) -> tuple[int, int]:
    """Return the range of shards that places and windows leave: a part of a large corpus does not look at all of it."""
    first, behind = 0, count
    for step in plan.steps:
        first, behind = step.shards(first, behind)
    return first, max(first, behind)


def _partition_holds(shard: Shard, conditions: Sequence[tuple[str, str, Any]]) -> bool:
    constants = dict(shard.partitions)
    return all(holds(constants[column], operator, value) for column, operator, value in conditions if column in constants)


def _place_holds(shard: Shard, plan: BoundPlan) -> bool:
    if not plan.may_hold(shard):
        return False
    low, high = plan.row_range(shard) or plan.position_range(shard)
    return low < high


# -- what is known without a scan


def known_counts(plan: BoundPlan, shards: Sequence[Shard]) -> list[int | None]:
    """Return how many records the steps leave of each shard, where footers and listing say it; None where a scan must.

    Known are plain ranges of Parquet rows, of results and of documents; conditions on partitions alone do not hinder.
    """
    ranges = [plan.row_range(shard) for shard in shards]
    return [None if rows is None else deletions.live(shard, *rows) for rows, shard in zip(ranges, shards, strict=True)]


# -- slices


def counts_wanted(start: int, stop: int | None, counts: Sequence[int | None]) -> int | None:
    """Return the first shard whose count a slice needs and that is not known yet; None when all that matter are.

    Examples
    --------
    >>> counts_wanted(5, 8, [4, None, None])
    1
    >>> counts_wanted(5, 8, [4, 10, None]) is None
    True
    """
    seen = 0
    end = start if stop is None else stop
    for number, count in enumerate(counts):
        if seen >= end:
            return None
        if count is None:
            return number
        seen += count
    return None


def counts_used(start: int, stop: int | None, counts: Sequence[int | None]) -> int:
    """Return how many of the counts, from the first on, a slice takes; see `counts_wanted`.

    Examples
    --------
    >>> counts_used(5, 8, [4, 10, 3]), counts_used(0, None, [4, None])
    (2, 0)
    """
    end = start if stop is None else stop
    seen = 0
    for number, count in enumerate(counts):
        if seen >= end or count is None:
            return number
        seen += count
    return len(counts)


def window(start: int, stop: int | None, shards: Sequence[Shard], counts: Sequence[int | None]) -> Window:
    """Make a slice local to shards, by the counts of what comes before it (see `counts_wanted`).

    Raises
    ------
    InputError
        A count is missing.
    """
    if counts_wanted(start, stop, counts) is not None:
        raise InputError(f"Slice [{start}:{stop}] needs more counts. Count the shards that counts_wanted names.")
    if stop is not None and stop <= start:
        return _NOTHING
    seen = 0
    first: tuple[int, int] | None = None
    for shard, count in zip(shards, counts, strict=True):
        if first is None and (count is None or seen + count > start):
            # a count that is not known belongs to the shard in which `start` is the first record
            first = (shard.index, start - seen)
        if stop is None and first is not None:
            return Window(*first)
        if stop is not None and first is not None and seen + (count or 0) >= stop:
            return Window(*first, shard.index, stop - seen)
        seen += count or 0
    return _NOTHING if first is None else Window(*first)


def plain_window(start: int, stop: int | None, plan: BoundPlan, manifest: Manifest) -> Window | None:
    """Make a slice local without looking at the shards one by one: of all records, where footers and listing count them.

    None where it takes `window`. Cheap, since a batch over single records makes one slice for each.
    """
    if not plan.leaves_everything or (ends := manifest.shards.row_ends) is None:
        return None
    if stop is not None and stop <= start:
        return _NOTHING
    first = int(ends.searchsorted(start, side="right"))
    if first == len(ends):
        return _NOTHING
    skip = start - _before(ends, first)
    last = len(ends) if stop is None else int(ends.searchsorted(stop))
    return Window(first, skip) if stop is None or last == len(ends) else Window(first, skip, last, stop - _before(ends, last))


def _before(ends: Any, number: int) -> int:
    return int(ends[number - 1]) if number else 0


#: A window that no shard is in.
_NOTHING = Window(first=1 << 40, skip=0)


# -- samples


def draw(counts: Sequence[int], n: int, seed: int) -> dict[int, list[int]]:
    """Draw `n` records uniformly, without repetition: number of the count -> ordinals there, in order.

    The same counts, number and seed draw the same records.

    Examples
    --------
    >>> draw([3, 0, 2], 9, seed=1)
    {0: [0, 1, 2], 2: [0, 1]}
    """
    total = sum(counts)
    return by_shard(random.Random(seed).sample(range(total), min(n, total)), counts)


# -- chunks


def plain_borders(
    plan: BoundPlan,
    manifest: Manifest,
    target_bytes: int,
    overlap_bytes: int = 0,
    by: str | None = None,
    shards: Sequence[Shard] | None = None,
) -> list[chunk_ranges.Border] | None:
    """Cut chunks without reading data; None where only a scan (operation `borders`) can.

    Plain are Parquet rows, results, lines and documents that no filter and no split touches (but conditions on
    partitions), and `by` a partition column. Sizes are estimates.
    """
    if by is not None and by not in manifest.partition_columns:
        return None
    shards = shards_for(plan, manifest) if shards is None else shards
    names = [name for name in plan.columns if not name.startswith("_")]
    row_bytes = mean_size(names, manifest.widths)
    cutter = chunk_ranges.PlainCutter(max(1, target_bytes), overlap_bytes, by)
    for shard in shards:
        ranges = _range_of(plan, shard, row_bytes)
        if ranges is None:
            return None
        cutter.add(shard, *ranges)
    return cutter.borders


def _range_of(plan: BoundPlan, shard: Shard, row_bytes: float) -> tuple[int, int, float] | None:
    """First and last position of a shard, and bytes per position."""
    rows = plan.row_range(shard)
    if rows is not None:
        each = float(shard.nbytes) if shard.traits.whole_objects else row_bytes
        if shard.deleted:
            each *= (shard.rows or 0) / max(1, shard.stop - shard.start)
        return (*rows, max(1.0, each))
    if not shard.traits.lines_are_records or shard.packed:
        return None
    partitions = dict(shard.partitions)
    if not all(step.keeps_ranges(partitions) for step in plan.steps):
        return None
    return (*plan.position_range(shard), 1.0)


# -- tasks


def group(shards: Sequence[_T], target_bytes: int) -> Iterator[list[_T]]:
    """Put neighbouring small shards (or works) together, so that a task has about `target_bytes` to read."""
    held: list[_T] = []
    nbytes = 0
    for item in shards:
        shard: Any = getattr(item, "shard", item)
        if held and nbytes + shard.nbytes > target_bytes:
            yield held
            held, nbytes = [], 0
        held.append(item)
        nbytes += shard.nbytes
    if held:
        yield held
