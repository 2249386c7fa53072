"""Iceberg tables, through pyiceberg: what its own planning says are the files of a snapshot, and their deleted rows."""

from __future__ import annotations

import contextlib
import warnings
import zlib
from collections.abc import Mapping
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet

from rlm_ray import storage
from rlm_ray.corpus.catalog.lakehouse.columns import Finder, field_id
from rlm_ray.corpus.catalog.lakehouse.equality_deletes import EqualityDeletes
from rlm_ray.corpus.catalog.lakehouse.names import TableName
from rlm_ray.corpus.catalog.lakehouse.table import DataFile, Table
from rlm_ray.corpus.meaning.nested import DEFAULT, packed
from rlm_ray.corpus.meaning.readable import jsonable, readable
from rlm_ray.corpus.meaning.types import shown_name
from rlm_ray.errors import InputError, MissingExtra, RlmRayError

#: How a file of metadata is called that is packed, and how any is.
_PACKED = (".gz.metadata.json", ".metadata.json.gz")
_METADATA = (".metadata.json", ".metadata.json.gz")
_MOST_METADATA = 512 << 20


def load(name: TableName) -> Table:
    """Read the metadata of an Iceberg table, and its delete files. Reads no file of data.

    Raises
    ------
    InputError
        There is no such table or snapshot, or it uses what is not read here; names it.
    MissingExtra
        The extra `tables` is not installed.
    CredentialsError, StorageError
        The store refuses or cannot be reached.
    """
    try:
        import pyiceberg.exceptions
        from pyiceberg.io.pyarrow import schema_to_pyarrow
        from pyiceberg.schema import index_by_id
        from pyiceberg.table import ManifestGroupPlanner
    except ImportError:
        raise MissingExtra(f"Opening the Iceberg table {name.place}", "tables") from None
    held = contextlib.ExitStack()
    kinds = vars(pyiceberg.exceptions).values()
    refused: tuple[type[Exception], ...] = tuple(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception))
    try:
        table = _from_catalogue(name, held) if name.catalogue else _from_metadata(name)
        snapshot = table.current_snapshot() if name.version is None else table.snapshot_by_id(name.version)
        if snapshot is None:
            known = ", ".join(str(item.snapshot_id) for item in table.snapshots()[-5:])
            which = "is empty: it has no snapshot" if name.version is None else f"has no snapshot {name.version}"
            raise InputError(f"The Iceberg table {name.place} {which}. The newest there are: {known or 'none'}.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what pyiceberg says of its own future
            # the columns of today, or as they were in the snapshot that was asked for
            scan = table.scan() if name.version is None else table.scan(snapshot_id=snapshot.snapshot_id)
            mapping = _mapping(table)
            equality = EqualityDeletes(name, table.specs(), mapping)
            planner = ManifestGroupPlanner(table_metadata=table.metadata, io=table.io)
            tasks = list(planner.plan_files(snapshot.manifests(table.io), lambda entry: not equality.takes(entry)))
            columns = scan.projection()
            numbers = index_by_id(columns)
            schema = pyarrow.schema([_filled(column, numbers) for column in schema_to_pyarrow(columns)])
        files = _files(name, table.specs(), columns, tasks, schema, _deletions(name, tasks, equality))
    except RlmRayError:
        raise
    except (ValueError, NotImplementedError, KeyError, TypeError, OSError, *refused) as error:  # type: ignore[misc]
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(
            f"The Iceberg table {name.place} cannot be read: {reason:.300}. Check its name and what it uses."
        ) from None
    finally:
        held.close()
    shown, root = f"snapshot {snapshot.snapshot_id}", storage.literal(table.location())
    return Table("Iceberg", snapshot.snapshot_id, shown, schema, files, root, Finder(mapping), _defaults(columns, schema))


def _mapping(table: Any) -> dict[int, tuple[str, ...]]:
    """The names that columns have in files without field ids, by those ids, where the table says it."""
    named = table.name_mapping()
    found: dict[int, tuple[str, ...]] = {}
    left = [] if named is None else list(named.root)
    while left:
        column = left.pop()
        left += column.fields
        if column.field_id is not None:
            found[column.field_id] = tuple(column.names)
    return found


def _defaults(columns: Any, schema: pyarrow.Schema) -> dict[str, Any]:
    """What columns have in files that were written before them."""
    given = {column.name: column.initial_default for column in columns.fields if column.initial_default is not None}
    return {shown_name(name): readable(_constant(value, schema.field(name).type))[0] for name, value in given.items()}


def _constant(value: Any, kind: pyarrow.DataType) -> pyarrow.Array:
    return pyarrow.array([value]).cast(kind)


def _filled(column: pyarrow.Field, by_number: Mapping[int, Any], *, is_member: bool = False) -> pyarrow.Field:
    """A column whose members say what they have in files that were written before them."""
    kind, types = column.type, pyarrow.types
    if types.is_struct(kind):
        kind = pyarrow.struct([_filled(member, by_number, is_member=True) for member in kind])
    elif types.is_map(kind):
        kind = pyarrow.map_(_filled(kind.key_field, by_number), _filled(kind.item_field, by_number))
    elif types.is_list(kind) or types.is_large_list(kind):
        kind = pyarrow.list_(_filled(kind.value_field, by_number))
    filled, number = column.with_type(kind), field_id(column)
    default = by_number[number].initial_default if is_member and number is not None and number in by_number else None
    if default is None:
        return filled
    return filled.with_metadata((column.metadata or {}) | {DEFAULT: packed(_constant(default, kind))})


def _from_catalogue(name: TableName, held: contextlib.ExitStack) -> Any:
    from pyiceberg.catalog import load_catalog

    from rlm_ray.corpus.catalog.lakehouse.fileio import StorageIO

    catalogue, _, identifier = name.place.partition("/")
    try:
        made = load_catalog(catalogue, **{"py-io-impl": f"{StorageIO.__module__}.{StorageIO.__name__}"})
    except ValueError as error:
        variable = f"PYICEBERG_CATALOG__{catalogue.upper()}__URI"
        said = " ".join(str(error).split())
        reason = "nothing says where it is" if said.startswith("URI missing") else said.rstrip(".")
        raise InputError(
            f"The Iceberg catalogue {catalogue!r} cannot be opened: {reason:.300}. Name it in ~/.pyiceberg.yaml, or set {variable}."
        ) from None
    held.callback(made.close)  # its connections
    return made.load_table(identifier)


def _from_metadata(name: TableName) -> Any:
    from pyiceberg.catalog.noop import NoopCatalog
    from pyiceberg.table import StaticTable
    from pyiceberg.table.metadata import TableMetadataUtil

    from rlm_ray.corpus.catalog.lakehouse.fileio import StorageIO

    place = name.place if name.place.endswith(_METADATA) else _hinted(name.place)
    files = StorageIO()
    # not StaticTable.from_metadata: what a table's own properties name would be imported
    metadata = TableMetadataUtil.parse_raw(_text(place))
    return StaticTable(
        identifier=("static", place), metadata_location=place, metadata=metadata, io=files, catalog=NoopCatalog("static")
    )


def _text(place: str) -> str:
    """A metadata file, unpacked where its first bytes say that it is packed."""
    data = storage.find_bytes(place)
    if data is None:
        raise FileNotFoundError(f"{place} does not exist")
    if not data.startswith(b"\x1f\x8b"):
        return data.decode()
    unpacker = zlib.decompressobj(wbits=31)
    text = unpacker.decompress(data, _MOST_METADATA)
    if not unpacker.eof:
        raise ValueError(f"{place} is cut short, or larger than {_MOST_METADATA >> 20} MB")
    return text.decode()


def _hinted(place: str) -> str:
    """The metadata file of a table's folder, as the folder itself says."""
    hint = storage.find_bytes(storage.join(place, "metadata", "version-hint.text"))
    if hint is None:
        raise InputError(
            f"There is no metadata/version-hint.text below {place}. Name the metadata file, as in "
            f"iceberg+{place}/metadata/00007-….metadata.json, or open the table by its catalogue, as "
            "iceberg:catalogue/namespace.table."
        )
    text = hint.decode("utf-8", "replace").strip()
    folder = storage.join(place, "metadata")
    stem = f"v{text}" if text.isdecimal() else text
    names = [text] if text.endswith(_METADATA) else [f"{stem}{ending}" for ending in (".metadata.json", *_PACKED)]
    found = (file for file in names if storage.exists(storage.join(folder, file)))
    return storage.join(folder, next(found, names[0]))


def _files(
    name: TableName, specs: Any, columns: Any, tasks: list[Any], schema: pyarrow.Schema, deleted: dict[str, Any]
) -> list[DataFile]:
    from pyiceberg.transforms import IdentityTransform

    names: dict[int, str] = {column.field_id: column.name for column in columns.fields}
    files = []
    for task in tasks:
        file = task.file
        if file.file_format.name != "PARQUET":
            raise InputError(
                f"The Iceberg table {name.place} has {file.file_format.name} files, as {file.file_path}. Only Parquet is read."
            )
        if getattr(file, "key_metadata", None):
            raise InputError(f"The Iceberg table {name.place} is encrypted, which is not read here: {file.file_path}. Open a copy.")
        values = {}
        for number, part in enumerate(specs[file.spec_id].fields):
            column = names.get(part.source_id, "")
            if isinstance(part.transform, IdentityTransform) and column in schema.names:
                values[column] = _value(file.partition[number], schema.field(column).type)
        uri = storage.literal(file.file_path)
        files.append(DataFile(uri, values, deleted.get(uri)))
    return files


def _value(value: Any, kind: pyarrow.DataType) -> Any:
    """A partition's value as all verbs show it; of times the metadata count days and microseconds."""
    if isinstance(value, int) and pyarrow.types.is_temporal(kind):
        return readable(pyarrow.array([value], pyarrow.int32() if kind.bit_width == 32 else pyarrow.int64()).cast(kind))[0]
    return jsonable(value)


def _deletions(name: TableName, tasks: list[Any], equality: EqualityDeletes) -> dict[str, Any]:
    """Deleted rows by file, of the delete files that the planning gave to each, and of deletes by value."""
    read: dict[str, dict[str, list[Any]]] = {}
    found: dict[str, Any] = {}
    by_value = equality.rows([task.file for task in tasks])
    for task in tasks:
        parts = [by_value[task.file.file_path]] if task.file.file_path in by_value else []
        for file in task.delete_files:
            if file.file_path not in read:
                read[file.file_path] = _positions(name, file)
            parts += read[file.file_path].get(task.file.file_path, [])
        if parts:
            found[storage.literal(task.file.file_path)] = numpy.unique(numpy.concatenate(parts))
    return found


def _positions(name: TableName, file: Any) -> dict[str, list[Any]]:
    """Rows that one delete file names, by data file."""
    kind = file.file_format.name
    if kind == "PUFFIN":
        from pyiceberg.table.deletion_vector import deletion_vectors_from_puffin_file
        from pyiceberg.table.puffin import PuffinFile

        vectors = deletion_vectors_from_puffin_file(PuffinFile(storage.read_bytes(storage.literal(file.file_path))))
        return {vector.referenced_data_file: [vector.to_vector().to_numpy()] for vector in vectors}
    if kind != "PARQUET":
        raise InputError(
            f"The Iceberg table {name.place} has {kind} delete files, as {file.file_path}. Only Parquet and Puffin are read."
        )
    found: dict[str, list[Any]] = {}
    with storage.open_input(storage.literal(file.file_path)) as source:
        for batch in pyarrow.parquet.ParquetFile(source).iter_batches(columns=["file_path", "pos"]):
            groups = pyarrow.table(batch).group_by("file_path").aggregate([("pos", "list")])
            for path, positions in zip(groups.column("file_path").to_pylist(), groups.column("pos_list"), strict=True):
                found.setdefault(path, []).append(positions.values.to_numpy())
    return found
