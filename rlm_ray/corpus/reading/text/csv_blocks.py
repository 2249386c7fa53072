"""Splits CSV into blocks of whole records. Regular blocks are parsed vectorised; all others go to Python's `csv`.

A block is regular where every quotation mark opens or closes a field, or stands twice within one, and no carriage return
stands alone. Then a line break outside of quotes ends a record, and a comma there a field. That is found without a look at each
byte: a set of places is a bit for each byte, 64 of them to a number, and what is inside of quotes is the parity of those before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import polars
import pyarrow

from rlm_ray.corpus.reading.text import streams
from rlm_ray.corpus.reading.text.dialect import PLAIN, Dialect

_LF, _CR = (numpy.uint8(ord(char)) for char in "\n\r")
#: A byte of no text, where a dialect has no quotes.
_NEVER = 0xFF
_MOST = 64 << 20

Array = numpy.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Block:
    """Some whole records of UTF-8.

    Attributes
    ----------
    count : int
        How many there are.
    breaks, blank : array
        The line breaks that end records, and those of them whose lines are empty, which are none; as bits.
    inside, commas : array or None
        What is inside of quotes, and all commas; None where there are no quotes.
    has_doubled, has_returns : bool
        Whether there may be quotation marks that stand twice, and carriage returns before line breaks.
    skipped : int
        So many of the records are left out at the beginning.
    regular : bool
        In a block that is not, `memory` is all that has been read, and the records go on in the stream.
    dialect : Dialect
        How its fields are separated and quoted.
    """

    memory: Array
    count: int
    breaks: Array
    blank: Array
    inside: Array | None = None
    commas: Array | None = None
    has_doubled: bool = False
    has_returns: bool = False
    skipped: int = 0
    regular: bool = True
    dialect: Dialect = PLAIN

    def __len__(self) -> int:
        """Number of records."""
        return self.count - self.skipped

    def end_of_first(self) -> int:
        """Return where the first record ends, with its line break."""
        return int(_places(self.breaks & ~self.blank, len(self.memory))[0]) + 1

    def fields(self, width: int) -> Fields | None:
        """Cut the records; None where one has not `width` fields."""
        size = len(self.memory)
        commas = self.commas & ~self.inside if self.inside is not None else _found(self.memory, ord(self.dialect.separator))[0]
        ends = _places(commas | (self.breaks & ~self.blank), size)
        if len(ends) != self.count * width:
            return None
        ends = ends.reshape(self.count, width)
        # as many line breaks as records: where they are all in the last column, all else are commas
        if not (self.memory[ends[:, -1]] == _LF).all():
            return None
        if self.blank.any():
            breaks = _places(self.breaks, size)
            firsts = _firsts(breaks)[numpy.isin(breaks, ends[:, -1], assume_unique=True)]
        else:
            firsts = _firsts(ends[:, -1])
        return Fields(firsts[self.skipped :], ends[self.skipped :], self)


@dataclass(frozen=True, slots=True)
class Fields:
    """Where the fields of a regular block's records are: `ends` has a row for each record, and a column for each field."""

    firsts: Array
    ends: Array
    block: Block

    def column(self, number: int, rows: slice | Array) -> polars.Series:
        """Return the texts of one field, of some records."""
        starts = self.firsts[rows] if number == 0 else self.ends[rows, number - 1] + 1
        ends = self.ends[rows, number]
        if not len(starts):
            return polars.Series(dtype=polars.String)
        memory = self.block.memory
        if self.block.has_returns:
            ends = ends - ((ends > starts) & (memory[ends - 1] == _CR))
        if self.block.inside is not None:
            quoted = memory[starts] == ord(self.block.dialect.quote)
            starts, ends = starts + quoted, ends - quoted
        # every other text is a field, those between are of no use: so all of them lie one behind the other
        offsets = numpy.empty(2 * len(starts), numpy.int64)
        offsets[0::2], offsets[1::2] = starts, ends
        buffers = [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(memory)]
        texts = polars.Series(pyarrow.Array.from_buffers(pyarrow.large_string(), len(offsets) - 1, buffers)).gather_every(2)
        if self.block.has_doubled:
            quote = self.block.dialect.quote
            doubled = numpy.flatnonzero(quoted & texts.str.contains(quote * 2, literal=True).to_numpy())
            texts = texts.scatter(doubled, texts.gather(doubled).str.replace_all(quote * 2, quote, literal=True))
        return texts


def _firsts(breaks: Array) -> Array:
    return numpy.concatenate(([0], breaks[:-1] + 1))


def blocks(stream: Any, early: bool, dialect: Dialect) -> Iterator[Block]:
    """Yield the blocks of a stream of UTF-8; one that is not regular is the last, and the caller reads on.

    With `early`, little at first: who takes them may soon stop.
    """
    rest = numpy.empty(0, numpy.uint8)
    begun = ended = False
    sizes = streams.steps(early)
    while not ended:
        memory, ended = streams.filled(stream, rest, max(next(sizes), len(streams.BOM), len(rest)))
        if not begun and memory[: len(streams.BOM)].tobytes() == streams.BOM:
            memory = memory[len(streams.BOM) :]
        if not begun and dialect.skipped:
            memory = memory[int(numpy.argmax(memory == _LF)) + 1 :]
        begun = True
        if not len(memory):
            return
        whole = memory
        if ended and memory[-1] != _LF:
            whole = numpy.append(memory, _LF)
        block = _block(whole, dialect)
        if block is None and not ended and len(memory) <= _MOST:
            rest = memory
            continue
        if block is None or not block.regular:
            yield Block(memory, 0, _NONE, _NONE, regular=False, dialect=dialect)
            return
        rest = memory[len(block.memory) :]
        if ended and len(rest):  # a quotation mark that is never closed
            if len(block):
                yield block
            yield Block(rest, 0, _NONE, _NONE, regular=False, dialect=dialect)
            return
        if len(block):
            yield block


