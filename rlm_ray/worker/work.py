"""Runs scans and functions over a group of shards: in a Ray task or, for little work, in a thread of the caller."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow

from rlm_ray.corpus.operations import operations, small_objects
from rlm_ray.corpus.reading import selections
from rlm_ray.corpus.reading.records import batch_addresses
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import StorageError
from rlm_ray.ledger.segments import SegmentWriter
from rlm_ray.models.contract import Usage
from rlm_ray.recursion.jobs.contents import ShardContents, contents_of
from rlm_ray.recursion.leaf.values import LeafSpec
from rlm_ray.recursion.ports import CodeGroup, CodeOutcome, ScanGroup, ShardFailure
from rlm_ray.sandbox.outside import parsing
from rlm_ray.settings import Settings
from rlm_ray.types.json import JsonObject
from rlm_ray.worker import threads
from rlm_ray.worker.sandboxes import function_sandbox, since

#: Records that a function gets one by one; and those that it gets at once.
BATCH_RECORDS, AGGREGATED_RECORDS = 2_000, 8_000
BATCH_BYTES = 2 << 20
#: Records after which a function that failed on all of them is stopped.
STOP_AFTER = 1_000


def scan(group: ScanGroup) -> list[Any]:
    """Run an operation over each shard of a group; a shard that cannot be read is a ShardFailure in its place."""
    if group.operation == "answered":
        return _answered(group.args["run_dir"], group.args["others"], group.args["keys"], group.args["settings"])
    works = at_hand(group.works, group.tables)
    if group.operation == "contents":
        return [_contents(work, group.args["spec"]) for work in small_objects.without_others(works)]
    partials = operations.run_all(group.operation, works, group.args)
    return [
        failure(work, partial) if isinstance(partial, StorageError) else partial
        for work, partial in zip(works, partials, strict=True)
    ]


def _answered(run_dir: str, others: tuple[str, ...], keys: Sequence[str], settings: Settings) -> list[bool]:
    """Return for each key whether its answer is known. Those of the store of answers are written down with the run's own."""
    finished = threads.finished(run_dir, others)
    finished.refresh()
    store = threads.answers_of(settings)
    if store is not None:
        for key, answer in store.find([key for key in keys if not finished.has(key)]).items():
            finished.add(key, answer, None, Usage())
        finished.flush()
    return [finished.has(key) for key in keys]


def _contents(work: Work, spec: LeafSpec) -> ShardContents | ShardFailure:
    try:
        return contents_of(itertools.chain.from_iterable(operations.records(work)), spec)
    except StorageError as error:
        return failure(work, error)


def at_hand(works: Sequence[Work], tables: Mapping[str, pyarrow.Table]) -> list[Work]:
    """Return the works with what this process adds: tables of results that it has in memory, and the parser of documents."""
    return [_bound(work, tables) for work in works]


def _bound(work: Work, tables: Mapping[str, pyarrow.Table]) -> Work:
    if work.shard.traits.is_parsed:
        return replace(work, parsers=parsing.PARSERS)
    return replace(work, table=tables[work.shard.uri]) if work.shard.uri in tables else work


def failure(work: Work, error: StorageError) -> ShardFailure:
    """Return a shard's error as the row that reports it."""
    return ShardFailure(work.shard.uri, str(error), work.shard.index)


def code(group: CodeGroup) -> CodeOutcome:
    """Run root code's function over a group, in a sandbox; see `CodeGroup`."""
    sandbox = function_sandbox(group.run_id, group.settings)
    before = dict(sandbox.events)
    sandbox.load("fn", group.blob)
    kind: Any = group.kind
    apply: Apply = functools.partial(sandbox.apply, "fn", kind, seconds=group.settings.cell_seconds)
    failures: list[ShardFailure] = []
    kept: dict[int, int] = {}
    values: list[Any] = []
    trial = _Trial(group)
    writer = SegmentWriter(group.output, f"{group.number:06d}{group.part}") if group.kind == "map" else None
    if group.kind == "combine":
        values = [sandbox.combine("fn", list(group.values), group.settings.cell_seconds)]
    for work in small_objects.without_others(at_hand(group.works, group.tables)):
        if trial.stopped:
            break
        try:
            if writer is not None:
                writer.extend(_mapped(work, apply, trial))
            elif group.kind == "filter":
                kept[work.shard.index] = _filter(work, apply, group, trial)
            else:
                values += _aggregated(work, apply, trial)
        except StorageError as error:
            failures.append(failure(work, error))
    if len(values) > 1:
        sandbox.load("combine", group.combine)
        values = [sandbox.combine("combine", values, group.settings.cell_seconds)]
    writer = writer or trial.writer
    segments = tuple(writer.close()) if writer is not None else ()
    return CodeOutcome(
        segments,
        tuple(values),
        kept,
        tuple(failures),
        since(before, sandbox.events),
        trial.tried,
        trial.failed,
        trial.error,
        trial.address,
        trial.stopped,
    )


