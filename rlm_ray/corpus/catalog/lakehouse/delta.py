"""Delta tables, through delta-rs: files of a version, values of partitions, deletion vectors."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote

import numpy
import pyarrow

from rlm_ray import storage
from rlm_ray.corpus.catalog.lakehouse.columns import FIELD_ID, Finder
from rlm_ray.corpus.catalog.lakehouse.names import TableName
from rlm_ray.corpus.catalog.lakehouse.table import DataFile, Table
from rlm_ray.corpus.meaning.readable import readable
from rlm_ray.errors import InputError, MissingExtra

#: Features of a table that a reader must know, and that are read here.
_KNOWN = {"deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
_KNOWN |= {"columnMapping", "typeWidening", "typeWidening-preview"}
#: What a column's metadata have of column mapping (Delta protocol, "Column Mapping").
_NUMBER, _PHYSICAL = b"delta.columnMapping.id", b"delta.columnMapping.physicalName"


def load(name: TableName) -> Table:
    """Read the log of a Delta table. Reads no file of data.

    Raises
    ------
    InputError
        There is no such table or version, or it uses what is not read here; names the feature.
    MissingExtra
        The extra `tables` is not installed.
    CredentialsError, StorageError
        The store refuses or cannot be reached.
    """
    try:
        import deltalake
        from deltalake.exceptions import DeltaError
    except ImportError:
        raise MissingExtra(f"Opening the Delta table {name.place}", "tables") from None
    options = storage.table_options(name.place)
    if not storage.exists(storage.join(name.place, "_delta_log")):
        raise InputError(f"There is no Delta table at {name.place}: it has no _delta_log. Check the path.")
    try:
        table = deltalake.DeltaTable(name.place, version=name.version, storage_options=options)
        _check_features(name, table)
        version = table.version()
        actions = pyarrow.table(table.get_add_actions(flatten=True))
        has_vectors = "deletionVectors" in (table.protocol().reader_features or ())
        # asked of a table without them it refuses features that it needs not know
        deleted = _deleted(pyarrow.table(table.deletion_vectors())) if has_vectors else {}
        schema = pyarrow.schema(table.schema().to_arrow())
    except (DeltaError, OSError) as error:
        which = "" if name.version is None else f" in version {name.version}"
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"{name.place} cannot be read as a Delta table{which}: {reason:.300}. Check the path and version."
        ) from None
    columns = [column for column in actions.column_names if column.startswith("partition.")]
    files = []
    known = [(column.removeprefix("partition."), _values(actions.column(column))) for column in columns]
    for number, path in enumerate(actions.column("path").to_pylist()):
        uri = _absolute(name.place, path)
        values = {column: items[number] for column, items in known}
        files.append(DataFile(uri, values, deleted.pop(_real(uri), None)))
    if deleted:
        raise InputError(
            f"The log of {name.place} names deleted rows of {next(iter(deleted))}, which is no file of version {version}. "
            "Check the table."
        )
    mode = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    names: dict[int, tuple[str, ...]] = {}
    if mode != "none":
        schema = pyarrow.schema([_numbered(column, names) for column in schema])
    return Table("Delta", version, f"version {version}", schema, files, name.place, Finder(names, by_number=mode == "id"))


def _numbered(column: pyarrow.Field, names: dict[int, tuple[str, ...]]) -> pyarrow.Field:
    """A column with its number of the table's column mapping; adds what it is called in files to `names`."""
    about = column.metadata or {}
    kind, types = column.type, pyarrow.types
    if types.is_struct(kind):
        kind = pyarrow.struct([_numbered(member, names) for member in kind])
    elif types.is_map(kind):
        kind = pyarrow.map_(_numbered(kind.key_field, names), _numbered(kind.item_field, names))
    elif types.is_list(kind):
        kind = pyarrow.list_(_numbered(kind.value_field, names))
    if _NUMBER not in about:
        return column.with_type(kind)
    number = int(about[_NUMBER])
    names[number] = (about.get(_PHYSICAL, column.name.encode()).decode(),)
    return column.with_type(kind).with_metadata({FIELD_ID: str(number).encode()})


def _values(column: pyarrow.ChunkedArray) -> list[Any]:
    return [value for chunk in column.chunks for value in readable(chunk)]


def _check_features(name: TableName, table: Any) -> None:
    protocol = table.protocol()
    unknown = sorted(set(protocol.reader_features or ()) - _KNOWN)
    if unknown:
        raise InputError(
            f"The Delta table {name.place} uses {', '.join(unknown)}, which is not read here. "
            "Write a copy of the table without it, and open that."
        )


def _deleted(vectors: pyarrow.Table) -> dict[str, Any]:
    """Row numbers that deletion vectors name, by file; what a vector does not reach is kept."""
    found = {}
    for path, keeps in zip(vectors.column("filepath").to_pylist(), vectors.column("selection_vector"), strict=True):
        flags = keeps.values.to_numpy(zero_copy_only=False)
        found[_real(storage.normal(path))] = numpy.flatnonzero(~flags)
    return found


def _real(uri: str) -> str:
    """A file's one name: delta-rs names vectors by it, and the files of a table as its path was given."""
    return os.path.realpath(uri) if storage.scheme(uri) == "file" else uri


def _absolute(root: str, path: str) -> str:
    """A path of the log as a URI: relative to the table as a rule, and written as in a URL."""
    return storage.normal(path if "://" in path else storage.join(root, unquote(path)))
