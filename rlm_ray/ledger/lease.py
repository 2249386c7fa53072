"""One driver per run: a lease in the run directory.

Leases are numbered objects, each created only if it is not there, which has one winner (see `storage.write_bytes`).
The highest number holds the run; its holder reads it back and writes the time into it every few seconds. A lease whose
time is old is stale, and a process that creates the next number takes over. A lease that is no longer there tells that
the run directory was removed.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from typing import TypedDict

from rlm_ray import storage
from rlm_ray.errors import RunBusy, StorageError

RENEW_SECONDS = 5.0
STALE_SECONDS = 30.0


class LeaseRecord(TypedDict):
    """A lease as it is written: who holds the run, and when this was last renewed."""

    holder: str
    host: str
    pid: int
    time: float
    released: bool


class Lease:
    """Holds a run while this process works on it. A context manager.

    Parameters
    ----------
    run_dir : str

    Raises
    ------
    RunBusy
        From `__enter__`: another process holds the run.
    """

    def __init__(self, run_dir: str) -> None:
        self._folder = storage.join(run_dir, "lease")
        self._holder = f"{socket.gethostname()} process {os.getpid()} {secrets.token_hex(4)}"
        self._number = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost = False
        self.gone = False

    def __enter__(self) -> Lease:
        number, held = _highest(self._folder)
        if held is not None and _is_held(held):
            raise RunBusy(
                f"{held['holder']} is working on this run (its lease was renewed {time.time() - held['time']:.0f} s ago). "
                f"Wait until it has ended; a lease that is not renewed for {STALE_SECONDS:.0f} s is taken over."
            )
        self._number = number + 1
        storage.write_bytes(self._uri(self._number), self._record(), only_if_absent=True)
        if not self._is_mine():  # whatever the store said: it may lose a reply, refuse the second try, or know no conditions
            raise RunBusy("Another process took the run at the same moment. Wait until it has ended.")
        self._thread = threading.Thread(target=self._renew, name="rlm-ray-lease", daemon=True)
        self._thread.start()
        return self

    def check(self) -> None:
        """Raise where another process has taken the run over.

        Raises
        ------
        RunBusy
            This one was not heard of for so long that its lease grew stale.
        StorageError
            The run directory was removed.
        """
        if storage.is_local(self._folder) and not self.lost and storage.stat(self._uri(self._number)) is None:
            self.gone = True  # a look at a local file is cheap; in object storage it is looked for with each renewal
        if self.gone:
            error = StorageError(
                f"The run directory {self._folder.rsplit('/', 1)[0]} is gone: it was removed while the run went on. "
                "Ask again, and leave the directory until the run has ended."
            )
            error.ends_run = True
            raise error
        if self.lost:
            raise RunBusy(
                f"Another process has taken this run over: its lease was not renewed for {STALE_SECONDS:.0f} s. "
                "What was finished here is in the run directory; resume the run when the other has ended."
            )

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=RENEW_SECONDS)
        if not self.lost and not self.gone:
            storage.write_bytes(self._uri(self._number), self._record(released=True))

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            try:
                data = storage.find_bytes(self._uri(self._number))
                self.gone = data is None
                self.lost = data is not None and (
                    json.loads(data).get("holder") != self._holder or _highest(self._folder)[0] > self._number
                )
                if self.gone or self.lost:
                    return
                storage.write_bytes(self._uri(self._number), self._record())
            except StorageError:
                continue  # the next try may do; if none does, the lease grows stale, as it should

    def _is_mine(self) -> bool:
        """Whether the lease is this one's, as the store has it."""
        data = storage.find_bytes(self._uri(self._number))
        return data is not None and json.loads(data).get("holder") == self._holder

    def _uri(self, number: int) -> str:
        return storage.join(self._folder, f"{number:08d}.json")

    def _record(self, released: bool = False) -> bytes:
        record = LeaseRecord(holder=self._holder, host=socket.gethostname(), pid=os.getpid(), time=time.time(), released=released)
        return json.dumps(record).encode()


def holder(run_dir: str) -> LeaseRecord | None:
    """Return who works on a run now, or None where nobody does. Lists its leases and reads one."""
    held = _highest(storage.join(run_dir, "lease"))[1]
    return held if held is not None and _is_held(held) else None


def _highest(folder: str) -> tuple[int, LeaseRecord | None]:
    if not storage.exists(folder):
        return 0, None
    uris = [item.uri for item in storage.listing(folder) if item.uri.endswith(".json")]
    if not uris:
        return 0, None
    data = storage.find_bytes(max(uris))
    number = int(max(uris).rsplit("/", 1)[1].removesuffix(".json"))
    return number, json.loads(data) if data else None


def _is_held(held: LeaseRecord) -> bool:
    return not held.get("released") and time.time() - held["time"] < STALE_SECONDS and not _is_dead(held)


def _is_dead(held: LeaseRecord) -> bool:
    """Whether the holder was a process of this machine that is no more: a killed run can be taken up at once."""
    if held.get("host") != socket.gethostname() or not isinstance(held.get("pid"), int):
        return False
    try:
        os.kill(held["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
