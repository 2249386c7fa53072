"""A cut of a ranking that promises a recall: keep what stands above the r-th lowest of the sampled yes.

It fails only where fewer than r of the sampled yes lie among the lowest `1 - recall` of all yes, which is a binomial tail.
Nothing is searched, so nothing is paid for having looked: stopping on the number of yes is free, stopping because the cut
looks good is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlm_ray.errors import InputError

RECALL, DELTA = 0.9, 0.05


def rank_of(yes: int, recall: float, delta: float) -> int:
    """Return which sampled yes from below sets the cut: the r-th; 0 where there are too few to promise anything.

    Examples
    --------
    >>> [rank_of(yes, 0.9, 0.05) for yes in (28, 29, 46, 61)]
    [0, 1, 2, 3]
    """
    check_promise(recall, delta)
    missed, rank, tail = 1 - recall, 0, 0.0
    while rank < yes:
        log = math.lgamma(yes + 1) - math.lgamma(rank + 1) - math.lgamma(yes - rank + 1)
        tail += math.exp(log + rank * math.log(missed) + (yes - rank) * math.log(recall)) if recall < 1 else 1.0
        if tail > delta:
            break
        rank += 1
    return rank


def least_yes(recall: float, delta: float) -> int | None:
    """Return how many sampled yes a promise needs at least; None where none suffice (a recall of 1).

    Examples
    --------
    >>> [least_yes(recall, 0.05) for recall in (0.8, 0.9, 0.95, 0.99, 1.0)]
    [14, 29, 59, 299, None]
    """
    check_promise(recall, delta)
    return None if recall >= 1 else math.ceil(math.log(delta) / math.log(recall))


def promised_by(yes: int, delta: float) -> float:
    """Return the recall that so many sampled yes can promise at most.

    Examples
    --------
    >>> round(promised_by(10, 0.05), 2)
    0.74
    """
    return 0.0 if yes == 0 else delta ** (1 / yes)


def cut(yes_scores: Sequence[float], recall: float, delta: float) -> float | None:
    """Return the score from which on records are kept; None where everything must be.

    Parameters
    ----------
    yes_scores : sequence of float
        Scores of the yes in a uniform sample; no two records with different content share one.

    Examples
    --------
    >>> cut([score / 100 for score in range(46)], 0.9, 0.05)
    0.01
    >>> cut([0.5] * 10, 0.9, 0.05) is None
    True
    """
    rank = rank_of(len(yes_scores), recall, delta)
    return sorted(yes_scores)[rank - 1] if rank else None


def check_promise(recall: float, delta: float) -> None:
    """Raise InputError where there is no such promise."""
    if not (0 < recall <= 1 and 0 < delta < 1):
        raise InputError(f"recall = {recall!r}, delta = {delta!r}: give a recall above 0, at most 1, and a delta between 0 and 1.")
