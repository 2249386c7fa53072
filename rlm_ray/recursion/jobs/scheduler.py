"""Runs many jobs on one thread: each is a generator that yields its waits.

Ray gives a parent's CPU back only while its main thread waits, so that thread does all the waiting, for every job at
once, alternating with a look at the sandbox's socket.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeAlias

from rlm_ray.recursion.ports import Future, Ports


@dataclass(frozen=True, slots=True)
class Until:
    """A job's wait: until `count` of the futures are done, or all of them if `count` is None."""

    futures: tuple[Future, ...]
    count: int | None = None

    def over(self) -> bool:
        """Whether the wait is over."""
        needed = len(self.futures) if self.count is None else min(self.count, len(self.futures))
        if needed == 0:
            return True
        done = 0
        for future in self.futures:
            done += future.done()
            if done >= needed:
                return True
        return False


Job: TypeAlias = Generator[Until, None, Any]

_P = ParamSpec("_P")


def immediate(answer: Callable[_P, Any]) -> Callable[_P, Job]:
    """Make a job of a function that waits for nothing; it runs when the job does."""

    @functools.wraps(answer)
    def job(*args: _P.args, **kwargs: _P.kwargs) -> Job:
        return answer(*args, **kwargs)
        yield  # makes it a generator

    return job


class Promise:
    """A future that one job sets and others wait for."""

    def __init__(self) -> None:
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None

    def set(self, value: Any = None, error: BaseException | None = None) -> None:
        """Set the value or the error; the first call counts."""
        if not self._done:
            self._done, self._value, self._error = True, value, error

    def done(self) -> bool:
        """Whether it was set."""
        return self._done

    def result(self) -> Any:
        """Return the value, or raise the error."""
        if self._error is not None:
            raise self._error
        return self._value

    def cancel(self) -> None:
        """Do nothing: the job that sets the promise is cancelled instead."""


class Wrapped:
    """A future over another one, on which the ports can wait.

    Attributes
    ----------
    inner : Future
        The work itself.
    """

    def __init__(self, inner: Future) -> None:
        self.inner = inner

    def done(self) -> bool:
        """Whether the work has ended."""
        return self.inner.done()

    def result(self) -> Any:
        """Return the work's result, or raise its error."""
        return self.inner.result()

    def cancel(self) -> None:
        """Ask the work to end."""
        self.inner.cancel()


class Timer:
    """A future that time sets."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def done(self) -> bool:
        """Whether the time has come."""
        return self.seconds() <= 0

    def seconds(self) -> float:
        """Return the seconds until then."""
        return self._at - time.monotonic()

    def result(self) -> None:
        """Nothing."""

    def cancel(self) -> None:
        """Do nothing."""


@dataclass(slots=True)
class _Running:
    job: Job
    until: Until
    ended: Callable[[Any, Exception | None], None]


class Scheduler:
    """Runs jobs until each has ended.

    Parameters
    ----------
    ports : Ports
        Its `wait` is the only place where the thread blocks.
    """

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._running: list[_Running] = []
        self._fatal: Exception | None = None

    def abort(self, error: Exception) -> None:
        """End the run with an error that no job can handle: `check` raises it. The first error stays."""
        self._fatal = self._fatal or error

    def check(self) -> None:
        """Raise the error that the run was aborted with, if there is one."""
        if self._fatal is not None:
            raise self._fatal

    def start(self, job: Job, ended: Callable[[Any, Exception | None], None]) -> None:
        """Begin a job; `ended(value, error)` is called when it is over, possibly at once."""
        self._advance(_Running(job, Until(()), ended))

    def _advance(self, running: _Running) -> None:
        try:
            while running.until.over():
                running.until = next(running.job)
        except StopIteration as stop:
            running.ended(stop.value, None)
        except Exception as error:  # noqa: BLE001 - the job's caller gets every error of it
            running.ended(None, error)
        else:
            self._running.append(running)

    def poll(self) -> bool:
        """Advance every job whose wait is over; return whether any was."""
        waiting, self._running = self._running, []
        moved = False
        for running in waiting:
            if running.until.over():
                moved = True
                self._advance(running)
            else:
                self._running.append(running)
        return moved

    def wait(self, extra: Sequence[Future], descriptors: Sequence[int], timeout: float | None) -> None:
        """Block until something can go on: a job, one of `extra`, a descriptor, or the time."""
        pending = [future for running in self._running for future in running.until.futures if not future.done()]
        # other jobs set the promises, so the ports wait for the work alone
        bare = [future.inner if isinstance(future, Wrapped) else future for future in (*pending, *extra)]
        timers = [max(0.0, future.seconds()) for future in bare if isinstance(future, Timer)]
        until = min([*timers, *([] if timeout is None else [timeout])], default=None)
        self._ports.wait([future for future in bare if not isinstance(future, Promise | Timer)], descriptors, until)

    def look(self) -> None:
        """Advance every job that can go on, without waiting."""
        if self._running:
            self.wait((), (), 0.0)
            while self.poll():
                pass

    def cancel(self) -> None:
        """End every job, and cancel the futures that it waits for."""
        running, self._running = self._running, []
        for item in running:
            for future in item.until.futures:
                future.cancel()
            item.job.close()

    @property
    def busy(self) -> int:
        """Number of jobs that wait."""
        return len(self._running)

    def run(self, job: Job) -> Any:
        """Run one job to its end on this thread, with whatever else is under way."""
        outcome = Promise()
        self.start(job, outcome.set)
        while not outcome.done():
            if not self.poll() and not outcome.done():
                self.wait((), (), None)
        return outcome.result()
