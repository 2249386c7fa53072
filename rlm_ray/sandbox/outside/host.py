"""The parent's side of one sandbox: start a cell, take what comes, answer requests, keep snapshots, replace the dead.

Single-threaded and never blocking: a driver selects on `fileno`, calls `receive` when there is something to read or
`deadline` has passed, and answers each Request with `reply`. No byte that the child sends can harm this process:
frames are bounded, parsed as JSON and numbered, snapshots stay opaque, and whatever does not fit ends the child.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from rlm_ray.errors import ProtocolError, SandboxError, SandboxUnavailable
from rlm_ray.sandbox.outside import counts, store
from rlm_ray.sandbox.outside.events import CellDone, Event, Limits, Request, Restarted
from rlm_ray.sandbox.outside.process.clock import CellClock
from rlm_ray.sandbox.outside.process.connection import Connection, readable
from rlm_ray.sandbox.outside.process.pool import Kind, pool
from rlm_ray.sandbox.outside.saved_variables import SavedVariables
from rlm_ray.sandbox.wire.channel import INLINE, Header, clean, dumps
from rlm_ray.settings import Isolation

START_SECONDS = 60.0
RESTORE_SECONDS = 30.0
SNAPSHOT_SECONDS = 12.0
#: Requests that may wait for a reply at a time: a sandbox cannot have more threads than that.
MAX_OPEN = 1_024
MAX_FAILED_STARTS = 3

_OVERDUE = {
    "starting": "the sandbox did not start in time",
    "restoring": "a variable could not be restored in time",
    "keeping": "the cell's variables could not be kept in time",
}

_State = Literal["starting", "restoring", "idle", "running", "keeping", "closed"]


class Sandbox:
    """One child process that serves one run.

    Parameters
    ----------
    setup : dict
        JSON; the scaffold is built from it (corpora, main, text, depth, …). Empty: no scaffold of a corpus.
    level : {"strict", "noopen", "none"}
        Isolation level; `isolation.choose` settles it.
    limits : Limits
        Bounds of a cell.
    snapshot : bytes, optional
        What `snapshot` of another sandbox of the same run returned.

    Attributes
    ----------
    events : dict
        Security events so far: `denials` (as the child reports them), `restarts`, `protocol_errors`, and ``denied: WHAT``
        for each different refused act; `counts.split` takes them apart.
    walls : dict
        What stands around the child, once it has reported.

    Raises
    ------
    SandboxUnavailable
        From `receive`: the walls of `level` cannot be built here.
    SandboxError
        From `receive`: the process dies again and again without running anything.
    """

    _state: _State
    _state_ends: float | None
    _clock: CellClock | None

    def __init__(self, setup: Mapping[str, object], *, level: Isolation, limits: Limits, snapshot: bytes | None = None) -> None:
        self.level: Isolation = level
        self.limits = limits
        self.events = counts.fresh()
        self.walls: dict[str, int | bool] = {}
        self._setup = dumps(setup)
        self._saved = SavedVariables(snapshot)
        self._kind = Kind(level, limits.memory)
        self._ready_events: list[Event] = []
        self._queued: tuple[str, str | None] | None = None
        self._interrupted = False
        self._cell = 0
        self._last_request = 0
        self._failed_starts = 0
        self._restarted: Restarted | None = None
        self._start()

    # -- what the driver calls -------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Process id of the child that serves now; 0 until it is started."""
        return self._child.pid

    @property
    def snapshot(self) -> bytes:
        """The last good snapshot of root code's variables: opaque, for another Sandbox of the same run."""
        return self._saved.packed

    @property
    def lost(self) -> list[str]:
        """Variables of the last cell that could not be kept."""
        return self._saved.lost

    @property
    def busy(self) -> bool:
        """Whether a cell was started and has not ended."""
        return self._queued is not None or self._state in ("running", "keeping")

    def fileno(self) -> int:
        """Return the descriptor to select on for reading. It changes when the child is replaced: ask each time."""
        return self._child.socket.fileno()

    def start_cell(self, code: str, history: str | None = None) -> None:
        """Run a cell; returns at once. `history` becomes the variable of that name; None leaves it.

        Raises
        ------
        SandboxError
            A cell is running already, or the sandbox is closed.
        """
        if self.busy or self._state == "closed":
            raise SandboxError(f"A cell cannot start while the sandbox is {self._state}; wait for CellDone or Restarted.")
        self._queued, self._interrupted = (code, history), False
        self._start_queued()

    def receive(self) -> list[Event]:
        """Return everything that has arrived, and enforce the clocks. Never blocks.

        Raises
        ------
        SandboxUnavailable, SandboxError
            As the class says.
        """
        if self._state == "closed":
            return []
        connection = self._connection
        with contextlib.suppress(ConnectionError):  # what the child still said comes first
            connection.flush()
        try:
            for header, blob in connection.frames():
                self._take(header, blob)
                if self._connection is not connection:
                    break
        except ProtocolError as error:
            self.events["protocol_errors"] += 1
            self._replace(f"the sandbox sent bytes that are no frame ({clean(str(error), 300)})")
        except ConnectionError:
            self._ended()
        if connection.stuck:
            self.events["protocol_errors"] += 1
            self._replace("the sandbox does not read what it asked for")
        self.tick()
        events, self._ready_events = self._ready_events, []
        return events

    def tick(self) -> None:
        """Enforce the clocks. `receive` does it too."""
        ends = self._ends()
        if ends is not None and time.monotonic() >= ends:
            self._replace(self._clock.verdict() if self._clock is not None else _OVERDUE[self._state])
        elif self._clock is not None and self._clock.signal_due():
            self._child.interrupt()

    def deadline(self) -> float | None:
        """Return the monotonic time by which `receive` should be called again even if nothing arrives; None when idle."""
        again = self._clock.look_again() if self._clock is not None else self._state_ends
        if self._connection.unsent:
            soon = time.monotonic() + 0.05
            return soon if again is None else min(again, soon)
        return again

    def reply(
        self, request_id: int, value: Any = None, *, error: tuple[str, str, dict[str, object]] | None = None, blob: bytes = b""
    ) -> None:
        """Answer a Request. One that nobody waits for any more is dropped.

        Parameters
        ----------
        request_id : int
            Of the Request.
        value : JSON, optional
            What the call returns.
        error : (str, str, dict), optional
            Raise instead: a class of rlm_ray.errors or a builtin one, the message, further attributes.
        blob : bytes, optional
            Bytes that go with the value.
        """
        number = self._open.pop(request_id, None)
        if number is None or self._state == "closed":
            return
        if not self._open and self._clock is not None:
            self._clock.compute()
        name, content = ("value", value) if error is None else ("error", list(error))
        text = dumps(content)
        if len(text) > INLINE:  # then it travels with the blob
            self._send({"id": number, f"{name}_size": len(text)}, text + blob)
        else:
            self._send({"id": number, name: content}, blob)

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the running cell; if that is ignored, the child is replaced soon after."""
        self._interrupted = self.busy
        if self._clock is not None:
            self._clock.interrupt()
            self.tick()

    def close(self) -> None:
        """End the child. `snapshot` and `events` stay."""
        if self._state != "closed":
            self._state, self._state_ends = "closed", None
            self._connection.drop()
            pool().retire(self._child, "closed")

    def wait_ready(self) -> dict[str, int | bool]:
        """Block until the child is inside its walls and set up; return which walls stand. For probes and tests."""
        while self._state in ("starting", "restoring"):
            self._wait()
            self._ready_events = self.receive()
        return self.walls

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- life of the child -----------------------------------------------------------------------------

    def _start(self) -> None:
        """Take a child and tell it everything; what it answers comes later."""
        self._child = pool().take(self._kind)
        self._connection = Connection(self._child.socket)
        self._state = "starting"
        self._state_ends = time.monotonic() + START_SECONDS
        self._clock = None
        self._open: dict[int, int] = {}
        self._last_number = 0
        self._requests = 0
        self._done: CellDone | None = None
        self._send({"t": "setup"}, self._setup)
        if self._saved:
            self._send(*self._saved.frame())

    def _ended(self) -> None:
        """The child closed its channel: it died, was killed by the pool, or closed the socket itself."""
        if self._child.could_not_start:
            self.close()
            raise SandboxUnavailable(self._child.verdict)
        self._replace(self._child.verdict or self._child.exit_text())

    def _replace(self, reason: str) -> None:
        """End the child and start another one from the last snapshot."""
        self.events["restarts"] += 1
        state, child = self._state, self._child
        child.kill(reason)
        printed = clean(child.printed(), self.limits.output_chars + 200) if state == "running" else ""
        self._connection.drop()
        pool().retire(child, reason)
        if state == "starting":
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                self._state, self._state_ends = "closed", None
                raise SandboxError(
                    f"The sandbox ended {self._failed_starts} times before it ran anything: {reason}. "
                    "Look at the memory and the limits of this machine."
                )
        elif state == "restoring":
            self._saved.failed()
        else:
            self._restarted = Restarted(clean(reason, 500), in_cell=state == "running", output=printed)
        if self._done is not None:  # the cell itself was over: its variables are what is lost
            self._ready_events.append(replace(self._done, lost=self._saved.without(self._done.names)))
        self._start()

    def _become_idle(self) -> None:
        """The child can run cells. Say what happened to it, if it is a new one."""
        self._state, self._state_ends, self._failed_starts = "idle", None, 0
        if self._restarted is not None:
            self._ready_events.append(replace(self._restarted, lost=self._saved.missing(), names=self._saved.names))
            self._restarted = None
        self._start_queued()

    def _start_queued(self) -> None:
        if self._state != "idle" or self._queued is None:
            return
        (code, history), self._queued = self._queued, None
        self._cell += 1
        self._state, self._requests, self._clock = "running", 0, CellClock(self.limits)
        self._child.wipe()
        pool().watch(self._child, self._clock.wall_ends)
        command: Header = {
            "t": "cell",
            "n": self._cell,
            "soft": self.limits.soft_seconds,
            "output_chars": self.limits.output_chars,
        }
        if history is not None:
            command["history"] = history
        self._send(command, code.encode("utf-8", "replace"))
        if self._interrupted:
            self.interrupt()

    def _ends(self) -> float | None:
        """When the child must have done the next thing."""
        return self._clock.ends() if self._clock is not None else self._state_ends

    def _wait(self) -> None:
        ends = self.deadline()
        readable(self.fileno(), None if ends is None else ends - time.monotonic())

    def _send(self, header: Header, blob: bytes = b"") -> None:
        with contextlib.suppress(ConnectionError):  # `receive` meets it again and acts on it
            self._connection.send(header, blob)

    # -- frames ----------------------------------------------------------------------------------------

    def _take(self, header: Header, blob: bytes) -> None:
        kind, state = header.get("t"), self._state
        if state == "running" and kind == "call":
            self._take_call(header, blob)
        elif state == "running" and kind == "done" and header.get("n") == self._cell:
            self._take_done(header, blob)
        elif state == "keeping" and kind == "snapshot" and header.get("n") == self._cell:
            self._take_snapshot(header, blob)
        elif state == "restoring" and kind == "restoring":
            self._saved.restoring(header)
        elif state == "restoring" and kind == "restored":
            self._saved.restored(header)
            self._become_idle()
        elif state == "starting" and kind == "ready":
            self._take_ready(header)
        elif state == "starting" and kind == "set":
            self._take_set(header)
        elif kind == "failed":
            self._child.kill(clean(header.get("why"), 2_000))
        elif state == "starting" and kind == "refused":
            self.close()
            raise SandboxUnavailable(clean(header.get("why"), 500))
        else:
            raise ProtocolError(f"an unexpected frame {clean(kind, 40)!r} while {state}")

    def _take_ready(self, header: Header) -> None:
        walls = header.get("walls")
        if not isinstance(walls, dict):
            raise ProtocolError("a start without a report")
        self.walls = {clean(name, 40): value for name, value in walls.items() if isinstance(value, bool | int)}
        pool().refill(self._kind)

    def _take_set(self, header: Header) -> None:
        if header.get("error") is not None:
            self.close()
            raise SandboxError(f"The names of root code could not be set up: {clean(header['error'], 2_000)}.")
        if self._saved:
            self._state, self._state_ends = "restoring", time.monotonic() + RESTORE_SECONDS
        else:
            self._become_idle()

    def _take_call(self, header: Header, blob: bytes) -> None:
        number, verb, args = header.get("id"), header.get("verb"), header.get("args")
        if type(number) is not int or number != self._last_number + 1 or not isinstance(verb, str) or not isinstance(args, dict):
            raise ProtocolError(f"a call that is out of turn or malformed (number {clean(str(number), 40)})")
        if self._clock is not None:
            self._clock.wait()
        self._last_number = number
        self._requests += 1
        self._last_request += 1
        self._open[self._last_request] = number
        if len(self._open) > MAX_OPEN:
            raise ProtocolError(f"more than {MAX_OPEN:,} calls open at a time")
        if self._requests <= self.limits.requests:
            self._ready_events.append(Request(self._last_request, clean(verb, 100), args, blob))
        elif self._requests <= 2 * self.limits.requests + 100:
            note = f"this cell has made {self.limits.requests:,} requests, its limit; ask for more in each: head(1000), llm_map"
            self.reply(self._last_request, error=("SandboxError", note, {}))
        else:
            raise ProtocolError(f"more than {2 * self.limits.requests:,} calls in one cell, and it does not stop")

    def _take_done(self, header: Header, blob: bytes) -> None:
        self._done = store.cell_done(header, blob, requests=self._requests, output_chars=self.limits.output_chars)
        counts.add_denials(self.events, header.get("denied"))
        self._open.clear()
        self._state, self._state_ends, self._clock = "keeping", time.monotonic() + SNAPSHOT_SECONDS, None

    def _take_snapshot(self, header: Header, blob: bytes) -> None:
        self._saved.take(header, blob)
        if self._done is not None:
            self._ready_events.append(replace(self._done, lost=self.lost))
        self._done = None
        pool().rest(self._child, self.limits.soft_seconds)
        self._state, self._state_ends = "idle", None
