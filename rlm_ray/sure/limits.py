"""Exact limits of a count or a share from a sample: hypergeometric for one population, melded for several strata.

References
----------
Clopper and Pearson (1934), Biometrika 26: the limits of a binomial share. Fay, Proschan and Brittain (2015), Biometrics 71:
"Combining one-sample confidence procedures for inference in the two-sample case", the melding of such limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy

from rlm_ray.errors import InputError

#: Draws of a melded limit; from a fixed seed, so that equal counts give equal limits.
DRAWS = 4_000


def at_most(yes: int, read: int, total: int, delta: float) -> int:
    """Return the largest number of yes among `total` that a random sample still allows.

    Parameters
    ----------
    yes, read : int
        What a sample without replacement found, of how many records.
    total : int
        Records that it was drawn from.
    delta : float
        Probability that the number is larger, one-sided.

    Examples
    --------
    >>> at_most(0, 1000, 100_000, 0.025), at_most(3, 3, 3, 0.05)
    (366, 3)
    """
    check_sample(yes, read, total)
    if yes == read:
        return total
    low, high = yes, total - (read - yes)  # low is allowed
    while low < high:
        middle = (low + high + 1) // 2
        if _below(yes, read, middle, total) > delta:
            low = middle
        else:
            high = middle - 1
    return low


def at_least(yes: int, read: int, total: int, delta: float) -> int:
    """Return the smallest number of yes among `total` that a random sample still allows; see `at_most`.

    Examples
    --------
    >>> at_least(0, 1000, 100_000, 0.025), at_least(500, 1000, 1000, 0.05)
    (0, 500)
    """
    return total - at_most(read - yes, read, total, delta)


def _below(yes: int, read: int, having: int, total: int) -> float:
    """Return the probability of at most `yes` in `read` drawn of `total`, of which `having` are yes."""
    least = max(0, read - (total - having))
    if yes < least:
        return 0.0
    first = _choose(having, yes) + _choose(total - having, read - yes) - _choose(total, read) if yes <= having else -math.inf
    if first == -math.inf:
        return 1.0
    # down from `yes`, each term from the one above
    terms = numpy.arange(yes, least, -1, dtype=numpy.float64)
    ratios = terms * (total - having - read + terms) / ((having - terms + 1) * (read - terms + 1))
    return float(min(1.0, math.exp(first) * (1.0 + numpy.cumprod(ratios).sum())))


def _choose(among: int, some: int) -> float:
    return math.lgamma(among + 1) - math.lgamma(some + 1) - math.lgamma(among - some + 1)


def melded(yes: Sequence[int], read: Sequence[int], sizes: Sequence[int], delta: float) -> tuple[float, float]:
    """Return limits of the number of yes in all strata together.

    Parameters
    ----------
    yes, read, sizes : sequence of int
        By stratum: yes found, records read, records there are. A stratum that was read whole is a constant.
    delta : float
        Probability that the number lies outside, both sides together.

    Examples
    --------
    >>> low, high = melded([3, 0], [100, 400], [400, 50_000], 0.05)
    >>> round(low), 400 < high < 700
    (3, True)
    """
    low, high = _drawn(yes, read, sizes)
    return float(numpy.quantile(low.sum(0), delta / 2)), float(numpy.quantile(high.sum(0), 1 - delta / 2))


def melded_share(yes: Sequence[int], read: Sequence[int], sizes: Sequence[int], delta: float) -> tuple[float, float]:
    """Return limits of the share of all yes that lies in the first stratum: with "found" first, the recall.

    Examples
    --------
    >>> low, high = melded_share([90, 0, 0], [100, 200, 400], [400, 3_000, 50_000], 0.05)
    >>> 0 < low < 0.5, high
    (True, 1.0)
    """
    low, high = _drawn(yes, read, sizes)
    bottom = low[0] / numpy.maximum(low[0] + high[1:].sum(0), 1e-9)
    top = high[0] / numpy.maximum(high[0] + low[1:].sum(0), 1e-9)
    return float(numpy.quantile(bottom, delta / 2)), float(numpy.quantile(top, 1 - delta / 2))


def _drawn(yes: Sequence[int], read: Sequence[int], sizes: Sequence[int]) -> tuple[numpy.ndarray, numpy.ndarray]:
    for found, some, size in zip(yes, read, sizes, strict=True):
        check_sample(found, some, size)
    random = numpy.random.default_rng(0)
    k, n, total = (numpy.asarray(values, float)[:, None] for values in (yes, read, sizes))
    shape = (len(yes), DRAWS)

    def beta(a: numpy.ndarray, b: numpy.ndarray) -> numpy.ndarray:
        drawn = random.beta(numpy.maximum(a, 1e-9), numpy.maximum(b, 1e-9), shape)
        share = numpy.where(a <= 0, 0.0, numpy.where(b <= 0, 1.0, drawn))
        # what was seen is certain, and a stratum that was read whole is a constant
        return numpy.where(n >= total, k, numpy.clip(share * total, k, total - (n - k)))

    return beta(k, n - k + 1), beta(k + 1, n - k)


def check_sample(yes: int, read: int, total: int) -> None:
    """Raise InputError where the numbers are no sample."""
    if not 0 <= yes <= read <= total:
        raise InputError(f"{yes} yes in {read} read of {total} is no sample. Give yes <= read <= total.")
