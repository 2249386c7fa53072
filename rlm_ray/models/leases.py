"""A worker's side of a limiter that many share: it works from what it was granted, and asks for more in blocks.

While nothing is limited and nobody was refused, a call costs no round trip at all: the worker says that it is there, is told
its places, and hears at once when another was refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable
from typing import Protocol

from rlm_ray.models.contract import Outcome
from rlm_ray.models.limiter import LocalLimiter
from rlm_ray.models.rates import LEASE_SECONDS, Grant, RateAllocator, Rates, Report

#: Seconds without a call after which a worker gives its places back.
IDLE_SECONDS = 1.0
#: Seconds between two reports of a worker that needs nothing, and of one whose successes are wanted.
_KEEP_SECONDS, _SLOW_SECONDS = 20.0, 1.0
#: Seconds between two askings, whatever happens.
_LEAST_SECONDS = 0.02


class AllocatorPort(Protocol):
    """Where a worker asks. Called on the worker's event loop; never blocks it."""

    async def exchange(self, report: Report) -> Grant:
        """Hand a report in, and get what the worker may do. Never fails."""

    async def watch(self, worker: str, version: int) -> None:
        """Return when something concerns every worker, or after a while."""


class LocalAllocator:
    """An allocator in this process, for one without a cluster."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.allocator = RateAllocator()
        self._clock = clock

    async def exchange(self, report: Report) -> Grant:
        """See `AllocatorPort.exchange`."""
        return self.allocator.exchange(report, self._clock())

    async def watch(self, worker: str, version: int) -> None:
        """See `AllocatorPort.watch`; alone, nobody else can be refused."""
        await asyncio.sleep(_KEEP_SECONDS)


class LeasedLimiter(LocalLimiter):
    """Limits this worker's attempts to its own number, and to what it was granted.

    Parameters
    ----------
    concurrency : int
        Most attempts in flight of this worker.
    rates : Rates
        What the endpoint allows, all workers together.
    allocator : AllocatorPort
    """

    def __init__(self, concurrency: int, rates: Rates, allocator: AllocatorPort) -> None:
        super().__init__(concurrency)
        self.exchanges = 0
        self._rates = rates
        self._allocator = allocator
        self._worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._serving: asyncio.Task[None] | None = None
        self._waker: asyncio.Future[None] | None = None
        # before the first word of the allocator: nothing where a limit was set, else as if alone
        self._places = 0 if rates.limited else concurrency
        self._requests = 0 if rates.requests is not None else None
        self._tokens = 0 if rates.tokens is not None else None
        self._lease_ends = 0.0
        self._estimated = 0  # tokens of the attempts in flight
        self._waiting_tokens = 0
        self._done = 0
        self._unused_requests = 0
        self._unused_tokens = 0
        self._used_requests = 0
        self._used_tokens = 0
        self._refused: float | None = None  # seconds asked for, not yet reported; -1 names no time
        self._idle_since = time.monotonic()
        self._grant = Grant(self._places)

    async def acquire(self, tokens: int) -> None:
        """Wait until one more attempt may go out; first come, first served."""
        if self._serving is None or self._serving.done():
            self._serving = asyncio.get_running_loop().create_task(self._serve())
        if not self._waiting and self._hold_until <= time.monotonic() and self._room(tokens):
            self._take(tokens)
            return
        self._waiting_tokens += tokens
        try:
            if self._waker is not None and (self._waiting or not self._room(tokens)):
                self._look_up()
            await super().acquire(tokens)
        finally:
            self._waiting_tokens -= tokens

    def release(self, outcome: Outcome) -> None:
        """Give the place back, and learn from the outcome."""
        estimate = self._estimated // (self.in_flight or 1)
        self._estimated -= estimate
        kind = outcome.kind
        if kind == "ok":
            self._done += 1
            if self._tokens is not None:
                self._unused_tokens += estimate - outcome.tokens
        elif self._slows(outcome):
            asked = -1.0 if outcome.retry_after is None else outcome.retry_after
            self._refused = asked if self._refused is None else max(self._refused, asked)
            self._look_up()
        super().release(outcome)
        if self.in_flight == 0 and not self._waiting:
            self._idle_since = time.monotonic()

    def _room(self, tokens: int) -> bool:
        if self.in_flight >= self._places or self.in_flight >= int(self.allowed):
            return False
        requests, more = self._requests, self._tokens
        if requests is None and more is None:
            return True
        return (requests is None or requests >= 1) and (more is None or more >= tokens) and time.monotonic() < self._lease_ends

    def _take(self, tokens: int) -> None:
        self.in_flight += 1
        self._estimated += tokens
        self._used_requests += 1
        self._used_tokens += tokens
        if self._requests is not None:
            self._requests -= 1
        if self._tokens is not None:
            self._tokens -= tokens

    # the allocator

    async def _serve(self) -> None:
        """Report and be granted, while there is work."""
        watching: asyncio.Task[None] | None = None
        try:
            while True:
                report, sent = self._report(), time.monotonic()
                grant = await self._allocator.exchange(report)
                self.exchanges += 1
                self._apply(grant, sent)
                if report.leaves and self._idle():
                    return
                if watching is None or watching.done():
                    watching = asyncio.create_task(self._allocator.watch(self._worker, grant.version))
                await self._until_needed(sent, watching)
        finally:
            if watching is not None:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching

    def _idle(self) -> bool:
        return self.in_flight == 0 and not self._waiting

    def _report(self) -> Report:
        if self._requests is not None:
            self._unused_requests, self._requests = self._unused_requests + self._requests, 0
        if self._tokens is not None:
            self._unused_tokens, self._tokens = self._unused_tokens + self._tokens, 0
        waiting = [tokens for place, tokens in self._waiting if not place.done()]
        idle_long = time.monotonic() - self._idle_since >= IDLE_SECONDS
        report = Report(
            self._worker,
            self._rates,
            self.concurrency,
            self.in_flight,
            # a worker that has just become idle stays, as if one more call were to come
            max(len(waiting), 0 if idle_long or self.in_flight else 1),
            self._waiting_tokens,
            waiting[0] if waiting else 0,
            self._done,
            self._refused is not None,
            None if self._refused is None or self._refused < 0 else self._refused,
            self._unused_requests,
            self._unused_tokens,
            self._used_requests,
            self._used_tokens,
        )
        self._done = self._unused_requests = self._unused_tokens = 0
        self._used_requests = self._used_tokens = 0
        self._refused = None
        return report

    def _apply(self, grant: Grant, sent: float) -> None:
        self._grant = grant
        self._places = grant.places
        self._requests, self._tokens = grant.requests, grant.tokens
        self._lease_ends = sent + LEASE_SECONDS
        if grant.hold:
            self._hold_until = max(self._hold_until, time.monotonic() + grant.hold)
        self._wake()

    async def _until_needed(self, sent: float, watching: asyncio.Task[None]) -> None:
        """Wait until there is a reason to ask the allocator again."""
        while True:
            now = time.monotonic()
            if self._refused is not None or watching.done():
                at = sent + _LEAST_SECONDS
            else:
                at = sent + _KEEP_SECONDS
                if self._short():
                    at = min(at, sent + self._grant.retry_seconds)
                if self._requests or self._tokens:
                    at = min(at, max(sent + _LEAST_SECONDS, self._lease_ends))  # what was not used is for others
                if self._grant.slow and self._done:
                    at = min(at, sent + _SLOW_SECONDS)
                if self._idle():
                    at = min(at, max(sent + _LEAST_SECONDS, self._idle_since + IDLE_SECONDS))
            if now >= at:
                return
            self._waker = asyncio.get_running_loop().create_future()
            waited: set[asyncio.Future[None]] = {self._waker}
            if not watching.done():
                waited.add(watching)
            await asyncio.wait(waited, timeout=at - now, return_when=asyncio.FIRST_COMPLETED)

    def _short(self) -> bool:
        """Whether calls wait for what only the allocator can give."""
        if not self._waiting:
            return False
        if self.in_flight >= self._places:
            return self._places < self.concurrency
        return self._requests is not None or self._tokens is not None

    def _look_up(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)
