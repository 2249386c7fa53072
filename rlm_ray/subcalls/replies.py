"""Extracts JSON from a model's reply: whole, in a fence, after reasoning, between words, or cut off."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from rlm_ray.models.thoughts import without_thoughts
from rlm_ray.subcalls.schema import AnswerSchema

_FENCE = re.compile(r"^[ \t]*(```|~~~)[ \t]*[\w-]*[ \t]*\n(.*?)^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
_DECODER = json.JSONDecoder(strict=False)  # raw newlines inside strings are common and harmless
_START = re.compile(r"[{\[]")
#: Starts of a value that are tried in one reply; a hostile one could have a million braces.
_MOST_STARTS = 200


def values_in(text: str) -> list[Any]:
    """The JSON values in a reply: the whole of it, else those of its fences, else every object or array between words.

    Examples
    --------
    >>> values_in('Sure!\\n```json\\n{"a": 1}\\n```')
    [{'a': 1}]
    >>> values_in('{"n": 1, "a": "x"}\\n{"n": 2, "a": "y"}')
    [{'n': 1, 'a': 'x'}, {'n': 2, 'a': 'y'}]
    >>> values_in("I cannot say.")
    []
    """
    text = without_thoughts(text).strip()
    try:
        return [_DECODER.decode(text)]
    except (ValueError, RecursionError):
        pass
    fenced = [match[2] for match in _FENCE.finditer(text)]
    found = [value for part in fenced for value in _scan(part)]
    return found or list(_scan(text))


def _scan(text: str) -> Iterator[Any]:
    at, starts = 0, 0
    while starts < _MOST_STARTS:
        match = _START.search(text, at)
        if match is None:
            return
        starts += 1
        try:
            value, at = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            at = match.start() + 1
            continue
        starts = 0
        yield value


def read_answer(text: str, schema: AnswerSchema) -> dict[str, Any]:
    """The one answer in a reply, validated.

    Raises
    ------
    ValueError
        There is none that fits; in words that a model can act on.

    Examples
    --------
    >>> read_answer('{"label": "Spam"}', AnswerSchema.of({"label": ["spam", "ham"]}))
    {'label': 'spam'}
    >>> read_answer("spam", AnswerSchema.of({"label": ["spam", "ham"]}))
    {'label': 'spam'}
    """
    if not schema.typed:
        answer = without_thoughts(text).strip()
        if not answer:
            raise ValueError("The reply is empty.")
        return {"answer": answer}
    reason: ValueError | None = None
    for value in values_in(text):
        for candidate in (value, *_inside(value)):
            try:
                return schema.validate(candidate)
            except ValueError as error:
                reason = reason or error
    if schema.single is not None and (reason is None or schema.labels(schema.single)):
        try:
            return schema.validate({schema.single: without_thoughts(text).strip()})
        except ValueError as error:
            reason = reason or error
    raise reason or ValueError(f"The reply holds no JSON; it must be a JSON object {schema.shape()}.")


def _inside(value: Any) -> list[Any]:
    """An answer that was wrapped once too often: a list of one, or an object under one key."""
    if isinstance(value, list) and len(value) == 1:
        return value
    if isinstance(value, dict) and len(value) == 1:
        return [item for item in value.values() if isinstance(item, dict)]
    return []
