"""Opening a corpus: from URIs to a manifest. Listing and footers; of text, one small sample."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import numpy
import polars

from rlm_ray import storage
from rlm_ray.corpus import archive_listing, object_lists
from rlm_ray.corpus.archive_listing import Members
from rlm_ray.corpus.catalog.building import Builder, text_shards
from rlm_ray.corpus.catalog.footers import (
    END,
    THREADS,
    cut_groups,
    differences,
    groups_between,
    mean_widths,
    read_footers,
    unite_columns,
)
from rlm_ray.corpus.catalog.formats import FORMATS
from rlm_ray.corpus.catalog.lakehouse.names import is_table
from rlm_ray.corpus.catalog.manifest import Manifest, Shards, packed
from rlm_ray.corpus.catalog.objects import classify, partitions, relative_paths, table_of
from rlm_ray.corpus.catalog.shard import FRAMED, WIDE
from rlm_ray.corpus.looking import looked_at
from rlm_ray.corpus.reading.documents.extracting import require
from rlm_ray.corpus.reading.logs.layout import FOUND as NO_OPTIONS
from rlm_ray.corpus.reading.logs.layout import LogOptions
from rlm_ray.corpus.reading.parsed.foreign import Parsers
from rlm_ray.corpus.reading.reader import reader_of
from rlm_ray.corpus.reading.sampling import Sample
from rlm_ray.corpus.reading.text.compressed import frames
from rlm_ray.corpus.reading.text.dialect import FOUND, Given
from rlm_ray.corpus.reading.text.streams import MAX_RECORD
from rlm_ray.errors import InputError, StorageError
from rlm_ray.storage import ObjectInfo
from rlm_ray.storage.archives.places import is_cut_off
from rlm_ray.text import counted

#: How much text grows when it is decompressed, guessed.
_GROWTH = 5

#: Above so many Parquet files only some footers are read when a corpus is opened.
MAX_FOOTERS = 2_000
SOME_FOOTERS = 256


def open_manifest(
    *uris: str,
    name: str = "context",
    format: str | None = None,
    unit: str | None = None,
    shard_bytes: int = 64 << 20,
    encoding: str = "utf-8",
    tracked_changes: str = "accepted",
    dialect: Given = FOUND,
    logs: LogOptions = NO_OPTIONS,
    parsers: Parsers | None = None,
) -> Manifest:
    """List objects, read footers where there are any, and cut shards.

    Parameters
    ----------
    *uris : str
        Files, directories, globs, prefixes, lists of them (`list+…`, see `object_lists`); together one corpus. Or one table
        (see `lakehouse.names`).
    format : {None, "parquet", "text", "jsonl", "json", "csv", "avro", "orc", "sheet", "mail"}
        By extension where not given; where given, objects of another extension are left out.
    unit : {None, "line", "event", "document", "row"}
        What a record is; an event is a line with those that belong to it, as a stack trace does.
    shard_bytes : int
        About the uncompressed size of a shard.
    encoding : str
        Of text. UTF-16 and UTF-32 are recoded while they are read: one shard each; else a line break is the byte 10.
        A byte order mark, or zeros at every second byte, of an object come first.
    dialect : Given
        Separator, quote and escape of CSV; found in each object where not given.
    logs : LogOptions
            How events and columns of logs are found; by samples where not given.
    parsers : Parsers, optional
        Parse foreign formats in a sandbox; without it, archives cannot be read.
        tracked_changes : {"accepted", "shown"}
        Of documents: as if all changes were accepted, or with each change marked.

    Raises
    ------
    InputError
        Nothing is there, formats are mixed, or nothing of it can be read.
    CredentialsError, StorageError
        The store refuses or cannot be reached.
    """
    if not uris:
        raise InputError("No URI was given. Name a path, an s3:// prefix or a glob.")
    if any(is_table(uri) for uri in uris):
        return _open_table(uris, name, format, unit, shard_bytes)
    encoding = _checked_encoding(encoding)
    if tracked_changes not in ("accepted", "shown"):
        raise InputError(f"tracked_changes={tracked_changes!r} is not known. Use accepted or shown.")
    found = _unique(uris, parsers)
    table, unnamed = table_of(found.infos)
    failed = found.failed + [{"object": name, "reason": "its name is not UTF-8; rename it"} for name in unnamed]
    if not found.infos:
        raise InputError(_nothing_in(uris, found))
    if not len(table):
        raise InputError(f"No name at {', '.join(uris)} is UTF-8, of {counted(len(unnamed), 'object')}: {unnamed[0]}. Rename them.")
    unreadable: list[dict[str, str]] = []
    seen = list(found.notes)

    def look(named: polars.DataFrame) -> polars.DataFrame:
        by_bytes = looked_at(named, format, unit, encoding)
        unreadable.extend(by_bytes.failed)
        seen.extend(by_bytes.notes)
        return by_bytes.listed

    kind, unit, listed = classify(table, format, unit, look)
    failed += unreadable
    if not len(listed) and unreadable:
        reasons = "; ".join(f"{entry['object']}: {entry['reason']}" for entry in unreadable[:3])
        raise InputError(f"Nothing at {', '.join(uris)} can be read, of {counted(len(table), 'object')}. {reasons}")
    if kind == "lines" and logs.parse is not None:
        kind = "fields"
    facts = FORMATS[kind]
    if facts.has_footers and format is None:
        _no_table(uris, listed["uri"])
    left_out = len(table) - len(listed) - len(unreadable)
    empty = [] if facts.whole_objects else listed.filter(listed["size"] == 0)["uri"].to_list()
    if empty:
        listed = listed.filter(listed["size"] > 0)
    if not len(listed):
        raise InputError(f"What is at {', '.join(uris)} is empty ({counted(len(empty), 'object')}). Check what wrote it.")
    given = list(uris)
    if facts.whole_objects:
        require(listed["uri"].to_list())
    if facts.has_footers:
        failed += [{"object": uri, "reason": "the file is empty"} for uri in empty]
        manifest = _open_parquet(name, given, listed, failed, shard_bytes)
    else:
        told = logs.to_text() if kind in ("events", "fields") else dialect.to_text()
        manifest = _open_text(name, kind, unit, given, listed, failed, shard_bytes, encoding, tracked_changes, told, parsers)
    return replace(
        manifest,
        failed=sorted(failed, key=lambda entry: entry["object"]),
        left_out=left_out,
        reading="; ".join([*filter(None, [manifest.reading]), *seen]),
    )


def _open_table(uris: Sequence[str], name: str, format: str | None, unit: str | None, shard_bytes: int) -> Manifest:
    from rlm_ray.corpus.catalog.lakehouse.opening import open_table

    if len(uris) > 1:
        raise InputError(
            f"A table is a corpus of its own, and here are {len(uris)} URIs: {', '.join(uris)}. Open them apart, by name."
        )
    if format not in (None, "parquet") or unit not in (None, "row"):
        raise InputError(f"The records of the table {uris[0]} are rows. Leave format={format!r} and unit={unit!r} out.")
    return open_table(uris[0], name, shard_bytes)


def _no_table(uris: Sequence[str], names: polars.Series) -> None:
    """Refuse the files of a Delta or Iceberg table as plain Parquet: they hold replaced and deleted rows too."""
    folders: dict[str, None] = {}
    for uri in names.head(1_000):
        folder = uri.rpartition("/")[0]
        while folder.rpartition("/")[2].partition("=")[1]:
            folder = folder.rpartition("/")[0]
        # an Iceberg table keeps its files in a folder `data`
        folders |= dict.fromkeys([folder, folder.removesuffix("/data")])
    for folder in list(folders)[:32]:
        log, metadata = storage.join(folder, "_delta_log"), storage.join(folder, "metadata")
        if _has(log, ".json") or _has(log, ".checkpoint.parquet"):
            raise InputError(
                f"{folder} is a Delta table: its Parquet files also hold rows that were replaced or deleted. Open "
                f"'delta+{folder}', or give format='parquet' to read all files as they are."
            )
        if folder in (names[0].rpartition("/")[0], *folders) and _has(metadata, ".metadata.json"):
            raise InputError(
                f"{folder} is an Iceberg table: its Parquet files also hold rows that were replaced or deleted. Open "
                f"'iceberg+{metadata}/….metadata.json' or by its catalogue, or give format='parquet' to read all files as they are."
            )


def _has(folder: str, ending: str) -> bool:
    try:
        return any(info.uri.endswith(ending) for info in islice(storage.listing(folder), 1_000))
    except (InputError, StorageError):
        return False


def _unique(uris: Sequence[str], parsers: Parsers | None) -> Members:
    """Return the objects at the URIs, once each and in order, those that a list names and the store does not have, and what
    archives among them hold."""
    if len(uris) == 1 and not object_lists.is_list(uris[0]):
        return _members(*archive_listing.opened(uris[0]), parsers)
    infos: dict[str, ObjectInfo] = {}
    members: dict[str, ObjectInfo] = {}
    failed: list[dict[str, str]] = []
    notes: list[str] = []
    for uri in reversed(uris):
        if object_lists.is_list(uri):
            listed, absent = object_lists.listed_in(uri, open_manifest)
            failed += absent
        elif (named := archive_listing.opened(uri))[1]:
            inside = _members(*named, parsers)
            members |= {info.uri: info for info in inside.infos}
            failed += inside.failed
            continue
        else:
            listed = list(storage.listing(uri))
        infos |= {info.uri: info for info in listed}
    found = archive_listing.with_members([infos[uri] for uri in sorted(infos)], parsers)
    others = [info for uri, info in members.items() if uri not in {info.uri for info in found.infos}]
    return Members(found.infos + others, failed + found.failed, notes + found.notes)


def _members(place: str, wanted: str, parsers: Parsers | None) -> Members:
    """Return the objects at a URI, of archives those members that are wanted."""
    return archive_listing.chosen(archive_listing.with_members(sorted(storage.listing(place)), parsers), wanted)


def _nothing_in(uris: Sequence[str], found: Members) -> str:
    if not found.failed:
        return f"Nothing to read at {', '.join(uris)}: no archive there has such a member. Check the path behind '!/'."
    reasons = "; ".join(f"{entry['object']}: {entry['reason']}" for entry in found.failed[:3])
    return f"Nothing at {', '.join(uris)} can be read, of {counted(len(found.failed), 'object')}. {reasons}."


def _checked_encoding(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        fine = "a\n".encode(name) == b"a\n"
    except (LookupError, TypeError):
        raise InputError(f"encoding={encoding!r} is not known. Use utf-8, latin-1, cp1252 or another name of Python's.") from None
    if not fine and not name.startswith(WIDE):
        raise InputError(f"encoding={encoding!r} does not end lines with the byte 10. Convert the objects to UTF-8 first.")
    return name


def _open_parquet(name: str, uris: list[str], listed: polars.DataFrame, failed: list[dict[str, str]], shard_bytes: int) -> Manifest:
    infos = [ObjectInfo(*row) for row in listed.select("uri", "size", "version").iter_rows()]
    read = _to_read(len(infos))
    footers = dict(zip(read, read_footers([infos[number] for number in read]), strict=True))
    failed += [{"object": infos[number].uri, "reason": footer.error} for number, footer in footers.items() if footer.error]
    good = {number: footer for number, footer in footers.items() if footer.error is None}
    if not good:
        reasons = "; ".join(f"{entry['object']}: {entry['reason']}" for entry in failed[:3])
        raise InputError(f"No Parquet file at {', '.join(uris)} can be read, of {len(failed)}. {reasons}. Check the files.")
    readable = [number for number in range(len(infos)) if number in good or number not in footers]
    schema, conflicts = unite_columns(list(good.values()))
    folders = [infos[number].uri.rpartition("/")[0] for number in readable]
    split_columns, by_folder = partitions(dict.fromkeys(folders))
    values = [by_folder[folder] for folder in folders]
    in_files = {column: kind for column, kind in schema.items() if column not in split_columns}
    growth = sum(footer.nbytes for footer in good.values()) / max(1, sum(infos[number].size for number in good))
    builder = Builder()
    for number, value in zip(readable, values, strict=True):
        footer = good.get(number)
        if footer is None:
            # its footer is read when it is scanned
            builder.add_object(infos[number], None, value)
            builder.add_shard(0, END, None, round(infos[number].size * growth))
            continue
        differs = differences(footer.columns, in_files)
        builder.add_object(infos[number], None, value, differs)
        for start, stop, nbytes in cut_groups(footer.groups, shard_bytes):
            builder.add_shard(
                start, stop, stop - start, nbytes, groups_between(footer, start, stop, {name for name, _, _ in differs})
            )
    rows = sum(footer.rows for footer in good.values())
    return Manifest(
        name,
        "parquet",
        "row",
        uris,
        builder.shards("parquet", "utf-8", in_files),
        in_files | split_columns,
        partition_columns=list(split_columns),
        conflicts=[column for column in conflicts if column not in split_columns],
        widths=mean_widths(list(good.values())),
        estimate=round(rows * len(readable) / len(good)),
        shard_bytes=shard_bytes,
        footers=len(good),
    )


def _to_read(count: int) -> list[int]:
    """Numbers of the files whose footers are read: all, or of very many an even sample with both ends."""
    if count <= MAX_FOOTERS:
        return list(range(count))
    return sorted({round(index * (count - 1) / (SOME_FOOTERS - 1)) for index in range(SOME_FOOTERS)})


def _open_text(
    name: str,
    kind: str,
    unit: str,
    uris: list[str],
    listed: polars.DataFrame,
    failed: list[dict[str, str]],
    shard_bytes: int,
    encoding: str,
    tracked_changes: str,
    dialect: str,
    parsers: Parsers | None,
) -> Manifest:
    facts = FORMATS[kind]
    if facts.whole_objects:
        large = listed["size"] > MAX_RECORD
        reason = f"it is larger than {MAX_RECORD >> 20} MiB, the most that is read as one document"
        failed += [{"object": uri, "reason": reason} for uri in listed.filter(large)["uri"]]
        listed = listed.filter(~large)
        if not len(listed):
            raise InputError(f"No document can be read, of {len(failed)}: {reason}. Open them with unit='line'.")
    names = listed["uri"].to_list()
    folders = [uri[: uri.rfind("/")] for uri in names]
    split_columns, by_folder = partitions(dict.fromkeys(folders))
    if facts.whole_objects:
        told = [packed((*by_folder[folder], ("path", path))) for folder, path in zip(folders, relative_paths(names), strict=True)]
    else:
        texts = {folder: packed(values) for folder, values in by_folder.items()}
        told = [texts[folder] for folder in folders]
    compression, sizes = listed["compression"].to_list(), listed["size"].to_numpy().copy()  # of what is cut
    for number, nbytes in _framed(kind, listed, shard_bytes, encoding).items():
        compression[number], sizes[number] = FRAMED, nbytes
    packs = numpy.array([item not in (None, FRAMED) for item in compression])
    cut_off = numpy.array([is_cut_off(version) for version in listed["version"]])
    whole = cut_off | packs | (not facts.is_cut or encoding.startswith(WIDE)) | listed["encoding"].is_not_null().to_numpy()
    changes = [tracked_changes if facts.whole_objects and tracked_changes == "shown" else None] * len(names)
    columns = {"compression": compression, "partitions": told, "tracked_changes": changes}
    objects = listed.with_columns(polars.Series(name, values, polars.String) for name, values in columns.items())
    shards = text_shards(objects, sizes, whole, shard_bytes, kind, encoding, growth=numpy.where(packs, _GROWTH, 1), dialect=dialect)
    sampled = _sampled(kind, shards, parsers)
    if sampled.dialect is not None:
        shards = shards.read_as(sampled.dialect)
    manifest = Manifest(
        name,
        kind,
        unit,
        uris,
        shards,
        {column: type_ for column, type_ in sampled.schema.items() if column not in split_columns} | split_columns,
        partition_columns=list(split_columns),
        shard_bytes=shard_bytes,
        reading=sampled.note,
    )
    return _with_estimate(manifest, sampled.width)


def _sampled(kind: str, shards: Shards, parsers: Parsers | None) -> Sample:
    """Return what some objects say of the columns of all."""
    reader = reader_of(kind)
    if reader.sample_parsed is not None:
        return reader.sample_parsed(shards, parsers)
    if reader.sample is None:
        raise InputError(f"Objects of the format {kind} are not opened by a listing. Give another format.")
    return reader.sample(shards)


def _framed(kind: str, listed: polars.DataFrame, shard_bytes: int, encoding: str) -> dict[int, int]:
    """Uncompressed bytes of those zstd objects that are large enough to be cut and can be, by number."""
    if not FORMATS[kind].is_cut or encoding.startswith(WIDE):
        return {}
    large = listed.with_row_index().filter(
        (polars.col("compression") == "zstd") & polars.col("encoding").is_null() & (polars.col("size") * _GROWTH > shard_bytes)
    )
    large = large.filter([not is_cut_off(version) for version in large["version"]])
    with ThreadPoolExecutor(THREADS, thread_name_prefix="frames") as pool:
        tables = pool.map(frames, large["uri"], large["version"], large["size"])
        return {
            number: table.nbytes for number, table in zip(large["index"], tables, strict=True) if table is not None and table.nbytes
        }


def _with_estimate(manifest: Manifest, width: float) -> Manifest:
    names = [column for column in manifest.schema if column not in manifest.partition_columns and not column.startswith("_")]
    widths = dict.fromkeys(names, width / max(1, len(names)))
    return replace(manifest, estimate=max(1, round(manifest.nbytes / max(1.0, width))), widths=widths)
