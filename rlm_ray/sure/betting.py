"""Limits of a mean that hold at every moment of a sample: bets against each mean, on draws without replacement.

A bettor who starts with 1 and bets that the mean is above m can win 2/delta with probability delta/2 at most if it is not.
So the smallest mean whose bettor never won that much is a lower limit, also for a caller who looks after each draw and stops
when they like.

References
----------
Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting", JRSS B 86.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy

Array = numpy.ndarray

#: Sizes of the bets, around the one that would be best for the planned number of draws; their mean is the evidence.
_SIZES = numpy.array([0.5, 1.0, 2.0])
_STEPS = 30


class Draws(NamedTuple):
    """Draws whose mean, given those before, is the mean that is looked for; each with its bounds, known before it."""

    values: Array
    low: Array
    high: Array


def without_replacement(values: Array, total: int) -> Draws:
    """Return uniform draws from `total` values in [0, 1], in the order drawn, as `limits` takes them.

    Examples
    --------
    >>> draws = without_replacement(numpy.array([1.0, 0.0]), 4)
    >>> draws.values.tolist(), draws.low.tolist(), draws.high.tolist()
    ([1.0, 0.25], [0.0, 0.25], [1.0, 1.0])
    """
    seen = numpy.concatenate([[0.0], numpy.cumsum(values)[:-1]])
    left = total - numpy.arange(len(values))
    return Draws((seen + left * values) / total, seen / total, (seen + left) / total)


def limits(draws: Draws, delta: float, planned: int | None = None) -> tuple[float, float]:
    """Return limits of the mean that hold at every moment at once.

    Parameters
    ----------
    draws : Draws
        In the order drawn.
    delta : float
        Probability that the mean ever lies outside, both sides together.
    planned : int, optional
        Draws that were planned at the start; it tunes the bets and changes no promise.

    Examples
    --------
    >>> some = numpy.array([0.0, 1.0, 0.0, 0.0] * 100)
    >>> low, high = limits(without_replacement(some, 100_000), 0.05)
    >>> 0.18 < low < 0.25 < high < 0.33
    True
    """
    if not len(draws.values):
        return 0.0, 1.0
    planned = planned or len(draws.values)
    values, low, high = draws
    times = numpy.arange(1, len(values) + 1)
    before = (numpy.cumsum(values) - values) / numpy.maximum(times - 1, 1)
    squares = (values - before) ** 2
    spread = (0.025 * (high[0] - low[0]) ** 2 + numpy.cumsum(squares) - squares) / times
    sizes = numpy.multiply.outer(_SIZES, numpy.sqrt(2 * numpy.log(2 / delta) / (planned * spread)))
    least, most = float(low.max()), float(high.min())
    return _limit(values, low, sizes, delta, least, most), -_limit(-values, -high, sizes, delta, -most, -least)


def _limit(values: Array, low: Array, sizes: Array, delta: float, least: float, most: float) -> float:
    """Return the largest mean that is ruled out from below."""
    wanted = numpy.log(2 / delta)

    def ruled_out(mean: float) -> bool:
        if mean <= low.max():
            return mean < low.max() - 1e-15
        bets = numpy.minimum(sizes, 0.97 / (mean - low))
        evidence = numpy.cumsum(numpy.log1p(bets * (values - mean)), axis=1)
        peak = evidence.max(0)
        return bool((peak + numpy.log(numpy.exp(evidence - peak).mean(0))).max() >= wanted)

    bottom, top = least, most
    for _ in range(_STEPS):
        middle = (bottom + top) / 2
        bottom, top = (middle, top) if ruled_out(middle) else (bottom, middle)
    return bottom
