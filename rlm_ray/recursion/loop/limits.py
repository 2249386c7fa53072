"""The limits that end a call whatever its root model does: time, money, and code that keeps attacking the walls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rlm_ray.recursion.loop.loop import LimitReached
from rlm_ray.text import counted

if TYPE_CHECKING:
    from rlm_ray.recursion.budget.budget import Budget
    from rlm_ray.settings import Settings

MAX_DENIALS = 50
MAX_RESTARTS = 10


def reached(budget: Budget, events: Mapping[str, int], settings: Settings) -> LimitReached | None:
    """Return the limit that a call has reached, or None.

    Parameters
    ----------
    events : mapping of str to int
        Security events so far.
    """
    denials, restarts = events.get("denials", 0), events.get("restarts", 0)
    if budget.seconds_left() == 0.0:
        over = counted(settings.max_seconds, "second of the run is", "seconds of the run are")
        return LimitReached("time", f"The {over} over.")
    if budget.exhausted is not None:
        return LimitReached("budget", f"The budget is spent: {budget.exhausted}")
    if denials > MAX_DENIALS or restarts > MAX_RESTARTS:
        tried = f"root code was denied {counted(denials, 'time')} and its sandbox restarted {counted(restarts, 'time')}"
        return LimitReached("security", f"The run is stopped: {tried}.")
    return None
