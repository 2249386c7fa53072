"""Renders records as the text that a model reads. Text of a corpus is hostile: it is joined, never used as a template."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

#: All that some tokenizer or reader takes for the end of a line.
_BREAKS = re.compile("\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")


def clean(text: str) -> str:
    """Text that can be sent: what UTF-8 cannot hold (a lone surrogate) is replaced.

    Examples
    --------
    >>> clean("a\\ud800b")
    'a?b'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def render(record: Mapping[str, Any]) -> str:
    """One record as text: a line as it is, a document under its path, a row as compact JSON. Keys with `_` and nulls are left out.

    Examples
    --------
    >>> render({"text": "disk full", "_address": "…"})
    'disk full'
    >>> render({"path": "a.txt", "text": "One.\\nTwo."})
    'a.txt\\n\\nOne.\\nTwo.'
    >>> render({"host": "n1", "level": "ERROR", "user": None})
    '{"host":"n1","level":"ERROR"}'
    """
    # a corpus of united schemas has many columns that most records lack
    shown = {key: value for key, value in record.items() if not key.startswith("_") and value is not None}
    if isinstance(shown.get("text"), str):
        if len(shown) == 1:
            return clean(shown["text"])
        if len(shown) == 2 and isinstance(shown.get("path"), str):
            return clean(f"{one_line(shown['path'])}\n\n{shown['text']}")
    return clean(json.dumps(shown, ensure_ascii=False, separators=(",", ":"), default=str))


def render_all(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Each record as text; documents are kept apart by `join`."""
    return [render(record) for record in records]


def join(texts: Iterable[str]) -> str:
    """Texts of records as one: lines under one another, longer texts with an empty line between.

    Examples
    --------
    >>> join(["a", "b"]), join(["a\\nb", "c"])
    ('a\\nb', 'a\\nb\\n\\nc')
    """
    texts = list(texts)
    return ("\n\n" if any("\n" in text for text in texts) else "\n").join(texts)


def cut(text: str, most: int) -> str:
    """The first `most` characters, and how many are cut.

    Examples
    --------
    >>> cut("abcdef", 4)
    'abcd… [2 characters cut]'
    """
    return text if len(text) <= most else f"{text[:most]}… [{len(text) - most} characters cut]"


def one_line(text: str) -> str:
    """The text with every line break as a space."""
    return _BREAKS.sub(" ", text)


def indented(text: str) -> str:
    """The text with every line but the first set in, so that no line of it can pass for a numbered record.

    Examples
    --------
    >>> indented("a\\n[2] b")
    'a\\n    [2] b'
    """
    return _BREAKS.sub("\n    ", text)
