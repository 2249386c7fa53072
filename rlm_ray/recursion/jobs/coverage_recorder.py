"""Records the reads of a call's verbs, for the coverage of the answer (`ledger.coverage`).

A verb that looks at all that a plan leaves has looked at every record that the plan's filters see, whatever they leave; one
that stops when it has enough (head, page, text), up to the last record that it gave. What a plan is of is not read by being
planned: footers and listings say what they say without a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning import shard_choice
from rlm_ray.corpus.planning.bind import BoundPlan
from rlm_ray.corpus.planning.extent import extent, is_counted, without
from rlm_ray.corpus.planning.shard_choice import Choice
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Plan, Result
from rlm_ray.ledger.read_log import CODE, EXCLUDED, ReadLog, ReadMarks
from rlm_ray.recursion.jobs.results import Results
from rlm_ray.recursion.ports import ScanArgs
from rlm_ray.types.json import Record

#: Plans whose exclusions are remembered as noted.
_REMEMBERED = 10_000


class CoverageRecorder:
    """Records the reads of one call's verbs, and the data that statistics excluded.

    Parameters
    ----------
    read_log : ReadLog
    corpora : mapping of str to Manifest
    results : Results
    """

    def __init__(self, read_log: ReadLog, corpora: Mapping[str, Manifest], results: Results) -> None:
        self.read_log = read_log
        self._corpora = corpora
        self._results = results
        self._noted: set[Any] = set()

    def whose(self, plan: BoundPlan, manifest: Manifest) -> str | None:
        """Return whose records a plan's are: see `Work.corpus`."""
        if self._corpora.get(manifest.name) is manifest:
            return manifest.name
        try:
            given = self._results.get(manifest.name).given
        except InputError:
            return None
        return "" if set(given) & set(plan.columns) else None

    def showing(self, plan: Plan, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Return the columns of a plan that hold data of a corpus, and no answers of a model."""
        if not isinstance(plan.origin, Result):
            return columns
        given = self._results.get(plan.origin.id).given
        return tuple(name for name in columns if name in given)

    def chosen(self, plan: BoundPlan, manifest: Manifest) -> Choice:
        """Choose the shards of a plan, and note what statistics exclude."""
        choice = shard_choice.chosen(plan, manifest)
        key = (manifest.name, plan.nodes)
        if (choice.excluded or choice.rows) and self._corpora.get(manifest.name) is manifest and key not in self._noted:
            if len(self._noted) >= _REMEMBERED:
                self._noted.clear()
            self._noted.add(key)
            self._excluded(plan, manifest, choice)
        return choice

    def _excluded(self, plan: BoundPlan, manifest: Manifest, choice: Choice) -> None:
        places = plan.only(lambda step: step.narrows_places)
        whole = choice.excluded
        if places.nodes:
            whole = []
            for index in choice.excluded:
                shard = manifest.shards[index]
                if (part := extent(places, shard)) is None:
                    whole.append(index)
                elif part[0] < part[1]:
                    self.read_log.ranges(EXCLUDED, manifest.name, shard, [part])
        self.read_log.whole(EXCLUDED, manifest.name, whole)
        for shard in choice.shards if choice.rows else ():
            if (rows := choice.rows.get(shard.index)) is not None:
                low, high = extent(places, shard) or (shard.start, shard.stop)
                cut = [(max(low, start), min(high, stop)) for start, stop in rows]
                self.read_log.ranges(EXCLUDED, manifest.name, shard, [(start, stop) for start, stop in cut if start < stop])

    def done(self, operation: str, done: Sequence[tuple[Work, Any]]) -> None:
        """Note an operation that looked at all that its works leave, with what it gave for each."""
        if operation == "record":
            return  # the proof of a citation
        if operation == "count":
            self.looked(work for work, _ in done if not is_counted(work.plan, work.shard))
            counts: dict[str, dict[int, int]] = {}
            for work, count in done:
                if work.corpus and work.shard.rows is None and work.plan.leaves_everything:
                    counts.setdefault(work.corpus, {})[work.shard.index] = count
            for corpus, records in counts.items():
                self.read_log.counts(corpus, records)
            return
        self.looked(work for work, _ in done)

    def looked(self, works: Iterable[Work]) -> None:
        """Note that code looked at all that works leave."""
        whole: dict[str, list[int]] = {}
        for work in works:
            if not work.corpus:
                continue
            if not work.excluded and extent(work.plan, work.shard) is None:
                whole.setdefault(work.corpus, []).append(work.shard.index)
            else:
                self.read_log.ranges(CODE, work.corpus, work.shard, looked_at(work))
        for corpus, shards in whole.items():
            self.read_log.whole(CODE, corpus, shards)

    def looked_until(
        self, operation: str, works: Sequence[Work], partials: Sequence[Any], args: ScanArgs, enough: Callable[[Any], bool]
    ) -> None:
        """Record an operation that read in order until it had enough. Records that it read ahead are not coverage."""
        if not any(work.corpus for work in works):
            return
        if not enough(operations.merge(operation, partials, args)):
            self.looked(works)
            return
        low, high = 1, len(partials)  # how many of them are enough
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(operations.merge(operation, partials[:middle], args)) else (middle + 1, high)
        self.looked(works[: low - 1])
        work, partial = works[low - 1], partials[low - 1]
        if not work.corpus:
            return
        if operation == "text":
            end = partial["end"]
        else:
            merged = operations.merge(operation, partials[:low], args)
            given = len(merged["records"] if operation == "page" else merged)
            here = given - sum(len(other["records"]) for other in partials[: low - 1])
            if not here:
                return  # its first record only says that there is more
            end = partial["ends"][here - 1]
        if end is None or work.shard.traits.whole_objects:
            self.looked([work])
        else:
            self.read_log.ranges(CODE, work.corpus, work.shard, looked_at(work, end))

    def drawn(self, work: Work, records: Sequence[Record]) -> None:
        """Note records that were drawn by their number; where that took counting, all was looked at before."""
        if not work.corpus or not records or not is_counted(work.plan, work.shard):
            return
        if not work.shard.in_rows:
            self.looked([work])
            return
        marks = ReadMarks()
        rows = (Address.parse(str(record["_address"])).start for record in records)
        marks.read(work.corpus, work.shard.index, ((row, row + 1) for row in rows))
        self.read_log.add(marks.entries())


def looked_at(work: Work, end: int | None = None) -> list[tuple[int, int]]:
    """Return the positions that a work's steps look at, up to `end`, without what statistics exclude."""
    shard = work.shard
    low, high = extent(work.plan, shard) or shard.positions
    return without(low, high if end is None else min(end, high), work.excluded)
