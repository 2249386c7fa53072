"""CSV with a header line: each line (or more, where quotes hold line breaks) is a record, numbered from 0.

Read as one shard per object, by the dialect that its beginning shows (`dialect`). Types are those of the sample;
a value that does not fit is null, and kept as
JSON text in the column `_more`. A line with too many or too few fields,
or with a quote that is not closed, is a record of nulls whose `_error` says so.
"""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy
import polars

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.meaning.types import JSON, shown_name
from rlm_ray.corpus.reading.decode_replacements import ERRORS
from rlm_ray.corpus.reading.reader import Reader, ReadRequest
from rlm_ray.corpus.reading.sampling import SAMPLE_LINES, Sample, first_sample
from rlm_ray.corpus.reading.text.csv_blocks import Block, Fields, blocks
from rlm_ray.corpus.reading.text.dialect import FIELD, SAMPLE, Dialect, Given, Row, Unclosed, records, sniffed
from rlm_ray.corpus.reading.text.line_search import is_utf8
from rlm_ray.corpus.reading.text.streams import BOM, FIRST, encoding_of, filled, opened, readable
from rlm_ray.errors import ObjectUnreadable

EXTRA = {"_more": JSON, "_error": "string"}
_ROWS, _FEW_ROWS = 10_000, 1_000


def read(request: ReadRequest) -> Iterator[polars.DataFrame]:
    """Yield frames of the columns, `_pos` (the row) and `_end` for rows `[low, high)`.

    Of rows that the predicates do not leave, only the columns that these name are looked at.
    """
    shard, low, high = request.shard, request.low, request.high
    first = 0
    blocks = _rows(shard, request.early)
    while True:
        block = next(blocks, None)
        if block is None:
            return
        header, rows = block
        chosen = range(max(0, low - first), len(rows) if high is None else min(len(rows), high - first))
        if chosen:
            yield _frame(header, rows, chosen, first, request.schema, request.columns, request.predicates)
        first += len(rows)
        if high is not None and first >= high:
            return


def _rows(shard: Shard, early: bool, dialects: list[Dialect] | None = None) -> Iterator[tuple[list[str], Block | list[Row]]]:
    """Yield the header and some rows: a regular block, or lists of fields."""
    encoding = encoding_of(shard)
    header: list[str] = []
    with opened(shard, early=early) as source, readable(shard):
        stream, dialect = sniffed_stream(source, shard)
        if dialects is not None:
            dialects.append(dialect)
        if codecs.lookup(encoding).name != "utf-8":
            lines = _lines(shard, _Reader(stream), encoding)
            for _ in range(dialect.skipped):
                lines()
            yield from _listed(records(lines, dialect), header, _FEW_ROWS if early else _ROWS)
            return
        for block in blocks(stream, early, dialect):
            if not block.regular:
                lines = _lines(shard, _Reader(stream, block.memory.tobytes()), "utf-8")
                yield from _listed(records(lines, dialect), header, _ROWS)
                return
            if not header:
                first = io.StringIO(_text(block.memory[: block.end_of_first()]), "")
                header = header_names(next(records(first.readline, dialect)))
                block = replace(block, skipped=1)
            if len(block):
                yield header, block if is_utf8(block.memory) else _fields(block)


def _listed(rows: Iterator[Row], header: list[str], count: int) -> Iterator[tuple[list[str], list[Row]]]:
    header = header or header_names(next(rows, []))
    while found := list(islice(rows, count)):
        yield header, found


def header_names(row: Sequence[str | None]) -> list[str]:
    """Return the columns' names as they are shown: each one once, and none empty.

    Examples
    --------
    >>> header_names(["", "a", "a", "_pos"])
    ['unnamed', 'a', 'a_2', 'pos_']
    """
    given = [shown_name(name or "") for name in row]
    taken = set(given)
    names: list[str] = []
    seen: set[str] = set()
    numbers: dict[str, int] = {}
    for name in given:
        shown = name
        if name in seen:
            number = numbers.get(name, 1)
            while shown in seen or shown in taken:
                number += 1
                shown = f"{name}_{number}"
            numbers[name] = number
        seen.add(shown)
        names.append(shown)
    return names


