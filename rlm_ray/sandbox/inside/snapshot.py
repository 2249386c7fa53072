"""Pickles root code's variables one by one inside the sandbox; only another sandbox loads them.

Plain data goes through the standard pickle. Functions and classes that cells defined go through cloudpickle,
which is imported only then. What belongs to the sandbox itself (the scaffold, the namespace, the way to the
parent) is pickled as a name and found again in the new process, so a function that uses `context` works after it.
"""

from __future__ import annotations

import functools
import importlib
import io
import time
import types
from _pickle import Pickler, loads  # without the one in Python beside it, which takes longer to import
from collections.abc import Callable, Iterator

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any, TypedDict

    class FunctionState(TypedDict):
        """A function of a cell, without its code: what pickles of it hold."""

        name: str
        qualname: str
        defaults: tuple[Any, ...] | None
        kwdefaults: dict[str, Any] | None
        annotations: dict[str, Any]
        doc: str | None
        dict: dict[str, Any]
        cells: list[tuple[Any, ...]]


#: The highest that every Python from 3.11 knows.
PROTOCOL = 5
MAX_VARIABLE = 16 << 20
MAX_TOTAL = 64 << 20
MAX_NAMES = 5_000
#: A variable that takes this long to fail is not tried again while it is the same object.
SLOW_FAILURE = 0.5

#: Objects of this process that a pickle refers to by name; filled by the kernel.
fixtures: dict[str, Any] = {}
_names_of: dict[int, str] = {}


def set_fixtures(objects: dict[str, object]) -> None:
    """Say which objects are found by name in every sandbox of the run."""
    fixtures.clear()
    fixtures.update(objects)
    _names_of.clear()
    _names_of.update({id(value): name for name, value in objects.items()})


def fixture(name: str) -> Any:
    """Find an object of this process by its name; pickles call this."""
    return fixtures[name]


class _TooLarge(Exception):
    pass


class _NeedsMore(Exception):
    pass


