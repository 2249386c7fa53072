"""The budget of a whole tree of calls, as a value: calls, tokens, dollars, seconds, depth.

Before a call goes out its upper estimate is reserved; after it the actual is settled and the rest is free again. A slice
goes down with each task (`split`) and comes back with what is unspent (`absorb`); the slice of a task that died counts as
spent, except where the ledger proves less (`write_off`). At every moment::

    spent + reserved + lent to children + kept for the last turn  <=  limit

A Budget never changes: each operation returns the next one. `BudgetMeter` holds the current one behind a lock. Money is
counted in whole nanodollars, so that sums are exact.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rlm_ray.errors import InputError
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.budget.amounts import NANO, NO_LIMITS, NOTHING, Amount, Limits, Reservation, nanodollars
from rlm_ray.recursion.budget.refusals import TIME_IS_UP, no_room, refused, too_many_calls
from rlm_ray.text import counted
from rlm_ray.types.json import JsonObject

if TYPE_CHECKING:
    from rlm_ray.settings import Settings


@dataclass(frozen=True)
class Budget:
    """What a run, or one task of it, may still spend. Picklable; JSON both ways.

    Attributes
    ----------
    limits : Limits
    deadline : float or None
        Unix time, so that it can travel between machines.
    depth, max_depth : int
        Level of the task that holds this budget (the root is 0), and the deepest level allowed.
    last_turn_reserve : Amount
        Kept back for the root's last turn.
    last_turn_seconds : float
        Ordinary calls stop this long before the deadline; the last turn may run past it.
    spent : Amount
    usage : Usage
        The same in detail, children included.
    reserved : dict of int to Amount
        Set aside for calls in flight, by the reservation's number.
    lent : dict of str to Amount
        With children, by the child's name.
    exhausted : str or None
        Why nothing ordinary can be reserved any more. Once set it stays.
    name : str

    Examples
    --------
    >>> budget = Budget.start(calls=10, tokens=1_000)
    >>> budget, reservation = budget.reserve(prompt_tokens=400, completion_tokens=100)
    >>> budget.left["tokens"], budget.left["calls"], budget.left["usd"]
    (500, 9, None)
    >>> budget = budget.settle(reservation, Usage(1, 120, 30))
    >>> print(budget)
    1 of 10 calls, 150 of 1,000 tokens, $0.0000; depth 0 of 1
    """

    limits: Limits = NO_LIMITS
    deadline: float | None = None
    depth: int = 0
    max_depth: int = 1
    last_turn_reserve: Amount = NOTHING
    last_turn_seconds: float = 0.0
    spent: Amount = NOTHING
    usage: Usage = field(default_factory=Usage)
    reserved: dict[int, Amount] = field(default_factory=dict)
    lent: Mapping[str, Amount] = field(default_factory=dict)
    outstanding: Amount = NOTHING
    exhausted: str | None = None
    name: str = "0"
    serial: int = 0

    # make

    @classmethod
    def start(
        cls,
        *,
        calls: int | None = None,
        tokens: int | None = None,
        usd: float | None = None,
        seconds: float | None = None,
        max_depth: int = 1,
        now: float | None = None,
    ) -> Budget:
        """A budget of which nothing is spent. None is no limit."""
        limits = Limits(calls, tokens, None if usd is None else int(usd * NANO + 1e-6))
        deadline = None if seconds is None else (time.time() if now is None else now) + seconds
        return cls(limits, deadline, max_depth=max_depth)

    @classmethod
    def of(cls, settings: Settings, *, now: float | None = None) -> Budget:
        """The budget of a whole run, as `settings` say, with one call kept for the last turn."""
        return cls.start(
            calls=settings.max_calls,
            tokens=settings.max_tokens,
            usd=settings.max_usd,
            seconds=settings.max_seconds,
            max_depth=settings.max_depth,
            now=now,
        ).keep_for_last_turn(calls=1)

    def keep_for_last_turn(self, *, calls: int = 1, tokens: int = 0, usd: float = 0.0, seconds: float = 0.0) -> Budget:
        """Keep so much back for the last turn; at most half of each limit, and only what is still free."""
        wanted = Amount(calls, tokens, nanodollars(usd))
        bare = replace(self, last_turn_reserve=NOTHING)
        kept = Amount(
            *(
                amount if limit is None else max(0, min(amount, limit // 2, free or 0))
                for amount, limit, free in zip(wanted, self.limits, bare._free(), strict=True)
            )
        )
        return replace(self, last_turn_reserve=kept, last_turn_seconds=seconds)

    # look

    @property
    def left(self) -> dict[str, float | int | None]:
        """What ordinary calls may still take: `calls`, `tokens`, `usd`, `seconds`, `depth`; None is no limit."""
        calls, tokens, nano = (None if free is None else max(0, free) for free in self._free())
        return {
            "calls": calls,
            "tokens": tokens,
            "usd": None if nano is None else nano / NANO,
            "seconds": self.seconds_left(),
            "depth": max(0, self.max_depth - self.depth),
        }

    def seconds_left(self, now: float | None = None) -> float | None:
        """Seconds until ordinary calls stop, not below 0; None is no limit."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - self.last_turn_seconds - (time.time() if now is None else now))

    def check(self, calls: int) -> None:
        """Refuse a batch larger than the calls left, whole, before anything is spent.

        Raises
        ------
        BudgetExceeded
            With both numbers.
        """
        if self.exhausted is not None:
            raise refused(self.exhausted)
        free = self._free()[0]
        if free is not None and calls > free:
            raise too_many_calls(calls, free, self.limits.calls)

    # reserve and settle

    def reserve(
        self,
        *,
        calls: int = 1,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        usd: float = 0.0,
        nano: int | None = None,
        model: str = "",
        priced: bool = True,
        last_turn: bool = False,
        now: float | None = None,
    ) -> tuple[Budget, Reservation]:
        """Set an upper estimate aside.

        Parameters
        ----------
        nano : int, optional
            The dollars in nanodollars, in place of `usd`.
        last_turn : bool
            May take what is kept for the last turn, also when exhausted or late.

        Raises
        ------
        BudgetExceeded
            It does not fit. `error.passing` is true when it would fit if what is in flight came back unspent;
            otherwise the budget is exhausted, and the holder latches that (`latched`).
        """
        reservation = Reservation(
            self.serial, calls, prompt_tokens, completion_tokens, nanodollars(usd) if nano is None else nano, model, priced
        )
        amount = Amount(calls, prompt_tokens + completion_tokens, reservation.nanodollars)
        self._admit(amount, last_turn, now)
        reserved = dict(self.reserved)
        reserved[reservation.number] = amount
        kept = NOTHING if last_turn else self.last_turn_reserve
        return self._next(
            serial=self.serial + 1, reserved=reserved, outstanding=self.outstanding.plus(amount), last_turn_reserve=kept
        ), reservation

    def settle(self, reservation: Reservation, usage: Usage | None) -> Budget:
        """Charge what the call used; None: the outcome is unknown, charged in full.

        Raises
        ------
        ValueError
            The reservation is not of this budget, or was settled before.
        """
        reserved = dict(self.reserved)
        amount = reserved.pop(reservation.number, None)
        if amount is None:
            raise ValueError(
                f"Reservation {reservation.number} of budget {self.name} is not open: it was settled before, or elsewhere."
            )
        if usage is None:
            actual, usage = amount, reservation.in_full
        else:
            actual = Amount.of(usage)
            if usage.usd is None:
                actual = actual._replace(nanodollars=amount.nanodollars)
        return self._next(
            reserved=reserved,
            outstanding=self.outstanding.minus(amount),
            spent=self.spent.plus(actual),
            usage=self.usage + usage,
        )

    def charge(self, usage: Usage) -> Budget:
        """Count what was spent before this budget was made: the finished calls of a run that is resumed."""
        return self._next(spent=self.spent.plus(Amount.of(usage)), usage=self.usage + usage)

    # children

    def split(
        self,
        *,
        calls: int | None = None,
        tokens: int | None = None,
        usd: float | None = None,
        deeper: bool = False,
        now: float | None = None,
    ) -> tuple[Budget, Budget]:
        """Lend a slice to a child. Returns this budget after it, and the child's.

        Parameters
        ----------
        calls, tokens, usd : optional
            Size of the slice; None is all that is left, or no limit if there is no limit.
        deeper : bool
            The child is a recursive call, one level deeper.

        Raises
        ------
        BudgetExceeded
            The slice does not fit.
        """
        asked = (calls, tokens, None if usd is None else nanodollars(usd))
        limits = Limits(
            *(max(0, free) if want is None and free is not None else want for want, free in zip(asked, self._free(), strict=True))
        )
        slice_ = Amount(*(limit or 0 for limit in limits))
        self._admit(slice_, False, now)
        name = f"{self.name}.{self.serial}"
        child = Budget(
            limits,
            None if self.deadline is None else self.deadline - self.last_turn_seconds,
            self.depth + deeper,
            self.max_depth,
            name=name,
        )
        lent = dict(self.lent)
        lent[name] = slice_
        return self._next(serial=self.serial + 1, lent=lent, outstanding=self.outstanding.plus(slice_)), child

    def absorb(self, child: Budget) -> Budget:
        """Take a child's slice back with what is unspent. What the child left open counts as spent.

        Raises
        ------
        ValueError
            The slice is not out: it came back before, or was counted as spent.
        """
        lent, slice_ = self._take_back(child.name)
        open_ = child.outstanding
        return self._next(
            lent=lent,
            outstanding=self.outstanding.minus(slice_),
            spent=self.spent.plus(child.spent).plus(open_),
            usage=self.usage + child.usage + open_.in_full,
        )

    def write_off(self, child: str, proven: Usage | None = None, unproven: Amount | None = None) -> Budget:
        """Count the slice of a child that died as spent, except where the ledger proves less.

        Parameters
        ----------
        child : str
            Name of the child's budget.
        proven : Usage, optional
            What the ledger says its finished calls used.
        unproven : Amount, optional
            Most that can have been in flight when it died; all the rest of its slice where not given.
        """
        lent, slice_ = self._take_back(child)
        proven = proven or Usage()
        known = Amount.of(proven)
        rest = Amount(*(max(0, part) for part in slice_.minus(known)))
        lost = rest if unproven is None else Amount(*(min(pair) for pair in zip(rest, unproven, strict=True)))
        return self._next(
            lent=lent,
            outstanding=self.outstanding.minus(slice_),
            spent=self.spent.plus(known).plus(lost),
            usage=self.usage + proven + lost.in_full,
        )

    # travel

    def to_json(self) -> JsonObject:
        """As a dict of JSON values."""
        value = dict(self.__dict__)
        value["usage"] = self.usage.to_json()
        value["reserved"] = {str(number): list(amount) for number, amount in self.reserved.items()}
        value["lent"] = {name: list(amount) for name, amount in self.lent.items()}
        for name in ("limits", "last_turn_reserve", "spent", "outstanding"):
            value[name] = list(value[name])
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Budget:
        """Read back what `to_json` wrote."""
        amounts = {name: Amount(*value[name]) for name in ("last_turn_reserve", "spent", "outstanding")}
        return cls(
            **{
                **value,
                **amounts,
                "limits": Limits(*value["limits"]),
                "usage": Usage.from_json(value["usage"]),
                "reserved": {int(number): Amount(*amount) for number, amount in value["reserved"].items()},
                "lent": {name: Amount(*amount) for name, amount in value["lent"].items()},
            }
        )

    def __str__(self) -> str:
        calls, tokens, nano = self.limits
        spent = self.spent
        dollars = "price unknown" if self.usage.usd is None else f"${spent.nanodollars / NANO:.4f}"
        parts = [
            counted(spent.calls, "call") if calls is None else f"{spent.calls:,} of {counted(calls, 'call')}",
            counted(spent.tokens, "token") if tokens is None else f"{spent.tokens:,} of {counted(tokens, 'token')}",
            dollars + (f" of ${nano / NANO:.4f}" if nano is not None else ""),
        ]
        seconds = self.seconds_left()
        time_left = f"; {seconds:,.0f} s left" if seconds is not None else ""
        ended = f"; exhausted: {self.exhausted}" if self.exhausted else ""
        return ", ".join(parts) + f"{time_left}; depth {self.depth} of {self.max_depth}{ended}"

    def apart(self) -> Budget:
        """Return an equal value that shares no mapping of open reservations with this one."""
        return self._next(reserved=dict(self.reserved))

    # inside

    def _next(self, **changes: Any) -> Budget:
        # what `dataclasses.replace` does, in a tenth of the time
        following = object.__new__(Budget)
        object.__setattr__(following, "__dict__", self.__dict__ | changes)
        return following

    def _free(self) -> tuple[int | None, int | None, int | None]:
        a, b, c = self.limits
        s0, s1, s2 = self.spent
        o0, o1, o2 = self.outstanding
        k0, k1, k2 = self.last_turn_reserve
        return (
            None if a is None else a - s0 - o0 - k0,
            None if b is None else b - s1 - o1 - k1,
            None if c is None else c - s2 - o2 - k2,
        )

    def _take_back(self, child: str) -> tuple[dict[str, Amount], Amount]:
        lent = dict(self.lent)
        slice_ = lent.pop(child, None)
        if slice_ is None:
            raise ValueError(f"The slice of {child} is not out: it came back before, or it is no child of budget {self.name}.")
        return lent, slice_

    def _admit(self, amount: Amount, last_turn: bool, now: float | None) -> None:
        """Raise BudgetExceeded unless `amount` fits."""
        if amount[0] < 0 or amount[1] < 0 or amount[2] < 0:
            raise InputError(f"A budget cannot set {amount} aside: no part may be below 0.")
        if not last_turn:
            if self.exhausted is not None:
                raise refused(self.exhausted)
            if self.deadline is not None and self.seconds_left(now) == 0.0:
                raise refused(TIME_IS_UP)
        free = calls, tokens, nano = self._free()
        wanted, more, most = amount
        if (calls is None or wanted <= calls) and (tokens is None or more <= tokens) and (nano is None or most <= nano):
            return
        problem = no_room(self, amount, free, self.last_turn_reserve if last_turn else NOTHING)
        if problem is not None:
            raise problem

    def latched(self, reason: str) -> Budget:
        """This budget, exhausted for `reason`. The first reason stays."""
        return self if self.exhausted is not None else self._next(exhausted=reason)
