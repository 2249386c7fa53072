"""One group of leaf calls, run on one event loop: read lazily, ask many at once, one row per item.

Knows no Ray and no storage: items come from an iterator, rows go to a callback, the ledger is a lookup by key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from rlm_ray.models.contract import Meter
from rlm_ray.recursion.leaf.packed_records import Packs
from rlm_ray.recursion.leaf.single_item import Singles
from rlm_ray.recursion.leaf.values import Item, LeafSpec, Row
from rlm_ray.recursion.leaf.work import Client, Group, Source

__all__ = ["Item", "LeafSpec", "Row", "run_group"]

#: Seconds between two looks whether the group was cancelled.
_LOOK = 0.05


async def run_group(
    spec: LeafSpec,
    items: Iterable[Item] | AsyncIterable[Item],
    *,
    client: Client,
    meter: Meter,
    known: Callable[[str], dict[str, Any] | None] = lambda key: None,
    on_row: Callable[[Row], None],
    cancelled: Callable[[], bool] = lambda: False,
    on_vote: Callable[[Row], None] | None = None,
    failed: Mapping[str, str] = MappingProxyType({}),
    deferred: Callable[[str], bool] = lambda content: False,
    trusted: bool = False,
    unusable: str | None = None,
) -> str | None:
    """Ask about every item. Calls a model; reads data only through `items`.

    Every item comes to exactly one row (a chunk in pieces: one per piece), in the order in which they finish. What a
    model could not answer is a row with an error; when the budget ends, the rest are rows with `unasked`.

    Parameters
    ----------
    known : callable
        The ledger: the answer by key, or None.
    on_row : callable
        Gets each row, on the loop's thread.
    cancelled : callable
        Looked at 20 times a second; once true, calls in flight are dropped (charged in full) and the rest has no rows.
    on_vote : callable, optional
        With `votes`, gets each vote as a row of its own key, so that a resumed run does not ask it again.
    failed : mapping
        Errors by key, of what other groups of the batch asked in vain: equal contents share one error.
    deferred : callable
        Whether another group of the batch asks about a content, by its digest; such an item is a row with `deferred`.
    trusted : bool
        Another group of the batch had a usable reply.
    unusable : str, optional
        Why another group stopped the batch: every item that the ledger does not answer is a row with this error.

    Returns
    -------
    str or None
        Why the batch was stopped, where no reply so far was usable.

    Raises
    ------
    CredentialsError
        The endpoint refused the key: the run cannot go on.
    InputError
        The schema or the number of votes cannot work, or a dollar limit meets an unknown price.
    """
    group = Group(spec, client=client, meter=meter, known=known, on_row=on_row, on_vote=on_vote, failed=failed, deferred=deferred)
    group.begin(trusted, unusable)
    source = Source(items)
    asks: Packs | Singles = Packs(group, source) if spec.kind == "records" else Singles(group, source)
    work = _Work(asks, lambda: group.most_in_flight(max(1, spec.concurrency)))
    watch = asyncio.create_task(_until(cancelled))
    both: set[asyncio.Future[Any]] = {work.over, watch}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        error = work.over.exception() if work.over.done() else None
        watch.cancel()
        await asyncio.gather(watch, work.end(), return_exceptions=True)
        await source.close()
    if error is not None:
        raise error
    return group.unusable


class _Work:
    """Hands asks to workers, of which there are as many as asks in flight and one that looks for the next.

    A worker without an ask waits for those in flight: they may have something to ask again.

    Attributes
    ----------
    over : Future
        Done when nothing is left to ask, or with a worker's error.
    """

    def __init__(self, asks: Packs | Singles, most: Callable[[], int]) -> None:
        self._asks: Any = asks
        self._most = most
        self._in_flight = 0
        self._changed = asyncio.Event()
        self._workers: set[asyncio.Task[None]] = set()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begin()

    async def end(self) -> None:
        """End the workers, whatever they are at."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self.over.cancel()

    def _begin(self) -> None:
        worker = asyncio.create_task(self._work())
        self._workers.add(worker)
        worker.add_done_callback(self._ended)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        error = None if worker.cancelled() else worker.exception()
        if self.over.done():
            return
        if error is not None:
            self.over.set_exception(error)
        elif not self._workers:
            self.over.set_result(None)

    async def _work(self) -> None:
        while True:
            ask = await self._asks.next()
            if ask is None:
                if self._in_flight == 0:
                    self._changed.set()
                    return
                self._changed.clear()
                await self._changed.wait()
                continue
            self._in_flight += 1
            if self._in_flight == len(self._workers) < self._most():
                self._begin()
            try:
                await self._asks.run(ask)
            finally:
                self._in_flight -= 1
                if self._in_flight == 0 or self._asks.more():
                    self._changed.set()


async def _until(cancelled: Callable[[], bool]) -> None:
    while not cancelled():
        await asyncio.sleep(_LOOK)
