"""JSON lines: each line is a record with its object's members as columns.

The columns are those of the lines that were looked at when the corpus was opened: all, where they are few megabytes, else some
of many places. What another line has besides (a member
with a new name, or a value that does not fit its column) is kept as JSON text in the column `_more`. A line that is no
JSON object is a record of nulls whose `_error` says why. Blank lines are no records.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
import polars
import pyarrow
import pyarrow.json

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.meaning.types import FOLDER, JSON, RESERVED, shown_name, unite
from rlm_ray.corpus.planning.steps import BoundStep
from rlm_ray.corpus.reading.reader import Reader, ReadRequest
from rlm_ray.corpus.reading.sampling import SAMPLE_BYTES, Sample
from rlm_ray.corpus.reading.text import line_search
from rlm_ray.corpus.reading.text.lines import found_pieces, frame, next_lines
from rlm_ray.corpus.reading.text.streams import pieces
from rlm_ray.errors import InputError, StorageError
from rlm_ray.handle.plan import Grep, Step, Where

#: Up to so many bytes and shards all lines are looked at for their members, of more so many places, by so many threads.
_WHOLE_BYTES, _WHOLE_OBJECTS, _PLACES, _THREADS = 64 << 20, 256, 48, 16

#: Columns that this format adds to those of the sample.
EXTRA = {"_more": JSON, "_error": "string"}


def read(request: ReadRequest) -> Iterator[polars.DataFrame]:
    """Yield frames of the columns, `_pos` and `_end` for the lines that start in `[low, high)`.

    Of lines that the predicates do not leave, only the columns that these name are looked at; of those in which the
    pattern (see `prefilter`) finds nothing, none.
    """
    schema, columns, pattern = request.schema, request.columns, request.pattern
    for piece in found_pieces(request.shard, request.low, request.high, pattern, request.early):
        lines = frame(piece, request.shard)
        if request.extents:
            lines = lines.with_columns(next_lines(piece))
        if pattern is not None:
            lines = lines.filter(lines["text"].str.contains(pattern))
        elif not lines["text"].str.starts_with("{").all():
            lines = lines.filter(lines["text"].str.strip_chars() != "")
        for predicate in request.predicates:
            seen = [name for name in columns if name in predicate.meta.root_names()]
            lines = lines.filter(columns_of(lines, schema, seen).select(predicate).to_series())
        if lines.height:
            yield columns_of(lines, schema, columns)


def prefilter(step: BoundStep[Step]) -> str | None:
    """Return a pattern that finds something in each line whose record a step leaves; None where there is none.

    A text stands in its line as it is, between quotes, or with backslashes: what begins or ends a value is not looked for.
    """
    node, schema = step.node, step.sees
    if isinstance(node, Grep):
        columns = () if node.invert or _ENDS.search(node.pattern) else step.looks_at
        # a value of JSON is written anew: its blanks and its numbers with exponents may stand otherwise in the line
        anew = any(schema[name] != "string" for name in columns)
        anew_at_all = any(schema[name] == "double" for name in columns)  # 1 is shown as 1.0
        if columns and not anew_at_all and "_error" not in columns and (not anew or _SIMPLE.fullmatch(node.pattern)):
            pattern = line_search.prefilter(node.pattern, node.ignore_case)
            return None if pattern is None else f"(?:{pattern})|{_BACKSLASH}" + (f"|{_EXPONENT}" if anew else "")
    elif isinstance(node, Where):
        for column, compared, value in node.conditions:
            texts = [value] if compared == "==" else list(value) if compared == "in" else []
            if schema[column] == "string" and column not in EXTRA and texts and all(isinstance(text, str) for text in texts):
                return "|".join([_quoted(text) for text in texts] + [_BACKSLASH])
    return None


_BACKSLASH = r"\\"
_EXPONENT = r"[0-9][eE][+-]?[0-9]"
#: Patterns of words: no blank that JSON writes between values is part of what they find.
_SIMPLE = re.compile(r"[\w\-|/@]+(?:[. ][\w\-|/@]+)*")
_ENDS = re.compile(r"[$^]")


def _quoted(text: str) -> str:
    """A pattern of a text in a line, where it is written without backslashes."""
    return '"' + "".join(letter if letter.isalnum() else f"\\x{{{ord(letter):x}}}" for letter in text) + '"'


def columns_of(lines: polars.DataFrame, schema: dict[str, str], columns: Sequence[str]) -> polars.DataFrame:
    """Return the columns of a frame of JSON texts (`text`), with their places."""
    series = parse(lines["text"], schema, columns) if columns and lines.height else []
    if columns and not lines.height:
        series = [polars.Series(name, [], dtype=_DTYPES[schema[name]]) for name in columns]
    places = [lines[name] for name in ("_pos", "_end", "_next") if name in lines.columns]
    return polars.DataFrame([*series, *places])


def parse(lines: polars.Series, schema: dict[str, str], columns: Sequence[str]) -> list[polars.Series]:
    """Return the columns of JSON lines."""
    known = {name: kind for name, kind in schema.items() if name not in EXTRA}
    plain = {name: known[name] for name in columns if known.get(name, JSON) != JSON}
    # what arrow takes without a doubt is read by it; the rest, and what has no plain type, line by line
    surplus = "_more" in columns
    wanted = {name: kind for name, kind in known.items() if kind != JSON} if surplus else plain
    found, doubtful = _by_arrow(lines, wanted, surplus)
    if found is None:
        return _by_line(lines.to_list(), schema, columns)
    rest = [name for name in columns if name not in plain]
    series = {name: found[name] for name in plain}
    if any(name not in EXTRA for name in rest):
        series |= {column.name: column for column in _by_line(lines.to_list(), schema, rest)}
    else:
        series |= {name: polars.Series(name, [None], dtype=polars.String).extend_constant(None, len(lines) - 1) for name in rest}
    if doubtful.any():
        numbers = numpy.flatnonzero(doubtful)
        for column in _by_line(lines.gather(numbers).to_list(), schema, columns):
            series[column.name] = series[column.name].scatter(numbers, column)
    return [series[name] for name in columns]


def _by_arrow(
    lines: polars.Series, wanted: dict[str, str], surplus: bool
) -> tuple[dict[str, polars.Series] | None, numpy.ndarray[Any, Any]]:
    """The columns of lines of JSON objects, and which lines are to be read again: those that arrow refuses, or that have
    more members where `surplus` asks for them."""
    bare = lines
    shaped = (bare.str.starts_with("{") & bare.str.ends_with("}")).to_numpy()
    if not shaped.all():
        bare = lines.str.strip_chars(_AROUND)
        shaped = (bare.str.starts_with("{") & bare.str.ends_with("}")).to_numpy()
    doubtful = ~shaped
    if "double" in wanted.values():
        doubtful |= lines.str.contains(_LONG).to_numpy()
        shaped = shaped & ~doubtful
    parts: list[pyarrow.Table] = []
    numbers: list[Any] = []
    # a name that is shown as another is looked for by that other
    jobs = [numpy.flatnonzero(shaped)] if wanted and not any(name in _RENAMED for name in wanted) else []
    refused = 0
    while jobs:
        rows = jobs.pop()
        hopeless = refused > _TRIES * len(lines)
        table = (
            _table(bare if len(rows) == len(lines) else bare.gather(rows), wanted, surplus) if len(rows) and not hopeless else None
        )
        if table is not None:
            parts.append(table)
            numbers.append(rows)
        elif len(rows) <= _FEW or hopeless:
            doubtful[rows] = True
        else:
            refused += len(rows)
            jobs += [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    if not parts:
        return None, doubtful
    series = {}
    for name, kind in wanted.items():
        whole = polars.Series(name, [None], dtype=_DTYPES[kind]).extend_constant(None, len(lines) - 1)
        for rows, table in zip(numbers, parts, strict=True):
            part = polars.Series(name, table.column(name))
            whole = part if len(rows) == len(lines) else whole.scatter(rows, part)
        series[name] = whole
    for rows, table in zip(numbers, parts, strict=True):
        for name in table.column_names:
            if name not in wanted:
                doubtful[rows[table.column(name).is_valid().to_numpy()]] = True
    return series, doubtful


#: Lines that are read one by one where arrow refuses one of them; and how often all lines may be refused before that.
_FEW, _TRIES = 64, 4
_RENAMED = {shown_name(name) for name in (*RESERVED, "")}

#: A number that a double may not hold, or what JSON has no number for and Arrow reads as one.
_LONG = r"[:,\[\s]-?(?:[0-9]{16,}|NaN|Inf(?:inity)?|[0-9.]+[eE]\+?[0-9]{3,})\s*[,\]}]"

_ARROW = {
    "int64": pyarrow.int64(),
    "double": pyarrow.float64(),
    "bool": pyarrow.bool_(),
    "string": pyarrow.string(),
    FOLDER: pyarrow.string(),
}


def _table(lines: polars.Series, wanted: dict[str, str], surplus: bool) -> pyarrow.Table | None:
    """Lines that begin and end as objects do, as a table; None where arrow refuses one of them.

    A line break is nowhere between `}` and `{` of one object: as many rows as lines are the lines.
    """
    # one behind the other in one buffer, without Python's texts
    data = (lines + "\n").to_arrow(compat_level=polars.CompatLevel.oldest()).buffers()[2]
    options = pyarrow.json.ParseOptions(
        explicit_schema=pyarrow.schema([(name, _ARROW[kind]) for name, kind in wanted.items()]),
        unexpected_field_behavior="infer" if surplus else "ignore",
    )
    try:
        table = pyarrow.json.read_json(
            pyarrow.BufferReader(data), pyarrow.json.ReadOptions(use_threads=False, block_size=data.size + 1), options
        )
    except pyarrow.ArrowException:
        return None
    return table if table.num_rows == len(lines) else None


def _by_line(lines: list[str], schema: dict[str, str], columns: Sequence[str]) -> list[polars.Series]:
    """The columns of JSON lines, each line for itself."""
    known = {name: kind for name, kind in schema.items() if name not in EXTRA}
    values: dict[str, list[Any]] = {name: [] for name in columns}
    wants_more = "_more" in values
    for line in lines:
        item, error = _load(line)
        item = {shown_name(name): value for name, value in item.items()}
        for name, column in values.items():
            if name in EXTRA:
                continue
            value = item.get(name)
            column.append(_text(value) if known[name] == JSON and value is not None else _fit(value, known[name]))
        if wants_more:
            more = {name: value for name, value in item.items() if value is not None and not _holds(value, known.get(name))}
            values["_more"].append(_text(more) if more else None)
        if "_error" in values:
            values["_error"].append(error)
    return [polars.Series(name, column, _DTYPES[schema[name]]) for name, column in values.items()]


def members(lines: polars.Series) -> dict[str, str]:
    """Return the columns and types of JSON lines: as `infer`, by Arrow where it gives the same."""
    texts = lines.filter(lines.str.strip_chars() != "")
    bare = texts.str.strip_chars(_AROUND)
    shaped = (bare.str.starts_with("{") & bare.str.ends_with("}")).all()
    if not len(texts):
        return {}
    table = None if not shaped or bool(texts.str.contains(_LONG).any()) else _table(bare, {}, True)
    if table is None or len(set(table.column_names)) < len(table.column_names):
        return infer(texts.to_list())
    return {shown_name(column.name): _inferred(column.type) for column in table.schema}


def _inferred(kind: pyarrow.DataType) -> str:
    types = pyarrow.types
    if types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind) or types.is_null(kind):
        return "null" if types.is_null(kind) else "string"
    names = {pyarrow.int64(): "int64", pyarrow.float64(): "double", pyarrow.bool_(): "bool", pyarrow.string(): "string"}
    return names.get(kind, JSON)


def united(found: Iterable[dict[str, str]]) -> dict[str, str]:
    """Return the columns of some lots of lines together."""
    schema: dict[str, str] = {}
    for columns in found:
        for name, kind in columns.items():
            schema[name] = unite(schema[name], kind) if name in schema else kind
    return {name: "string" if kind == "null" else kind for name, kind in schema.items()}


def infer(lines: list[str]) -> dict[str, str]:
    """Return the columns and types of some JSON lines."""
    schema: dict[str, str] = {}
    long: set[str] = set()
    for line in lines:
        for name, value in _load(line)[0].items():
            kind = _kind(value)
            shown = shown_name(name)
            if kind == "int64" and not -_EXACT <= value <= _EXACT:
                long.add(shown)
            schema[shown] = unite(schema[shown], kind) if shown in schema else kind
    # a double does not hold every long number
    return {
        name: {"null": "string"}.get(kind, JSON if kind == "double" and name in long else kind) for name, kind in schema.items()
    }


_DTYPES = {
    "int64": polars.Int64,
    "double": polars.Float64,
    "bool": polars.Boolean,
    "string": polars.String,
    FOLDER: polars.String,
    JSON: polars.String,
}


def _load(line: str) -> tuple[dict[str, Any], str | None]:
    try:
        item = json.loads(line.strip(_AROUND), parse_float=_number)
        if _HALF.search(line) is not None:
            item = json.loads(_paired(json.dumps(item, ensure_ascii=False)))
    except (ValueError, RecursionError) as error:
        return {}, f"no JSON ({error}): {line[:200]}"
    return (item, None) if isinstance(item, dict) else ({}, f"no JSON object: {line[:200]}")


def _number(text: str) -> float | str:
    """A number; its text where no double is so large."""
    number = float(text)
    return number if math.isfinite(number) else text


#: What may stand around a value: marks of texts in sequence (RFC 7464), and of files that were put together.
_AROUND = " \t\r\n\x1e\ufeff"


#: Half of a character that JSON writes as two; alone it is no text.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def _paired(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if -(1 << 63) <= value < 1 << 63 else JSON
    return {float: "double", str: "string"}.get(type(value), JSON)


#: Whole numbers up to this are exact as doubles.
_EXACT = 1 << 53


def _holds(value: Any, kind: str | None) -> bool:
    if kind == "double" and type(value) is int and not -_EXACT <= value <= _EXACT:
        return False
    return kind is not None and (value is None or kind == JSON or unite(_kind(value), kind) == kind)


def _fit(value: Any, kind: str) -> Any:
    if not _holds(value, kind):
        return None
    return float(value) if kind == "double" and value is not None else value


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def sample(shards: Sequence[Shard]) -> Sample:
    """The columns of JSON lines: of all of them where they are few megabytes, else of many places."""
    total = sum(shard.nbytes for shard in shards) if len(shards) <= _WHOLE_OBJECTS else _WHOLE_BYTES + 1
    whole = total <= _WHOLE_BYTES
    numbers = range(len(shards))
    if not whole:
        count = len(shards)
        numbers = sorted({round(index * (count - 1) / (_PLACES - 1)) for index in range(_PLACES)} | set(range(min(count, 4))))  # type: ignore[assignment]
    looked = [shards[number] for number in numbers]
    failures: list[StorageError] = []

    def of_one(shard: Shard) -> tuple[list[dict[str, str]], int, int]:
        found, count, size = [], 0, 0
        places = (
            [(shard.start, None if shard.packed else shard.stop)] if whole else _places_in(shard, max(1, _PLACES // len(looked)))
        )
        try:
            for low, high in places:
                for piece in pieces(shard, low, high):
                    lines = frame(piece, shard)["text"]
                    found.append(members(lines))
                    count += len(lines)
                    size += int(lines.str.len_bytes().sum()) + len(lines)
                    if not whole and size > SAMPLE_BYTES:
                        break
        except StorageError as error:
            failures.append(error)
        return found, count, size

    with ThreadPoolExecutor(min(_THREADS, len(looked)) or 1, thread_name_prefix="members") as pool:
        results = list(pool.map(of_one, looked))
    count, size = sum(item[1] for item in results), sum(item[2] for item in results)
    if not count and failures:
        raise InputError(f"No object could be sampled for its columns; the last one: {failures[-1]}")
    schema = united(columns for found, _, _ in results for columns in found)
    return Sample(schema | EXTRA, max(1.0, size / max(1, count)))


def _places_in(shard: Shard, count: int) -> list[tuple[int, int | None]]:
    """Some parts of a shard; only its beginning where it cannot be read from the middle."""
    if shard.packed:
        return [(0, SAMPLE_BYTES)]
    length = shard.stop - shard.start
    count = max(1, min(count, length // SAMPLE_BYTES))
    starts = [shard.start + index * max(0, length - SAMPLE_BYTES) // max(1, count - 1) for index in range(count)]
    return [(start, min(shard.stop, start + SAMPLE_BYTES)) for start in starts]


READER = Reader(read=read, sample=sample, prefilter=prefilter)
