"""Reads lists of objects: a text, CSV, JSON lines or Parquet file of URIs, a Delta or Iceberg table of them, an S3 Inventory.

A list saves the listing of a large bucket, and names exactly the objects that are meant. It is read as any corpus is, batch by
batch. Of objects for which it has size and version nothing is asked of the store; the versions are compared when they are read.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict, cast
from urllib.parse import unquote_plus

import pyarrow

from rlm_ray import storage
from rlm_ray.corpus.catalog.lakehouse.names import is_table
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, StorageError
from rlm_ray.storage import ObjectInfo
from rlm_ray.text import counted

PREFIX = "list+"
#: Objects of which size and version are asked for at a time, and by how many threads.
_AT_ONCE, _THREADS = 10_000, 32
_URI = ("uri", "url", "path", "object", "file", "location")
_SIZE = ("size", "bytes", "length", "size_bytes", "content_length", "file_size_in_bytes")
_VERSION = ("version", "etag", "e_tag")
_INVENTORY = ("sourceBucket", "destinationBucket", "fileFormat", "fileSchema", "files")

Row = tuple[str, int | None, str | None]


class _InventoryFile(TypedDict):
    key: str


class _Inventory(TypedDict):
    """The manifest.json of an S3 Inventory (Amazon S3 User Guide, "Inventory list")."""

    destinationBucket: str
    fileFormat: str
    fileSchema: str
    files: list[_InventoryFile]


def is_list(uri: str) -> bool:
    """Whether a URI names a list of objects.

    Examples
    --------
    >>> is_list("list+s3://team/tonight.txt"), is_list("s3://team/list+of.txt")
    (True, False)
    """
    return isinstance(uri, str) and uri.startswith(PREFIX)


def listed_in(uri: str, open_manifest: Callable[..., Manifest]) -> tuple[list[ObjectInfo], list[dict[str, str]]]:
    """Return the objects that a list names, in the order of their URIs, and those that are not in the store.

    Parameters
    ----------
    uri : str
        `list+` and the list's own URI.
    open_manifest : callable
        Opens the list itself as a corpus.

    Returns
    -------
    (list of ObjectInfo, list of dict)
        Of an object that stands there twice the last row counts. What is missing: `object`, `reason`.

    Raises
    ------
    InputError
        The list has no column of URIs, is empty, or cannot be read.
    """
    name = uri.removeprefix(PREFIX)
    found: dict[str, ObjectInfo] = {}
    missing: dict[str, None] = {}
    try:
        for rows in _grouped(_inventory(name, open_manifest) or _rows(name, open_manifest), _AT_ONCE):
            for place, info in _known(rows):
                if info is None:
                    missing[place] = None
                else:
                    found[place] = info
    except StorageError as error:
        raise InputError(f"The list {storage.shown(name)} cannot be read: {error}") from None
    if not found and not missing:
        raise InputError(f"The list {storage.shown(name)} names no object. Check what wrote it.")
    if not found:
        named = counted(len(missing), "object")
        raise InputError(f"The list {storage.shown(name)} names {named}, and none is in the store: {next(iter(missing))}.")
    reason = f"the list {storage.shown(name)} names it, and it is not in the store"
    return [found[place] for place in sorted(found)], [{"object": place, "reason": reason} for place in missing]


def _known(rows: Sequence[Row]) -> Iterator[tuple[str, ObjectInfo | None]]:
    unknown = [place for place, size, version in rows if size is None or not version]
    with ThreadPoolExecutor(_THREADS) as pool:
        asked = dict(zip(unknown, pool.map(storage.stat, unknown), strict=True))
    for place, size, version in rows:
        yield place, ObjectInfo(place, size, version) if size is not None and version else asked[place]


def _rows(name: str, open_manifest: Callable[..., Manifest]) -> Iterator[Row]:
    """Yield the rows of a list that is a corpus of its own."""
    manifest = open_manifest(name, name="list")
    if manifest.failed:
        raise InputError(f"The list {storage.shown(name)} cannot be read whole: {manifest.failed[0]['reason']}.")
    folder = posixpath.dirname(name) if not is_table(name) else ""
    yield from _rows_of(manifest, folder, name)


def _rows_of(manifest: Manifest, folder: str, name: str) -> Iterator[Row]:
    if manifest.unit == "line":
        for batch in _batches(manifest, ["text"]):
            yield from (_line(text, folder) for text in batch.column("text").to_pylist() if text.strip())
        return
    columns = {column.lower(): column for column in manifest.schema}
    place = next((columns[column] for column in _URI if column in columns), None)
    if place is None and not {"bucket", "key"} <= columns.keys():
        raise InputError(
            f"The list {storage.shown(name)} has no column of URIs. Name it uri (or bucket and key), with size and version where "
            f"they are known; its columns are: {', '.join(manifest.schema)}."
        )
    size, version = (next((columns[name] for name in names if name in columns), None) for names in (_SIZE, _VERSION))
    flags = [columns[flag] for flag in ("is_latest", "is_delete_marker") if flag in columns]
    wanted = [column for column in (place, size, version, *flags) if column] + (
        [] if place else [columns["bucket"], columns["key"]]
    )
    for batch in _batches(manifest, wanted):
        for row in batch.select(wanted).to_pylist():
            if row.get(columns.get("is_latest", "")) is False or row.get(columns.get("is_delete_marker", "")) is True:
                continue
            given = row[place] if place else f"s3://{row[columns['bucket']]}/{row[columns['key']]}"
            if given:
                yield _row(given, folder, row[size] if size else None, row[version] if version else None)


def _batches(manifest: Manifest, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
    everything = bind((), manifest.schema)
    for shard in manifest.shards:
        yield from Work(shard, everything).scan(columns=columns)


def _line(text: str, folder: str) -> Row:
    """Return a line of a text: a URI; behind tabs its size and version, where they are known."""
    place, *more = text.strip().split("\t")
    return _row(place, folder, more[0] if more else None, more[1] if len(more) > 1 else None)


def _row(place: str, folder: str, size: Any, version: Any) -> Row:
    relative = "://" not in place and not place.startswith("/") and folder
    try:
        number = None if size in (None, "") else int(size)
    except (TypeError, ValueError):
        raise InputError(f"The list names {place!r:.200} with the size {size!r:.50}, which is no number of bytes.") from None
    return storage.normal(f"{folder}/{place}" if relative else place), number, str(version).strip('"') if version else None


def _inventory(name: str, open_manifest: Callable[..., Manifest]) -> Iterator[Row] | None:
    """Yield the rows of an S3 Inventory where the list is its manifest.json."""
    if posixpath.basename(name) != "manifest.json":
        return None
    about = json.loads(storage.read_bytes(name))
    if not isinstance(about, dict) or not all(key in about for key in _INVENTORY):
        return None
    return _inventory_rows(cast("_Inventory", about), name, open_manifest)


def _inventory_rows(about: _Inventory, name: str, open_manifest: Callable[..., Manifest]) -> Iterator[Row]:
    bucket = str(about["destinationBucket"]).rpartition(":::")[2]
    files = [f"s3://{bucket}/{item['key']}" for item in about["files"]]
    form = str(about["fileFormat"]).upper()
    if form == "PARQUET" and files:
        manifest = open_manifest(*files, name="list", format="parquet")
        if manifest.failed:
            raise InputError(f"The inventory {storage.shown(name)} cannot be read whole: {manifest.failed[0]['reason']}.")
        yield from _rows_of(manifest, "", name)
    elif form == "CSV":
        columns = [column.strip().lower() for column in str(about["fileSchema"]).split(",")]
        for file in files:
            yield from _inventory_csv(file, columns)
    elif files:
        raise InputError(
            f"The inventory {storage.shown(name)} is of the form {form}, which is not read. Let it be written as Parquet or CSV."
        )


def _inventory_csv(file: str, columns: Sequence[str]) -> Iterator[Row]:
    try:
        with storage.open_input(file) as source, gzip.open(source) as data, io.TextIOWrapper(data, "utf-8", newline="") as text:
            for values in csv.reader(text):
                row = dict(zip(columns, values, strict=False))
                if row.get("islatest", "true") == "true" and row.get("isdeletemarker", "false") == "false":
                    yield _row(f"s3://{row['bucket']}/{unquote_plus(row['key'])}", "", row.get("size"), row.get("etag"))
    except (OSError, EOFError, csv.Error, KeyError) as error:
        raise InputError(f"{file} of the inventory cannot be read: {error!s:.200}. Check what wrote it.") from None


def _grouped(rows: Iterable[Row], count: int) -> Iterator[list[Row]]:
    held: list[Row] = []
    for row in rows:
        held.append(row)
        if len(held) == count:
            yield held
            held = []
    if held:
        yield held
