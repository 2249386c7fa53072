"""From a table's log to a manifest: its files as Parquet shards, deleted rows left out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
import pyarrow

from rlm_ray import storage
from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.building import Builder
from rlm_ray.corpus.catalog.footers import Footer, cut_groups, differences, groups_between, mean_widths, read_footers
from rlm_ray.corpus.catalog.lakehouse import delta, iceberg
from rlm_ray.corpus.catalog.lakehouse.names import parse
from rlm_ray.corpus.catalog.lakehouse.table import DataFile, Table
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.catalog.statistics import Ranges, is_ranged
from rlm_ray.corpus.meaning.constants import constant
from rlm_ray.corpus.meaning.types import in_utc, packed_types, shown_name, type_name
from rlm_ray.errors import InputError
from rlm_ray.storage import ObjectInfo

#: Up to so many files each is asked for its version; of more the prefix is listed.
_FEW = 64
_THREADS = 16


def open_table(uri: str, name: str = "context", shard_bytes: int = 64 << 20) -> Manifest:
    """Read a table's log and its files' footers, and cut shards. Reads no column.

    Parameters
    ----------
    uri : str
        See `names`.

    Raises
    ------
    InputError
        There is no such table or version, it uses what is not read here, or nothing of it can be read.
    MissingExtra
        The extra `tables` is not installed.
    CredentialsError, StorageError
        The store refuses or cannot be reached.
    """
    named = parse(uri)
    table = (delta if named.kind == "delta" else iceberg).load(named)
    return manifest_of(table, named.pinned(table.version), name, shard_bytes)


def manifest_of(table: Table, pinned: str, name: str = "context", shard_bytes: int = 64 << 20) -> Manifest:
    """Cut shards of a table whose log was read; `pinned` names it and its version. Reads footers."""
    if not table.files:
        raise InputError(f"{pinned} has no files: the table is empty. Check the version.")
    failed: list[dict[str, str]] = []
    found = list(_found(table, failed))
    footers = list(read_footers([info for _, info in found]))
    kinds = {shown_name(column.name): in_utc(type_name(column.type)).replace("large_", "") for column in table.schema}
    constant = {shown_name(column) for file in table.files for column in file.values}
    schema = {name: kind for name, kind in kinds.items() if name not in constant} | {
        name: kind for name, kind in kinds.items() if name in constant
    }
    builder = Builder()
    read = []
    for (file, info), footer in zip(found, footers, strict=True):
        reason = footer.error or _refusal(footer, table)
        if reason is not None:
            failed.append({"object": info.uri, "reason": reason})
        else:
            read.append(footer)
            _add(builder, file, info, footer, table, schema, shard_bytes)
    if not read:
        raise InputError(f"None of the {len(failed)} files of {pinned} can be read. {failed[0]['object']}: {failed[0]['reason']}.")
    shards = builder.shards("parquet", "utf-8", schema)
    if not len(shards):
        raise InputError(f"{pinned} has no rows: all that its files hold is deleted. Check the version.")
    return Manifest(
        name,
        "parquet",
        "row",
        [pinned],
        shards,
        schema,
        partition_columns=[column for column in schema if column in constant and is_simple(schema[column])],
        failed=sorted(failed, key=lambda entry: entry["object"]),
        widths=mean_widths(read),
        estimate=sum(footer.rows for footer in read),
        shard_bytes=shard_bytes,
        footers=shards.objects.num_rows,
        table=f"{table.kind}, {table.shown}",
    )


def is_simple(kind: str) -> bool:
    """Whether a partition's values of this type are JSON values that compare as they are."""
    return kind.startswith(("int", "uint")) or kind in ("string", "bool")


def _found(table: Table, failed: list[dict[str, str]]) -> Iterator[tuple[DataFile, ObjectInfo]]:
    """The table's files with their versions, in order of their names; what is not there has failed."""
    files = sorted(table.files, key=lambda file: file.uri)
    known: dict[str, ObjectInfo] = {}
    if len(files) > _FEW and table.root is not None and storage.exists(table.root):
        wanted = {file.uri for file in files}
        known = {info.uri: info for info in storage.listing(table.root) if info.uri in wanted}
    missing = [file.uri for file in files if file.uri not in known]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="files") as pool:
        known |= {info.uri: info for info in pool.map(storage.stat, missing) if info is not None}
    for file in files:
        if file.uri in known:
            yield file, known[file.uri]
        else:
            reason = f"it is a file of the table's {table.shown}, and is not there (a vacuum may have removed it)"
            failed.append({"object": file.uri, "reason": reason})


def _refusal(footer: Footer, table: Table) -> str | None:
    """Why a file does not fit its table."""
    try:
        table.finder.nested(footer, table.schema)
    except ValueError as error:
        return str(error)
    return None


def _add(
    builder: Builder,
    file: DataFile,
    info: ObjectInfo,
    footer: Footer,
    table: Table,
    schema: dict[str, str],
    shard_bytes: int,
) -> None:
    values = {shown_name(name): value for name, value in file.values.items()}
    stored = table.finder.columns(footer, table.schema)
    values |= {name: value for name, value in table.defaults.items() if name not in stored and name not in values}
    simple = [(name, value) for name, value in values.items() if is_simple(schema[name])]
    texts = [(name, None if value is None else str(value)) for name, value in values.items() if not is_simple(schema[name])]
    in_file = {name: kind for name, kind in schema.items() if name not in values}
    differs = differences(stored, in_file)
    nested = packed_types({name: kind for name, kind in table.finder.nested(footer, table.schema).items() if name not in values})
    builder.add_object(info, None, simple, differs, texts, nested)
    skipped = {name for name, _, _ in differs} | set(values)
    constants: Ranges = {name: (end, end) for name, value in values.items() if (end := _end(value, schema[name])) is not None}
    gone = file.deleted if file.deleted is not None else numpy.empty(0, numpy.int64)
    for start, stop, nbytes in cut_groups(footer.groups, shard_bytes):
        here = gone[(gone >= start) & (gone < stop)]
        if len(here) == stop - start:
            continue  # nothing of it is left
        groups = [(first, last, ranges | constants) for first, last, ranges in groups_between(footer, start, stop, skipped)]
        builder.add_shard(start, stop, stop - start - len(here), nbytes, groups, deletions.pack(here))


def _end(value: Any, kind: str) -> Any:
    """A partition's value as the ranges have it: times as whole numbers."""
    if value is None or not is_ranged(kind) or value != value:
        return None
    if kind.startswith("date32"):
        return constant(value, kind).cast(pyarrow.int32())[0].as_py()
    return constant(value, kind).cast(pyarrow.int64())[0].as_py() if kind.startswith("timestamp[") else value
