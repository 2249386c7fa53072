"""Looks at the first bytes of text objects when a corpus is opened, before it trusts their names."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy
import polars

from rlm_ray import storage
from rlm_ray.corpus.catalog.formats import FORMATS
from rlm_ray.corpus.catalog.signatures import DOCUMENTS, HEAD, LONG_HEAD, NO_TEXT, Signature, beginning, signature
from rlm_ray.errors import StorageError
from rlm_ray.storage.archives.places import is_solid
from rlm_ray.text import counted

#: Of the objects whose names say what they are, so many are looked at, spread over the listing; the others too, if one of these is
#: not what its name says. The first bytes of objects that nobody looked at are checked when they are read.
SOME = 24
#: Of more objects than this whose names say nothing, a spread sample of `FEW` is looked at.
MOST, FEW = 2_000, 256
#: Endings of names that say that an object is text; those of the formats and of compressed objects say what they are.
_TEXT = (".log", ".txt", ".text", ".out", ".err", ".md")


@dataclass(frozen=True, slots=True)
class Found:
    """What first bytes say of a listing.

    Attributes
    ----------
    listed : polars.DataFrame
        The objects, with `compression` as their bytes have it, `format` (parquet where it is), `encoding`, and `unseen` where
        the first bytes were not looked at.
    failed : list of dict
        Objects that are no text: `object`, `reason`.
    notes : list of str
        What first bytes say otherwise than names do.
    """

    listed: polars.DataFrame
    failed: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def looked_at(listed: polars.DataFrame, format: str | None, unit: str | None = None, encoding: str = "utf-8") -> Found:
    """Look at the first bytes of objects that are text by their names.

    Parameters
    ----------
    listed : polars.DataFrame
        uri, size, version, format and compression.
    format : str or None
        The format that the caller gave: then Parquet is none of it.
    unit : str or None
        What the caller takes as a record: as a document, what is parsed needs no name that says so.
    encoding : str
        Of text, as the caller gave it: bytes that are no UTF-8 may be text in another.
    """
    all_numbers = [
        number
        for number, (kind, size) in enumerate(zip(listed["format"], listed["size"], strict=True))
        if size > 0 and kind != "parquet" and not FORMATS[kind].is_parsed
    ]
    # what is compressed as a whole would be read to its end for the first bytes of all that is in it
    numbers, found = _looked_at_some(listed, [number for number in all_numbers if not is_solid(listed["version"][number])])
    unseen = numpy.zeros(len(listed), numpy.bool_)
    unseen[sorted(set(all_numbers) - set(numbers))] = True
    chosen_formats = listed["format"].to_list()
    formats, packs = listed["format"].to_list(), listed["compression"].to_list()
    encodings: list[str | None] = [None] * len(listed)
    failed: list[dict[str, str]] = []
    left = set()
    for number, seen in zip(numbers, found, strict=True):
        if seen is None:
            continue  # the reader reports the error
        if seen.kind == "parquet" and format is None:
            formats[number], packs[number] = "parquet", None
        elif seen.kind is not None and not (unit == "document" and seen.kind in DOCUMENTS):
            inside = f"{seen.compression} around " if seen.compression else ""
            what = "a Parquet file" if seen.kind == "parquet" else seen.kind
            left.add(number)
            reason = f"it is {inside}{what} by its first bytes, which is not read under this name"
            failed.append({"object": listed["uri"][number], "reason": f"{reason}. Name it so, convert it, or leave it out."})
        elif not seen.is_text and format is None and encoding == "utf-8":
            left.add(number)
            failed.append({"object": listed["uri"][number], "reason": f"it is {NO_TEXT}. Leave it out otherwise."})
        else:
            packs[number], encodings[number] = seen.compression, seen.encoding
    columns = {"format": formats, "compression": packs, "encoding": encodings}
    names = listed["compression"]
    listed = listed.with_columns(polars.Series(name, values, polars.String) for name, values in columns.items())
    listed = listed.with_columns(unseen=unseen)
    notes = described(listed.filter(polars.col("format") != "parquet"), names.filter(listed["format"] != "parquet"))
    others = sum(kind == "parquet" and before != kind for kind, before in zip(formats, chosen_formats, strict=True))
    if others:
        notes.append(f"{counted(others, 'object')} by first bytes: parquet")
    kept = [number for number in range(len(listed)) if number not in left]
    return Found(listed[kept] if left else listed, failed, notes)


def _looked_at_some(listed: polars.DataFrame, numbers: list[int]) -> tuple[list[int], list[Signature | None]]:
    """Return the numbers of the objects that are looked at, and what their first bytes say."""
    named = _named(listed)
    kinds = [number for number in numbers if named[number]]
    nameless = [number for number in numbers if not named[number]]
    some = sorted([*_spread(kinds, SOME), *(nameless if len(nameless) <= MOST else _spread(nameless, FEW))])
    found = _signatures(listed[some])
    given = listed["compression"][some]
    if len(some) == len(numbers) or all(seen is None or seen == Signature(name) for seen, name in zip(found, given, strict=True)):
        return some, found
    rest = sorted(set(numbers) - set(some))
    both = dict(zip(some, found, strict=True)) | dict(zip(rest, _signatures(listed[rest]), strict=True))
    return numbers, [both[number] for number in numbers]


def _named(listed: polars.DataFrame) -> list[bool]:
    """Whether each object's name says what it is."""
    says = (listed["format"] != "lines") | listed["compression"].is_not_null()
    pattern = rf"(?i)({'|'.join(map(re.escape, _TEXT))})(\.[0-9-]*)?$"
    return (says | listed["uri"].str.contains(pattern)).to_list()


def _spread(numbers: list[int], count: int) -> list[int]:
    """Return `count` of the numbers, evenly spread, with the first and the last; all of them if there are not more."""
    if len(numbers) <= count:
        return numbers
    return [numbers[round(index * (len(numbers) - 1) / (count - 1))] for index in range(count)]


def _signatures(chosen: polars.DataFrame) -> list[Signature | None]:
    objects = list(zip(chosen["uri"], chosen["version"], chosen["size"], strict=True))
    heads = storage.read_small(objects, HEAD)
    return [_signature(head, *item) for head, item in zip(heads, objects, strict=True)]


def _signature(head: bytes | StorageError, uri: str, version: str, size: int) -> Signature | None:
    if isinstance(head, StorageError):
        return None
    seen = signature(head)
    if seen.compression in ("bz2", "xz", "snappy", "hadoop-snappy") and size > HEAD and not beginning(head, seen.compression):
        try:
            seen = signature(storage.read_range(uri, 0, min(size, LONG_HEAD), version=version))
        except StorageError:
            return None
    return seen


def described(listed: polars.DataFrame, names: polars.Series) -> list[str]:
    """Return what first bytes say otherwise than names do, for `inspect`."""
    lines = []
    for column, by_name in (("compression", names), ("encoding", None)):
        values = listed[column].to_list()
        before = by_name.to_list() if by_name is not None else [None] * len(values)
        counts = Counter(value or "no compression" for value, old in zip(values, before, strict=True) if value != old)
        lines += [f"{counted(count, 'object')} by first bytes: {value}" for value, count in counts.items()]
    return lines
