"""What of a run's corpora was read, and by whom: every record and every byte is in one of four classes.

==================  ===================================================================================================
`read_by_model`     put before a model: in a sub-call that was answered, or whose answer was taken from the ledger
`read_by_code`      looked at by a verb, or by root code's function or SQL; what a root model is shown is among it
`excluded`          ruled out by statistics: a partition's value, the ranges of a row group
`not_read`          none of these; and all of a shard that could not be read
==================  ===================================================================================================

The first that holds is the class. Rows of Parquet and CSV, and lines of JSON, count whole, whichever of their columns were
shown; text counts by its bytes, so that of a document of which a model saw some paragraphs those count. Bytes of rows are
their share of the uncompressed file; blank lines between lines of JSON are no record's. What was really put before a model is
counted beside, in characters: a row of 4 MB of which one short column was shown is 4 MB touched and a few characters shown. The
shards' numbers are kept as a table::

    RUN/coverage.parquet    corpus, shard, object, start, stop, failed,
                            bytes, excluded_bytes, code_bytes, model_bytes, unread_bytes,
                            records, excluded_records, code_records, model_records, unread_records (null: not known)
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from pyroaring import BitMap64

from rlm_ray import storage
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.catalog.sizes import mean_size
from rlm_ray.ledger import journal
from rlm_ray.ledger.read_log import (
    CODE,
    DERIVED,
    EXCLUDED,
    FOLDER,
    MODEL,
    PART_BITS,
    RECORDS,
    TEXTS,
    object_key,
    unpacked,
    unpacked_sizes,
)
from rlm_ray.ledger.shares import CLASSES, Read, of_shard, whole_spanned
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import ClassBytes, ClassRecords, CorpusCoverage, Coverage, PromptAmount, PromptAmounts, ShardCoverage

TABLE = "coverage.parquet"
_COLUMNS = dict(zip(CLASSES, ("excluded", "code", "model", "unread"), strict=True))
_ROWS = 20_000


@dataclass(slots=True)
class Noted:
    """All marks of a run.

    Attributes
    ----------
    counts : dict of str to dict
        Records of shards, by corpus, of which no footer says it.
    texts : dict of str to int
        Characters put before a model that are no record's, by the key of the answer.
    characters : dict of (str, str) to list
        Places and characters of what was put before a model, by kind and object; see `ReadMarks.characters`.
    calls : dict of str to set of str
        Names of the sub-calls, by what they were about.
    """

    whole: dict[tuple[str, str], BitMap64] = field(default_factory=dict)
    shards: dict[tuple[str, int], Read] = field(default_factory=dict)
    named: dict[str, BitMap64] = field(default_factory=dict)
    counts: dict[str, dict[int, int]] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    characters: dict[tuple[str, str], list[tuple[Any, Any]]] = field(default_factory=dict)
    calls: dict[str, set[str]] = field(default_factory=dict)

    def add(self, entry: JsonObject) -> None:
        """Add an entry of a read log."""
        kind = entry["k"]
        if kind == "texts":
            self.texts.update(entry["r"])
        elif kind == "calls":
            self.calls.setdefault(entry["t"], set()).update(entry["r"])
        elif kind == "characters":
            self.characters.setdefault((entry["t"], entry["o"]), []).append(unpacked_sizes(entry["z"]))
        elif kind == "named":
            self.named.setdefault(entry["o"], BitMap64()).update(unpacked(entry["b"]))
        elif kind == "count":
            self.counts.setdefault(entry["c"], {}).update(zip(entry["s"], entry["n"], strict=True))
        elif "w" in entry:
            self.whole.setdefault((kind, entry["c"]), BitMap64()).update(unpacked(entry["w"]))
        else:
            read = self.shards.setdefault((entry["c"], entry["s"]), Read())
            if kind == "spanned":
                read.spanned |= dict(entry["r"])
            elif "b" in entry:
                read.set(kind).update(unpacked(entry["b"]))
            else:
                for low, high in entry["r"]:
                    read.set(kind).add_range(low, high)


def noted(run_dir: str) -> Noted:
    """Return what the calls of a run have noted. Reads their logs."""
    found = Noted()
    folder = storage.join(run_dir, FOLDER)
    for item in storage.listing(folder) if storage.exists(folder) else ():
        for entry in journal.values(storage.read_bytes(item.uri)):
            found.add(entry)
    return found


@dataclass(frozen=True, slots=True)
class Counted:
    """A corpus' shards in order: bytes and records by class, and which of them failed.

    Attributes
    ----------
    nbytes, records : array
        A row for each shard, a column for each of `CLASSES`; records that are not known are -1.
    failed : array of bool
    """

    nbytes: Any
    records: Any
    failed: Any

    def sums(self) -> ShardCoverage:
        """Add up the shards. The sum of records is None where some shard does not know its number."""
        nbytes = self.nbytes.sum(axis=0).tolist()
        unknown = (self.records < 0).any(axis=0).tolist()
        records = [None if some else count for some, count in zip(unknown, self.records.sum(axis=0).tolist(), strict=True)]
        return {**_by_class(nbytes, records), "shards": len(self.failed), "shards_failed": int(self.failed.sum())}


def counted(name: str, manifest: Manifest, found: Noted, failures: Iterable[tuple[str, int | None]] = ()) -> Counted:
    """Count all shards of a corpus: by columns, but for those of which parts were noted.

    Parameters
    ----------
    failures : iterable of (str, int or None)
        Objects, and the shard where it is one alone.
    """
    shards, size = manifest.shards, len(manifest.shards)
    resolve(name, manifest, found)
    objects, starts = (shards.table.column(column).to_numpy() for column in ("object", "start"))
    code, excluded = (_members(found.whole.get((kind, name), ()), size) for kind in (CODE, EXCLUDED))
    failed = _failed(manifest, failures)
    place = numpy.select([failed, code, excluded], [CLASSES.index(kind) for kind in ("not_read", "read_by_code", "excluded")], 3)
    nbytes, records = numpy.zeros((2, size, len(CLASSES)), numpy.int64)
    rows = shards.table.column("rows").fill_null(-1).to_numpy()
    nbytes[numpy.arange(size), place] = shards.table.column("nbytes").to_numpy()
    records[numpy.arange(size), place] = rows
    counts = found.counts.get(name, {})
    told = numpy.fromiter(counts, numpy.int64, len(counts))
    numbers = numpy.fromiter(counts.values(), numpy.int64, len(counts))
    plain = code[told] & ~failed[told]
    records[told[plain], CLASSES.index("read_by_code")] = numbers[plain]

    row_bytes = mean_size([column for column in manifest.schema if not column.startswith("_")], manifest.widths)
    marked = sorted({index for corpus, index in found.shards if corpus == name} | set(told[~plain].tolist()))
    made = _Made(shards, len(marked))
    while marked:
        index = heapq.heappop(marked)
        shard, read = made.shard(index), found.shards.get((name, index))
        if not failed[index]:
            one = of_shard(
                shard,
                read,
                code=bool(code[index]),
                excluded=bool(excluded[index]),
                row_bytes=row_bytes,
                count=counts.get(index),
            )
            nbytes[index] = one.nbytes
            records[index] = [-1 if number is None else number for number in one.records]
        behind = index + 1
        if behind < size and objects[behind] == objects[index] and read is not None and not shard.in_rows and not shard.packed:
            known = found.shards.get((name, behind))
            extended = _with_tail(known, read, int(starts[behind]))
            if extended is not None:
                found.shards[name, behind] = extended  # a line may reach over several
                if not marked or marked[0] != behind:
                    heapq.heappush(marked, behind)
    return Counted(nbytes, records, failed)


class _Made:
    """Shards by their ascending numbers: one by one, or where it is many many at a time."""

    def __init__(self, shards: Sequence[Shard], count: int) -> None:
        self._shards = shards
        self._step = 1_000 if 50 * count > len(shards) else 1
        self._first, self._some = 0, list[Shard]()

    def shard(self, index: int) -> Shard:
        if not self._first <= index < self._first + len(self._some):
            self._first = index
            self._some = list(self._shards[index : index + self._step])
        return self._some[index - self._first]


def _members(indexes: Iterable[int], size: int) -> Any:
    """Which shards are in a set."""
    found = numpy.zeros(size, numpy.bool_)
    numbers = numpy.fromiter(indexes, numpy.int64)
    found[numbers[numbers < size]] = True
    return found


def _failed(manifest: Manifest, failures: Iterable[tuple[str, int | None]]) -> Any:
    """Which shards are among the failures."""
    failed = set(failures)
    objects = manifest.shards.table.column("object").to_numpy()
    found = numpy.zeros(len(objects), numpy.bool_)
    if not failed:
        return found
    uris = manifest.shards.objects.column("uri")
    whole = pyarrow.array([uri for uri, index in failed if index is None], pyarrow.string())
    found |= pyarrow.compute.is_in(uris, whole).to_numpy()[objects]
    for uri, index in failed:
        if index is not None and index < len(objects) and uris[int(objects[index])].as_py() == uri:
            found[index] = True
    return found


def seen(found: Noted, corpus: str, shard: Shard) -> tuple[BitMap64, BitMap64 | None]:
    """Return the places of a shard's records that a model saw whole, and the positions that code looked at; None is all."""
    read = found.shards.get((corpus, shard.index), Read())
    code = None if shard.index in found.whole.get((CODE, corpus), ()) else read.set(CODE)
    if shard.in_rows:
        return read.set(MODEL), code
    return read.set("starts") | BitMap64(whole_spanned(read)), code


