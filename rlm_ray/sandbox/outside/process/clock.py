"""Measures how long a cell has computed, and sets its deadline, as the parent sees them."""

from __future__ import annotations

import time

from rlm_ray.sandbox.outside.events import Limits

#: Seconds between two soft interrupts: one that arrives before the child has begun the cell is lost.
SIGNAL_AGAIN = 0.25


class CellClock:
    """The clock of one cell. It stands still while the cell waits for the parent; the wall cap does not.

    Parameters
    ----------
    limits : Limits
        Its seconds count here.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        now = time.monotonic()
        self.wall_ends = now + limits.wall_seconds
        self._used = 0.0
        self._since: float | None = now
        self._interrupted_ends: float | None = None
        self._signal_again = 0.0

    def wait(self) -> None:
        """The cell waits for the parent from now on."""
        if self._since is not None:
            self._used += time.monotonic() - self._since
            self._since = None

    def compute(self) -> None:
        """The cell computes from now on."""
        if self._since is None:
            self._since = time.monotonic()

    def interrupt(self) -> None:
        """The cell was told to stop and has a little time to do so."""
        if self._interrupted_ends is None:
            self._interrupted_ends = time.monotonic() + self._limits.grace_seconds

    def signal_due(self) -> bool:
        """Tell whether the cell should be told again that it is to stop."""
        now = time.monotonic()
        if self._interrupted_ends is None or now < self._signal_again:
            return False
        self._signal_again = now + SIGNAL_AGAIN
        return True

    def ends(self) -> float:
        """Return when the cell must have ended (monotonic time), as things are."""
        ends = [self.wall_ends]
        if self._interrupted_ends is not None:
            ends.append(self._interrupted_ends)
        if self._since is not None:
            ends.append(self._since + self._limits.soft_seconds - self._used + self._limits.grace_seconds)
        return min(ends)

    def look_again(self) -> float:
        """Return when the clock has something to do next (monotonic time)."""
        return self.ends() if self._interrupted_ends is None else min(self.ends(), self._signal_again)

    def verdict(self) -> str:
        """Say why the cell has to be ended, when its time is over."""
        if time.monotonic() >= self.wall_ends:
            return f"the cell took more than {self._limits.wall_seconds:g} s in all"
        if self._interrupted_ends is not None:
            return "the cell was interrupted and did not stop"
        return f"the cell computed for more than {self._limits.soft_seconds:g} s and could not be interrupted"
