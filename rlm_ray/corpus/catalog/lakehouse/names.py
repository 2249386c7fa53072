"""How a table is named: a kind, a place or a catalogue's name, and a version. Pure.

::

    delta+s3://lake/events              delta+/data/events?version=12
    iceberg+s3://lake/orders/metadata/00007-….metadata.json
    iceberg+/data/orders?snapshot=4358109269898318456        (a folder with metadata/version-hint.text)
    iceberg:prod/sales.orders?snapshot=4358109269898318456   (catalogue `prod` of pyiceberg's configuration)

Without a version it is the newest when the corpus is opened; the corpus then names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlm_ray import storage
from rlm_ray.errors import InputError

_TABLE = re.compile(r"(?P<kind>delta|iceberg)(?P<sign>[+:])(?P<place>[^?]*)(?:\?(?P<rest>.*))?", re.DOTALL)
_WORD = {"delta": "version", "iceberg": "snapshot"}


@dataclass(frozen=True, slots=True)
class TableName:
    """One table as a person names it.

    Attributes
    ----------
    kind : {"delta", "iceberg"}
    place : str
        Where it is; of a catalogue `name/namespace.table`.
    catalogue : bool
        Whether it is known by a catalogue.
    version : int or None
        Of Delta the version, of Iceberg the snapshot.
    """

    kind: str
    place: str
    catalogue: bool
    version: int | None

    def pinned(self, version: int) -> str:
        """Return the name with this version.

        Examples
        --------
        >>> parse("delta+s3://lake/events").pinned(3)
        'delta+s3://lake/events?version=3'
        """
        return f"{self.kind}{':' if self.catalogue else '+'}{self.place}?{_WORD[self.kind]}={version}"


def is_table(uri: str) -> bool:
    """Whether a URI names a table and not objects.

    Examples
    --------
    >>> [is_table(uri) for uri in ("delta+s3://lake/events", "iceberg:prod/sales.orders", "s3://lake/delta", "delta/a.log")]
    [True, True, False, False]
    """
    return isinstance(uri, str) and _TABLE.fullmatch(uri) is not None


def parse(uri: str) -> TableName:
    """Read a table's name.

    Raises
    ------
    InputError
        It is not one, or its version is no number.

    Examples
    --------
    >>> parse("iceberg:prod/sales.orders?snapshot=77")
    TableName(kind='iceberg', place='prod/sales.orders', catalogue=True, version=77)
    """
    match = _TABLE.fullmatch(uri)
    if match is None:
        raise InputError(f"{uri!r:.300} names no table. Write delta+s3://bucket/table, or iceberg:catalogue/namespace.table.")
    kind, catalogue, place = match["kind"], match["sign"] == ":", match["place"]
    if catalogue and (kind == "delta" or not re.fullmatch(r"[^/]+/[^/]+\.[^/]+", place)):
        raise InputError(
            f"{uri!r:.300} names no table. Write {kind}+s3://bucket/table or {kind}+/path/to/table"
            + (", or iceberg:catalogue/namespace.table." if kind == "iceberg" else ".")
        )
    if not place:
        raise InputError(f"{uri!r:.300} names no place. Write {kind}+s3://bucket/table, or {kind}+/path/to/table.")
    word = _WORD[kind]
    version = None
    if match["rest"] is not None:
        given = re.fullmatch(rf"{word}=(\d{{1,19}})", match["rest"])
        if given is None:
            raise InputError(f"{uri!r:.300} ends in what is no {word} of a table. Write ?{word}=3, or leave it out for the newest.")
        version = int(given[1])
    return TableName(kind, place if catalogue else storage.normal(place), catalogue, version)


def location(uri: str) -> str | None:
    """Return where the objects of a URI are, as it says it; None where only a catalogue knows it.

    Examples
    --------
    >>> location("delta+s3://lake/events?version=3"), location("s3://lake/logs"), location("iceberg:prod/sales.orders")
    ('s3://lake/events', 's3://lake/logs', None)
    """
    match = _TABLE.fullmatch(uri)
    if match is None:
        return uri
    return None if match["sign"] == ":" else match["place"]
