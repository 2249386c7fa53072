"""Amounts of calls, tokens and nanodollars, which limits count: whole numbers, so that sums are exact."""

from __future__ import annotations

import math
from typing import NamedTuple

from rlm_ray.models.contract import Usage
from rlm_ray.text import counted

NANO = 1_000_000_000


def nanodollars(usd: float) -> int:
    """Dollars as whole nanodollars, rounded up."""
    return math.ceil(usd * NANO - 1e-3)


class Amount(NamedTuple):
    """What limits count."""

    calls: int = 0
    tokens: int = 0
    nanodollars: int = 0

    def plus(self, other: Amount) -> Amount:
        """Sum of both."""
        a, b, c = self
        d, e, f = other
        return Amount(a + d, b + e, c + f)

    def minus(self, other: Amount) -> Amount:
        """Difference of both."""
        a, b, c = self
        d, e, f = other
        return Amount(a - d, b - e, c - f)

    @property
    def in_full(self) -> Usage:
        """The usage of calls of which only the most is known."""
        return Usage(self.calls, self.tokens, 0, 0, self.nanodollars / NANO, self.calls)

    @classmethod
    def of(cls, usage: Usage) -> Amount:
        """What a usage counts for; an unknown price counts nothing."""
        return cls(usage.calls, usage.tokens, nanodollars(usage.usd or 0.0))


NOTHING = Amount()


class Reservation(NamedTuple):
    """An upper estimate, set aside. Settled once."""

    number: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    nanodollars: int
    model: str = ""
    priced: bool = True

    @property
    def amount(self) -> Amount:
        """What it takes of the limits."""
        return Amount(self.calls, self.prompt_tokens + self.completion_tokens, self.nanodollars)

    @property
    def in_full(self) -> Usage:
        """Its usage when the outcome is unknown: all of it."""
        usd = self.nanodollars / NANO if self.priced else None
        return Usage(self.calls, self.prompt_tokens, self.completion_tokens, 0, usd, self.calls)


class Limits(NamedTuple):
    """Most calls, tokens and nanodollars; None is no limit."""

    calls: int | None = None
    tokens: int | None = None
    nanodollars: int | None = None


NO_LIMITS = Limits()


def show(unit: str, value: int) -> str:
    """An amount as people write it.

    Examples
    --------
    >>> show("usd", 12_300_000), show("calls", 1200)
    ('$0.012300', '1,200 calls')
    """
    if unit == "usd":
        return f"${value / NANO:.6f}"
    return counted(value, unit.removesuffix("s"))
