"""A shard: one object, or a part of one that a task can read by itself. Small, frozen, and sent by value."""

from __future__ import annotations

import operator
from dataclasses import dataclass, fields
from typing import Any

from rlm_ray.corpus.catalog.formats import FORMATS, Format

#: Encodings whose text is recoded to UTF-8 while it is read.
WIDE = ("utf-16", "utf-32")

#: Compression of a zstd object with a seek table: it can be cut.
FRAMED = "zstd-frames"


@dataclass(frozen=True, slots=True)
class Shard:
    """What one task reads.

    Attributes
    ----------
    index : int
        Number in the manifest; shards are in record order.
    object, uri, version, size
        Number of the object, and what the listing said of it (of a result: no version, and 0 for a size).
    format : str
        Its name in `formats.FORMATS`; see `traits`.
    compression : {None, "gzip", "zstd", "zstd-frames"}
        Of a text object; the last where it has a seek table.
    start, stop : int
        Rows of the file for Parquet; bytes of the uncompressed text, whose lines that *start* there are the shard's.
        `(0, size)` for what cannot be cut: gzip, zstd without a seek table, CSV and documents.
    rows : int or None
        Number of records where a footer says it; deleted rows are none.
    nbytes : int
        Uncompressed bytes, estimated.
    partitions : tuple of (str, value)
        Columns that the object's path gives.
    differs : tuple of (shown name, name in the file, type in the file)
        Parquet columns that this file does not have under the corpus' name and type; an empty type means absent.
    encoding : str
        Of text.
    constants : tuple of (str, str or None)
        Columns whose one value a table's log gives, as text: those of a type that `partitions` does not hold.
    deleted : bytes
        Rows of a table's file that are no records; see `deletions`.
    nested : str
        Types that nested columns of a table's file are brought to, where its own have other members; see `types.packed_types`.
    seeks : str
        Of gzip: where an index is kept by which it is read from the middle; none without one.
    tracked_changes : {"accepted", "shown"}
        Of a document: its text with all changes accepted, or with each change marked.
    dialect : str
        Of CSV: what the caller says of separator, quote and escape; see `reading.text.dialect.Given`. Of events: how they are
        found; see `reading.logs.layout.Layout`.
    unseen : bool
        Whether its first bytes were not looked at when the corpus was opened: they are when it is read.
    """

    index: int
    object: int
    uri: str
    version: str
    size: int
    format: str
    compression: str | None
    start: int
    stop: int
    rows: int | None
    nbytes: int
    partitions: tuple[tuple[str, Any], ...] = ()
    differs: tuple[tuple[str, str, str], ...] = ()
    encoding: str = "utf-8"
    constants: tuple[tuple[str, str | None], ...] = ()
    deleted: bytes = b""
    nested: str = ""
    seeks: str = ""
    tracked_changes: str = "accepted"
    dialect: str = ""
    unseen: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        # a dataclass with slots is pickled by Python code that looks up its fields: many thousand go to tasks
        return Shard, _SENT(self)

    @property
    def packed(self) -> bool:
        """Whether its text begins nowhere but at the object's beginning: it is decompressed, or recoded, on the way.

        Its positions are bytes of the text as UTF-8.
        """
        return self.compression not in (None, FRAMED) or self.is_wide

    @property
    def seekable(self) -> bool:
        """Whether reading may begin in the middle."""
        return not self.packed or (self.compression == "gzip" and bool(self.seeks) and not self.is_wide)

    @property
    def is_wide(self) -> bool:
        """Whether a line break of its encoding is more than one byte."""
        return self.encoding.startswith(WIDE)

    @property
    def in_rows(self) -> bool:
        """Whether positions are row numbers; else they are byte offsets."""
        return self.traits.in_rows

    @property
    def traits(self) -> Format:
        """What is known of its format."""
        return FORMATS[self.format]

    @property
    def positions(self) -> tuple[int, int]:
        """The positions `[low, high)` that its records may have: `(0, 1 << 62)` where its end is not known as a position."""
        return (0, 1 << 62) if self.packed or not self.traits.is_cut else (self.start, self.stop)


_SENT = operator.attrgetter(*(item.name for item in fields(Shard)))
