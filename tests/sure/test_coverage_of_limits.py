"""Do the promises hold? Simulated lakes, seeded: misses stay below delta and three standard deviations of chance.

40 lakes a cell by default, 1,000 with RLM_RAY_TEST_FULL=1.
"""

from __future__ import annotations

import math
import os

import numpy
import pytest

from rlm_ray.sure import betting, promise
from rlm_ray.sure.limits import melded_share
from rlm_ray.sure.shares import mean, share

LAKES = 1_000 if os.environ.get("RLM_RAY_TEST_FULL") == "1" else 40
DELTA = 0.05
TOTAL = 100_000


def allowed(delta: float, lakes: int = LAKES) -> float:
    return delta + 3 * math.sqrt(delta * (1 - delta) / lakes)


def drawn(random: numpy.random.Generator, having: int, read: int) -> numpy.ndarray:
    """Return whether each of `read` records drawn of TOTAL is one of `having`, in the order drawn."""
    yes = numpy.zeros(read, bool)
    yes[: random.hypergeometric(having, TOTAL - having, read)] = True
    return random.permutation(yes)


@pytest.mark.parametrize(("part", "read"), [(0.3, 200), (0.01, 1_000), (0.001, 1_000), (0.0001, 1_000), (0.999, 300)])
def test_a_share_lies_in_its_limits(part: float, read: int) -> None:
    random = numpy.random.default_rng(round(part * 1e6))
    having = round(part * TOTAL)
    missed, widths = 0, []
    for _ in range(LAKES):
        found = share(drawn(random, having, read), numpy.zeros(read, bool), TOTAL, DELTA)
        missed += not found.low - 1e-12 <= having / TOTAL <= found.high + 1e-12
        widths.append(found.high - found.low)
    print(f"share {part}, {read} read: missed {missed / LAKES:.3f}, mean width {numpy.mean(widths):.5f}")
    assert missed / LAKES <= allowed(DELTA)


@pytest.mark.parametrize(("part", "read"), [(0.3, 300), (0.005, 600)])
def test_the_limits_of_a_bettor_hold_at_every_moment(part: float, read: int) -> None:
    random = numpy.random.default_rng(5)
    having, ever = round(part * TOTAL), 0
    for _ in range(LAKES):
        yes = drawn(random, having, read).astype(float)
        looks = [
            betting.limits(betting.without_replacement(yes[:n], TOTAL), DELTA, read)
            for n in range(20, read + 1, max(1, read // 12))
        ]
        ever += any(not low - 1e-9 <= part <= high + 1e-9 for low, high in looks)
    assert ever / LAKES <= allowed(DELTA)


def test_failed_readings_widen_both_sides() -> None:
    random = numpy.random.default_rng(2)
    yes, failed = drawn(random, 30_000, 400), random.random(400) < 0.1
    whole, torn = share(yes, numpy.zeros(400, bool), TOTAL, DELTA), share(yes, failed, TOTAL, DELTA)
    assert torn.low < whole.low
    assert torn.high > whole.high
    assert torn.low <= 0.3 <= torn.high


def test_failures_that_are_not_by_chance_break_nothing() -> None:
    random = numpy.random.default_rng(4)
    missed = 0
    for _ in range(LAKES):
        yes = drawn(random, 20_000, 300)
        failed = yes & (random.random(300) < 0.5)  # half of the yes, and no other, have no answer
        found = share(yes & ~failed, failed, TOTAL, DELTA)
        missed += not found.low <= 0.2 <= found.high
    assert missed / LAKES <= allowed(DELTA)


@pytest.mark.parametrize("spread", [0.2, 3.0])
def test_a_mean_within_its_bounds(spread: float) -> None:
    random = numpy.random.default_rng(7)
    values = numpy.minimum(random.lognormal(0, spread, TOTAL), 100.0)
    missed = 0
    for _ in range(LAKES):
        some = random.choice(values, 300, replace=False)
        found = mean(some, numpy.zeros(300, bool), TOTAL, (0.0, 100.0), DELTA)
        missed += not found.low <= values.mean() <= found.high
    assert missed / LAKES <= allowed(DELTA)


def test_everything_read_is_a_number() -> None:
    yes = numpy.array([True, False, True, False, False])
    found = share(yes, numpy.zeros(5, bool), 5, DELTA)
    assert (found.value, found.low, found.high) == (0.4, 0.4, 0.4)


def test_the_mean_of_the_draws_is_the_share_on_every_path() -> None:
    """Over all orders of a tiny corpus, the mean of the first three draws is exactly the share."""
    import itertools

    for records in ([1, 0, 0, 0], [1, 1, 0, 0, 0]):
        paths = [
            betting.without_replacement(numpy.array(order[:3], float), len(records)) for order in itertools.permutations(records)
        ]
        for at in range(3):
            assert numpy.mean([path.values[at] for path in paths]) == pytest.approx(sum(records) / len(records))
        assert all((path.low <= path.values + 1e-12).all() and (path.values <= path.high + 1e-12).all() for path in paths)


def _worlds(random: numpy.random.Generator) -> dict[str, tuple[numpy.ndarray, numpy.ndarray]]:
    size = 4_000
    worlds = {}
    score = random.beta(0.3, 1.2, size)
    worlds["calibrated"] = score, random.random(size) < score
    yes = random.random(size) < 0.2
    worlds["useless"] = random.random(size), yes
    worlds["inverted"] = 1 - score, random.random(size) < score
    hidden = numpy.where(yes, random.beta(8, 1, size), random.beta(1, 8, size))
    near_zero = yes & (random.random(size) < 0.12)
    hidden[near_zero] = random.beta(1, 60, near_zero.sum())
    worlds["12 % of yes near 0"] = hidden, yes
    worlds["scores 0 and 1"] = (random.random(size) < numpy.where(yes, 0.85, 0.1)) + random.random(size) * 1e-6, yes
    return worlds


@pytest.mark.parametrize("world", ["calibrated", "useless", "inverted", "12 % of yes near 0", "scores 0 and 1"])
def test_a_cut_keeps_its_promise(world: str) -> None:
    random = numpy.random.default_rng(11)
    recall, delta, labels, broken = 0.9, 0.1, 400, 0
    for _ in range(LAKES):
        scores, yes = _worlds(random)[world]
        sample = random.choice(len(scores), labels, replace=False)
        border = promise.cut(scores[sample][yes[sample]].tolist(), recall, delta)
        kept = numpy.ones(len(scores), bool) if border is None else scores >= border
        kept[sample[yes[sample]]] = True
        broken += yes[kept].sum() / yes.sum() < recall - 1e-9
    assert broken / LAKES <= allowed(delta)


def test_recall_from_people() -> None:
    random = numpy.random.default_rng(3)
    sizes, having, read = (400, 3_000, 50_000), (340, 15, 50), (40, 110, 550)
    truth, missed = having[0] / sum(having), 0
    for _ in range(LAKES):
        yes = [int(random.hypergeometric(h, s - h, r)) for h, s, r in zip(having, sizes, read, strict=True)]
        low, high = melded_share(yes, read, sizes, DELTA)
        missed += not low <= truth <= high
    assert missed / LAKES <= allowed(DELTA)
