"""The recursion's ports on threads of this process: the real reading, calling and writing, without Ray."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rlm_ray.models.contract import Endpoint
from rlm_ray.models.rates import Rates
from rlm_ray.recursion.ports import Call, CallOutcome, CodeGroup, Future, LeafGroup, QueryGroup, ScanGroup
from rlm_ray.worker import queries, threads, work
from rlm_ray.worker.calling import local_calling
from rlm_ray.worker.leaves import LeafRun

CALLING = local_calling()
Recurse = Callable[[Call], CallOutcome]


class Local:
    """Work in a thread."""

    def __init__(self, future: ThreadFuture[Any], cancel: Callable[[], None]) -> None:
        self._future = future
        self.cancel = cancel
        self.done = future.done
        self.result = future.result


class LocalPorts:
    """Implements `recursion.ports.Ports`, and remembers what it was asked for.

    Parameters
    ----------
    recurse : callable, optional
        Stands for a recursive call: what it comes to, or an error that it raises.
    capacity : int
        CPUs that work is spread over.
    """

    def __init__(self, recurse: Recurse | None = None, capacity: int = 2) -> None:
        self.scans: list[ScanGroup] = []
        self.codes: list[CodeGroup] = []
        self.groups: list[LeafGroup] = []
        self.spread: list[bool] = []
        self.calls: list[Call] = []
        self.cancelled = 0
        self._recurse = recurse
        self._capacity = capacity
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="local-ports")
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def capacity(self) -> int:
        return self._capacity

    def scan(self, group: ScanGroup) -> Future:
        self.scans.append(group)
        return self._local(self._pool.submit(work.scan, group))

    def code(self, group: CodeGroup) -> Future:
        self.codes.append(group)
        return self._local(self._pool.submit(work.code, group))

    def query(self, group: QueryGroup) -> Future:
        return self._local(self._pool.submit(queries.query, group))

    def leaves(self, group: LeafGroup, progress: Callable[..., None], spread: bool) -> Future:
        self.groups.append(group)
        self.spread.append(spread)
        run = LeafRun(group, CALLING, progress)
        return self._local(run.future, run.cancel)

    def room(self, live: int, ahead: float) -> float:
        return 0.0

    def recurse(self, call: Call, progress: Callable[..., None]) -> Future:
        assert self._recurse is not None
        self.calls.append(call)
        return self._local(self._pool.submit(self._recurse, call))

    def complete(self, request: Any, meter: Any, settings: Any, *, root: bool) -> Future:
        client = threads.client(Endpoint.of(settings, root=root), settings.concurrency, Rates.of(settings), CALLING.make_limiter)
        return self._local(threads.run_async(client.complete(request, meter)))

    def wait(self, futures: Sequence[Future], descriptors: Sequence[int], timeout: float | None) -> None:
        if any(future.done() for future in futures):
            return
        ready, _, _ = select.select([self._read, *descriptors], [], [], timeout)
        if self._read in ready:
            self._read.recv(4096)

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        self._read.close()
        self._write.close()

    def _local(self, future: ThreadFuture[Any], cancel: Callable[[], None] | None = None) -> Local:
        future.add_done_callback(self._wake)

        def cancelled() -> None:
            self.cancelled += 1
            if cancel is not None:
                cancel()

        return Local(future, cancelled)

    def _wake(self, _: Any) -> None:
        try:
            self._write.send(b"\0")
        except OSError:
            return
