"""`Work`: one shard and what is wanted of it, as it goes to a task."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import polars

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.planning.bind import BoundPlan
from rlm_ray.corpus.reading import decode_replacements
from rlm_ray.corpus.reading.reader import Reduce
from rlm_ray.corpus.reading.scan import frames, scan
from rlm_ray.corpus.reading.selections import selections_of
from rlm_ray.corpus.reading.text import compressed
from rlm_ray.handle.plan import Node


@dataclass(frozen=True, slots=True)
class Work:
    """One shard and what is wanted of it; goes to a task by value.

    Attributes
    ----------
    shard : Shard
    plan : BoundPlan
        Without a Slice (see `planner.window`).
    run_dir : str or None
        Where selections are.
    table : pyarrow.Table, optional
        The shard's rows, where a result is at hand in memory; put in by the worker, never sent.
    corpus : str, optional
        Whose records they are: of which corpus, by its name; empty for rows of a result that show records by their address;
        None for text that is no corpus'. What is noted of reading (`ledger.marks`) is noted under this name.
    excluded : tuple of (int, int)
        Rows that statistics exclude.
    nothing : bool
        The worker has looked: no record is left of it.
    """

    shard: Shard
    plan: BoundPlan
    run_dir: str | None = None
    table: Any = None
    corpus: str | None = None
    excluded: tuple[tuple[int, int], ...] = ()
    nothing: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        # as a Shard's
        return Work, _SENT(self)

    def scan(
        self,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
        steps: Sequence[Node] = (),
        positions: Sequence[int] | None = None,
        extents: bool = False,
    ) -> Iterator[Any]:
        """Scan the shard, with some more steps at the end; see `scan.scan`."""
        if self.nothing:
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
        )
        return self._noted(shard, found)

    def reduced(self, columns: Sequence[str], reduce: Reduce) -> Iterator[polars.DataFrame]:
        """Scan the shard for a caller that counts and keeps no record; see `scan.frames`."""
        if self.nothing:
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
        )
        return self._noted(shard, found)

    def _noted(self, shard: Shard, found: Iterator[Any]) -> Iterator[Any]:
        """What a scan finds; when it ends, what it replaced is noted."""
        try:
            yield from found
        finally:
            if self.run_dir is not None:
                decode_replacements.note(self.run_dir, shard)

    def build_index(self) -> None:
        """Make the index by which a large gzip object is read from the middle; see `reading.text.compressed`."""
        compressed.build_index(self._prepared())

    def _prepared(self) -> Shard:
        """The shard as it is scanned: text counts what it replaces; a large gzip object knows where its index is kept."""
        shard = self.shard
        if not shard.traits.is_text:
            return shard
        shard = replace(shard, damage=decode_replacements.Damage())
        if shard.compression != "gzip" or self.run_dir is None or shard.size < compressed.LEAST_INDEXED or shard.is_wide:
            return shard
        return replace(shard, seeks=compressed.index_uri(self.run_dir, shard.uri, shard.version))


_SENT = operator.attrgetter(*(item.name for item in fields(Work)))
