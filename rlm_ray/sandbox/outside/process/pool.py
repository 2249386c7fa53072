"""Starting children, keeping one locked and idle, watching the busy ones, and burying the dead.

All of it on one long-lived thread of this process: the death signal of a child follows the *thread* that started
it. The thread also ends a child that passes its memory, its threads or its wall time, even when nobody listens to it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from rlm_ray.sandbox.inside import boot
from rlm_ray.sandbox.outside.process import bundle, launch
from rlm_ray.sandbox.outside.process.connection import readable
from rlm_ray.sandbox.wire import shared_output
from rlm_ray.settings import Isolation

#: Locked children that wait for a run, for each kind.
IDLE = 1
#: Seconds between two looks at children that run a cell, and at those that wait for one.
WATCH, WATCH_IDLE = 0.05, 1.0
MAX_THREADS = 400
#: Resident bytes that a child may have on top of its budget: what it started with.
INTERPRETER = 64 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """What children of one pool have in common, since it cannot be changed after their start."""

    level: Isolation
    memory: int
    tables: bool = False


class Bounds(NamedTuple):
    """Until when a child may run (monotonic time), or how much processor time it may have used in all."""

    wall_ends: float | None
    processor: float | None


class Child:
    """One process and the socket to it. Only the pool's thread starts and buries it."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.socket, self.theirs = socket.socketpair()
        self.socket.setblocking(False)
        self.output = shared_output.make()
        self.child_output = os.dup(self.output)  # as `theirs`: for the child, touched by the pool's thread alone
        self.process: subprocess.Popen[bytes] | None = None
        self.verdict: str | None = None
        self.could_not_start = False
        self.bounds: Bounds | None = None
        self._lock = threading.Lock()
        self._gone = False

    @property
    def pid(self) -> int:
        """Process id; 0 before it is started."""
        return self.process.pid if self.process is not None else 0

    def kill(self, verdict: str) -> None:
        """End the process and everything of its group; the first verdict stands."""
        with self._lock:
            self.verdict = self.verdict or verdict
            if self.process is not None and not self._gone:
                for end in (os.killpg, os.kill):  # without walls it may have left its group
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        end(self.process.pid, signal.SIGKILL)

    def interrupt(self) -> None:
        """Send the soft interrupt."""
        with self._lock:
            if self.process is not None and not self._gone:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.process.pid, signal.SIGINT)

    def wait(self) -> int:
        """Wait for the end of the process, which must have been killed, and return its exit code."""
        if self.process is None:
            return 0
        with contextlib.suppress(ChildProcessError):  # this was here before, or somebody takes every child's end
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:  # from here on its number may be another's, who must not be killed
            self._gone = True
            return self.process.wait()

    def exit_code(self, seconds: float = 0.0) -> int | None:
        """Return how the process ended, by itself or killed; None while it runs. It keeps its number until `wait`."""
        if self.process is None:
            return None
        try:
            handle = os.pidfd_open(self.process.pid)
            try:
                readable(handle, seconds)
            finally:
                os.close(handle)
            ended = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except (ProcessLookupError, ChildProcessError):  # somebody takes every child's end
            return self.process.poll() or 0
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def wipe(self) -> None:
        """Forget what was printed: a cell begins."""
        shared_output.wipe(self.output)

    def printed(self) -> str:
        """Return what the cell has printed so far, not cleaned yet."""
        return shared_output.read(self.output)

    def close(self) -> None:
        """Close this side's descriptors."""
        if self.output >= 0:
            self.socket.close()
            os.close(self.output)
            self.output = -1

    def cpu_seconds(self) -> float:
        """Processor time that the process has used; 0 where it cannot be read."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return 0.0

    @property
    def wall_ends(self) -> float | None:
        """When the pool ends it, if it is still running a cell (monotonic time)."""
        bounds = self.bounds
        return None if bounds is None else bounds.wall_ends

    def look(self) -> None:
        """End the process if it has passed a bound."""
        bounds = self.bounds  # another thread sets it
        if not self.pid or bounds is None:
            return
        if bounds.wall_ends is not None and time.monotonic() > bounds.wall_ends:
            self.kill("the cell took longer than a cell may take in all")
            return
        if bounds.processor is not None and self.cpu_seconds() > bounds.processor:
            self.kill("threads that a cell left behind went on computing; join threads before the cell ends")
            return
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
                resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            threads = os.stat(f"/proc/{self.pid}/task").st_nlink - 2
        except (OSError, ValueError, IndexError):
            return
        if resident > self.kind.memory + INTERPRETER:
            self.kill(f"the cell used more than {self.kind.memory:,} bytes of memory")
        elif threads > MAX_THREADS:
            self.kill(f"the cell started more than {MAX_THREADS} threads")

    def exit_text(self) -> str:
        """Say how the process ended, when it did so by itself."""
        code = self.exit_code(0.05)
        if code is None:
            return "the sandbox closed its channel"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"the sandbox's process died of {signal.Signals(-code).name}"
        return f"the sandbox's process ended with exit code {code}"


class Pool:
    """The children of this process. Use `pool()`."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle: dict[Kind, deque[Child]] = defaultdict(deque)
        self._taken: dict[Kind, int] = defaultdict(int)
        self._children: set[Child] = set()
        self._lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="rlm-ray-sandboxes", daemon=True)
        self._thread.start()

    def take(self, kind: Kind) -> Child:
        """Return a child, started or about to be: its socket can be written at once. Never blocks."""
        with self._lock:
            self._taken[kind] += 1
            waiting = self._idle[kind]
            while waiting:
                child = waiting.popleft()
                if child.verdict is None and child.exit_code() is None:
                    return child
                self._bury(child)
            return self._new(kind)

    def refill(self, kind: Kind) -> None:
        """Start idle children of `kind` until there are enough; call it when the last one has reported ready.

        One for tables takes as long to start as a query over much data takes, and most processes need one in all: so none waits
        before a second one was needed.
        """
        with self._lock:
            if kind.tables and self._taken[kind] < 2:
                return
            while len(self._idle[kind]) < IDLE and not self._closing:
                self._idle[kind].append(self._new(kind))

    def watch(self, child: Child, wall_ends: float) -> None:
        """Look at a child that runs a cell, and end it at `wall_ends` (monotonic time)."""
        child.bounds = Bounds(wall_ends, None)
        self._jobs.put(_nothing)

    def rest(self, child: Child, cpu_seconds: float) -> None:
        """A cell is over: its child may use `cpu_seconds` more, in threads left behind, until the next cell starts."""
        child.bounds = Bounds(None, child.cpu_seconds() + cpu_seconds)

    def retire(self, child: Child, verdict: str) -> None:
        """End a child and forget it. Never blocks."""
        child.kill(verdict)
        with self._lock:
            self._bury(child)

    def close(self) -> None:
        """End every child and the thread."""
        with self._lock:
            self._closing = True
            children = list(self._children)
        for child in children:
            self.retire(child, "the process ends")
        self._jobs.put(_stop)
        self._thread.join(timeout=10)

    def _new(self, kind: Kind) -> Child:
        child = Child(kind)
        paths = [*launch.readable_paths(), *(launch.TABLE_PATHS if kind.tables else ())]
        warm = list(launch.TABLE_MODULES) if kind.tables else []
        orders = boot.orders(kind.level, kind.memory, self.pid, paths, launch.module_path(), _preload(kind.level), warm)
        child.socket.send(orders)
        self._children.add(child)
        self._jobs.put(lambda: self._spawn(child))
        return child

    def _bury(self, child: Child) -> None:
        child.bounds = None
        child.close()
        self._jobs.put(lambda: self._reap(child))

    # -- on the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            watched = [(child, child.bounds) for child in self._children.copy()]
            running = [bounds.wall_ends is not None for _, bounds in watched if bounds is not None]
            try:
                job = self._jobs.get(timeout=WATCH if any(running) else WATCH_IDLE if running else None)
            except queue.Empty:
                job = _nothing
            if job is _stop:
                return
            for work in (job, *(child.look for child, bounds in watched if bounds is not None)):
                try:
                    work()
                except Exception:  # noqa: BLE001 - this thread starts and watches every child: one failure must not end it
                    _log.exception("a sandbox could not be started, watched or buried")

    def _spawn(self, child: Child) -> None:
        bundled, size = bundle.bundle()
        numbers = [child.theirs.fileno(), child.child_output, bundled]
        command = [sys.executable, "-P", "-s", "-S", "-B", "-c", bundle.BOOT, *map(str, [*numbers, size])]
        try:
            if child.verdict is None:
                child.process = subprocess.Popen(
                    command,
                    env=launch.ENVIRONMENT,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=numbers,
                    start_new_session=True,
                )
        except OSError as error:
            child.verdict, child.could_not_start = f"{sys.executable} could not be started: {error}", True
        child.theirs.close()
        os.close(child.child_output)
        if child.verdict is not None:  # retired meanwhile
            child.kill(child.verdict)

    def _reap(self, child: Child) -> None:
        child.kill("retired")
        child.wait()
        self._children.discard(child)


def _stop() -> None:
    return


def _nothing() -> None:
    return


def _preload(level: Isolation) -> list[str]:
    if level != "noopen":
        return []
    return [*launch.PRELOADED, *(name for name in launch.PRELOADED_EXTRAS if importlib.util.find_spec(name) is not None)]


_pool: Pool | None = None
_pool_lock = threading.Lock()


def pool() -> Pool:
    """Return this process's pool; the first call starts its thread."""
    global _pool
    with _pool_lock:
        if _pool is None or _pool.pid != os.getpid():
            _pool = Pool()
            atexit.register(_pool.close)
        return _pool
