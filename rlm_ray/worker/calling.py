"""Counts the model calls of this process: the factory of limiters, the buffer of metrics, and a client that counts.

A call costs a few additions and one observation; a sink takes the counts about once a second (`cluster.metrics` exports
them as Ray's). The sums of a run are counted beside, as plain values (`recursion.budget.measures`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rlm_ray.models.contract import ChatReply, ChatRequest, Endpoint, Meter, Usage
from rlm_ray.models.leases import LeasedLimiter, LocalAllocator
from rlm_ray.models.rates import Rates
from rlm_ray.recursion.budget.measures import Measures
from rlm_ray.recursion.jobs.batch_plans import Learned

#: Seconds between two times that counts are handed to the sink, while there are calls.
FLUSH_SECONDS = 1.0
#: Name -> what it says. All are sums, but for the gauges and the latency.
COUNTERS = {
    "calls": "Model calls that ended.",
    "failed_calls": "Model calls without a usable reply.",
    "retries": "Attempts of model calls after the first.",
    "prompt_tokens": "Prompt tokens that were charged.",
    "completion_tokens": "Completion tokens that were charged.",
    "cached_tokens": "Prompt tokens that the endpoint had cached.",
    "dollars": "Dollars that were charged, of models whose price is known.",
}


@dataclass(slots=True)
class Counts:
    """Counts of one depth and model that no sink has taken yet; `open` and `in_flight` are as they are now."""

    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0.0))
    seconds: list[float] = field(default_factory=list)
    open: int = 0
    in_flight: int = 0


#: Exports the counts of one depth and model.
Sink = Callable[[int, str, Counts], None]


class MetricBuffer:
    """The counts of this process, handed to a sink once in a while. Used on one event loop.

    Parameters
    ----------
    sink : callable
        Takes a depth, a model and their `Counts`; resets what it exports.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._counts: dict[tuple[int, str], Counts] = {}
        self._timer: asyncio.TimerHandle | None = None

    def of(self, depth: int, model: str) -> Counts:
        """Return the counts for a depth and a model, which the caller is about to change."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._ring)
        return self._counts.setdefault((depth, model), Counts())

    def flush(self) -> None:
        """Hand the counts to the sink, which resets those that it took."""
        for (depth, model), counts in self._counts.items():
            self._sink(depth, model, counts)

    def _ring(self) -> None:
        self._timer = None
        self.flush()
        if any(counts.open for counts in self._counts.values()):
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._ring)


@dataclass(frozen=True)
class Calling:
    """Parts of a model call that the surroundings give: how a limiter is made, and where counts go.

    Attributes
    ----------
    make_limiter : callable
        Makes the limiter of this process's calls to an endpoint, from the endpoint, a concurrency and rates.
    metrics : MetricBuffer
    """

    make_limiter: Callable[[Endpoint, int, Rates], LeasedLimiter]
    metrics: MetricBuffer


def local_calling() -> Calling:
    """Return the parts for a process that shares no limiter and exports no metrics."""
    return Calling(lambda _, concurrency, rates: LeasedLimiter(concurrency, rates, LocalAllocator()), MetricBuffer(lambda *_: None))


class Watched:
    """A client whose calls are counted.

    Parameters
    ----------
    client : ChatClient
    depth : int
        Of the recursive call that asks.
    metrics : MetricBuffer

    Attributes
    ----------
    measures : Measures
        Sums of the calls through this client.
    """

    def __init__(self, client: Any, depth: int, metrics: MetricBuffer) -> None:
        self._client = client
        self._depth = depth
        self._metrics = metrics
        self.measures = Measures()
        #: Calls, bytes, prompt and completion tokens of the calls whose endpoint counted them.
        self.learned = Learned()

    async def complete(self, request: ChatRequest, meter: Meter) -> ChatReply:
        """See `models.client.ChatClient.complete`."""
        counts = self._metrics.of(self._depth, request.model)
        attempts = _Attempts(meter, counts)
        counts.open += 1
        started, failed = time.monotonic(), True
        try:
            reply: ChatReply = await self._client.complete(request, attempts)
            failed = False
            if reply.usage.calls == 1 and not reply.usage.estimated:
                nbytes = sum(len(message["content"].encode("utf-8", "replace")) for message in request.messages)
                self.learned += Learned(1, nbytes, reply.usage.prompt_tokens, reply.usage.completion_tokens)
            return reply
        finally:
            seconds, used, sums = time.monotonic() - started, attempts.used, counts.sums
            counts.open -= 1
            if attempts.number:  # else nothing was sent
                counts.seconds.append(seconds)
                sums["calls"] += 1
                sums["failed_calls"] += failed
                sums["retries"] += attempts.number - 1
                sums["prompt_tokens"] += used.prompt_tokens
                sums["completion_tokens"] += used.completion_tokens
                sums["cached_tokens"] += used.cached_tokens
                sums["dollars"] += used.usd or 0.0
                self.measures.add(self._depth, request.model, used, seconds, attempts.number, failed)


class _Attempts:
    """The meter of one call; counts each attempt when it goes out and its charge when it ends."""

    def __init__(self, meter: Meter, counts: Counts) -> None:
        self._meter = meter
        self._counts = counts
        self.number = 0
        self.used = Usage()

    def seconds_left(self) -> float | None:
        return self._meter.seconds_left()

    def reserve(self, prompt_tokens: int, completion_tokens: int, model: str) -> Any:
        reservation = self._meter.reserve(prompt_tokens, completion_tokens, model)
        self.number += 1
        self._counts.in_flight += 1
        return reservation

    def settle(self, reservation: Any, usage: Usage | None) -> Usage:
        self._counts.in_flight -= 1
        charged: Usage = self._meter.settle(reservation, usage)
        self.used = charged if self.number == 1 else self.used + charged
        return charged
