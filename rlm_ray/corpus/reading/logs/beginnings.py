"""Which lines begin an event: shapes of times at the beginning of a line, and patterns; found from a sample. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy
import polars

#: What stands at the beginning of a line: `9` is a digit, `a` a letter (or one of the few signs beside them in ASCII), `_` a blank,
#: a digit or a sign below them; all else is itself. Of several that fit equally many lines the first is taken.
SHAPES = (
    "9999-99-99T99:99",
    "9999-99-99 99:99",
    "9999/99/99 99:99",
    "9999.99.99 99:99",
    "9999-99-99-99.99",
    "[9999-99-99T99:99",
    "[9999-99-99 99:99",
    "[9999/99/99 99:99",
    "aaa _9 99:99:99",
    "aaa _9 9999 99:99:99",
    "aaa aaa _9 99:99:99",
    "[aaa aaa _9 99:99:99",
    "<9",
    "a9999 99:99:99",
    "99/99/99 99:99:99",
    "99/99/9999 99:99:99",
    "99/aaa/9999 99:99:99",
    "99/aaa/9999:99:99:99",
    "[99/aaa/9999:99:99:99",
    "99.99.9999 99:99:99",
    "99-99-9999 99:99:99",
    "99-aaa-9999 99:99:99",
    "aaa 99, 9999 ",
    "aaa 9, 9999 ",
    "99-99 99:99:99",
    "[99-99 99:99:99",
    "[99.99 99:99:99",
    "99999999-99:99:99",
    "99999999 99:99:99",
    "999999 999999 ",
    "9999999999",
    "[99:99:99",
    "99:99:99",
)
_LEVELS = "TRACE|DEBUG|INFO|INFORMATION|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL|SEVERE|PANIC|ALERT|EMERG"
#: Patterns that are looked for where no shape fits.
PATTERNS = (
    rf"^(?:\[ *)?(?:{_LEVELS})\b",
    r"^(?:ts|time|timestamp|level)=",
    r"^\S+ \S+ \S+ \[[0-9]{2}/[A-Z]",
    r"^\S.{0,63}?(?:[0-9]{4}[-/.][0-9]{2}[-/.][0-9]{2}|[0-9]{2}:[0-9]{2}:[0-9]{2})",
)
#: A line without an indent that is no closing bracket.
UNINDENTED = r"^[^\s})\].]"

#: Part of a sample's lines from which on a second shape or pattern is one too, and of the first where it does not begin the sample.
_SECOND, _FIRST = 0.2, 0.05

_ONES = 0x0101010101010101


@dataclass(frozen=True, slots=True)
class Beginnings:
    """What the lines that begin an event have: one of some shapes at their beginning, or one of some patterns anywhere."""

    shapes: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()

    @property
    def as_patterns(self) -> tuple[str, ...]:
        """All of them as patterns."""
        return (*map(pattern_of, self.shapes), *self.patterns)

    def __str__(self) -> str:
        """Return them as `inspect` shows them."""
        return ", ".join([*(repr(shape) for shape in self.shapes), *self.patterns])


@dataclass(frozen=True, slots=True)
class _Word:
    """Tests of eight bytes of a shape, as masks over a number of 64 bits."""

    first: int
    exact: int
    literal: int
    digits: int
    letters: int
    padded: int


@lru_cache(maxsize=256)
def _tests_of(shape: str) -> tuple[_Word, ...]:
    starts = [*range(0, len(shape) - 7, 8)]
    if len(shape) % 8 and len(shape) > 8:
        starts.append(len(shape) - 8)
    words = []
    for first in starts or [0]:
        masks = {"9": 0, "a": 0, "_": 0, "": 0}
        literal = 0
        for place, letter in enumerate(shape[first : first + 8]):
            kind = letter if letter in masks else ""
            masks[kind] |= 0xFF << 8 * place
            if not kind:
                literal |= ord(letter) << 8 * place
        words.append(_Word(first, masks[""], literal, masks["9"], masks["a"], masks["_"]))
    return tuple(words)


def pattern_of(shape: str) -> str:
    """Return the regular expression that finds what a shape does.

    Examples
    --------
    >>> pattern_of("aaa _9")
    '^[@-\\\\x7f][@-\\\\x7f][@-\\\\x7f] [ -?][0-9]'
    """
    parts = {"9": "[0-9]", "a": r"[@-\x7f]", "_": "[ -?]", "<": "<", " ": " ", "-": "-", ":": ":", "/": "/", ",": ","}
    return "^" + "".join(parts.get(letter) or re.escape(letter) for letter in shape)


def fits(memory: Any, starts: Any, ends: Any, shape: str) -> Any:
    """Return which of the lines `memory[start:end]` begin with a shape, as an array of bool."""
    found = numpy.zeros(len(starts), numpy.bool_)
    long = numpy.flatnonzero(ends - starts >= len(shape))
    for word in _tests_of(shape):
        if not len(long):
            return found
        values = _eight(memory, starts[long] + word.first)
        fine = (values & word.exact) == word.literal
        if word.digits:
            high = word.digits & 0xF0 * _ONES
            three = word.digits & 0x30 * _ONES
            fine &= ((values & high) == three) & (((values + (word.digits & 0x06 * _ONES)) & high) == three)
        if word.letters:
            fine &= (values & (word.letters & 0xC0 * _ONES)) == (word.letters & 0x40 * _ONES)
        if word.padded:
            fine &= (values & (word.padded & 0xE0 * _ONES)) == (word.padded & 0x20 * _ONES)
        long = long[fine]
    found[long] = True
    return found


def _eight(memory: Any, places: Any) -> Any:
    """Return the eight bytes at each place as a number; zeros stand behind the memory's end."""
    inside = len(memory) - 7
    if inside > 0:
        words: Any = numpy.ndarray((inside,), "<u8", memory, 0, (1,))
        if not len(places) or int(places.max()) < inside:
            return words[places]
    padded = numpy.zeros(len(memory) + 8, numpy.uint8)
    padded[: len(memory)] = memory
    return numpy.ndarray((len(memory) + 1,), "<u8", padded, 0, (1,))[places]


