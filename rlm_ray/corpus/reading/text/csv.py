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

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.meaning.types import JSON, shown_name
from rlm_ray.corpus.reading.decode_replacements import ERRORS, counted
from rlm_ray.corpus.reading.text.csv_blocks import Block, Fields, blocks
from rlm_ray.corpus.reading.text.line_search import is_utf8
from rlm_ray.corpus.reading.text.streams import FIRST, encoding_of, opened, readable
from rlm_ray.errors import ObjectUnreadable

EXTRA = {"_more": JSON, "_error": "string"}
_ROWS, _FEW_ROWS = 10_000, 1_000
_FIELD = 64 << 20


def read(
    shard: Shard,
    schema: dict[str, str],
    columns: Sequence[str],
    low: int,
    high: int | None,
    predicates: Sequence[polars.Expr] = (),
    early: bool = False,
) -> Iterator[polars.DataFrame]:
    """Yield frames of `columns`, `_pos` (the row) and `_end` for rows `[low, high)` that fulfil all predicates.

    Of rows that do not, only the columns that the predicates name are looked at. `early`: as in `lines`.
    """
    first = 0
    blocks = _rows(shard, early)
    while True:
        with counted(shard):
            block = next(blocks, None)
        if block is None:
            return
        header, rows = block
        chosen = range(max(0, low - first), len(rows) if high is None else min(len(rows), high - first))
        if chosen:
            yield _frame(header, rows, chosen, first, schema, columns, predicates)
        first += len(rows)
        if high is not None and first >= high:
            return


def _rows(shard: Shard, early: bool) -> Iterator[tuple[list[str], Block | list[list[str]]]]:
    """Yield the header and some rows: a regular block, or lists of fields."""
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
                    reader = _reader(_Reader(stream, block.memory.tobytes()), "utf-8")
                    header = header or [shown_name(name) for name in next((row for row in reader if row), [])]
                    while rows := list(islice((row for row in reader if row), _ROWS)):
                        yield header, rows
                    return
                if not header:
                    first = _text(block.memory[: block.end_of_first()])
                    header = [shown_name(name) for name in next(row for row in csv.reader(io.StringIO(first, "")) if row)]
                    block = replace(block, skipped=1)
                if len(block):
                    yield header, block if is_utf8(block.memory) else _fields(block)
    except csv.Error as error:
        raise ObjectUnreadable(f"{shard.uri} cannot be read as CSV: {error}. Open it with format='text'.") from None


def _text(memory: numpy.ndarray[Any, Any]) -> str:
    return memory.tobytes().decode("utf-8", ERRORS)


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
    chosen: range,
    first: int,
    schema: dict[str, str],
    columns: Sequence[str],
    predicates: Sequence[polars.Expr],
) -> polars.DataFrame:
    """Those of some rows, of which the first has the number `first`, that are chosen and fulfil the predicates."""
    source: Fields | list[list[str]] | None = None
    if columns or predicates:
        # without a column, its fields say whether all records have as many as the header
        cut = rows.fields(len(header)) if isinstance(rows, Block) else None
        source = _fields(rows) if cut is None and isinstance(rows, Block) else rows if cut is None else cut  # type: ignore[assignment]
    numbers: slice | numpy.ndarray[Any, Any] = slice(chosen.start, chosen.stop)
    places = polars.int_range(first + chosen.start, first + chosen.stop, dtype=polars.Int64, eager=True).alias("_pos")
    for predicate in predicates:
        seen = [name for name in columns if name in predicate.meta.root_names()]
        series = _columns(header, source, numbers, len(places), schema, seen)
        places = polars.DataFrame([*series, places, (places + 1).alias("_end")]).filter(predicate)["_pos"]
        numbers = places.to_numpy() - first
    series = _columns(header, source, numbers, len(places), schema, columns)
    return polars.DataFrame([*series, places, (places + 1).alias("_end")])


def _columns(
    header: list[str],
    source: Fields | list[list[str]] | None,
    numbers: slice | numpy.ndarray[Any, Any],
    height: int,
    schema: dict[str, str],
    columns: Sequence[str],
) -> list[polars.Series]:
    """Columns of some rows."""
    errors: list[str | None] = [None] * height if "_error" in columns else []
    # a name that stands twice means the later column
    where = {name: number for number, name in enumerate(header) if name in columns or "_more" in columns}
    if isinstance(source, list):
        width = len(header)
        fields = source[numbers] if isinstance(numbers, slice) else [source[number] for number in numbers]
        errors = [None if len(row) == width else f"{len(row)} fields where the header has {width}: {row!r:.200}" for row in fields]
        whole: list[Any] = [row if len(row) == width else [None] * width for row in fields]
        given = {name: polars.Series(name, [row[number] for row in whole], dtype=polars.String) for name, number in where.items()}
    else:
        given = {name: source.column(number, numbers).alias(name) for name, number in where.items()} if source is not None else {}
    series = {}
    for name in columns:
        if name not in EXTRA:
            absent = polars.Series(name, [None], dtype=polars.String).new_from_index(0, height)
            series[name] = _cast(name, given.get(name, absent), schema[name])
    if "_more" in columns:
        series["_more"] = _more(given, schema, height)
    if "_error" in columns:
        series["_error"] = polars.Series("_error", errors, dtype=polars.String)
    return [series[name] for name in columns]


def _fields(block: Block) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(_text(block.memory), "")) if row][block.skipped :]


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