def _with_tail(read: Read | None, before: Read, start: int) -> Read | None:
    """The marks of a shard that begins at `start`, with what the last line of the shard before has of its bytes."""
    tails = {}
    for kind, positions in before.sets.items():
        if kind in (MODEL, CODE, EXCLUDED) and positions and positions.max() >= start:
            tails[kind] = BitMap64(range(start, positions.max() + 1)) & positions
    if not tails:
        return None
    read = read if read is not None else Read()
    for kind, positions in tails.items():
        read.set(kind).update(positions)
    return read


def resolve(name: str, manifest: Manifest, found: Noted) -> None:
    """Give the marks of records that are known by their address to the shards that have them."""
    if not found.named:
        return
    wanted = {address.partition(":")[2] for address in found.named}
    uris, versions = (manifest.shards.objects.column(column).to_pylist() for column in ("uri", "version"))
    here = [f"{version}@{uri}" in wanted for uri, version in zip(uris, versions, strict=True)]
    numbers = numpy.flatnonzero(numpy.array(here, numpy.bool_)[manifest.shards.table.column("object").to_numpy()])
    made = _Made(manifest.shards, len(numbers))
    for shard in map(made.shard, numbers.tolist()):
        unit = "row" if shard.in_rows else "bytes"
        positions = found.named.get(f"{unit}:{shard.version}@{shard.uri}")
        if positions is None:
            continue
        read = found.shards.setdefault((name, shard.index), Read())
        if shard.traits.whole_objects:
            read.set("starts").add(0)
            continue
        endless = shard.packed or (shard.rows is None and shard.in_rows)
        within = positions if endless else positions & BitMap64(range(shard.start, shard.stop))
        read.set(MODEL).update(within)


