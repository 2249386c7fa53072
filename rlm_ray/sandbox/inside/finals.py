"""Turning the value that root code set as its answer into a frame: JSON, a table of records, or a plan."""

from __future__ import annotations

import sys

from rlm_ray.sandbox.wire.channel import MAX_BLOB, dumps

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any

MAX_ANSWER = MAX_BLOB
MAX_DEPTH = 50
_ANSWERS = "text, a number, a list, a dict or a Corpus"


class NoAnswer(Exception):
    """A value that cannot be an answer; the text says why and what to do."""


def is_set(value: object) -> bool:
    """Tell whether a value found under the name `Final` was meant as an answer: not None, a class, or `typing.Final`.

    Examples
    --------
    >>> [is_set(value) for value in (0, "", [], None, int)]
    [True, True, True, False, False]
    """
    return value is not None and not isinstance(value, type) and type(value).__module__ != "typing"


def unset(name: str, value: object) -> str:
    """Return what to tell root code that set what is no answer (see `is_set`).

    Examples
    --------
    >>> unset("Final", None)
    '[Final was not taken: it is None. When the answer is ready, set Final = value: text, a number, a list, a dict or a Corpus.]'
    """
    kind = (
        f"the class {value.__name__:.80}" if isinstance(value, type) else "None" if value is None else f"{value!r:.80}, a type hint"
    )
    return f"[{name} was not taken: it is {kind}. When the answer is ready, set Final = value: {_ANSWERS}.]"


def encode(value: object) -> tuple[str, bytes]:
    """Return the kind of an answer (``json``, ``records`` or ``corpus``) and its JSON.

    Raises
    ------
    NoAnswer
        The value is of a kind that cannot be one, or too large.

    Examples
    --------
    >>> encode({"n": {3}, "x": float("nan")})
    ('json', b'{"n":[3],"x":NaN}')
    >>> encode([{"a": 1}])
    ('records', b'[{"a":1}]')
    """
    if _is_corpus(value):
        plan: Any = value
        return "corpus", dumps(plan.plan.to_json())
    records = _records(value)
    answer = plain(value if records is None else records, "Final")
    kind = "records" if records is not None or _is_records(answer) else "json"
    try:
        blob = dumps(answer)
    except (ValueError, MemoryError) as error:
        raise NoAnswer(
            f"The answer cannot be written as JSON ({type(error).__name__}: {error}). Make it smaller or simpler."
        ) from None
    if len(blob) > MAX_ANSWER:
        raise NoAnswer(
            f"The answer is {len(blob):,} bytes as JSON; at most {MAX_ANSWER:,} can be handed over. "
            "Assign the Corpus itself to Final, or summarise."
        )
    return kind, blob


def _is_corpus(value: object) -> bool:
    module = sys.modules.get("rlm_ray.handle.corpus")
    return module is not None and isinstance(value, module.Corpus)


def _is_records(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _records(value: Any) -> Any:
    """Rows of a data frame or table of pandas, polars or pyarrow; None for anything else."""
    library = type(value).__module__.partition(".")[0]
    if library == "pandas" and hasattr(value, "to_dict") and hasattr(value, "columns"):
        return value.astype(object).where(value.notna(), None).to_dict(orient="records")  # its NaN is its null
    if library == "polars" and hasattr(value, "to_dicts"):
        return value.to_dicts()
    if library == "pyarrow" and hasattr(value, "to_pylist") and hasattr(value, "column_names"):
        return value.to_pylist()
    return None


def plain(value: Any, where: str, depth: int = 0) -> Any:
    """Return `value` as JSON types: tuples and sets as lists, dates as text, durations in seconds. NaN and infinities stay.

    Raises
    ------
    NoAnswer
        Something in it has no plain meaning; the message names `where`.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if depth > MAX_DEPTH:
        raise NoAnswer(f"{where[:80]}… is nested deeper than {MAX_DEPTH} levels, or holds itself. Assign a flatter value to Final.")
    deeper = depth + 1
    if isinstance(value, dict):
        return {_key(key, where): plain(item, f"{where}[{key!r}]" if depth < 3 else where, deeper) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        value = _sorted(value)
    if isinstance(value, (list, tuple, range)) or type(value).__name__ in ("dict_keys", "dict_values", "dict_items", "deque"):
        return [plain(item, f"{where}[{index}]" if depth < 3 else where, deeper) for index, item in enumerate(value)]
    return _foreign(value, where, depth)


def _sorted(items: Any) -> list[Any]:
    """A set in a repeatable order, where its members have one."""
    try:
        return sorted(items)
    except TypeError:
        return sorted(items, key=repr)


def _key(key: Any, where: str) -> str:
    if isinstance(key, str):
        return str(key)
    if key is None or isinstance(key, (int, float, bool)):
        return str(key)
    if isinstance(key, tuple):
        return ", ".join(_key(part, where) for part in key)
    return str(_foreign(key, f"a key of {where}", 0))


def _decimal(value: Any) -> Any:
    """A decimal as a number where that is exact as it is written, else as text."""
    if not value.is_finite():
        return float(value) if not value.is_snan() else float("nan")
    if value == value.to_integral_value():
        return int(value)
    number = float(value)
    return number if type(value)(repr(number)) == value else format(value, "f")


def _foreign(value: Any, where: str, depth: int) -> Any:
    """Values of other libraries that have one plain meaning: dates, decimals, enums, dataclasses, numpy."""
    deeper = depth + 1
    library = type(value).__module__.partition(".")[0]
    if _is_corpus(value):
        raise NoAnswer(
            f"{where} is a Corpus inside another value. Assign the Corpus itself (Final = corpus), "
            "or the records you need (corpus.head(20))."
        )
    if type(value).__name__ in ("NaTType", "NAType"):
        return None
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if hasattr(value, "total_seconds"):
        return plain(value.total_seconds(), where, depth + 1)
    if library == "decimal":
        return _decimal(value)
    if library in ("numpy", "pandas", "polars", "pyarrow"):
        for name in ("tolist", "to_list", "to_pylist", "item", "as_py"):
            if hasattr(value, name):
                return plain(getattr(value, name)(), where, deeper)
    if "enum" in sys.modules and isinstance(value, sys.modules["enum"].Enum):
        return plain(value.value, where, deeper)
    if hasattr(type(value), "__dataclass_fields__"):
        names = list(type(value).__dataclass_fields__)
        return {name: plain(getattr(value, name), f"{where}.{name}", deeper) for name in names}
    raise NoAnswer(
        f"{where} is a {type(value).__name__}, which is not plain data. "
        "Give text, a number, a list, a dict, a list of dicts, a DataFrame or a Corpus."
    )
