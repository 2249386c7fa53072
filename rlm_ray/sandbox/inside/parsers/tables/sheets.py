"""Rows of the sheets of a workbook: XLSX, XLSM, XLSB, XLS and ODS, as calamine reads them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

from rlm_ray.sandbox.inside.parsers.tables.arrow import message, pyarrow

#: Bytes of a workbook, which calamine holds whole; rows of a batch.
MAX_BYTES, _ROWS = 128 << 20, 5_000
_KINDS = {bool: "bool", int: "int64", float: "double", str: "string", datetime.date: "date", datetime.datetime: "moment"}
_TYPES = {
    "bool": pyarrow.bool_(),
    "int64": pyarrow.int64(),
    "double": pyarrow.float64(),
    "string": pyarrow.string(),
    "date": pyarrow.date32(),
    "moment": pyarrow.timestamp("us"),
}
SHEET, ROW = "sheet", "row"


def read(file: IO[bytes], options: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the schema as an Arrow IPC stream, then the rows `[low, high)` of all sheets, one sheet behind the other.

    The first row of a sheet that is not empty names its columns; `sheet` and `row` say where a row stands. With `schema` the
    schema alone. A column whose cells are of several kinds is text.
    """
    book = _opened(file)
    tables = [_Sheet(book, name) for name in book.sheet_names]
    kinds: dict[str, set[str]] = {}
    for table in tables:
        for name, found in table.kinds().items():
            kinds.setdefault(name, set()).update(found)
    types = {name: _united(found) for name, found in kinds.items()}
    fields = [pyarrow.field(SHEET, pyarrow.string()), pyarrow.field(ROW, pyarrow.int64())]
    schema = pyarrow.schema([*fields, *(pyarrow.field(name, _TYPES[kind]) for name, kind in types.items())])
    yield message(schema)
    if options["schema"]:
        return
    first = 0
    for table in tables:
        low, high = max(0, options["low"] - first), min(len(table), options["high"] - first)
        for start in range(low, high, _ROWS):
            yield message(table.batch(start, min(start + _ROWS, high), schema, types))
        first += len(table)


def _opened(file: IO[bytes]) -> Any:
    try:
        import python_calamine
    except ImportError as error:
        raise ValueError(f"{error}: reading workbooks needs the extra documents: pip install 'rlm-ray[documents]'") from None
    import io

    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES >> 20} MiB, the most that is read of a workbook")
    try:
        return python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
    except Exception as error:  # noqa: BLE001 - calamine has an error for each way in which a workbook is wrong
        raise ValueError(f"it cannot be read as a workbook: {str(error)[:200]}") from None


class _Sheet:
    """One sheet: its names of columns, and its rows below them."""

    def __init__(self, book: Any, name: str) -> None:
        self.name = name
        sheet = book.get_sheet_by_name(name)
        rows = sheet.to_python(skip_empty_area=True)
        self._first = (sheet.start[0] if sheet.start else 0) + 1
        head = next((number for number, row in enumerate(rows) if any(_is_there(cell) for cell in row)), len(rows))
        self.columns = _names(rows[head]) if head < len(rows) else []
        self._rows = [(self._first + number, row) for number, row in enumerate(rows) if number > head and any(map(_is_there, row))]

    def __len__(self) -> int:
        return len(self._rows)

    def kinds(self) -> dict[str, set[str]]:
        """Return what kinds of values each column has."""
        found: dict[str, set[str]] = {name: set() for name in self.columns}
        for _, row in self._rows:
            for name, cell in zip(self.columns, row, strict=False):
                if _is_there(cell):
                    found[name].add(_kind(cell))
        return found

    def batch(self, start: int, stop: int, schema: pyarrow.Schema, types: Mapping[str, str]) -> pyarrow.RecordBatch:
        """Return some of its rows."""
        rows = self._rows[start:stop]
        places = {name: number for number, name in enumerate(self.columns)}
        arrays = [
            pyarrow.array([self.name] * len(rows), pyarrow.string()),
            pyarrow.array([number for number, _ in rows], pyarrow.int64()),
        ]
        for name, kind in types.items():
            at = places.get(name, -1)
            cells = [row[at] if 0 <= at < len(row) and _is_there(row[at]) else None for _, row in rows]
            arrays.append(pyarrow.array([None if cell is None else _as(kind, cell) for cell in cells], _TYPES[kind]))
        return pyarrow.RecordBatch.from_arrays(arrays, schema=schema)


def _is_there(cell: Any) -> bool:
    return cell is not None and cell != ""


def _names(row: list[Any]) -> list[str]:
    names: list[str] = []
    taken = {SHEET, ROW}
    for number, cell in enumerate(row):
        name = " ".join(str(cell).split()) if _is_there(cell) else f"column {number + 1}"
        shown, count = name, 1
        while shown in taken:
            count += 1
            shown = f"{name} {count}"
        taken.add(shown)
        names.append(shown)
    return names


def _kind(cell: Any) -> str:
    if isinstance(cell, float):
        # a workbook has no whole numbers: those that are shown as such
        return "int64" if cell.is_integer() and abs(cell) < 1 << 53 else "double"
    return _KINDS.get(type(cell), "string")


def _united(kinds: set[str]) -> str:
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds <= {"int64", "double"} and kinds:
        return "double"
    # midnight is a date to calamine
    return "moment" if kinds == {"date", "moment"} else "string"


def _as(kind: str, cell: Any) -> Any:
    if kind == "int64":
        return int(cell)
    if kind == "double":
        return float(cell)
    if kind == "moment" and not isinstance(cell, datetime.datetime):
        return datetime.datetime(cell.year, cell.month, cell.day)
    if kind == "string" and not isinstance(cell, str):
        return _text(cell)
    return cell


def _text(cell: Any) -> str:
    if isinstance(cell, bool):
        return json.dumps(cell)
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1 << 53:
        return str(int(cell))
    if isinstance(cell, (datetime.date, datetime.datetime, datetime.time)):
        return cell.isoformat()
    return str(cell)
