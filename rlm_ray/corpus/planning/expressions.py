"""Turns conditions and patterns into polars expressions, and checks them before any data is read."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Mapping
from typing import Any

import polars
from polars.exceptions import PolarsError

from rlm_ray.corpus.meaning import comparing
from rlm_ray.corpus.meaning.comparing import dtype
from rlm_ray.corpus.meaning.searching import may_be_found, shown_text
from rlm_ray.corpus.meaning.types import FOLDER
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Grep, Where

__all__ = ["check_pattern", "column_type", "condition", "dtype", "grep", "grep_columns", "listed", "matches_empty", "where"]


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
    """Return the columns that a search looks in: the named one, or all that a record shows (a document's path and folders not).

    Columns of numbers and times are left out where the pattern cannot be found in any.

    Raises
    ------
    InputError
        No such column, or none that could have the pattern.
    """
    if step.column is not None:
        column_type(step.column, schema)
        return [step.column]
    # `_more` holds what no column does
    searched = {name: kind for name, kind in schema.items() if kind != FOLDER and (not name.startswith("_") or name == "_more")}
    if list(schema) == ["path", "text"]:
        return ["text"]
    pattern = _flagged(step.pattern, step.ignore_case)
    names = [name for name, kind in searched.items() if may_be_found(pattern, kind)]
    if not names:
        raise InputError(f"No column can hold {step.pattern!r:.100}. Columns: {listed(schema)}. Use .where on one of them.")
    return names


def grep(step: Grep, schema: Mapping[str, str]) -> polars.Expr:
    """Return whether a record has the pattern, as an expression for a filter (null means no)."""
    pattern = _flagged(step.pattern, step.ignore_case)
    literal = not step.ignore_case and re.fullmatch(r"[\w \-,:;/=<>@!%&'\"~`]+", step.pattern) is not None
    texts = [shown_text(polars.col(name), schema[name]) for name in grep_columns(step, schema)]
    tests = [text.str.contains(pattern, literal=literal) for text in texts]
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
    return comparing.condition(polars.col(column), column, column_type(column, schema), compared, value)


def column_type(column: str, schema: Mapping[str, str]) -> str:
    """Return a column's type name.

    Raises
    ------
    InputError
        There is no such column; names those that are there.
    """
    if column not in schema:
        hint = " What few records have besides is in `_more`: search it by .grep(pattern, column='_more')."
        more = hint if "_more" in schema else ""
        raise InputError(f"There is no column {column!r:.100}. Columns: {listed(schema)}.{more}")
    return schema[column]


def listed(schema: Mapping[str, str]) -> str:
    """Return the columns and types in one short line."""
    names = [f"{name} ({kind})" for name, kind in schema.items()]
    return ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
