"""Replaces the archives of a listing by their members: each is an object, `archive.zip!/path`.

The archive's directory is hostile: it is parsed in the sandbox. What it says is then bounded here, before anything is read.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rlm_ray import storage
from rlm_ray.corpus.reading.parsed.foreign import Parsers, Source, parsed
from rlm_ray.errors import ObjectUnreadable, StorageError
from rlm_ray.storage import ObjectInfo
from rlm_ray.storage.archives import places
from rlm_ray.storage.archives.places import MARK, Layer, archive_kind, version_of
from rlm_ray.storage.names import glob_regex, is_hidden
from rlm_ray.text import counted
from rlm_ray.types.archives import ArchiveMember

#: Members of one archive, with those of archives in it; how deep they may lie in each other; bytes of all, beyond which and
#: beyond so many times the archive's own no more are read; and how much larger than packed a large member may be.
MAX_MEMBERS, MAX_DEPTH = 200_000, 4
LEAST_TOTAL, MAX_GROWTH = 1 << 30, 200
LARGE, MAX_RATIO = 64 << 20, 250
#: Most bytes of a zip that is itself compressed: its directory stands at its end.
MAX_HELD = 128 << 20
_THREADS = 4
_SYSTEMS = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class Members:
    """What archives hold.

    Attributes
    ----------
    infos : list of ObjectInfo
        The objects, members in the place of their archive, in its order.
    failed : list of dict
        Archives and members that cannot be read: `object`, `reason`.
    notes : list of str
        What was left out.
    """

    infos: list[ObjectInfo] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def opened(uri: str) -> tuple[str, str]:
    """Return the URI that is listed for one that may name members, and what members are wanted of it: a path or glob.

    Examples
    --------
    >>> opened("s3://lake/*.zip!/logs/*.csv"), opened("s3://lake/logs")
    (('s3://lake/*.zip', 'logs/*.csv'), ('s3://lake/logs', ''))
    """
    return places.split(uri) or (uri, "")


def chosen(members: Members, wanted: str) -> Members:
    """Return those members that a path or glob names, or that lie below it."""
    if not wanted:
        return members
    pattern = glob_regex(wanted.rstrip("/"))

    def fits(uri: str) -> bool:
        found = places.split(uri)
        return found is None or pattern.fullmatch(found[1]) is not None

    failed = [entry for entry in members.failed if fits(entry["object"])]
    return Members([info for info in members.infos if fits(info.uri)], failed, members.notes)


def with_members(infos: Sequence[ObjectInfo], parsers: Parsers | None) -> Members:
    """Return a listing with each archive's members in its place."""
    found = Members()
    archives = [info for info in infos if archive_kind(info.uri) is not None]
    if not archives:
        return Members(list(infos))
    with ThreadPoolExecutor(min(_THREADS, len(archives)), thread_name_prefix="archives") as pool:
        listed = pool.map(lambda info: _listed(info, parsers), archives)
        for info in infos:
            if archive_kind(info.uri) is None:
                found.infos.append(info)
                continue
            inside = next(listed)
            found.infos.extend(inside.infos)
            found.failed.extend(inside.failed)
            found.notes.extend(inside.notes)
    return found


def _listed(info: ObjectInfo, parsers: Parsers | None) -> Members:
    listing = _Listing(info, parsers)
    try:
        listing.add(info.uri, (), info.size, 1)
    except StorageError as error:
        listing.refuse(info.uri, _reason(error, info.uri))
    return listing.members()


