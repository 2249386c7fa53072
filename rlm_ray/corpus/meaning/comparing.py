"""Values as conditions compare them: the one function for filters, partitions and statistics.

A condition means what the person wrote, exactly: `t < '9999-12-31'` of a column that ends in 2262 holds for all, `n == 1.5` of
whole numbers for none. So a value is taken to whole units of its column, with what is left over, and compared as such.
"""

from __future__ import annotations

import json
import math
import operator as operators
import struct
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from typing import Any

import polars
import pyarrow

from rlm_ray.corpus.meaning.moments import UNITS, parse_clock, parse_moment
from rlm_ray.corpus.meaning.readable import bytes_of
from rlm_ray.corpus.meaning.types import DECIMAL, FOLDER, arrow_type
from rlm_ray.errors import InputError

_INT = {name: (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (8, 16, 32, 64) for name in (f"int{bits}",)}
_INT |= {f"uint{bits}": (0, (1 << bits) - 1) for bits in (8, 16, 32, 64)}

_WANTED = {
    "number": "a number",
    "decimal": "a number",
    "duration": "a number of seconds",
    "text": "a text",
    "binary": "a text",
    "bool": "True or False",
    "timestamp": "a time such as '2026-01-31 12:00:00'",
    "date": "a date such as '2026-01-31'",
    "time": "a time such as '12:00:00'",
}
_EXAMPLES = {"timestamp": "2026-01-31 12:00:00", "date": "2026-01-31", "time": "12:00:00"}


def compared(left: polars.Expr, column: str, kind: str, operator: str, value: Any) -> polars.Expr:
    """Return whether a column's values compare so with a value that is not None, as an expression (null where they are null).

    Parameters
    ----------
    left : polars.Expr
        The values, as scans have them.
    column, kind : str
        Its name, for messages, and its type.
    operator : {"==", "!=", "<", "<=", ">", ">="}
    value : str, int, float or bool

    Raises
    ------
    InputError
        They do not compare.
    """
    meaning = family(kind)
    if meaning in _UNITS and kind not in _PARSED:
        return _in_units(left, _UNITS[meaning](kind), operator, _exact(column, kind, value))
    if kind in _PARSED:
        return _parsed(left, _PARSED[kind], operator, _exact(column, kind, value))
    if meaning == "json":
        return _json(left, operator, value)
    if meaning == "folder":
        return _folder(left, operator, value)
    return _test(left, operator, _literal(_same(column, kind, value), kind))


def one_of(left: polars.Expr, column: str, kind: str, values: Sequence[Any]) -> polars.Expr:
    """Return whether a column's values are among some values, each as `==` takes it.

    Raises
    ------
    InputError
        One of them does not compare.
    """
    if not values:
        return polars.lit(False)
    meaning = family(kind)
    if meaning in _UNITS and kind not in _PARSED:
        units = _UNITS[meaning](kind)
        exact = (_exact(column, kind, value) for value in values)
        whole = {_ticks(value, units)[0] for value in exact if not isinstance(value, float) and _ticks(value, units)[1]}
        return left.is_in(polars.lit(units.series(sorted(tick for tick in whole if units.holds(tick)))).implode())
    if meaning in ("json", "folder") or kind in _PARSED:
        tests = [compared(left, column, kind, "==", value) for value in dict.fromkeys(values)]
        return polars.any_horizontal(tests)
    same = [_same(column, kind, value) for value in values]
    return left.is_in(polars.lit(polars.Series(same, dtype=dtype(kind))).implode())


@lru_cache(maxsize=1000)
def family(kind: str) -> str:
    """Return how values of a type compare."""
    arrow = arrow_type(kind)
    types = pyarrow.types
    if kind == FOLDER:
        return "folder"
    if kind in _PARSED:
        return "decimal" if kind == DECIMAL else "timestamp"
    if arrow is None:
        return "json"
    if types.is_string(arrow):
        return "text"
    if types.is_integer(arrow):
        return "number"
    if types.is_floating(arrow):
        return "real"
    for name, test in (
        ("decimal", types.is_decimal),
        ("bool", types.is_boolean),
        ("binary", types.is_binary),
        ("timestamp", types.is_timestamp),
        ("date", types.is_date),
        ("time", types.is_time),
        ("duration", types.is_duration),
    ):
        if test(arrow):
            return name
    return kind


def _refuse(column: str, kind: str, value: Any) -> InputError:
    meaning = family(kind)
    if meaning in _EXAMPLES and isinstance(value, str):
        return InputError(
            f"{value!r:.100} is no {meaning} to compare column {column!r} ({kind}) with. Write {_EXAMPLES[meaning]!r}."
        )
    wanted = _WANTED.get("number" if meaning == "real" else meaning, "None")
    return InputError(
        f"Column {column!r} is {kind} and cannot be compared with {value!r:.100} ({type(value).__name__}). Give {wanted}."
    )


# -- values that are counted in units


class _Units:
    """What a column counts: one unit as a fraction of what people write, the counts that it can hold, and their type."""

    def __init__(self, unit: Fraction, least: int, most: int, type_: Any, made: Callable[[int], Any] | None = None) -> None:
        self.unit = unit
        self._least = least
        self._most = most
        self._type = type_
        self._made = made

    def side(self, ticks: int) -> int:
        """Return -1 where a count is below all that the column can hold, 1 where it is above, else 0."""
        return -1 if ticks < self._least else 1 if ticks > self._most else 0

    def holds(self, ticks: int) -> bool:
        """Whether a column can hold a count."""
        return self.side(ticks) == 0

    def literal(self, ticks: int) -> polars.Expr:
        """Return a count as the column has it."""
        if self._made is not None:
            return polars.lit(self._made(ticks), dtype=self._type)
        value = polars.lit(ticks, dtype=self._type if self._type.is_integer() else polars.Int64)
        return value if self._type.is_integer() else value.cast(self._type)

    def series(self, ticks: Sequence[int]) -> polars.Series:
        """Return counts as the column has them."""
        if self._made is not None:
            return polars.Series([self._made(tick) for tick in ticks], dtype=self._type)
        base = self._type if self._type.is_integer() else polars.Int32 if self._type == polars.Date else polars.Int64
        return polars.Series(ticks, dtype=base).cast(self._type)


_INT64 = _INT["int64"]


@lru_cache(maxsize=200)
def _numbers(kind: str) -> _Units:
    return _Units(Fraction(1), *_INT[kind], dtype(kind))


@lru_cache(maxsize=200)
def _decimals(kind: str) -> _Units:
    type_ = dtype(kind)
    scale = type_.scale
    most = 10**type_.precision - 1

    def made(ticks: int) -> Decimal:
        return Decimal((int(ticks < 0), tuple(int(digit) for digit in str(abs(ticks))), -scale))

    return _Units(Fraction(1, 10**scale), -most, most, type_, made)


@lru_cache(maxsize=200)
def _times(kind: str) -> _Units:
    type_ = dtype(kind)
    if type_ == polars.Date:
        return _Units(Fraction(UNITS["D"]), *_INT["int32"], type_)
    if type_ == polars.Time:
        return _Units(Fraction(1), 0, UNITS["D"] - 1, type_)
    return _Units(Fraction(UNITS[type_.time_unit]), *_INT64, type_)


_UNITS: dict[str, Callable[[str], _Units]] = {
    "number": _numbers,
    "decimal": _decimals,
    "timestamp": _times,
    "date": _times,
    "time": _times,
    "duration": _times,
}


def _exact(column: str, kind: str, value: Any) -> Fraction | float:
    """A value as a number: of times the nanoseconds. A float where it is no number or without end."""
    meaning = family(kind)
    if meaning in ("timestamp", "date", "time"):
        parsed = None
        if isinstance(value, str):
            parsed = parse_clock(value) if meaning == "time" else parse_moment(value)
        if parsed is None:
            raise _refuse(column, kind, value)
        return Fraction(parsed)
    number = _as_number(value, texts=meaning in ("decimal", "duration"))
    if number is None:
        raise _refuse(column, kind, value)
    return number * UNITS["s"] if meaning == "duration" else number


def _as_number(value: Any, *, texts: bool) -> Fraction | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value)
    if isinstance(value, float):
        # as it is written: 0.1 is a tenth
        return Fraction(repr(value)) if math.isfinite(value) else value
    if isinstance(value, str) and texts:
        try:
            number = Decimal(value.strip())
        except InvalidOperation:
            return None
        if not number.is_finite():
            return float(number)
        return Fraction(number) if abs(number.adjusted()) < 1_000 else None
    return None