def begins(memory: Any, starts: Any, ends: Any, beginnings: Beginnings, texts: Callable[[], polars.Series]) -> Any:
    """Return which lines begin an event, as an array of bool.

    Parameters
    ----------
    memory, starts, ends : array
        The lines.
    beginnings : Beginnings
    texts : callable
        Returns the lines as text, for the patterns.
    """
    found: Any = None
    for shape in beginnings.shapes:
        if found is None:
            found = fits(memory, starts, ends, shape)
        elif not found.all():
            left = numpy.flatnonzero(~found)
            found[left] = fits(memory, starts[left], ends[left], shape)
    if found is None:
        found = numpy.zeros(len(starts), numpy.bool_)
    if beginnings.patterns and not found.all():
        lines = texts()
        for pattern in beginnings.patterns:
            found |= lines.str.contains(pattern).to_numpy()
    return found


def found_in(samples: Iterable[Sequence[str]]) -> Beginnings:
    """Return what begins events, by lines from the beginnings of some objects.

    Examples
    --------
    >>> found_in([["2024-01-05 10:00:00 ERROR broken", "Traceback (most recent call last):", '  File "a.py"', "KeyError: 1"]])
    Beginnings(shapes=('9999-99-99 99:99',), patterns=())
    >>> found_in([["started", "  at once", "stopped"]]).patterns
    ('^[^\\\\s})\\\\].]',)
    """
    found: dict[str, None] = {}
    for lines in samples:
        found |= dict.fromkeys(_found_in_one(polars.Series(lines, dtype=polars.String)))
    if not found:
        return Beginnings(patterns=(UNINDENTED,))
    shapes = tuple(item for item in found if not item.startswith("^"))
    return Beginnings(shapes, tuple(item for item in found if item.startswith("^")))


def _found_in_one(lines: polars.Series) -> list[str]:
    lines = lines.filter(lines.str.strip_chars() != "")
    if not len(lines):
        return []
    left = lines
    taken: list[str] = []
    for group in (SHAPES, PATTERNS):
        while len(left):
            counts = {item: left.str.contains(item if item.startswith("^") else pattern_of(item)) for item in group}
            best = max(group, key=lambda item: int(counts[item].sum()))
            share = int(counts[best].sum()) / len(lines)
            if share < (_SECOND if taken else _FIRST) and (taken or not counts[best][0]):
                break
            taken.append(best)
            left = left.filter(~counts[best])
        if taken:
            break
    return taken
