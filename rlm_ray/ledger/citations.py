"""Whether a quote is in a record. Pure."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import TypeGuard


def normalised(text: str) -> str:
    """Return a text with compatible forms, hyphens and quotation marks made one, and every run of white space as one space.

    Examples
    --------
    >>> normalised(" the  ﬁle\\n was lost ")
    'the file was lost'
    """
    return " ".join(unicodedata.normalize("NFKC", text).translate(_FORMS).split())


#: Hyphens and dashes, quotation marks, and characters without a width: writers and models mix their forms.
_FORMS = (
    dict.fromkeys(map(ord, "‐‑‒–—―−﹘﹣－⁃"), "-")
    | dict.fromkeys(map(ord, "‘’‚‛′`´ʼ‹›"), "'")
    | dict.fromkeys(map(ord, "“”„‟″«»"), '"')
    | dict.fromkeys([0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF], None)
)


def own_words(quote: str, record: Mapping[str, object]) -> str | None:
    """Return the quote in the record's own characters; None where the record does not have it.

    Examples
    --------
    >>> own_words("30-60  days", {"text": "within 30–60\\ndays of “notice”"})
    '30–60\\ndays'
    """
    if not is_in(quote, record):
        return None
    wanted = normalised(quote)
    for text in (value for name, value in record.items() if not name.startswith("_") and isinstance(value, str)):
        if quote in text:
            return quote
        if wanted in normalised(text):
            return _own(wanted, text) or quote
    return quote


def _own(wanted: str, text: str) -> str | None:
    """Find the characters of `text` that are `wanted` when they are normalised."""
    plain: list[str] = []
    places: list[int] = []
    for match in _CLUSTER.finditer(text):
        for letter in unicodedata.normalize("NFKC", match[0]).translate(_FORMS):
            letter = " " if letter.isspace() else letter
            if letter != " " or (plain and plain[-1] != " "):
                plain.append(letter)
                places.append(match.start())
    at = "".join(plain).find(wanted)
    if at < 0:
        return None
    last = places[at + len(wanted) - 1]
    end = next((place for place in places[at + len(wanted) :] if place > last), len(text))
    return text[places[at] : end].strip()


#: A character with what combines with it: normalising either apart would give another text.
_CLUSTER = re.compile(r"[^\u0300-\u036f\u3099\u309a][\u0300-\u036f\u3099\u309a]*|[\u0300-\u036f\u3099\u309a]+", re.DOTALL)


def is_in(quote: str, record: Mapping[str, object]) -> bool:
    """Tell whether a record has these words: in one of its columns, or as a model saw it. Case counts.

    Examples
    --------
    >>> is_in("disk  full", {"_address": "…", "text": "ERROR disk full on n1"})
    True
    >>> is_in("disk fully", {"_address": "…", "text": "ERROR disk full on n1"})
    False
    """
    wanted = normalised(quote)
    if not wanted:
        return False
    shown = {name: value for name, value in record.items() if not name.startswith("_") and value is not None}
    # a model sees a row as compact JSON, and quotes it like that
    row = json.dumps(shown, ensure_ascii=False, separators=(",", ":"), default=str)
    return any(wanted in normalised(text) for text in (*filter(_is_text, shown.values()), row))


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str)