def _ticks(value: Fraction, units: _Units) -> tuple[int, bool]:
    """A value in whole units, rounded down, and whether nothing is left over."""
    count = value / units.unit
    whole = count.numerator // count.denominator
    return whole, whole == count


def _in_units(left: polars.Expr, units: _Units, operator: str, value: Fraction | float) -> polars.Expr:
    if isinstance(value, float):  # what is no number is above all, as among floats
        return _always(left, _beyond(operator, -1 if value == -math.inf else 1))
    whole, exact = _ticks(value, units)
    side = units.side(whole)
    if side and not (side < 0 and not exact and units.holds(whole + 1)):
        return _always(left, _beyond(operator, side))
    if not exact:
        if operator in ("==", "!="):
            return _always(left, operator == "!=")
        # between two counts: above the lower is from the upper on
        if side < 0:
            return _always(left, operator in (">", ">="))
        operator = {"<": "<=", ">=": ">"}.get(operator, operator)
    return _test(left, operator, units.literal(whole))


def _beyond(operator: str, side: int) -> bool:
    """Whether a condition holds for values that are all below (side 1) or above (side -1) what they are compared with."""
    return operator == "!=" or operator in (("<", "<=") if side > 0 else (">", ">="))


def _always(left: polars.Expr, holds: bool) -> polars.Expr:
    """The same for all values but nulls."""
    return polars.when(left.is_null()).then(polars.lit(None, polars.Boolean)).otherwise(polars.lit(holds))


