"""Limits how fast recursive calls become more: an idle worker of Ray costs nothing, a new one costs seconds of a CPU.

Calls that are over in less than that are sooner done on the workers there are, and so are those that would begin before a
new worker has come out of what is idle; those that wait long for models get as many workers as the width allows, one after
the other.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from rlm_ray.cluster.connect import IDLE_SECONDS

#: Seconds between two new workers for each CPU, where CPUs are idle.
STEP_SECONDS = 0.5
#: What a worker's start costs on a busy machine, in seconds: calls that are over sooner do without another one.
START_SECONDS = 5.0
#: Idle processor seconds in which a worker has earned its start, which costs half of them; and seconds that it takes at least.
START_PROCESSOR, START_LEAST = 5.0, 1.5
#: A machine with less of its time idle than this share is busy.
IDLE_SHARE = 0.1
#: Seconds over which that is looked at.
LOOK_SECONDS = 0.2


class WorkerRamp:
    """Says when one more recursive call of this process may begin.

    Parameters
    ----------
    clock : callable
        Seconds.
    processors : callable
        Idle and all time of this machine's CPUs so far; None where that is not known or says nothing.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, processors: Callable[[], tuple[float, float] | None] | None = None
    ) -> None:
        self._clock = clock
        self._processors = processors or machine_times
        self._most, self._until = 0, 0.0  # calls that were live lately: their workers are there
        self._live, self._ended, self._stepped = 0, 0, 0.0  # the last are since the last step
        self._looked: tuple[float, tuple[float, float] | None] | None = None
        self._idle = 0.0

    def seconds(self, live: int, cpus: int, alone: bool, ahead: float) -> float:
        """Return in how many seconds one more may begin beside so many live; 0: now, and it is taken to begin.

        Parameters
        ----------
        live, cpus : int
            Calls that are live, and CPUs of all machines.
        alone : bool
            There is this machine only, so that its CPUs say how busy all are.
        ahead : float
            Estimated seconds until all waiting work will have started without another worker.
        """
        now = self._clock()
        if now >= self._until:
            self._most, self._looked = live, None
        self._ended += max(0, self._live - live)
        self._live = live
        if live < max(self._most, cpus):
            return self._begin(now)
        since = now - self._stepped
        if alone and self._is_busy(now):
            lasts = since * self._most / max(1, self._ended)  # a call, on average
            wanted = START_SECONDS if lasts < START_SECONDS else START_SECONDS - since
        else:
            comes = max(START_LEAST, START_PROCESSOR / (self._idle * cpus)) if alone else START_LEAST
            wanted = max(STEP_SECONDS / cpus - since, comes - ahead)
        return min(wanted, LOOK_SECONDS) if wanted > 0 else self._begin(now)

    def _begin(self, now: float) -> float:
        self._live += 1
        if self._live > self._most:
            self._stepped, self._ended = now, 0
        if self._live >= self._most:
            self._most, self._until = self._live, now + IDLE_SECONDS
        return 0.0

    def _is_busy(self, now: float) -> bool:
        if self._looked is None:
            self._looked = now, self._processors()
            return True  # not known yet: there is time to look
        since, before = self._looked
        if now - since >= LOOK_SECONDS:
            times = self._processors()
            self._looked = now, times
            if times is None or before is None:
                self._idle = 1.0
            else:
                self._idle = (times[0] - before[0]) / max(times[1] - before[1], 1e-9)
        return self._idle < IDLE_SHARE


def machine_times() -> tuple[float, float] | None:
    """Return the idle and the whole time of this machine's CPUs, in ticks; None where the system does not say."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return float(fields[3] + fields[4]), float(sum(fields))


@functools.cache
def worker_ramp() -> WorkerRamp:
    """Return this process's."""
    return WorkerRamp()
