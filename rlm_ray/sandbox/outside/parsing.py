"""The parent's side of the sandbox that parses foreign formats by ranges: what children find in objects that stay outside."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from rlm_ray.corpus.reading.parsed.foreign import Options, Parsers, Source
from rlm_ray.errors import InputError, ProtocolError, SandboxError
from rlm_ray.sandbox.outside.documents import extract
from rlm_ray.sandbox.outside.events import Limits
from rlm_ray.sandbox.outside.functions import ENDS_AFTER, FunctionSandbox, StoppedChild, entries_of
from rlm_ray.sandbox.outside.process.pool import pool
from rlm_ray.sandbox.wire.channel import clean, dumps, parse_json

#: Bytes beyond the child's start; seconds for each part that it yields.
MEMORY = 1 << 30
SECONDS = 120.0
#: Values of one object, and bytes of one range that the child may ask for.
MAX_VALUES, MAX_RANGE = 1 << 31, 256 << 20
#: Kinds of which one child parses several objects, how many, and how many children wait for the next.
SHARED, MAX_SHARED, MAX_IDLE = frozenset({"mail"}), 256, 4


class ParserSandbox(FunctionSandbox):
    """A child process that parses objects, at level strict: the bytes are hostile, whatever level root code has."""

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        super().__init__(level="strict", limits=Limits(seconds, 2 * seconds, 1, memory))

    def parse(self, kind: str, source: Source, options: Options) -> Iterator[Any]:
        """Yield what the parser finds: JSON values, and bytes. The child waits until the caller takes them.

        Raises
        ------
        ValueError
            The object cannot be parsed, or not within the bounds; with the reason.
        StorageError
            The source cannot be read.
        """
        try:
            yield from self._parse(kind, source, options)
        except ConnectionError:
            raise ValueError(f"its parser was stopped: {self._child.verdict or self._child.exit_text()}") from None
        except StoppedChild as error:
            raise ValueError(f"its parser was stopped: {error}") from None
        except ProtocolError as error:
            self.events["protocol_errors"] += 1
            raise ValueError(f"its parser sent bytes that are no frame ({error})") from None

    def _parse(self, kind: str, source: Source, options: Options) -> Iterator[Any]:
        self._start()
        seconds, count = self.limits.soft_seconds, 0
        header = {"t": "parse", "kind": kind, "size": source.size, "seconds": seconds}
        pool().watch(self._child, time.monotonic() + self.limits.wall_seconds)
        for answer, blob in self._exchange(header, dumps(options), seconds + 5 * ENDS_AFTER):
            found = answer.get("t")
            if found == "applied":
                return
            pool().rest(self._child, seconds)
            if found == "want":
                self._connection.send({"t": "bytes"}, _range(source, answer.get("start"), answer.get("stop")))
            elif found == "blob":
                yield blob
            elif found == "json":
                yield parse_json(blob)
            else:
                entries = entries_of(answer, blob, count, MAX_VALUES)
                count += len(entries)
                for entry in entries:
                    if "error" in entry:
                        raise ValueError(clean(entry["error"], 300).removeprefix("ValueError: "))
                    yield entry["value"]
            pool().watch(self._child, time.monotonic() + self.limits.wall_seconds)


def _range(source: Source, start: Any, stop: Any) -> bytes:
    if not (type(start) is int and type(stop) is int and 0 <= start < stop <= start + MAX_RANGE):
        raise ProtocolError("a range that is none")
    return source.read(start, stop)


class _Idle:
    """Children that have parsed an object of a kind that may share one, and wait for the next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[ParserSandbox, int]] = []
        self._pid = os.getpid()

    def take(self) -> tuple[ParserSandbox, int]:
        """Return a child, and how many objects it has parsed."""
        with self._lock:
            if self._pid != os.getpid():  # they are another process's
                self._waiting, self._pid = [], os.getpid()
            return self._waiting.pop() if self._waiting else (ParserSandbox(), 0)

    def put(self, sandbox: ParserSandbox, count: int) -> None:
        """Keep a child for the next object, or end it."""
        with self._lock:
            if count < MAX_SHARED and len(self._waiting) < MAX_IDLE:
                self._waiting.append((sandbox, count))
                return
        sandbox.close()


_IDLE = _Idle()


def parse(kind: str, source: Source, options: Options) -> Iterator[Any]:
    """Yield what a parser finds in an object; see `ParserSandbox.parse`.

    Each object has a child of its own, but for mail: most mails are small, and a child parses up to `MAX_SHARED` of them.
    """
    try:
        sandbox, count = _IDLE.take() if kind in SHARED else (ParserSandbox(), MAX_SHARED)
        is_whole = False
        try:
            yield from sandbox.parse(kind, source, options)
            is_whole = True
        finally:
            if is_whole:
                _IDLE.put(sandbox, count + 1)
            else:
                sandbox.close()
    except (InputError, SandboxError) as error:
        raise ValueError(str(error)) from None


#: What workers read foreign formats with.
PARSERS = Parsers(extract, parse)
