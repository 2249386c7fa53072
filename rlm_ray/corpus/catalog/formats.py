"""The formats of corpora: what planning and opening know of each without reading it, and which module reads it.

A new format is a file in `reading/` with a `READER` (see `reading.reader`), and a line in the table below.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rlm_ray.corpus.catalog.document_kinds import DOCUMENT_KINDS
from rlm_ray.errors import InputError

#: What a record may be.
UNITS = ("line", "event", "document", "row")

_READING = "rlm_ray.corpus.reading"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """The facts of one format.

    Attributes
    ----------
    name : str
        Its name in shards and manifests.
    reader : str
        The module whose `READER` reads it.
    unit : {"row", "line", "event", "document"}
        What a record is.
    option : str, optional
        Its name as the argument `format`; None for what a caller does not name.
    extensions : tuple of str
        Endings of objects' names, in lower case.
    is_text : bool
        Records are decoded from text; bytes that are none are replaced and counted.
    in_rows : bool
        Positions are row numbers; else they are byte offsets.
    whole_objects : bool
        An object is one record.
    is_cut : bool
        A large object becomes several shards. The others are read from their beginning to their end.
    has_footers : bool
        Footers of its files say which columns and rows they have, and how wide columns are.
    is_counted : bool
        A footer, the listing or the ledger says how many records a shard has.
    lines_are_records : bool
        Each line is a record, with nothing but its text: a record's size is its bytes, and counting lines counts records.
    shows_bytes : bool
        The column `text` holds the object's own bytes, and other columns say nothing of them.
    first_records : bool
        The first records of a shard are read without the others.
    is_parsed : bool
        Objects may be documents that only a parser in a sandbox can read; see `Work.extract`.
    is_result : bool
        Results of this run, whose rows have the addresses of what they were made from.
    keeps_times : bool
        What a scan has seen of a shard's times is kept, for later conditions on them.
    """

    name: str
    reader: str
    unit: str
    option: str | None = None
    extensions: tuple[str, ...] = ()
    is_text: bool = True
    in_rows: bool = False
    whole_objects: bool = False
    is_cut: bool = False
    has_footers: bool = False
    is_counted: bool = False
    lines_are_records: bool = False
    shows_bytes: bool = False
    first_records: bool = True
    is_parsed: bool = False
    is_result: bool = False
    keeps_times: bool = False


_TABLE = (
    Format(name="parquet", reader=f"{_READING}.parquet.polars_rows", unit="row", option="parquet", extensions=(".parquet", ".pq"),
           is_text=False, in_rows=True, is_cut=True, has_footers=True, is_counted=True),
    Format(name="segment", reader=f"{_READING}.parquet.polars_rows", unit="row",
           is_text=False, in_rows=True, is_cut=True, is_counted=True, first_records=False, is_result=True),
    Format(name="lines", reader=f"{_READING}.text.lines", unit="line", option="text",
           is_cut=True, lines_are_records=True, shows_bytes=True),
    Format(name="events", reader=f"{_READING}.logs.reader", unit="event", is_cut=True, keeps_times=True),
    Format(name="fields", reader=f"{_READING}.logs.reader", unit="line", is_cut=True, keeps_times=True),
    Format(name="jsonl", reader=f"{_READING}.text.jsonl", unit="row", option="jsonl", extensions=(".jsonl", ".ndjson"),
           is_cut=True),
    Format(name="json", reader=f"{_READING}.text.json_values", unit="row", option="json", extensions=(".json",)),
    Format(name="csv", reader=f"{_READING}.text.csv", unit="row", option="csv", extensions=(".csv", ".tsv"), in_rows=True),
    Format(name="avro", reader=f"{_READING}.parsed.tables", unit="row", option="avro", extensions=(".avro",), is_text=False,
           in_rows=True, is_parsed=True),
    Format(name="orc", reader=f"{_READING}.parsed.tables", unit="row", option="orc", extensions=(".orc",), is_text=False,
           in_rows=True, is_parsed=True),
    Format(name="sheet", reader=f"{_READING}.parsed.tables", unit="row", option="sheet",
           extensions=(".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), is_text=False, in_rows=True, is_parsed=True),
    Format(name="mail", reader=f"{_READING}.parsed.mail", unit="row", option="mail", extensions=(".eml", ".mbox", ".mbx", ".msg"),
           is_cut=True, is_parsed=True),
    Format(name="document", reader=f"{_READING}.documents.document", unit="document", extensions=tuple(DOCUMENT_KINDS),
           whole_objects=True, is_counted=True, shows_bytes=True, first_records=False, is_parsed=True),
)  # fmt: skip


class Formats:
    """The table of formats.

    Examples
    --------
    >>> FORMATS["csv"].in_rows, FORMATS.by_extension(".ndjson").name, FORMATS.by_extension(".log").name
    (True, 'jsonl', 'lines')
    """

    def __init__(self, formats: Iterable[Format]) -> None:
        self._by_name: dict[str, Format] = {}
        self._by_extension: dict[str, Format] = {}
        for item in formats:
            self.add(item)

    def add(self, item: Format) -> None:
        """Add a format.

        Raises
        ------
        InputError
            Its name, or one of its extensions, belongs to another format.
        """
        taken = [ending for ending in item.extensions if ending in self._by_extension]
        if item.name in self._by_name or taken:
            raise InputError(f"The format {item.name!r} or its extension {taken} is there already. Choose another name.")
        self._by_name[item.name] = item
        self._by_extension |= dict.fromkeys(item.extensions, item)

    def remove(self, name: str) -> None:
        """Remove a format that was added."""
        item = self._by_name.pop(name)
        for ending in item.extensions:
            del self._by_extension[ending]

    def __getitem__(self, name: str) -> Format:
        return self._by_name[name]

    def by_extension(self, ending: str) -> Format:
        """Return the format of an object's name by its extension; what is not known is text, line by line."""
        return self._by_extension.get(ending, self._by_name["lines"])

    def by_option(self, option: str) -> Format:
        """Return the format that a caller names.

        Raises
        ------
        InputError
            There is none of that name.
        """
        found = next((item for item in self._by_name.values() if item.option == option), None)
        if found is None:
            raise InputError(f"format={option!r} is not known. Use one of {', '.join(self.options)}, or leave it out.")
        return found

    @property
    def options(self) -> tuple[str, ...]:
        """The names of formats that callers give."""
        return tuple(item.option for item in self._by_name.values() if item.option is not None)


FORMATS = Formats(_TABLE)
