"""Conditions and patterns as polars expressions, checked before any data is read."""

from __future__ import annotations

import datetime
import functools
import operator
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import polars
import pyarrow
from polars.exceptions import PolarsError

from rlm_ray.corpus.catalog.types import arrow_type, is_text
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Grep, Where


def check_pattern(pattern: str, ignore_case: bool = False) -> None:
    """Compile a regular expression as the scan will. Reads no data.

    Raises
    ------
    InputError
        The pattern does not compile; says where.

    Examples
    --------
    >>> check_pattern(r"timeout after \\d+")
    >>> check_pattern("(?=a)")
    Traceback (most recent call last):
        ...
    rlm_ray.errors.InputError: The pattern '(?=a)' does not work: look-around, including look-ahead and look-behind, is not ...
    """
    try:
        polars.Series([""]).str.contains(_flagged(pattern, ignore_case))
    except PolarsError as error:
        reason = re.sub(r"(?s)^regex error: |\s*This error occurred.*", "", str(error))
        reason = reason.rpartition("error: ")[2].strip() or "not a regular expression"
        raise InputError(
            f"The pattern {pattern!r:.200} does not work: {reason.rstrip('.')}. "
            "Patterns are Rust regular expressions: no look-around, no back-references."
        ) from None


def _flagged(pattern: str, ignore_case: bool) -> str:
    return f"(?i){pattern}" if ignore_case else pattern


def matches_empty(pattern: str) -> bool:
    """Whether a pattern also finds the empty text, and so separates nothing."""
    return bool(polars.Series([""]).str.contains(pattern)[0])


def grep_columns(step: Grep, schema: Mapping[str, str]) -> list[str]:
    """Return the columns that a search looks in: the named one, or all text of a record (a document's path is none).

    Raises
    ------
    InputError
        No such column, or none with text.
    """
    if step.column is not None:
        kind = column_type(step.column, schema)
        if not is_text(kind):
            raise InputError(f"Column {step.column!r} is {kind}, not text: use .where([({step.column!r}, '==', …)]).")
        return [step.column]
    names = [name for name, kind in schema.items() if is_text(kind) and not name.startswith("_")]
    if "path" in names and list(schema) == ["path", "text"]:
        names = ["text"]
    if not names:
        raise InputError(f"There is no text column to search. Columns: {listed(schema)}. Use .where on one of them.")
    return names


def grep(step: Grep, schema: Mapping[str, str]) -> polars.Expr:
    """Return whether a record has the pattern, as an expression for a filter (null means no)."""
    pattern = _flagged(step.pattern, step.ignore_case)
    literal = not step.ignore_case and re.fullmatch(r"[\w \-,:;/=<>@!%&'\"~`]+", step.pattern) is not None
    tests = [polars.col(name).str.contains(pattern, literal=literal) for name in grep_columns(step, schema)]
    found = functools.reduce(operator.or_, tests)
    # only where it must be: a null that is filled keeps polars from decoding just what is found
    return ~found.fill_null(False) if step.invert else found


def where(step: Where, schema: Mapping[str, str]) -> polars.Expr:
    """Return whether all conditions hold for a record, as an expression for a filter (null means no).

    Raises
    ------
    InputError
        No such column, or a value that the column cannot be compared with.
    """
    tests = [condition(column, compared, value, schema) for column, compared, value in step.conditions]
    return functools.reduce(operator.and_, tests, *([] if tests else [polars.lit(True)]))


def condition(column: str, compared: str, value: Any, schema: Mapping[str, str]) -> polars.Expr:
    """Return one condition as an expression."""
    kind = column_type(column, schema)
    left = polars.col(column)
    if compared in ("in", "not in"):
        given = [literal(column, kind, item) for item in value if item is not None]
        found = _is_one_of(left, given, kind) if given else polars.lit(False)
        if compared == "not in":
            return left.is_not_null() & ~found
        return found | left.is_null() if None in value else found
    if value is None:
        if compared not in ("==", "!="):
            raise InputError(f"{column!r} {compared} None has no meaning. Compare with == or != None.")
        return left.is_null() if compared == "==" else left.is_not_null()
    right = _literal(literal(column, kind, value), kind)
    tests = {"==": left == right, "!=": left != right, "<": left < right, "<=": left <= right, ">": left > right}
    return tests.get(compared, left >= right)


