"""`split`: cuts records into spans of one text column, each with its character range in that column's value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import polars

from rlm_ray.corpus.planning.steps import FIXED_SEPARATORS
from rlm_ray.errors import InputError
from rlm_ray.handle.plan import Split

#: Where a span that is too long is cut, best first.
_ENDS = ("\n\n", "\n", " ")

#: A character that texts hardly have; another is found where one has it.
_MARKS = "\ue000\uf8ff\U000f0000\U0010fffd\x01\x02\x03\x04"


def split(frame: polars.DataFrame, step: Split, encoding: str | None = None) -> polars.DataFrame:
    """Replace every record by its spans, in order. Spans of white space only are left out.

    With an encoding, `_byte` and `_byte_end` are where a span begins and ends in its record, in bytes of it; the white space
    behind a span belongs to it, and that before the first one. `_byte_end` is null at the record's end.
    """
    texts = frame[step.column]
    rows: list[int] = []
    starts: list[int] = []
    values: list[str] = []
    measured = None if encoding is None else Measured(frame, encoding)
    gaps = _by_regex(texts, step.by) if step.by not in FIXED_SEPARATORS else _by_fixed(texts, step.by)
    for row, ranges, text in gaps:
        for first, last in ranges:
            for start, stop in _cut(text, first, last, step.max_chars):
                value = text[start:stop]
                if value and not value.isspace():
                    rows.append(row)
                    starts.append(start)
                    values.append(value)
                    if measured is not None:
                        measured.add(row, text, start, stop)
    # the other columns only: the whole text once for every span would be too much; a span of a span is one of the whole value
    others = frame.drop(step.column)
    taken = others[rows] if rows else others.clear()
    if measured is not None:
        taken = taken.with_columns(measured.columns())
    first_char = taken["_char"] + polars.Series(starts, dtype=polars.Int64)
    lengths = polars.Series([len(value) for value in values], dtype=polars.Int64)
    return taken.with_columns(
        polars.Series(step.column, values, dtype=polars.String),
        first_char.alias("_char"),
        (first_char + lengths).alias("_char_end"),
    )


class Measured:
    """Where spans begin and end in their record, in bytes."""

    def __init__(self, frame: polars.DataFrame, encoding: str) -> None:
        self._encoding = encoding
        self._outer = frame.select("_byte", "_byte_end").rows() if "_byte" in frame.columns else None
        self._row = -1
        self._at = (0, 0)  # a character of the row's text, and its byte
        self._firsts: list[int] = []
        self._lasts: list[int | None] = []

    def add(self, row: int, text: str, start: int, stop: int) -> None:
        """Take the next span of a record's text."""
        begin, end = (0, None) if self._outer is None else self._outer[row]
        if row != self._row:
            self._row, self._at = row, (0, 0)
        stop = _SPACE.match(text, stop).end()  # type: ignore[union-attr]
        start = 0 if not text[:start].strip() else start
        self._firsts.append(begin + self._byte(text, start))
        self._lasts.append(end if stop == len(text) else begin + self._byte(text, stop))

    def columns(self) -> list[polars.Series]:
        """Return `_byte` and `_byte_end`."""
        places: dict[str, Any] = {"_byte": self._firsts, "_byte_end": self._lasts}
        return [polars.Series(name, values, dtype=polars.Int64) for name, values in places.items()]

    def _byte(self, text: str, char: int) -> int:
        at, byte = self._at if self._at[0] <= char else (0, 0)
        self._at = (char, byte + len(text[at:char].encode(self._encoding, "replace")))
        return self._at[1]


_SPACE = re.compile(r"\s*")


def _by_fixed(texts: polars.Series, by: str) -> Iterator[tuple[int, Iterable[tuple[int, int]], str]]:
    for row, text in enumerate(texts):
        if text is not None:
            yield row, _between(((match.start(), match.end()) for match in FIXED_SEPARATORS[by].finditer(text)), len(text)), text


def _by_regex(texts: polars.Series, by: str) -> Iterator[tuple[int, Iterable[tuple[int, int]], str]]:
    """Places of a Rust pattern's matches: polars gives the matches and what is between them, not the places."""
    mark = next((mark for mark in _MARKS if not texts.str.contains(mark, literal=True).any()), None)
    if mark is None:
        raise InputError(f"Column {texts.name!r} has every character that could mark a split. Split by 'line' or 'paragraph'.")
    between = texts.str.replace_all(by, mark)
    matches = texts.str.extract_all(by)
    for row, text in enumerate(texts):
        if text is not None:
            yield row, _between(_places(between[row].split(mark), matches[row].to_list()), len(text)), text


def _places(gaps: list[str], matches: list[str]) -> Iterator[tuple[int, int]]:
    at = 0
    for gap, match in zip(gaps, matches, strict=False):
        at += len(gap)
        yield at, at + len(match)
        at += len(match)


def _between(separators: Iterable[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    at = 0
    for start, stop in separators:
        yield at, start
        at = stop
    yield at, length


def _cut(text: str, first: int, last: int, limit: int | None) -> Iterator[tuple[int, int]]:
    if limit is None:
        yield first, last
        return
    while last - first > limit:
        # after the last paragraph of the piece, else its last line, else its last word, if that leaves at least half of it
        half, end = first + limit // 2, first + limit
        stop = next((at + len(mark) for mark in _ENDS if (at := text.rfind(mark, half, end)) >= 0), end)
        yield first, stop
        first = stop
    yield first, last
