"""Members of a tar archive, from the headers between them; archives that were written one behind the other are read as one."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from typing import IO

from rlm_ray.sandbox.inside.parsers.archives.names import checked
from rlm_ray.types.archives import ArchiveMember

#: Members of a list that is yielded.
_SOME = 500
_PIECE = 1 << 20
_BLOCK = 512


def read(file: IO[bytes], options: Mapping[str, int]) -> Iterator[list[ArchiveMember]]:
    """Yield members, some at a time: `name`, `method`, `offset` and `size` of the data, `problem`.

    Reads from front to back.

    Raises
    ------
    ValueError
        It is no tar archive, or has too many members.
    """
    some: list[ArchiveMember] = []
    for count, member in enumerate(_members(file), 1):
        if count > options["members"]:
            raise ValueError(f"it has more than {options['members']:,} members")
        some.append(member)
        if len(some) == _SOME:
            yield some
            some = []
    if some:
        yield some


def _members(file: IO[bytes]) -> Iterator[ArchiveMember]:
    at = 0
    places: dict[str, tuple[int, int]] = {}
    while True:
        file.seek(at)
        try:
            archive = tarfile.TarFile(fileobj=file, mode="r", errors="surrogateescape", encoding="utf-8")
            while (entry := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep all
                if (member := _member(entry, places)) is not None:
                    yield member
        except tarfile.TarError as error:
            yield {"name": "", "problem": f"it is damaged: {str(error)[:200]}", "method": "", "offset": 0, "size": 0}
            return
        at = _next_archive(file, archive.offset)
        if at < 0:
            return


def _member(entry: tarfile.TarInfo, places: dict[str, tuple[int, int]]) -> ArchiveMember | None:
    if entry.isdir():
        return None
    name, problem = checked(entry.name)
    offset, size = entry.offset_data, entry.size
    if not problem and entry.islnk():
        offset, size = places.get(checked(entry.linkname)[0], (-1, 0))
        problem = "" if offset >= 0 else "it is a link to a member that is not before it"
    elif not problem and entry.issparse():
        problem = "it is stored with holes (a sparse file), which is not read"
    elif not problem and not entry.isreg():
        problem = "link"  # or a device
    elif not problem:
        places[name] = offset, size
    return {"name": name, "method": "tar", "offset": offset, "size": size, "problem": problem}


def _next_archive(file: IO[bytes], at: int) -> int:
    """Return where another archive begins behind the zeros that end one; -1 where none does."""
    file.seek(at)
    while data := file.read(_PIECE):
        rest = data.lstrip(b"\0")
        if rest:
            return (at + len(data) - len(rest)) // _BLOCK * _BLOCK
        at += len(data)
    return -1
