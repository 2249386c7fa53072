"""How fast recursive calls become more."""

from __future__ import annotations

import pytest

from rlm_ray.cluster import worker_ramp
from rlm_ray.cluster.connect import IDLE_SECONDS
from rlm_ray.cluster.worker_ramp import WorkerRamp, machine_times


class Machine:
    """A clock, and CPUs of which a share is idle."""

    def __init__(self) -> None:
        self.now = 100.0
        self.idle = self.all = 0.0
        self.share = 0.0

    def clock(self) -> float:
        return self.now

    def processors(self) -> tuple[float, float]:
        return self.idle, self.all

    def go(self, seconds: float) -> None:
        self.now += seconds
        self.all += seconds
        self.idle += self.share * seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


def grown(
    machine: Machine, ramp: WorkerRamp, seconds: float, ends: float | None = None, alone: bool = True, ahead: float = 100.0
) -> int:
    """How many calls are live after so long, when there are always more to begin and one ends every `ends` seconds."""
    live, until, next_end = 0, machine.now + seconds, machine.now + (ends or seconds + 1)
    while machine.now < until:
        while ramp.seconds(live, 2, alone, ahead) == 0:
            live += 1
        machine.go(0.05)
        if machine.now >= next_end:
            live, next_end = live - 1, next_end + (ends or seconds + 1)
    return live


def test_as_many_as_cpus_begin_at_once(machine: Machine) -> None:
    made = WorkerRamp(machine.clock, machine.processors)
    assert grown(machine, made, 0.1) == 2


def test_idle_cpus_get_more_soon(machine: Machine) -> None:
    machine.share = 0.5
    assert 8 <= grown(machine, WorkerRamp(machine.clock, machine.processors), 3.0) <= 14


def test_short_calls_on_a_busy_machine_get_no_more(machine: Machine) -> None:
    assert grown(machine, WorkerRamp(machine.clock, machine.processors), 30.0, ends=0.25) <= 2


def test_what_begins_soon_anyway_waits_for_no_new_worker(machine: Machine) -> None:
    machine.share = 0.25
    assert grown(machine, WorkerRamp(machine.clock, machine.processors), 3.0, ahead=4.0) == 2
    machine.share = 1.0  # a worker comes sooner where more is idle
    assert grown(machine, WorkerRamp(machine.clock, machine.processors), 3.0, ahead=4.0) > 2
    assert grown(machine, WorkerRamp(machine.clock, machine.processors), 3.0, ahead=1.0) == 2
    assert grown(machine, WorkerRamp(machine.clock, machine.processors), 3.0, ahead=1.0, alone=False) == 2


def test_long_calls_get_more_on_a_busy_machine_too(machine: Machine) -> None:
    assert 6 <= grown(machine, WorkerRamp(machine.clock, machine.processors), 30.0) <= 8


def test_the_cpus_of_one_machine_say_nothing_of_many(machine: Machine) -> None:
    assert grown(machine, WorkerRamp(machine.clock, machine.processors), 2.0, ends=0.25, alone=False) > 5


def test_workers_that_are_there_are_used_at_once(machine: Machine) -> None:
    machine.share = 0.5
    made = WorkerRamp(machine.clock, machine.processors)
    before = grown(machine, made, 3.0)
    machine.share = 0.0
    machine.go(1.0)
    assert grown(machine, made, 0.1) == before
    machine.go(IDLE_SECONDS + 1)
    assert grown(machine, made, 0.1) == 2


def test_the_machine_says_how_busy_it_is() -> None:
    times = machine_times()
    assert times is None or 0 <= times[0] <= times[1]
    assert worker_ramp.worker_ramp() is worker_ramp.worker_ramp()