def _test(left: polars.Expr, operator: str, right: polars.Expr) -> polars.Expr:
    if operator == "==":
        return left == right
    if operator == "!=":
        return left != right
    if operator == "<":
        return left < right
    if operator == "<=":
        return left <= right
    return left > right if operator == ">" else left >= right


# -- numbers and times that are kept as texts, since no type of the column holds all of them


def _digits(text: str) -> Fraction | float | None:
    return _as_number(text, texts=True)


_PARSED: dict[str, Callable[[str], Any]] = {DECIMAL: _digits, "timestamp": parse_moment, "timestamptz": parse_moment}
_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operators.eq,
    "!=": operators.ne,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}


def _parsed(left: polars.Expr, parse: Callable[[str], Any], operator: str, value: Fraction | float) -> polars.Expr:
    test, right = _TESTS[operator], _in_order(value)

    def holds_for(texts: polars.Series) -> polars.Series:
        values = [None if text is None else test(_in_order(parse(text)), right) for text in texts]
        return polars.Series(texts.name, values, dtype=polars.Boolean)

    return left.map_batches(holds_for, return_dtype=polars.Boolean, is_elementwise=True)


def _in_order(value: Any) -> tuple[bool, Any]:
    """A number with what is none above all."""
    return (True, 0) if value is None or value != value else (False, value)


# -- values that compare as they are


def _literal(value: Any, kind: str) -> polars.Expr:
    return polars.lit(value, dtype=dtype(kind))


def _same(column: str, kind: str, value: Any) -> Any:
    """A value as one of the column's."""
    meaning = family(kind)
    if meaning == "real" and isinstance(value, int | float) and not isinstance(value, bool):
        return _rounded(value, kind)
    if meaning == "text" and isinstance(value, str):
        return _uuid(value) if kind == "uuid" else value
    if meaning == "binary" and isinstance(value, str):
        return bytes_of(value)
    if meaning == "bool" and isinstance(value, bool):
        return value
    raise _refuse(column, kind, value)


def _rounded(value: float, kind: str) -> float:
    """A number as a column of floats has it when it is written: 0.1 of 32 bits is not 0.1 of 64."""
    try:
        number = float(value)
        if kind == "halffloat" and math.isfinite(number):
            return float(struct.unpack("<e", struct.pack("<e", number))[0])
        if kind == "float" and math.isfinite(number):
            return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    return number


def _uuid(value: str) -> str:
    try:
        return str(uuid.UUID(value.strip()))
    except ValueError:
        return value.lower()


# -- values of several types in one column

