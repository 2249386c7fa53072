"""Requests to a store over HTTP: sent, tried again, their failures named; ranges that go on where a connection breaks."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from rlm_ray.errors import CredentialsError, ObjectChanged, StorageError
from rlm_ray.storage.names import ObjectInfo, shown
from rlm_ray.storage.stores import BehindTheEnd, PreconditionFailed, Reading, bucket_key

#: Attempts of a request that the store may answer later; of a read whose connection breaks in the body.
_ATTEMPTS, _BODY_ATTEMPTS = 7, 5
#: Seconds between them at most, and of what a store asks for.
_PAUSE, _LONGEST_PAUSE = 8.0, 30.0
#: Replies that may be others later.
_LATER = frozenset({408, 429, 500, 502, 503, 504})
#: Most bytes of a body that are taken at once, and of a reply that says why not.
_PART, _WHY = 1 << 20, 4 << 10

T = TypeVar("T")


class Body(Protocol):
    """What a reply brings."""

    async def read(self, count: int = -1) -> bytes:
        """Return the next bytes, all with -1."""
        ...


class Reply(Protocol):
    """A reply whose body was not read yet."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, whatever the case of their names."""
        ...

    @property
    def content(self) -> Body:
        """The body."""
        ...

    @property
    def history(self) -> Sequence[Reply]:
        """The replies that sent the reader on to this one."""
        ...

    def close(self) -> None:
        """Give up what was not read."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it is tried until it is answered."""

    method: str
    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


class Transport(Protocol):
    """Sends requests with the credentials of a store, on an event loop of its own thread."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        ...

    async def send(self, request: Request) -> Reply:
        """Send once. Raises OSError where no reply comes, CredentialsError where there are no credentials."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


TransportT = TypeVar("TransportT", bound=Transport)


