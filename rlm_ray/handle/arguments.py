"""Checks the arguments of the handle's verbs, and converts them to the form that plans store."""

from __future__ import annotations

from rlm_ray.errors import InputError

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any


def pickled(function: Any) -> bytes:
    """Return root code's function as bytes that only a sandbox loads."""
    if not callable(function):
        raise InputError(f"{function!r:.80} is no function. Give a function of one record.")
    import cloudpickle

    data: bytes = cloudpickle.dumps(function)
    return data


def count_of(value: Any, what: str) -> int:
    """Return a whole number from 0, or say that it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{what} = {value!r:.80} is no count. Give a whole number from 0.")
    return value


def error_choice(on_error: str) -> dict[str, str]:
    """Return `on_error` as an argument of a request: nothing where it is the usual."""
    if on_error not in ("raise", "keep"):
        raise InputError(f"on_error = {on_error!r:.40} is no choice. Give 'raise' or 'keep'.")
    return {"on_error": on_error} if on_error == "keep" else {}


def literal(value: Any) -> Any:
    """Return a condition's value as a plan keeps it: times, decimals, UUIDs and bytes as the text that records show.

    Numpy scalars become numbers, sequences tuples.

    Examples
    --------
    >>> from decimal import Decimal
    >>> literal(Decimal("1.10")), literal([b"ab", 3])
    ('1.10', ('base64:YWI=', 3))
    """
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(map(literal, value))
    if hasattr(value, "isoformat"):
        return value.isoformat(sep=" ") if hasattr(value, "hour") and hasattr(value, "date") else value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        import base64

        return "base64:" + base64.b64encode(value).decode("ascii")
    if hasattr(value, "as_tuple"):
        return format(value, "f")  # a Decimal
    if hasattr(value, "bytes_le"):
        return str(value)  # a UUID
    if hasattr(value, "item") and callable(value.item):
        return value.item()  # a numpy scalar
    return value


def hashable(value: Any) -> Any:
    """Return a value that can be the key of a dict."""
    return repr(value) if isinstance(value, list | dict) else value


def quoted(column: str) -> str:
    """Return a column's name as SQL writes it.

    Examples
    --------
    >>> print(quoted("two words"))
    "two words"
    """
    return '"' + column.replace('"', '""') + '"'
