from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from rlm_ray.models.contract import Usage
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.jobs.progress import Progress, ShardTally, Spending
from rlm_ray.recursion.jobs.scheduler import Promise
from rlm_ray.report.progress import line
from tests.recursion.conftest import World


def usage(calls: int, usd: Any = 0.0) -> Usage:
    return Usage(calls, 100 * calls, 10 * calls, usd=usd)


@pytest.fixture
def progress() -> Progress:
    return Progress(turn=2, max_turns=30, doing="found = llm_each(…)", budget=Budget.start(calls=100).charge(usage(3, 0.03)))


def test_what_is_spent_includes_what_no_budget_was_charged_for_yet(progress: Progress) -> None:
    batch = progress.tally.begin(200)
    assert progress.projected is None, "nothing is known of it yet"
    batch.live = {"0.1": Spending(usage(4, 0.04)), "0.2": Spending(usage(1, 0.01))}
    batch.done = 50
    assert progress.spent == usage(8, pytest.approx(0.08))
    # a quarter is done
    assert progress.projected == usage(3 + 20, pytest.approx(0.23))
    batch.settle("0.1", usage(5, 0.05))
    assert batch.spent() == usage(6, pytest.approx(0.06))
    batch.settle("0.2", None)  # its worker was lost
    assert batch.spent() == usage(6, pytest.approx(0.06))
    progress.tally.end(batch)
    assert progress.spent == usage(3, 0.03), "the budget has been charged for all of it"
    assert progress.projected == progress.spent


def test_recursive_calls_are_projected_by_what_they_say_of_themselves(progress: Progress) -> None:
    batch = progress.tally.begin(10, recursive=True)
    batch.live = {"0.1": Spending(usage(2, 0.02), usage(10, 0.10)), "0.2": Spending(usage(1, 0.01))}
    assert progress.spent == usage(6, pytest.approx(0.06))
    # one of ten says that it will have used ten calls
    assert progress.projected is not None
    assert progress.projected.calls == 3 + 10 * 10
    batch.settle("0.1", usage(6, 0.06))
    batch.done = 1
    progress.budget = progress.budget.charge(usage(6, 0.06))
    assert progress.spent == usage(10, pytest.approx(0.10))
    # what has ended is the better witness
    assert progress.projected == usage(3 + 60, pytest.approx(0.63))


def test_a_price_that_is_unknown_stays_unknown(progress: Progress) -> None:
    batch = progress.tally.begin(4)
    batch.live, batch.done = {"0.1": Spending(usage(1, None))}, 1
    assert progress.spent.usd is None
    assert progress.projected is not None
    assert (progress.projected.usd, progress.projected.calls) == (None, 3 + 4)


def test_the_line(progress: Progress) -> None:
    progress.max_turns = 30
    assert "turn 2/30 · 3 calls · 330 tokens · $0.0300 spent · " in line(progress, 200).plain
    batch = progress.tally.begin(200)
    batch.live, batch.done, batch.failed = {"0.1": Spending(usage(5, 0.05))}, 50, 2
    other = progress.tally.begin(10, recursive=True)
    other.live, other.done = {"0.2": Spending(usage(1, 0.01)), "0.3": Spending()}, 1
    other.settled = usage(1, 0.01)
    told = line(progress, 200).plain
    assert "50 of 200 answers (2 failed) · 1 of 10 recursive calls (2 live) · 9 calls · 990 tokens · $0.0900 spent, about $" in told
    assert "projected · " in told
    assert told.endswith("found = llm_each(…)")
    assert len(line(progress, 200).plain) <= 200


def works(corpus: str | None, *shards: int) -> list[Any]:
    return [SimpleNamespace(corpus=corpus, shard=SimpleNamespace(index=index)) for index in shards]


def test_shards_are_counted_as_their_groups_finish(progress: Progress) -> None:
    progress.shards = tally = ShardTally({"logs": 10, "rows": 5})
    first, second, rows = Promise(), Promise(), Promise()
    assert "shard" not in line(progress, 200).plain
    with tally.scanning([(first, works("logs", 0, 1)), (second, works("logs", 2))]):
        assert "turn 2/30 · scanning 0 of 3 shards · 3 calls" in line(progress, 200).plain
        first.set()
        with tally.scanning([(rows, works(None, 0, 1, 2))]):  # those of a result are none of a corpus
            assert "scanning 2 of 6 shards" in line(progress, 200).plain
            rows.set()
            assert [(scan.done, scan.expected) for scan in tally.under_way()] == [(2, 3), (3, 3)]
        second.set()
    assert "turn 2/30 · 3 of 15 shards scanned · 3 calls" in line(progress, 200).plain
    with tally.scanning([(first, works("logs", 0, 1))]):
        pass
    with tally.scanning([]):
        assert tally.under_way() == []
    assert (tally.scanned, tally.total) == (3, 15), "a shard that is scanned twice is one"


def test_a_scan_that_is_given_up_is_under_way_no_more() -> None:
    tally = ShardTally({"logs": 2})
    done, never = Promise(), Promise()
    done.set()

    def job() -> Any:
        with tally.scanning([(done, works("logs", 0)), (never, works("logs", 1))]):
            yield

    running = job()
    next(running)
    assert len(tally.under_way()) == 1
    running.close()
    assert (tally.under_way(), tally.scanned) == ([], 1)


@pytest.mark.parametrize(
    "verb",
    [
        lambda logs: logs.count_by("text"),
        lambda logs: logs.sample(120),
        lambda logs: logs.map(lambda record: record),
        lambda logs: logs.sql("select count(*) n from context"),
    ],
    ids=["count_by", "sample", "map", "sql"],
)
def test_every_verb_that_reads_shards_tells_of_them(world: Callable[..., World], verb: Callable[[Any], Any]) -> None:
    made = world(shard_bytes=300)
    tally, logs = made.service.scans.tally, made["logs"]
    assert tally.scanned == 0
    logs.head(1)
    assert tally.scanned == 1
    verb(logs)
    assert (tally.scanned, tally.under_way()) == (logs.shards, [])
    assert tally.total == logs.shards + made["rows"].shards + made["docs"].shards
