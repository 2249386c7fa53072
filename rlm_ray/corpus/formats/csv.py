"""CSV with a header line: each line (or more, where quotes hold line breaks) is a record, numbered from 0.

Read as one shard per object. Types are those of the first megabyte; a value that does not fit is null, and kept as
JSON text in the column `_more`. A line with too many or too few fields is a record of nulls whose `_error` says so.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy
import polars

from rlm_ray.corpus.damage import ERRORS, counted
from rlm_ray.corpus.formats.csvblocks import Block, blocks
from rlm_ray.corpus.formats.searching import is_utf8
from rlm_ray.corpus.formats.streams import FIRST, encoding_of, opened, readable
from rlm_ray.corpus.shard import Shard
from rlm_ray.corpus.types import JSON, shown_name
from rlm_ray.errors import ObjectUnreadable

EXTRA = {"_more": JSON, "_error": "string"}
_ROWS, _FEW_ROWS = 10_000, 1_000
_FIELD = 64 << 20


def read(
    shard: Shard, schema: dict[str, str], columns: Sequence[str], low: int, high: int | None, early: bool = False
) -> Iterator[polars.DataFrame]:
    """Yield frames of `columns`, `_pos` (the row) and `_end` for rows `[low, high)`. `early`: who takes them may soon stop."""
    first = 0
    blocks = _rows(shard, early)
    while True:
        with counted(shard):
            block = next(blocks, None)
        if block is None:
            return
        header, rows = block
        stop = len(rows) if high is None else min(len(rows), high - first)
        skip = max(0, low - first)
        if skip < stop:
            yield _frame(header, rows, skip, stop, first, schema, columns)
        first += len(rows)
        if high is not None and first >= high:
            return


def _rows(shard: Shard, early: bool) -> Iterator[tuple[list[str], Block | list[list[str]]]]:
    """Yield the header and some rows: a block that Arrow can read, or lists of fields."""
    if codecs.lookup(encoding_of(shard)).name != "utf-8":
        for _, names, rows in batches(shard, early=early):
            yield names, rows
        return
    csv.field_size_limit(_FIELD)
    header: list[str] = []
    try:
        with opened(shard, early=early) as stream, readable(shard):
            for block in blocks(stream, early):
                if not block.regular:
                    reader = _reader(_Reader(stream, block.data), "utf-8")
                    header = header or [shown_name(name) for name in next((row for row in reader if row), [])]
                    while rows := list(islice((row for row in reader if row), _ROWS)):
                        yield header, rows
                    return
                if not header:
                    header = [shown_name(name) for name in next(csv.reader(io.StringIO(_text(block.data[: block.rows[0, 1]]), "")))]
                    block = replace(block, rows=block.rows[1:])
                if len(block):
                    yield header, block if is_utf8(numpy.frombuffer(block.data, numpy.uint8)) else _fields(block)
    except csv.Error as error:
        raise ObjectUnreadable(f"{shard.uri} cannot be read as CSV: {error}. Open it with format='text'.") from None


def _text(data: bytes) -> str:
    return data.decode("utf-8", ERRORS)


def batches(shard: Shard, high: int | None = None, early: bool = False) -> Iterator[tuple[int, list[str], list[list[str]]]]:
    """Yield (number of the first row, header, rows), of rows up to `high`. `early`: who takes them may soon stop."""
    csv.field_size_limit(_FIELD)
    try:
        with opened(shard, early=early or high is not None) as stream, readable(shard):
            reader = _reader(_Reader(stream), _encoding(shard))
            header = [shown_name(name) for name in next((row for row in reader if row), [])]
            first = 0
            while high is None or first < high:
                most = _FEW_ROWS if early else _ROWS
                count = most if high is None else min(most, high - first)
                rows = list(islice((row for row in reader if row), count))
                if not rows:
                    return
                yield first, header, rows
                first += len(rows)
    except csv.Error as error:
        raise ObjectUnreadable(f"{shard.uri} cannot be read as CSV: {error}. Open it with format='text'.") from None


def _reader(stream: _Reader, encoding: str) -> Iterator[list[str]]:
    text = io.TextIOWrapper(io.BufferedReader(stream, FIRST), encoding=encoding, errors=ERRORS, newline="")
    return csv.reader(text)


class _Reader(io.RawIOBase):
    """An Arrow stream as a raw Python one, behind some bytes that were read of it."""

    def __init__(self, stream: Any, before: bytes = b"") -> None:
        self._stream = stream
        self._before = before

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._before:
            data, self._before = self._before[: len(buffer)], self._before[len(buffer) :]
        else:
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _encoding(shard: Shard) -> str:
    encoding = encoding_of(shard)
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def infer(header: list[str], rows: list[list[str]]) -> dict[str, str]:
    """Return columns and types of some rows."""
    if len(set(header)) != len(header):
        raise ObjectUnreadable(f"The header line names a column twice: {header!r:.300}. Open it with format='text'.")
    whole = [row for row in rows if len(row) == len(header)]
    return {name: _kind([row[index] for row in whole]) for index, name in enumerate(header)}


def _kind(values: list[str]) -> str:
    given = polars.Series([value for value in values if value], dtype=polars.String)
    if not len(given):
        return "string"
    # a code such as 007 is text: as a number it would lose its zeros
    if given.str.contains(r"^-?(0|[1-9][0-9]{0,17})$").all():
        return "int64"
    if given.str.contains(r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$").all():
        return "double"
    return "bool" if given.str.contains(r"^([Tt]rue|[Ff]alse|TRUE|FALSE)$").all() else "string"


_DTYPES = {"int64": polars.Int64, "double": polars.Float64, "bool": polars.Boolean, "string": polars.String, JSON: polars.String}


def _frame(
    header: list[str],
    rows: Block | list[list[str]],
    skip: int,
    stop: int,
    first: int,
    schema: dict[str, str],
    columns: Sequence[str],
) -> polars.DataFrame:
    """Rows `skip` to `stop` of some, of which the first has the number `first`."""
    height, width = stop - skip, len(header)
    errors: list[str | None] = [None] * height
    # a name that stands twice means the later column
    numbers = {name: number for number, name in enumerate(header)}
    if "_more" not in columns:
        numbers = {name: number for name, number in numbers.items() if name in columns}
    # without a column, one says whether all records have as many fields as the header
    wanted = list(numbers.values()) or [0]
    table = rows.table(wanted, width, skip) if isinstance(rows, Block) and columns else None
    given: dict[str, polars.Series] = {}
    if table is not None:
        table = table.slice(0, height)
        given = {name: polars.Series(name, table.column(str(number)), dtype=polars.String) for name, number in numbers.items()}
    elif numbers or "_error" in columns:
        fields = _fields(rows)[skip:stop] if isinstance(rows, Block) else rows[skip:stop]
        errors = [None if len(row) == width else f"{len(row)} fields where the header has {width}: {row!r:.200}" for row in fields]
        whole: list[Any] = [row if len(row) == width else [None] * width for row in fields]
        given = {name: polars.Series(name, [row[number] for row in whole], dtype=polars.String) for name, number in numbers.items()}
    series = {}
    for name in columns:
        if name not in EXTRA:
            absent = polars.Series(name, [None], dtype=polars.String).new_from_index(0, height)
            series[name] = _cast(name, given.get(name, absent), schema[name])
    if "_more" in columns:
        series["_more"] = _more(given, schema, height)
    if "_error" in columns:
        series["_error"] = polars.Series("_error", errors, dtype=polars.String)
    places = polars.int_range(first + skip, first + stop, dtype=polars.Int64, eager=True)
    return polars.DataFrame([*(series[name] for name in columns), places.alias("_pos"), (places + 1).alias("_end")])


def _fields(block: Block) -> list[list[str]]:
    text = _text(block.data[int(block.rows[0, 0]) :])
    return [row for row in csv.reader(io.StringIO(text, "")) if row]


def _cast(name: str, text: polars.Series, kind: str) -> polars.Series:
    if kind == JSON:
        return text.map_elements(lambda value: json.dumps(value, ensure_ascii=False), return_dtype=polars.String)
    if kind == "bool":
        return text.str.to_lowercase().replace_strict({"true": True, "false": False}, default=None, return_dtype=polars.Boolean)
    return text if kind == "string" else text.cast(_DTYPES[kind], strict=False)


def _more(given: dict[str, polars.Series], schema: dict[str, str], height: int) -> polars.Series:
    found: dict[int, dict[str, str]] = {}
    for name, values in given.items():
        kind = schema.get(name)
        if kind in ("string", JSON):
            continue
        lost = values.is_not_null() & (values != "")
        if kind is not None:
            lost &= _cast(name, values, kind).is_null()
        for index in lost.arg_true():
            found.setdefault(index, {})[name] = values[index]
    more = polars.Series("_more", [None], dtype=polars.String).new_from_index(0, height)
    if not found:
        return more
    numbers = sorted(found)
    texts = [json.dumps(found[number], ensure_ascii=False) for number in numbers]
    return more.scatter(numbers, polars.Series(texts, dtype=polars.String))