def prompted(found: Noted, manifests: Iterable[Manifest]) -> PromptAmounts:
    """Return what sub-calls were shown of some corpora: each part of a record once, however often it was shown."""
    named = {
        object_key(unit, version, uri)
        for manifest in manifests
        for uri, version in zip(*(manifest.shards.objects.column(name).to_pylist() for name in ("uri", "version")), strict=True)
        for unit in ("row", "bytes")
    }
    sums = {RECORDS: [0, 0], DERIVED: [0, 0]}
    for (kind, key), marked in found.characters.items():
        if key not in named:
            continue
        places, most = _joined(marked)
        sums[kind][0] += len(numpy.unique(places >> PART_BITS))
        sums[kind][1] += int(most.sum())
    shown, derived = (
        PromptAmount(calls=len(found.calls.get(kind, ())), records=records, characters=characters)
        for kind, (records, characters) in sums.items()
    )
    return PromptAmounts(**shown, derived=derived)


def characters_by_record(found: Noted, shard: Shard) -> dict[int, int]:
    """Return how many characters of each record of a shard's object sub-calls were shown, by where the record begins."""
    marked = found.characters.get((RECORDS, object_key("row" if shard.in_rows else "bytes", shard.version, shard.uri)))
    if marked is None:
        return {}
    places, most = _joined(marked)
    records, first = numpy.unique(places >> PART_BITS, return_inverse=True)
    sums = numpy.zeros(len(records), numpy.int64)
    numpy.add.at(sums, first, most)
    return dict(zip(records.tolist(), sums.tolist(), strict=True))


