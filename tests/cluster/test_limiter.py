"""The limiter as an actor: one for all workers, one round trip for many calls, a refusal of one slows all, a death costs little."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlm_ray.cluster import limiter as module
from rlm_ray.cluster.limiter import NAME, allocator_name, limiter, limiter_actor
from rlm_ray.models.contract import OK, Endpoint, Outcome
from rlm_ray.models.rates import Rates


async def until(true: Callable[[], bool], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not come about"
        await asyncio.sleep(0.01)


def test_a_refusal_of_one_worker_holds_the_others_back(ray_local: Any) -> None:
    endpoint = Endpoint("http://127.0.0.1:1/v1")

    async def main() -> None:
        one, other = limiter(endpoint, 8, Rates()), limiter(endpoint, 8, Rates())
        for worker in (one, other):
            for _ in range(8):
                await worker.acquire(100)
            await until(lambda worker=worker: worker.exchanges > 0)
        one.release(Outcome("slow_down", retry_after=30))
        await until(lambda: other._hold_until > time.monotonic() + 20)
        assert other.refusals == 0
        assert other._places + one._places <= 8
        for worker, count in ((one, 7), (other, 8)):
            for _ in range(count):
                worker.release(OK)

    asyncio.run(main())
    assert ray_local.get(limiter_actor().about.remote(allocator_name(endpoint)))["refusals"] == 1


def test_places_are_shared_by_workers(ray_local: Any) -> None:
    endpoint = Endpoint("http://127.0.0.1:2/v1")
    in_flight, most = 0, 0

    async def call(worker: Any) -> None:
        nonlocal in_flight, most
        await worker.acquire(100)
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.002)
        in_flight -= 1
        worker.release(OK)

    async def main() -> None:
        workers = [limiter(endpoint, 16, Rates(concurrency=4)) for _ in range(3)]
        await asyncio.wait_for(asyncio.gather(*(call(worker) for worker in workers for _ in range(50))), 120)

    asyncio.run(main())
    assert 1 <= most <= 4


def test_its_death_costs_a_moment(ray_local: Any) -> None:
    endpoint = Endpoint("http://127.0.0.1:3/v1")

    async def main() -> None:
        worker = limiter(endpoint, 4, Rates(requests=6_000))
        await worker.acquire(100)
        actor = ray_local.get_actor(NAME, module.NAMESPACE)
        ray_local.kill(actor)
        worker.release(OK)
        for _ in range(50):
            await asyncio.wait_for(worker.acquire(100), 60)
            worker.release(OK)
        await until(lambda: worker._allocator._actor is not None)
        assert worker._allocator._actor._actor_id != actor._actor_id

    asyncio.run(main())


def test_without_ray_a_worker_is_alone(ray_local: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(ray_local, "is_initialized", lambda: False)

    async def main() -> None:
        worker = limiter(Endpoint("http://127.0.0.1:4/v1"), 4, Rates(concurrency=2))
        await worker.acquire(1)
        await worker.acquire(1)
        third = asyncio.create_task(worker.acquire(1))
        await until(lambda: worker.exchanges > 0)
        assert worker.in_flight == 2
        assert not third.done()
        worker.release(OK)
        await third

    asyncio.run(main())


ONE_CPU = """
import sys, rlm_ray
from rlm_ray.testing import ModelServer, each
child = ["```repl\\nfound = llm_each('Which?', context, schema={'n': 'integer'})\\nFinal = found.count()\\n```"]
root = ["```repl\\nparts = [context[a : a + 30] for a in (0, 30, 60)]\\nFinal = rlm_map('inner', parts).count_by('answer')\\n```"]
with ModelServer(root={"outer": root, "inner": child}, leaf=each(lambda text: {"n": 1})) as server:
    settings = server.settings(
        run_dir=sys.argv[2], num_cpus=1, records_per_call=1, calls_per_group=10, endpoint_concurrency=3, requests_per_minute=9_000
    )
    answer = rlm_ray.ask(rlm_ray.open(sys.argv[1]), "outer", settings)
    assert answer.value == {"30": 3}, (answer.value, answer.message)
    assert server.most_in_flight <= 3, server.most_in_flight
"""


def test_on_one_cpu_a_tree_of_calls_ends(tmp_path: Path) -> None:
    """Three recursive calls, each with groups of its own, all waiting for the actor: no CPU is held meanwhile."""
    lake = tmp_path / "lake"
    lake.mkdir()
    (lake / "a.log").write_text("".join(f"line {number}\n" for number in range(90)))
    command = [sys.executable, "-c", ONE_CPU, str(lake), str(tmp_path / "runs")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, env=os.environ | {"POLARS_MAX_THREADS": "1"})
    assert ended.returncode == 0, ended.stderr[-3000:]
