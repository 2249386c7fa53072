"""Packs records into calls, and cuts a text that is too large into pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rlm_ray.subcalls.render import join

ItemT = TypeVar("ItemT")

#: Where a text is cut, best first: between paragraphs, lines, sentences, words.
_BORDERS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"(?<=[.!?;])\s+"), re.compile(r"\s+"))


def tokens(text: str, bytes_per_token: float) -> int:
    """Estimated tokens of a text, rounded up.

    Examples
    --------
    >>> tokens("x" * 10, 4.0)
    3
    """
    return int(-(-len(text.encode("utf-8", "replace")) // bytes_per_token))


def pack(sized: Iterable[tuple[ItemT, int]], most_tokens: int, most_items: int) -> list[list[ItemT]]:
    """Put items, with their tokens, into packs in order. An item above `most_tokens` gets a pack of its own.

    Examples
    --------
    >>> pack([("a", 3), ("b", 3), ("c", 3), ("d", 9)], most_tokens=6, most_items=5)
    [['a', 'b'], ['c'], ['d']]
    """
    packs: list[list[ItemT]] = []
    room = 0
    for item, size in sized:
        if not packs or size > room or len(packs[-1]) >= most_items:
            packs.append([])
            room = most_tokens
        packs[-1].append(item)
        room -= size
    return packs


def pieces(texts: Sequence[str], most_bytes: int) -> list[str]:
    """Rendered records as texts of at most `most_bytes` each: whole records together, a larger one cut.

    Nothing is lost but white space at the cuts.

    Examples
    --------
    >>> pieces(["aa", "bb", "cc"], 6)
    ['aa\\nbb', 'cc']
    >>> pieces(["one two three four"], 9)
    ['one two', 'three', 'four']
    """
    parts = [part for text in texts for part in split(text, most_bytes)]
    # Two for the separator that `join` may put between.
    return [join(group) for group in pack(((part, len(part.encode()) + 2) for part in parts), most_bytes + 2, len(parts) or 1)]


def split(text: str, most_bytes: int) -> list[str]:
    """A text in pieces of at most `most_bytes`, cut between paragraphs, else lines, sentences, words, else anywhere."""
    if most_bytes < 4:
        raise ValueError(f"most_bytes = {most_bytes}: a piece must hold at least one character, 4 bytes.")
    found: list[str] = []
    start = 0
    while True:
        head = text[start : start + most_bytes]
        if start + len(head) == len(text) and len(head.encode()) <= most_bytes:
            return [*found, head] if head or not found else found
        stop = start + len(head.encode()[:most_bytes].decode("utf-8", "ignore"))
        end, after = stop, stop
        for border in _BORDERS:
            # A cut in the first half would make many small pieces; the next finer border is better.
            matches = list(border.finditer(text, start + (stop - start) // 2, stop + 1))
            if matches and matches[-1].start() > start:
                end, after = matches[-1].span()
                break
        found.append(text[start:end])
        start = after
