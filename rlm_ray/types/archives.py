"""What a parser says of an archive's members."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class ArchiveMember(TypedDict):
    """One member.

    Attributes
    ----------
    name : str
    method : str
        Of a zip, how it is compressed; else "tar".
    offset : int
        Of a zip's local header, of a tar's data.
    packed, size : int
        Bytes in the archive, and unpacked.
    crc : int
        Its CRC-32.
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