def _joined(marked: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Join marks of one object: the places in order, and the most characters that were shown of each."""
    places, first = numpy.unique(numpy.concatenate([places for places, _ in marked]), return_inverse=True)
    most = numpy.zeros(len(places), numpy.int64)
    numpy.maximum.at(most, first, numpy.concatenate([sizes for _, sizes in marked]))
    return places, most


def measure(run_dir: str, manifests: Mapping[str, Manifest], failures: Iterable[tuple[str, int | None]] = ()) -> Coverage:
    """Add up what a run read of its corpora, and write the numbers of the shards to `RUN/coverage.parquet`.

    Returns
    -------
    dict
        `bytes` and `records`, each with `total` and the four classes (records None where they are not known for every shard);
        `shards`, `shards_failed`; `shown`: `characters` of how many `records` that sub-calls were shown, in how many `calls`, and
        as `derived` the same of text that code or a model made of records; `unattributed`: `calls` and `characters` of text put
        before a model that is no record's; `corpora`: `bytes`, `records` and `shown` of each.

    Raises
    ------
    StorageError
        The logs cannot be read, or the table cannot be written.
    """
    found = noted(run_dir)
    sums: dict[str, ShardCoverage] = {}
    amounts: dict[str, PromptAmounts] = {}
    sink = io.BytesIO()
    with pyarrow.parquet.ParquetWriter(sink, _SCHEMA, compression="zstd") as writer:
        for name, manifest in manifests.items():
            shards = counted(name, manifest, found, failures)
            sums[name] = shards.sums()
            amounts[name] = prompted(found, [manifest])
            writer.write_table(_table(name, manifest, shards), row_group_size=_ROWS)
    storage.write_bytes(storage.join(run_dir, TABLE), sink.getvalue())
    every = list(sums.values())
    nbytes = [sum(cast(dict[str, int], item["bytes"])[kind] for item in every) for kind in CLASSES]
    records = [_sum(cast(dict[str, int | None], item["records"])[kind] for item in every) for kind in CLASSES]
    classes = _by_class(nbytes, records)
    return {
        "bytes": classes["bytes"],
        "records": classes["records"],
        "shards": sum(item["shards"] for item in every),
        "shards_failed": sum(item["shards_failed"] for item in every),
        "shown": prompted(found, manifests.values()),
        "unattributed": {"calls": len(found.calls.get(TEXTS, ())), "characters": sum(found.texts.values())},
        "corpora": {
            name: {
                "bytes": item["bytes"],
                "records": item["records"],
                "shown": {"records": amounts[name]["records"], "characters": amounts[name]["characters"]},
            }
            for name, item in sums.items()
        },
    }


def _by_class(nbytes: list[int], records: list[int | None]) -> CorpusCoverage:
    return {
        "bytes": cast(ClassBytes, {"total": sum(nbytes)} | dict(zip(CLASSES, nbytes, strict=True))),
        "records": cast(ClassRecords, {"total": _sum(records)} | dict(zip(CLASSES, records, strict=True))),
    }


def _sum(counts: Iterable[int | None]) -> int | None:
    every = list(counts)
    known = [count for count in every if count is not None]
    return sum(known) if len(known) == len(every) else None


_SCHEMA = pyarrow.schema(
    [("corpus", "string"), ("shard", "int32"), ("object", "string"), ("start", "int64"), ("stop", "int64")]
    + [("failed", "bool"), ("bytes", "int64"), ("records", "int64")]
    + [(f"{_COLUMNS[kind]}_{unit}", "int64") for unit in ("bytes", "records") for kind in CLASSES]
)


def _table(name: str, manifest: Manifest, told: Counted) -> pyarrow.Table:
    """The shards' numbers as columns."""
    shards, size = manifest.shards, len(manifest.shards)
    unknown = (told.records < 0).any(axis=1)
    columns = [pyarrow.repeat(name, size), numpy.arange(size), uris(manifest)]
    columns += [shards.table.column("start"), shards.table.column("stop"), told.failed, told.nbytes.sum(axis=1)]
    columns.append(pyarrow.array(told.records.sum(axis=1), mask=unknown))
    columns += list(told.nbytes.T)
    columns += [pyarrow.array(records, mask=records < 0) for records in told.records.T]
    return pyarrow.table(columns, _SCHEMA.names).cast(_SCHEMA)


def uris(manifest: Manifest) -> pyarrow.ChunkedArray:
    """Return the object of each shard of a corpus."""
    return manifest.shards.objects.column("uri").take(manifest.shards.table.column("object"))
