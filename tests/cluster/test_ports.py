"""The ports on a real Ray: waiting, tasks of each kind, errors without a Ray traceback, mirrors and their fallback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future as ThreadFuture
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayError

from rlm_ray.cluster import calls, tasks
from rlm_ray.cluster import ports as ports_module
from rlm_ray.cluster.calls import make_ports
from rlm_ray.cluster.futures import fetch, unwrapped
from rlm_ray.cluster.ports import RayPorts
from rlm_ray.cluster.shrinking import ShrinkingFuture, scan_parts
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.errors import BudgetExceeded, ClusterError, CredentialsError, RlmRayError, SubcallsFailed
from rlm_ray.handle.corpus import Corpus
from rlm_ray.handle.plan import Plan, Source
from rlm_ray.handle.verbs import Verbs
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.ports import Call, ScanGroup
from rlm_ray.recursion.service import Service
from rlm_ray.settings import Settings
from rlm_ray.testing import Faults, ModelServer
from rlm_ray.worker.meters import meter_of

Make = Callable[..., "World"]


class World:
    """A call's verbs on Ray, where even the smallest work is a task."""

    def __init__(self, folder: Path, run_dir: Path, settings: Settings) -> None:
        manifest = open_manifest(str(folder), name="logs")
        run = RunDirectory.create(str(run_dir), None, {"question": "", "corpora": {"logs": {}}})
        manifest.save(run.path("manifest", "logs"))
        budget = Budget.of(settings)
        call = Call(run.uri, run.id, "0", 0, "", settings, budget, width=4)
        self.ports = make_ports(run.id, 0, settings)
        self.service = Service(call, {"logs": manifest}, self.ports, meter_of(budget, settings))
        self.verbs = Verbs(self.service)
        self.logs = Corpus(Plan((Source("logs"),)), manifest.info(), self.service)


@pytest.fixture
def world(
    ray_local: Any, tmp_path: Path, run_dir: Path, model_server: Callable[..., ModelServer], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Make]:
    monkeypatch.setattr(ports_module, "INLINE_BYTES", -1)
    folder = tmp_path / "logs"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.log").write_text("".join(f"{name} {n} {'ERROR' if n % 5 == 0 else 'INFO'}\n" for n in range(20)))
    made: list[World] = []

    def make(leaf: Any = lambda prompt, schema: "an answer", faults: Faults | None = None, **options: Any) -> World:
        server = model_server(leaf=leaf, faults=faults, **({"root": options.pop("root")} if "root" in options else {}))
        made.append(World(folder, run_dir, server.settings(**options)))
        return made[-1]

    yield make
    for each in made:
        each.service.scheduler.cancel()
        each.ports.close()


@pytest.fixture
def bare(ray_local: Any) -> Iterator[RayPorts]:
    ports = make_ports("run", 0, Settings())
    yield ports
    ports.close()


def made(reference: Any) -> ShrinkingFuture[Any]:
    """A future of a group without works, which is not cut."""
    return ShrinkingFuture(ScanGroup("count", (), {}), lambda group: reference, scan_parts)


def task(ray: Any, value: Any = None, error: Exception | None = None, gate: Any = None) -> ShrinkingFuture[Any]:
    """A task that gives a value or raises, once its gate (an object of the store) is there."""

    @ray.remote(num_cpus=1, max_retries=0)  # as many workers as CPUs, used again
    def run(_: Any) -> Any:
        if error is not None:
            raise error
        return value

    return made(run.remote(gate))


# waiting


def test_waiting_ends_when_a_task_is_done(ray_local: Any, bare: RayPorts) -> None:
    future = task(ray_local, 5)
    assert not future.done()  # known only after a wait
    while not future.done():
        bare.wait([future], [], None)
    assert future.result() == 5


