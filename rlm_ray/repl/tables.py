"""Inside the sandbox: SQL over Arrow, with DuckDB. An SQL engine on untrusted text is code, so it runs where code runs.

Imported only by sandboxes that were started for tables; DuckDB and pyarrow are loaded behind the walls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAME = "context"
#: Rows that are turned into JSON values at a time.
BATCH_ROWS = 2_000
COLUMNS = b"columns"


def bind_query(query: str, stream: bytes, memory: int) -> dict[str, Any]:
    """Check a query against the columns of a table, without running it.

    Parameters
    ----------
    query : str
        As for `run_sql`.
    stream : bytes
        An Arrow IPC stream without rows: the columns of the table `context`.
    memory : int
        Bytes that DuckDB may use.

    Returns
    -------
    dict
        `columns`: those that the query reads, or None where that cannot be told; `result`: the names that it gives.

    Raises
    ------
    ValueError
        It is not one statement that returns rows, or two of its columns have the same name.
    Exception
        Whatever DuckDB says of the query.
    """
    import duckdb

    with _engine(stream, memory) as base:
        statements = base.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ValueError("give a single statement that selects rows (select …, with … select …, from …)")
        result = [str(column[0]) for column in base.execute(query).description or ()]
        twice = sorted({name for name in result if result.count(name) > 1})
        if twice:
            raise ValueError(f"two columns of the result have the name {twice[0]!r}; give one another name (… as other)")
        plan = base.execute(f"explain (format json) {query}").fetchall()[-1][1]
        return {"columns": _read(json.loads(plan), _names(stream)), "result": result}


def run_sql(query: str, stream: bytes, memory: int) -> Iterator[list[dict[str, Any]]]:
    """Run one query over the table `context` and yield its rows, some at a time.

    Parameters
    ----------
    query : str
        One statement of DuckDB's SQL that returns rows.
    stream : bytes
        The table, as an Arrow IPC stream. What the metadata of its schema name under `columns` (a serialised schema) and it
        does not have are columns that the query does not read.
    memory : int
        Bytes that DuckDB may use.

    Raises
    ------
    Exception
        Whatever DuckDB says of the query.
    """
    with _engine(stream, memory) as base:
        result: Any = base.execute(query)
        for batch in result.to_arrow_reader(BATCH_ROWS):
            rows = batch.to_pylist()
            for name in (field.name for field in batch.schema if str(field.type) == "month_day_nano_interval"):
                for row in rows:
                    row[name] = _seconds(row[name])
            yield rows


#: Engines that wait for the next piece, by the memory that they may use: to make one takes as long as a query.
_waiting: dict[int, Any] = {}


@contextmanager
def _engine(stream: bytes, memory: int) -> Iterator[Any]:
    """An engine with one table; what has raised, or was not read to its end, is not used again."""
    base = _waiting.pop(memory, None) or _new_engine(memory)
    read = False
    try:
        view = _give(base, stream)
        yield base
        if view:
            base.execute(f"drop view {NAME}")
        for name in ("_columns", "_read") if view else (NAME,):
            base.unregister(name)
        read = True
    finally:
        if read:
            _waiting[memory] = base
        else:
            base.close()


def _new_engine(memory: int) -> Any:
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "enable_external_access": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "memory_limit": f"{memory >> 20}MB",
        "threads": "1",
    }
    base = duckdb.connect(":memory:", config=config)
    base.execute("set timezone = 'UTC'")
    base.execute("set lock_configuration = true")
    return base


def _give(base: Any, stream: bytes) -> bool:
    """Let an engine see a table; whether it is a view of what was read."""
    import pyarrow

    table = pyarrow.ipc.open_stream(pyarrow.py_buffer(stream)).read_all()
    told = (table.schema.metadata or {}).get(COLUMNS)
    columns = table.schema if told is None else pyarrow.ipc.read_schema(pyarrow.py_buffer(told))
    if set(columns.names) == set(table.schema.names):
        base.register(NAME, table)
        return False
    # `select * exclude (…)` must find what was not read for it
    base.register("_columns", columns.empty_table())
    base.register("_read", table)
    types = {name: kind for name, kind, *_ in base.execute("describe _columns").fetchall()}
    listed = [
        _quoted(name) if name in table.schema.names else f"cast(null as {types[name]}) as {_quoted(name)}" for name in columns.names
    ]
    base.execute(f"create view {NAME} as select {', '.join(listed)} from _read")
    return True


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _seconds(interval: Any) -> float | None:
    """An interval in seconds; a month counts as DuckDB's epoch counts it, as 30 days."""
    if interval is None:
        return None
    return float((interval.months * 30 + interval.days) * 86_400 + interval.nanoseconds / 1e9)


def _names(stream: bytes) -> list[str]:
    import pyarrow

    names: list[str] = pyarrow.ipc.open_stream(pyarrow.py_buffer(stream)).schema.names
    return names


def _read(plan: Any, names: list[str]) -> list[str] | None:
    """Return the columns that the scans of a plan name; None where one of them is not told."""
    found: set[str] = set()
    waiting = [plan]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
            continue
        waiting += node.get("children", [])
        told = node.get("extra_info", {})
        if told.get("Function") != "PYTHON_ARROW_SCAN":
            continue
        projected = told.get("Projections", [])
        for column in [projected] if isinstance(projected, str) else projected:
            # a field of a nested column is told as column.field
            whole = [name for name in names if column == name or column.startswith(f"{name}.")]
            if not whole:
                return None
            found.update(whole)
        filters = str(told.get("Filters", ""))
        found.update(name for name in names if name in filters)
    return sorted(found, key=names.index)