_INT128 = 1 << 127


def _json(left: polars.Expr, operator: str, value: Any) -> polars.Expr:
    """A column that is JSON text: a value compares with those of its own kind, and equals no other."""
    if isinstance(value, bool):
        here = left.is_in(["true", "false"])
        test = _test(left == "true", operator, polars.lit(value))
    elif isinstance(value, int | float):
        numbers = left.cast(polars.Float64, strict=False)
        here = numbers.is_not_null()
        test = _test(numbers, operator, polars.lit(_rounded(value, "double")))
        if isinstance(value, int) and abs(value) > 1 << 53:
            test = _large(left, numbers, operator, value)
    elif operator in ("==", "!="):
        here = polars.lit(True)
        test = left.is_in([value, json.dumps(value, ensure_ascii=False)])
        test = test if operator == "==" else ~test
    else:
        quoted = left.str.starts_with('"')
        here = polars.lit(True)
        texts = polars.when(quoted).then(left.str.slice(1, left.str.len_chars() - 2)).otherwise(left)
        test = _test(texts, operator, polars.lit(value))
    return polars.when(left.is_null()).then(polars.lit(None, polars.Boolean)).when(here).then(test).otherwise(operator == "!=")


def _large(left: polars.Expr, numbers: polars.Expr, operator: str, value: int) -> polars.Expr:
    """Numbers as texts beside one that no double holds: whole ones by their digits, the others as doubles."""
    if abs(value) >= _INT128:
        return (
            _test(left, operator, polars.lit(str(value)))
            if operator in ("==", "!=")
            else _test(numbers, operator, polars.lit(float(value)))
        )
    whole = left.cast(polars.Int128, strict=False)
    exact = _test(whole, operator, polars.lit(value, dtype=polars.Int128))
    return polars.when(whole.is_not_null()).then(exact).otherwise(_test(numbers, operator, polars.lit(float(value))))


def _folder(left: polars.Expr, operator: str, value: Any) -> polars.Expr:
    """What a folder's name says, which is text: it compares as a number or as text by the value that the person wrote.

    Dates as folders have them are in order as texts.
    """
    if isinstance(value, bool):
        value = str(value).lower()
        left = left.str.to_lowercase()
    if isinstance(value, int) and abs(value) >= 1 << 53:
        values: polars.Expr = left.cast(polars.Int128, strict=False)
        right = polars.lit(min(max(value, -(1 << 126)), 1 << 126), dtype=polars.Int128)
    elif isinstance(value, int | float):
        values, right = left.cast(polars.Float64, strict=False), polars.lit(float(value))
    else:
        return _test(left, operator, polars.lit(value))
    test = _test(values, operator, right)
    return polars.when(left.is_null()).then(polars.lit(None, polars.Boolean)).otherwise(test.fill_null(operator == "!="))


@lru_cache(maxsize=1000)
def dtype(kind: str) -> Any:
    """Return the polars type of a column of this type name."""
    arrow = arrow_type(kind) or pyarrow.string()
    return polars.Series(values=pyarrow.array([], arrow)).dtype


@lru_cache(maxsize=100_000)
def holds(value: Any, operator: str, wanted: Any) -> bool:
    """Whether a condition holds for the value of a partition, as the scan would say."""
    kind = "bool" if isinstance(value, bool) else "int64" if isinstance(value, int) else FOLDER
    series = polars.Series("value", [value], dtype=dtype(kind))
    test = condition(polars.col("value"), "value", kind, operator, wanted)
    return bool(polars.DataFrame([series]).select(test).item())


def condition(left: polars.Expr, column: str, kind: str, operator: str, value: Any) -> polars.Expr:
    """Return a condition as an expression: any operator, and a value that may be None.

    Raises
    ------
    InputError
        They do not compare.
    """
    if operator in ("in", "not in"):
        found = one_of(left, column, kind, [item for item in value if item is not None])
        if operator == "not in":
            return left.is_not_null() & ~found
        return found | left.is_null() if None in value else found
    if value is None:
        if operator not in ("==", "!="):
            raise InputError(f"{column!r} {operator} None has no meaning. Compare with == or != None.")
        return left.is_null() if operator == "==" else left.is_not_null()
    return compared(left, column, kind, operator, value)
