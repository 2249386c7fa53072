"""Which records a random sample draws, by their number: a longer sample of the same seed begins with the shorter one."""

from __future__ import annotations

import random
from collections.abc import Sequence


def drawn(total: int, start: int, stop: int, seed: int) -> list[int]:
    """Return what is drawn from place `start` to `stop` when `total` numbers are drawn in random order, without repetition.

    Examples
    --------
    >>> drawn(1_000_000, 0, 3, seed=1) + drawn(1_000_000, 3, 5, seed=1) == drawn(1_000_000, 0, 5, seed=1)
    True
    >>> sorted(drawn(4, 0, 9, seed=2))
    [0, 1, 2, 3]
    """
    choose = random.Random(seed)
    moved: dict[int, int] = {}  # a shuffle from the front, of which only what changed is kept
    order = []
    for place in range(min(stop, total)):
        other = choose.randrange(place, total)
        order.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return order[start:]


def by_shard(ordinals: Sequence[int], counts: Sequence[int]) -> dict[int, list[int]]:
    """Return which shard each number is in, and its number there: `{number of the count: numbers, in order}`.

    Examples
    --------
    >>> by_shard([4, 0, 3], [3, 0, 2])
    {0: [0], 2: [0, 1]}
    """
    found: dict[int, list[int]] = {}
    number, before = 0, 0
    for ordinal in sorted(ordinals):
        while ordinal >= before + counts[number]:
            before += counts[number]
            number += 1
        found.setdefault(number, []).append(ordinal - before)
    return found


def draw(counts: Sequence[int], n: int, seed: int) -> dict[int, list[int]]:
    """Draw `n` records uniformly, without repetition: number of the count -> ordinals there, in order.

    The same counts, number and seed draw the same records.

    Examples
    --------
    >>> draw([3, 0, 2], 9, seed=1)
    {0: [0, 1, 2], 2: [0, 1]}
    """
    total = sum(counts)
    return by_shard(random.Random(seed).sample(range(total), min(n, total)), counts)
