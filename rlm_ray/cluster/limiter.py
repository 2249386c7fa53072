"""The limiter that all runs on a Ray cluster share: one named, detached actor, with soft state for each endpoint.

Model calls are made on an asyncio thread, which awaits the actor's replies: that holds no CPU, and the main thread of a
task stays where Ray gives its CPU back. What could block (looking the actor up) is done in yet another thread.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from typing import Any, TypedDict

import ray
from ray.exceptions import RayError

from rlm_ray.models.contract import Endpoint
from rlm_ray.models.leases import LeasedLimiter, LocalAllocator
from rlm_ray.models.rates import Grant, RateAllocator, Rates, Report

NAMESPACE = "rlm_ray"
#: Changes when workers of one version could not speak with an actor of another.
NAME = "limiter 1"
#: Seconds that a worker waits for news; then it asks again, so that an actor's death is noticed.
WATCH_SECONDS = 30.0
#: Seconds to do without the actor after it could not be reached.
LOCAL_SECONDS = 5.0
#: Seconds for an answer of an actor that may have to start first.
ANSWER_SECONDS = 60.0


class AllocatorReport(TypedDict):
    """The process of the limiter, and an endpoint's refusals so far."""

    pid: int
    refusals: int
    allowed: float


class LimiterActor:
    """The allocators of all endpoints, as one actor: a process for each endpoint would cost more than the allocators do."""

    def __init__(self) -> None:
        self._allocators: dict[str, RateAllocator] = {}
        self._changed: dict[str, asyncio.Event] = {}

    async def exchange(self, endpoint: str, report: Report) -> Grant:
        """See `models.rates.RateAllocator.exchange`; `endpoint` is its `allocator_name`."""
        allocator = self._allocators.setdefault(endpoint, RateAllocator())
        before = allocator.version
        grant = allocator.exchange(report, time.monotonic())
        if allocator.version != before and endpoint in self._changed:
            self._changed.pop(endpoint).set()
        return grant

    async def watch(self, endpoint: str, worker: str, version: int) -> None:
        """Return when the version is another, or after a while."""
        allocator = self._allocators.setdefault(endpoint, RateAllocator())
        ends = time.monotonic() + WATCH_SECONDS
        while allocator.version == version and time.monotonic() < ends:
            changed = self._changed.setdefault(endpoint, asyncio.Event())
            try:
                await asyncio.wait_for(changed.wait(), ends - time.monotonic())
            except TimeoutError:
                return

    async def about(self, endpoint: str) -> AllocatorReport:
        """Return the process, and an endpoint's refusals so far."""
        allocator = self._allocators.setdefault(endpoint, RateAllocator())
        return {"pid": os.getpid(), "refusals": allocator.refusals, "allowed": allocator.allowed}


def allocator_name(endpoint: Endpoint) -> str:
    """Return the name of an endpoint's allocator; without a user, a password or a query of its URL."""
    return f"{endpoint.name} {endpoint.api_key_env}"


def limiter_actor() -> Any:
    """Return the handle of the cluster's limiter; starts it if there is none. Blocks for a moment."""
    made = ray.remote(LimiterActor).options(
        name=NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_concurrency=10_000,
    )
    return made.remote()


class ClusterDesk:
    """Asks the actor where Ray is connected; else, and while the actor is away, an allocator of this process's own.

    Parameters
    ----------
    endpoint : Endpoint
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._name = allocator_name(endpoint)
        self._actor: Any = None
        self._local = LocalAllocator()
        self._local_until = 0.0
        self._workers = 1

    async def exchange(self, report: Report) -> Grant:
        """See `AllocatorPort.exchange`."""
        for _ in range(2):  # an actor that is gone is started again, once
            actor = await self._reach()
            if actor is None:
                break
            try:
                grant: Grant = await asyncio.wait_for(_answer(actor.exchange.remote(self._name, report)), ANSWER_SECONDS)
            except (RayError, TimeoutError, RuntimeError, ValueError):
                self._actor = None
            else:
                self._workers = grant.workers
                return grant
        if ray.is_initialized():
            self._local_until = max(self._local_until, time.monotonic() + LOCAL_SECONDS)
        return await self._local.exchange(_own_share(report, self._workers))

    async def watch(self, worker: str, version: int) -> None:
        """See `AllocatorPort.watch`."""
        actor = self._actor
        if actor is None or not ray.is_initialized():
            await asyncio.sleep(LOCAL_SECONDS)
            return
        try:
            await _answer(actor.watch.remote(self._name, worker, version))
        except (RayError, RuntimeError, ValueError):
            self._actor = None  # the next exchange looks for it

    async def _reach(self) -> Any:
        if not ray.is_initialized():  # `remote` would start a Ray of its own
            self._actor = None
        elif self._actor is None and time.monotonic() >= self._local_until:
            try:
                self._actor = await asyncio.to_thread(limiter_actor)
            except (RayError, RuntimeError, ValueError, ConnectionError):
                self._local_until = time.monotonic() + LOCAL_SECONDS
        return self._actor


async def _answer(reference: Any) -> Any:
    return await reference


def _own_share(report: Report, workers: int) -> Report:
    """Return a report for an allocator that does not know the other workers: it takes this one's share of the rates."""
    return replace(report, rates=report.rates.share(workers))


def limiter(endpoint: Endpoint, concurrency: int, rates: Rates) -> LeasedLimiter:
    """Return a limiter for this process's calls to an endpoint: shared where Ray is, alone where it is not."""
    return LeasedLimiter(concurrency, rates, ClusterDesk(endpoint))