class _Bounded(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > MAX_VARIABLE:
            raise _TooLarge
        return super().write(data)


def _by_name(value: Any) -> Any:
    """A reduction for what is found by name in another process, else NotImplemented."""
    name = _names_of.get(id(value))
    if name is not None:
        return fixture, (name,)
    if isinstance(value, types.ModuleType):
        return importlib.import_module, (value.__name__,)
    return NotImplemented


class _Plain(Pickler):
    """Gives up, cheaply, on anything that cells defined."""

    def reducer_override(self, value: Any) -> Any:
        found = _by_name(value)
        if found is NotImplemented:
            named = value if isinstance(value, type | types.FunctionType) else type(value)
            if named.__module__ == "__main__" or "<" in named.__qualname__:
                raise _NeedsMore
        return found


def _full(file: io.BytesIO, namespace: dict[str, object]) -> Any:
    """A cloudpickle that refers to the namespace of the cells instead of copying what a function uses of it."""
    import cloudpickle

    class Full(cloudpickle.Pickler):
        def reducer_override(self, value: Any) -> Any:
            found = _by_name(value)
            if found is not NotImplemented:
                return found
            if isinstance(value, types.FunctionType) and value.__globals__ is namespace:
                return _reduce_function(value)
            return super().reducer_override(value)

    return Full(file, protocol=PROTOCOL)


def _reduce_function(function: types.FunctionType) -> tuple[Any, ...]:
    cells = function.__closure__ or ()
    state: FunctionState = {
        "name": function.__name__,
        "qualname": function.__qualname__,
        "defaults": function.__defaults__,
        "kwdefaults": function.__kwdefaults__,
        "annotations": function.__annotations__,
        "doc": function.__doc__,
        "dict": function.__dict__,
        "cells": [_cell_content(cell) for cell in cells],
    }
    return make_function, (function.__code__, len(cells)), state, None, None, fill_function


def _cell_content(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def make_function(code: types.CodeType, cells: int) -> types.FunctionType:
    """Make a function on the namespace of this process; its closure is filled later, since it may hold itself."""
    return types.FunctionType(code, fixtures["namespace"], closure=tuple(types.CellType() for _ in range(cells)) or None)


def fill_function(function: types.FunctionType, state: FunctionState) -> None:
    """Give a function from `make_function` the rest of itself."""
    function.__name__, function.__qualname__ = state["name"], state["qualname"]
    function.__defaults__, function.__kwdefaults__ = state["defaults"], state["kwdefaults"]
    function.__annotations__, function.__doc__ = state["annotations"], state["doc"]
    function.__dict__.update(state["dict"])
    for cell, content in zip(function.__closure__ or (), state["cells"], strict=True):
        if content:
            cell.cell_contents = content[0]


def dump(value: Any, namespace: dict[str, object]) -> bytes:
    """Pickle one variable.

    Raises
    ------
    Exception
        Whatever pickling runs into; the variable is then lost.
    """
    file = _Bounded()
    try:
        _Plain(file, protocol=PROTOCOL).dump(value)
    except _NeedsMore:
        file = _Bounded()
        _full(file, namespace).dump(value)
    return file.getvalue()


def load(data: bytes) -> Any:
    """Load one variable. Runs what the pickle says: only ever called behind the walls."""
    return loads(data)


#: Types whose values never change and hold nothing that does.
_IMMUTABLE = (str, bytes, int, float, complex, bool, type(None), range, types.ModuleType)


def _token(value: Any) -> Any:
    """An object that stays the same one for as long as the pickle of `value` does; None where that cannot be known cheaply."""
    if type(value) in _IMMUTABLE:
        return value
    if type(value) is types.FunctionType and not (
        value.__closure__ or value.__defaults__ or value.__kwdefaults__ or value.__dict__ or value.__annotations__
    ):
        return value.__code__
    return None


class Keeper:
    """Remembers what the parent has, so that only what changed is pickled and sent again."""

    def __init__(self, namespace: dict[str, object]) -> None:
        self._namespace = namespace
        self._total = 0
        self._sizes: dict[str, int] = {}
        self._digests: dict[str, int] = {}
        self._tokens: dict[str, Any] = {}
        self._hopeless: dict[str, Any] = {}  # what took long and failed is not tried again

    def changes(self, names: list[str], guard: Callable[[Callable[[], bytes]], bytes | None]) -> Iterator[tuple[str, bytes | None]]:
        """Yield ``(name, bytes)`` for what is new or changed, ``(name, None)`` for what cannot be kept.

        Parameters
        ----------
        names : list of str
            Variables to keep.
        guard : callable
            Runs one pickling under a clock and returns None when it failed.
        """
        for gone in set(self._sizes) - set(names):
            self._drop(gone)
        for position, name in enumerate(names):
            value = self._namespace.get(name)
            token = _token(value)
            if token is not None and self._tokens.get(name) is token:
                continue
            data = self._dump(name, value, guard) if position < MAX_NAMES else None
            if data is None or self._total - self._sizes.get(name, 0) + len(data) > MAX_TOTAL:
                self._drop(name)
                yield name, None
                continue
            self._tokens[name] = token
            digest = hash(data)  # 64 bits; a cryptographic one would first load OpenSSL
            if self._digests.get(name) != digest:
                self._total += len(data) - self._sizes.get(name, 0)
                self._sizes[name], self._digests[name] = len(data), digest
                yield name, data

    def _dump(self, name: str, value: Any, guard: Callable[[Callable[[], bytes]], bytes | None]) -> bytes | None:
        if self._hopeless.get(name, self) is value or (isinstance(value, str | bytes) and len(value) > MAX_VARIABLE):
            return None
        began = time.monotonic()
        data = guard(functools.partial(dump, value, self._namespace))
        if data is None and time.monotonic() - began > SLOW_FAILURE:
            self._hopeless[name] = value
        else:
            self._hopeless.pop(name, None)
        return data

    def _drop(self, name: str) -> None:
        self._total -= self._sizes.pop(name, 0)
        self._digests.pop(name, None)
        self._tokens.pop(name, None)
