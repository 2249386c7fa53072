"""What a group of leaf calls puts before a model, noted once it is answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning.extent import extent, filters
from rlm_ray.corpus.planning.read_ranges import Extent
from rlm_ray.corpus.reading.work import Work
from rlm_ray.ledger.read_log import Entry, Marks
from rlm_ray.recursion.jobs.coverage_recorder import looked_at
from rlm_ray.subcalls.render import render

Page = tuple[list[dict[str, Any]], list[Extent]]


@dataclass(slots=True)
class _About:
    """What one call is about."""

    records: list[tuple[str, int, Sequence[Extent]]]
    rows: list[str]
    characters: int = 0


class Shown:
    """Notes the records, and the text that is no record's, of calls that were answered."""

    def __init__(self) -> None:
        self._marks = Marks()
        self._about: dict[int, _About] = {}

    def pages(self, work: Work, most: int) -> Iterator[Page]:
        """Yield a work's records as lists, with their places where they are a corpus' own; notes what filters look at."""
        if not work.corpus or not _shows(work):
            for records in operations.records(work, max_records=most):
                yield records, []
        else:
            yield from operations.placed(work, max_records=most)
        if work.corpus and filters(work.plan, work.shard):
            if not work.excluded and extent(work.plan, work.shard) is None:
                self._marks.whole(work.corpus, work.shard.index)
            else:
                self._marks.read(work.corpus, work.shard.index, looked_at(work))

    def take(self, index: int, work: Work, records: Sequence[dict[str, Any]], places: Sequence[Extent]) -> None:
        """Say what call `index` is about, or is about as well."""
        about = self._about.setdefault(index, _About([], []))
        if places:
            about.records.append((work.corpus or "", work.shard.index, places))
        elif work.corpus == "":
            about.rows += [record["_address"] for record in records if record.get("_address")]
        elif work.corpus is None:
            about.characters += sum(len(render(record)) for record in records)

    def text(self, index: int, text: str) -> None:
        """Say that call `index` is about a text of root code's."""
        self._about.setdefault(index, _About([], [])).characters += len(text)

    def settle(self, index: int, keys: Iterable[str], answered: bool) -> None:
        """Say how call `index` ended, and by which keys it is known."""
        about = self._about.pop(index, None)
        if about is None or not answered:
            return
        for corpus, shard, places in about.records:
            self._marks.shown(corpus, shard, places)
        for row in about.rows:
            address = Address.parse(row)
            if address.chars is None:
                self._marks.named(address)
        if about.characters:
            for key in keys:
                self._marks.text(key, about.characters)
                break  # pieces of one text are one text

    def entries(self) -> tuple[Entry, ...]:
        """Return what was noted."""
        return self._marks.entries()


def _shows(work: Work) -> bool:
    """Whether a call about these records shows what the bytes of the object hold: of lines and documents, their text."""
    return not work.shard.traits.shows_bytes or "text" in work.plan.columns
