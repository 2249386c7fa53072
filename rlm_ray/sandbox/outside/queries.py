"""The parent's side of a sandbox that runs root code's SQL over tables, on a worker."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from rlm_ray.errors import InputError, ProtocolError
from rlm_ray.sandbox.outside.events import Limits
from rlm_ray.sandbox.outside.functions import ENDS_AFTER, Entry, FunctionSandbox, StoppedChild, entries_of
from rlm_ray.sandbox.outside.process.connection import Blob
from rlm_ray.sandbox.wire.channel import clean
from rlm_ray.settings import Isolation
from rlm_ray.types.json import Record

#: Rows of one query's result.
MAX_ROWS = 1_000_000
MAX_COLUMNS = 2_000
_SHOWN = 200
_DECIMAL = re.compile(r"DECIMAL\((\d{1,2}),(\d{1,2})\)")
_ENGINE = re.compile(r"^_?duckdb\.\w+: ")


@dataclass(frozen=True, slots=True)
class Bound:
    """A query that fits its table.

    Attributes
    ----------
    columns : tuple of str, or None
        The columns that it reads; None: any.
    result : tuple of str
        The columns that it gives.
    decimals : dict of str to str
        The types of those that are decimals.
    """

    columns: tuple[str, ...] | None
    result: tuple[str, ...]
    decimals: dict[str, str] = field(default_factory=dict)


class QuerySandbox(FunctionSandbox):
    """One child process that runs SQL; one per run and worker. See `FunctionSandbox`."""

    def __init__(self, *, level: Isolation, limits: Limits) -> None:
        if level == "noopen":
            raise InputError(
                "SQL cannot run at isolation level noopen: its engine opens files when it starts. Use where, count_by, map or "
                "aggregate; or run where the level strict can be had."
            )
        super().__init__(level=level, limits=limits, tables=True)

    def bind(self, query: str, columns: Blob, seconds: float) -> Bound:
        """Check a query against a table's columns, without running it. Blocks.

        Parameters
        ----------
        query : str
            One statement of DuckDB's SQL.
        columns : bytes, or parts of them
            An Arrow IPC stream without rows.
        seconds : float
            Most seconds it may take.

        Raises
        ------
        InputError
            The query does not fit; the message has the engine's reason.
        """
        (row,) = self._rows("bind", query, columns, seconds, 1)
        read, result = (_names(row.get(key), query) for key in ("columns", "result"))
        if not result or len(result) > MAX_COLUMNS:
            raise InputError(f"The query {_shown(query)} gives {len(result or ()):,} columns; it must give 1 to {MAX_COLUMNS:,}.")
        return Bound(None if read is None else tuple(read), tuple(result), _decimals(row.get("decimals")))

    def sql(self, query: str, table: Blob, seconds: float) -> list[Record]:
        """Run SQL over one table, named `context`. Blocks.

        Parameters
        ----------
        query : str
            One statement of DuckDB's SQL.
        table : bytes, or parts of them
            An Arrow IPC stream.
        seconds : float
            Most seconds it may take.

        Returns
        -------
        list of dict
            Its rows, as JSON values.

        Raises
        ------
        InputError
            The query is wrong, takes too long, or gives too much.
        """
        return self._rows("sql", query, table, seconds, MAX_ROWS)

    def _rows(self, command: str, query: str, table: Blob, seconds: float, most: int) -> list[Record]:
        rows: list[Entry] = []
        header = {"t": command, "query": query, "seconds": seconds, "memory": self.limits.memory // 2, "mapped": True}

        def work() -> None:
            rows.clear()
            for answer, blob in self._exchange(header, table, seconds + self.limits.grace_seconds + ENDS_AFTER):
                if answer.get("t") == "applied":
                    return
                rows.extend(entries_of(answer, blob, len(rows), most + 1))
                if len(rows) > most:
                    raise StoppedChild(f"it gives more than {most:,} rows; aggregate in the query")

        with self._lock:
            try:
                self._attempt(work)
            except StoppedChild as error:
                raise InputError(f"The query {_shown(query)} was stopped: {error}.") from None
        for row in rows:
            if "error" in row:
                raise InputError(f"The query {_shown(query)} failed: {clean(_ENGINE.sub('', row['error']), 1_500)}")
            if not isinstance(row["value"], dict):
                raise ProtocolError("a row that is none")
        return [row["value"] for row in rows]


def _names(value: object, query: str) -> list[str] | None:
    """Return the names of columns as the sandbox reports them, or None where it reports none."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InputError(f"The query {_shown(query)} could not be understood. Write it more plainly.")
    return value


def _decimals(found: Any) -> dict[str, str]:
    """Types of decimals, as Arrow names them, from what the engine calls them."""
    types: dict[str, str] = {}
    for name, kind in found.items() if isinstance(found, dict) else ():
        match = _DECIMAL.fullmatch(kind) if isinstance(kind, str) else None
        if match is not None and 0 <= int(match[2]) <= int(match[1]) <= 38:
            types[str(name)] = f"decimal128({int(match[1])}, {int(match[2])})"
    return types


def _shown(query: str) -> str:
    return repr(query if len(query) <= _SHOWN else query[:_SHOWN] + "…")