class _Listing:
    """The members of one archive in the store, with those of archives in it."""

    def __init__(self, info: ObjectInfo, parsers: Parsers | None) -> None:
        self._info, self._parsers = info, parsers
        self._found = Members()
        self._names: Counter[str] = Counter()
        self._count = self._links = 0
        self._left = max(info.size * MAX_GROWTH, LEAST_TOTAL)

    def members(self) -> Members:
        """Return what was found."""
        if self._links:
            self._found.notes.append(f"{counted(self._links, 'link or device', 'links or devices')} of {self._info.uri} left out")
        return self._found

    def refuse(self, uri: str, reason: str) -> None:
        """Take an object that cannot be read."""
        self._found.failed.append({"object": uri, "reason": reason})

    def add(self, uri: str, layers: tuple[Layer, ...], size: int, depth: int) -> None:
        """Take the members of an archive that lies behind some layers."""
        kind, compression = archive_kind(uri) or ("", None)
        if depth > MAX_DEPTH:
            self.refuse(uri, f"archives lie more than {MAX_DEPTH} deep in each other")
            return
        inner = (*layers, places.whole_layer(compression, size)) if compression else layers
        for some in parsed(self._parsers, uri, kind, self._source(uri, inner, size, kind), {"members": MAX_MEMBERS}):
            for member in some:
                self._take(uri, inner, member, depth)

    def _source(self, uri: str, layers: tuple[Layer, ...], size: int, kind: str) -> Source:
        version = version_of(self._info.version, layers)
        if all(layer.is_plain for layer in layers):
            return _Ranges(uri, version, size)
        if kind == "tar":
            return _Forward(f"{uri}{MARK}", version)
        if size > MAX_HELD:
            raise ObjectUnreadable(
                f"{uri} is an archive of more than {MAX_HELD >> 20} MiB that is itself compressed. Unpack the outer one."
            )
        return _Held(storage.read_range(uri, 0, size, version=version), size)

    def _take(self, archive: str, layers: tuple[Layer, ...], member: ArchiveMember, depth: int) -> None:
        name, problem = member["name"], member["problem"]
        if problem == "link":
            self._links += 1
            return
        parts = name.split("/")
        if not problem and any(is_hidden(part) or part in _SYSTEMS for part in parts):
            return
        uri = self._named(f"{archive}{MARK}{name}") if name else archive
        self._count += 1
        if self._count > MAX_MEMBERS:
            raise ObjectUnreadable(f"{self._info.uri} has more than {MAX_MEMBERS:,} members, with those of archives in it.")
        reason = problem or self._beyond(member)
        if reason:
            self.refuse(uri, reason)
            return
        inner = (*layers, *_layers(member))
        if archive_kind(uri) is None:
            self._found.infos.append(ObjectInfo(uri, member["size"], version_of(self._info.version, inner)))
            return
        try:
            self.add(uri, inner, member["size"], depth + 1)
        except ObjectUnreadable as error:
            if self._count > MAX_MEMBERS:
                raise
            self.refuse(uri, _reason(error, uri))

    def _beyond(self, member: ArchiveMember) -> str:
        size, packed = member["size"], member.get("packed", member["size"])
        if min(size, packed, member["offset"]) < 0:
            return "its size or its place is no number of bytes"
        folder = member.get("folder")
        if folder is not None and member["offset"] + size > folder["size"]:
            return "it ends behind the end of what it is compressed in"
        if size > LARGE and size > packed * MAX_RATIO:
            return f"it grows to more than {MAX_RATIO} times its packed size, as a member made to fill a disk does"
        self._left -= size
        if self._left < 0:
            return f"the members before it come to more than {MAX_GROWTH} times the archive's size"
        return ""

    def _named(self, uri: str) -> str:
        """Return a name that no other member has: of two with one name both are read."""
        self._names[uri] += 1
        if self._names[uri] == 1:
            return uri
        stem, ending = posixpath.splitext(uri)
        return f"{stem}!{self._names[uri]}{ending}"


def _layers(member: ArchiveMember) -> tuple[Layer, ...]:
    offset, size, crc = member["offset"], member["size"], member.get("crc", 0)
    if member["method"] == "tar":
        return (places.range_layer(offset, size),)
    if (folder := member.get("folder")) is not None:
        outer = places.folder_layer(folder["offset"], folder["packed"], folder["size"], folder["coder"])
        return outer, places.in_folder_layer(offset, size, crc)
    return (places.member_layer(member["method"], offset, member.get("packed", 0), size, crc),)


def _reason(error: StorageError, uri: str) -> str:
    return str(error).removeprefix(f"{uri} ").removesuffix(".")


@dataclass
class _Ranges:
    """An archive that is read by ranges."""

    uri: str
    version: str
    size: int

    def read(self, start: int, stop: int) -> bytes:
        return storage.read_range(self.uri, start, min(stop, self.size), version=self.version)


@dataclass
class _Held:
    """An archive in memory."""

    data: bytes
    size: int

    def read(self, start: int, stop: int) -> bytes:
        return self.data[start:stop]


class _Forward:
    """A compressed archive, which is read from front to back."""

    size = 1 << 62

    def __init__(self, uri: str, version: str) -> None:
        self._stream: Any = storage.open_stream(uri, version=version, size=self.size)
        self._at = 0

    def read(self, start: int, stop: int) -> bytes:
        if start < self._at:
            raise ObjectUnreadable("its headers do not stand one behind the other.")
        while self._at < start and (data := self._stream.read(min(1 << 20, start - self._at))):
            self._at += len(data)
        found: bytes = self._stream.read(stop - start) if self._at == start else b""
        self._at += len(found)
        return found
