"""JSON that is not lines: an array, an object with one array of records, or values one behind the other, on any number of lines.

The records are found by their brackets, outside of strings, in blocks: an object is never in memory as a whole. Each then has
the columns that a line of JSON lines has, and its byte range as its address. What stands between records and is no object is a
record of nulls whose `_error` says so. RFC 8259; RFC 7464 for values behind record separators.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy
import polars

from rlm_ray.corpus.catalog.shard import Shard
from rlm_ray.corpus.reading.reader import Reader, ReadRequest
from rlm_ray.corpus.reading.sampling import SAMPLE_BYTES, Sample
from rlm_ray.corpus.reading.text import jsonl
from rlm_ray.corpus.reading.text.lines import frame
from rlm_ray.corpus.reading.text.streams import BOM, MAX_RECORD, Piece, opened, readable
from rlm_ray.errors import InputError, ObjectUnreadable, StorageError

#: Bytes that are looked at together, and of the beginning that says how the records stand.
_BLOCK, _HEAD = 1 << 20, 1 << 20
#: Objects that are looked at for their columns, and bytes of all below which they are looked at whole.
_SAMPLED, _WHOLE_BYTES = 48, 16 << 20

_QUOTE, _OPEN, _CLOSE, _OTHER, _BLANK = 1, 2, 3, 4, 0
#: What a byte is: of these classes.
_CLASS = numpy.full(256, _OTHER, numpy.uint8)
_CLASS[list(b" \t\r\n,\x1e")] = _BLANK
_CLASS[list(b'"')] = _QUOTE
_CLASS[list(b"{[")] = _OPEN
_CLASS[list(b"}]")] = _CLOSE
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_MEMBER = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:\s*$')
_BRACE, _BRACKET = ord("{"), ord("[")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the records of an object stand.

    Attributes
    ----------
    level : {0, 1, 2}
        Brackets around a record: none, those of an array, or those of an object and of its array.
    member : str
        The name of that array.
    """

    level: Literal[0, 1, 2] = 0
    member: str = ""

    def __str__(self) -> str:
        return ("values one behind the other", "an array", f"the array {self.member!r} of an object")[self.level]


def layout_of(head: bytes, whole: bool) -> Layout:
    """Return how records stand, by the first bytes of an object, or by all of it.

    Examples
    --------
    >>> str(layout_of(b'[{"a": 1}]', True)), str(layout_of(b'{"Records": [{"a": 1}], "n": 1}', True))
    ('an array', "the array 'Records' of an object")
    >>> str(layout_of(b'{"a": [1]}{"a": [2]}', True))
    'values one behind the other'
    """
    text = head.removeprefix(BOM).lstrip(b" \t\r\n\x1e")
    if text.startswith(b"["):
        return Layout(1)
    if not text.startswith(b"{"):
        return Layout()
    if whole:
        try:
            value = json.loads(text.decode("utf-8", "replace"))
        except (ValueError, RecursionError):  # several values, or none
            return Layout()
        arrays = [name for name, member in value.items() if isinstance(member, list) and any(isinstance(x, dict) for x in member)]
        return Layout(2, arrays[0]) if len(arrays) == 1 else Layout()
    # a first value that does not end soon: an array of records in it is still open
    scan = _Brackets()
    scan.feed(text, 0)
    if len(scan.stack) < 2 or bytes(text[place] for place in scan.stack[:2]) != b"{[" or scan.ended:
        return Layout()
    found = _MEMBER.search(text[: scan.stack[1]])
    return Layout(2, json.loads(b'"' + found[1] + b'"')) if found else Layout()


@dataclass
class _Brackets:
    """The brackets of a stream outside of its strings."""

    depth: int = 0
    in_string: int = 0
    escaped: bool = False
    stack: list[int] = field(default_factory=list)
    ended: bool = False

    def classes(self, data: bytes) -> tuple[Any, Any, Any]:
        """Return where brackets stand, +1 or -1 for each, and the class of every byte, strings' bytes as `_OTHER`."""
        if self.escaped and data:
            data = b"_" + data[1:]
            self.escaped = False
        if b"\\" in data:
            data = _ESCAPED.sub(b"__", data)
            self.escaped = data.endswith(b"\\")
        kinds = _CLASS[numpy.frombuffer(data, numpy.uint8)]
        quotes = numpy.flatnonzero(kinds == _QUOTE)
        brackets = numpy.flatnonzero((kinds == _OPEN) | (kinds == _CLOSE))
        outside = (numpy.searchsorted(quotes, brackets) + self.in_string) % 2 == 0
        brackets = brackets[outside]
        self.in_string = (self.in_string + len(quotes)) % 2
        return brackets, numpy.where(kinds[brackets] == _OPEN, 1, -1), kinds

    def feed(self, data: bytes, offset: int) -> None:
        """Follow the brackets one by one, into `stack`; `ended` when the first value has ended."""
        brackets, changes, _ = self.classes(data)
        for place, change in zip(brackets.tolist(), changes.tolist(), strict=True):
            if change > 0:
                self.stack.append(place + offset)
            elif self.stack:
                self.stack.pop()
                if not self.stack:
                    self.ended = True
                    return


