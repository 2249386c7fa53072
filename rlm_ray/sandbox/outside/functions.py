"""The parent's side of a sandbox that applies root code's functions to batches of records, on a worker.

Blocking: a worker does one batch at a time. The function arrives as opaque bytes and is loaded only in the child.
A record on which it raises is an error entry; one on which it hangs or ends the process is stopped, named and
passed over, and the other records are done all the same.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

from rlm_ray.errors import InputError, ProtocolError, SandboxError, SandboxUnavailable
from rlm_ray.sandbox.outside import counts
from rlm_ray.sandbox.outside.events import Limits
from rlm_ray.sandbox.outside.process.connection import Blob, Connection, readable
from rlm_ray.sandbox.outside.process.pool import Kind, pool
from rlm_ray.sandbox.wire.channel import Header, clean, dumps, parse_json
from rlm_ray.settings import Isolation

START_SECONDS = 60.0
LOAD_SECONDS = 20.0
#: Processor time that a child may use between two batches.
IDLE_CPU_SECONDS = 5.0
#: Records of one batch on which a function may hang or crash before the rest of the batch is given up.
MAX_STOPPED = 5
MAX_FAILED_STARTS = 3
#: Seconds between two looks at a child that does not read.
WRITE_AGAIN = 0.01
#: Seconds beyond a deadline and its grace within which the child must have answered.
ENDS_AFTER = 1.0

Entry = dict[str, Any]


class StoppedChild(Exception):
    """The child is gone, or was ended; the text says why."""


class FunctionSandbox:
    """One child process that applies functions to records; one per run and worker.

    Parameters
    ----------
    level : {"strict", "noopen", "none"}
        Isolation level.
    limits : Limits
        Its memory, its wall time (for one batch) and its grace count here.
    tables : bool
        Whether it will read tables: `queries.QuerySandbox` does.

    Attributes
    ----------
    events : dict
        Security events so far: `denials`, `restarts`, `protocol_errors`, and ``denied: WHAT`` for each different refused act.
    """

    def __init__(self, *, level: Isolation, limits: Limits, tables: bool = False) -> None:
        self.level: Isolation = level
        self.limits = limits
        self.events = counts.fresh()
        self._kind = Kind(level, limits.memory, tables)
        self._lock = threading.RLock()
        self._blobs: dict[str, bytes] = {}
        self._keys = threading.local()  # a key belongs to the thread that loaded it
        self._known: set[str] = set()
        self._closed = False
        self._failed_starts = 0
        self._child = pool().take(self._kind)
        self._connection = Connection(self._child.socket)
        self._started = False

    @property
    def pid(self) -> int:
        """Process id of the child; 0 until it is started."""
        return self._child.pid

    def load(self, key: str, blob: bytes) -> None:
        """Take a function, pickled with cloudpickle in another sandbox of the run, under `key`, for this thread.

        Raises
        ------
        InputError
            It cannot be loaded; the message has the reason.
        """
        digest = hashlib.blake2b(blob, digest_size=16).hexdigest()
        vars(self._keys)[key] = digest
        with self._lock:
            self._blobs[digest] = blob
            try:
                self._attempt(lambda: self._load(digest))
            except StoppedChild as error:
                raise InputError(f"The function could not be loaded on a worker: {error}. Make it use plain values.") from None

    def apply(
        self, key: str, kind: Literal["map", "filter", "aggregate"], records: bytes, count: int, seconds: float
    ) -> list[Entry]:
        """Apply a function to a batch of records. Blocks.

        Parameters
        ----------
        key : str
            As loaded.
        kind : {"map", "filter", "aggregate"}
            `aggregate` gets the whole batch at once.
        records : bytes
            A JSON array of objects.
        count : int
            How many they are.
        seconds : float
            The function may take this long on one record (or, for `aggregate`, on the batch).

        Returns
        -------
        list of dict
            For each record (for `aggregate`: one) ``{"value": …}`` or ``{"error": text}``.
        """
        if not count:
            return []
        expected = 1 if kind == "aggregate" else count
        return self._batch({"t": "apply", "kind": kind}, key, records, expected, seconds, boolean=kind == "filter")

    def combine(self, key: str, values: list[Any], seconds: float) -> Any:
        """Fold `values` with a function of two arguments. Blocks.

        Raises
        ------
        InputError
            The function failed.
        """
        if len(values) < 2:
            return values[0] if values else None
        (entry,) = self._batch({"t": "combine"}, key, dumps(values), 1, seconds)
        if "error" in entry:
            raise InputError(f"The function that combines two results failed: {entry['error']}")
        return entry["value"]

    def close(self) -> None:
        """End the child."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._connection.drop()
                pool().retire(self._child, "closed")

    def __enter__(self) -> FunctionSandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- one batch -------------------------------------------------------------------------------------

    def _batch(self, header: Header, key: str, body: bytes, expected: int, seconds: float, *, boolean: bool = False) -> list[Entry]:
        digest = vars(self._keys)[key]
        entries: list[Entry] = []
        careful, stopped = expected == 1, 0

        def work() -> None:
            self._load(digest)
            command = header | {"key": digest, "first": len(entries), "seconds": seconds, "at_once": careful}
            for answer, blob in self._exchange(command, body, seconds + self.limits.grace_seconds + ENDS_AFTER):
                if answer.get("t") == "applied":
                    break
                entries.extend(entries_of(answer, blob, len(entries), expected, boolean=boolean))
            if len(entries) != expected:
                raise ProtocolError(f"{len(entries)} results for {expected} records")

        with self._lock:
            while True:
                try:
                    self._attempt(work)
                    return entries
                except StoppedChild as error:
                    if careful:  # results come one by one: the next record is the one that ended it
                        entries.append({"error": f"the function was stopped on this record: {error}"})
                        stopped += 1
                    careful = True
                    if stopped >= MAX_STOPPED:
                        note = f"not done: the function had to be stopped {stopped} times in this batch, at last because {error}"
                        entries += [{"error": note}] * (expected - len(entries))
                    if len(entries) == expected:
                        return entries

    def _load(self, digest: str) -> None:
        if digest in self._known:
            return
        header = {"t": "load", "key": digest, "seconds": LOAD_SECONDS}
        for answer, _ in self._exchange(header, self._blobs[digest], LOAD_SECONDS + self.limits.grace_seconds):
            if answer.get("t") != "loaded":
                raise ProtocolError("an unexpected frame while a function is loaded")
            if answer.get("error") is not None:
                raise InputError(f"The function could not be loaded on a worker: {clean(answer['error'], 2_000)}")
            break
        self._known.add(digest)

    # -- the child -------------------------------------------------------------------------------------

    def _attempt(self, work: Callable[[], None]) -> None:
        """Do something with the child; whatever breaks it off leaves a new one behind."""
        if self._closed:
            raise SandboxError("This sandbox is closed. Make a new one.")
        try:
            self._start()
            pool().watch(self._child, time.monotonic() + self.limits.wall_seconds)
            work()
        except InputError:
            raise
        except BaseException as error:
            self._renew(error)
            if isinstance(error, ProtocolError | ConnectionError | StoppedChild):
                raise StoppedChild(self._reason) from None
            raise
        finally:
            pool().rest(self._child, IDLE_CPU_SECONDS)

    def _start(self) -> None:
        """Wait until the child is inside its walls."""
        if self._started:
            return
        for answer, _ in self._exchange({"t": "setup"}, b"{}", START_SECONDS):
            kind = answer.get("t")
            if kind == "refused":
                raise SandboxUnavailable(clean(answer.get("why"), 500))
            if kind == "ready":
                pool().refill(self._kind)
            elif kind == "set":
                break
            else:
                raise ProtocolError(f"an unexpected frame {clean(kind, 40)!r} at the start")
        self._started, self._failed_starts = True, 0

    def _renew(self, error: BaseException) -> None:
        """Replace the child, and say in words why."""
        self._reason = clean(str(error), 300)
        if isinstance(error, ProtocolError):
            self.events["protocol_errors"] += 1
            self._reason = f"the sandbox sent bytes that are no frame ({self._reason})"
        elif isinstance(error, ConnectionError):
            self._reason = self._child.verdict or self._child.exit_text()
        self.events["restarts"] += 1
        if not self._started:
            self._failed_starts += 1
        self._connection.drop()
        could_not_start = self._child.could_not_start
        pool().retire(self._child, self._reason)
        if could_not_start or self._failed_starts >= MAX_FAILED_STARTS:
            self._closed = True
            kind = SandboxUnavailable if could_not_start else SandboxError
            raise kind(f"The sandbox for functions could not be started: {self._reason}. Look at this machine's limits.") from None
        self._child = pool().take(self._kind)
        self._connection = Connection(self._child.socket)
        self._started = False
        self._known.clear()

    def _exchange(self, header: Header, blob: Blob, patience: float) -> Iterator[tuple[Header, bytes]]:
        """Send a command and yield what comes back, until the caller has enough; each frame must come within `patience`."""
        self._connection.send(header, blob)
        while True:
            ends = time.monotonic() + patience
            arrived = False
            while not arrived:
                left = ends - time.monotonic()
                if left <= 0:
                    raise StoppedChild(f"it took more than {patience:g} s and could not be interrupted")
                if self._connection.unsent:
                    self._connection.flush()
                    left = min(left, WRITE_AGAIN)
                if readable(self._child.socket.fileno(), left):
                    for frame in self._connection.frames():
                        arrived = True
                        if frame[0].get("t") == "failed":
                            raise StoppedChild(clean(frame[0].get("why"), 2_000))
                        counts.add_denials(self.events, frame[0].get("denied"))
                        yield frame


def entries_of(header: Header, blob: bytes, have: int, expected: int, *, boolean: bool = False) -> list[Entry]:
    """Check results in shape and number.

    Raises
    ------
    ProtocolError
        They are not what was asked for.
    """
    if header.get("t") != "results" or header.get("first") != have:
        raise ProtocolError("results out of turn")
    entries = parse_json(blob, constants=True)
    if not isinstance(entries, list) or have + len(entries) > expected:
        raise ProtocolError("more results than records")
    for entry in entries:
        if not isinstance(entry, dict) or len(entry) != 1 or not ("value" in entry or isinstance(entry.get("error"), str)):
            raise ProtocolError("a malformed result")
        if "error" in entry:
            entry["error"] = clean(entry["error"], 4_000)
        elif boolean and not isinstance(entry["value"], bool):
            raise ProtocolError("a filter's result that is neither true nor false")
    return entries
