"""The Ray tasks that do work on data: scans, functions and SQL over shards, groups of leaf calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ray

from rlm_ray.cluster import metrics
from rlm_ray.cluster.futures import fetch
from rlm_ray.recursion.ports import CodeGroup, CodeOutcome, LeafGroup, Mirrors, QueryGroup, ScanGroup
from rlm_ray.worker import queries, work

#: CPU of a task that mostly waits for a model.
LEAF_CPUS = 0.25
#: Seconds between two reports of progress from a group.
PROGRESS_SECONDS = 0.25


def tables_of(mirrors: Mirrors) -> Mirrors:
    """Return the tables behind mirrors; those that the store lost are read from their files."""
    fetched = {uri: fetch(mirror) if isinstance(mirror, ray.ObjectRef) else mirror for uri, mirror in mirrors.items()}
    return {uri: table for uri, table in fetched.items() if table is not None}


def _with_tables(group: Any) -> Any:
    return replace(group, tables=tables_of(group.tables)) if group.tables else group


# Ray itself retries what its memory monitor kills without end where it retries at all: see `shrinking`
@ray.remote(num_cpus=1, max_retries=0)
def scan_task(group: ScanGroup) -> list[Any]:
    """Run an operation over shards."""
    return work.scan(_with_tables(group))


@ray.remote(num_cpus=1, max_retries=0)
def code_task(group: CodeGroup) -> CodeOutcome:
    """Run root code's function over shards."""
    return work.code(_with_tables(group))


@ray.remote(num_cpus=1, max_retries=0)
def query_task(group: QueryGroup) -> CodeOutcome:
    """Run root code's SQL over shards."""
    return queries.query(_with_tables(group))


# over all nodes: packed on one, a batch would use one machine's connections and a loss would take all of it
@ray.remote(num_cpus=LEAF_CPUS, max_retries=0, scheduling_strategy="SPREAD")
def leaf_task(group: LeafGroup) -> Iterator[Any]:
    """Make a group of leaf calls; yields progress, the outcome, then the segments as tables."""
    from rlm_ray.worker.leaves import LeafRun

    run = LeafRun(_with_tables(group), metrics.CALLING)  # by its module: Ray copies the globals of a task
    try:
        while not run.wait(PROGRESS_SECONDS):
            yield ("progress", run.done, run.failed, run.used, run.contents_done)
        outcome, tables = run.result()
        yield ("outcome", outcome, run.done, run.failed, run.used, run.contents_done)
        for table in tables:  # noqa: UP028 - Ray sends into the generator, which `yield from` a list cannot take
            yield table
    finally:
        run.cancel()
