"""Reads format, compression and hive partitions from the names of a listing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from typing import Any
from urllib.parse import unquote

import polars

from rlm_ray.corpus.catalog.formats import FORMATS, UNITS
from rlm_ray.corpus.meaning.types import FOLDER
from rlm_ray.errors import InputError
from rlm_ray.storage import ObjectInfo

COMPRESSIONS = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "bz2",
    ".xz": "xz",
    ".lz4": "lz4",
    ".snappy": "snappy",
    ".sz": "snappy",
}
#: Small files that Word keeps beside a document while it is open.
_OWNER = r"(^|/)~\$[^/]*\.(?i:do[ct][xm]?|rtf|odt)$"
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def table_of(infos: Sequence[ObjectInfo]) -> tuple[polars.DataFrame, list[str]]:
    """Return a listing as columns, and the names that are no UTF-8, as they can be shown."""
    try:
        return _columns(infos), []
    except UnicodeEncodeError:
        shown = [info.uri.encode("utf-8", "backslashreplace").decode() for info in infos]
        fine = [info.uri == text for info, text in zip(infos, shown, strict=True)]
        return _columns(list(compress(infos, fine))), [text for text, is_fine in zip(shown, fine, strict=True) if not is_fine]


def _columns(infos: Sequence[ObjectInfo]) -> polars.DataFrame:
    kinds = {"uri": polars.String, "size": polars.Int64, "version": polars.String}
    # column by column: turning rows by `zip(*rows)` takes ten times as long
    return polars.DataFrame(
        [polars.Series(name, [info[number] for info in infos], kind) for number, (name, kind) in enumerate(kinds.items())]
    )


def kind_of(uri: str) -> tuple[str, str | None]:
    """Return format and compression by extension; what is not known is text, line by line.

    Examples
    --------
    >>> kind_of("s3://lake/a.parquet"), kind_of("app.log.gz"), kind_of("b.jsonl.zst")
    (('parquet', None), ('lines', 'gzip'), ('jsonl', 'zstd'))
    """
    name = uri[uri.rfind("/") + 1 :].lstrip(".")
    *before, last = [f".{part.lower()}" for part in name.split(".")[1:]] or [""]
    compression = COMPRESSIONS.get(last)
    if compression is not None:
        last = before[-1] if before else ""
    kind = FORMATS.by_extension(last)
    return kind.name, None if kind.has_footers else compression


def classify(
    listed: polars.DataFrame,
    format: str | None,
    unit: str | None,
    look: Callable[[polars.DataFrame], polars.DataFrame] | None = None,
) -> tuple[str, str, polars.DataFrame]:
    """Return format, unit and objects of a corpus; these with a column `compression`.

    A format given by name takes the objects whose extension says it and leaves the others out; where no extension does,
    it takes them all. Without one, all objects that are not empty must have the same.

    Parameters
    ----------
    listed : polars.DataFrame
        Columns uri, size and version.
    look : callable, optional
        Gives the objects back as their first bytes say.

    Raises
    ------
    InputError
        Formats are mixed, or format and unit do not go together.
    """
    named = None if format is None else FORMATS.by_option(format).name
    if unit is not None and unit not in UNITS:
        raise InputError(f"unit={unit!r} is not known. Use one of {', '.join(UNITS)}, or leave it out.")
    owners = listed["uri"].str.contains(_OWNER)
    if owners.any() and not owners.all():
        listed = listed.filter(~owners)
    listed = listed.with_columns(_by_ending(listed["uri"]))
    if named is not None:
        listed = _taken_as(listed, named)
    if look is not None and format != "parquet":
        listed = look(listed)
        if format is not None:
            listed = listed.filter(polars.col("format") != "parquet") if format != "parquet" else listed
        if not len(listed):
            return "lines", "line", listed.drop("format")
    if unit == "document":
        others = polars.when(polars.col("format") == "parquet").then("format").otherwise(polars.lit("document"))
        listed = listed.with_columns(format=others)
    if unit == "event":
        listed = listed.with_columns(polars.col("format").replace("lines", "events"))
    # an empty object is a marker at most
    first_of = listed.filter(polars.col("size") > 0).unique("format", keep="first", maintain_order=True)
    if len(first_of) > 1:
        raise InputError(
            "One corpus has one format, and here are several: "
            + ", ".join(f"{kind} ({uri})" for kind, uri in first_of.select("format", "uri").iter_rows())
            + ". Name the one that is meant with format='parquet' or the like, or open them apart under names of their own."
        )
    kind = str((first_of if len(first_of) else listed)["format"][0])
    natural = FORMATS[kind].unit
    if unit is not None and unit != natural and (kind, unit) not in (("jsonl", "line"), ("json", "line")):
        raise InputError(f"unit={unit!r} does not go with {kind} objects, whose records are {natural}s. Leave it out.")
    return kind, natural, listed.filter(polars.col("format") == kind).drop("format")


#: Files of a Maildir: the folder, a time in seconds and what makes the name unique.
_MAILDIR = r"(?:^|/)(?:cur|new)/[0-9]{9,}\.[^/]+$"


def _by_ending(uris: polars.Series) -> list[polars.Series]:
    """Format and compression of each: of many thousand names few end differently."""
    # what stands behind the last two dots of a name, behind its first letter
    endings = uris.str.extract(r"[^./][^/]*?((?:\.[^./]*){1,2})$").fill_null("")
    kinds = {ending: kind_of(f"x{ending}") for ending in endings.unique()}
    columns = [
        endings.replace_strict({ending: kind[number] for ending, kind in kinds.items()}, return_dtype=polars.String).alias(name)
        for number, name in enumerate(("format", "compression"))
    ]
    mails = uris.str.contains(_MAILDIR)
    if mails.any():
        columns = [column.set(mails, value) for column, value in zip(columns, ("mail", None), strict=True)]
    return columns


def _taken_as(listed: polars.DataFrame, format: str) -> polars.DataFrame:
    """The objects that a format given by name means: those whose extension says it; where none does, all."""
    meant = listed.filter(polars.col("format") != "parquet" if format == "lines" else polars.col("format") == format)
    chosen = meant if len(meant) else listed
    kept = polars.lit(None, polars.String) if format == "parquet" else polars.col("compression")
    return chosen.with_columns(format=polars.lit(format), compression=kept)


def partitions(folders: Iterable[str]) -> tuple[dict[str, str], dict[str, tuple[tuple[str, Any], ...]]]:
    """Return the partition columns with their types, and each folder's values, from `key=value` directories.

    A value is what stands there: a folder more does not change what another's means.

    Examples
    --------
    >>> partitions(["/lake/day=01", "/lake/day=2"])
    ({'day': 'folder'}, {'/lake/day=01': (('day', '01'),), '/lake/day=2': (('day', '2'),)})
    """
    raw = {folder: _pairs(folder) for folder in folders}
    names = list(dict.fromkeys(name for pairs in raw.values() for name in pairs))
    return dict.fromkeys(names, FOLDER), {folder: tuple((name, pairs.get(name)) for name in names) for folder, pairs in raw.items()}


def _pairs(folder: str) -> dict[str, str | None]:
    pairs: dict[str, str | None] = {}
    for part in folder.split("/"):
        name, equals, value = part.partition("=")
        if equals and name:
            pairs[unquote(name)] = None if value == _NO_VALUE else unquote(value)
    return pairs


def relative_paths(uris: Sequence[str]) -> list[str]:
    """Return each object's path below the directory that all share.

    Examples
    --------
    >>> relative_paths(["s3://b/contracts/x/1.txt", "s3://b/contracts/2.txt"])
    ['x/1.txt', '2.txt']
    """
    folders = {uri.rpartition("/")[0] for uri in uris}
    shared = next(iter(folders)).split("/")
    for folder in folders:
        parts = folder.split("/")
        same = next((index for index, pair in enumerate(zip(shared, parts, strict=False)) if pair[0] != pair[1]), None)
        shared = shared[: min(len(shared), len(parts)) if same is None else same]
    skip = len("/".join(shared)) + 1 if shared else 0
    return [uri[skip:] for uri in uris]
