"""Counts security events by name, for a sandbox, a call and a run.

Beside the three totals, ``denied: WHAT`` counts each different act that was refused. Counts are plain dicts, so that
they can be summed and sent anywhere; `split` takes them apart again for an answer.
"""

from __future__ import annotations

from typing import Any

from rlm_ray.sandbox.wire.channel import clean

DENIED = "denied: "
#: Different refused acts that are remembered of one sandbox.
MAX_DENIED = 100
_MOST = 1_000_000


def fresh() -> dict[str, int]:
    """Return the counts of a sandbox to which nothing has happened."""
    return {"denials": 0, "restarts": 0, "protocol_errors": 0}


def add_denials(events: dict[str, int], told: Any) -> None:
    """Add what a child says was refused: a hint, since root code can hide it, or make it up.

    Examples
    --------
    >>> events = fresh()
    >>> add_denials(events, {"open /etc/passwd": 2, "os.fork": "many"})
    >>> events["denials"], events["denied: open /etc/passwd"]
    (2, 2)
    """
    if not isinstance(told, dict):
        return
    for what, count in list(told.items())[:MAX_DENIED]:
        if type(count) is not int or not 0 < count <= _MOST:
            continue
        events["denials"] += count
        name = DENIED + clean(what, 200)
        if name in events or len(events) < MAX_DENIED:
            events[name] = events.get(name, 0) + count


def add(events: dict[str, int], others: dict[str, int]) -> dict[str, int]:
    """Add counts to counts, in place, and return them."""
    for name, count in others.items():
        events[name] = events.get(name, 0) + count
    return events


def split(events: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the totals, and what was refused by its name, most often first.

    Examples
    --------
    >>> split({"denials": 3, "restarts": 0, "denied: os.kill": 1, "denied: open /etc/passwd": 2})
    ({'denials': 3, 'restarts': 0}, {'open /etc/passwd': 2, 'os.kill': 1})
    """
    totals = {name: count for name, count in events.items() if not name.startswith(DENIED)}
    denied = {name.removeprefix(DENIED): count for name, count in events.items() if name.startswith(DENIED)}
    often = sorted(denied.items(), key=lambda item: -item[1])
    return totals, dict(often[:MAX_DENIED])
