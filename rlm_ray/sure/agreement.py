"""How many judgements changed on a second reading, and what that says: a floor of the error, never a correction.

Two readings give two numbers; the truth, two error rates and how far errors repeat are four. So the share that differs says
that at least half of it is wrong, and errors that repeat do not show at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rlm_ray.sure.limits import melded


class Reread(NamedTuple):
    """One label's second readings: its records, how many were read again, and how many of them changed."""

    label: str
    records: int
    read: int
    changed: int


class Agreement(NamedTuple):
    """What second readings showed.

    Attributes
    ----------
    read, changed : int
        Records that were read again, and those whose answer changed.
    differ : float
        Share of all records whose answer would change, each label weighed by its size.
    low, high : float
        Limits of `differ`.
    worst : str
        The label of which most changed: the one to read again.
    """

    read: int
    changed: int
    differ: float
    low: float
    high: float
    worst: str

    @property
    def least_wrong(self) -> float:
        """Share of readings that are wrong at least, if errors do not repeat more than they differ."""
        return self.low / 2

    def sentence(self) -> str:
        """Return what a person needs to know.

        Examples
        --------
        >>> for line in agreement([Reread("yes", 100, 25, 3), Reread("no", 900, 25, 1)], 0.05).sentence().split(": "):
        ...     print(line)
        4 of 50 changed on a second reading, most of them "yes"
        about 4.8 % of the answers would change (0.8 to 20.1 %), so at least 0.4 % are wrong. Errors that repeat do not show.
        """
        if not self.read:
            return "Nothing was read a second time."
        if not self.changed:
            return (
                f"None of {self.read} changed on a second reading: at most {100 * self.high:.1f} % of the answers would change. "
                "Errors that repeat do not show."
            )
        return (
            f'{self.changed} of {self.read} changed on a second reading, most of them "{self.worst}": about '
            f"{100 * self.differ:.1f} % of the answers would change ({100 * self.low:.1f} to {100 * self.high:.1f} %), so at least "
            f"{100 * self.least_wrong:.1f} % are wrong. Errors that repeat do not show."
        )


def agreement(rereads: Sequence[Reread], delta: float) -> Agreement:
    """Return how far two readings agree, by label.

    Parameters
    ----------
    rereads : sequence of Reread
    delta : float
        Probability that the share that would change lies outside its limits.
    """
    known = [item for item in rereads if item.records]
    total = sum(item.records for item in known)
    read, changed = sum(item.read for item in known), sum(item.changed for item in known)
    if not read:
        return Agreement(0, 0, 0.0, 0.0, 1.0, "")
    differ = sum(item.records * item.changed / item.read for item in known if item.read) / total
    low, high = melded([item.changed for item in known], [item.read for item in known], [item.records for item in known], delta)
    worst = max(known, key=lambda item: (item.changed / item.read if item.read else 0.0, item.label))
    return Agreement(read, changed, differ, low / total, high / total, worst.label if worst.changed else "")
