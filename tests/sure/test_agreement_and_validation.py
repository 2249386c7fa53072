"""What second readings and people's labels say, and what they do not."""

from __future__ import annotations

import pytest

from rlm_ray.sure.agreement import Reread, agreement
from rlm_ray.sure.validation import Stratum, needed, shares_of, validated


def test_nothing_changed_still_allows_some() -> None:
    found = agreement([Reread("yes", 1_000, 25, 0), Reread("no", 1_000, 25, 0)], 0.05)
    assert found.low == 0
    assert 0.05 < found.high < 0.15
    assert "None of 50 changed" in found.sentence()


def test_labels_are_weighed_by_their_sizes() -> None:
    found = agreement([Reread("yes", 100, 25, 25), Reread("no", 900, 25, 0)], 0.05)
    assert found.differ == pytest.approx(0.1)
    assert found.low <= 0.1 <= found.high
    assert found.worst == "yes"


def test_nothing_read_again_says_nothing() -> None:
    assert agreement([], 0.05).sentence() == "Nothing was read a second time."
    assert agreement([Reread("yes", 10, 0, 0)], 0.05).high == 1.0


def test_precision_and_recall_of_people() -> None:
    seen = validated([Stratum("found", 400, 100, 85), Stratum("left", 3_000, 200, 1), Stratum("unread", 50_000, 400, 0)])
    assert seen.precision.low < 0.85 < seen.precision.high
    assert seen.recall.low < seen.recall.value < seen.recall.high <= 1.0
    assert seen.missed.low >= 1
    assert seen.truly.low >= seen.missed.low
    assert "People read 700" in seen.sentence()


def test_all_read_is_certain() -> None:
    seen = validated([Stratum("found", 10, 10, 9), Stratum("left", 5, 5, 1), Stratum("unread", 0, 0, 0)])
    assert (seen.precision.low, seen.precision.high) == (0.9, 0.9)
    assert (seen.recall.low, seen.recall.high) == (0.9, 0.9)


def test_how_much_people_must_read() -> None:
    assert needed(340, 50_000, 0.8) == 2_177
    assert needed(1, 100, 0.99) == 100
    for sample, sizes in ((700, [400, 3_000, 50_000]), (50, [0, 0, 10]), (200, [10, 0, 1_000]), (30, [5, 5, 5])):
        taken = shares_of(sample, sizes)
        assert sum(taken) == min(sample, sum(sizes))
        assert all(some <= size for some, size in zip(taken, sizes, strict=True))
