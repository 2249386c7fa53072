"""What is noted of reading while a run goes on: which parts of which shards, and what they were read for.

A worker collects marks in a `ReadMarks` and hands its `entries` back with what it gives; a call writes them into a log of its own::

    RUN/coverage/CALL.jsonl

Marks are sets: what is noted twice, by a task that ran again or by a run that was resumed, is noted once. `ledger.coverage`
adds them up. Positions are rows of a file, or bytes of a text.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
from pyroaring import BitMap64

from rlm_ray import storage
from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.ledger import journal
from rlm_ray.ledger.journal import Journal

FOLDER = "coverage"

#: What a part of a shard is marked as.
CODE, MODEL, EXCLUDED = "code", "model", "excluded"

#: What a sub-call is about: records of a corpus, text that code made of records, or text that is no record's.
RECORDS, DERIVED, TEXTS = "records", "derived", "texts"

#: A record's position, and which part of it, in one number: the part has this many bits.
PART_BITS = 20

Entry = dict[str, Any]
Ranges = Iterable[tuple[int, int]]


def packed(positions: BitMap64) -> str:
    """Return a set of positions as text, compressed."""
    positions.run_optimize()
    return base64.b64encode(positions.serialize()).decode()


def unpacked(text: str) -> BitMap64:
    """Return a set of positions again."""
    return BitMap64.deserialize(base64.b64decode(text))


def packed_sizes(sizes: Mapping[int, int]) -> str:
    """Return numbers by place as text, compressed.

    Examples
    --------
    >>> places, sizes = unpacked_sizes(packed_sizes({1 << 40: 7, 3: 9}))
    >>> places.tolist(), sizes.tolist()
    ([3, 1099511627776], [9, 7])
    """
    places = numpy.array(sorted(sizes), numpy.int64)
    counts = numpy.array([sizes[place] for place in places.tolist()], numpy.int64)
    data = numpy.concatenate([numpy.diff(places, prepend=0), counts]).astype("<i8").tobytes()
    return base64.b64encode(zlib.compress(data, 1)).decode()


def unpacked_sizes(text: str) -> tuple[Any, Any]:
    """Return the places in ascending order, and the number of each."""
    data = numpy.frombuffer(zlib.decompress(base64.b64decode(text)), "<i8")
    return numpy.cumsum(data[: len(data) // 2]), data[len(data) // 2 :]


def object_key(unit: str, version: str, uri: str) -> str:
    """Return the name of an object in the marks of what a model was shown: positions are rows or bytes."""
    return f"{unit}:{version}@{uri}"


class ReadMarks:
    """What one worker's reading came to: small, whatever the shards hold.

    Examples
    --------
    >>> marks = ReadMarks()
    >>> marks.read("logs", 3, [(0, 100)])
    >>> marks.shown("logs", 3, [(0, 0, 20, 20)])
    >>> [(entry["k"], entry["s"]) for entry in marks.entries()]
    [('code', 3), ('model', 3), ('starts', 3)]
    """

    def __init__(self) -> None:
        self._sets: dict[tuple[str, str, int], BitMap64] = {}
        self._spanned: dict[tuple[str, int], dict[int, int]] = {}
        self._named: dict[str, BitMap64] = {}
        self._texts: dict[str, int] = {}
        self._characters: dict[tuple[str, str], dict[int, int]] = {}
        self._calls: dict[str, set[str]] = {}
        self._whole: dict[str, BitMap64] = {}

    def whole(self, corpus: str, shard: int) -> None:
        """Note a shard that code looked at as a whole."""
        self._whole.setdefault(corpus, BitMap64()).add(shard)

    def read(self, corpus: str, shard: int, ranges: Ranges, kind: str = CODE) -> None:
        """Note positions that code looked at."""
        found = self._set(kind, corpus, shard)
        for low, high in ranges:
            if low < high:
                found.add_range(low, high)

    def shown(self, corpus: str, shard: int, places: Iterable[tuple[int, int, int, int]]) -> None:
        """Note what was put before a model: of each record where it begins, and where what was shown of it begins and ends, and
        where the record ends."""
        model, starts = self._set(MODEL, corpus, shard), self._set("starts", corpus, shard)
        for position, first, last, end in places:
            model.add_range(first, max(last, first))
            if first <= position and last >= end:
                starts.add(position)
            else:
                self._spanned.setdefault((corpus, shard), {})[position] = end

    def named(self, address: Any) -> None:
        """Note a record that was put before a model by its address alone: a row of a result has no other place."""
        key = object_key(address.unit, address.version, address.object)
        behind = address.stop if address.unit == "row" else address.stop + 1  # and its line break
        self._named.setdefault(key, BitMap64()).add_range(address.start, behind)

    def text(self, key: str, characters: int) -> None:
        """Note text put before a model that no record can be named for, by the key of its answer."""
        self._texts[key[:15]] = characters

    def characters(self, kind: str, object: str, position: int, part: int, characters: int) -> None:
        """Note how many characters of a record, or of text that code made of it, were put before a model.

        Parameters
        ----------
        kind : {"records", "derived"}
        object : str
            See `object_key`.
        position, part : int
            Where the record begins, and where in it that part begins which was shown.
        """
        sizes = self._characters.setdefault((kind, object), {})
        place = (position << PART_BITS) | (part & ((1 << PART_BITS) - 1))
        sizes[place] = max(characters, sizes.get(place, 0))

    def calls(self, kind: str, calls: Iterable[str]) -> None:
        """Note the sub-calls that were about such text, by their names."""
        self._calls.setdefault(kind, set()).update(call[:15] for call in calls)

    def entries(self) -> tuple[Entry, ...]:
        """Return all of it as JSON values."""
        found: list[Entry] = []
        for (kind, corpus, shard), positions in self._sets.items():
            if len(positions):
                found.append({"k": kind, "c": corpus, "s": shard, "b": packed(positions)})
        for (corpus, shard), records in self._spanned.items():
            found.append({"k": "spanned", "c": corpus, "s": shard, "r": sorted(records.items())})
        found += [{"k": "named", "o": key, "b": packed(positions)} for key, positions in self._named.items()]
        found += [{"k": CODE, "c": corpus, "w": packed(shards)} for corpus, shards in self._whole.items()]
        if self._texts:
            found.append({"k": "texts", "r": list(self._texts.items())})
        found += [
            {"k": "characters", "t": kind, "o": key, "z": packed_sizes(sizes)} for (kind, key), sizes in self._characters.items()
        ]
        found += [{"k": "calls", "t": kind, "r": sorted(calls)} for kind, calls in self._calls.items()]
        return tuple(found)

    def _set(self, kind: str, corpus: str, shard: int) -> BitMap64:
        return self._sets.setdefault((kind, corpus, shard), BitMap64())


class ReadLog:
    """The marks of one call, written down as they come. What it has noted before it does not write again.

    Parameters
    ----------
    run_dir : str or None
        None notes nothing: a replay, or a session without a run.
    call : str
        The call's id.
    """

    def __init__(self, run_dir: str | None, call: str = "0") -> None:
        self._uri = None if run_dir is None else storage.join(run_dir, FOLDER, call)
        self._journal: Journal | None = None
        self._whole: dict[tuple[str, str], BitMap64] = {}
        self._counted: dict[str, BitMap64] = {}

    def add(self, entries: Iterable[Entry]) -> None:
        """Write down what a worker noted.

        Raises
        ------
        StorageError
            It cannot be written.
        """
        if self._uri is None:
            return
        for entry in entries:
            if self._journal is None:
                self._journal = Journal(self._uri, journal.objects(self._uri))
            self._journal.append(entry)

    def whole(self, kind: str, corpus: str, shards: Sequence[int]) -> None:
        """Note shards that were read, or excluded, as a whole."""
        known = self._whole.setdefault((kind, corpus), BitMap64())
        news = BitMap64(shards) - known
        if news:
            known |= news
            self.add([{"k": kind, "c": corpus, "w": packed(news)}])

    def ranges(self, kind: str, corpus: str, shard: Shard, ranges: Sequence[tuple[int, int]]) -> None:
        """Note parts of a shard; all of it where they are None."""
        if shard.index not in self._whole.get((kind, corpus), ()):
            self.add([{"k": kind, "c": corpus, "s": shard.index, "r": [list(pair) for pair in ranges]}])

    def counts(self, corpus: str, records: Mapping[int, int]) -> None:
        """Note how many records shards have, which no footer says."""
        known = self._counted.setdefault(corpus, BitMap64())
        news = {shard: count for shard, count in records.items() if shard not in known}
        if news:
            known.update(news)
            self.add([{"k": "count", "c": corpus, "s": list(news), "n": list(news.values())}])

    def flush(self) -> None:
        """Make what was noted durable."""
        if self._journal is not None:
            self._journal.flush()

    def close(self) -> None:
        """Write what is gathered, and end."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
