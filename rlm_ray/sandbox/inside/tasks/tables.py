"""Runs SQL over Arrow with DuckDB, inside the sandbox: untrusted SQL is untrusted code.

Imported only by sandboxes that were started for tables; DuckDB and pyarrow are loaded behind the walls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

NAME, _READ = "context", "_read"
#: Rows that are turned into JSON values at a time.
BATCH_ROWS = 2_000
COLUMNS = b"columns"
Record = dict[str, object]


class BoundQuery(TypedDict):
    """The columns that a query reads (None: not known) and gives, and the types of those that are decimals."""

    columns: list[str] | None
    result: list[str]
    decimals: dict[str, str]


def bind_query(query: str, stream: bytes, memory: int) -> BoundQuery:
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
        `columns`: those that the query reads, or None where that cannot be told; `result`: the names that it gives;
        `decimals`: the types of those that are decimals.

    Raises
    ------
    ValueError
        It is not one statement that returns rows, or two of its columns have the same name.
    Exception
        Whatever DuckDB says of the query.
    """
    from rlm_ray.sandbox.inside.tasks.engine import duckdb

    with _engine(stream, memory) as base:
        statements = base.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ValueError("give a single statement that selects rows (select …, with … select …, from …)")
        result = [str(column[0]) for column in base.execute(query).description or ()]
        twice = sorted({name for name in result if result.count(name) > 1})
        if twice:
            raise ValueError(f"two columns of the result have the name {twice[0]!r}; give one another name (… as other)")
        decimals = {str(name): str(kind) for name, kind, *_ in base.description or () if str(kind).startswith("DECIMAL(")}
        plan = base.execute(f"explain (format json) {query}").fetchall()[-1][1]
        names = _stream_names(stream)
        seen = dict(zip(distinct_names(names), names, strict=True))
        read = _read(json.loads(plan), list(seen))
        read = None if read is None else [seen[name] for name in read]
        return {"columns": read, "result": result, "decimals": decimals}


def run_sql(query: str, stream: bytes, memory: int) -> Iterator[list[Record]]:
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
        whole = {str(name) for name, kind, *_ in base.description or () if str(kind) in ("HUGEINT", "UHUGEINT")}
        for batch in result.to_arrow_reader(BATCH_ROWS):
            yield _rows(batch, whole)


def _rows(batch: Any, whole: set[str]) -> list[Record]:
    """The rows of a batch, as all verbs show values; `whole` are numbers that Arrow has as decimals."""
    from rlm_ray.sandbox.inside.tasks.engine import readable

    names = batch.schema.names
    columns = [readable(column) for column in batch.columns]
    for number, name in enumerate(names):
        if name in whole:
            columns[number] = [None if value is None else int(value) for value in columns[number]]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


#: Engines that wait for the next piece, by the memory that they may use: to make one takes as long as a query.
_waiting: dict[int, _Engine] = {}


@contextmanager
def _engine(stream: Any, memory: int) -> Iterator[Any]:
    """An engine with one table; what has raised, or was not read to its end, is not used again."""
    engine = _waiting.pop(memory, None) or _Engine(memory)
    read = False
    try:
        engine.give(stream)
        yield engine.base
        engine.base.unregister(_READ)
        read = True
    finally:
        if read:
            _waiting[memory] = engine
        else:
            engine.base.close()


class _Engine:
    """DuckDB, and in it the view `context` of the table that was read."""

    def __init__(self, memory: int) -> None:
        from rlm_ray.sandbox.inside.tasks.engine import duckdb

        config: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": f"{memory >> 20}MB",
            "threads": "1",
        }
        self.base: Any = duckdb.connect(":memory:", config=config)
        self.base.execute("set timezone = 'UTC'")
        self.base.execute("set lock_configuration = true")
        self._seen: Any = None

    def give(self, stream: Any) -> None:
        """Let it see a table. Between two of the same columns the view stays: to make one takes as long as a small query."""
        table, columns = _table(stream)
        self.base.register(_READ, table)
        seen = columns.serialize().to_pybytes(), [(field.name, _type(field.type)) for field in table.schema]
        if seen == self._seen:
            return
        # `select * exclude (…)` must find what was not read for it
        self.base.register("_columns", columns.empty_table())
        types = {name: kind for name, kind, *_ in self.base.execute("describe _columns").fetchall()}
        self.base.unregister("_columns")
        read = set(table.schema.names)
        listed = [_quoted(name) if name in read else f"cast(null as {types[name]}) as {_quoted(name)}" for name in columns.names]
        self.base.execute(f"create or replace view {NAME} as select {', '.join(listed)} from {_READ}")
        self._seen = seen


def _stream_names(stream: Any) -> list[str]:
    from rlm_ray.sandbox.inside.tasks.engine import pyarrow

    return list(pyarrow.ipc.open_stream(pyarrow.py_buffer(stream)).schema.names)


def _table(stream: Any) -> tuple[Any, Any]:
    """The table in a stream, and the schema of the table that it is a part of."""
    from rlm_ray.sandbox.inside.tasks.engine import pyarrow

    table = pyarrow.ipc.open_stream(pyarrow.py_buffer(stream)).read_all()
    told = (table.schema.metadata or {}).get(COLUMNS)
    columns = table.schema if told is None else pyarrow.ipc.read_schema(pyarrow.py_buffer(told))
    names = dict(zip(columns.names, distinct_names(columns.names), strict=True))
    columns = pyarrow.schema([field.with_name(names[field.name]) for field in columns])
    return table.rename_columns([names[name] for name in table.schema.names]), columns


def distinct_names(names: list[str]) -> list[str]:
    """Return columns' names as SQL tells them apart, which knows no case: the second of two gets a number, no name is `column`.

    Examples
    --------
    >>> distinct_names(["id", "ID", "", "id_2"])
    ['id', 'ID_3', 'column', 'id_2']
    """
    taken = {name.lower() for name in names}
    seen: set[str] = set()
    found = []
    for name in names:
        other, number = name or "column", 2
        if name.lower() in seen or (not name and "column" in taken):
            while f"{other}_{number}".lower() in taken | seen:
                number += 1
            other = f"{other}_{number}"
        seen.add(other.lower())
        found.append(other)
    return found


def _type(kind: Any) -> str:
    """An Arrow type as DuckDB sees it: a dictionary is what it holds."""
    return str(getattr(kind, "value_type", kind)) if str(kind).startswith("dictionary<") else str(kind)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


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
