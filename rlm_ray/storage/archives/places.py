"""URIs and versions of members of archives. Pure: reads nothing.

A member's URI is that of its archive, `!/` and its path; a path may lead through archives in archives. Its version is the
archive's, and behind each `!` how its bytes are found in what comes before, so that an address is enough to read a record::

    s3://lake/logs.zip!/app/a.log@9f2c11aa!d1f0.3c2.1a90.5d41402a#bytes=0-120

A layer is a letter with numbers in base 16: `g`, `z`, `b`, `x` a whole object that is compressed (its size); `t` a range (offset,
size); `f` a folder of a 7z archive (offset, packed size, size, method with its properties) and `n` a member in it (offset, size,
size, CRC-32); the others a zip's members (offset of the local header, packed size, size, CRC-32).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlm_ray.errors import StorageError

MARK = "!/"
_LAYER = "!"
#: Endings of archives: what they are, and how the whole of it is compressed.
ARCHIVES: dict[str, tuple[str, str | None]] = {
    ".zip": ("zip", None),
    ".tar": ("tar", None),
    ".tar.gz": ("tar", "gzip"),
    ".tgz": ("tar", "gzip"),
    ".tar.zst": ("tar", "zstd"),
    ".tzst": ("tar", "zstd"),
    ".tar.bz2": ("tar", "bz2"),
    ".tbz2": ("tar", "bz2"),
    ".tar.xz": ("tar", "xz"),
    ".txz": ("tar", "xz"),
    ".7z": ("7z", None),
}
_ENDING = "|".join(re.escape(ending) for ending in sorted(ARCHIVES, key=len, reverse=True))
_NAME = re.compile(rf"(?:{_ENDING})$", re.IGNORECASE)
_MEMBER = re.compile(rf".*?(?:{_ENDING})(?=!/)", re.IGNORECASE | re.DOTALL)

#: Letters of layers: compression of a whole object, and of a zip's member.
WHOLE = {"g": "gzip", "z": "zstd", "b": "bz2", "x": "xz"}
MEMBERS = {"s": "stored", "d": "deflate", "m": "lzma", "c": "bz2", "y": "zstd", "w": "xz"}
RANGE, FOLDER, IN_FOLDER = "t", "f", "n"
#: Methods of a folder, with their properties: stored, deflate, bzip2, zstd, LZMA2 (`b`: behind a filter for programs) and LZMA.
_CODER = re.compile(r"[sdcy](?:[0-9a-f]{2}){0,16}|[mb][0-9a-f]{2}|l[0-9a-f]{10}")
_LETTERS = {name: letter for letter, name in MEMBERS.items()}
_WHOLE_LETTERS = {name: letter for letter, name in WHOLE.items()}


@dataclass(frozen=True, slots=True)
class Layer:
    """How bytes are found in what is below.

    Attributes
    ----------
    letter : str
        Of `WHOLE`, `MEMBERS`, or `RANGE`, `FOLDER` or `IN_FOLDER`.
    offset : int
        Where the range, or the member's local header, begins.
    packed, size : int
        Bytes below, and of what it is; of a whole object that is compressed `size` is not known (0).
    crc : int
        CRC-32 of a member of a zip or a folder.
    coder : str
        Of a folder, the letter of its method and the method's properties.
    """

    letter: str
    offset: int = 0
    packed: int = 0
    size: int = 0
    crc: int = 0
    coder: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether its bytes stand below as they are."""
        return self.letter in (RANGE, "s")

    def __str__(self) -> str:
        if self.letter in WHOLE:
            return f"{self.letter}{self.packed:x}"
        if self.letter == RANGE:
            return f"{self.letter}{self.offset:x}.{self.size:x}"
        last = self.coder if self.letter == FOLDER else f"{self.crc:x}"
        return f"{self.letter}{self.offset:x}.{self.packed:x}.{self.size:x}.{last}"


def range_layer(offset: int, size: int) -> Layer:
    """Return the layer of a range, as of a tar's member."""
    return Layer(RANGE, offset, size, size)


def member_layer(method: str, offset: int, packed: int, size: int, crc: int) -> Layer:
    """Return the layer of a zip's member, by the name of its method."""
    return Layer(_LETTERS[method], offset, packed, size, crc)


