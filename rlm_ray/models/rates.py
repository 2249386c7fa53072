"""Who may use how much of an endpoint: the book behind the limiter that all workers share. Pure: knows no clock, no Ray.

A worker reports what it did and what it wants, and is granted places in flight and, where the endpoint is limited by the
minute, a block of requests and tokens that it must use within a few seconds. Refusals (429, 503) hold everybody back and
halve the places; successes give them back one by one.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm_ray.settings import Settings

#: Seconds in which a block of requests and tokens must be used.
LEASE_SECONDS = 2.0
#: A worker that is silent for longer has died, and holds nothing.
SILENT_SECONDS = 60.0
#: Seconds to hold back after a refusal that names no time, and the longest that is obeyed.
PAUSE, LONGEST_PAUSE = 0.5, 120.0
#: Part of a minute's worth that may go out at once.
_BURST = 1 / 12
#: Seconds between two askings of a worker that got less than it wants, at least and at most.
_SOONEST, _LATEST = 0.1, 5.0
#: Seconds between two calls to all workers to give places up.
_SQUEEZE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Rates:
    """What an endpoint allows, all workers together; None is no limit.

    Attributes
    ----------
    concurrency : int or None
        Calls in flight.
    requests, tokens : int or None
        A minute.
    """

    concurrency: int | None = None
    requests: int | None = None
    tokens: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Rates:
        """The limits that `settings` name."""
        return cls(settings.endpoint_concurrency, settings.requests_per_minute, settings.tokens_per_minute)

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self != Rates()

    def share(self, workers: int) -> Rates:
        """What one of so many workers may use where nobody can be asked."""
        parts = (self.concurrency, self.requests, self.tokens)
        return Rates(*(None if part is None else max(1, part // workers) for part in parts))

    def strictest(self, other: Rates) -> Rates:
        """The stricter of both, limit by limit."""
        pairs = zip((self.concurrency, self.requests, self.tokens), (other.concurrency, other.requests, other.tokens), strict=True)
        return Rates(*(min((part for part in pair if part is not None), default=None) for pair in pairs))


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker did since its last report, and what it wants.

    Attributes
    ----------
    most : int
        Most calls that it will ever have in flight.
    waiting, waiting_tokens, first_tokens : int
        Calls that wait, their tokens, and those of the first of them.
    done : int
        Successes.
    refused : bool
        The endpoint had no room; it asked for `retry_after` seconds, or named no time.
    unused_requests, unused_tokens : int
        Of earlier blocks.
    used_requests, used_tokens : int
        Since the last report. As much again is granted beside what waits, so that a steady worker asks rarely.
    """

    worker: str
    rates: Rates
    most: int
    in_flight: int = 0
    waiting: int = 0
    waiting_tokens: int = 0
    first_tokens: int = 0
    done: int = 0
    refused: bool = False
    retry_after: float | None = None
    unused_requests: int = 0
    unused_tokens: int = 0
    used_requests: int = 0
    used_tokens: int = 0

    @property
    def leaves(self) -> bool:
        """Whether the worker has nothing to do."""
        return self.in_flight == 0 and self.waiting == 0


@dataclass(frozen=True, slots=True)
class Grant:
    """What a worker may do now.

    Attributes
    ----------
    places : int
        Calls in flight.
    requests, tokens : int or None
        May go out within `LEASE_SECONDS`; None is no limit.
    hold : float
        Seconds in which nothing may go out.
    retry_seconds : float
        Seconds after which to ask again, where this is too little.
    slow : bool
        Successes are wanted every second: they give places back.
    version : int
        Changes when something concerns every worker.
    workers : int
    """

    places: int
    requests: int | None = None
    tokens: int | None = None
    hold: float = 0.0
    retry_seconds: float = _SOONEST
    slow: bool = False
    version: int = 0
    workers: int = 1


class _Bucket:
    """So much a minute: in no 60 seconds more than the limit goes out, though a block may be used late or come back unused."""

    def __init__(self) -> None:
        self._limit = 0
        self._highest: dict[str, float] = {}  # level since a worker's last block
        self._most = self._rate = self._level = self._at = 0.0

    def fill(self, limit: int, now: float, workers: Collection[str]) -> None:
        if limit != self._limit:
            fresh = self._limit == 0
            self._limit = limit
            self._most = max(1.0, limit * _BURST)
            self._rate = (limit + 0.999 - self._most) / (60.0 + LEASE_SECONDS)
            self._level, self._at = (self._most if fresh else min(self._level, self._most)), now
        self._level = min(self._most, self._level + (now - self._at) * self._rate)
        self._at = now
        self._highest = {name: level for name, level in self._highest.items() if name in workers}
        self._note()

    def take(self, worker: str, wanted: int, first: int, sharers: int) -> int:
        """Take up to `wanted`, a fair part of it, but enough for the `first`; one larger than all leaves a debt."""
        taken = 0
        if wanted > 0 and self._level >= min(first, self._most):
            taken = max(first, min(wanted, int(self._level / sharers)))
        self._level -= taken
        self._highest[worker] = self._level
        return taken

    def repay(self, worker: str, unused: int) -> None:
        """Take back what a worker did not use of its last block: as much as the level would be higher without that block."""
        self._level += min(unused, self._most - self._highest.get(worker, self._most)) if unused > 0 else unused
        self._note()

    def _note(self) -> None:
        self._highest = {name: max(level, self._level) for name, level in self._highest.items()}

    def seconds_until(self, wanted: int) -> float:
        return max(0.0, (min(wanted, self._most) - self._level) / self._rate)


