"""An append-only log of JSON values, one a line, that outlives the process that writes it.

On a local path a line is in the file when `append` returns (it survives a kill of the process). Object storage cannot
append: there lines are gathered and written as one more object every second, and what is not yet written counts as in
flight. A last line that was cut by a kill is left out when the log is read, and counted.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rlm_ray import storage
from rlm_ray.errors import StorageError

COMMIT_SECONDS = 1.0
ATTEMPTS = 5
RETRY_SECONDS = 0.5
#: The same for a local file, which fails at once and blocks who writes.
LOCAL_ATTEMPTS, LOCAL_RETRY_SECONDS = 4, 0.1


class Journal:
    """Writes one log. Safe from several threads; each writer has a log of its own.

    Parameters
    ----------
    uri : str
        Without an ending: a local log is `URI.jsonl`, one in object storage `URI/00000000.jsonl` and so on.
    first : int
        Number of the first object, where a log is continued.
    """

    def __init__(self, uri: str, first: int = 0) -> None:
        self._uri = uri
        self._lock = threading.Lock()
        self._number = first
        self._held: list[bytes] = []
        self._error: StorageError | None = None
        self._wake = threading.Event()
        self._closed = False
        self._file: int | None = None
        self._thread: threading.Thread | None = None
        if storage.is_local(uri):
            storage.make_dirs(uri.rsplit("/", 1)[0])
            path = f"{storage.normal(uri)}.jsonl"
            try:
                self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                _end_line(path, self._file)
            except OSError as error:
                raise _cannot(path, error) from None

    def append(self, value: Any) -> None:
        """Add one value.

        Raises
        ------
        StorageError
            This or an earlier value could not be written, after several attempts.
        """
        line = (json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str) + "\n").encode("utf-8", "replace")
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._file is not None:
                self._write(line)
                return
            self._held.append(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._commit_forever, name="rlm-ray-journal", daemon=True)
                self._thread.start()

    def _write(self, line: bytes) -> None:
        """Write a line to the file, whole: where there is no room for a moment, what is left of it a little later."""
        assert self._file is not None
        for attempt in range(LOCAL_ATTEMPTS):
            try:
                while line:
                    line = line[os.write(self._file, line) :]
            except OSError as error:
                if attempt + 1 == LOCAL_ATTEMPTS:
                    self._error = _cannot(f"{self._uri}.jsonl", error)
                    raise self._error from None
                self._wake.wait(LOCAL_RETRY_SECONDS * 2**attempt)
            else:
                return

    def flush(self) -> None:
        """Write what is gathered; returns when it is durable.

        Raises
        ------
        StorageError
            It could not be written, after several attempts.
        """
        if self._file is None:
            self._commit()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Write what is gathered, and end."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=60)
        try:
            self.flush()
        finally:
            if self._file is not None:
                os.close(self._file)
                self._file = None
                self._error = self._error or StorageError(f"The log {self._uri} is closed.")

    def _commit_forever(self) -> None:
        while not self._closed:
            self._wake.wait(COMMIT_SECONDS)
            self._commit()

    def _commit(self) -> None:
        with self._lock:
            held, self._held = self._held, []
            if not held or self._error is not None:
                return
            uri = f"{self._uri}/{self._number:08d}.jsonl"
            for attempt in range(ATTEMPTS):
                try:
                    storage.write_bytes(uri, b"".join(held))
                except StorageError as error:
                    if attempt + 1 == ATTEMPTS:
                        error.ends_run = True
                        self._error = error
                        return
                    self._wake.wait(RETRY_SECONDS * 2**attempt)
                else:
                    self._number += 1
                    return


@dataclass(slots=True)
class Cut:
    """How many lines were left out because a kill had cut them."""

    lines: int = 0


def read(uri: str, cut: Cut | None = None, having: bytes = b"") -> Iterator[Any]:
    """Iterate over a log's values, in order. A value that was cut is left out, and counted in `cut`. `having` as in `values`."""
    if storage.is_local(uri):
        data = storage.find_bytes(f"{uri}.jsonl")
        parts = [data] if data is not None else []
    else:
        parts = [storage.read_bytes(item.uri) for item in storage.listing(uri)] if storage.exists(uri) else []
    for part in parts:
        yield from values(part, cut, having)


def objects(uri: str) -> int:
    """Return how many objects a log has in object storage: the number of the next one."""
    return 0 if storage.is_local(uri) or not storage.exists(uri) else sum(1 for _ in storage.listing(uri))


def values(data: bytes, cut: Cut | None = None, having: bytes = b"") -> Iterator[Any]:
    """Iterate over the whole lines of a piece of a log; those that are not whole are counted in `cut`.

    With `having`, only lines with these bytes are parsed at all.

    Examples
    --------
    >>> list(values(b'{"a": 1}\\n{"a": 2}\\n{"a"'))
    [{'a': 1}, {'a': 2}]
    """
    for line in data.splitlines():
        if not line.strip() or having not in line:
            continue
        try:
            yield json.loads(line)
        except ValueError:
            if cut is not None:  # by a kill: what it said counts as not done
                cut.lines += 1


def _end_line(path: str, file: int) -> None:
    """A line that was cut must not take the next one with it."""
    size = os.fstat(file).st_size
    if size:
        with open(path, "rb") as reader:
            reader.seek(size - 1)
            if reader.read(1) != b"\n":
                os.write(file, b"\n")


def _cannot(path: str, error: OSError) -> StorageError:
    told = StorageError(f"{path} cannot be written: {error.strerror or error}. Make room, or give another --run-dir.")
    told.ends_run = True
    return told
