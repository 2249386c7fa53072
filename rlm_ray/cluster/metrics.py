"""Model calls as Ray's metrics: calls, tokens, dollars, seconds, retries, in flight and queued, by depth and model.

`worker.calling` counts on the event loop that makes the calls and hands the counts over about once a second. Ray's agent on
each node exports them for Prometheus, where it is installed (`ray[default]`), with `ray_` before their names.
"""

from __future__ import annotations

import functools
from typing import Any

import ray

from rlm_ray.cluster.limiter import limiter
from rlm_ray.worker.calling import COUNTERS, Calling, Counts, MetricBuffer

#: Upper bounds of the latency's classes, in seconds.
BOUNDS = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 600.0]
TAGS = ("depth", "model")
GAUGES = {
    "in_flight": "Attempts of model calls that were sent and not answered yet.",
    "queued": "Model calls that wait for the limiter, the budget or their next attempt.",
}


def export(depth: int, model: str, counts: Counts) -> None:
    """Hand the counts of one depth and model to Ray; they stay where this process is not connected to one."""
    if not ray.is_initialized():
        return
    tags = {"depth": str(depth), "model": model}
    for name, value in counts.sums.items():
        if value:
            metric(name).inc(value, tags=tags)
            counts.sums[name] = 0.0
    for seconds in counts.seconds:
        metric("call_seconds").observe(seconds, tags=tags)
    counts.seconds.clear()
    metric("in_flight").set(counts.in_flight, tags=tags)
    metric("queued").set(max(0, counts.open - counts.in_flight), tags=tags)


@functools.cache
def metric(name: str) -> Any:
    """Return a metric of this process."""
    from ray.util import metrics

    if name in COUNTERS:
        return metrics.Counter(f"rlm_ray_{name}", description=COUNTERS[name], tag_keys=TAGS)
    if name in GAUGES:
        return metrics.Gauge(f"rlm_ray_{name}", description=GAUGES[name], tag_keys=TAGS)
    description = "Seconds of a model call, from its first attempt to its end."
    return metrics.Histogram(f"rlm_ray_{name}", description=description, boundaries=BOUNDS, tag_keys=TAGS)


#: Model calls of this process on Ray: the limiter that all workers share, and Ray's metrics.
CALLING = Calling(limiter, MetricBuffer(export))
