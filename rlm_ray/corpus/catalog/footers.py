"""Parquet footers: read in parallel, united by column name, cut into shards. No column is read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow
import pyarrow.parquet

from rlm_ray import storage
from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.catalog.statistics import Ranges, is_ranged, range_of
from rlm_ray.corpus.meaning.types import DECIMAL, JSON, in_utc, shown_name, type_name, unite
from rlm_ray.errors import CredentialsError, ObjectUnreadable, StorageError
from rlm_ray.storage import ObjectInfo

THREADS = 16

#: Ranges that are kept of all files together.
MAX_RANGES = 400_000

_FIELD_ID = b"PARQUET:field_id"

#: The type in a file of times that are read as `timestamp[us]`.
INT96 = "int96"

#: The last row of a file whose footer was not read.
END = 1 << 62


@dataclass(frozen=True, slots=True)
class Footer:
    """What one file says of itself.

    Attributes
    ----------
    columns : dict of str to (str, str)
        Type and name in the file, by the name that is shown.
    groups : list of (int, int)
        Rows and uncompressed bytes of each row group.
    widths : dict of str to float
        Average bytes of a column's value, as text.
    ranges : list of dict
        Least and greatest value of the columns of each row group (see `statistics`).
    ids : dict of int to str
        Columns by their field ids, where the file has some.
    nested : dict of str to pyarrow.DataType
        The types of nested columns, by their name in the file.
    error : str or None
        Why the file cannot be read.
    """

    columns: dict[str, tuple[str, str]] = field(default_factory=dict)
    groups: list[tuple[int, int]] = field(default_factory=list)
    widths: dict[str, float] = field(default_factory=dict)
    ranges: list[Ranges] = field(default_factory=list)
    ids: dict[int, str] = field(default_factory=dict)
    nested: dict[str, pyarrow.DataType] = field(default_factory=dict)
    error: str | None = None

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return sum(rows for rows, _ in self.groups)

    @property
    def nbytes(self) -> int:
        """Uncompressed bytes of the file."""
        return sum(nbytes for _, nbytes in self.groups)


def read_footers(infos: Sequence[ObjectInfo]) -> Iterator[Footer]:
    """Yield the footers in order, read by a bounded number of threads.

    Raises
    ------
    CredentialsError
        The store refuses; a file that is damaged or gone is a footer with an error.
    """
    most = MAX_RANGES // max(1, len(infos))
    if len(infos) == 1:
        yield read_footer(infos[0], most)
        return
    with ThreadPoolExecutor(THREADS, thread_name_prefix="footers") as pool:
        for start in range(0, len(infos), 1024):
            yield from pool.map(read_footer, infos[start : start + 1024], itertools.repeat(most))


def read_footer(info: ObjectInfo, most: int = 0) -> Footer:
    """Read one footer, and at most so many ranges of it."""
    try:
        with storage.open_input(info.uri, version=info.version, size=info.size) as source:
            size = source.size()
            if size >= 12 and source.read_at(4, size - 4) == b"PARE":
                return Footer(error="its footer is encrypted (Parquet modular encryption), which is not read; decrypt it first")
            file = pyarrow.parquet.ParquetFile(source)
            schema, metadata = file.schema_arrow, file.metadata
            leaves = {name: file.schema.column(number) for number, name in top_level(schema).items()}
    except CredentialsError:
        raise
    except (pyarrow.ArrowException, StorageError, OSError, ValueError) as error:
        return Footer(error=" ".join(str(error).split())[:300])
    columns: dict[str, tuple[str, str]] = {}
    for column in schema:
        if schema.names.count(column.name) > 1:
            return Footer(error=f"it names the column {column.name!r} twice")
        columns[shown_name(column.name)] = (_stored_type(column, leaves.get(column.name)), column.name)
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    sizes = [(group.num_rows, group.total_byte_size) for group in groups]
    ids = {int(number): column.name for column in schema if (number := (column.metadata or {}).get(_FIELD_ID)) is not None}
    nested = {column.name: column.type for column in schema if pyarrow.types.is_nested(column.type)}
    return Footer(columns, sizes, _widths(groups), _ranges(groups, columns, top_level(schema), most), ids, nested)


def _ranges(groups: Sequence[Any], columns: dict[str, tuple[str, str]], flat: dict[int, str], most: int) -> list[Ranges]:
    """The ranges of each row group's columns; of many columns, of the first."""
    shown = {stored: (name, kind) for name, (kind, stored) in columns.items() if is_ranged(kind)}
    if not groups:
        return []
    numbers = [index for index, stored in flat.items() if stored in shown and index < groups[0].num_columns]
    found: list[Ranges] = []
    for group in groups:
        here: Ranges = {}
        for index in numbers[: most // len(groups)]:
            column = group.column(index)
            if column.path_in_schema != flat[index]:
                continue  # a damaged footer, whose row groups name their columns differently
            name, kind = shown[flat[index]]
            here[name] = range_of(column.statistics if column.is_stats_set else None, kind)
        found.append(here)
    return found


def top_level(schema: pyarrow.Schema) -> dict[int, str]:
    """Return the columns that are not nested, by the number that their values have in a row group.

    A column is known by that number: `a.b` may be its name, or the path of a member of `a`.

    Examples
    --------
    >>> top_level(pyarrow.schema([("a", pyarrow.struct([("b", pyarrow.int8())])), ("a.b", pyarrow.int8())]))
    {1: 'a.b'}
    """
    found: dict[int, str] = {}
    at = 0
    for column in schema:
        if not _is_nested(column.type):
            found[at] = column.name
        at += _leaves(column.type)
    return found


def _is_nested(kind: pyarrow.DataType) -> bool:
    return bool(pyarrow.types.is_nested(kind.storage_type if isinstance(kind, pyarrow.BaseExtensionType) else kind))


def _leaves(kind: pyarrow.DataType) -> int:
    types = pyarrow.types
    if isinstance(kind, pyarrow.BaseExtensionType):
        return _leaves(kind.storage_type)
    if types.is_struct(kind):
        return sum(_leaves(member.type) for member in kind)
    if types.is_map(kind):
        return _leaves(kind.key_type) + _leaves(kind.item_type)
    return _leaves(kind.value_type) if types.is_nested(kind) else 1


def _stored_type(column: pyarrow.Field, leaf: Any) -> str:
    """A column's type; one that files have and Arrow does not is known by the values' own."""
    if leaf is not None and leaf.physical_type == "INT96":
        return INT96
    if leaf is not None and str(leaf.logical_type) == "Interval":
        return "interval"
    return type_name(column.type)


def groups_between(footer: Footer, start: int, stop: int, differing: set[str]) -> list[tuple[int, int, Ranges]]:
    """Return the row groups of rows `[start, stop)`, with the ranges of the columns that are stored as the corpus has them."""
    ends = itertools.accumulate(rows for rows, _ in footer.groups)
    return [
        (end - rows, end, {name: pair for name, pair in ranges.items() if name not in differing})
        for ranges, (rows, _), end in zip(footer.ranges, footer.groups, ends, strict=True)
        if start < end <= stop
    ]


def mean_widths(footers: Sequence[Footer]) -> dict[str, float]:
    """Return the average bytes of each column's values."""
    total = max(1, sum(footer.rows for footer in footers))
    widths: dict[str, float] = {}
    for footer in footers:
        for column, width in footer.widths.items():
            widths[column] = widths.get(column, 0.0) + width * footer.rows / total
    return {column: round(width, 2) for column, width in widths.items()}


def with_footer(shard: Shard, schema: dict[str, str]) -> Shard:
    """Return the shard with what its file's footer says, where that was not read when the corpus was opened.

    Raises
    ------
    ObjectUnreadable
        The footer cannot be read.
    """
    if shard.rows is not None or not shard.traits.has_footers:
        return shard
    storage.check_version(shard.uri, shard.version)
    footer = read_footer(ObjectInfo(shard.uri, shard.size, shard.version))
    if footer.error is not None:
        raise ObjectUnreadable(f"{shard.uri} cannot be read as Parquet: {footer.error}. Check the file.")
    given = dict(shard.partitions) | dict(shard.constants)
    stored = {name: kind for name, kind in schema.items() if name not in given}
    rows = deletions.live(shard, 0, footer.rows)
    return replace(shard, stop=footer.rows, rows=rows, differs=differences(footer.columns, stored))


def _widths(groups: Sequence[Any]) -> dict[str, float]:
    if not groups:
        return {}
    group = max(groups, key=lambda group: group.num_rows)
    widths: dict[str, float] = {}
    for index in range(group.num_columns):
        column = group.column(index)
        name = shown_name(column.path_in_schema.split(".")[0])
        width = column.total_uncompressed_size / max(1, group.num_rows)
        if column.physical_type == "BYTE_ARRAY":
            # a dictionary stores a value once: the ends of the range say better how long values are
            width = max(width - 4, _middle_length(column))
        else:
            width = max(width, 8.0)
        widths[name] = widths.get(name, 0.0) + width
    return widths


def _middle_length(column: Any) -> float:
    statistics = column.statistics if column.is_stats_set else None
    if statistics is None or not statistics.has_min_max:
        return 8.0
    ends = [statistics.min_raw, statistics.max_raw]
    return sum(len(end) for end in ends if isinstance(end, bytes | str)) / 2


def unite_columns(footers: Sequence[Footer]) -> tuple[dict[str, str], list[str]]:
    """Return the columns of a corpus and the names of those whose types are in conflict. Times with a zone are in UTC."""
    schema: dict[str, str] = {}
    conflicts: list[str] = []
    for footer in footers:
        for name, (stored, _) in footer.columns.items():
            kind = "timestamp[us]" if stored == INT96 else stored
            if name not in schema:
                schema[name] = kind
                continue
            united = unite(schema[name], kind)
            if united == JSON and schema[name] != JSON and name not in conflicts:
                conflicts.append(name)
            schema[name] = united
    for name in [name for name, kind in schema.items() if kind == "double"]:
        if any(_is_long(footer, name) for footer in footers):
            schema[name] = DECIMAL
    return {name: in_utc(kind) for name, kind in schema.items()}, conflicts


#: Whole numbers up to this are exact as doubles.
_EXACT = 1 << 53


def _is_long(footer: Footer, name: str) -> bool:
    """Whether a column has whole numbers that no double holds."""
    kind = footer.columns.get(name, ("", ""))[0]
    ends = [end for ranges in footer.ranges for end in ranges.get(name, ())] if kind in ("int64", "uint64") else []
    return any(end is not None and abs(end) > _EXACT for end in ends)


def differences(columns: dict[str, tuple[str, str]], schema: dict[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Return what in a file is not as in its corpus: (shown name, name in the file, type in the file or '' if absent)."""
    found = []
    for name, kind in schema.items():
        here, stored = columns.get(name, ("", name))
        if here != kind or stored != name:
            found.append((name, stored, here))
    return tuple(found)


def cut_groups(groups: Sequence[tuple[int, int]], shard_bytes: int) -> list[tuple[int, int, int]]:
    """Merge neighbouring row groups while they stay under `shard_bytes`: (first row, stop row, bytes).

    Examples
    --------
    >>> cut_groups([(10, 60), (10, 60), (10, 10), (5, 500)], 100)
    [(0, 10, 60), (10, 30, 70), (30, 35, 500)]
    """
    cuts: list[tuple[int, int, int]] = []
    at = 0
    for rows, nbytes in groups:
        if cuts and cuts[-1][2] + nbytes <= shard_bytes:
            cuts[-1] = (cuts[-1][0], at + rows, cuts[-1][2] + nbytes)
        else:
            cuts.append((at, at + rows, nbytes))
        at += rows
    return cuts