def folder_layer(offset: int, packed: int, size: int, coder: str) -> Layer:
    """Return the layer of a folder of a 7z archive.

    Raises
    ------
    ValueError
        `coder` is no method with its properties.
    """
    if _CODER.fullmatch(coder) is None:
        raise ValueError(coder)
    return Layer(FOLDER, offset, packed, size, coder=coder)


def in_folder_layer(offset: int, size: int, crc: int) -> Layer:
    """Return the layer of a member in a folder."""
    return Layer(IN_FOLDER, offset, size, size, crc)


def whole_layer(compression: str, packed: int) -> Layer:
    """Return the layer of a whole object that is compressed."""
    return Layer(_WHOLE_LETTERS[compression], 0, packed)


def archive_kind(uri: str) -> tuple[str, str | None] | None:
    """Return what an object is by its ending, and how the whole is compressed; None where it is no archive.

    Examples
    --------
    >>> archive_kind("s3://lake/Logs.TAR.gz"), archive_kind("a.zip"), archive_kind("a.docx")
    (('tar', 'gzip'), ('zip', None), None)
    """
    match = _NAME.search(uri)
    return None if match is None else ARCHIVES[match[0].lower()]


def split(uri: str) -> tuple[str, str] | None:
    """Return the archive's own URI and the rest of a member's; None where it is no member's.

    Examples
    --------
    >>> split("s3://lake/a.zip!/b.tar!/c.log"), split("/tmp/wow!/a.log")
    (('s3://lake/a.zip', 'b.tar!/c.log'), None)
    """
    match = _MEMBER.match(uri)
    return None if match is None else (match[0], uri[match.end() + len(MARK) :])


def version_of(version: str, layers: tuple[Layer, ...]) -> str:
    """Return a member's version.

    Examples
    --------
    >>> version_of("9f2c", (whole_layer("gzip", 255), range_layer(512, 16)))
    '9f2c!gff!t200.10'
    >>> uri, version, layers = parse("/a.tgz!/b.log", "9f2c!gff!t200.10")
    >>> uri, version, layers[1].offset
    ('/a.tgz', '9f2c', 512)
    """
    return _LAYER.join([version, *map(str, layers)])


def is_member(uri: str, version: str) -> bool:
    """Whether an object is a member of an archive."""
    return _LAYER in version and MARK in uri


def parse(uri: str, version: str) -> tuple[str, str, tuple[Layer, ...]]:
    """Return a member's archive, its version, and the layers to the member.

    Raises
    ------
    StorageError
        The version is none of a member.
    """
    found = split(uri)
    base, *texts = version.split(_LAYER)
    try:
        layers = tuple(_layer(text) for text in texts)
    except (ValueError, IndexError):
        layers = ()
    if found is None or not layers:
        raise StorageError(f"{uri} with the version {version!r:.100} is no member of an archive. Take the address of a record.")
    return found[0], base, layers


def is_cut_off(version: str) -> bool:
    """Whether a member's bytes cannot be read from the middle: they, or what they lie in, are compressed."""
    return _LAYER in version and any(text[:1] not in (RANGE, "s") for text in version.split(_LAYER)[1:])


def is_solid(version: str) -> bool:
    """Whether a member lies in something that is compressed as a whole, so that all before it is decompressed to read it."""
    return _LAYER in version and any(text[:1] not in (RANGE, "s") for text in version.split(_LAYER)[1:-1])


def _layer(text: str) -> Layer:
    letter, parts = text[0], text[1:].split(".")
    if letter == FOLDER and len(parts) == 4:
        offset, packed, size = (int(part, 16) for part in parts[:3])
        return folder_layer(offset, packed, size, parts[3])
    numbers = [int(part, 16) for part in parts]
    if letter in WHOLE and len(numbers) == 1:
        return Layer(letter, 0, numbers[0])
    if letter == RANGE and len(numbers) == 2:
        return range_layer(*numbers)
    if letter in (*MEMBERS, IN_FOLDER) and len(numbers) == 4:
        offset, packed, size, crc = numbers
        return Layer(letter, offset, packed, size, crc)
    raise ValueError(text)


def stored_object(uri: str, version: str) -> tuple[str, str]:
    """Return the object in the store, and its version, that an object is or lies in.

    Examples
    --------
    >>> stored_object("a.zip!/b", "9f2c!t0.4"), stored_object("a.log", "9f2c")
    (('a.zip', '9f2c'), ('a.log', '9f2c'))
    """
    return parse(uri, version)[:2] if is_member(uri, version) else (uri, version)
