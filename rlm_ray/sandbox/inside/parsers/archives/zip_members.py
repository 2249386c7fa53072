"""Members of a zip archive, from its central directory (APPNOTE.TXT 6.3.10)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from typing import IO

from rlm_ray.sandbox.inside.parsers.archives.names import checked
from rlm_ray.types.archives import ArchiveMember

#: Members of a list that is yielded.
_SOME = 500
#: Methods that are read, and others by name.
METHODS = {0: "stored", 8: "deflate", 12: "bz2", 14: "lzma", 93: "zstd", 95: "xz"}
_REFUSED = {9: "Deflate64", 6: "Implode", 98: "PPMd", 97: "WavPack", 96: "JPEG", 1: "Shrink", 10: "PKWARE's Implode", 99: "AES"}


def read(file: IO[bytes], options: Mapping[str, int]) -> Iterator[list[ArchiveMember]]:
    """Yield members, some at a time.

    Raises
    ------
    ValueError
        It is no zip archive, has too many members, or continues in other files.
    """
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise ValueError(f"it is damaged: {str(error)[:200]}") from None
    entries = archive.infolist()
    if len(entries) > options["members"]:
        raise ValueError(f"it has more than {options['members']:,} members")
    overlapping = _overlapping(entries)
    for first in range(0, len(entries), _SOME):
        members = [_member(entry, entry.header_offset in overlapping) for entry in entries[first : first + _SOME]]
        yield [member for member in members if member is not None]


def _member(entry: zipfile.ZipInfo, overlaps: bool) -> ArchiveMember | None:
    if entry.filename.endswith("/") and not entry.file_size:
        return None
    name, problem = checked(_name(entry))
    mode = entry.external_attr >> 16
    if not problem and entry.create_system == 3 and mode & 0o170000 == 0o120000:
        problem = "link"
    elif not problem and entry.flag_bits & 1:
        problem = "it is protected by a password"
    elif not problem and entry.compress_type not in METHODS:
        method = _REFUSED.get(entry.compress_type, f"method {entry.compress_type}")
        problem = f"it is compressed by {method}, which is not read"
    elif not problem and overlaps:
        problem = "its bytes are those of another member too, as in an archive that is made to grow without end"
    return {
        "name": name,
        "method": METHODS.get(entry.compress_type, ""),
        "offset": entry.header_offset,
        "packed": entry.compress_size,
        "size": entry.file_size,
        "crc": entry.CRC,
        "problem": problem,
    }


def _name(entry: zipfile.ZipInfo) -> str:
    if entry.flag_bits & 0x800:
        return entry.filename
    try:  # many writers write UTF-8 without saying so
        return entry.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.filename


def _overlapping(entries: list[zipfile.ZipInfo]) -> set[int]:
    """Return the places of members that share bytes."""
    found: set[int] = set()
    behind, before = 0, -1
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < behind:
            found |= {entry.header_offset, before}
        stop = entry.header_offset + 30 + entry.compress_size
        if stop > behind:
            behind, before = stop, entry.header_offset
    return found
