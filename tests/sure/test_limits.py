"""Exact limits against arithmetic with fractions, a second reader that shares no code with them."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.errors import InputError
from rlm_ray.sure.limits import at_least, at_most, melded, melded_share

SAMPLES = st.integers(1, 30).flatmap(
    lambda total: st.integers(1, total).flatmap(
        lambda read: st.tuples(st.integers(0, read), st.just(read), st.just(total), st.sampled_from([0.0101, 0.0251, 0.1999]))
    )
)


def below(yes: int, read: int, having: int, total: int) -> Fraction:
    ways = sum(math.comb(having, k) * math.comb(total - having, read - k) for k in range(yes + 1))
    return Fraction(ways, math.comb(total, read))


@settings(deadline=None, max_examples=50)
@given(SAMPLES)
def test_the_largest_and_the_smallest_number_that_a_sample_allows(sample: tuple[int, int, int, float]) -> None:
    yes, read, total, delta = sample
    most = max(
        having for having in range(yes, total - (read - yes) + 1) if having == yes or below(yes, read, having, total) > delta
    )
    assert at_most(yes, read, total, delta) == (total if yes == read else most)
    assert at_least(yes, read, total, delta) == total - at_most(read - yes, read, total, delta)


def test_large_populations() -> None:
    assert at_most(0, 1_000, 10_000_000_000, 0.05) / 1e10 == pytest.approx(-math.log(0.05) / 1_000, rel=0.01)
    assert at_most(25_000, 25_000, 1_000_000, 0.05) == 1_000_000
    assert at_least(12_500, 25_000, 1_000_000, 0.025) / 1e6 == pytest.approx(0.4939, abs=0.0005)


@pytest.mark.parametrize("sample", [(3, 2, 10), (-1, 2, 10), (1, 11, 10)])
def test_what_is_no_sample(sample: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="is no sample"):
        at_most(*sample, 0.05)


def test_a_stratum_that_was_read_whole_is_a_constant() -> None:
    assert melded([7], [50], [50], 0.05) == (7.0, 7.0)
    assert melded_share([7, 0], [50, 30], [50, 30], 0.05) == (1.0, 1.0)


def test_no_miss_found_is_no_proof_that_there_is_none() -> None:
    low, high = melded_share([90, 0, 0], [100, 200, 400], [400, 3_000, 50_000], 0.05)
    assert high == 1.0
    assert low < 0.6


def test_one_stratum_melded_is_near_the_exact_limits() -> None:
    low, high = melded([40], [400], [1_000_000], 0.05)
    assert low / 1e6 == pytest.approx(at_least(40, 400, 1_000_000, 0.025) / 1e6, rel=0.03)
    assert high / 1e6 == pytest.approx(at_most(40, 400, 1_000_000, 0.025) / 1e6, rel=0.03)
