from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rlm_ray.errors import InputError
from rlm_ray.recursion.jobs.scheduler import Job, Promise, Scheduler, Until
from tests.recursion.local_ports import RecordingPorts


class Work:
    """Something under way that a test ends."""

    def __init__(self) -> None:
        self._value: Any = None
        self._done = False
        self.cancelled = False

    def end(self, value: Any = None) -> None:
        self._value, self._done = value, True

    def done(self) -> bool:
        return self._done

    def result(self) -> Any:
        return self._value

    def cancel(self) -> None:
        self.cancelled = True


class Told:
    """Where a job says how it ended."""

    def __init__(self) -> None:
        self.value: Any = None
        self.error: Exception | None = None
        self.times = 0

    def __call__(self, value: Any, error: Exception | None) -> None:
        self.value, self.error, self.times = value, error, self.times + 1


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    ports = RecordingPorts()
    yield Scheduler(ports)
    ports.close()


def awaits(*futures: Work, count: int | None = None) -> Job:
    yield Until(futures, count)
    return [future.result() for future in futures if future.done()]


def fails(*futures: Work) -> Job:
    yield Until(futures)
    raise InputError("it cannot work")


def test_until_all_some_or_none() -> None:
    first, second = Work(), Work()
    assert Until(()).over()
    assert Until((first, second), 0).over()
    assert not Until((first, second)).over()
    first.end()
    assert Until((first, second), 1).over()
    assert not Until((first, second)).over()
    assert not Until((first, second), 9).over()
    second.end()
    assert Until((first, second)).over()
    assert Until((first, second), 9).over()  # more than there are: all


def test_a_job_that_waits_for_nothing_ends_at_once(scheduler: Scheduler) -> None:
    told = Told()
    scheduler.start(awaits(), told)
    assert (told.value, told.error, told.times) == ([], None, 1)
    assert scheduler.busy == 0


def test_a_job_goes_on_when_what_it_waits_for_is_done(scheduler: Scheduler) -> None:
    work, told = Work(), Told()
    scheduler.start(awaits(work), told)
    assert scheduler.busy == 1
    assert scheduler.poll() is False
    work.end(5)
    assert scheduler.poll() is True
    assert told.value == [5]
    assert scheduler.busy == 0


def test_jobs_do_not_wait_for_each_other(scheduler: Scheduler) -> None:
    works, tolds = [Work() for _ in range(5)], [Told() for _ in range(5)]
    for work, told in zip(works, tolds, strict=True):
        scheduler.start(awaits(work), told)
    works[3].end("fourth")
    scheduler.poll()
    assert [told.times for told in tolds] == [0, 0, 0, 1, 0]
    assert scheduler.busy == 4


def test_an_error_goes_to_the_one_who_asked(scheduler: Scheduler) -> None:
    at_once, later, work = Told(), Told(), Work()
    scheduler.start(fails(), at_once)
    scheduler.start(fails(work), later)
    assert isinstance(at_once.error, InputError)
    work.end()
    scheduler.poll()
    assert isinstance(later.error, InputError)


def test_run_waits_for_threads_and_serves_the_other_jobs(scheduler: Scheduler) -> None:
    gate, told = threading.Event(), Told()
    with ThreadPoolExecutor(2) as pool:
        ports: Any = scheduler._ports
        slow = ports._track(pool.submit(gate.wait, 30))
        fast = ports._track(pool.submit(lambda: 7))
        opener = ports._track(pool.submit(gate.set))
        scheduler.start(awaits(slow), told)
        assert scheduler.run(awaits(fast, opener)) == [7, None]
        assert scheduler.run(awaits(slow)) == [True]
    scheduler.poll()
    assert told.value == [True]


def test_run_raises_the_error_of_the_job(scheduler: Scheduler) -> None:
    with pytest.raises(InputError, match="it cannot work"):
        scheduler.run(fails())


def test_a_job_may_wait_for_the_promise_of_another(scheduler: Scheduler) -> None:
    promise, told = Promise(), Told()

    def waits() -> Job:
        yield Until((promise,))
        return promise.result()

    ports: Any = scheduler._ports
    with ThreadPoolExecutor(1) as pool:
        future = ports._track(pool.submit(lambda: "kept"))
        scheduler.start(awaits(future), lambda value, error: promise.set(value))
        scheduler.start(waits(), told)
        assert scheduler.run(waits()) == ["kept"]
    scheduler.poll()
    assert told.value == ["kept"]


def test_a_promise_is_set_once() -> None:
    promise = Promise()
    assert not promise.done()
    promise.set(1)
    promise.set(2, InputError("too late"))
    assert promise.done()
    assert promise.result() == 1
    broken = Promise()
    broken.set(error=InputError("no"))
    with pytest.raises(InputError):
        broken.result()


def test_cancel_ends_the_jobs_and_what_they_wait_for(scheduler: Scheduler) -> None:
    work, told, closed = Work(), Told(), []

    def job() -> Job:
        try:
            yield Until((work,))
        finally:
            closed.append(True)

    scheduler.start(job(), told)
    scheduler.cancel()
    assert work.cancelled
    assert closed == [True]
    assert told.times == 0
    assert scheduler.busy == 0


def test_a_job_may_start_others(scheduler: Scheduler) -> None:
    told = Told()

    def outer() -> Job:
        scheduler.start(awaits(), told)
        return "outer"
        yield

    assert scheduler.run(outer()) == "outer"
    assert told.times == 1


def test_wait_returns_for_a_descriptor_and_for_time(scheduler: Scheduler) -> None:
    import socket

    left, right = socket.socketpair()
    with left, right:
        scheduler.start(awaits(Work()), Told())
        scheduler.wait((), [left.fileno()], 0.0)
        right.send(b"x")
        scheduler.wait((), [left.fileno()], None)
        assert left.recv(1) == b"x"
