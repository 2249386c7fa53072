"""Sub-calls under way: what is equal to one of them waits for it and shares its answer, so that nobody pays twice.

Finished answers are in the ledger; between a call's start and its row there they are here. One call of the tree has one of
these: batches, threads of root code and a cell that runs again after its sandbox was replaced all meet in it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rlm_ray.handle.plan import Plan, Step
from rlm_ray.recursion.jobs.scheduler import Job, Promise, Until
from rlm_ray.recursion.ports import TextRow
from rlm_ray.subcalls import keys


@dataclass(frozen=True, slots=True)
class Asked:
    """What a batch asks: a question, and what about.

    Attributes
    ----------
    question : str
        Equal for equal questions, whatever they are about.
    parts : frozenset
        Names of its parts.
    nodes : tuple of Step
        The plan of its records, where it asks about each of them.
    """

    question: str
    parts: frozenset[Hashable] = frozenset()
    nodes: tuple[Step, ...] = ()

    def meets(self, other: Asked) -> bool:
        """Whether both may ask the same: about an equal part, or about records of which one plan chooses from the other's."""
        if self.question != other.question:
            return False
        shorter = min(len(self.nodes), len(other.nodes))
        return not self.parts.isdisjoint(other.parts) or (shorter > 0 and self.nodes[:shorter] == other.nodes[:shorter])


def part_name(part: str | Plan) -> Hashable:
    """Return what equal parts have in common."""
    return part if isinstance(part, str) else ("plan", keys.digest(keys.canonical(part.to_json())))


class Underway:
    """The sub-calls of one call that are under way."""

    def __init__(self) -> None:
        self._texts: dict[Hashable, Promise] = {}
        self._batches: list[tuple[Asked, Promise]] = []

    def texts(self, names: Sequence[Hashable]) -> dict[Hashable, Promise]:
        """Return the promises of the rows of those calls that are under way; None is the row of one that was dropped."""
        return {name: self._texts[name] for name in names if name in self._texts}

    @contextmanager
    def asking(self, names: Sequence[Hashable]) -> Iterator[dict[Hashable, Promise]]:
        """Enter calls for as long as they are under way."""
        promises = {name: Promise() for name in names}
        self._texts |= promises
        try:
            yield promises
        finally:
            for name, promise in promises.items():
                promise.set(None)
                del self._texts[name]

    def in_turn(self, asked: Asked, job: Job) -> Job:
        """Run a batch's job when the batches before it that may ask the same have ended: the ledger has their answers then."""
        before = tuple(promise for other, promise in self._batches if asked.meets(other))
        entry = (asked, Promise())
        self._batches.append(entry)
        try:
            yield Until(before)
            return (yield from job)
        finally:
            self._batches.remove(entry)
            entry[1].set(None)


def row_of(promise: Promise) -> TextRow | None:
    """Return the row of a call that has ended, or None where it was dropped."""
    row: TextRow | None = promise.result()
    return row
