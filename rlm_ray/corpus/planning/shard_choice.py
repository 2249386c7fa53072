"""Chooses the shards of a plan, and says what is known of them without a scan. Pure: reads nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy

from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.formats import FORMATS
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.catalog.sizes import share
from rlm_ray.corpus.meaning.comparing import holds
from rlm_ray.corpus.planning import pruning
from rlm_ray.corpus.planning.bind import BoundPlan
from rlm_ray.handle.plan import Slice, Step


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


def before_slices(steps: Sequence[Step]) -> tuple[Step, ...]:
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


def known_counts(plan: BoundPlan, shards: Sequence[Shard]) -> list[int | None]:
    """Return how many records the steps leave of each shard, where footers and listing say it; None where a scan must.

    Known are plain ranges of Parquet rows, of results and of documents; conditions on partitions alone do not hinder.
    """
    ranges = [plan.row_range(shard) for shard in shards]
    return [None if rows is None else deletions.live(shard, *rows) for rows, shard in zip(ranges, shards, strict=True)]