class _Trial:
    """How a function fares on the records of a group."""

    def __init__(self, group: CodeGroup) -> None:
        self._keep = group.keep
        self._errors = (group.errors, f"{group.number:06d}{group.part}", {"_address": "string", "_error": "string"})
        self.writer: SegmentWriter | None = None  # of what "filter" failed on
        self.tried = self.failed = 0
        self.error = ""
        self.address: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether it failed on all of so many records that the others need not be tried."""
        return not self._keep and self.failed == self.tried >= STOP_AFTER

    def fail(self, error: str, address: str | None) -> JsonObject:
        """Count a record that failed, and return its row."""
        self.failed += 1
        if not self.error:
            self.error, self.address = error, address
        return {"_address": address, "_error": error}

    def write(self, row: JsonObject) -> None:
        """Keep the row of a record that "filter" failed on."""
        self.writer = self.writer or SegmentWriter(*self._errors)
        self.writer.add(row)


Apply = Callable[[bytes, int], list[JsonObject]]


def _pages(work: Work, most: int = BATCH_RECORDS) -> Iterator[tuple[bytes, Any]]:
    return operations.json_pages(work, max_records=most, max_bytes=BATCH_BYTES)


def _mapped(work: Work, apply: Apply, trial: _Trial) -> Iterator[JsonObject]:
    for body, batch in _pages(work):
        if trial.stopped:
            return
        addresses = batch_addresses(batch, work.shard, work.plan.span).to_list()
        trial.tried += batch.num_rows
        for address, got in zip(addresses, apply(body, batch.num_rows), strict=True):
            if "error" in got:
                yield trial.fail(got["error"], address)
                continue
            value = got["value"]
            rows = value if isinstance(value, list) else [] if value is None else [value]
            if (other := next((row for row in rows if not isinstance(row, dict)), None)) is not None:
                kind = type(other).__name__
                yield trial.fail(f"The function returned a {kind}; it must return a dict, a list of dicts or None.", address)
                continue
            for row in rows:
                yield {key: item for key, item in row.items() if not str(key).startswith("_")} | {
                    "_address": address,
                    "_error": None,
                }


def _filter(work: Work, apply: Apply, group: CodeGroup, trial: _Trial) -> int:
    places: list[tuple[int, int]] = []
    for body, batch in _pages(work):
        if trial.stopped:
            break
        found = list(zip(batch.column("_pos").to_pylist(), batch.column("_char").to_pylist(), strict=True))
        trial.tried += batch.num_rows
        entries = apply(body, batch.num_rows)
        places += [place for got, place in zip(entries, found, strict=True) if got.get("value")]
        if any("error" in got for got in entries):
            addresses = batch_addresses(batch, work.shard, work.plan.span).to_list()
            for got, address in zip(entries, addresses, strict=True):
                if "error" in got:
                    trial.write(trial.fail(got["error"], address))
    selections.save_selection(group.run_dir, group.output, work.shard.index, places)
    return len(places)


def _aggregated(work: Work, apply: Apply, trial: _Trial) -> Iterator[Any]:
    for body, batch in _pages(work, AGGREGATED_RECORDS):
        (got,) = apply(body, batch.num_rows)
        trial.tried += batch.num_rows
        if "error" not in got:
            yield got["value"]
            continue
        addresses = batch_addresses(batch, work.shard, work.plan.span).to_list()
        trial.fail(got["error"], addresses[0])
        trial.failed += batch.num_rows - 1
        if trial.stopped:
            return
