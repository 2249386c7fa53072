"""Records the prompts of a group of leaf calls as coverage, once they are answered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rlm_ray.corpus.catalog.address import Address
from rlm_ray.corpus.operations import operations
from rlm_ray.corpus.planning.extent import extent, filters
from rlm_ray.corpus.planning.read_ranges import ReadRange
from rlm_ray.corpus.reading.work import Work
from rlm_ray.errors import InputError
from rlm_ray.ledger.read_log import DERIVED, RECORDS, TEXTS, Entry, ReadMarks, object_key
from rlm_ray.recursion.jobs.coverage_recorder import looked_at
from rlm_ray.types.json import JsonObject, Record

Page = tuple[list[JsonObject], list[ReadRange]]


@dataclass(slots=True)
class _About:
    """What one call is about."""

    records: list[tuple[str, int, Sequence[ReadRange]]]
    rows: list[str]
    characters: int = 0
    shown: list[tuple[str, str, int, int, int]] = field(default_factory=list)


class Shown:
    """Notes the records, and the text that is no record's, of calls that were answered.

    Parameters
    ----------
    shown : callable
        Renders a record as the text that the model is shown.
    """

    def __init__(self, shown: Callable[[Record], str]) -> None:
        self._text_of = shown
        self._marks = ReadMarks()
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

    def take(self, index: int, work: Work, records: Sequence[Record], places: Sequence[ReadRange]) -> None:
        """Say what call `index` is about, or is about as well."""
        about = self._about.setdefault(index, _About([], []))
        if places:
            about.records.append((work.corpus or "", work.shard.index, places))
        elif work.corpus == "":
            about.rows += [str(record["_address"]) for record in records if record.get("_address")]
        kind = DERIVED if work.corpus is None else RECORDS
        for record, place in itertools.zip_longest(records, places):
            address = _address(record)
            if address is None or (work.corpus is None and address.object == work.shard.uri):  # a row's place in a result
                about.characters += len(self._text_of(record))
                continue
            key = object_key(address.unit, address.version, address.object)
            position, part = address.start, address.chars[0] if address.chars else 0
            if place is not None:
                position, part = place[0], part or place[1] - place[0]
            about.shown.append((kind, key, position, part, len(self._text_of(record))))

    def text(self, index: int, text: str) -> None:
        """Say that call `index` is about a text of root code's."""
        self._about.setdefault(index, _About([], [])).characters += len(text)

    def settle(self, index: int, keys: Sequence[str], answered: bool, calls: Sequence[str]) -> None:
        """Say how item `index` ended, by which keys its answers are known, and which calls gave them."""
        about = self._about.pop(index, None)
        if about is None or not answered:
            return
        for corpus, shard, places in about.records:
            self._marks.shown(corpus, shard, places)
        for row in about.rows:
            address = Address.parse(row)
            if address.chars is None:
                self._marks.named(address)
        for shown in about.shown:
            self._marks.characters(*shown)
        if about.characters:
            self._marks.text(keys[0], about.characters)  # pieces of one text are one text
        for kind in {shown[0] for shown in about.shown} | ({TEXTS} if about.characters else set()):
            self._marks.calls(kind, calls)

    def entries(self) -> tuple[Entry, ...]:
        """Return what was noted."""
        return self._marks.entries()


def _address(record: Record) -> Address | None:
    """Where a record is, or the record that code made it of; None where it says none."""
    text = record.get("_address")
    if not isinstance(text, str):
        return None
    try:
        return Address.parse(text)
    except InputError:
        return None


def _shows(work: Work) -> bool:
    """Whether a call about these records shows what the bytes of the object hold: of lines and documents, their text."""
    return not work.shard.traits.shows_bytes or "text" in work.plan.columns
