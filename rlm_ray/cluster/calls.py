"""One call on this process's main thread: the root of a run in the driver, a recursive call in its task."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Any

import ray

from rlm_ray import storage
from rlm_ray.cluster.capacity import capacity
from rlm_ray.cluster.ports import RayPorts
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.errors import ClusterError
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.recursion import verifying
from rlm_ray.recursion.driver import Driver
from rlm_ray.recursion.jobs.progress import Progress
from rlm_ray.recursion.ports import Call, CallOutcome
from rlm_ray.settings import Settings
from rlm_ray.worker.meters import meter_of

#: Live recursive calls for each CPU: a process of some 150 MB each.
CALLS_PER_CPU = 4
#: CPU of the task of a recursive call: it mostly waits for its sub-calls.
CALL_CPUS = 0.1
#: Seconds between two reports of progress from a recursive call.
PROGRESS_SECONDS = 1.0


@functools.lru_cache(maxsize=16)
def _manifest(uri: str) -> Manifest:
    return Manifest.load(uri)


def load_corpora(run_dir: str, names: tuple[str, ...]) -> dict[str, Manifest]:
    """Return the manifests of a run, from its directory; kept in this process."""
    return {name: _manifest(storage.join(run_dir, "manifest", name)) for name in names}


def width(settings: Settings) -> int:
    """Return how many recursive calls may be live at once, at any depth: they mostly wait, so several for each CPU."""
    return max(1, CALLS_PER_CPU * capacity(settings))


def run_call(
    call: Call, observe: Callable[[Progress], None] | None = None, corpora: dict[str, Manifest] | None = None
) -> CallOutcome:
    """Run a call to its end, and write down what it came to."""
    with contextlib.closing(call_steps(call, corpora)) as steps:
        while True:
            try:
                progress = next(steps)
            except StopIteration as stop:
                outcome: CallOutcome = stop.value
                return outcome
            if observe is not None:
                observe(progress)


def call_steps(call: Call, corpora: dict[str, Manifest] | None = None) -> Generator[Progress, None, CallOutcome]:
    """Run a call step by step, as `run_call`; close it to end it."""
    run = RunDirectory(call.run_dir)
    if corpora is None:
        about = run.about()
        corpora = load_corpora(call.run_dir, tuple(about.get("corpora", ())))
    ports = make_ports(call.run_id, call.depth, call.settings, sum(manifest.nbytes for manifest in corpora.values()))
    try:
        outcome = yield from Driver.open(call, corpora, ports, run, meter_of(call.budget, call.settings)).steps()
        if call.depth > 0 and call.settings.store_prompts:
            run.save_outcome(call.id, outcome.to_json())
        return outcome
    finally:
        ports.close()


def call_in_thread(call: Call) -> tuple[Future[CallOutcome], Callable[[], None]]:
    """Run a recursive call on a thread of its own, where there is no Ray; return its future and what cancels it."""
    future: Future[CallOutcome] = Future()
    cancelled = threading.Event()

    def observe(_: Progress) -> None:
        if cancelled.is_set():
            raise ClusterError("The recursive call was cancelled.")

    def run() -> None:
        try:
            future.set_result(run_call(call, observe))
        except BaseException as error:  # noqa: BLE001 - it is the future's, whatever it is
            future.set_exception(error)

    threading.Thread(target=run, name=f"rlm-ray-call-{call.id}", daemon=True).start()
    return future, cancelled.set


def verify_call(call: Call, corpora: dict[str, Manifest]) -> tuple[int, verifying.Difference | None]:
    """Replay a call and those below it, as `recursion.verifying.verify`."""
    ports = make_ports(call.run_id, call.depth, call.settings)
    try:
        return verifying.verify(call, corpora, ports, RunDirectory(call.run_dir))
    finally:
        ports.close()


@ray.remote(num_cpus=CALL_CPUS, max_retries=0)
def call_task(call: Call) -> Iterator[Any]:
    """Run a recursive call: its own loop and REPL, on this task's main thread; yields progress, then the outcome."""
    reported, last = None, time.monotonic()
    with contextlib.closing(call_steps(call)) as steps:
        while True:
            try:
                progress = next(steps)
            except StopIteration as stop:
                yield ("outcome", stop.value)
                return
            if time.monotonic() - last >= PROGRESS_SECONDS and (now := progress.spending()) != reported:
                reported, last = now, time.monotonic()
                yield ("progress", *now)


def make_ports(run_id: str, depth: int, settings: Settings, nbytes: int | None = None) -> RayPorts:
    """Return the ports of a loop at `depth`; it begins recursive calls as tasks of `call_task`."""
    return RayPorts(run_id, depth, settings, call_task, call_in_thread, nbytes)