class RestStore(ABC, Generic[TransportT]):
    """Objects behind an HTTP API; one connection for each process, never shared with a forked child.

    Parameters
    ----------
    connect : callable
        Makes the transport.
    """

    #: How the store is called, and what to check where it refuses.
    name = "store"
    check = "the key and its rights"
    #: What names the range of a read.
    range_header = "Range"

    def __init__(self, connect: Callable[[], TransportT]) -> None:
        self._connect = connect
        self._made: dict[int, TransportT] = {}
        self._lock = threading.Lock()

    def transport(self) -> TransportT:
        """Return this process's transport."""
        with self._lock:
            if os.getpid() not in self._made:
                self._made = {os.getpid(): self._connect()}
            return self._made[os.getpid()]

    def forget(self) -> None:
        """Close the connections and connect anew at the next request."""
        with self._lock:
            transport = self._made.pop(os.getpid(), None)
            self._made = {}
        if transport is not None:
            asyncio.run_coroutine_threadsafe(transport.close(), transport.loop).result()

    # -- what a store says of its requests

    @abstractmethod
    def head_request(self, uri: str) -> Request:
        """Return what asks for an object's size and version."""

    @abstractmethod
    def info_of(self, uri: str, reply: Reply, body: bytes) -> ObjectInfo:
        """Return what the reply to that says."""

    @abstractmethod
    def read_request(self, uri: str, version: str) -> Request:
        """Return what reads an object, on the condition that it has this version where one is given."""

    @abstractmethod
    def version_of(self, reply: Reply) -> str:
        """Return the version that a reply to a read says that it is of; empty where it says none."""

    def is_object(self, uri: str) -> bool:
        """Whether a URI may be an object's, and is not a whole bucket's."""
        return bool(bucket_key(uri)[1])

    # -- reading

    def stat(self, uri: str) -> ObjectInfo | None:
        """Return one object's size and version; None where it is not there."""
        if not self.is_object(uri):
            return None

        async def ask() -> ObjectInfo:
            reply = await self.ask(self.head_request(uri), uri)
            return self.info_of(uri, reply, await reply.content.read())

        try:
            return self.run(ask())
        except FileNotFoundError:
            return None

    def body(self, uri: str) -> bytes:
        """Return a whole object; FileNotFoundError where there is none."""

        async def ask() -> bytes:
            for attempt in range(1, _BODY_ATTEMPTS + 1):
                reply = await self.ask(self.read_request(uri, ""), uri)
                try:
                    return await _whole(reply)
                except _broken() as error:
                    if attempt == _BODY_ATTEMPTS:
                        raise self.failure(uri, error) from None
                    await _pause(attempt)
            raise AssertionError("unreachable")

        return self.run(ask())

    def read(self, uri: str, start: int, stop: int, version: str) -> bytes:
        """Return a range of an object, on the condition that it has this version.

        Raises
        ------
        ObjectChanged
            It has another, or is gone.
        """
        return bytes(self.result(self.begin(uri, start, stop, version))) if stop > start else b""

    def begin(self, uri: str, start: int, stop: int, version: str) -> Reading:
        """Ask for a range of an object; `result` waits for it."""
        return Reading(uri, version, stop - start, self.start(self._read_range(uri, start, stop, version)))

    def result(self, reading: Reading) -> memoryview:
        """Return the bytes of a range, fewer where the object ends before.

        Raises
        ------
        ObjectChanged
            The object has another version, or is gone.
        """
        uri, version = reading.uri, reading.version
        try:
            return reading.future.result()
        except BehindTheEnd:
            return memoryview(b"")
        except (FileNotFoundError, PreconditionFailed):  # which of both, stores say in different ways
            if not version or self.stat(uri) is None:
                raise ObjectChanged(f"{uri} is gone since the corpus was opened. Open the corpus again.") from None
        raise ObjectChanged(
            f"{uri} changed: it is no longer version {version}, as it was when the corpus was opened. Open it again."
        )

    async def _read_range(self, uri: str, start: int, stop: int, version: str) -> memoryview:
        """Read a range into memory of its own size; where the connection breaks, it goes on behind what has come.

        What each reply says that it is of is compared, since some servers take no notice of a condition, or of `Range`.
        """
        memory = memoryview(bytearray(stop - start))
        at = 0
        for attempt in range(1, _BODY_ATTEMPTS + 1):
            request = self.read_request(uri, version)
            headers = dict(request.headers) | {self.range_header: f"bytes={start + at}-{stop - 1}"}
            reply = await self.ask(Request(request.method, request.url, request.params, headers), uri)
            came = self.version_of(reply)
            if version and came and came != version:
                reply.close()
                raise PreconditionFailed
            version = version or came  # where it goes on, it is to be of the same
            skip = self.skipped(uri, reply, start + at)
            try:
                while at < len(memory) and (data := await reply.content.read(_PART)):
                    if skip:
                        data, skip = data[skip:], max(0, skip - len(data))
                    data = data[: len(memory) - at]
                    memory[at : at + len(data)] = data
                    at += len(data)
                reply.close()
                return memory[:at]
            except _broken() as error:
                reply.close()
                if at == len(memory):
                    return memory
                if attempt == _BODY_ATTEMPTS:
                    raise self.failure(uri, error) from None
                await _pause(attempt)
        raise AssertionError("unreachable")

    def skipped(self, uri: str, reply: Reply, start: int) -> int:
        """Return how many bytes of a reply come before the range: all, where the server sent the whole object."""
        return start if reply.status == 200 and "Content-Range" not in reply.headers else 0

    # -- requests

    def run(self, asking: Coroutine[Any, Any, T]) -> T:
        """Run one coroutine on the transport's loop, and wait for it."""
        return self.start(asking).result()

    def start(self, asking: Coroutine[Any, Any, T]) -> Future[T]:
        """Run one coroutine on the transport's loop."""
        try:
            loop = self.transport().loop
        except BaseException:
            asking.close()
            raise
        return asyncio.run_coroutine_threadsafe(asking, loop)

    async def ask(self, request: Request, uri: str) -> Reply:
        """Send a request until it is answered, and return the reply.

        Raises
        ------
        FileNotFoundError, PreconditionFailed, BehindTheEnd
        CredentialsError, StorageError
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                reply = await self.transport().send(request)
            except _broken() as error:
                if attempt == _ATTEMPTS or isinstance(error, CredentialsError):
                    raise self.failure(uri, error) from None
                await _pause(attempt)
                continue
            if reply.status < 300:
                return reply
            if reply.status not in _LATER or attempt == _ATTEMPTS:
                raise await self._refused(uri, reply, attempt)
            wait = reply.headers.get("Retry-After", "")
            reply.close()
            await _pause(attempt, min(float(wait), _LONGEST_PAUSE) if wait.isdigit() else 0.0)
        raise AssertionError("unreachable")

    async def _refused(self, uri: str, reply: Reply, attempt: int) -> Exception:
        status = reply.status
        try:
            why = " ".join((await reply.content.read(_WHY)).decode("utf-8", "replace").split())
        except _broken():
            why = ""
        reply.close()
        if status in (404, 410):
            return FileNotFoundError(uri)
        if status in (304, 409, 412):
            return PreconditionFailed(why)
        if status == 416:
            return BehindTheEnd()
        said = f"HTTP {status}{': ' + self.reason(why) if why else ''}"
        if status in (401, 403):
            return CredentialsError(f"{self.name} refused {shown(uri)}: {said}. Check {self.check}.")
        return StorageError(f"{self.name} failed on {shown(uri)}: {said}. Check the network, and try again.")

    def failure(self, uri: str, error: BaseException) -> Exception:
        """Return what is raised where no reply came."""
        if isinstance(error, CredentialsError):
            return error
        why = self.reason(str(error) or type(error).__name__)
        return StorageError(f"{self.name} cannot be reached for {shown(uri)}: {why}. Check the network, and try again.")

    def reason(self, text: str) -> str:
        """Return a store's words as one short line without keys in it."""
        return shown(" ".join(text.split())).rstrip(".")[:300]


def unquoted(etag: str) -> str:
    """Return an ETag as versions are compared: without quotes and the mark of a weak one."""
    return etag.removeprefix("W/").strip('"')


async def _whole(reply: Reply) -> bytes:
    """Read a body to its end; a body that ends too early is an error of the connection."""
    try:
        return await reply.content.read()
    finally:
        reply.close()


def _broken() -> tuple[type[Exception], ...]:
    import aiohttp

    return (aiohttp.ClientError, OSError, TimeoutError)


async def _pause(attempt: int, asked: float = 0.0) -> None:
    await asyncio.sleep(max(asked, min(_PAUSE, 0.1 * 2**attempt) * (0.5 + random.random() / 2)))
