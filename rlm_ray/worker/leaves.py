"""One group of leaf calls at work: reads its slice, asks, and writes its segments; in a Ray task or in the caller.

The reading happens in threads, the asking on the models' event loop; rows leave memory as soon as those before them
are there.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from rlm_ray.corpus.operations import small_objects
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import StorageError
from rlm_ray.ledger.segments import SegmentWriter
from rlm_ray.models.contract import Endpoint, Usage
from rlm_ray.models.rates import Rates
from rlm_ray.recursion.leaf.group import Item, Row, run_group
from rlm_ray.recursion.ports import LeafGroup, LeafOutcome, LeafProgress, Prompted, ShardFailure, TextRow
from rlm_ray.types.json import JsonObject, Record
from rlm_ray.worker import threads
from rlm_ray.worker.calling import Calling, Watched
from rlm_ray.worker.meters import LedgerMeter, meter_of
from rlm_ray.worker.prompt_coverage import Page, Shown
from rlm_ray.worker.work import at_hand, failure

#: A chunk with more text than this is not read into one process.
MAX_CHUNK_BYTES = 32 << 20
READ_RECORDS = 500
#: Calls that the first mark of a group covers; the next ones cover more.
FIRST_MARK = 64


class LeafRun:
    """A group under way. Starts when it is made.

    Parameters
    ----------
    group : LeafGroup
    calling : Calling
    progress : callable, optional
        Gets rows done and failed, what was used, and distinct contents done and failed, on the models' thread.
    """

    def __init__(self, group: LeafGroup, calling: Calling, progress: LeafProgress | None = None) -> None:
        self._group = group
        self._progress = progress
        self._cancelled = False
        self._unasked = self._deferred = self._answers = 0
        self._contents = group.contents
        self._store = threads.answers_of(group.settings)
        self._run_id = group.run_dir.rpartition("/")[2]
        self._shared_errors: dict[str, str] = {}
        self._meter = meter_of(group.budget, group.settings)
        self._failures: list[ShardFailure] = []
        self._texts: list[TextRow] = []
        self._records: dict[int, JsonObject] = {}
        self._held: dict[int, list[Row]] = {}
        self._next = group.first
        self._shown = Shown(group.spec.shown)
        self._calls_of: Callable[[str], tuple[str, ...]] = lambda key: ()
        self._writer = SegmentWriter(group.output, f"{group.number:06d}", group.columns)
        self.done = 0
        self.failed = 0
        self.contents_done = (0, 0)
        endpoint, rates = Endpoint.of(group.settings, root=False), Rates.of(group.settings)
        client = threads.client(endpoint, group.settings.concurrency, rates, calling.make_limiter)
        self._metrics = calling.metrics
        self._client = Watched(client, group.depth, calling.metrics)
        self._usable = concurrent.futures.Future[None]()  # done with the first usable row
        self.future: concurrent.futures.Future[LeafOutcome] = threads.run_async(self._run())

    @property
    def used(self) -> Usage:
        """What was used so far."""
        return self._meter.sums[2]

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the first usable row; return whether the group has ended."""
        for_any: list[concurrent.futures.Future[Any]] = [self.future, *([] if self._usable.done() else [self._usable])]
        concurrent.futures.wait(for_any, seconds, concurrent.futures.FIRST_COMPLETED)
        return self.future.done()

    def result(self) -> tuple[LeafOutcome, list[Any]]:
        """Return the outcome, and the segments as tables."""
        return self.future.result(), self._writer.tables

    def cancel(self) -> None:
        """Drop the calls in flight and begin no more."""
        self._cancelled = True

    async def _run(self) -> LeafOutcome:
        group = self._group
        finished = threads.finished(group.run_dir, group.others)
        await asyncio.to_thread(finished.refresh)
        self._calls_of = finished.calls
        paid = LedgerMeter(self._meter, finished, group.id, min(group.spec.concurrency, group.calls, FIRST_MARK))
        unusable = await run_group(
            group.spec,
            self._items(),
            client=self._client,
            meter=paid,
            known=finished.get,
            on_row=lambda row: self._take(row, paid),
            on_vote=lambda row: self._keep(row, paid),
            cancelled=lambda: self._cancelled,
            failed=group.failed,
            deferred=self._contents.deferred if self._contents is not None else lambda content: False,
            trusted=group.trusted,
            unusable=group.unusable,
        )
        for index in sorted(self._held):
            self._write(self._held[index])
        segments = await asyncio.to_thread(self._writer.close)
        paid.end()
        await asyncio.to_thread(finished.flush)
        if self._store is not None:
            await asyncio.to_thread(self._store.flush)
        texts, failures = tuple(self._texts), tuple(self._failures)
        self._metrics.flush()
        measured = self._client.measures.rows()
        noted = self._shown.entries()
        return LeafOutcome(
            tuple(segments),
            self._meter.budget,
            texts,
            failures,
            self._unasked,
            paid.refused,
            measured,
            noted,
            self._deferred,
            self._shared_errors,
            replace(self._client.learned, answers=self._answers),
            unusable,
        )

    # reading

    async def _items(self) -> AsyncIterator[Item]:
        group = self._group
        index = group.first
        for part in group.parts:
            item = await asyncio.to_thread(self._part, index, part)
            if item is not None:
                yield item
            index += 1
        for work in await asyncio.to_thread(small_objects.without_others, at_hand(group.works, group.tables)):
            pages = self._guarded(work)
            while (page := await asyncio.to_thread(next, pages, None)) is not None:
                records, places = page
                for number, record in enumerate(records):
                    self._records[index] = record
                    self._shown.take(index, work, [record], places[number : number + 1])
                    yield Item(index, _digest([record]), (record,), record.get("_address"))
                    index += 1

    def _part(self, index: int, part: str | tuple[Work, ...] | Prompted, prompt: str | None = None) -> Item | None:
        if isinstance(part, Prompted):
            return self._part(index, part.part, part.prompt)
        if isinstance(part, str):
            self._shown.text(index, part)
            if self._group.spec.kind == "prompts" and not (prompt or self._group.spec.prompt):
                return Item(index, prompt=part)
            return Item(index, _digest([{"text": part}]), ({"text": part},), prompt=prompt)
        records: list[JsonObject] = []
        nbytes = 0
        try:
            for work in at_hand(part, self._group.tables):
                for batch, places in self._shown.pages(work, READ_RECORDS):
                    records += batch
                    self._shown.take(index, work, batch, places)
                    nbytes += sum(len(str(value)) for record in batch for value in record.values())
                    if nbytes > MAX_CHUNK_BYTES:
                        self._fail(
                            index, f"The part has more than {MAX_CHUNK_BYTES >> 20} MB of text. Cut it with .chunks(tokens=…)."
                        )
                        return None
        except StorageError as error:
            self._failures.append(failure(work, error))
            self._fail(index, f"The part cannot be read: {error}")
            return None
        if not records:
            self._fail(index, "The part has no records.")
            return None
        return Item(index, _digest(records), tuple(records), records[0].get("_address"), prompt)

    def _fail(self, index: int, reason: str) -> None:
        threads.event_loop().call_soon_threadsafe(self._take, Row(index, "", error=reason))

    def _guarded(self, work: Work) -> Iterator[Page]:
        try:
            yield from self._shown.pages(work, READ_RECORDS)
        except StorageError as error:
            self._failures.append(failure(work, error))

    # rows

    def _take(self, row: Row, paid: LedgerMeter | None = None) -> None:
        if paid is not None:
            self._keep(row, paid)
        self._unasked += row.unasked
        self._deferred += row.deferred
        self._answers += row.answer is not None and not row.reused
        if not row.deferred:
            self._count(row)
        if row.error is None and not row.deferred and not self._usable.done():
            self._usable.set_result(None)
        rows = self._held.setdefault(row.index, [])
        rows.append(row)
        while (ready := self._held.get(self._next)) is not None and len(ready) >= (ready[0].pieces or 1):
            self._write(self._held.pop(self._next))
            self._next += 1
        if self._progress is not None:
            self._progress(self.done, self.failed, self.used, self.contents_done)

    def _keep(self, row: Row, paid: LedgerMeter) -> None:
        paid.keep(row)
        if self._store is not None and row.answer is not None and not row.reused and self._group.spec.shared:
            self._store.add(row.key, row.answer, self._run_id)

    def _count(self, row: Row) -> None:
        first, failed = row.piece in (None, 1), row.error is not None
        self.done += first
        self.failed += failed
        contents = self._contents
        if row.equal or (contents is not None and not contents.mine(row.prompt_hash)):
            return
        self.contents_done = (self.contents_done[0] + first, self.contents_done[1] + failed)
        if contents is not None and row.error is not None and not row.unasked and contents.elsewhere(row.prompt_hash):
            self._shared_errors[row.key] = row.error

    def _write(self, rows: list[Row]) -> None:
        whole = len(rows) >= (rows[0].pieces or 1) and all(row.error is None for row in rows)
        calls = [call for row in rows for call in (row.calls or self._calls_of(row.key) or (row.key,))]
        self._shown.settle(rows[0].index, [row.key for row in rows], whole, calls)
        for row in sorted(rows, key=lambda row: row.piece or 0):
            kind = self._group.spec.kind
            if kind == "prompts":
                answer = row.answer if self._group.spec.schema is not None else (row.answer or {}).get("answer")
                self._texts.append({"index": row.index, "answer": answer, "error": row.error, "address": row.address})
                continue
            record: JsonObject = {"_address": row.address, "_error": row.error, **(row.answer or {})}
            if row.votes is not None or self._group.spec.votes != 1:
                record["_votes"] = row.votes
            if "_quote" in self._group.columns:
                record["_quote"] = row.quote
            if kind == "records":
                record = self._records.pop(row.index, {}) | record
                if self._contents is not None and "_shared" in self._group.columns:
                    record["_shared"] = self._contents.records(row.prompt_hash)
            else:
                record |= {"_part": row.index, "_piece": row.piece or 1}
            self._writer.add(record)


def _digest(records: Sequence[Record]) -> str:
    """Name what a model will read, whatever the way there: a record is read again only if its columns changed."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(str(record.get("_address")).encode())
        digest.update(
            json.dumps({key: value for key, value in record.items() if key != "_address"}, sort_keys=True, default=str).encode()
        )
    return digest.hexdigest()