def _literal(value: Any, kind: str) -> polars.Expr:
    return polars.lit(value) if _family(kind) in ("number", "decimal") else polars.lit(value, dtype(kind))


def _is_one_of(left: polars.Expr, values: list[Any], kind: str) -> polars.Expr:
    if _family(kind) == "decimal" or (_family(kind) == "number" and not kind.startswith(("int", "uint"))):
        return left.cast(polars.Float64).is_in([float(value) for value in values])
    if _family(kind) == "number":
        whole = [int(value) for value in values if isinstance(value, int) or value.is_integer()]
        least, most, type_ = (0, 1 << 64, polars.UInt64) if kind == "uint64" else (-(1 << 63), 1 << 63, polars.Int64)
        series = polars.Series([value for value in whole if least <= value < most], dtype=type_)
        return left.cast(type_).is_in(polars.lit(series).implode())
    return left.is_in(polars.lit(polars.Series(values, dtype=dtype(kind))).implode())


def column_type(column: str, schema: Mapping[str, str]) -> str:
    """Return a column's type name.

    Raises
    ------
    InputError
        There is no such column; names those that are there.
    """
    if column not in schema:
        raise InputError(f"There is no column {column!r:.100}. Columns: {listed(schema)}.")
    return schema[column]


def listed(schema: Mapping[str, str]) -> str:
    """Return the columns and types in one short line."""
    names = [f"{name} ({kind})" for name, kind in schema.items()]
    return ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")


def literal(column: str, kind: str, value: Any) -> Any:
    """Return a condition's value as one that compares with a column of this type.

    Raises
    ------
    InputError
        It does not compare.
    """
    family = _family(kind)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if family == "number" and number:
        return value
    if family == "decimal" and number:
        return float(value)
    if family == "text" and isinstance(value, str):
        return value
    if family == "binary" and isinstance(value, str):
        return value.encode()
    if family == "bool" and isinstance(value, bool):
        return value
    if family in _PARSERS and isinstance(value, str):
        parsed = _PARSERS[family](value, kind)
        if parsed is not None:
            return parsed
        raise InputError(f"{value!r:.100} is no {family} to compare column {column!r} ({kind}) with. Write {_EXAMPLES[family]!r}.")
    raise InputError(
        f"Column {column!r} is {kind} and cannot be compared with {value!r:.100} ({type(value).__name__}). "
        f"Give {_WANTED.get(family, 'None')}."
    )


_WANTED = {
    "number": "a number",
    "decimal": "a number",
    "text": "a text",
    "binary": "a text",
    "bool": "True or False",
    "timestamp": "a time such as '2026-01-31 12:00:00'",
    "date": "a date such as '2026-01-31'",
    "time": "a time such as '12:00:00'",
}
_EXAMPLES = {"timestamp": "2026-01-31 12:00:00", "date": "2026-01-31", "time": "12:00:00"}


def _family(kind: str) -> str:
    arrow = arrow_type(kind)
    types = pyarrow.types
    if arrow is None or types.is_string(arrow):
        return "text"
    if types.is_integer(arrow) or types.is_floating(arrow):
        return "number"
    for family, test in (
        ("decimal", types.is_decimal),
        ("bool", types.is_boolean),
        ("binary", types.is_binary),
        ("timestamp", types.is_timestamp),
        ("date", types.is_date),
        ("time", types.is_time),
    ):
        if test(arrow):
            return family
    return kind


def _timestamp(value: str, kind: str) -> datetime.datetime | None:
    try:
        parsed = datetime.datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    if "tz=" in kind:
        # a time without a zone is UTC, as the column's values are stored
        return parsed.astimezone(datetime.UTC) if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)
    return parsed.astimezone(datetime.UTC).replace(tzinfo=None) if parsed.tzinfo else parsed


def _date(value: str, kind: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(value.strip()[:10])
    except ValueError:
        return None


def _time(value: str, kind: str) -> datetime.time | None:
    try:
        return datetime.time.fromisoformat(value.strip())
    except ValueError:
        return None


_PARSERS: dict[str, Any] = {"timestamp": _timestamp, "date": _date, "time": _time}


@lru_cache(maxsize=1000)
def dtype(kind: str) -> Any:
    """Return the polars type of a column of this type name."""
    arrow = arrow_type(kind) or pyarrow.string()
    return polars.Series(values=pyarrow.array([], arrow)).dtype
