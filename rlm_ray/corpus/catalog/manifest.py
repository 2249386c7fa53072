"""The manifest: shards of a corpus, from a listing and from footers. Columns in memory, Parquet in a run directory."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, overload

import numpy
import polars
import pyarrow
import pyarrow.parquet

from rlm_ray import storage
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.meaning.types import FOLDER
from rlm_ray.storage import ObjectInfo
from rlm_ray.text import counted

SHARDS = pyarrow.schema(
    [("object", "int32"), ("start", "int64"), ("stop", "int64"), ("rows", "int64"), ("nbytes", "int64"), ("deleted", "binary")]
)
OBJECTS = pyarrow.schema(
    [
        ("uri", "string"),
        ("version", "string"),
        ("size", "int64"),
        ("compression", "string"),
        ("partitions", "string"),
        ("differs", "string"),
        ("constants", "string"),
        ("nested", "string"),
        ("tracked_changes", "string"),
        ("encoding", "string"),
        ("unseen", "bool"),
    ]
)

#: Shards that are made at once when all of them are asked for.
_AT_ONCE = 10_000
#: Few enough to be kept once they are made, and how many such ranges are kept.
_FEW, _KEPT = 4, 256


class Shards(Sequence[Shard]):
    """Shards as columns; each is made when asked for."""

    def __init__(
        self,
        objects: pyarrow.Table,
        shards: pyarrow.Table,
        format: str,
        encoding: str,
        ranges: pyarrow.Table | None = None,
        dialect: str = "",
    ) -> None:
        self.dialect = dialect
        self.objects, self.table, self.format, self.encoding, self.ranges = objects, shards, format, encoding, ranges
        self._kept: dict[tuple[int, int], tuple[Shard, ...]] = {}

    def read_as(self, dialect: str) -> Shards:
        """Return the shards with another dialect."""
        return Shards(self.objects, self.table, self.format, self.encoding, self.ranges, dialect)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Shard: ...
    @overload
    def __getitem__(self, index: slice) -> list[Shard]: ...
    def __getitem__(self, index: int | slice) -> Shard | list[Shard]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return [self[number] for number in range(start, stop, step)]
            if stop - start <= _FEW:
                return list(self._few(start, stop))
            return [shard for first in range(start, stop, _AT_ONCE) for shard in self._made(first, min(first + _AT_ONCE, stop))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"shard {index} of {len(self)}")
        return next(self._made(number, number + 1))

    def __iter__(self) -> Iterator[Shard]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._made(start, min(start + _AT_ONCE, len(self)))

    def _few(self, start: int, stop: int) -> tuple[Shard, ...]:
        """A few shards, kept: a part of a corpus is asked for again and again."""
        if (start, stop) not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[start, stop] = tuple(self._made(start, stop))
        return self._kept[start, stop]

    @cached_property
    def row_ends(self) -> numpy.ndarray | None:
        """Records up to the end of each shard; None where a shard's number of records is not known."""
        rows = self.table.column("rows")
        return None if rows.null_count else numpy.cumsum(rows.to_numpy())

    def _made(self, start: int, stop: int) -> Iterator[Shard]:
        numbers, *cuts = _rows(self.table, SHARDS, start, stop)
        if not numbers:
            return
        first = numbers[0]
        objects = list(zip(*_rows(self.objects, OBJECTS, first, numbers[-1] + 1), strict=True))
        for index, number, low, high, rows, nbytes, deleted in zip(range(start, stop), numbers, *cuts, strict=True):
            uri, version, size, compression, partitions, differs, constants, nested, *text = objects[number - first]
            changes, encoding, unseen = text
            yield Shard(
                index=index,
                object=number,
                uri=uri,
                version=version,
                size=size,
                format=self.format,
                compression=compression,
                start=low,
                stop=high,
                rows=rows,
                nbytes=nbytes,
                partitions=_tuples(partitions),
                differs=_tuples(differs),
                encoding=encoding or self.encoding,
                dialect=self.dialect,
                constants=_tuples(constants),
                nested=nested or "",
                tracked_changes=changes or "accepted",
                deleted=deleted or b"",
                unseen=bool(unseen),
            )


def _rows(table: pyarrow.Table, schema: pyarrow.Schema, start: int, stop: int) -> list[list[Any]]:
    """Return some rows of a table, column by column."""
    return [table.column(name).slice(start, stop - start).to_pylist() for name in schema.names]


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by their size, before texts; names of folders that are numbers too."""
    try:
        return False, float(value), str(value)
    except ValueError:
        return True, 0.0, str(value)


def packed(items: Any) -> str | None:
    """Return names and values as a manifest's tables have them."""
    return json.dumps(items, ensure_ascii=False) if items else None


