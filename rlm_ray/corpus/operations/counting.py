"""Counts records, and records by a column's values: of one shard, or of several with one query."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import polars
import pyarrow

from rlm_ray import storage
from rlm_ray.corpus.catalog import deletions
from rlm_ray.corpus.catalog.footers import with_footer
from rlm_ray.corpus.operations.arguments import OperationArgs, ValueCounts
from rlm_ray.corpus.reading import scan
from rlm_ray.corpus.reading.parquet import dictionary_codes, polars_rows
from rlm_ray.corpus.reading.reader import Reduce
from rlm_ray.corpus.reading.records import column_values
from rlm_ray.corpus.reading.text.streams import count_lines
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError, StorageError

#: Requests for versions that are under way at once.
_REQUESTS = 8
#: Most different values that `count_by` counts.
MAX_DISTINCT = 1_000_000
#: Rows that one query counts by value.
_MOST_ROWS = 2 * MAX_DISTINCT


def together(name: str, works: Sequence[Work], args: OperationArgs) -> list[Any]:
    """Compute an operation over several shards by one query; None in the place of each that is to be asked by itself.

    So is each of them where the query fails, or an object has changed: which shard fails, and why, is said as ever. In the place
    of a footer that cannot be read stands the error. Of `count_by`, what several shards have stands in the place of the first.

    Raises
    ------
    InputError
        The operation does not fit the columns.
    """
    partials: list[Any] = [None] * len(works)
    if name not in ("count", "count_by") or len(works) < 2:
        return partials
    works = list(works)
    for number, work in enumerate(works):
        try:
            works[number] = replace(work, shard=with_footer(work.shard, work.plan.schema))
        except StorageError as error:
            partials[number] = error
    if name == "count":
        _count_together(works, partials)
    else:
        _count_by_together(works, partials, args["column"])
    return partials


def _count_together(works: Sequence[Work], partials: list[Any]) -> None:
    for number, work in enumerate(works):
        partials[number] = _known(work) if partials[number] is None else partials[number]
    numbers, frame = _asked(works, _left(partials), [], _counted, lambda counts: counts)
    counts = {} if frame is None else dict(zip(frame["_number"].to_list(), frame["count"].to_list(), strict=True))
    for place, number in enumerate(numbers):
        partials[number] = counts[place]


def _count_by_together(works: Sequence[Work], partials: list[Any], column: str) -> None:
    found: dict[Any, int] = {}
    coded = [number for number in _left(partials) if _add_codes(works[number], column, found)]
    for number in coded:
        partials[number] = list(found.items()) if number == coded[0] else []
    asked: list[int] = []

    def frames() -> Iterator[polars.DataFrame]:
        for portion in _portions(works, _left(partials)):
            numbers, frame = _asked(works, portion, [column], lambda rows: rows.select(column), grouped(column))
            if frame is not None:
                asked.extend(numbers)
                yield frame

    counts = by_value(frames(), works[0], column)
    for number in asked:
        partials[number] = counts if number == asked[0] else []


def _left(partials: Sequence[Any]) -> list[int]:
    return [number for number, partial in enumerate(partials) if partial is None]


def _portions(works: Sequence[Work], numbers: Sequence[int]) -> Iterator[list[int]]:
    """Cut shards into portions of so few rows that memory holds them if each has a value of its own."""
    held: list[int] = []
    rows = 0
    for number in numbers:
        rows_here = works[number].shard.rows or 0
        # a filter leaves fewer, as a rule
        here = rows_here if works[number].plan.row_range(works[number].shard) is not None else rows_here // 2
        if held and rows + here > _MOST_ROWS:
            yield held
            held, rows = [], 0
        held.append(number)
        rows += here
    yield held


def _asked(
    works: Sequence[Work], numbers: Sequence[int], columns: Sequence[str], each: Reduce, reduce: Reduce
) -> tuple[list[int], polars.DataFrame | None]:
    """Return what is made of the records of some shards together, and which of the works these are."""
    if len(numbers) < 2 or any(work.plan != works[0].plan for work in works):
        return [], None
    queries = scan.queries(
        [works[number].shard for number in numbers],
        works[0].plan,
        columns=columns,
        reduce=each,
        tables=[works[number].table for number in numbers],
    )
    asked = {number: query for number, query in zip(numbers, queries, strict=True) if query is not None}
    if len(asked) < 2:
        return [], None
    objects = sorted({storage.stored_object(works[number].shard.uri, works[number].shard.version) for number in asked})
    try:
        _check_versions(objects)
        frame = polars_rows.together(list(asked.values()), reduce)
        _check_versions(objects)
    except StorageError:
        return [], None
    return ([], None) if frame is None else (list(asked), frame)


def _check_versions(objects: Sequence[tuple[str, str]]) -> None:
    """Compare the versions of objects with what they are: in a store a request each, some at once."""
    if not storage.is_remote(objects[0][0]):
        for uri, version in objects:
            storage.check_version(uri, version)
        return
    with ThreadPoolExecutor(_REQUESTS, thread_name_prefix="versions") as pool:
        for _ in pool.map(storage.check_version, *zip(*objects, strict=True)):
            pass


# -- records


def count(work: Work, args: OperationArgs) -> int:
    """Return how many records the steps leave of a shard."""
    shard, plan = work.shard, work.plan
    if shard.traits.lines_are_records and not shard.packed and plan.is_range(shard.index):
        low, high = plan.position_range(shard)
        found = count_lines(shard, low, high) if low < high else 0
        storage.check_version(shard.uri, shard.version)
        return found
    work = replace(work, shard=with_footer(shard, work.plan.schema))
    known = _known(work)
    if known is None:
        known = work.counted()
    return _total(work.reduced([], _counted)) if known is None else known


def merge_count(partials: Sequence[int], args: OperationArgs) -> int:
    """Return the sum."""
    return sum(partials)


def _known(work: Work) -> int | None:
    """Return what the footer says, without a scan."""
    rows = work.plan.row_range(work.shard)
    return None if rows is None else deletions.live(work.shard, *rows)


def _counted(rows: polars.LazyFrame) -> polars.LazyFrame:
    return rows.select(_COUNT)


def _total(frames: Iterable[polars.DataFrame]) -> int:
    return sum(int(frame["count"].sum()) for frame in frames)


# -- records by value


def count_by(work: Work, args: OperationArgs) -> list[tuple[Any, int]]:
    """Return how many records the steps leave of a shard, by a column's values."""
    column = args["column"]
    work = replace(work, shard=with_footer(work.shard, work.plan.schema))
    found: dict[Any, int] = {}
    if _add_codes(work, column, found):
        return list(found.items())
    return by_value(work.reduced([column], grouped(column)), work, column)


