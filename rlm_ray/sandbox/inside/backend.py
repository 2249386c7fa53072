"""The sandbox's way to the parent, as the corpus's verbs see it."""

from __future__ import annotations

import builtins
import json
import signal
import threading

from rlm_ray import errors
from rlm_ray.sandbox.inside.link import Interrupts, Link

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from rlm_ray.handle.plan import Plan
    from rlm_ray.types.json import JsonObject


class Backend:
    """The way to the parent, for the scaffold. Safe from several threads at once; a cell's clock stops meanwhile."""

    def __init__(self, link: Link, interrupts: Interrupts) -> None:
        self._link = link
        self._interrupts = interrupts
        self._lock = threading.Lock()
        self._cell = 0
        self._waiting = 0
        self._left = 0.0

    def begin(self) -> None:
        """Start a cell: calls are taken, and none is open."""
        with self._lock:
            self._cell += 1
            self._waiting = 0
        self._link.accepting = True

    def end(self) -> None:
        """End a cell: a thread that it left behind must not start its clock again."""
        with self._lock:
            self._cell += 1

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # see `handle.corpus.Backend`

    def table(self, plan: Plan, schema: dict[str, str]) -> Any:
        """Refuse: root code computes beside the data and looks at a part of it."""
        raise errors.InputError(
            "A Corpus becomes no table of another library here: the sandbox holds no data. Compute with .sql(query), "
            ".count_by(column), .map(fn) or .aggregate(fn, combine); look with .head(n), .sample(n) or a loop over the records."
        )

    def call(self, verb: str, args: JsonObject, blob: bytes = b"") -> tuple[Any, bytes]:
        """Ask the parent and wait.

        Parameters
        ----------
        verb : str
            What is asked for.
        args : dict
            JSON.
        blob : bytes, optional
            Whatever is not JSON; opaque to the parent.

        Returns
        -------
        (value, blob)
            JSON, and bytes that come with it.

        Raises
        ------
        Exception
            The error that the parent replied with, by its class.
        """
        cell = self._cell
        with self._interrupts.held(), self._lock:
            self._pause()
        try:
            header, answer = self._link.ask({"t": "call", "verb": verb, "args": args}, blob)
        finally:
            with self._interrupts.held(), self._lock:
                self._resume(cell)
        if "error" in header:
            raise rebuild(*header["error"])
        if "error_size" in header:
            raise rebuild(*json.loads(answer))
        if "value_size" in header:
            size = header["value_size"]
            return json.loads(answer[:size]), answer[size:]
        return header.get("value"), answer

    def _pause(self) -> None:
        self._waiting += 1
        if self._waiting == 1:
            self._left = signal.setitimer(signal.ITIMER_REAL, 0)[0]

    def _resume(self, cell: int) -> None:
        if cell != self._cell:
            return
        self._waiting -= 1
        if self._waiting == 0 and self._left:
            signal.setitimer(signal.ITIMER_REAL, self._left, 1.0)


def rebuild(name: str, message: str, fields: JsonObject) -> Exception:
    """Make the exception that a reply names: a class of rlm_ray.errors or a builtin one, else RuntimeError."""
    kind = getattr(errors, name, None) or getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return RuntimeError(f"{name}: {message}")
    if issubclass(kind, errors.SubcallsFailed):
        return kind(message, fields.get("answers"), {int(index): reason for index, reason in fields.get("errors", {}).items()})
    error = kind.__new__(kind, message)  # not by calling it: some classes make their message from other arguments
    error.args = (message,)
    return error
