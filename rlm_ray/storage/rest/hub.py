"""Repositories on the hub of Hugging Face, read-only: an object's version is the digest of its content.

A file's digest is the one of its Git blob, or of what its pointer names where it is stored apart (LFS, Xet). The hub repeats it
with each reply, before it sends the reader on to where the bytes are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypedDict
from urllib.parse import quote, unquote

from rlm_ray.errors import InputError
from rlm_ray.storage.names import ObjectInfo, shown
from rlm_ray.storage.rest.requests import Reply, Request, RestStore, unquoted
from rlm_ray.storage.rest.transports import HubSession

_HUB = re.compile(
    r"(?:(?P<kind>datasets|spaces|models)/)?(?P<owner>[^/@]+)/(?P<name>[^/@]+)"
    r"(?:@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/]+))?(?:/(?P<path>.*))?",
    re.DOTALL,
)
_IDENTITY = {"Accept-Encoding": "identity"}


class _Stored(TypedDict, total=False):
    oid: str
    size: int


class _File(TypedDict, total=False):
    """What the hub says of a file or folder of a repository."""

    type: str
    path: str
    oid: str
    size: int
    lfs: _Stored


@dataclass(frozen=True, slots=True)
class _Place:
    """A URI in its parts; `base` is the URI of the repository in its revision."""

    kind: str
    repository: str
    revision: str
    path: str
    base: str


def _place(uri: str) -> _Place:
    rest = uri.split("://", 1)[1]
    match = _HUB.fullmatch(rest)
    if match is None or match["owner"] in ("buckets", "datasets", "spaces", "models"):
        raise InputError(f"{shown(uri)!r:.300} names no repository. Write hf://datasets/owner/name/path, or hf://owner/name/path.")
    path = match["path"] or ""
    base = uri if match["path"] is None else uri[: len(uri) - len(path) - 1]
    repository = f"{match['owner']}/{match['name']}"
    return _Place(match["kind"] or "models", repository, unquote(match["revision"] or "main"), path, base)


class HubStore(RestStore[HubSession]):
    """Repositories on the hub."""

    name = "the hub of Hugging Face"
    check = "the name, and HF_TOKEN where the repository is private or gated"

    def head_request(self, uri: str) -> Request:
        """Return what asks for a file's size and digest."""
        place = _place(uri)
        body = json.dumps({"paths": [place.path], "expand": False}).encode()
        return Request("POST", self._api(place, "paths-info"), headers={"Content-Type": "application/json"}, body=body)

    def info_of(self, uri: str, reply: Reply, body: bytes) -> ObjectInfo:
        """Return size and digest."""
        path = _place(uri).path
        found: list[_File] = json.loads(body)
        for file in found:
            if file.get("path") == path and file.get("type") == "file":
                return _info(uri, file)
        raise FileNotFoundError(uri)

    def is_object(self, uri: str) -> bool:
        """Whether a URI names a file of a repository."""
        return bool(_place(uri).path)

    def read_request(self, uri: str, version: str) -> Request:
        """Return what reads a file: the hub knows no condition, so its digest is compared with each reply."""
        place = _place(uri)
        prefix = "" if place.kind == "models" else f"{place.kind}/"
        revision = quote(place.revision, safe="")
        url = f"{self.transport().endpoint}/{prefix}{place.repository}/resolve/{revision}/{quote(place.path)}"
        return Request("GET", url, headers=_IDENTITY)

    def version_of(self, reply: Reply) -> str:
        """Return the digest that the hub's own reply names, which may have sent the reader on."""
        for headers in (*(earlier.headers for earlier in reply.history), reply.headers):
            if found := headers.get("X-Linked-Etag", ""):
                return unquoted(found)
        first: Mapping[str, str] = reply.history[0].headers if reply.history else reply.headers
        return unquoted(first.get("ETag", ""))

    def walk(self, base: str, lead: str) -> Iterator[list[ObjectInfo]]:
        """Yield what is below `base` and whose first name begins with `lead`, a page at a time."""
        place = _place(base)
        url: str | None = (
            self._api(place, "tree") + (f"/{quote(place.path)}" if place.path else "") + "?recursive=true&expand=false"
        )
        skip = len(place.path) + 1 if place.path else 0
        while url is not None:
            try:
                files, url = self.run(self._page(url, base))
            except FileNotFoundError:
                return
            yield [
                _info(f"{place.base}/{file['path']}", file)
                for file in files
                if file.get("type") == "file" and file["path"].startswith(lead, skip)
            ]

    async def _page(self, url: str, uri: str) -> tuple[list[_File], str | None]:
        reply = await self.ask(Request("GET", url), uri)
        files: list[_File] = json.loads(await reply.content.read())
        more = re.search(r'<([^>]+)>\s*;\s*rel="next"', reply.headers.get("Link", ""))
        if more is not None and not more[1].startswith(f"{self.transport().endpoint}/"):
            raise InputError(f"{self.name} sends on to another host for the listing of {shown(uri)}. Check HF_ENDPOINT.")
        return files, more[1] if more is not None else None

    def put(self, uri: str, data: bytes, *, only_if_absent: bool = False) -> None:
        """Refuse."""
        raise InputError(f"{shown(uri)} cannot be written: the hub is only read. Name a local path or object storage.")

    def remove(self, uri: str) -> None:
        """Refuse."""
        raise InputError(f"{shown(uri)} cannot be removed: the hub is only read. Name a local path or object storage.")

    def table_options(self, uri: str) -> dict[str, str]:
        """Refuse."""
        raise InputError(f"A Delta table cannot be at {shown(uri)}: the hub is only read file by file. Copy it to object storage.")

    def _api(self, place: _Place, what: str) -> str:
        return f"{self.transport().endpoint}/api/{place.kind}/{place.repository}/{what}/{quote(place.revision, safe='')}"


def _info(uri: str, file: _File) -> ObjectInfo:
    stored = file.get("lfs") or {}
    return ObjectInfo(uri, int(stored.get("size", file.get("size", 0))), stored.get("oid") or file.get("oid", ""))
