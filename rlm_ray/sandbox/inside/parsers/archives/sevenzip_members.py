"""Members of a 7z archive, from the directory at its end (7zFormat.txt of the LZMA SDK 25.01).

Packed streams belong to *folders*; a folder is decompressed as a whole, and its members lie in it one behind the other.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

from rlm_ray.sandbox.inside.parsers.archives.names import checked
from rlm_ray.types.archives import ArchiveMember

#: Members of a list that is yielded; bytes of a directory, packed or not.
_SOME, _MOST = 500, 64 << 20
_SIGNATURE, _HEADER = b"7z\xbc\xaf\x27\x1c", 32
_END, _MAIN, _FILES, _PACK, _UNPACK, _SUBSTREAMS = 0, 4, 5, 6, 7, 8
_SIZE, _CRC, _FOLDER, _UNPACK_SIZE, _NUMBER = 9, 10, 11, 12, 13
_EMPTY_STREAM, _EMPTY_FILE, _NAMES, _ATTRIBUTES, _ENCODED = 14, 15, 17, 21, 23
#: Methods that are read, with the letter that stands for each before its properties (`b` for LZMA2 behind a filter for programs,
#: which some writers always set); and others by name.
_METHODS = {"00": "s", "21": "m", "030101": "l", "040108": "d", "040202": "c", "04f71101": "y"}
_SHOWN = {
    "03030103": "BCJ",
    "0303011b": "BCJ2",
    "030401": "PPMd",
    "040109": "Deflate64",
    "03": "Delta",
    "04f71104": "LZ4",
    "21": "LZMA2",
    "030101": "LZMA",
    "040108": "deflate",
    "040202": "bzip2",
    "04f71101": "zstd",
}
_AES, _BCJ, _LZMA2 = "06f10701", "03030103", "21"


@dataclass(slots=True)
class _Folder:
    """What is decompressed together."""

    coder: str
    problem: str
    streams: int
    packed_streams: int
    sizes: list[int] = field(default_factory=list)
    crc: int | None = None
    offset: int = 0
    packed: int = 0
    members: int = 1


@dataclass(slots=True)
class _Entry:
    """A member of the directory."""

    name: str = ""
    attributes: int = 0
    has_data: bool = True
    is_file: bool = True


class _Bytes:
    """A directory's bytes, read from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise ValueError("its directory is damaged: it ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        first, value = self.byte(), 0
        for position in range(8):
            mask = 0x80 >> position
            if not first & mask:
                return value | (first & (mask - 1)) << 8 * position
            value |= self.byte() << 8 * position
        return value

    def count(self) -> int:
        """A number of things that each have a byte or a bit here: more than these cannot be meant."""
        found = self.number()
        if found > 8 * len(self._data):
            raise ValueError("its directory is damaged: it counts more than it can name")
        return found

    def bits(self, count: int) -> list[bool]:
        data = self.take((count + 7) // 8)
        return [bool(data[at >> 3] & 0x80 >> (at & 7)) for at in range(count)]

    def defined(self, count: int) -> list[bool]:
        return [True] * count if self.byte() else self.bits(count)

    def checksums(self, count: int) -> list[int | None]:
        return [int.from_bytes(self.take(4), "little") if there else None for there in self.defined(count)]

    def expect(self, wanted: int) -> None:
        found = self.byte()
        if found != wanted:
            raise ValueError(f"its directory is damaged: {found} stands where {wanted} has to")


def read(file: IO[bytes], options: Mapping[str, int]) -> Iterator[list[ArchiveMember]]:
    """Yield members, some at a time.

    Raises
    ------
    ValueError
        It is no 7z archive, is damaged or protected, or has too many members.
    """
    folders, entries, sizes, checksums = _directory(file)
    if len(entries) > options["members"]:
        raise ValueError(f"it has more than {options['members']:,} members")
    some: list[ArchiveMember] = []
    for member in _members(folders, entries, sizes, checksums):
        some.append(member)
        if len(some) == _SOME:
            yield some
            some = []
    if some:
        yield some


def _members(
    folders: list[_Folder], entries: list[_Entry], sizes: list[int], checksums: list[int | None]
) -> Iterator[ArchiveMember]:
    places = ((folder, number) for folder in folders for number in range(folder.members))
    facts = iter(zip(sizes, checksums, strict=True))
    offset = 0
    for entry in entries:
        if not entry.has_data:
            if entry.is_file:
                name, problem = checked(entry.name)
                yield {"name": name, "method": "tar", "offset": 0, "size": 0, "problem": problem}
            continue
        found, fact = next(places, None), next(facts, None)
        if found is None or fact is None:
            raise ValueError("its directory is damaged: it names more members than it has data")
        (folder, number), (size, checksum) = found, fact
        offset = offset if number else 0
        name, problem = checked(entry.name)
        yield {
            "name": name,
            "method": "7z",
            "offset": offset,
            "size": size,
            "packed": folder.packed,
            "crc": checksum or 0,
            "folder": {"coder": folder.coder, "offset": folder.offset, "packed": folder.packed, "size": folder.sizes[-1]},
            "problem": problem or _problem(entry, folder, checksum),
        }
        offset += size


def _problem(entry: _Entry, folder: _Folder, checksum: int | None) -> str:
    mode = entry.attributes >> 16 if entry.attributes & 0x8000 else 0
    if mode & 0o170000 == 0o120000 or entry.attributes & 0x400:
        return "link"
    return folder.problem or ("" if checksum is not None else "its archive has no checksum of it, so that damage would not be seen")


def _directory(file: IO[bytes]) -> tuple[list[_Folder], list[_Entry], list[int], list[int | None]]:
    file.seek(0)
    start = file.read(_HEADER)
    if len(start) < _HEADER or not start.startswith(_SIGNATURE):
        raise ValueError("it is no 7z archive")
    if zlib.crc32(start[12:]) != int.from_bytes(start[8:12], "little"):
        raise ValueError("its first header is damaged")
    place, size, checksum = (int.from_bytes(start[at : at + width], "little") for at, width in ((12, 8), (20, 8), (28, 4)))
    if not size:
        return [], [], [], []
    data = _checked(_at(file, _HEADER + place, size), checksum)
    while True:
        directory = _Bytes(data)
        kind = directory.byte()
        if kind != _ENCODED:
            break
        data = _decoded(file, directory)
    if kind != 1:
        raise ValueError("its directory is damaged: it begins with no header")
    return _header(directory)


def _at(file: IO[bytes], place: int, size: int) -> bytes:
    if size > _MOST:
        raise ValueError(f"its directory has more than {_MOST >> 20} MiB")
    file.seek(place)
    return file.read(size)


def _checked(data: bytes, checksum: int | None) -> bytes:
    if checksum is not None and zlib.crc32(data) != checksum:
        raise ValueError("its directory is damaged, or the archive ends too early")
    return data


def _decoded(file: IO[bytes], directory: _Bytes) -> bytes:
    """Return a directory that is itself compressed."""
    folders, _, _ = _streams(directory)
    if len(folders) != 1 or folders[0].problem or folders[0].coder[:1] not in ("s", "l", "m"):
        problem = folders[0].problem if folders else "it is empty"
        raise ValueError(f"its directory cannot be read: {problem or 'it is compressed in another way'}")
    (folder,) = folders
    data, size = _at(file, folder.offset, folder.packed), folder.sizes[-1]
    if size > _MOST:
        raise ValueError(f"its directory has more than {_MOST >> 20} MiB")
    if folder.coder[0] != "s":
        try:
            data = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[_filter(folder.coder)]).decompress(data, size)
        except lzma.LZMAError as error:
            raise ValueError(f"its directory is damaged: {error}") from None
    return _checked(data[:size], folder.crc)


