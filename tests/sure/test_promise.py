"""The least yes of a promise, against the binomial distribution with fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.errors import InputError
from rlm_ray.sure.promise import cut, least_yes, promised_by, rank_of


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 80), st.sampled_from([0.5, 0.75, 0.9, 0.95]), st.sampled_from([0.01, 0.05, 0.1]))
def test_the_rank_is_the_largest_that_keeps_the_promise(yes: int, recall: float, delta: float) -> None:
    missed = 1 - Fraction(recall)

    def below(rank: int) -> Fraction:
        return sum((math.comb(yes, k) * missed**k * (1 - missed) ** (yes - k) for k in range(rank)), Fraction(0))

    expected = max(rank for rank in range(yes + 1) if below(rank) <= Fraction(delta))
    assert rank_of(yes, recall, delta) == expected


def test_the_least_yes() -> None:
    for recall in (0.8, 0.9, 0.95, 0.99):
        least = least_yes(recall, 0.05)
        assert least is not None
        assert rank_of(least, recall, 0.05) == 1
        assert rank_of(least - 1, recall, 0.05) == 0
        assert promised_by(least, 0.05) >= recall > promised_by(least - 1, 0.05)


def test_a_recall_of_one_is_never_promised() -> None:
    assert least_yes(1.0, 0.05) is None
    assert rank_of(10_000, 1.0, 0.05) == 0
    assert cut([0.5] * 1_000, 1.0, 0.05) is None


def test_no_yes_and_wrong_targets() -> None:
    assert cut([], 0.9, 0.05) is None
    assert promised_by(0, 0.05) == 0.0
    with pytest.raises(InputError, match=r"recall = 1\.5"):
        rank_of(10, 1.5, 0.05)
