"""The errors of a budget that an amount does not fit: both numbers, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm_ray.errors import BudgetExceeded
from rlm_ray.recursion.budget.amounts import Amount, show
from rlm_ray.text import counted

if TYPE_CHECKING:
    from rlm_ray.recursion.budget.budget import Budget

TIME_IS_UP = "The time of the run is up. Answer from what is there, or raise max_seconds."

_UNITS = ("calls", "tokens", "usd")


def refused(message: str, *, passing: bool = False) -> BudgetExceeded:
    """Return the error; `passing` where it would fit if what is in flight came back unspent."""
    error = BudgetExceeded(message)
    error.passing = passing
    return error


def too_many_calls(calls: int, left: int, limit: int | None) -> BudgetExceeded:
    """Return why a batch is refused as a whole."""
    return refused(
        f"{counted(calls, 'call was asked for and', 'calls were asked for and')} {max(0, left):,} of {limit:,} "
        f"{'is left' if left == 1 else 'are left'}; none was made. "
        "Ask for fewer (narrow first, or pack more records into a call), or raise max_calls."
    )


def no_room(budget: Budget, amount: Amount, free: tuple[int | None, ...], kept: Amount) -> BudgetExceeded | None:
    """Return why an amount does not fit what is `free` and what is `kept` for it alone, or None where it does."""
    for place, (wanted, room) in enumerate(zip(amount, free, strict=True)):
        if room is None or wanted == 0 or wanted <= room + kept[place]:
            continue
        unit = _UNITS[place]
        in_flight, kept_back = budget.outstanding[place], budget.last_turn_reserve[place] - kept[place]
        left, limit = max(0, room + kept[place]), budget.limits[place] or 0
        parts = [f"spent {show(unit, budget.spent[place])}", f"set aside for what is in flight {show(unit, in_flight)}"]
        if kept_back:
            parts.append(f"kept for the last turn {show(unit, kept_back)}")
        return refused(
            f"Up to {show(unit, wanted)} may be needed and {show(unit, left)} of {show(unit, limit)} are left "
            f"({', '.join(parts)}). Answer from what is there, or raise max_{unit}.",
            passing=wanted <= left + in_flight,
        )
    return None
