"""The budget that a process spends from: the current value behind one lock, with prices."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import Any

from rlm_ray.errors import BudgetExceeded
from rlm_ray.models.contract import Usage
from rlm_ray.models.prices import NANO, Rate, require
from rlm_ray.recursion.budget.amounts import Amount, Reservation
from rlm_ray.recursion.budget.budget import Budget

#: Makes a named tuple of a tuple in a third of the time that its class takes.
_make: Any = tuple.__new__


class BudgetMeter:
    """Spends from a Budget, from any thread. Implements `models.contract.Meter`.

    Calls that fit are counted here, in sums beside the value, since this runs twice for every call; whatever else happens is
    the value's own business, which gets the sums first (`_current`) and says what is left after it (`_take`).

    Parameters
    ----------
    budget : Budget
    prices : mapping of str to Rate, optional
        By model. With a dollar limit, a model without a price is refused.

    Examples
    --------
    >>> meter = BudgetMeter(Budget.start(calls=2))
    >>> reservation = meter.reserve(100, 50, "small")
    >>> meter.settle(reservation, Usage(1, 80, 10)).usd is None
    True
    >>> meter.budget.left["calls"]
    1
    """

    def __init__(self, budget: Budget, prices: Mapping[str, Rate] | None = None) -> None:
        self.prices = prices or {}
        self._lock = threading.Lock()
        self._budget: Budget
        self._serial: int
        self._reserved: dict[int, Amount]
        self._outstanding: Amount
        self._spent: Amount
        self._usage: Usage
        self._most: tuple[float, ...]
        self._stops: float
        self._take(budget.apart())  # held by this meter alone, so that reservations need no copies

    @property
    def budget(self) -> Budget:
        """The budget as it is now."""
        with self._lock:
            return self._current().apart()

    @property
    def sums(self) -> tuple[Amount, Amount, Usage]:
        """What is spent, what is outstanding, and what was used, as `Budget` has them; costs nothing, for every call."""
        return self._spent, self._outstanding, self._usage

    def seconds_left(self) -> float | None:
        """Seconds until the deadline; None is no deadline."""
        return self._budget.seconds_left()

    def reserve(self, prompt_tokens: int, completion_tokens: int, model: str) -> Reservation:
        """Set aside an upper estimate of one attempt.

        Raises
        ------
        BudgetExceeded
            It does not fit; exhaustion latches unless `error.passing`.
        SettingsError
            There is a dollar limit, and the model's price is unknown.
        """
        return self._reserve(prompt_tokens, completion_tokens, model, last_turn=False)

    def settle(self, reservation: Reservation, usage: Usage | None) -> Usage:
        """Charge what the attempt used, and return it with its price; None: unknown, charged in full.

        Raises
        ------
        ValueError
            The reservation was settled before, or elsewhere.
        """
        nano: int | None = None
        if usage is None:
            usage = reservation.in_full
            nano = reservation.nanodollars
        elif usage.calls == 0:
            usage, nano = Usage(), 0
        else:
            rate = self.prices.get(reservation.model)
            calls, prompt, completion, cached, _, estimated = usage
            if rate is not None:
                nano = rate.nanodollars(prompt, completion, cached)
            usage = _make(Usage, (calls, prompt, completion, cached, None if nano is None else nano / NANO, estimated))
        calls, prompt, completion, cached, usd, estimated = usage
        with self._lock:
            amount = self._reserved.pop(reservation.number, None)
            if amount is None:
                self._current().settle(reservation, usage)  # which says so
                raise AssertionError
            less_calls, less_tokens, less_nano = amount
            a, b, c = self._outstanding
            self._outstanding = _make(Amount, (a - less_calls, b - less_tokens, c - less_nano))
            a, b, c = self._spent
            self._spent = _make(Amount, (a + calls, b + prompt + completion, c + (less_nano if nano is None else nano)))
            a, b, c, d, sum_usd, e = self._usage
            total = None if usd is None or sum_usd is None else sum_usd + usd
            self._usage = _make(Usage, (a + calls, b + prompt, c + completion, d + cached, total, e + estimated))
        return usage

    def estimate(self, prompt_tokens: int, completion_tokens: int, model: str) -> Amount:
        """The most that one attempt takes; an unknown price counts nothing."""
        rate = self.prices.get(model)
        nano = rate.most_nanodollars(prompt_tokens, completion_tokens) if rate else 0
        return Amount(1, prompt_tokens + completion_tokens, nano)

    def keep_for_last_turn(self, amount: Amount) -> None:
        """Keep so much back for the last turn, as `Budget.keep_for_last_turn`."""
        with self._lock:
            now = self._current()
            usd = amount.nanodollars / NANO
            kept = now.keep_for_last_turn(calls=amount.calls, tokens=amount.tokens, usd=usd, seconds=now.last_turn_seconds)
            self._take(kept)

    def for_last_turn(self) -> LastTurnMeter:
        """A meter of the same budget that may take what is kept for the last turn."""
        return LastTurnMeter(self)

    def split(self, **sizes: Any) -> Budget:
        """Lend a slice to a child, as `Budget.split`; returns the child's budget."""
        with self._lock:
            try:
                now, child = self._current().split(**sizes)
            except BudgetExceeded as error:
                self._latch(error)
                raise
            self._take(now)
        return child

    def absorb(self, child: Budget) -> None:
        """Take a child's slice back, as `Budget.absorb`."""
        with self._lock:
            self._take(self._current().absorb(child))

    def write_off(self, child: str, proven: Usage | None = None, unproven: Amount | None = None) -> None:
        """Count a dead child's slice as spent, as `Budget.write_off`."""
        with self._lock:
            self._take(self._current().write_off(child, proven, unproven))

    def charge(self, usage: Usage) -> None:
        """Count what was spent before, as `Budget.charge`."""
        with self._lock:
            self._take(self._current().charge(usage))

    def exhaust(self, reason: str) -> None:
        """Let nothing ordinary be reserved any more."""
        with self._lock:
            self._take(self._current().latched(reason))

    def _reserve(self, prompt_tokens: int, completion_tokens: int, model: str, *, last_turn: bool) -> Reservation:
        rate = self.prices.get(model)
        if rate is None and (limit := self._budget.limits.nanodollars) is not None:
            require([model], self.prices, limit / NANO)
        nano = rate.most_nanodollars(prompt_tokens, completion_tokens) if rate is not None else 0
        tokens = prompt_tokens + completion_tokens
        with self._lock:
            most_calls, most_tokens, most_nano = self._most
            a, b, c = self._outstanding
            d, e, f = self._spent
            a, b, c = a + 1, b + tokens, c + nano
            if (
                not last_turn
                and a + d <= most_calls
                and b + e <= most_tokens
                and c + f <= most_nano
                and tokens >= 0 <= nano
                and time.time() < self._stops
            ):
                number = self._serial
                self._serial = number + 1
                self._reserved[number] = _make(Amount, (1, tokens, nano))
                self._outstanding = _make(Amount, (a, b, c))
                made: Reservation = _make(Reservation, (number, 1, prompt_tokens, completion_tokens, nano, model, rate is not None))
                return made
            try:
                now, reservation = self._current().reserve(
                    prompt_tokens=prompt_tokens,
                    completion_tokens=completion_tokens,
                    nano=nano,
                    model=model,
                    priced=rate is not None,
                    last_turn=last_turn,
                )
            except BudgetExceeded as error:
                self._latch(error)
                raise
            self._take(now)
        return reservation

    def _latch(self, error: BudgetExceeded) -> None:
        if not error.passing:
            self._take(self._current().latched(str(error)))

    def _current(self) -> Budget:
        """The value with what was counted beside it. Under the lock."""
        self._budget = self._budget._next(
            serial=self._serial,
            reserved=self._reserved,
            outstanding=self._outstanding,
            spent=self._spent,
            usage=self._usage,
        )
        return self._budget

    def _take(self, budget: Budget) -> None:
        """Go on with another value."""
        self._budget = budget
        self._serial, self._reserved = budget.serial, budget.reserved
        self._outstanding, self._spent, self._usage = budget.outstanding, budget.spent, budget.usage
        kept = budget.last_turn_reserve
        #: What is spent and outstanding together may come to.
        self._most = tuple(math.inf if limit is None else limit - part for limit, part in zip(budget.limits, kept, strict=True))
        #: From when on nothing ordinary fits, which is at once where it is exhausted.
        self._stops = math.inf if budget.deadline is None else budget.deadline - budget.last_turn_seconds
        if budget.exhausted is not None:
            self._stops = -math.inf


class LastTurnMeter:
    """A `Meter` over the same budget, for the root's last turn."""

    def __init__(self, meter: BudgetMeter) -> None:
        self._meter = meter

    def reserve(self, prompt_tokens: int, completion_tokens: int, model: str) -> Reservation:
        """As `BudgetMeter.reserve`, from the reserve too."""
        return self._meter._reserve(prompt_tokens, completion_tokens, model, last_turn=True)

    def seconds_left(self) -> None:
        """Nothing: the last turn may run past the deadline."""

    def settle(self, reservation: Reservation, usage: Usage | None) -> Usage:
        """As `BudgetMeter.settle`."""
        return self._meter.settle(reservation, usage)