def _filter(coder: str) -> dict[str, int]:
    properties = bytes.fromhex(coder[1:])
    if coder[0] == "m":
        return {"id": lzma.FILTER_LZMA2, "dict_size": _MOST}
    first = properties[0]
    if first >= 225:
        raise ValueError("its directory is damaged: it is no LZMA")
    return {"id": lzma.FILTER_LZMA1, "lc": first % 9, "lp": first // 9 % 5, "pb": first // 45, "dict_size": _MOST}


def _header(directory: _Bytes) -> tuple[list[_Folder], list[_Entry], list[int], list[int | None]]:
    folders: list[_Folder] = []
    sizes: list[int] = []
    checksums: list[int | None] = []
    entries: list[_Entry] = []
    while (kind := directory.byte()) != _END:
        if kind == _MAIN:
            folders, sizes, checksums = _streams(directory)
        elif kind == _FILES:
            entries = _files(directory)
        elif kind == 2:  # properties of the archive: kind, size, data
            while directory.byte() != _END:
                directory.take(directory.number())
        elif kind == 3:
            _streams(directory)
        else:
            raise ValueError(f"its directory is damaged: it has a part of the unknown kind {kind}")
    return folders, entries, sizes, checksums


def _streams(directory: _Bytes) -> tuple[list[_Folder], list[int], list[int | None]]:
    """Return the folders, and size and checksum of each member in them."""
    place, packed = 0, list[int]()
    folders: list[_Folder] = []
    members: tuple[list[int], list[int | None]] | None = None
    while (kind := directory.byte()) != _END:
        if kind == _PACK:
            place, packed = _packed(directory)
        elif kind == _UNPACK:
            folders = _folders(directory)
        elif kind == _SUBSTREAMS:
            members = _substreams(directory, folders)
        else:
            raise ValueError(f"its directory is damaged: its streams have a part of the unknown kind {kind}")
    at, number = _HEADER + place, 0
    for folder in folders:
        own = packed[number : number + folder.packed_streams]
        if len(own) != folder.packed_streams:
            raise ValueError("its directory is damaged: a folder has no packed stream")
        folder.offset, folder.packed = at, sum(own)
        at += folder.packed
        number += folder.packed_streams
    sizes, checksums = members or ([folder.sizes[-1] for folder in folders], [folder.crc for folder in folders])
    return folders, sizes, checksums


def _packed(directory: _Bytes) -> tuple[int, list[int]]:
    place, count = directory.number(), directory.count()
    sizes: list[int] = []
    while (kind := directory.byte()) != _END:
        if kind == _SIZE:
            sizes = [directory.number() for _ in range(count)]
        elif kind == _CRC:
            directory.checksums(count)
        else:
            raise ValueError("its directory is damaged: packed streams without sizes")
    return place, sizes


def _folders(directory: _Bytes) -> list[_Folder]:
    directory.expect(_FOLDER)
    count = directory.count()
    if directory.byte():
        raise ValueError("its directory lies apart from it, which is not read")
    folders = [_folder(directory) for _ in range(count)]
    directory.expect(_UNPACK_SIZE)
    for folder in folders:
        folder.sizes = [directory.number() for _ in range(folder.streams)]
    while (kind := directory.byte()) != _END:
        if kind != _CRC:
            raise ValueError("its directory is damaged: folders have an unknown part")
        for folder, checksum in zip(folders, directory.checksums(count), strict=True):
            folder.crc = checksum
    return folders


def _folder(directory: _Bytes) -> _Folder:
    coders: list[tuple[str, bytes]] = []
    inputs = outputs = 0
    count = directory.number()
    if not 0 < count <= 32:
        raise ValueError("its directory is damaged: a folder has no coder, or more than 32")
    for _ in range(count):
        flags = directory.byte()
        name = directory.take(flags & 15).hex()
        takes, gives = (directory.count(), directory.count()) if flags & 16 else (1, 1)
        coders.append((name, directory.take(directory.count()) if flags & 32 else b""))
        inputs, outputs = inputs + takes, outputs + gives
    if not outputs or inputs < outputs - 1:
        raise ValueError("its directory is damaged: the coders of a folder do not fit")
    for _ in range(outputs - 1):
        directory.number(), directory.number()
    packed = inputs - (outputs - 1)
    if packed > 1:
        for _ in range(packed):
            directory.number()
    coder, problem = _coder(coders)
    return _Folder(coder, problem, outputs, packed)


def _coder(coders: list[tuple[str, bytes]]) -> tuple[str, str]:
    """Return the letter of a folder's method with its properties, or why it is not read."""
    names = [name for name, _ in coders]
    is_filtered = len(names) == 2 and {*names} == {_BCJ, _LZMA2}
    name, properties = next(item for item in coders if item[0] == _LZMA2) if is_filtered else coders[0]
    problem = _coder_problem([name] if is_filtered else names, properties)
    return "" if problem else ("b" if is_filtered else _METHODS[name]) + properties.hex(), problem


def _coder_problem(names: list[str], properties: bytes) -> str:
    if _AES in names:
        return "it is protected by a password"
    if len(names) > 1 or names[0] not in _METHODS:
        shown = " and ".join(_SHOWN.get(name, f"method {name}") for name in names)
        return f"it is compressed by {shown}, which is not read"
    if len(properties) != {"21": 1, "030101": 5}.get(names[0], len(properties)) or len(properties) > 16:
        return "the properties of its compression are damaged"
    return ""


def _substreams(directory: _Bytes, folders: list[_Folder]) -> tuple[list[int], list[int | None]]:
    kind = directory.byte()
    if kind == _NUMBER:
        for folder in folders:
            folder.members = directory.count()
        kind = directory.byte()
    sizes: list[int] = []
    for folder in folders:
        first = len(sizes)
        if kind == _SIZE:
            sizes += [directory.number() for _ in range(folder.members - 1)]
        if folder.members:
            sizes.append(folder.sizes[-1] - sum(sizes[first:]))
    if kind == _SIZE:
        kind = directory.byte()
    checksums: list[int | None] = []
    unknown = [folder.members for folder in folders if folder.members != 1 or folder.crc is None]
    while kind != _END:
        if kind != _CRC:
            raise ValueError("its directory is damaged: members have an unknown part")
        given = iter(directory.checksums(sum(unknown)))
        checksums = []
        for folder in folders:
            is_known = folder.members == 1 and folder.crc is not None
            checksums += [folder.crc] if is_known else [next(given) for _ in range(folder.members)]
        kind = directory.byte()
    return sizes, checksums or [folder.crc if folder.members == 1 else None for folder in folders for _ in range(folder.members)]


def _files(directory: _Bytes) -> list[_Entry]:
    entries = [_Entry() for _ in range(directory.count())]
    empty: list[_Entry] = []
    while (kind := directory.byte()) != _END:
        part = _Bytes(directory.take(directory.number()))
        if kind == _EMPTY_STREAM:
            for entry, is_empty in zip(entries, part.bits(len(entries)), strict=True):
                entry.has_data, entry.is_file = not is_empty, not is_empty
            empty = [entry for entry in entries if not entry.has_data]
        elif kind == _EMPTY_FILE:
            for entry, is_file in zip(empty, part.bits(len(empty)), strict=True):
                entry.is_file = is_file
        elif kind == _NAMES:
            _name(entries, part)
        elif kind == _ATTRIBUTES:
            there = part.defined(len(entries))
            part.expect(0)
            for entry, is_there in zip(entries, there, strict=True):
                entry.attributes = int.from_bytes(part.take(4), "little") if is_there else 0
    return entries


def _name(entries: list[_Entry], part: _Bytes) -> None:
    part.expect(0)
    for entry in entries:
        units = bytearray()
        while (unit := part.take(2)) != b"\0\0":
            units += unit
        entry.name = units.decode("utf-16-le", "surrogatepass")