def sniffed_stream(source: Any, shard: Shard) -> tuple[Any, Dialect]:
    """Return a stream from its beginning on, and its dialect."""
    memory, ended = filled(source, numpy.empty(0, numpy.uint8), SAMPLE)
    head = memory.tobytes()
    text = head.removeprefix(BOM).decode(encoding_of(shard), "replace")
    return _Replayed(head, source), sniffed(text, Given.from_text(shard.dialect), shard.uri, ended)


class _Replayed:
    """A stream behind its first bytes, which were looked at."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head, self._stream = memoryview(head), stream

    def read(self, count: int) -> bytes:
        """Return the next bytes."""
        data = bytearray(count)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        if not self._head:
            return int(self._stream.readinto(buffer))
        part, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def _text(memory: numpy.ndarray[Any, Any]) -> str:
    return memory.tobytes().decode("utf-8", ERRORS)


def _lines(shard: Shard, stream: _Reader, encoding: str) -> Callable[[], str]:
    """Return what gives the next line."""
    text = io.TextIOWrapper(io.BufferedReader(stream, FIRST), encoding=_signed(encoding), errors=ERRORS, newline="")

    def line() -> str:
        found = text.readline(FIELD)
        if len(found) >= FIELD and not found.endswith("\n"):
            raise ObjectUnreadable(
                f"{shard.uri} has a line of more than {FIELD >> 20} million characters, more than is read of CSV. "
                "Cut it, or open the object with format='text'."
            )
        return found

    return line


class _Reader(io.RawIOBase):
    """An Arrow stream as a raw Python one, behind some bytes that were read of it."""

    def __init__(self, stream: Any, before: bytes = b"") -> None:
        self._stream = stream
        self._before = memoryview(before)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._before:
            data, self._before = self._before[: len(buffer)], self._before[len(buffer) :]
        else:
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _signed(encoding: str) -> str:
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def batches(shard: Shard, high: int) -> Iterator[tuple[Dialect, list[str], list[Row]]]:
    """Yield the dialect, the header and rows as lists of fields, up to about `high` of them: a sample."""
    count = 0
    dialects: list[Dialect] = []
    for header, rows in _rows(shard, True, dialects):
        fields = _fields(rows) if isinstance(rows, Block) else rows
        yield dialects[0], header, fields[: high - count]
        count += len(fields)
        if count >= high:
            return


def sample(shards: Sequence[Shard]) -> Sample:
    """Return the columns of the first rows, and by which dialect they are read."""
    return first_sample(shards, _sampled, {})


def _sampled(shard: Shard) -> Sample | None:
    for dialect, header, rows in batches(shard, SAMPLE_LINES):
        size = sum(len(value or "") + 1 for row in rows for value in row)
        return Sample(infer(header, rows) | EXTRA, size / len(rows), f"CSV: {dialect}")
    return None


def infer(header: list[str], rows: list[Row]) -> dict[str, str]:
    """Return columns and types of some rows."""
    whole = [row for row in rows if len(row) == len(header) and not isinstance(row, Unclosed)]
    return {name: _kind([row[index] for row in whole]) for index, name in enumerate(header)}


def _kind(values: Row) -> str:
    given = polars.Series([value for value in values if value], dtype=polars.String)
    if not len(given):
        return "string"
    # a code such as 007 is text: as a number it would lose its zeros
    if given.str.contains(_WHOLE).all():
        return "int64" if given.cast(polars.Int64, strict=False).null_count() == 0 else "string"
    # numbers, and what stands for none among them
    numbers = given.filter(~given.is_in(list(_NO_NUMBERS)))
    if len(numbers) and numbers.str.contains(r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$").all():
        return "string" if given.str.contains(_LONG).any() else "double"
    return "bool" if given.str.contains(r"^([Tt]rue|[Ff]alse|TRUE|FALSE)$").all() else "string"


#: How writers of CSV put NaN and the infinities.
_NO_NUMBERS = {
    **dict.fromkeys(("nan", "NaN", "NAN"), float("nan")),
    **dict.fromkeys(("inf", "Inf", "Infinity", "+inf"), float("inf")),
    **dict.fromkeys(("-inf", "-Inf", "-Infinity"), float("-inf")),
}
_WHOLE = r"^-?(0|[1-9][0-9]*)$"
#: Numbers that a double may not hold as they are written.
_LONG = r"^-?[0-9]{16,}$|^-?[0-9]*\.?[0-9]{18,}"
_DTYPES = {"int64": polars.Int64, "double": polars.Float64, "bool": polars.Boolean, "string": polars.String, JSON: polars.String}


def _frame(
    header: list[str],
    rows: Block | list[Row],
    chosen: range,
    first: int,
    schema: dict[str, str],
    columns: Sequence[str],
    predicates: Sequence[polars.Expr],
) -> polars.DataFrame:
    """Those of some rows, of which the first has the number `first`, that are chosen and fulfil the predicates."""
    source: Fields | list[Row] | None = None
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
    source: Fields | list[Row] | None,
    numbers: slice | numpy.ndarray[Any, Any],
    height: int,
    schema: dict[str, str],
    columns: Sequence[str],
) -> list[polars.Series]:
    """Columns of some rows."""
    errors: list[str | None] = [None] * height if "_error" in columns else []
    wanted, all_of_them = set(columns), "_more" in columns
    where = {name: number for number, name in enumerate(header) if all_of_them or name in wanted}
    if isinstance(source, list):
        width = len(header)
        fields = source[numbers] if isinstance(numbers, slice) else [source[number] for number in numbers]
        errors = [_error(row, width) for row in fields]
        nothing = [None] * width
        whole: list[Any] = [row if error is None else nothing for row, error in zip(fields, errors, strict=True)]
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


def _error(row: Row, width: int) -> str | None:
    if isinstance(row, Unclosed):
        return f"a quote in this line is not closed, or a field is too long: {row[0]:.200}"
    return None if len(row) == width else f"{len(row)} fields where the header has {width}: {row!r:.200}"


def _fields(block: Block) -> list[Row]:
    text = io.StringIO(_text(block.memory), "")
    return list(records(text.readline, block.dialect))[block.skipped :]


def _cast(name: str, text: polars.Series, kind: str) -> polars.Series:
    if kind == JSON:
        return text.map_elements(lambda value: json.dumps(value, ensure_ascii=False), return_dtype=polars.String)
    if kind == "bool":
        return text.str.to_lowercase().replace_strict({"true": True, "false": False}, default=None, return_dtype=polars.Boolean)
    if kind == "string":
        return text
    values = text.cast(_DTYPES[kind], strict=False)
    if kind == "double":
        values = _with_no_numbers(text, values)
    # what a number would not show as it is written stays text, in `_more`
    longest: Any = text.str.len_bytes().max() if kind == "double" else 0
    if (longest or 0) >= 16:
        return values.set(text.str.contains(_LONG).fill_null(False), None)
    if kind == "int64":
        zeros = text.str.starts_with("0") & (text != "0")
        return values.set(zeros.fill_null(False), None) if zeros.any() else values
    return values


def _with_no_numbers(text: polars.Series, values: polars.Series) -> polars.Series:
    """Numbers with NaN and the infinities as writers put them; a number too large for a double is none of these."""
    special = ~values.is_finite().fill_null(False) & text.is_not_null()
    if not special.any():
        return values
    places = special.arg_true()
    return values.scatter(places, [_NO_NUMBERS.get(item) for item in text.gather(places)])


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


READER = Reader(read=read, sample=sample)