@dataclass(slots=True)
class _Worker:
    report: Report
    places: int
    seen: float

    @property
    def wants(self) -> int:
        return min(self.report.most, self.report.in_flight + self.report.waiting)

    @property
    def holds(self) -> int:
        return max(self.places, self.report.in_flight)


class RateAllocator:
    """The book of one endpoint.

    Examples
    --------
    >>> allocator = RateAllocator()
    >>> allocator.exchange(Report("a", Rates(concurrency=6), most=64, waiting=10), now=0.0).places
    6
    >>> allocator.exchange(Report("b", Rates(concurrency=6), most=64, waiting=10), now=0.1).places
    0
    >>> allocator.exchange(Report("a", Rates(concurrency=6), most=64, in_flight=3, waiting=7), now=0.2).places
    3
    >>> allocator.exchange(Report("b", Rates(concurrency=6), most=64, waiting=10), now=0.3).places
    3
    """

    def __init__(self) -> None:
        self.version = 0
        self.allowed = math.inf
        self.refusals = 0
        self._workers: dict[str, _Worker] = {}
        self._requests = _Bucket()
        self._tokens = _Bucket()
        self._hold_until = 0.0
        self._quiet_until = 0.0
        self._squeezed = -math.inf

    def exchange(self, report: Report, now: float) -> Grant:
        """Take a worker's report, and say what it may do."""
        self._workers = {name: worker for name, worker in self._workers.items() if now - worker.seen < SILENT_SECONDS}
        worker = self._workers.setdefault(report.worker, _Worker(report, 0, now))
        worker.report, worker.seen = report, now
        rates = Rates()
        for other in self._workers.values():
            rates = rates.strictest(other.report.rates)
        if rates.requests is not None:
            self._requests.fill(rates.requests, now, self._workers)
            self._requests.repay(report.worker, report.unused_requests)
        if rates.tokens is not None:
            self._tokens.fill(rates.tokens, now, self._workers)
            self._tokens.repay(report.worker, report.unused_tokens)
        self._learn(report, rates, now)
        if report.leaves:
            del self._workers[report.worker]
            return Grant(0, version=self.version, workers=max(1, len(self._workers)))
        worker.places = self._places(worker, min(self.allowed, rates.concurrency or math.inf), now)
        hold = max(0.0, self._hold_until - now)
        sharers = max(1, sum(1 for other in self._workers.values() if other.report.waiting))
        retry, requests, tokens = _SOONEST, None, None
        if rates.requests is not None:
            wanted = 0 if hold else report.waiting + report.used_requests
            requests = self._requests.take(report.worker, wanted, 1, sharers)
            retry = max(retry, self._requests.seconds_until(1))
        if rates.tokens is not None:
            first = report.first_tokens
            wanted = 0 if hold or requests == 0 else report.waiting_tokens + report.used_tokens
            tokens = self._tokens.take(report.worker, wanted, first, sharers)
            retry = max(retry, self._tokens.seconds_until(first))
        return Grant(
            worker.places,
            requests,
            tokens,
            hold,
            min(_LATEST, max(retry, hold)),
            slow=not math.isinf(self.allowed),
            version=self.version,
            workers=len(self._workers),
        )

    def _learn(self, report: Report, rates: Rates, now: float) -> None:
        if report.done and not math.isinf(self.allowed):
            self.allowed += report.done / self.allowed
            if self.allowed >= (rates.concurrency or sum(worker.report.most for worker in self._workers.values())):
                self.allowed = math.inf
        if report.refused:
            self.refusals += 1
            pause = PAUSE if report.retry_after is None else max(report.retry_after, 0.0)
            self._hold_until = max(self._hold_until, now + min(pause, LONGEST_PAUSE))
            if now >= self._quiet_until:  # refusals of calls that were sent before the last halving say nothing new
                in_flight = sum(worker.report.in_flight for worker in self._workers.values())
                self.allowed = max(1.0, min(self.allowed, in_flight + 1.0) / 2)
            self._quiet_until = self._hold_until
            self.version += 1

    def _places(self, worker: _Worker, ceiling: float, now: float) -> int:
        """Share the places: what is wanted while there is room, a fair part when others want more than they have."""
        most = worker.report.most
        if math.isinf(ceiling):
            return most
        others = [other for other in self._workers.values() if other is not worker]
        active = 1 + sum(1 for other in others if other.wants)
        fair = max(1, int(ceiling // active))
        free = max(0, int(ceiling) - sum(other.holds for other in others))
        short = [other for other in others if other.wants > other.places]
        places = min(most, free, max(worker.wants, fair))
        if short:
            # where there are fewer places than workers, who has none goes first
            turn_over = ceiling < active and worker.places > 0 and any(other.holds == 0 for other in short)
            places = 0 if turn_over else min(places, fair)
        has_too_little = worker.wants > places < fair and any(other.places > fair or ceiling < active for other in others)
        if has_too_little and now - self._squeezed >= _SQUEEZE_SECONDS:
            self._squeezed = now
            self.version += 1
        return places
