"""Columns with one value in a whole file: the manifest holds that value as every verb shows it. Pure."""

from __future__ import annotations

import decimal
from typing import Any

import pyarrow

from rlm_ray.corpus.meaning.moments import UNITS, parse_clock, parse_moment
from rlm_ray.corpus.meaning.readable import bytes_of
from rlm_ray.corpus.meaning.types import arrow_type


def constant(value: Any, kind: str) -> pyarrow.Array:
    """Return the value as an array of one, of the type that scans have.

    Raises
    ------
    ValueError
        It is none of that type.

    Examples
    --------
    >>> constant("12:00:00", "time64[us]")[0].as_py(), constant("base64:/w==", "binary")[0].as_py(), constant(7, "int8")[0].as_py()
    (datetime.time(12, 0), b'\\xff', 7)
    """
    target = arrow_type(kind) or pyarrow.string()
    if not isinstance(value, str):
        return pyarrow.array([value]).cast(target)
    types = pyarrow.types
    if types.is_timestamp(target) or types.is_date(target) or types.is_time(target):
        exact = parse_clock(value) if types.is_time(target) else parse_moment(value)
        if exact is None:
            raise ValueError(f"{value!r:.100} is no {kind}")
        unit = "D" if types.is_date(target) else target.unit
        return pyarrow.array([exact // UNITS[unit]], pyarrow.int32() if unit == "D" else pyarrow.int64()).cast(target)
    if types.is_binary(target):
        return pyarrow.array([bytes_of(value)], target)
    if types.is_decimal(target):
        return pyarrow.array([decimal.Decimal(value)]).cast(target)
    if types.is_floating(target):
        return pyarrow.array([float(value)], target)
    return pyarrow.array([value]).cast(target)
