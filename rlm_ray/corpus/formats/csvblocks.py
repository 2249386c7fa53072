"""CSV cut into blocks of whole records, and blocks that Arrow may read: those in which it sees what Python's `csv` sees.

A block is regular where every quotation mark opens or closes a field, or stands twice within one, and no carriage return
stands alone. Then a line break outside of quotes ends a record, and a comma there a field.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow
import pyarrow.csv

from rlm_ray.corpus.formats import streams

_QUOTE, _COMMA, _LF, _CR = (numpy.uint8(ord(char)) for char in '",\n\r')
_MOST = 64 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """Some whole records; `rows` are where each begins and ends.

    `data` holds UTF-8. In a block that is not regular it is all that has been read, and the records go on in the stream.
    """

    data: bytes
    regular: bool
    rows: Any

    def __len__(self) -> int:
        """Number of records."""
        return len(self.rows)

    def table(self, columns: Sequence[int], width: int, skip: int = 0) -> pyarrow.Table | None:
        """Return the columns of these numbers as text, from record `skip` on; None where a record has not `width` fields."""
        first = int(self.rows[skip, 0])
        names = [str(number) for number in range(width)]
        wanted = [names[number] for number in columns]
        try:
            table = pyarrow.csv.read_csv(
                pyarrow.BufferReader(pyarrow.py_buffer(self.data).slice(first)),
                pyarrow.csv.ReadOptions(use_threads=False, block_size=len(self.data) + 1, column_names=names),
                pyarrow.csv.ParseOptions(newlines_in_values=True),
                pyarrow.csv.ConvertOptions(
                    check_utf8=False,
                    column_types=dict.fromkeys(wanted, pyarrow.string()),
                    strings_can_be_null=False,
                    include_columns=wanted,
                ),
            )
        except pyarrow.ArrowInvalid:
            return None
        return table if table.num_rows == len(self.rows) - skip else None


def blocks(stream: Any, early: bool) -> Iterator[Block]:
    """Yield the blocks of a stream of UTF-8; one that is not regular is the last, and the caller reads on.

    With `early`, little at first: who takes them may soon stop.
    """
    rest = b""
    begun = ended = False
    sizes = streams.steps(early)
    while not ended:
        data = rest + stream.read(max(next(sizes), len(streams.BOM), len(rest)))
        ended = len(data) == len(rest)
        data, begun = data if begun else data.removeprefix(streams.BOM), True
        block, used = _block(data, ended)
        if block is None and len(data) <= _MOST:
            rest = data
            continue
        if block is None or not block.regular:
            yield Block(data, False, ())
            return
        rest = data[used:]
        if len(block):
            yield block


def _block(data: bytes, ended: bool) -> tuple[Block | None, int]:
    """The whole records at the beginning of some data, and how many bytes they take; None where not one has ended."""
    if not data:
        return None, 0
    memory = numpy.frombuffer(data, numpy.uint8)
    quotes = _found(data, memory, _QUOTE)
    breaks = _outside(numpy.flatnonzero(memory == _LF), quotes)
    if ended and (not len(breaks) or breaks[-1] + 1 < len(memory)):
        breaks = numpy.append(breaks, len(memory))
    if not len(breaks):
        return None, 0
    used = min(int(breaks[-1]) + 1, len(memory))
    memory, quotes = memory[:used], quotes[: numpy.searchsorted(quotes, used)]
    if not _regular(data, memory, quotes):
        return Block(data, False, ()), 0
    ends = breaks - ((breaks > 0) & (memory[breaks - 1] == _CR))
    starts = numpy.concatenate(([0], breaks[:-1] + 1))
    rows = numpy.stack((starts, ends), axis=1)[ends > starts]
    return Block(data[:used], True, rows), used


def _outside(places: Any, quotes: Any) -> Any:
    """Those places before which there is an even number of quotation marks."""
    return places[numpy.searchsorted(quotes, places) % 2 == 0] if len(quotes) else places


def _found(data: bytes, memory: Any, char: Any) -> Any:
    return numpy.flatnonzero(memory == char) if int(char) in data else numpy.empty(0, numpy.int64)


def _regular(data: bytes, memory: Any, quotes: Any) -> bool:
    returns = _outside(_found(data, memory, _CR), quotes)
    if len(returns) and (returns[-1] + 1 == len(memory) or (memory[returns + 1] != _LF).any()):
        return False
    if len(quotes) % 2:
        return False
    opening, closing = quotes[0::2], quotes[1::2]
    before = memory[opening - 1]
    begins = (opening == 0) | (before == _COMMA) | (before == _LF)
    begins[1:] |= opening[1:] == closing[:-1] + 1
    behind = memory[numpy.minimum(closing + 1, len(memory) - 1)]
    stops = (closing + 1 == len(memory)) | (behind == _COMMA) | (behind == _LF) | (behind == _CR)
    stops[:-1] |= opening[1:] == closing[:-1] + 1
    return bool(begins.all() and stops.all())
