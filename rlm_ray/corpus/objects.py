"""What a listing's names say: format, compression and hive partitions of each object. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

from rlm_ray.corpus.formats.extracting import KINDS
from rlm_ray.errors import InputError
from rlm_ray.storage import ObjectInfo

COMPRESSIONS = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
EXTENSIONS = {".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"} | dict.fromkeys(
    KINDS, "document"
)
FORMATS = ("parquet", "text", "jsonl", "csv")
UNITS = ("line", "document", "row")
_UNIT = {"parquet": "row", "jsonl": "row", "csv": "row", "lines": "line", "document": "document", "segment": "row"}
_INTEGER = re.compile(r"-?\d{1,18}")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


class Listed(NamedTuple):
    """One object with what its name says."""

    info: ObjectInfo
    format: str
    compression: str | None


def kind_of(uri: str) -> tuple[str, str | None]:
    """Return format and compression by extension; what is not known is text, line by line.

    Examples
    --------
    >>> kind_of("s3://lake/a.parquet"), kind_of("app.log.gz"), kind_of("b.jsonl.zst")
    (('parquet', None), ('lines', 'gzip'), ('jsonl', 'zstd'))
    """
    # of many thousand names few end differently
    parts = uri[uri.rfind("/") + 1 :].lstrip(".").split(".")[1:]
    return _kind_of(tuple(parts[-2:]))


@lru_cache(1_024)
def _kind_of(extensions: tuple[str, ...]) -> tuple[str, str | None]:
    *before, last = [f".{extension.lower()}" for extension in extensions] or [""]
    compression = COMPRESSIONS.get(last)
    if compression is not None:
        last = before[0] if before else ""
    return EXTENSIONS.get(last, "lines"), compression


def classify(infos: Iterable[ObjectInfo], format: str | None, unit: str | None) -> tuple[str, str, list[Listed]]:
    """Return format, unit and objects of a corpus.

    A format given by name takes the objects whose extension says it and leaves the others out; where no extension does,
    it takes them all. Without one, all objects that are not empty must have the same.

    Raises
    ------
    InputError
        Formats are mixed, or format and unit do not go together.
    """
    if format is not None and format not in FORMATS:
        raise InputError(f"format={format!r} is not known. Use one of {', '.join(FORMATS)}, or leave it out.")
    if unit is not None and unit not in UNITS:
        raise InputError(f"unit={unit!r} is not known. Use one of {', '.join(UNITS)}, or leave it out.")
    listed = []
    for info in infos:
        kind, compression = kind_of(info.uri)
        listed.append(Listed(info, kind, None if kind == "parquet" else compression))
    if format is not None:
        listed = _taken_as(listed, "lines" if format == "text" else format)
    if unit == "document":
        listed = [item if item.format == "parquet" else item._replace(format="document") for item in listed]
    first_of: dict[str, str] = {}
    for item in listed:
        if item.info.size:  # an empty object is a marker at most
            first_of.setdefault(item.format, item.info.uri)
    if len(first_of) > 1:
        raise InputError(
            "One corpus has one format, and here are several: "
            + ", ".join(f"{kind} ({uri})" for kind, uri in first_of.items())
            + ". Name the one that is meant with format='parquet' or the like, or open them apart under names of their own."
        )
    kind = next(iter(first_of), listed[0].format)
    natural = _UNIT[kind]
    if unit is not None and unit != natural and (kind, unit) != ("jsonl", "line"):
        raise InputError(f"unit={unit!r} does not go with {kind} objects, whose records are {natural}s. Leave it out.")
    return kind, natural, [item for item in listed if item.format == kind]


def _taken_as(listed: list[Listed], format: str) -> list[Listed]:
    """The objects that a format given by name means: those whose extension says it; where none does, all."""
    if format == "lines":
        meant = [item for item in listed if item.format != "parquet"]
    else:
        meant = [item for item in listed if item.format == format]
    chosen = meant or listed
    return [item._replace(format=format, compression=None if format == "parquet" else item.compression) for item in chosen]


def partitions(uris: Sequence[str]) -> tuple[dict[str, str], list[tuple[tuple[str, Any], ...]]]:
    """Return the partition columns with their types, and each object's values, from `key=value` directories.

    Examples
    --------
    >>> partitions(["/lake/day=1/a.log", "/lake/day=2/b.log"])
    ({'day': 'int64'}, [(('day', 1),), (('day', 2),)])
    """
    folders = [uri.rpartition("/")[0] for uri in uris]
    raw = {folder: _pairs(folder) for folder in dict.fromkeys(folders)}
    names: dict[str, bool] = {}
    for pairs in raw.values():
        for name, value in pairs.items():
            names[name] = names.get(name, True) and (value is None or _INTEGER.fullmatch(value) is not None)
    # a column with no value at all is text
    numbers = {name for name, fine in names.items() if fine and any(pairs.get(name) is not None for pairs in raw.values())}
    values = {
        folder: tuple(
            (name, int(text) if name in numbers and (text := pairs.get(name)) is not None else pairs.get(name)) for name in names
        )
        for folder, pairs in raw.items()
    }
    return {name: "int64" if name in numbers else "string" for name in names}, [values[folder] for folder in folders]


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
