"""Objects of any web server, read-only: named one by one, since the web lists nothing.

An object's version is its ETag, or its size and time where it has none. Where a server gives neither, two contents cannot be told
apart, which is said once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import quote, unquote

from rlm_ray.errors import InputError, StorageError
from rlm_ray.storage.names import ObjectInfo, shown
from rlm_ray.storage.rest.requests import Reply, Request, RestStore, unquoted
from rlm_ray.storage.rest.transports import Session
from rlm_ray.storage.stores import BehindTheEnd

#: Of a server without ranges each range costs the whole object: above this it is refused.
MOST_WITHOUT_RANGES = 64 << 20
_SEEN: set[str] = set()
_IDENTITY = {"Accept-Encoding": "identity"}
#: A version made of a time, in seconds.
_TIMED = re.compile(r"(?P<size>\d+)-t(?P<time>\d+)")

_log = logging.getLogger(__name__)


class WebStore(RestStore[Session]):
    """Web servers."""

    name = "the web server"
    check = "that it may be read without a login"

    def head_request(self, uri: str) -> Request:
        """Return what asks for the size and the version: a range of one byte, since many servers answer no HEAD."""
        return Request("GET", uri, headers=_IDENTITY | {"Range": "bytes=0-0"})

    def stat(self, uri: str) -> ObjectInfo | None:
        """Return one object's size and version; None where it is not there."""

        async def ask(request: Request) -> ObjectInfo:
            reply = await self.ask(request, uri)
            try:
                return self.info_of(uri, reply, b"")
            finally:
                reply.close()  # what a server without ranges sends is not waited for

        try:
            try:
                return self.run(ask(self.head_request(uri)))
            except BehindTheEnd:  # an empty object has no first byte
                return self.run(ask(self.read_request(uri, "")))
        except FileNotFoundError:
            return None

    def info_of(self, uri: str, reply: Reply, body: bytes) -> ObjectInfo:
        """Return size and version."""
        size = _size(reply)
        if size is None:
            raise StorageError(f"{shown(uri)} has no length: its server sends it in pieces. Copy it to object storage, or a file.")
        version = self.version_of(reply)
        if not version:
            self._say(uri, "gives neither ETag nor Last-Modified: an object that is replaced while it is read is not noticed")
        return ObjectInfo(uri, size, version)

    def read_request(self, uri: str, version: str) -> Request:
        """Return what reads an object while it has this version."""
        condition = {}
        if timed := _TIMED.fullmatch(version):
            condition = {"If-Unmodified-Since": formatdate(int(timed["time"]), usegmt=True)}
        elif version and not version.startswith("W%2F"):
            condition = {"If-Match": f'"{unquote(version)}"'}
        return Request("GET", uri, headers=_IDENTITY | condition)

    def version_of(self, reply: Reply) -> str:
        """Return the ETag, written so that it may stand in an address, or size and time."""
        if etag := reply.headers.get("ETag", ""):
            return ("W%2F" if etag.startswith("W/") else "") + quote(unquoted(etag), safe="")
        size, changed = _size(reply), reply.headers.get("Last-Modified", "")
        try:
            return f"{size}-t{int(parsedate_to_datetime(changed).timestamp())}" if changed and size is not None else ""
        except ValueError:
            return ""

    def skipped(self, uri: str, reply: Reply, start: int) -> int:
        """Refuse ranges of large objects from servers that send the whole object for each."""
        skip = super().skipped(uri, reply, start)
        if reply.status == 200:
            size = _size(reply)
            if size is None or size > MOST_WITHOUT_RANGES:
                reply.close()
                raise StorageError(
                    f"The server of {shown(uri)} sends no ranges, and the object has more than {MOST_WITHOUT_RANGES >> 20} MiB. "
                    "Copy it to object storage, or to a file."
                )
            self._say(uri, "sends no ranges: objects are read from their beginning each time")
        return skip

    def walk(self, base: str, lead: str) -> Iterator[list[ObjectInfo]]:
        """Yield nothing: a web server has no listing."""
        yield from ()

    def put(self, uri: str, data: bytes, *, only_if_absent: bool = False) -> None:
        """Refuse."""
        raise InputError(f"{shown(uri)} cannot be written: a web server is only read. Name a local path or object storage.")

    def remove(self, uri: str) -> None:
        """Refuse."""
        raise InputError(f"{shown(uri)} cannot be removed: a web server is only read. Name a local path or object storage.")

    def table_options(self, uri: str) -> dict[str, str]:
        """Refuse."""
        raise InputError(f"A table cannot be read from {shown(uri)}: a web server has no listing. Copy it to object storage.")

    def _say(self, uri: str, what: str) -> None:
        host = uri.split("/")[2]
        if (key := f"{host} {what}") not in _SEEN:
            _SEEN.add(key)
            _log.warning("The server %s %s.", host, what)


def _size(reply: Reply) -> int | None:
    """The size of the whole object that a reply is of."""
    whole = reply.headers.get("Content-Range", "").rpartition("/")[2]
    if whole.isdigit():
        return int(whole)
    length = reply.headers.get("Content-Length", "")
    return int(length) if reply.status == 200 and length.isdigit() else None
