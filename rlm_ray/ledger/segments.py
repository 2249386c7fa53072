"""Segments: Parquet files of result rows in the run directory, written as the rows come, in bounded memory."""

from __future__ import annotations

import decimal
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from rlm_ray import storage
from rlm_ray.errors import InputError, StorageError
from rlm_ray.types.json import Record

SEGMENT_BYTES = 32 << 20
SEGMENT_ROWS = 100_000
SEGMENT_CELLS = 10_000_000
MAX_COLUMNS = 2_000

_WHOLE = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"}
_REAL = {"float", "double", "halffloat", "float16", "float32", "float64"}


class SegmentRecord(TypedDict):
    """A `Segment` as JSON."""

    uri: str
    rows: int
    nbytes: int
    failed: int
    columns: dict[str, str]


@dataclass(frozen=True, slots=True)
class Segment:
    """A Parquet file of result rows.

    Attributes
    ----------
    rows, nbytes, failed : int
        Rows, their size in memory, and how many of them have an `_error`.
    columns : dict
        Type by column, `_address` and `_error` included.
    mirror : Any
        The same rows as an object of the cluster while one lives; never leaves the process that owns it.
    """

    uri: str
    rows: int
    nbytes: int
    failed: int = 0
    columns: dict[str, str] = field(default_factory=dict)
    mirror: Any = None

    def to_json(self) -> SegmentRecord:
        """Return the segment as JSON, without its mirror."""
        return {"uri": self.uri, "rows": self.rows, "nbytes": self.nbytes, "failed": self.failed, "columns": self.columns}

    @classmethod
    def from_json(cls, value: SegmentRecord) -> Segment:
        """Read a segment back."""
        return cls(**value)


class SegmentWriter:
    """Writes rows to one or more segments under a folder.

    Parameters
    ----------
    folder : str
        URI; files in it are named after `name`.
    name : str
        Sorts in the order in which segments belong.
    columns : mapping of str to str, optional
        Type by column, as `kept_type` gives. Without it the types are those of each segment's rows.
    decimals : mapping of str to str, optional
        Type by column of those whose texts are decimals.
    """

    def __init__(
        self, folder: str, name: str, columns: Mapping[str, str] | None = None, decimals: Mapping[str, str] | None = None
    ) -> None:
        self._decimals = dict(decimals or {})
        self._folder = folder
        self._name = name
        self._columns = dict(columns) if columns is not None else None
        self._rows: list[Record] = []
        self._names: set[str] = set()
        self._nbytes = 0
        self.segments: list[Segment] = []
        self.tables: list[Any] = []

    def add(self, row: Record) -> None:
        """Take one row. Writes a file when enough have come.

        Raises
        ------
        InputError
            The rows have more different columns than a table can.
        """
        if self._columns is None:
            self._names.update(row)
            if len(self._names) > MAX_COLUMNS:
                raise InputError(
                    f"The rows have more than {MAX_COLUMNS:,} different columns. Return the same keys for every record, and what "
                    "varies as one list or dict."
                )
        self._rows.append(row)
        self._nbytes += sum(_size(value) for value in row.values())
        cells = len(self._rows) * len(self._names)
        if self._nbytes >= SEGMENT_BYTES or len(self._rows) >= SEGMENT_ROWS or cells >= SEGMENT_CELLS:
            self._write()

    def extend(self, rows: Iterable[Record]) -> None:
        """Take many rows."""
        for row in rows:
            self.add(row)

    def close(self) -> list[Segment]:
        """Write what is left and return the segments, in order."""
        if self._rows:
            self._write()
        return self.segments

    def _write(self) -> None:
        import pyarrow.parquet

        columns = self._columns if self._columns is not None else infer(self._rows) | self._decimals
        table = to_table(self._rows, columns)
        failed = sum(row.get("_error") is not None for row in self._rows)
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(table, buffer, compression="zstd")
        uri = storage.join(self._folder, f"{self._name}-{len(self.segments):04d}.parquet")
        try:
            storage.write_bytes(uri, buffer.getvalue())
        except StorageError as error:
            error.ends_run = True
            raise
        self.segments.append(
            Segment(uri, table.num_rows, table.nbytes, failed, {_clean(name): kind for name, kind in columns.items()})
        )
        self.tables.append(table)
        self._rows, self._nbytes = [], 0
        self._names.clear()


