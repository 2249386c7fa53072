"""What a parser says of an archive's members."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class ArchiveFolder(TypedDict):
    """What members of a 7z archive are compressed in together.

    Attributes
    ----------
    coder : str
        A letter for the method, and its properties in base 16.
    offset : int
        Where its packed bytes begin in the archive.
    packed, size : int
        Bytes in the archive, and unpacked.
    """

    coder: str
    offset: int
    packed: int
    size: int


class ArchiveMember(TypedDict):
    """One member.

    Attributes
    ----------
    name : str
    method : str
        Of a zip, how it is compressed; "7z" of one in a folder; else "tar".
    offset : int
        Of a zip's local header, of a tar's data; in a folder, of what this unpacks to.
    packed, size : int
        Bytes in the archive, and unpacked.
    crc : int
        Its CRC-32.
    folder : ArchiveFolder
        Of a 7z archive.
    problem : str
        Why it cannot be read; "link" for links and devices, empty where it can.
    """

    name: str
    method: str
    offset: int
    size: int
    problem: str
    packed: NotRequired[int]
    crc: NotRequired[int]
    folder: NotRequired[ArchiveFolder]
