"""The parent's side of the sandbox that parses foreign formats by ranges: a fresh child for each object, and what it finds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from rlm_ray.corpus.reading.foreign import Options, Source
from rlm_ray.errors import InputError, ProtocolError, SandboxError
from rlm_ray.sandbox.outside.events import Limits
from rlm_ray.sandbox.outside.functions import ENDS_AFTER, FunctionSandbox, StoppedChild, entries_of
from rlm_ray.sandbox.outside.process.pool import pool
from rlm_ray.sandbox.wire.channel import clean, dumps

#: Bytes beyond the child's start; seconds for each part that it yields.
MEMORY = 1 << 30
SECONDS = 120.0
#: Values of one object, and bytes of one range that the child may ask for.
MAX_VALUES, MAX_RANGE = 1 << 31, 256 << 20


class ParserSandbox(FunctionSandbox):
    """A child process that parses one object, at level strict: the bytes are hostile, whatever level root code has."""

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


def parse(kind: str, source: Source, options: Options) -> Iterator[Any]:
    """Yield what a parser finds in an object, from a sandbox of its own; see `ParserSandbox.parse`."""
    try:
        sandbox = ParserSandbox()
        try:
            yield from sandbox.parse(kind, source, options)
        finally:
            sandbox.close()
    except (InputError, SandboxError) as error:
        raise ValueError(str(error)) from None