def merge_count_by(partials: Sequence[list[tuple[Any, int]]], args: OperationArgs) -> ValueCounts:
    """Return the most frequent values with their counts, and how many values there are."""
    # a text is its own key; another value's is its JSON, apart from the text that reads the same
    texts: dict[str, int] = {}
    others: dict[str, list[Any]] = {}
    for partial in partials:
        for value, number in partial:
            if isinstance(value, str):
                texts[value] = texts.get(value, 0) + number
            else:
                others.setdefault(_json(value), [value, 0])[1] += number
        check_distinct(len(texts) + len(others), args["column"])
    counts = [[value, number] for value, number in texts.items()] + list(others.values())
    counts.sort(key=lambda pair: (-pair[1], _json(pair[0])))
    return {"counts": counts[: args["limit"]], "distinct": len(counts)}


def _add_codes(work: Work, column: str, found: dict[Any, int]) -> bool:
    """Add the counts of a plain range of rows, where codes stand for the texts; return whether they do."""
    _kind(work, column)
    rows = work.plan.row_range(work.shard) if work.table is None else None
    counts = dictionary_codes.counts(work.shard, work.plan.schema, column, *rows) if rows is not None else None
    for value, number in (counts or {}).items():
        found[value] = found.get(value, 0) + number
    check_distinct(len(found), column)
    return counts is not None


def grouped(column: str) -> Reduce:
    """Return what counts records by the values of a column, as `value` and `count`."""
    value = polars.col(column).alias("value")
    return lambda rows: rows.group_by(value).agg(_COUNT)


def by_value(frames: Iterable[polars.DataFrame], work: Work, column: str) -> list[tuple[Any, int]]:
    """Return a partial result of `count_by`, from what `grouped` gives in parts."""
    counted: polars.DataFrame | None = None
    for here in frames:
        counted = here if counted is None else polars.concat([counted, here]).group_by("value").agg(polars.col("count").sum())
        check_distinct(counted.height, column)
    if counted is None:
        return []
    array = counted["value"].to_arrow(compat_level=polars.CompatLevel.oldest())
    if pyarrow.types.is_large_string(array.type):
        array = array.cast(pyarrow.string())
    return list(zip(column_values(array, _kind(work, column)), counted["count"].to_list(), strict=True))


def _kind(work: Work, column: str) -> str:
    columns = work.plan.columns
    if column not in columns:
        raise InputError(f"There is no column {column!r}. Columns: {', '.join(columns)}.")
    return columns[column]


def check_distinct(number: int, column: str) -> None:
    """Refuse what has too many different values.

    Raises
    ------
    InputError
        It has.
    """
    if number > MAX_DISTINCT:
        raise InputError(
            f"Column {column!r} has more than {MAX_DISTINCT:,} different values. Narrow the handle, or count another column."
        )


_json = json.JSONEncoder(sort_keys=True).encode
_COUNT = polars.len().cast(polars.Int64).alias("count")