class _Records:
    """Cuts the records out of an object's bytes, block by block."""

    def __init__(self, shard: Shard, layout: Layout) -> None:
        self._shard = shard
        self._layout = layout
        self._brackets = _Brackets()
        self._held = bytearray()  # bytes behind the last record
        self._at = 0  # of the object's byte that `_held` begins with
        self._open: int | None = None  # where the record begins that has not ended
        self._in_array = layout.level < 2
        self._other = ""  # the name of the array beside that of the records, inside of it

    def feed(self, data: bytes) -> Piece | None:
        """Return the records that end in a block."""
        offset = self._at + len(self._held)
        self._held += data
        brackets, changes, kinds = self._brackets.classes(data)
        after = self._brackets.depth + numpy.cumsum(changes)
        if len(after):
            self._brackets.depth = int(after[-1])
            if after.min() < 0:
                place = offset + int(brackets[numpy.argmax(after < 0)])
                raise ObjectUnreadable(f"{self._shard.uri} has a bracket that closes nothing at byte {place}. Check the file.")
        spans = self._spans(brackets + offset, changes, after)
        if self._layout.level < 2:
            spans = self._with_others(spans, kinds, offset)
        return self._taken(spans)

    def end(self) -> Piece | None:
        """Return what is left: a value that is no object."""
        if self._brackets.depth or self._brackets.in_string:
            place = self._at if self._open is None else self._open
            raise ObjectUnreadable(
                f"{self._shard.uri} ends in the middle of the value that begins at byte {place}. Check the file."
            )
        left = self._gap(self._at, self._at + len(self._held)) if self._layout.level < 2 else None
        return self._taken([left] if left else [])

    def _spans(self, places: Any, changes: Any, after: Any) -> list[tuple[int, int]]:
        level = self._layout.level
        if level:
            self._check(places, changes, after)
        begins = places[(changes > 0) & (after == level + 1)]
        ends = places[(changes < 0) & (after == level)] + 1
        if level == 2:
            begins, ends = self._of_array(places, changes, after, begins, ends)
        found = begins.tolist()
        if self._open is not None:
            found.insert(0, self._open)
        stops = ends.tolist()
        self._open = found[len(stops)] if len(found) > len(stops) else None
        return list(zip(found, stops, strict=False))

    def _check(self, places: Any, changes: Any, after: Any) -> None:
        """Refuse values around the records that are not what the beginning of the object promised."""
        wanted = _BRACKET if self._layout.level == 1 else _BRACE
        for place in places[(changes > 0) & (after == 1)].tolist():
            if self._held[place - self._at] != wanted:
                raise ObjectUnreadable(
                    f"{self._shard.uri} begins as {self._layout} and has another value at byte {place}. Cut it up."
                )

    def _of_array(self, places: Any, changes: Any, after: Any, begins: Any, ends: Any) -> tuple[Any, Any]:
        """Return the begins and ends inside the array of records; another array of an outer object has none of them."""
        edges = numpy.flatnonzero(((changes > 0) & (after == 2)) | ((changes < 0) & (after == 1)))
        inside, since = self._in_array, -1
        keep_begins, keep_ends = numpy.zeros(len(begins), bool), numpy.zeros(len(ends), bool)
        for number in [*edges.tolist(), None]:
            place = places[-1] + 1 if number is None and len(places) else (places[number] if number is not None else 0)
            if inside:
                keep_begins |= (begins > since) & (begins < place)
                keep_ends |= (ends > since) & (ends <= place)
            elif self._other:
                self._refuse_records(begins[(begins > since) & (begins < place)])
            if number is not None:
                inside, since = bool(changes[number] > 0) and self._is_array(int(place)), place
                self._other = "" if inside or changes[number] < 0 else self._other
        self._in_array = inside
        return begins[keep_begins], ends[keep_ends]

    def _is_array(self, place: int) -> bool:
        at = place - self._at
        if self._held[at] != _BRACKET:
            return False
        found = _MEMBER.search(self._held[max(0, at - 4_096) : at])
        name = json.loads(b'"' + found[1] + b'"') if found else ""
        self._other = str(name)
        return bool(name == self._layout.member)

    def _refuse_records(self, places: Any) -> None:
        """Refuse objects in another array than that of the records: they would be lost in silence."""
        for place in places.tolist():
            if self._held[place - self._at] == _BRACE:
                raise ObjectUnreadable(
                    f"{self._shard.uri} has objects in the array {self._other!r}, at byte {place}, beside those in "
                    f"{self._layout.member!r}. Write each array into an object of its own."
                )

    def _with_others(self, spans: list[tuple[int, int]], kinds: Any, offset: int) -> list[tuple[int, int]]:
        """Add what stands between the records and is neither blank nor a bracket around them."""
        sums = numpy.concatenate(([0], numpy.cumsum((kinds == _OTHER) | (kinds == _QUOTE))))

        def some(start: int, stop: int) -> bool:
            low, high = max(start - offset, 0), max(stop - offset, 0)
            early = start < offset and self._gap(start, min(stop, offset)) is not None
            return early or bool(sums[high] > sums[low])

        found: list[tuple[int, int]] = []
        last = self._at
        for begin, end in spans:
            if some(last, begin) and (gap := self._gap(last, begin)):
                found.append(gap)
            found.append((begin, end))
            last = end
        return found

    def _gap(self, start: int, stop: int) -> tuple[int, int] | None:
        text = bytes(self._held[start - self._at : stop - self._at])
        blank = b" \t\r\n,\x1e[]" + (BOM if start == 0 else b"")
        inner = text.lstrip(blank)
        begin = start + len(text) - len(inner)
        inner = inner.rstrip(blank)
        return (begin, begin + len(inner)) if inner else None

    def _taken(self, spans: list[tuple[int, int]]) -> Piece | None:
        """Return the records as a piece, and forget all bytes before the next one."""
        piece = None
        behind = self._open if self._open is not None else (spans[-1][1] if spans else self._at)
        if spans:
            memory = numpy.frombuffer(bytes(self._held[: spans[-1][1] - self._at]), numpy.uint8)
            starts, ends = (numpy.array(column, numpy.int64) - self._at for column in zip(*spans, strict=True))
            piece = Piece(memory, self._at, starts, ends)
        if self._layout.level == 2 and self._open is None and len(self._held) > 8_192:
            behind = max(behind, self._at + len(self._held) - 4_096)  # the name of an array stands before it
        del self._held[: behind - self._at]
        self._at = behind
        if len(self._held) > MAX_RECORD:
            raise ObjectUnreadable(
                f"{self._shard.uri} has a value of more than {MAX_RECORD >> 20} MiB at byte {self._at}. Cut it into smaller ones."
            )
        return piece


