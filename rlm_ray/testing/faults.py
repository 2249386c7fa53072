"""What can go wrong at a model endpoint, as a value.

A fault is drawn from the seed, the request's own bytes and how often they were seen before, never from a clock or from
the order of arrival: the same requests meet the same faults, however many are in flight at once.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from typing import Literal

from rlm_ray.errors import InputError
from rlm_ray.types.json import JsonObject

Kind = Literal["none", "throttle", "error", "hang", "cut", "garbled", "malformed"]

_SHARES: tuple[Kind, ...] = ("throttle", "error", "hang", "cut", "garbled", "malformed")


@dataclass(frozen=True)
class Faults:
    """How an endpoint misbehaves. The default does not.

    Parameters
    ----------
    latency : float or (float, float)
        Seconds before each reply; a pair is a range that is drawn from evenly.
    slow, slow_seconds : float
        Share of requests (0 to 1) that take `slow_seconds` more.
    throttle, retry_after : float
        Share answered 429, with `Retry-After` seconds.
    error, hang, cut : float
        Share answered 500; never answered; cut in the middle of the reply.
    garbled, malformed : float
        Share answered with a body that is not JSON; with a message that is not what was asked for.
    attempts : int, optional
        A request meets shares above only on its first `attempts` arrivals, so that asking again ends well.
    usage : bool
        False leaves `usage` out of every reply.
    response_format : bool
        False refuses requests with `response_format` (400), as small servers do.
    key : str, optional
        Any other key is answered 401.
    most_at_once : int, optional
        Requests above this number in flight are answered 429.
    seed : int
        Which requests are hit.

    Examples
    --------
    >>> Faults(error=1, attempts=2).draw(b"a request", arrival=0)
    'error'
    >>> Faults(error=1, attempts=2).draw(b"a request", arrival=2)
    'none'
    """

    latency: float | tuple[float, float] = 0.0
    slow: float = 0.0
    slow_seconds: float = 5.0
    throttle: float = 0.0
    retry_after: float = 0.05
    error: float = 0.0
    hang: float = 0.0
    cut: float = 0.0
    garbled: float = 0.0
    malformed: float = 0.0
    attempts: int | None = None
    usage: bool = True
    response_format: bool = True
    key: str | None = None
    most_at_once: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        total = sum(getattr(self, name) for name in _SHARES)
        if total > 1 or any(not 0 <= getattr(self, name) <= 1 for name in (*_SHARES, "slow")):
            raise InputError(f"Faults: shares lie between 0 and 1 and add up to 1 at most, not {total:g}. Lower one of them.")

    @property
    def random(self) -> bool:
        """Whether anything is drawn per request."""
        return any(getattr(self, name) for name in _SHARES)

    def draw(self, request: bytes, arrival: int) -> Kind:
        """Return the fault that this request meets on its `arrival`-th arrival, counted from 0."""
        if self.attempts is not None and arrival >= self.attempts:
            return "none"
        at = self._uniform(b"kind", request, arrival)
        for name in _SHARES:
            at -= getattr(self, name)
            if at < 0:
                return name
        return "none"

    def delay(self, request: bytes, arrival: int) -> float:
        """Return the seconds that this request waits."""
        if isinstance(self.latency, (int, float)):
            seconds = float(self.latency)
        else:
            low, high = self.latency
            seconds = low + (high - low) * self._uniform(b"latency", request, arrival)
        if self.slow and self._uniform(b"slow", request, arrival) < self.slow:
            seconds += self.slow_seconds
        return seconds

    def as_json(self) -> JsonObject:
        """Return the faults as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: JsonObject) -> Faults:
        """Build faults from what `as_json` gave; an unknown name is an InputError."""
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(f"Faults: no such fault {unknown[0]!r}. There are: {', '.join(sorted(known))}.")
        if isinstance(values.get("latency"), list):
            values = values | {"latency": tuple(values["latency"])}
        return cls(**values)

    def _uniform(self, purpose: bytes, request: bytes, arrival: int) -> float:
        salt = b"%s %d %d " % (purpose, self.seed, arrival)
        return int.from_bytes(hashlib.blake2b(salt + request, digest_size=8).digest(), "big") / 2**64