def _block(memory: Array, dialect: Dialect) -> Block | None:
    """The whole records at the beginning of some bytes; None where not one has ended."""
    if dialect.escape and bool((memory == ord(dialect.escape)).any()):
        return Block(memory, 0, _NONE, _NONE, regular=False, dialect=dialect)
    quotes, breaks, returns = _found(memory, ord(dialect.quote) if dialect.quote else _NEVER, _LF, _CR)
    inside = _parity(quotes) if quotes.any() else None
    has_returns = bool(returns.any())
    ends = breaks if inside is None else breaks & ~inside
    used = _last(ends) + 1
    if not used:
        return None
    memory = memory[:used]
    quotes = _upto(quotes, used)
    breaks, ends = breaks[: len(quotes)], ends[: len(quotes)]
    commas = None
    doubled = False
    if inside is not None:
        inside = inside[: len(quotes)]
        (commas,) = _found(memory, ord(dialect.separator))
        for part, new in _parts(len(quotes)):
            within, quote = inside[part], quotes[part]
            opening, closing = quote & within, quote & ~within
            between = commas[part] | breaks[part]
            behind = _next(closing)
            wrong = opening & ~_next(between | closing, part.start == 0)
            wrong |= behind & ~(between | opening | returns[part])
            if wrong[new].any():
                return Block(memory, 0, _NONE, _NONE, regular=False, dialect=dialect)
            doubled = doubled or bool((behind & opening).any())
    if has_returns:
        returns = _upto(returns, used) if inside is None else _upto(returns, used) & ~inside
        if (_next(returns) & ~ends).any():
            return Block(memory, 0, _NONE, _NONE, regular=False, dialect=dialect)
    blank = numpy.empty_like(ends)
    count = 0
    for part, new in _parts(len(ends)):
        here = ends[part]
        behind = _next(here, part.start == 0)
        if has_returns:
            behind |= _next(returns[part] & behind)
        empty = blank[part.start + new.start : part.stop]
        numpy.bitwise_and(here, behind, out=behind)
        empty[:] = behind[new]
        count += int(numpy.bitwise_count(here[new]).sum()) - int(numpy.bitwise_count(empty).sum())
    return Block(memory, count, ends, blank, inside, commas, doubled, has_returns, dialect=dialect)


# -- sets of places, as bits

_FULL = numpy.uint64((1 << 64) - 1)
_ONE, _TOP = numpy.uint64(1), numpy.uint64(63)
_NONE = numpy.zeros(0, numpy.uint64)


#: Bytes that are compared at once: so many stay in the processor's cache until they are bits.
_STEP = 256 << 10


def _found(memory: Array, *chars: Any) -> Array:
    """The places of each of some bytes."""
    size = len(memory)
    packed = numpy.empty((len(chars), -(-size // 64) * 8), numpy.uint8)
    packed[:, -8:] = 0
    equal = numpy.empty(min(size, _STEP), numpy.bool_)
    for at in range(0, size, _STEP):
        part = memory[at : at + _STEP]
        for row, char in zip(packed, chars, strict=True):
            bits = numpy.packbits(numpy.equal(part, char, out=equal[: len(part)]), bitorder="little")
            row[at // 8 : at // 8 + len(bits)] = bits
    return packed.view(numpy.uint64)


def _parts(count: int) -> Iterator[tuple[slice, slice]]:
    """Yield parts of so many numbers, and what in each is new: but for the first, a part begins with the last number before it."""
    for at in range(0, count, _STEP // 8):
        yield slice(max(0, at - 1), min(count, at + _STEP // 8)), slice(min(at, 1), None)


def _next(places: Array, first: bool = False) -> Array:
    """The places behind these, and the first of all if so."""
    moved = places << _ONE
    moved[1:] |= places[:-1] >> _TOP
    moved[0] |= numpy.uint64(first)
    return moved


def _parity(places: Array) -> Array:
    """The places up to which, themselves included, there is an odd number of these."""
    found = places.copy()
    for shift in (1, 2, 4, 8, 16, 32):
        found ^= found << numpy.uint64(shift)
    odd = numpy.bitwise_xor.accumulate(found >> _TOP)
    found[1:] ^= -odd[:-1]
    return found


def _upto(places: Array, stop: int) -> Array:
    """The places before this one."""
    found = places[: -(-stop // 64)].copy()
    found[-1] &= _FULL >> numpy.uint64(-stop % 64)
    return found


def _last(places: Array) -> int:
    """The last place; -1 where there is none."""
    at = len(places)
    while at:
        first = max(0, at - 4096)
        found = numpy.flatnonzero(places[first:at])
        if len(found):
            number = first + int(found[-1])
            return 64 * number + int(places[number]).bit_length() - 1
        at = first
    return -1


def _places(places: Array, size: int) -> Array:
    return numpy.flatnonzero(numpy.unpackbits(places.view(numpy.uint8), count=size, bitorder="little").view(numpy.bool_))