def test_waiting_ends_when_a_thread_is_done(bare: RayPorts) -> None:
    inner: ThreadFuture[int] = ThreadFuture()
    future = bare._local(inner)
    threading.Timer(0.05, inner.set_result, [7]).start()
    while not future.done():
        bare.wait([future], [], None)
    assert future.result() == 7
    bare.wait([future], [], None)  # done already: at once


def test_waiting_ends_when_a_descriptor_is_readable(ray_local: Any, bare: RayPorts) -> None:
    left, right = socket.socketpair()
    with left, right:
        right.send(b"x")
        bare.wait([], [left.fileno()], None)
        assert left.recv(1) == b"x"
        waits = made(ray_local.remote(num_cpus=1)(lambda: time.sleep(30)).remote())
        threading.Timer(0.05, right.send, [b"y"]).start()
        bare.wait([waits], [left.fileno()], None)
        assert left.recv(1) == b"y"
        assert not waits.done()
        waits.cancel()


def test_waiting_ends_with_the_time(bare: RayPorts) -> None:
    bare.wait([], [], 0.0)
    bare.wait([bare._local(ThreadFuture())], [], 0.01)


def test_one_wait_takes_note_of_all_that_are_done(ray_local: Any, bare: RayPorts) -> None:
    futures = [task(ray_local, number) for number in range(3)]
    ray_local.wait([future.reference for future in futures], num_returns=3)
    done = bare._local(ThreadFuture())
    done.thread_future.set_result(None)
    bare.wait([*futures, done], [], None)
    assert [future.result() for future in futures if future.done()] == list(range(3))


# errors


@pytest.mark.parametrize(
    "error",
    [
        BudgetExceeded("no calls are left"),
        CredentialsError("HTTP 401"),
        SubcallsFailed("1 of 2 failed", ["a", None], {1: "no"}),
    ],
)
def test_an_error_crosses_ray_as_itself(ray_local: Any, error: RlmRayError) -> None:
    with pytest.raises(type(error)) as caught:
        task(ray_local, error=error).result()
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)
    assert caught.value.__dict__ == error.__dict__
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_error_that_is_not_ours_is_named_in_a_line(ray_local: Any) -> None:
    with pytest.raises(ClusterError, match=r"^A task failed: KeyError: 'x'\. This is a defect of rlm_ray") as caught:
        task(ray_local, error=KeyError("x")).result()
    assert "\n" not in str(caught.value)


