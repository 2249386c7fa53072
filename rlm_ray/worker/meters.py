"""Meters over a budget: with the prices of a run's models, and with a ledger that covers the calls in flight."""

from __future__ import annotations

import functools
import time
from collections import deque

from rlm_ray.errors import BudgetExceeded, StorageError
from rlm_ray.ledger.finished import Finished
from rlm_ray.ledger.journal import COMMIT_SECONDS
from rlm_ray.models import prices
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.budget.amounts import NOTHING, Amount, Reservation
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.recursion.leaf.values import Row
from rlm_ray.settings import Settings


@functools.lru_cache(maxsize=16)
def _table(settings: str) -> dict[str, prices.Rate]:
    return prices.price_table(Settings.model_validate_json(settings))


def meter_of(budget: Budget, settings: Settings) -> BudgetMeter:
    """Return a meter over a budget, with the prices of the run's models."""
    return BudgetMeter(budget, _table(settings.model_dump_json()))


def require_prices(meter: BudgetMeter, settings: Settings) -> None:
    """Refuse a dollar limit where a price is not known.

    Raises
    ------
    SettingsError
        Names the model, and how to give a price.
    """
    models = [name for name in dict.fromkeys((settings.root_model, settings.leaf_model, *settings.models)) if name]
    prices.require(models, meter.prices, settings.max_usd)


class LedgerMeter:
    """Meters one group of leaf calls, and keeps the ledger ahead of it: rows when they are finished, the exposure
    before calls go out.

    An exposure covers all that the group may have spent beside its durable rows. It is raised by doubling, so that a group writes
    a few of them, and a process that is killed has spent at most what its rows and its last exposure say.

    Parameters
    ----------
    meter : BudgetMeter
        Over the group's slice.
    finished : Finished
    group : str
        Its name in the ledger.
    at_once : int
        Calls that it will have in flight.
    """

    def __init__(self, meter: BudgetMeter, finished: Finished, group: str, at_once: int) -> None:
        self._meter = meter
        self._finished = finished
        self._group = group
        self._at_once = max(1, at_once)
        #: What the slice did not reach for, once it did not.
        self.refused: Amount | None = None
        self._exposure = NOTHING
        self._logged = NOTHING
        # in object storage a row is durable after its commit, so it counts as logged only then
        self._late = 0.0 if finished.local else 3 * COMMIT_SECONDS
        self._coming: deque[tuple[float, Amount]] = deque()

    def seconds_left(self) -> float | None:
        """See `BudgetMeter.seconds_left`."""
        return self._meter.seconds_left()

    def reserve(self, prompt_tokens: int, completion_tokens: int, model: str) -> Reservation:
        """As `BudgetMeter.reserve`; returns when the ledger covers it.

        Raises
        ------
        StorageError
            The ledger cannot be written: nothing more may be spent.
        """
        try:
            reservation = self._meter.reserve(prompt_tokens, completion_tokens, model)
        except BudgetExceeded as error:
            if not error.passing and self.refused is None:
                self.refused = self._meter.estimate(prompt_tokens, completion_tokens, model)
            raise
        while self._coming and self._coming[0][0] <= time.monotonic():
            self._logged = self._logged.plus(self._coming.popleft()[1])
        spent, outstanding, _ = self._meter.sums
        exposed = calls, tokens, nano = spent.plus(outstanding).minus(self._logged)
        most_calls, most_tokens, most_nano = self._exposure
        if calls > most_calls or tokens > most_tokens or nano > most_nano:
            times = self._at_once if self._exposure == NOTHING else 2
            most = (
                part * times if limit is None else min(part * times, limit)
                for part, limit in zip(exposed, self._meter.budget.limits, strict=True)
            )
            exposure = Amount(
                *(old if part <= old else max(new, part) for part, old, new in zip(exposed, self._exposure, most, strict=True))
            )
            try:
                self._finished.expose(self._group, exposure)
            except StorageError:
                self._meter.settle(reservation, Usage())
                raise
            self._exposure = exposure
        return reservation

    def settle(self, reservation: Reservation, usage: Usage | None) -> Usage:
        """As `BudgetMeter.settle`."""
        return self._meter.settle(reservation, usage)

    def keep(self, row: Row) -> None:
        """Write a row down before anybody reads it."""
        if not row.key or row.reused:
            return
        if not row.unasked:
            self._finished.add(row.key, row.answer, row.error, row.usage, self._group, row.times, row.calls)
        elif row.usage.calls:  # not answered, but paid for
            self._finished.add(row.key, None, None, row.usage, self._group, row.times)
        paid = Amount.of(row.usage)
        if not self._late:
            self._logged = self._logged.plus(paid)
        elif paid != NOTHING:
            self._coming.append((time.monotonic() + self._late, paid))

    def end(self) -> None:
        """Write down that the group has ended: what it spent beside its rows (on calls that were dropped) is known now."""
        kept = functools.reduce(Amount.plus, (amount for _, amount in self._coming), self._logged)
        beside = Amount(*(max(0, part) for part in self._meter.sums[0].minus(kept)))
        if self._exposure == NOTHING:
            return
        if beside == NOTHING:
            self._finished.end(self._group)
        else:
            self._finished.expose(self._group, beside)
