"""The recursion's ports on Ray."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import logging
import select
import socket
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ray

from rlm_ray.cluster import capacity, connect, shrinking, tasks
from rlm_ray.cluster.futures import StreamFuture
from rlm_ray.cluster.metrics import CALLING
from rlm_ray.cluster.shrinking import ShrinkingFuture
from rlm_ray.cluster.worker_ramp import worker_ramp
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import ClusterError
from rlm_ray.models.client import ChatRequest
from rlm_ray.models.contract import Endpoint, Usage
from rlm_ray.models.rates import Rates
from rlm_ray.recursion.ports import Call, CallOutcome, CodeGroup, Future, LeafGroup, LeafProgress, QueryGroup, ScanGroup
from rlm_ray.settings import Settings
from rlm_ray.worker import queries, threads, work
from rlm_ray.worker.calling import Watched
from rlm_ray.worker.leaves import LeafRun
from rlm_ray.worker.local import LocalFuture

_log = logging.getLogger("rlm_ray")

#: Less data than this is read in a thread of the caller: a task costs more than the reading.
INLINE_BYTES = 4 << 20
#: Corpora of less than this are worked on by threads where the embedded Ray cannot be had.
THREADS_BYTES = 256 << 20
#: What looking at a shard's first records reads at most, about.
LOOK_BYTES = 1 << 20
#: Seconds that a task which was cancelled has to end by itself; then its worker is ended.
CANCEL_SECONDS = 2.0
#: Groups of calls that this process makes while its Ray is starting.
HERE_GROUPS = 4
#: A look at Ray lasts between these two: short while root code is asking, longer when all is quiet.
SHORTEST, LONGEST = 0.001, 0.05


def _nbytes(operation: str, work: Work) -> int:
    """About how much an operation reads: a look at the first records of a shard ends when it has them."""
    first = operation in ("head", "page") and work.shard.traits.first_records
    first = first and all(step.reads_ahead_of(work.shard) for step in work.plan.steps)
    return min(LOOK_BYTES, work.shard.nbytes) if first else work.shard.nbytes


#: Runs a recursive call on a thread, where there is no Ray: its future, and what cancels it.
CallInThread = Callable[[Call], tuple[concurrent.futures.Future[CallOutcome], Callable[[], None]]]


class RayPorts:
    """Implements `recursion.ports.Ports`. One per loop; only the loop's thread calls it.

    Ray gives a task's CPU back while its main thread is in `ray.wait`, so with work in flight short waits alternate
    with a look at the sandbox's socket; without, the thread sleeps on the socket.
    """

    def __init__(
        self, run: str, depth: int, settings: Settings, call_task: Any, call_in_thread: CallInThread, nbytes: int | None = None
    ) -> None:
        self._nbytes = nbytes  # of the corpora of the run
        self._name = f"rlm {run} depth {depth}"
        self._depth = depth
        self._settings = settings
        self._call_in_thread = call_in_thread
        self._call_task = call_task  # given, since a call makes ports of its own
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        # a session that nobody closes must not leave sockets to the garbage collector
        self._sockets = weakref.finalize(self, _close, self._wake_read, self._wake_write)
        self._pause = SHORTEST
        self._looked = 0.0
        self._here = 0  # groups of calls that were made here, though others could have
        self._live: set[ShrinkingFuture | StreamFuture] = set()
        self._threads: set[LocalFuture] = set()  # under way in threads of this process

    @functools.cached_property
    def _no_ray(self) -> bool:
        """Whether the embedded Ray cannot be had, and the data is so little that threads of this process do its work."""
        try:
            connect.connect(self._settings)
        except ClusterError as error:
            if not error.ends_run or not connect.embedded(self._settings) or (self._nbytes or THREADS_BYTES) >= THREADS_BYTES:
                raise
            _log.warning("%s Its work is done by threads of this process, since the data is less than 256 MB.", error)
            return True
        return False

    @functools.cached_property
    def _tasks(self) -> Any:
        """The tasks, once Ray is there: little work alone never starts one."""
        connect.connect(self._settings)
        return tasks

    def capacity(self) -> int:
        """Return the cluster's CPUs, as they were a moment ago."""
        return capacity.look(self._settings)[0]

    def scan(self, group: ScanGroup) -> Future:
        """See `Ports.scan`."""
        if sum(_nbytes(group.operation, item) for item in group.works) <= INLINE_BYTES or self._no_ray:
            return self._local(threads.scan_threads().submit(work.scan, replace(group, tables={})))
        task = self._tasks.scan_task.options(name=f"{self._name} {group.operation}")
        return self._track(ShrinkingFuture(group, task.remote, shrinking.scan_parts))

    def code(self, group: CodeGroup) -> Future:
        """See `Ports.code`."""
        if sum(item.shard.nbytes for item in group.works) <= INLINE_BYTES or self._no_ray:
            return self._local(threads.code_thread().submit(work.code, replace(group, tables={})))
        task = self._tasks.code_task.options(name=f"{self._name} {group.kind}")
        return self._track(ShrinkingFuture(group, task.remote, shrinking.code_parts))

    def query(self, group: QueryGroup) -> Future:
        """See `Ports.query`."""
        if sum(item.shard.nbytes for item in group.works) <= INLINE_BYTES or self._no_ray:
            return self._local(threads.code_thread().submit(queries.query, replace(group, tables={})))
        task = self._tasks.query_task.options(name=f"{self._name} sql")
        return self._track(ShrinkingFuture(group, task.remote, shrinking.query_parts))

    def leaves(self, group: LeafGroup, progress: LeafProgress, spread: bool) -> Future:
        """See `Ports.leaves`."""
        if not spread or self._while_ray_starts() or self._no_ray:
            run = LeafRun(replace(group, tables={}), CALLING, progress)
            return self._local(run.future, run.cancel)
        generator = self._tasks.leaf_task.options(name=f"{self._name} leaves").remote(group)
        return self._track(StreamFuture(generator, progress))

    def _while_ray_starts(self) -> bool:
        """Whether a group of calls is made here, since the embedded Ray is yet to start, which begins now: its calls need not wait.

        Not with a limited rate: a process without the shared limiter cannot see other workers' usage.
        """
        if self._here >= HERE_GROUPS or connect.connected() or Rates.of(self._settings).limited:
            return False
        connect.begin(self._settings)
        self._here += 1
        return True

    def room(self, live: int, ahead: float) -> float:
        """See `Ports.room`."""
        return worker_ramp().seconds(live, *capacity.look(self._settings), ahead)

    def recurse(self, call: Call, progress: Callable[[Usage, Usage | None], None]) -> Future:
        """See `Ports.recurse`."""
        if self._no_ray:
            return self._local(*self._call_in_thread(call))
        name = f"rlm {call.run_id} depth {call.depth} call {call.id}"
        connect.connect(self._settings)
        return self._track(StreamFuture(self._call_task.options(name=name).remote(call), progress))

    def complete(self, request: ChatRequest, meter: Any, settings: Settings, *, root: bool) -> Future:
        """See `Ports.complete`."""
        endpoint = Endpoint.of(settings, root=root)
        client = threads.client(endpoint, settings.concurrency, Rates.of(settings), CALLING.make_limiter)
        return self._local(threads.run_async(Watched(client, self._depth, CALLING.metrics).complete(request, meter)))

    def wait(self, futures: Sequence[Future], descriptors: Sequence[int], timeout: float | None) -> None:
        """See `Ports.wait`."""
        remote = [future for future in futures if isinstance(future, ShrinkingFuture | StreamFuture) and not future.ready]
        local = [future for future in futures if not isinstance(future, ShrinkingFuture | StreamFuture)]
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            if len(remote) + len(local) < len(futures) or any(
                future.done() for future in local
            ):  # a task that is done is in neither
                self._look(remote, 0.0)
                return
            left = None if ends is None else max(0.0, ends - time.monotonic())
            if self._select(descriptors, left if not remote else 0.0):
                self._pause = SHORTEST
                if remote and time.monotonic() - self._looked > LONGEST:
                    self._look(remote, 0.0)
                return
            if remote and self._look(remote, self._pause if left is None else min(self._pause, left)):
                self._pause = SHORTEST
                return
            self._pause = min(LONGEST, self._pause * 2)
            if left is not None and left <= self._pause:
                return

    def close(self) -> None:
        """End what is still under way, and let go of the wake-up sockets."""
        under_way = [future for future in self._live if not future.done()]
        in_threads = list(self._threads)
        for future in (*under_way, *in_threads):
            future.cancel()
        try:
            ends = time.monotonic() + CANCEL_SECONDS
            while under_way and (left := ends - time.monotonic()) > 0:
                self._look(under_way, left)
                under_way = [future for future in under_way if not future.done()]
            for future in under_way:
                future.cancel(force=True)
            concurrent.futures.wait([future.thread_future for future in in_threads], max(0.0, ends - time.monotonic()))
        finally:
            self._live.clear()
            self._sockets()

    def _local(self, future: Any, cancel: Callable[[], None] | None = None) -> LocalFuture:
        tracked = LocalFuture(future, cancel)
        self._threads.add(tracked)
        future.add_done_callback(lambda _: self._ended(tracked))
        return tracked

    def _ended(self, tracked: LocalFuture) -> None:
        self._threads.discard(tracked)
        try:
            self._wake_write.send(b"\0")
        except OSError:
            return  # full: the reader will wake anyway; closed: nobody waits

    def _track(self, future: Any) -> Any:
        self._live = {other for other in self._live if not other.done()} if len(self._live) > 1_000 else self._live
        self._live.add(future)
        return future

    def _select(self, descriptors: Sequence[int], timeout: float | None) -> bool:
        watched: list[Any] = [*descriptors, self._wake_read]
        ready, _, _ = select.select(watched, [], [], timeout)
        if self._wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                self._wake_read.recv(4096)
        return bool(ready)

    def _look(self, remote: list[Any], seconds: float) -> bool:
        self._looked = time.monotonic()
        if not remote:
            return False
        by_reference = {future.reference: future for future in remote}
        ready, _ = ray.wait(
            list(by_reference), num_returns=len(by_reference) if seconds == 0.0 else 1, timeout=seconds, fetch_local=False
        )
        for reference in ready:
            by_reference[reference].advance()
        return bool(ready)


def _close(*sockets: socket.socket) -> None:
    for item in sockets:
        item.close()
