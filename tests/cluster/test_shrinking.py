"""A task whose worker is lost runs again with less, a few times, and then its shards are failures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ray

from rlm_ray.cluster import calls, tasks
from rlm_ray.cluster.shrinking import MOST_LOSSES, ShrinkingFuture, code_parts, query_parts, scan_parts
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import ClusterError
from rlm_ray.recursion.ports import CodeGroup, CodeOutcome, QueryGroup, ScanGroup, ShardFailure
from rlm_ray.settings import Settings
from rlm_ray.worker import work


@pytest.fixture
def group(tmp_path: Path) -> ScanGroup:
    for number in range(5):
        (tmp_path / f"{number}.log").write_text("line\n" * (number + 1))
    manifest = open_manifest(str(tmp_path), name="logs")
    return ScanGroup("count", tuple(Work(shard, bind((), manifest.schema), None) for shard in manifest.shards), {})


def losing(calls: list[int], dies: Any) -> Any:
    """What begins a task that counts for real, on a worker that ends where `dies(group)`."""

    @ray.remote(num_cpus=1, max_retries=0)
    def run(group: ScanGroup, lost: bool) -> list[Any]:
        if lost:
            os._exit(1)
        return work.scan(group)

    def submit(group: ScanGroup) -> Any:
        calls.append(len(group.works))
        return run.remote(group, dies(group))

    return submit


def test_what_is_too_much_at_once_is_done_in_parts(ray_local: Any, group: ScanGroup) -> None:
    calls: list[int] = []
    future = ShrinkingFuture(group, losing(calls, lambda part: len(part.works) > 1), scan_parts)
    assert future.result() == [1, 2, 3, 4, 5]
    assert calls[:4] == [5, 3, 2, 1]


def test_a_shard_that_always_ends_its_worker_is_a_failure_and_the_others_are_there(ray_local: Any, group: ScanGroup) -> None:
    calls: list[int] = []
    bad = group.works[2].shard.uri
    future = ShrinkingFuture(group, losing(calls, lambda part: any(one.shard.uri == bad for one in part.works)), scan_parts)
    partials = future.result()
    assert [partial for partial in partials if not isinstance(partial, ShardFailure)] == [1, 2, 4, 5]
    (failure,) = [partial for partial in partials if isinstance(partial, ShardFailure)]
    assert failure.object == bad
    assert "A worker of the cluster was lost" in failure.reason
    assert f"It ran {MOST_LOSSES + 1} times." in failure.reason
    assert len(calls) <= 2 * (MOST_LOSSES + 1)


def test_what_cannot_be_cut_runs_as_often_and_is_an_error_where_it_has_no_shards(ray_local: Any) -> None:
    calls: list[int] = []
    empty = ScanGroup("count", (), {})
    with pytest.raises(ClusterError, match="A worker of the cluster was lost"):
        ShrinkingFuture(empty, losing(calls, lambda part: True), query_parts).result()
    assert len(calls) == MOST_LOSSES + 1


def test_an_error_of_the_task_is_not_tried_again(ray_local: Any, group: ScanGroup) -> None:
    calls: list[int] = []

    @ray.remote(num_cpus=1, max_retries=0)
    def fails() -> None:
        raise ValueError("no such thing")

    def submit(_: ScanGroup) -> Any:
        calls.append(1)
        return fails.remote()

    with pytest.raises(ClusterError, match="ValueError: no such thing"):
        ShrinkingFuture(group, submit, scan_parts).result()
    assert calls == [1]


def test_parts_of_a_function_write_under_names_of_their_own_and_are_joined(group: ScanGroup) -> None:
    whole = CodeGroup("map", group.works, b"", "out", 3, "run", Settings(), "id")
    (first, second), join, failed = code_parts(whole, "lost")
    assert (first.part, second.part) == ("a", "b")
    assert first.works + second.works == whole.works
    assert [part.part for part in code_parts(first, "lost")[0]] == ["aa", "ab"]
    one = CodeOutcome(values=(1,), tried=5, failed=1, error="e", address="x", events={"denials": 1})
    joined = join([one, CodeOutcome(values=(2,), tried=4, failed=2, error="f", address="y", events={"denials": 2})])
    assert (joined.values, joined.tried, joined.failed, joined.error, joined.address) == ((1, 2), 9, 3, "e", "x")
    assert joined.events == {"denials": 3}
    assert [failure.shard for failure in failed.failures] == [item.shard.index for item in group.works]
    query = QueryGroup("select 1", group.works, {}, None, "whole", "out", 0, Settings(), "id")
    assert query_parts(query, "lost")[0] == [query]


def test_ray_itself_retries_none_of_them() -> None:
    for task in (tasks.scan_task, tasks.code_task, tasks.query_task, tasks.leaf_task, calls.call_task):
        assert task._default_options["max_retries"] == 0