def unwrapping(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayError as error:
        raise unwrapped(error) from None


def test_a_worker_that_dies(ray_local: Any) -> None:
    @ray_local.remote(num_cpus=1, max_retries=0)
    def dies() -> None:
        import os

        os._exit(1)

    with pytest.raises(ClusterError, match="A worker of the cluster was lost") as caught:
        unwrapping(dies.remote())
    assert "\n" not in str(caught.value)


def test_a_cancelled_task() -> None:
    from ray.exceptions import TaskCancelledError

    assert str(unwrapped(TaskCancelledError())) == "The task was cancelled."


# work


def test_scans_are_tasks(world: Make) -> None:
    made = world()
    assert made.logs.count() == 40
    assert made.logs.grep("ERROR").count() == 8
    assert [record["text"] for record in made.logs[18:22]] == ["a 18 INFO", "a 19 INFO", "b 0 ERROR", "b 1 INFO"]
    assert made.ports._live


def test_tasks_are_named_by_the_run_and_what_they_do(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    for remote in (tasks.scan_task, tasks.code_task, tasks.leaf_task, calls.call_task):

        def options(name: str, remote: Any = remote) -> Any:
            names.append(name)
            return type(remote).options(remote, name=name)

        monkeypatch.setattr(remote, "options", options)
    made = world(calls_per_group=1)
    run = made.service.scans._run_dir.rsplit("/", 1)[1]
    made.logs.grep("x").count()
    made.logs.map(lambda record: {"n": 1}).count()
    made.verbs.llm_query_batched(["a", "b"])
    assert f"rlm {run} depth 0 count" in names
    assert f"rlm {run} depth 0 map" in names
    assert f"rlm {run} depth 0 leaves" in names


def test_functions_run_over_the_shards_in_sandboxes(world: Make) -> None:
    made = world()

    def where(record: dict[str, Any]) -> dict[str, Any]:
        import os

        return {"n": int(record["text"].split()[1]), "pid": os.getpid()}

    result = made.logs.map(where)
    rows = list(result)
    assert [row["n"] for row in rows] == [*range(20), *range(20)]
    import os

    assert os.getpid() not in {row["pid"] for row in rows}
    assert made.logs.filter(lambda record: "ERROR" in record["text"]).count() == 8
    assert made.logs.aggregate(len, lambda a, b: a + b) == 40
    words = made.logs.sql(
        "select split_part(text, ' ', 3) word, count(*) n from context group by 1",
        combine="select word, sum(n) n from context where word = 'ERROR' group by 1",
    )
    assert [(row["word"], row["n"]) for row in words] == [("ERROR", 8)]


def test_leaf_groups_are_tasks_with_mirrors(world: Make, ray_local: Any) -> None:
    made = world(calls_per_group=5)
    result = made.verbs.llm_map("Which?", [f"text {number}" for number in range(10)])
    assert [row["answer"] for row in result] == ["an answer"] * 10
    (state,) = made.service.results._states.values()
    assert len(state.segments) == 2
    assert all(isinstance(segment.mirror, ray_local.ObjectRef) for segment in state.segments)
    assert fetch(state.segments[0].mirror).num_rows == 5
    assert made.service.lender.budget.spent.calls == 10
    assert made.service.lender.budget.lent == {}


def test_a_mirror_that_is_lost_is_read_from_its_file(world: Make, ray_local: Any) -> None:
    made = world(calls_per_group=5)
    result = made.verbs.llm_map("Which?", [f"text {number}" for number in range(10)])
    assert result.count() == 10
    (state,) = made.service.results._states.values()

    @ray_local.remote(num_cpus=1, max_retries=0)
    def fails() -> None:
        raise OSError("the object is gone")

    mirrors = {"kept": state.segments[0].mirror, "lost": fails.remote()}
    assert list(tasks.tables_of(mirrors)) == ["kept"]
    lost = state.segments[1].mirror
    object.__setattr__(state.segments[1], "mirror", mirrors["lost"])
    assert lost is not None
    assert [row["answer"] for row in result] == ["an answer"] * 10


def test_failed_calls_of_a_task_are_rows(world: Make) -> None:
    made = world(faults=Faults(error=1), call_attempts=1, calls_per_group=2)
    result = made.verbs.llm_map("Which?", ["a", "b", "c", "d"])
    assert result.failed.count() == 4


def test_a_wrong_key_comes_back_from_a_task(world: Make) -> None:
    made = world(faults=Faults(key="another"), calls_per_group=1)
    with pytest.raises(CredentialsError):
        made.verbs.llm_query_batched(["a", "b"])


def test_a_recursive_call_is_a_task_with_a_loop_of_its_own(world: Make) -> None:
    made = world(root=["```repl\nFinal = context.grep('ERROR').count()\n```"])
    assert made.verbs.rlm_query("How many errors?", made.logs) == "8"
    assert made.verbs.rlm_query("How many errors?", made.logs[:20]) == "4"
    assert made.service.lender.budget.spent.calls == 2


def test_the_capacity_is_the_clusters(ray_local: Any, bare: RayPorts) -> None:
    assert bare.capacity() == int(ray_local.cluster_resources()["CPU"])


def test_closing_cancels_what_is_under_way(ray_local: Any) -> None:
    ports = make_ports("run", 0, Settings())
    waits = ports._track(made(ray_local.remote(num_cpus=1, max_retries=0)(lambda: time.sleep(60)).remote()))
    ports.close()
    with pytest.raises(ClusterError):
        waits.result()
