"""Makes shards: one by one from footers and logs, or all at once from a listing. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import polars
import pyarrow

from rlm_ray.corpus.catalog import statistics
from rlm_ray.corpus.catalog.formats import FORMATS
from rlm_ray.corpus.catalog.manifest import OBJECTS, SHARDS, Manifest, Shards, packed
from rlm_ray.corpus.catalog.statistics import Ranges, RowGroup
from rlm_ray.errors import InputError
from rlm_ray.storage import ObjectInfo


def text_shards(
    objects: polars.DataFrame,
    sizes: numpy.ndarray,
    whole: numpy.ndarray,
    shard_bytes: int,
    format: str,
    encoding: str,
    growth: numpy.ndarray,
    dialect: str = "",
) -> Shards:
    """Return the shards of text objects.

    Parameters
    ----------
    objects : polars.DataFrame
        Columns of the manifest's table of objects; those that are left out are empty.
    sizes : array of int
        Bytes of what is cut of each: its text, where its compression lets it be cut.
    whole : array of bool
        Which are one shard each.
    shard_bytes : int
        Most bytes of a shard of the others.
    growth : array of int
        How much of text a byte of each is.
    """
    counts = numpy.where(whole, 1, -(-sizes // shard_bytes))
    numbers = numpy.repeat(numpy.arange(len(sizes)), counts)
    start = (numpy.arange(len(numbers)) - numpy.repeat(numpy.cumsum(counts) - counts, counts)) * shard_bytes
    stop = numpy.where(whole[numbers], sizes[numbers], numpy.minimum(start + shard_bytes, sizes[numbers]))
    shards = {"object": numbers, "start": start, "stop": stop, "nbytes": (stop - start) * growth[numbers]}
    if FORMATS[format].whole_objects:
        shards["rows"] = numpy.ones(len(numbers), numpy.int64)
    columns = {name: objects[name].to_arrow(compat_level=polars.CompatLevel.oldest()) for name in objects.columns}
    return Shards(_filled(columns, OBJECTS), _filled(shards, SHARDS), format, encoding, dialect=dialect)


def _filled(columns: Mapping[str, Any], schema: pyarrow.Schema) -> pyarrow.Table:
    count = len(next(iter(columns.values()), ()))
    filled = []
    for field in schema:
        values = columns.get(field.name)
        if isinstance(values, pyarrow.Array):
            filled.append(values.cast(field.type))
        else:
            filled.append(pyarrow.nulls(count, field.type) if values is None else pyarrow.array(values, field.type))
    return pyarrow.table(filled, schema=schema)


class Builder:
    """Collects objects and shards in order."""

    def __init__(self) -> None:
        self._objects: list[tuple[Any, ...]] = []
        self._shards: list[tuple[Any, ...]] = []
        self._groups: list[RowGroup] = []
        self._partitions: tuple[Any, str | None] = ((), None)

    def add_object(
        self,
        info: ObjectInfo,
        compression: str | None = None,
        partitions: Sequence[tuple[str, Any]] = (),
        differs: Sequence[tuple[str, str, str]] = (),
        constants: Sequence[tuple[str, str | None]] = (),
        nested: str = "",
    ) -> None:
        """Add an object; the shards that follow are its."""
        if partitions is not self._partitions[0]:  # most objects have those of the one before them
            self._partitions = (partitions, packed(partitions))
        others = packed(differs), packed(constants), nested or None
        self._objects.append((info.uri, info.version, info.size, compression, self._partitions[1], *others))

    def add_shard(
        self,
        start: int,
        stop: int,
        rows: int | None,
        nbytes: int,
        groups: Sequence[tuple[int, int, Ranges]] = (),
        deleted: bytes = b"",
    ) -> None:
        """Add a shard of the last object, with the first row, the last (exclusive) and the ranges of its row groups."""
        self._groups += [RowGroup(len(self._shards), *group) for group in groups]
        self._shards.append((len(self._objects) - 1, start, stop, rows, nbytes, deleted or None))

    def shards(self, format: str, encoding: str, schema: dict[str, str] | None = None) -> Shards:
        """Return what was collected."""
        ranges = statistics.table(self._groups, schema) if schema else None
        return Shards(_turned(self._objects, OBJECTS), _turned(self._shards, SHARDS), format, encoding, ranges)


def _turned(rows: list[tuple[Any, ...]], schema: pyarrow.Schema) -> pyarrow.Table:
    return _filled(dict(zip(schema.names, zip(*rows, strict=True), strict=False)), schema)


def manifest_of_segments(name: str, segments: Sequence[Mapping[str, Any]], schema: dict[str, str]) -> Manifest:
    """Return the manifest of a result: Parquet files of the run directory, in the order given. Reads nothing.

    Parameters
    ----------
    segments : sequence of dict
        `uri`, `rows` and `nbytes` (uncompressed) of each file; optionally `version`, and `columns`: its own types
        where they are not all the schema's.
    schema : dict
        Columns and type names of all of them, `_address` and `_error` included; a `json` column is JSON text in the file.
    """
    builder = Builder()
    for segment in segments:
        if min(segment["rows"], segment["nbytes"]) < 0:
            raise InputError(f"Segment {segment['uri']} has a negative size. Write the segment again.")
        here = segment.get("columns") or schema
        differs = [(column, column, here.get(column, "")) for column, kind in schema.items() if here.get(column) != kind]
        builder.add_object(ObjectInfo(segment["uri"], 0, segment.get("version", "")), differs=differs)
        builder.add_shard(0, segment["rows"], segment["rows"], segment["nbytes"])
    rows = sum(segment["rows"] for segment in segments)
    total = sum(segment["nbytes"] for segment in segments)
    widths = dict.fromkeys(schema, total / max(1, rows) / max(1, len(schema)))
    return Manifest(name, "segment", "row", [], builder.shards("segment", "utf-8"), schema, widths=widths)
