"""The progress of a call: its turn, the usage of its sub-calls so far, and the shards that it has scanned.

The usage of a group or of a recursive call is charged to the budget when its slice comes back. Until then its reports are
counted here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pyroaring import BitMap

from rlm_ray.models.contract import Usage

if TYPE_CHECKING:
    from rlm_ray.corpus.reading.work import Work
    from rlm_ray.recursion.ports import Future


class Spending(NamedTuple):
    """The usage of work under way so far, and at its end, if that can be projected."""

    spent: Usage = Usage()
    projected: Usage | None = None


@dataclass(slots=True)
class BatchTally:
    """One batch of sub-calls.

    Attributes
    ----------
    expected : int
        Records, chunks or prompts; of recursive calls their number.
    done, failed : int
        Of these; what failed is done too.
    settled : Usage
        Of those whose slice of the budget came back.
    live : dict of str to Spending
        Of those under way, by the name of their slice.
    """

    expected: int
    recursive: bool = False
    done: int = 0
    failed: int = 0
    settled: Usage = field(default_factory=Usage)
    live: dict[str, Spending] = field(default_factory=dict)

    def spent(self) -> Usage:
        """Return what it has spent so far."""
        return sum((part.spent for part in self.live.values()), self.settled)

    def settle(self, name: str, usage: Usage | None) -> None:
        """Count the usage of a slice that came back; None: the slice was lost."""
        known = self.live.pop(name, Spending())
        self.settled += known.spent if usage is None else usage

    def to_come(self) -> Usage | None:
        """Return what is still to be spent, by what was spent so far; None where nothing is known yet."""
        if not self.recursive:
            return _times(self.spent(), (self.expected - self.done) / self.done) if self.done else _nothing(self.expected)
        projected = [part.projected for part in self.live.values() if part.projected is not None]
        known = self.done + len(projected)
        if not known:
            return _nothing(self.expected)
        whole = _times(sum(projected, self.settled), self.expected / known)
        return _least(whole, self.spent())


@dataclass(slots=True)
class Tally:
    """The sub-calls of one call so far.

    Attributes
    ----------
    batches : list of BatchTally
        Those under way.
    """

    batches: list[BatchTally] = field(default_factory=list)

    def begin(self, expected: int, recursive: bool = False) -> BatchTally:
        """Begin to count a batch."""
        batch = BatchTally(expected, recursive)
        self.batches.append(batch)
        return batch

    def end(self, batch: BatchTally) -> None:
        """The batch is over."""
        self.batches = [other for other in self.batches if other is not batch]

    def live(self) -> Usage:
        """Return what work under way has spent so far, and no budget was charged for yet."""
        return sum((part.spent for batch in self.batches for part in batch.live.values()), Usage())


@dataclass(slots=True)
class ScanTally:
    """One operation of code over shards, which are done in groups.

    Attributes
    ----------
    expected, done : int
        Shards.
    """

    expected: int
    done: int = 0
    _waiting: Sequence[tuple[Future, Sequence[Work]]] = ()


class ShardTally:
    """Which shards code has scanned so far, in this session of a call. A shard that could not be read was gone over too.

    Parameters
    ----------
    shards : mapping of str to int
        How many each corpus has.
    """

    def __init__(self, shards: Mapping[str, int]) -> None:
        self.total = sum(shards.values())
        self._scanned = {name: BitMap() for name in shards}
        self._scans: list[ScanTally] = []

    @contextmanager
    def scanning(self, groups: Sequence[tuple[Future, Sequence[Work]]]) -> Iterator[None]:
        """Count groups of an operation as they finish, while they are waited for."""
        scan = ScanTally(sum(len(works) for _, works in groups), 0, groups)
        if scan.expected:
            self._scans.append(scan)
        try:
            yield
        finally:
            self._look(scan)
            self._scans = [other for other in self._scans if other is not scan]

    @property
    def scanned(self) -> int:
        """Shards of the corpora that were scanned by any operation."""
        self.under_way()
        return sum(map(len, self._scanned.values()))

    def under_way(self) -> list[ScanTally]:
        """Return the operations under way, as far as they are."""
        for scan in self._scans:
            self._look(scan)
        return self._scans

    def _look(self, scan: ScanTally) -> None:
        waiting = []
        for future, works in scan._waiting:
            if not future.done():
                waiting.append((future, works))
                continue
            scan.done += len(works)
            for work in works:
                if work.corpus in self._scanned:
                    self._scanned[work.corpus].add(work.shard.index)
        scan._waiting = waiting


@dataclass(slots=True)
class Progress:
    """Where a call is, for a progress line."""

    call: str = "0"
    depth: int = 0
    turn: int = 0
    max_turns: int = 0
    doing: str = "starting"
    started: float = field(default_factory=time.monotonic)
    tally: Tally = field(default_factory=Tally)
    shards: ShardTally = field(default_factory=lambda: ShardTally({}))
    budget: Any = None

    @property
    def spent(self) -> Usage:
        """What this call and all below it have used so far."""
        return (self.budget.usage if self.budget is not None else Usage()) + self.tally.live()

    @property
    def projected(self) -> Usage | None:
        """The usage when the batches under way are over; None while that cannot be projected."""
        total = self.spent
        for batch in self.tally.batches:
            coming = batch.to_come()
            if coming is None:
                return None
            total += coming
        return total

    def spending(self) -> Spending:
        """Both, for the call above."""
        return Spending(self.spent, self.projected)


def _nothing(expected: int) -> Usage | None:
    return None if expected else Usage()


def _times(usage: Usage, factor: float) -> Usage:
    return Usage(
        round(usage.calls * factor),
        round(usage.prompt_tokens * factor),
        round(usage.completion_tokens * factor),
        round(usage.cached_tokens * factor),
        None if usage.usd is None else usage.usd * factor,
        round(usage.estimated * factor),
    )


def _least(whole: Usage, spent: Usage) -> Usage:
    """Return what of a whole is left; no part below 0."""
    left = {name: max(0, getattr(whole, name) - getattr(spent, name)) for name in ("calls", "prompt_tokens", "completion_tokens")}
    usd = None if whole.usd is None or spent.usd is None else max(0.0, whole.usd - spent.usd)
    return Usage(**left, usd=usd)
