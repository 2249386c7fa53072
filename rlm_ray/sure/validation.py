"""What people's labels say of a run: precision, recall and what was missed, with limits. Only this speaks of the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rlm_ray.sure.limits import at_least, at_most, melded, melded_share
from rlm_ray.sure.shares import Limits


class Stratum(NamedTuple):
    """One part of the corpus as people saw it.

    Attributes
    ----------
    name : str
        "found", "left" (read and not found) or "unread".
    records : int
        Records that it has.
    read, yes : int
        Records that people read, and those that they say belong to the answer.
    """

    name: str
    records: int
    read: int
    yes: int


class Validation(NamedTuple):
    """What people found. `missed` counts records outside the answer that belong to it; `truly` all that do."""

    precision: Limits
    recall: Limits
    missed: Limits
    truly: Limits
    read: int

    def sentence(self) -> str:
        """Return what a person needs to know."""
        return (
            f"People read {self.read:,}: precision {_percent(self.precision)}; recall {_percent(self.recall)}; "
            f"{round(self.missed.low):,} to {round(self.missed.high):,} were missed."
        )


def validated(strata: Sequence[Stratum], delta: float = 0.05) -> Validation:
    """Return limits of precision and recall from records that people read, blind, of each stratum.

    Parameters
    ----------
    strata : sequence of Stratum
        The first is what was found; the others are what was left and what nobody read.
    delta : float
        Probability that one of them lies outside; for each on its own.

    Examples
    --------
    >>> seen = validated([Stratum("found", 400, 40, 34), Stratum("left", 3_000, 110, 0), Stratum("unread", 50_000, 550, 0)])
    >>> round(seen.precision.value, 2), 0.3 < seen.recall.low < 0.8, seen.recall.high
    (0.85, True, 1.0)
    """
    found, rest = strata[0], strata[1:]
    precision = Limits(
        found.yes / found.read if found.read else 0.0,
        at_least(found.yes, found.read, found.records, delta / 2) / max(1, found.records),
        at_most(found.yes, found.read, found.records, delta / 2) / max(1, found.records),
    )
    columns = [item.yes for item in strata], [item.read for item in strata], [item.records for item in strata]
    low, high = melded_share(*columns, delta)
    guesses = [item.records * item.yes / item.read if item.read else 0.0 for item in strata]
    total = sum(guesses)
    recall = Limits(guesses[0] / total if total else 0.0, low, high)
    bottom, top = (
        melded([item.yes for item in rest], [item.read for item in rest], [item.records for item in rest], delta)
        if rest
        else (0.0, 0.0)
    )
    all_low, all_high = melded(*columns, delta)
    return Validation(
        precision,
        recall,
        Limits(sum(guesses[1:]), bottom, top),
        Limits(total, all_low, all_high),
        sum(item.read for item in strata),
    )


def needed(found: int, unread: int, recall: float) -> int:
    """Return how many of the unread people must read, without finding one, to show a recall.

    Examples
    --------
    >>> needed(340, 50_000, 0.8)
    2177
    """
    return min(unread, math.ceil(3.7 * unread * recall / max(1e-9, (1 - recall) * max(1, found))))


def shares_of(sample: int, sizes: Sequence[int]) -> list[int]:
    """Return how many records of each stratum people should read: most of what nobody read, all of what is smaller than its part.

    Examples
    --------
    >>> shares_of(700, [400, 3_000, 50_000]), shares_of(200, [10, 0, 1_000])
    ([70, 119, 511], [10, 0, 190])
    """
    taken = [min(size, int(sample * part)) for size, part in zip(sizes, (0.10, 0.17, 0.73), strict=True)]
    for index in (2, 1, 0):  # what a small stratum leaves goes to the unread first
        taken[index] += max(0, min(sample - sum(taken), sizes[index] - taken[index]))
    return taken


def _percent(limits: Limits) -> str:
    return f"{100 * limits.low:.0f} to {100 * limits.high:.0f} %"