def pieces(shard: Shard, early: bool = False) -> Iterator[Piece]:
    """Yield the records of an object, some megabytes at a time.

    Raises
    ------
    ObjectUnreadable
        It ends in the middle of a value, its brackets do not match, or a value is above `MAX_RECORD`.
    """
    with opened(shard, 0, None, early) as stream, readable(shard):
        head = _read(stream, _HEAD)
        more = _read(stream, _BLOCK) if len(head) == _HEAD else b""
        records = _Records(shard, layout_of(head, not more))
        for block in (head, more):
            if block and (piece := records.feed(block)) is not None:
                yield piece
        while more and (more := _read(stream, _BLOCK)):
            if (piece := records.feed(more)) is not None:
                yield piece
        if (piece := records.end()) is not None:
            yield piece


def _read(stream: Any, count: int) -> bytes:
    parts = []
    while count and (part := stream.read(count)):
        parts.append(bytes(part))
        count -= len(part)
    return b"".join(parts)


def read(request: ReadRequest) -> Iterator[polars.DataFrame]:
    """Yield frames of the columns, `_pos` and `_end` for the values that begin in `[low, high)`."""
    for piece in pieces(request.shard, request.early):
        values = frame(piece, request.shard)
        if request.extents:
            values = values.with_columns(_next=polars.col("_end"))
        values = values.filter((polars.col("_pos") >= request.low) & (polars.col("_pos") < (request.high or 1 << 62)))
        for predicate in request.predicates:
            seen = [name for name in request.columns if name in predicate.meta.root_names()]
            values = values.filter(jsonl.columns_of(values, request.schema, seen).select(predicate).to_series())
        if values.height:
            yield jsonl.columns_of(values, request.schema, request.columns)
        if request.high is not None and piece.offset + piece.starts[-1] >= request.high:
            return


def sample(shards: Sequence[Shard]) -> Sample:
    """Return the columns of all records where they are few megabytes, else of the first ones of some objects."""
    whole = sum(shard.nbytes for shard in shards) <= _WHOLE_BYTES
    found: list[dict[str, str]] = []
    count = size = 0
    failure = None
    step = 1 if whole else max(1, len(shards) // _SAMPLED)
    for shard in shards[::step]:
        seen = 0
        try:
            for piece in pieces(shard, early=not whole):
                texts = frame(piece, shard)["text"]
                found.append(jsonl.members(texts))
                count += len(texts)
                seen += int(texts.str.len_bytes().sum()) + len(texts)
                if not whole and seen > SAMPLE_BYTES:
                    break
        except StorageError as error:
            failure = error
        size += seen
    if not count and failure is not None:
        raise InputError(f"No object could be sampled for its columns; the last one: {failure}")
    return Sample(jsonl.united(found) | jsonl.EXTRA, max(1.0, size / max(1, count)), _note(shards[0]))


def _note(shard: Shard) -> str:
    try:
        with opened(shard, 0, None, True) as stream, readable(shard):
            head = _read(stream, _HEAD)
            return f"JSON as {layout_of(head, not _read(stream, 1))}"
    except StorageError:
        return ""


READER = Reader(read=read, sample=sample)
