"""`Work`: one shard and the plan over it, as a task gets it."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import polars

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.planning.bind import BoundPlan
from rlm_ray.corpus.reading import decode_replacements
from rlm_ray.corpus.reading.logs import notes
from rlm_ray.corpus.reading.parsed.foreign import Parsers
from rlm_ray.corpus.reading.reader import Reduce
from rlm_ray.corpus.reading.scan import counted, frames, scan
from rlm_ray.corpus.reading.selections import selections_of
from rlm_ray.corpus.reading.text import compressed
from rlm_ray.handle.plan import Step

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Work:
    """One shard and the plan over it; goes to a task by value.

    Attributes
    ----------
    shard : Shard
    plan : BoundPlan
        Without a Slice (see `slicing.window`).
    run_dir : str or None
        Holds the selections.
    table : pyarrow.Table, optional
        The shard's rows, if the worker has the result in memory; the worker adds it, and it is never sent.
    corpus : str, optional
        The name of the corpus whose records these are; empty for rows of a result that show records by their address; None for
        text outside any corpus. The read log (`ledger.read_log`) files what is read under this name.
    excluded : tuple of (int, int)
        Rows that statistics exclude.
    nothing : bool
        The worker found that the plan leaves no record of the shard.
    parsers : Parsers, optional
        Parses foreign formats; the worker adds it, and it is never sent.
    """

    shard: Shard
    plan: BoundPlan
    run_dir: str | None = None
    table: Any = None
    corpus: str | None = None
    excluded: tuple[tuple[int, int], ...] = ()
    nothing: bool = False
    parsers: Parsers | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # as a Shard's
        return Work, _SENT(self)

    def scan(
        self,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        steps: Sequence[Step] = (),
        positions: Sequence[int] | None = None,
        extents: bool = False,
    ) -> Iterator[Any]:
        """Scan the shard, with some more steps at the end; see `scan.scan`."""
        if self.nothing or self._has_other_times():
            return iter(())
        shard = self._prepared()
        found = scan(
            shard,
            self.plan.then(*steps),
            selections=selections_of(self.run_dir),
            columns=columns,
            limit=limit,
            table=self.table,
            positions=positions,
            extents=extents,
            parsers=self.parsers,
        )
        return self._noted(found)

    def reduced(self, columns: Sequence[str], reduce: Reduce) -> Iterator[polars.DataFrame]:
        """Scan the shard for a caller that counts and keeps no record; see `scan.frames`."""
        if self.nothing or self._has_other_times():
            return iter(())
        shard = self._prepared()
        found = frames(
            shard,
            self.plan,
            selections=selections_of(self.run_dir),
            batch_bytes=32 << 20,  # of all columns, of which few are read
            columns=columns,
            table=self.table,
            reduce=reduce,
            parsers=self.parsers,
        )
        return self._noted(found)

    def counted(self) -> int | None:
        """Return how many records a search leaves of the shard, without making them; see `scan.counted`."""
        if self.nothing or self.table is not None or self._has_other_times():
            return None
        (found,) = self._noted(counted(shard, self.plan) for shard in [self._prepared()])
        return found

    def _noted(self, found: Iterator[_T]) -> Iterator[_T]:
        """Return what a scan yields; when the scan ends, keep the count of the bytes that it replaced."""
        if self.run_dir is None or not self.shard.traits.is_text:
            return found
        return self._counted(found, self.run_dir)

    def _counted(self, found: Iterator[_T], run_dir: str) -> Iterator[_T]:
        replaced, seen = decode_replacements.Replacements(), notes.LogNotes()
        try:
            while True:
                with replaced.counting(), seen.collecting():
                    try:
                        item = next(found)
                    except StopIteration:
                        return
                yield item
        finally:
            decode_replacements.note(run_dir, self.shard, replaced)
            notes.note(run_dir, self.shard, seen)

    def _has_other_times(self) -> bool:
        """Whether an earlier scan of the run has seen that no record of the shard has a time that the steps leave."""
        if self.run_dir is None or not self.shard.traits.keeps_times:
            return False
        conditions = [condition for step in self.plan.steps for condition in step.conditions]
        return notes.rules_out(self.run_dir, self.shard, conditions, self.plan.schema)

    def build_index(self) -> None:
        """Make the index by which a large gzip object is read from the middle; see `reading.text.compressed`."""
        compressed.build_index(self._prepared())

    def _prepared(self) -> Shard:
        """Return the shard to scan; of a large gzip object, with the place of its index."""
        shard = self.shard
        if not shard.traits.is_text:
            return shard
        if shard.compression != "gzip" or self.run_dir is None or shard.size < compressed.LEAST_INDEXED or shard.is_wide:
            return shard
        return replace(shard, seeks=compressed.index_uri(self.run_dir, shard.uri, shard.version))


_SENT = operator.attrgetter(*(item.name for item in fields(Work) if item.name != "parsers"))
