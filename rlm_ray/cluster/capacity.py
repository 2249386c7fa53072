"""The size of the cluster: its CPUs, and whether it is one machine."""

from __future__ import annotations

import os
import time

import ray

from rlm_ray.settings import Settings

#: Seconds for which the number of CPUs is taken to be what it was.
CAPACITY_SECONDS = 1.0


def capacity(settings: Settings) -> int:
    """Return the number of CPUs of the cluster, or of the embedded Ray that would be started."""
    if ray.is_initialized():
        return max(1, int(ray.cluster_resources().get("CPU", 1)))
    return settings.num_cpus or os.cpu_count() or 1


def one_machine() -> bool:
    """Whether the cluster is this machine, as far as is known."""
    if not ray.is_initialized():
        return True
    names = [name for name in ray.cluster_resources() if name.startswith("node:") and "internal" not in name]
    return len(names) <= 1


#: This process's last look at the cluster: whether Ray was there, until when that holds, and what it saw.
_last: tuple[bool, float, int, bool] = (False, 0.0, 1, True)


def look(settings: Settings) -> tuple[int, bool]:
    """Return the number of CPUs and whether there is one machine, as a moment ago: each look is a question to the cluster."""
    global _last
    there, until, cpus, single = _last
    if there != ray.is_initialized() or not there or time.monotonic() >= until:
        cpus, single = capacity(settings), one_machine()
        _last = ray.is_initialized(), time.monotonic() + CAPACITY_SECONDS, cpus, single
    return cpus, single