@lru_cache(4_096)  # many objects share a folder, and what is said of it
def _tuples(text: str | None) -> tuple[Any, ...]:
    return tuple(tuple(item) for item in json.loads(text)) if text else ()


@dataclass(frozen=True)
class Manifest:
    """What a corpus consists of. Holds no data; costs a few hundred bytes per object.

    Attributes
    ----------
    name : str
        The corpus' name in root code.
    format, unit : str
        Of the objects (see Shard), and what a record is: row, line or document.
    uris : list of str
        As they were given.
    shards : Sequence of Shard
        In record order.
    schema : dict of str to str
        Columns and readable types, partition columns last.
    failed : list of dict
        Objects that cannot be read: `{"object", "reason"}`.
    conflicts : list of str
        Columns that are JSON text because the objects disagree on their type.
    widths : dict of str to float
        Average bytes of each column's values, estimated.
    estimate : int or None
        Number of records where it is not known exactly.
    footers : int or None
        Of Parquet: the files whose footers were read. Of very many it is a sample, and the others may have more columns.
    left_out : int
        Objects of another format than the one that was asked for.
    table : str
        Of a table: its kind and version, as people read it.
    reading : str
        Of text: the encoding, compression and CSV dialect that were found, where they are not what the names say.
    fingerprint : str
        Equal for equal objects, versions and cuts.
    """

    name: str
    format: str
    unit: str
    uris: list[str]
    shards: Shards
    schema: dict[str, str]
    partition_columns: list[str] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    widths: dict[str, float] = field(default_factory=dict)
    estimate: int | None = None
    shard_bytes: int = 64 << 20
    footers: int | None = None
    left_out: int = 0
    table: str = ""
    reading: str = ""

    @property
    def objects(self) -> list[ObjectInfo]:
        """The objects that can be read."""
        columns = (self.shards.objects.column(name).to_pylist() for name in ("uri", "size", "version"))
        return [ObjectInfo(*row) for row in zip(*columns, strict=True)]

    @property
    def nbytes(self) -> int:
        """Uncompressed bytes, estimated where compression hides them."""
        return int(pyarrow.compute.sum(self.shards.table.column("nbytes")).as_py() or 0)

    @property
    def records(self) -> int | None:
        """Number of records where footers say it."""
        rows = self.shards.table.column("rows")
        return None if rows.null_count else int(pyarrow.compute.sum(rows).as_py() or 0)

    @cached_property
    def fingerprint(self) -> str:
        """Equal for equal objects, versions and cuts, in every process and on every day."""
        digest = hashlib.sha256(
            f"{self.format} {self.unit} {self.shards.encoding} {self.shard_bytes}{self.shards.dialect}".encode()
        )
        for changes in self.shards.objects.column("tracked_changes").unique().drop_null().to_pylist():
            digest.update(changes.encode())
        for batch in self.shards.objects.select(["uri", "version", "size"]).to_batches(_AT_ONCE):
            uris, versions, sizes = (polars.Series(values) for values in batch.columns)
            lines = polars.select(polars.format("\n{}\0{}\0{}", uris, versions, sizes)).to_series()
            digest.update("".join(lines).encode())
        for deleted in self.shards.table.column("deleted").drop_null().to_pylist():
            digest.update(deleted)
        return digest.hexdigest()[:32]

    def info(self) -> dict[str, Any]:
        """Return what a handle shows, as JSON values. Reads nothing."""
        exact = self.records
        info = {
            "kind": self.format,
            "unit": self.unit,
            "schema": {name: "string" if kind == FOLDER else kind for name, kind in self.schema.items()},
            "shards": len(self.shards),
            "objects": self.shards.objects.num_rows,
            "nbytes": self.nbytes,
            "records": exact,
            "estimate": self.estimate if exact is None else None,
            "partitions": self._partitions(),
            "failed": list(self.failed),
            "uris": list(self.uris),
            "conflicts": list(self.conflicts),
        }
        if self.table:
            info["table"] = self.table
        if self.reading:
            info["reading"] = self.reading
        if self.left_out:
            info["left_out"] = f"{counted(self.left_out, 'object')} of another format"
        if self.footers is not None and self.footers < self.shards.objects.num_rows:
            info["footers"] = f"read of {self.footers:,} of {counted(self.shards.objects.num_rows, 'file')}"
        return info

    def _partitions(self) -> dict[str, Any]:
        counts: dict[str, Counter[Any]] = {name: Counter() for name in self.partition_columns}
        if counts:
            for row in self.shards.objects.column("partitions").value_counts().to_pylist():
                for name, value in _tuples(row["values"]):
                    if name in counts:
                        counts[name][value] += row["counts"]
        summary = {}
        for name, values in counts.items():
            known = sorted((value for value in values if value is not None), key=_order)
            summary[name] = {"values": known[:20], "distinct": len(values)}
            if known:
                summary[name] |= {"min": known[0], "max": known[-1]}
        return summary

    def only(self, uris: Collection[str]) -> Manifest:
        """Return the manifest of some of the objects; all else is as it was, partitions and paths too."""
        kept = numpy.array([uri in uris for uri in self.shards.objects.column("uri").to_pylist()], numpy.bool_)
        objects = numpy.cumsum(kept) - 1
        mine = kept[self.shards.table.column("object").to_numpy()] if len(self.shards) else numpy.zeros(0, numpy.bool_)
        numbers = numpy.cumsum(mine) - 1
        table = self.shards.table.filter(pyarrow.array(mine))
        moved = pyarrow.array(objects[table.column("object").to_numpy()], pyarrow.int32())
        table = table.set_column(table.column_names.index("object"), "object", moved)
        ranges = self.shards.ranges
        if ranges is not None:
            ranges = ranges.filter(pyarrow.array(mine[ranges.column("shard").to_numpy()]))
            moved = pyarrow.array(numbers[ranges.column("shard").to_numpy()], pyarrow.int32())
            ranges = ranges.set_column(ranges.column_names.index("shard"), "shard", moved)
        some = Shards(
            self.shards.objects.filter(pyarrow.array(kept)),
            table,
            self.shards.format,
            self.shards.encoding,
            ranges,
            self.shards.dialect,
        )
        share = int(table.num_rows) / max(1, len(self.shards))
        return replace(self, shards=some, estimate=None if self.estimate is None else round(self.estimate * share))

    def save(self, uri: str) -> None:
        """Write the manifest below `uri`: up to three Parquet files and one of JSON, which comes last."""
        tables = {"objects": self.shards.objects, "shards": self.shards.table, "ranges": self.shards.ranges}
        for name, table in tables.items():
            if table is None:
                continue
            buffer = io.BytesIO()
            # names and versions of objects hardly repeat
            repeated = [column for column in table.column_names if column not in ("uri", "version", "start", "stop", "nbytes")]
            pyarrow.parquet.write_table(table, buffer, compression="zstd", use_dictionary=repeated)
            storage.write_bytes(storage.join(uri, f"{name}.parquet"), buffer.getvalue())
        fields = (
            "name",
            "format",
            "unit",
            "uris",
            "schema",
            "partition_columns",
            "failed",
            "conflicts",
            "widths",
            "estimate",
            "footers",
            "table",
            "reading",
        )
        rest = {name: getattr(self, name) for name in fields} | {
            "shard_bytes": self.shard_bytes,
            "encoding": self.shards.encoding,
            "dialect": self.shards.dialect,
        }
        storage.write_bytes(storage.join(uri, "manifest.json"), json.dumps(rest).encode())

    @classmethod
    def load(cls, uri: str) -> Manifest:
        """Read back what `save` wrote.

        Raises
        ------
        StorageError
            There is no manifest.
        """
        rest = json.loads(storage.read_bytes(storage.join(uri, "manifest.json")))
        tables = {}
        for name, schema in (("objects", OBJECTS), ("shards", SHARDS)):
            data = pyarrow.BufferReader(storage.read_bytes(storage.join(uri, f"{name}.parquet")))
            columns = pyarrow.parquet.read_table(data)
            # a manifest of an earlier version has fewer
            for absent in (item for item in schema if item.name not in columns.column_names):
                columns = columns.append_column(absent, pyarrow.nulls(len(columns), absent.type))
            tables[name] = columns.select(schema.names).cast(schema)
        encoding, dialect = rest.pop("encoding"), rest.pop("dialect", "")
        data = storage.find_bytes(storage.join(uri, "ranges.parquet"))
        ranges = None if data is None else pyarrow.parquet.read_table(pyarrow.BufferReader(data))
        return cls(shards=Shards(tables["objects"], tables["shards"], rest["format"], encoding, ranges, dialect), **rest)
