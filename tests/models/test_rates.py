"""The shared book of an endpoint, on a clock that the tests turn: limits hold whatever workers do, and nobody starves."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_ray.models.contract import Outcome
from rlm_ray.models.leases import LeasedLimiter, LocalAllocator
from rlm_ray.models.rates import LEASE_SECONDS, SILENT_SECONDS, Grant, RateAllocator, Rates, Report


def most_in_a_minute(sent: list[tuple[float, int]]) -> int:
    return max((sum(n for at, n in sent if begin <= at < begin + 60) for begin, _ in sent), default=0)


@given(
    limit=st.sampled_from([1, 2, 7, 60, 1_000]),
    moves=st.lists(
        st.tuples(st.integers(0, 3), st.floats(0.01, 8), st.integers(0, 80), st.floats(0, 1), st.floats(0, LEASE_SECONDS)),
        min_size=20,
        max_size=150,
    ),
)
@settings(max_examples=60, deadline=None)
def test_never_more_requests_in_a_minute_than_the_limit(limit: int, moves: list[tuple[int, float, int, float, float]]) -> None:
    desk, now = RateAllocator(), 0.0
    unused = [0] * 4
    sent: list[tuple[float, int]] = []
    for number, pause, waiting, used, late in moves:
        now += pause
        report = Report(f"w{number}", Rates(requests=limit), 64, waiting=waiting, unused_requests=unused[number])
        granted = desk.exchange(report, now).requests or 0
        out = round(granted * used)
        unused[number] = granted - out
        sent.append((now + late, out))
    assert most_in_a_minute(sent) <= limit


def test_an_unused_block_that_comes_back_late_is_not_used_beside_what_has_filled_up_since() -> None:
    desk, one = RateAllocator(), Report("a", Rates(requests=1), 64, waiting=1)
    assert desk.exchange(one, 0.0).requests == 1  # and it is not used
    assert desk.exchange(replace(one, worker="b"), 62.2).requests == 1
    assert desk.exchange(replace(one, unused_requests=1), 62.5).requests == 0, "b's request is half a second old"
    early = RateAllocator()
    assert [early.exchange(replace(one, unused_requests=n), 3.0 * n).requests for n in (0, 1, 1)] == [1, 1, 1]


def test_a_steady_load_gets_most_of_its_limit() -> None:
    desk, now, out = RateAllocator(), 0.0, 0
    while now < 600:
        grant = desk.exchange(Report("a", Rates(requests=120), 64, waiting=64), now)
        out += grant.requests or 0
        now += grant.retry_seconds
    assert 120 * 10 * 0.9 < out <= 120 * 10


def test_tokens_a_minute_and_one_call_that_is_larger_than_the_block() -> None:
    desk, now, sent = RateAllocator(), 0.0, []
    report = Report("a", Rates(tokens=6_000), 8, waiting=1, waiting_tokens=2_000, first_tokens=2_000)
    while now < 300:
        grant = desk.exchange(report, now)
        sent.append((now, grant.tokens or 0))
        now += grant.retry_seconds
    assert 6_000 * 0.8 < most_in_a_minute(sent) <= 6_000 + 2_000


def test_unused_tokens_come_back() -> None:
    desk = RateAllocator()
    report = Report("a", Rates(tokens=6_000), 8, waiting=1, waiting_tokens=400, first_tokens=400)
    for _ in range(10):
        assert desk.exchange(replace(report, unused_tokens=400), 0.0).tokens == 400
    assert desk.exchange(report, 0.0).tokens == 0


places = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 30), st.floats(0.01, 1), st.booleans(), st.floats(0, 1)), max_size=200
)


@given(limit=st.integers(1, 20), moves=places)
@settings(max_examples=100, deadline=None)
def test_never_more_places_than_the_limit(limit: int, moves: list[tuple[int, int, float, bool, float]]) -> None:
    """Workers fill what they get, finish calls, are refused, leave: together they are never above the limit."""
    desk, now = RateAllocator(), 0.0
    in_flight = [0] * 5
    for number, waiting, pause, refused, ended in moves:
        now += pause
        done = round(in_flight[number] * ended)
        in_flight[number] -= done
        report = Report(f"w{number}", Rates(limit), 16, in_flight[number], waiting, done=done, refused=refused)
        grant = desk.exchange(report, now)
        in_flight[number] += max(0, min(waiting, grant.places - in_flight[number]))
        assert sum(in_flight) <= limit


def test_fewer_places_than_workers_go_round() -> None:
    desk, now, had = RateAllocator(), 0.0, {"a": 0, "b": 0, "c": 0}
    for _ in range(60):
        for name in had:
            now += 0.1
            had[name] += desk.exchange(Report(name, Rates(1), 8, waiting=5), now).places
    assert min(had.values()) > 10


def test_a_refusal_concerns_everybody_and_comes_back_step_by_step() -> None:
    desk = RateAllocator()
    a, b = (Report(name, Rates(), 8, in_flight=8, waiting=8) for name in "ab")
    assert desk.exchange(a, 0.0) == Grant(8, version=0, workers=1)
    version = desk.exchange(b, 0.0).version
    told = desk.exchange(replace(a, refused=True, retry_after=3.0), 1.0)
    assert (told.hold, told.slow, told.version > version) == (3.0, True, True)
    heard = desk.exchange(replace(b, in_flight=4), 2.0)
    assert heard.hold == 2.0
    assert 1 <= desk.allowed < 9
    again = desk.allowed
    desk.exchange(replace(b, in_flight=4, refused=True), 2.0)
    assert desk.allowed == again, "of one burst"
    before = desk.allowed
    desk.exchange(replace(a, done=4), 10.0)
    assert before < desk.allowed <= before + 1
    for second in range(11, 80):
        grant = desk.exchange(replace(a, done=8), float(second))
        desk.exchange(b, float(second))
    assert (grant.slow, grant.places) == (False, 8)


def test_who_is_silent_holds_nothing() -> None:
    desk = RateAllocator()
    assert desk.exchange(Report("dead", Rates(4), 8, waiting=8), 0.0).places == 4
    assert desk.exchange(Report("b", Rates(4), 8, waiting=8), SILENT_SECONDS - 1).places == 0
    assert desk.exchange(Report("b", Rates(4), 8, waiting=8), SILENT_SECONDS + 1).places == 4


def test_the_strictest_of_those_who_are_there() -> None:
    assert Rates(4, None, 100).strictest(Rates(8, 60)) == Rates(4, 60, 100)
    assert Rates(5, 60, None).share(4) == Rates(1, 15, None)
    assert Rates(2).share(4) == Rates(1)
    assert not Rates().limited


def test_a_group_of_calls_costs_one_round_trip() -> None:
    async def main() -> None:
        limiter = LeasedLimiter(16, Rates(), LocalAllocator())

        async def call() -> None:
            await limiter.acquire(100)
            await asyncio.sleep(0)
            limiter.release(Outcome("ok", tokens=50))

        await asyncio.gather(*(call() for _ in range(500)))
        assert limiter.exchanges <= 1

    asyncio.run(main())


@pytest.mark.parametrize("rates", [Rates(3), Rates(requests=3_000), Rates(tokens=600_000), Rates(2, 3_000, 600_000)])
def test_limits_hold_and_everybody_gets_there(rates: Rates) -> None:
    async def main() -> None:
        limiter = LeasedLimiter(16, rates, LocalAllocator())
        most = 0

        async def call() -> None:
            nonlocal most
            await limiter.acquire(100)
            most = max(most, limiter.in_flight)
            await asyncio.sleep(0.001)
            limiter.release(Outcome("ok", tokens=50))

        await asyncio.wait_for(asyncio.gather(*(call() for _ in range(100))), 30)
        assert most <= (rates.concurrency or 16)
        assert limiter.in_flight == 0

    asyncio.run(main())
