"""The recursion's ports on threads of this process, without Ray: the same reading, calling and writing as in a cluster."""

from __future__ import annotations

import concurrent.futures
import contextlib
import select
import socket
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.errors import ClusterError
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.models.client import ChatRequest
from rlm_ray.models.contract import Endpoint, Usage
from rlm_ray.models.rates import Rates
from rlm_ray.recursion.driver import Driver
from rlm_ray.recursion.ports import Call, CallOutcome, CodeGroup, Future, LeafGroup, LeafProgress, QueryGroup, ScanGroup
from rlm_ray.settings import Settings
from rlm_ray.worker import queries, threads, work
from rlm_ray.worker.calling import Watched, local_calling
from rlm_ray.worker.leaves import LeafRun
from rlm_ray.worker.meters import meter_of

#: One limiter and one buffer of counts for all local ports of a process.
CALLING = local_calling()
#: Seconds that work which was cancelled has to end, when the ports are closed.
CLOSE_SECONDS = 10.0

#: Gets what a recursive call used so far, and what it will have used.
CallProgress = Callable[[Usage, Usage | None], None]


class LocalFuture:
    """Work in a thread of this process."""

    def __init__(self, future: concurrent.futures.Future[Any], cancel: Callable[[], None] | None = None) -> None:
        self.thread_future = future
        self._cancel = cancel

    def done(self) -> bool:
        """Whether it has ended."""
        return self.thread_future.done()

    def result(self) -> Any:
        """Return its value, or raise its error."""
        try:
            return self.thread_future.result()
        except concurrent.futures.CancelledError:
            raise ClusterError("The work was cancelled before it began.") from None

    def cancel(self) -> None:
        """Ask it to end."""
        if self._cancel is not None:
            self._cancel()  # it ends by itself, with an account of what it spent
        else:
            self.thread_future.cancel()


class LocalPorts:
    """Implements `recursion.ports.Ports` on threads. One per loop; only the loop's thread calls it.

    For tests and for trying the recursion without a cluster: it shares no limiter with other processes and exports no metrics.

    Parameters
    ----------
    capacity : int
        CPUs that the recursion spreads work over.
    """

    def __init__(self, capacity: int = 2) -> None:
        self._capacity = capacity
        self._live: set[LocalFuture] = set()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        # a caller that forgets to close them must not leave sockets to the garbage collector
        self._sockets = weakref.finalize(self, _close, self._wake_read, self._wake_write)

    def capacity(self) -> int:
        """See `Ports.capacity`."""
        return self._capacity

    def scan(self, group: ScanGroup) -> Future:
        """See `Ports.scan`."""
        return self._track(threads.scan_threads().submit(work.scan, replace(group, tables={})))

    def code(self, group: CodeGroup) -> Future:
        """See `Ports.code`."""
        return self._track(threads.code_thread().submit(work.code, replace(group, tables={})))

    def query(self, group: QueryGroup) -> Future:
        """See `Ports.query`."""
        return self._track(threads.code_thread().submit(queries.query, replace(group, tables={})))

    def leaves(self, group: LeafGroup, progress: LeafProgress, spread: bool) -> Future:
        """See `Ports.leaves`. There is one place only: `spread` changes nothing."""
        run = LeafRun(replace(group, tables={}), CALLING, progress)
        return self._track(run.future, run.cancel)

    def room(self, live: int, ahead: float) -> float:
        """See `Ports.room`: a thread costs little, so a call may begin at once."""
        return 0.0

    def recurse(self, call: Call, progress: CallProgress) -> Future:
        """See `Ports.recurse`: a loop of its own, on a thread of its own, with ports of its own."""
        cancelled = threading.Event()
        future: concurrent.futures.Future[CallOutcome] = concurrent.futures.Future()

        def run() -> None:
            try:
                future.set_result(self.run_call(call, progress, cancelled))
            except BaseException as error:  # noqa: BLE001 - it is the future's, whatever it is
                future.set_exception(error)

        threading.Thread(target=run, name=f"rlm-ray-call-{call.id}", daemon=True).start()
        return self._track(future, cancelled.set)

    def run_call(self, call: Call, progress: CallProgress, cancelled: threading.Event) -> CallOutcome:
        """Run a recursive call to its end. A test may override it to say what a call comes to.

        Raises
        ------
        ClusterError
            The call was cancelled.
        """
        run = RunDirectory(call.run_dir)
        corpora = {name: Manifest.load(run.path("manifest", name)) for name in run.about().get("corpora", ())}
        ports = LocalPorts(self._capacity)
        try:
            driver = Driver.open(call, corpora, ports, run, meter_of(call.budget, call.settings))
            with contextlib.closing(driver.steps()) as steps:
                while True:
                    try:
                        now = next(steps)
                    except StopIteration as stop:
                        outcome: CallOutcome = stop.value
                        break
                    if cancelled.is_set():
                        raise ClusterError("The recursive call was cancelled.")
                    progress(*now.spending())
            if call.settings.store_prompts:
                run.save_outcome(call.id, outcome.to_json())
            return outcome
        finally:
            ports.close()

    def complete(self, request: ChatRequest, meter: Any, settings: Settings, *, root: bool) -> Future:
        """See `Ports.complete`."""
        client = threads.client(Endpoint.of(settings, root=root), settings.concurrency, Rates.of(settings), CALLING.make_limiter)
        return self._track(threads.run_async(Watched(client, 0, CALLING.metrics).complete(request, meter)))

    def wait(self, futures: Sequence[Future], descriptors: Sequence[int], timeout: float | None) -> None:
        """See `Ports.wait`."""
        if any(future.done() for future in futures):
            return
        watched: list[Any] = [*descriptors, self._wake_read]
        ready, _, _ = select.select(watched, [], [], timeout)
        if self._wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                self._wake_read.recv(4096)

    def close(self) -> None:
        """See `Ports.close`: cancel what is under way, wait until it has ended, and let go of the wake-up sockets."""
        under_way = list(self._live)
        for future in under_way:
            future.cancel()
        concurrent.futures.wait([future.thread_future for future in under_way], CLOSE_SECONDS)
        self._sockets()

    def _track(self, future: concurrent.futures.Future[Any], cancel: Callable[[], None] | None = None) -> Future:
        tracked = LocalFuture(future, cancel)
        self._live.add(tracked)
        future.add_done_callback(lambda _: self._ended(tracked))
        return tracked

    def _ended(self, tracked: LocalFuture) -> None:
        self._live.discard(tracked)
        try:
            self._wake_write.send(b"\0")
        except OSError:
            return  # full: the reader will wake anyway; closed: nobody waits


def _close(*sockets: socket.socket) -> None:
    for item in sockets:
        item.close()
