"""Limits the calls in flight of one process: fewer when the endpoint asks for it, then more step by step.

Additive increase, multiplicative decrease. Soft state: a fresh limiter is never wrong, only too eager for a moment.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from rlm_ray.models.contract import Outcome

#: Seconds to hold back after a refusal that names no time.
_PAUSE = 0.5
#: The longest hold that a `Retry-After` can ask of everybody.
_LONGEST_PAUSE = 120.0


class LocalLimiter:
    """Limits the attempts in flight of one event loop. Not for several threads.

    Parameters
    ----------
    concurrency : int
        Most attempts in flight.

    Notes
    -----
    A refusal (429, 503) or a time-out halves the allowed number and holds everybody back for as long as the endpoint asked for. One
    burst of refusals counts once: those of attempts sent before the last halving say nothing new. Each success adds
    1/allowed, so that a full round of successes allows one more.
    """

    def __init__(self, concurrency: int) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency = {concurrency}: it must be at least 1.")
        self.concurrency = concurrency
        self.allowed = float(concurrency)
        self.in_flight = 0
        self.refusals = 0
        self._hold_until = 0.0
        self._quiet_until = 0.0
        self._slowed_at = 0.0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    async def acquire(self, tokens: int) -> None:
        """Wait until one more attempt may be in flight; first come, first served."""
        if not self._waiting and self._room(tokens) and time.monotonic() >= self._hold_until:
            self._take(tokens)
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((place, tokens))
        self._wake()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.in_flight -= 1  # the place was given in the same moment: pass it on
                self._wake()
            raise

    def release(self, outcome: Outcome) -> None:
        """Give the place back and learn from the outcome."""
        self.in_flight -= 1
        if outcome.kind == "ok":
            if self.allowed < self.concurrency:
                self.allowed = min(float(self.concurrency), self.allowed + 1 / self.allowed)
        elif self._slows(outcome):
            if outcome.kind == "timed_out":  # more were in flight than it answers in time, however many were allowed
                self.allowed = min(self.allowed, self.in_flight + 1.0)
            self._slow_down(outcome.retry_after)
        if self._waiting:
            self._wake()

    def _slows(self, outcome: Outcome) -> bool:
        """Whether an outcome says that there are too many in flight: time-outs of attempts sent before the last halving do not."""
        if outcome.kind == "timed_out":
            return time.monotonic() - outcome.seconds >= self._slowed_at
        return outcome.kind == "slow_down"

    def _slow_down(self, retry_after: float | None) -> None:
        now = time.monotonic()
        self.refusals += 1
        pause = min(_PAUSE if retry_after is None else max(retry_after, 0.0), _LONGEST_PAUSE)
        self._hold_until = max(self._hold_until, now + pause)
        if now >= self._quiet_until:
            self._slowed_at = now
            self.allowed = max(1.0, self.allowed / 2)
        self._quiet_until = self._hold_until

    def _wake(self) -> None:
        wait = self._hold_until - time.monotonic()
        if wait > 0:
            if self._alarm is None:
                self._alarm = asyncio.get_running_loop().call_later(wait, self._ring)
            return
        while self._waiting:
            place, tokens = self._waiting[0]
            if place.done():  # its call was cancelled
                self._waiting.popleft()
                continue
            if not self._room(tokens):
                return
            self._waiting.popleft()
            self._take(tokens)
            place.set_result(None)

    def _room(self, tokens: int) -> bool:
        """Whether one more attempt may be in flight."""
        return self.in_flight < int(self.allowed)

    def _take(self, tokens: int) -> None:
        self.in_flight += 1

    def _ring(self) -> None:
        self._alarm = None
        self._wake()