def kept_type(kind: str) -> str:
    """Return the type in which a segment keeps a column of a corpus: string, int64, double, bool or json.

    Examples
    --------
    >>> kept_type("int32"), kept_type("timestamp[us]"), kept_type("list<string>")
    ('int64', 'string', 'json')
    """
    if kind in _WHOLE:
        return "int64"
    if kind in _REAL:
        return "double"
    if kind in ("bool", "json"):
        return kind
    return "json" if kind.startswith(("list", "struct", "map", "large_list", "fixed_size_list")) else "string"


def infer(rows: Sequence[Record]) -> dict[str, str]:
    """Return the type of each column of rows that are JSON values.

    Examples
    --------
    >>> infer([{"n": 1, "tags": ["a"]}, {"n": 2.5, "name": "x"}])
    {'n': 'double', 'tags': 'json', 'name': 'string'}
    """
    seen: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.items():
            kinds = seen.setdefault(str(name), set())
            if value is not None:
                # a whole number that no column of numbers can hold is kept as text
                kinds.add(str if type(value) is int and not _fits(value) else type(value))
    return {name: _kind(kinds) for name, kinds in seen.items()}


def _kind(kinds: set[type]) -> str:
    if kinds & {list, dict}:
        return "json"
    if kinds == {bool}:
        return "bool"
    if kinds == {int}:
        return "int64"
    return "double" if kinds and kinds <= {int, float} else "string"


def to_table(rows: Sequence[Record], columns: Mapping[str, str]) -> Any:
    """Build an Arrow table from rows that are JSON values; a `json` column is JSON text.

    Examples
    --------
    >>> to_table([{"n": 1, "tags": ["a"]}, {"n": 2}], {"n": "int64", "tags": "json"}).to_pylist()
    [{'n': 1, 'tags': '["a"]'}, {'n': 2, 'tags': None}]
    """
    import pyarrow

    types = {"int64": pyarrow.int64(), "double": pyarrow.float64(), "bool": pyarrow.bool_()}
    arrays = {}
    for column, kind in columns.items():
        values = [row.get(column) for row in rows]
        name = _clean(column)
        if kind == "json":
            arrays[name] = pyarrow.array([None if value is None else _json(value) for value in values], pyarrow.string())
        elif kind.startswith("decimal128("):
            precision, scale = (int(part) for part in kind[len("decimal128(") : -1].split(","))
            arrays[name] = pyarrow.array([_decimal(value) for value in values], pyarrow.decimal128(precision, scale))
        elif kind in types:
            arrays[name] = pyarrow.array([_number(value, kind) for value in values], types[kind])
        else:
            arrays[name] = pyarrow.array([_text(value) for value in values], pyarrow.string())
    return pyarrow.table(arrays)


def _number(value: Any, kind: str) -> Any:
    if value is None or (kind == "bool") != isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if kind == "int64":
        return value if isinstance(value, int) and _fits(value) else None
    return value if kind == "bool" else _float(value)


def _decimal(value: Any) -> decimal.Decimal | None:
    try:
        return decimal.Decimal(value) if isinstance(value, str) else None
    except decimal.InvalidOperation:
        return None


def _fits(value: int) -> bool:
    return -(1 << 63) <= value < 1 << 63


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _float(value: float) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str) else 16 if not isinstance(value, list | dict) else len(str(value))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else _json(value)
    return _clean(text)


def _json(value: Any) -> str:
    return _clean(json.dumps(value, ensure_ascii=False, default=str))
