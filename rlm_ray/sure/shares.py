"""Limits of a share or of a mean from readings in the order drawn, with failed readings counted against both sides."""

from __future__ import annotations

from typing import NamedTuple

import numpy

from rlm_ray.sure import betting, limits


class Limits(NamedTuple):
    """Where a share (of 1) or a mean lies, and the best guess between."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval."""
        return (self.high - self.low) / 2


def share(
    yes: numpy.ndarray, failed: numpy.ndarray, total: int, delta: float, planned: int | None = None, *, ended: bool = True
) -> Limits:
    """Return limits of the share of yes among `total` records.

    Parameters
    ----------
    yes, failed : array of bool
        By reading, in the order drawn without replacement. A failed reading is a no for the lower limit and a yes for the
        upper one.
    total : int
        Records that they were drawn from.
    delta : float
        Probability that the share lies outside.
    planned : int, optional
        Readings that were planned.
    ended : bool
        All that were planned are in, and nothing stopped the sample for what it showed: then the exact limits of one look
        may narrow those of every moment, at half of `delta` each.

    Examples
    --------
    >>> yes = numpy.array([True, False, False, False] * 50)
    >>> found = share(yes, numpy.zeros(200, bool), 100_000, 0.05)
    >>> found.value, 0.17 < found.low < 0.21, 0.29 < found.high < 0.34
    (0.25, True, True)
    >>> share(yes, numpy.zeros(200, bool), 200, 0.05)
    Limits(value=0.25, low=0.25, high=0.25)
    """
    read = len(yes)
    least, most = int((yes & ~failed).sum()), int((yes | failed).sum())
    if read == 0 or total == 0:
        return Limits(0.0, 0.0, 1.0 if total else 0.0)
    value = least / max(1, read - int(failed.sum()))
    if read >= total:
        low, high = least / total, most / total
        return Limits(min(max(value, low), high), low, high)
    at = delta / 2 if ended else delta
    low, _ = betting.limits(betting.without_replacement((yes & ~failed).astype(float), total), at, planned)
    _, high = betting.limits(betting.without_replacement((yes | failed).astype(float), total), at, planned)
    if ended:
        low = max(low, limits.at_least(least, read, total, at / 2) / total)
        high = min(high, limits.at_most(most, read, total, at / 2) / total)
    low, high = max(low, least / total), min(high, 1 - (read - most) / total)
    return Limits(min(max(value, low), high), low, high)


def mean(
    values: numpy.ndarray, failed: numpy.ndarray, total: int, bounds: tuple[float, float], delta: float, planned: int | None = None
) -> Limits:
    """Return limits of the mean of numbers within known bounds; a failed reading may be any number within them.

    Without bounds there is no honest limit: one record that was not read could hold any amount.

    Examples
    --------
    >>> numbers = numpy.array([10.0, 20.0, 30.0, 40.0] * 50)
    >>> found = mean(numbers, numpy.zeros(200, bool), 100_000, (0.0, 50.0), 0.05)
    >>> found.value, 20 < found.low < 25 < found.high < 30
    (25.0, True)
    """
    least, most = bounds
    read, width = len(values), most - least
    if read == 0 or total == 0:
        return Limits(0.0, least, most) if total else Limits(0.0, 0.0, 0.0)
    scaled = (values - least) / width
    bottom, top = numpy.where(failed, 0.0, scaled), numpy.where(failed, 1.0, scaled)
    good = values[~failed]
    value = float(good.mean()) if len(good) else (least + most) / 2
    if read >= total:
        low, high = float(bottom.sum()) / total, float(top.sum()) / total
    else:
        low, _ = betting.limits(betting.without_replacement(bottom, total), delta, planned)
        _, high = betting.limits(betting.without_replacement(top, total), delta, planned)
        # what was read is certain
        low = max(low, float(bottom.sum()) / total)
        high = min(high, (float(top.sum()) + total - read) / total)
    low, high = least + low * width, least + high * width
    return Limits(min(max(value, low), high), low, high)
