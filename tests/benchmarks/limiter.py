"""What the budget and the limiter cost: microseconds a call, leases and calls a second, beside the simplest that could be there.

    python tests/benchmarks/limiter.py [--calls N] [--rounds N]

Prints one JSON object. `microseconds` are the processor time that one call costs the thread that makes it, the best of the
rounds; `share` is the part of a run's time that budget and limiter take together at 1,000 calls a second (the aim is under
0.02). `calls a second` is how fast calls that take no time go through. `leases` are exchanges a second with the actor that all
workers share, beside the same calls to an actor that does nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from rlm_ray.models.contract import OK, Endpoint, Outcome, Usage
from rlm_ray.models.leases import LeasedLimiter, LocalAllocator
from rlm_ray.models.prices import Rate
from rlm_ray.models.rates import Rates, Report
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.settings import Price

AT_ONCE = 64
#: A limit that is looked at on every call, and not reached.
WIDE = Rates(requests=60_000_000, tokens=60_000_000_000)
PROMPT, COMPLETION, USED = 800, 256, Usage(1, 700, 40)


def meter() -> BudgetMeter:
    """A budget with every limit there is."""
    budget = Budget.start(calls=10**9, tokens=10**15, usd=10.0**6, seconds=10.0**6).keep_for_last_turn(
        calls=1, tokens=10_000, usd=0.1
    )
    return BudgetMeter(budget, {"leaf": Rate.of(Price(input=0.4, cached_input=0.1, output=1.6))})


async def spread(calls: int, one: Callable[[], Awaitable[None]]) -> float:
    """Make so many calls, AT_ONCE at a time; return microseconds of processor time for each."""
    left = calls

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await one()

    begun = time.thread_time()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return (time.thread_time() - begun) / calls * 1e6


async def costs(calls: int, limiter_of: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Microseconds of a call that only gives way to others, with a semaphore, a budget, each limiter, and both."""
    paid, semaphore = meter(), asyncio.Semaphore(AT_ONCE // 2)

    async def nothing() -> None:
        await asyncio.sleep(0)

    async def guarded() -> None:
        async with semaphore:
            await asyncio.sleep(0)

    async def metered() -> None:
        reservation = paid.reserve(PROMPT, COMPLETION, "leaf")
        await asyncio.sleep(0)
        paid.settle(reservation, USED)

    found = {"nothing": await spread(calls, nothing)}
    found["semaphore"] = await spread(calls, guarded) - found["nothing"]
    found["budget"] = await spread(calls, metered) - found["nothing"]
    for name, make in limiter_of.items():
        limiter = make()

        async def limited(limiter: Any = limiter) -> None:
            await limiter.acquire(PROMPT + COMPLETION)
            await asyncio.sleep(0)
            limiter.release(Outcome("ok", tokens=USED.tokens))

        async def both(limiter: Any = limiter) -> None:
            await limiter.acquire(PROMPT + COMPLETION)
            reservation = paid.reserve(PROMPT, COMPLETION, "leaf")
            await asyncio.sleep(0)
            limiter.release(Outcome("ok", tokens=USED.tokens))
            paid.settle(reservation, USED)

        await limiter.acquire(1)  # the first word of the desk
        limiter.release(OK)
        found[name] = await spread(calls, limited) - found["nothing"]
        before, begun = limiter.exchanges, time.perf_counter()
        found[f"budget + {name}"] = await spread(calls, both) - found["nothing"]
        found[f"calls a second, {name}"] = calls / (time.perf_counter() - begun)
        found[f"calls an exchange, {name}"] = calls / max(1, limiter.exchanges - before)
    return found


async def exchanges(actor: Any, method: Callable[[Any, int], Any], calls: int, at_once: int = 32) -> float:
    """Calls a second to an actor, so many in flight."""
    numbers = iter(range(calls))

    async def worker() -> None:
        for number in numbers:
            await method(actor, number)

    begun = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return calls / (time.perf_counter() - begun)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    import ray

    from rlm_ray.cluster.limiter import desk_name, limiter, limiter_actor

    class Idle:
        async def exchange(self, name: str, report: Any) -> None:
            return None

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    endpoint = Endpoint("http://127.0.0.1:9/v1")
    limiters = {
        "limiter, no limit": lambda: limiter(endpoint, AT_ONCE, Rates()),
        "limiter, by the minute": lambda: limiter(Endpoint("http://127.0.0.1:8/v1"), AT_ONCE, WIDE),
        "limiter, alone, by the minute": lambda: LeasedLimiter(AT_ONCE, WIDE, LocalAllocator()),
    }

    async def rounds() -> list[dict[str, float]]:
        return [await costs(options.calls, limiters) for _ in range(options.rounds)]

    async def leases() -> dict[str, float]:
        made_of: Any = ray.remote(Idle)
        idle: Any = made_of.options(num_cpus=0, max_concurrency=10_000).remote()
        await idle.exchange.remote("", None)
        shared = limiter_actor()

        def report(number: int) -> Report:
            return Report(f"worker-{number % 50}", Rates(concurrency=500), AT_ONCE, in_flight=5, waiting=5, done=10)

        calls = max(200, options.calls // 10)
        made = await exchanges(shared, lambda actor, n: actor.exchange.remote(desk_name(endpoint), report(n)), calls)
        nothing = await exchanges(idle, lambda actor, n: actor.exchange.remote("", report(n)), calls)
        return {"a second": made, "an actor that does nothing, a second": nothing, "ratio": made / nothing}

    try:
        measured = asyncio.run(rounds())
        best = {name: (max if name.startswith("calls") else min)(found[name] for found in measured) for name in measured[0]}
        together = {name: value for name, value in best.items() if name.startswith("budget +")}

        def part(start: str) -> dict[str, int]:
            return {name.removeprefix(start): round(value) for name, value in best.items() if name.startswith(start)}

        print(
            json.dumps(
                {
                    "cpus": os.cpu_count(),
                    "load": round(os.getloadavg()[0], 1),
                    "microseconds": {name: round(value, 2) for name, value in best.items() if not name.startswith("calls")},
                    "calls an exchange": part("calls an exchange, "),
                    "calls a second": part("calls a second, "),
                    "share at 1,000 calls a second": {name: round(value / 1_000, 4) for name, value in together.items()},
                    "aim": 0.02,
                    "leases": {name: round(value, 2) for name, value in asyncio.run(leases()).items()},
                },
                indent=1,
            )
        )
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
