"""Rows that Iceberg's equality deletes name by their values: found once, when a table is opened, as numbers of rows.

A delete counts for the files of its partition, or of all where it has none, that were written before it (Iceberg spec, "Scan
Planning"). Of a file that one counts for, the columns that it names are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
import polars
import pyarrow
import pyarrow.parquet

from rlm_ray import storage
from rlm_ray.corpus.catalog.lakehouse.columns import field_id
from rlm_ray.corpus.catalog.lakehouse.names import TableName
from rlm_ray.errors import InputError

_THREADS = 8
_BATCH_ROWS = 1 << 17


class EqualityDeletes:
    """The equality deletes of a snapshot.

    Parameters
    ----------
    name : TableName
    specs : mapping
        The table's partition specs, by their numbers.
    mapping : mapping of int to tuple of str
        The names of columns in files without field ids.
    """

    def __init__(self, name: TableName, specs: Any, mapping: Mapping[int, tuple[str, ...]]) -> None:
        self._name, self._specs, self._mapping = name, specs, mapping
        self._entries: list[Any] = []
        self._sequences: dict[str, int] = {}
        self._read: dict[str, polars.DataFrame] = {}

    def takes(self, entry: Any) -> bool:
        """Note an entry of a manifest; return whether it is an equality delete."""
        from pyiceberg.manifest import DataFileContent

        if entry.data_file.content == DataFileContent.EQUALITY_DELETES:
            self._entries.append(entry)
            return True
        self._sequences[entry.data_file.file_path] = entry.sequence_number or 0
        return False

    def rows(self, files: Sequence[Any]) -> dict[str, Any]:
        """Return the numbers of the deleted rows, by file; reads the deletes, and the columns they name of files they count for.

        Raises
        ------
        InputError
            A delete file is not read here; names it.
        """
        works = [(file, deletes) for file in files if (deletes := self._counting_for(file))]
        for _, deletes in works:
            for entry in deletes:
                self._keys(entry.data_file)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="deletes") as pool:
            found = pool.map(lambda work: self._rows(*work), works)
            return {work[0].file_path: rows for work, rows in zip(works, found, strict=True) if len(rows)}

    def _counting_for(self, file: Any) -> list[Any]:
        written = self._sequences.get(file.file_path, 0)
        return [
            entry
            for entry in self._entries
            if (entry.sequence_number or 0) > written
            and (
                self._specs[entry.data_file.spec_id].is_unpartitioned()
                or (entry.data_file.spec_id == file.spec_id and entry.data_file.partition == file.partition)
            )
        ]

    def _keys(self, file: Any) -> polars.DataFrame:
        """The values that a delete file names, a column for each number."""
        if file.file_path not in self._read:
            if file.file_format.name != "PARQUET":
                raise InputError(
                    f"The Iceberg table {self._name.place} has {file.file_format.name} delete files, as {file.file_path}. "
                    "Only Parquet and Puffin are read."
                )
            if not file.equality_ids:
                raise InputError(
                    f"The Iceberg table {self._name.place} has equality deletes that name no columns, as {file.file_path}. "
                    "Compact the table, or open a snapshot before them."
                )
            frames = list(self._columns(file, file.equality_ids))
            self._read[file.file_path] = polars.concat(frames).unique() if frames else polars.DataFrame()
        return self._read[file.file_path]

    def _rows(self, file: Any, deletes: Sequence[Any]) -> Any:
        by_columns: dict[tuple[int, ...], list[polars.DataFrame]] = {}
        for entry in deletes:
            by_columns.setdefault(tuple(sorted(entry.data_file.equality_ids)), []).append(self._keys(entry.data_file))
        gone = []
        for numbers, keys in by_columns.items():
            at = 0
            names = [str(number) for number in numbers]
            for frame in self._columns(file, numbers):
                numbered = frame.with_row_index("row", at)
                for wanted in keys:
                    if wanted.height:
                        alike = wanted.select(polars.col(name).cast(frame.schema[name]) for name in names)
                        gone.append(numbered.join(alike, on=names, how="semi", nulls_equal=True)["row"].to_numpy())
                at += frame.height
        return numpy.unique(numpy.concatenate(gone)).astype(numpy.int64) if gone else numpy.empty(0, numpy.int64)

    def _columns(self, file: Any, numbers: Sequence[int]) -> Iterator[polars.DataFrame]:
        """Batches of some columns of a file, each named by its number; null where the file has it not."""
        with storage.open_input(storage.literal(file.file_path)) as source:
            opened = pyarrow.parquet.ParquetFile(source, pre_buffer=True)
            stored = {number: self._stored(opened.schema_arrow, number) for number in numbers}
            there = {number: name for number, name in stored.items() if name is not None}
            for batch in opened.iter_batches(batch_size=_BATCH_ROWS, columns=list(there.values()), use_threads=False):
                nothing = pyarrow.nulls(batch.num_rows, pyarrow.int64())
                arrays = {str(number): _widest(batch.column(there[number])) if number in there else nothing for number in numbers}
                yield polars.DataFrame(pyarrow.table(arrays))

    def _stored(self, schema: pyarrow.Schema, number: int) -> str | None:
        for column in schema:
            if field_id(column) == number:
                return column.name
        if any(field_id(column) is not None for column in schema):
            return None
        return next((name for name in self._mapping.get(number, ()) if name in schema.names), None)


def _widest(array: Any) -> Any:
    """Values as they compare: of a column that was widened, files have both types."""
    types, kind = pyarrow.types, array.type
    if types.is_nested(kind):
        raise ValueError("a delete by the values of a nested column is not read here")
    if types.is_integer(kind):
        return array.cast(pyarrow.int64())
    if types.is_floating(kind):
        return array.cast(pyarrow.float64())
    return array.cast(pyarrow.decimal128(38, kind.scale)) if types.is_decimal(kind) else array
