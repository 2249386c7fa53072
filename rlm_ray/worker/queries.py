"""Runs a group of SQL on a worker: sends the shards' records to the sandbox, piece by piece, and writes its rows as segments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.reading import tables
from rlm_ray.errors import InputError, StorageError
from rlm_ray.ledger.segments import SegmentWriter
from rlm_ray.recursion.ports import CodeOutcome, QueryGroup, ShardFailure
from rlm_ray.types.json import Record
from rlm_ray.worker.sandboxes import query_sandbox, since
from rlm_ray.worker.work import at_hand, failure

#: Of records, as Arrow: what a query sees at once.
PIECE_BYTES = 32 << 20
#: Most that a query over the whole of a result sees.
WHOLE_BYTES = 192 << 20


def query(group: QueryGroup) -> CodeOutcome:
    """Run a query over a group, in a sandbox; see `QueryGroup`."""
    sandbox = query_sandbox(group.run_id, group.settings)
    before = dict(sandbox.events)
    seconds = group.settings.cell_seconds
    if group.columns is None:
        bound = sandbox.bind(group.query, tables.stream([tables.empty(group.schema)], group.schema), seconds)
        return CodeOutcome(values=(bound.columns, bound.result, bound.decimals), events=since(before, sandbox.events))
    failures: list[ShardFailure] = []
    writer = SegmentWriter(group.output, f"{group.number:06d}", decimals=group.decimals)
    asked = False
    for piece in _pieces(group, failures):
        writer.extend(_row(row) for row in sandbox.sql(group.query, piece, seconds))
        asked = True
    if not asked:  # a query over nothing may give a row all the same: a count of 0
        nothing = tables.stream([tables.empty(group.schema)], group.schema)
        writer.extend(_row(row) for row in sandbox.sql(group.query, nothing, seconds))
    return CodeOutcome(tuple(writer.close()), failures=tuple(failures), events=since(before, sandbox.events))


def _pieces(group: QueryGroup, failures: list[ShardFailure]) -> Iterator[list[memoryview]]:
    columns = group.columns or ()
    if group.pieces == "whole":
        found: list[Any] = []
        size = 0
        for piece in (piece for work in at_hand(group.works, group.tables) for piece in tables.pieces(work, columns, PIECE_BYTES)):
            size += piece.nbytes
            if size > WHOLE_BYTES:  # before the rest is held
                raise InputError(
                    f"The results of the shards are more together than the {WHOLE_BYTES >> 20} MB that `combine` can see. "
                    "Aggregate more in the first query."
                )
            found.append(piece)
        yield from [tables.stream(found, group.schema)] if found else []
        return
    held: list[Any] = []
    for work in at_hand(group.works, group.tables):
        try:
            for piece in tables.pieces(work, columns, PIECE_BYTES):
                if held and (piece.schema != held[0].schema or sum(map(tables.nbytes, [*held, piece])) > PIECE_BYTES):
                    yield tables.stream(held, group.schema)
                    held = []
                held.append(piece)
                if group.pieces == "shards":
                    yield tables.stream(held, group.schema)
                    held = []
        except StorageError as error:
            failures.append(failure(work, error))
    if held:
        yield tables.stream(held, group.schema)


def _row(row: Record) -> Record:
    """Return a row of the result; an address stays only where it is one, since the query may have made it up."""
    error = row.get("_error")
    return {**row, "_address": _address(row.get("_address")), "_error": error if isinstance(error, str) else None}


def _address(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        return str(Address.parse(value))
    except InputError:
        return None
