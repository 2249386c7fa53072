"""Quotes in answers: words that must stand in what the model was shown, and that stand for the record from then on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlm_ray.errors import InputError
from rlm_ray.subcalls.forms import COPIED, QUOTE
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.types.json import JsonObject, Record

_EITHER = ("anyOf", "oneOf", "allOf")


def has_quotes(schema: AnswerSchema) -> bool:
    """Whether an answer holds quotes.

    Examples
    --------
    >>> has_quotes(AnswerSchema.of({"words": "quote"})), has_quotes(AnswerSchema.of({"words": "string"}))
    (True, False)
    """
    return _asks(list(schema.properties.values()))


def checked(answer: JsonObject, schema: AnswerSchema, own_words: Callable[[str], str | None]) -> JsonObject:
    """Return an answer with its quotes in the record's own characters.

    Parameters
    ----------
    own_words : callable
        Gets a quote; returns it as it stands in what was shown, or None where it does not.

    Raises
    ------
    ValueError
        A quote does not stand there; in words that a model can act on.

    Examples
    --------
    >>> schema = AnswerSchema.of({"words": "quote"})
    >>> checked({"words": "disk"}, schema, {"disk": "disk"}.get)
    {'words': 'disk'}
    >>> checked({"words": "disc"}, schema, {"disk": "disk"}.get)
    Traceback (most recent call last):
    ...
    ValueError: "words" holds words that are not in the record. Copy them from it to the letter.
    """

    def own(name: str) -> Callable[[str], str]:
        def found(quote: str) -> str:
            if (words := own_words(quote)) is None:
                raise ValueError(f'"{name}" holds words that are not in the record. Copy them from it to the letter.')
            return words

        return found

    return {name: _each_quote(schema.properties.get(name), value, own(name)) for name, value in answer.items()}


def first_quote(answer: Record, schema: AnswerSchema) -> str | None:
    """Return the first quote of an answer, in the order of the columns.

    Examples
    --------
    >>> first_quote({"why": "x", "words": ["a b", "c"]}, AnswerSchema.of({"why": "string", "words": ["quote"]}))
    'a b'
    """
    found: list[str] = []

    def take(quote: str) -> str:
        found.append(quote)
        return quote

    for name, form in schema.properties.items():
        _each_quote(form, answer.get(name), take)
    return found[0] if found else None


def refuse_quotes(schema: AnswerSchema, what: str) -> None:
    """Refuse quotes where nobody knows what was shown to the one who gives the answer."""
    if has_quotes(schema):
        raise InputError(
            f'The type "{QUOTE}" is for llm_each and llm_map, which check it against what the model was shown; {what} cannot. Use '
            '"string", and cite(record, quote) to have words checked.'
        )


def _asks(form: object) -> bool:
    if isinstance(form, list):
        return any(map(_asks, form))
    return isinstance(form, dict) and (form.get("description") == COPIED or any(map(_asks, form.values())))


def _each_quote(form: Any, value: Any, own: Callable[[str], str]) -> Any:
    """A value in which each quote is what `own` makes of it."""
    if not isinstance(form, dict) or value is None:
        return value
    if form.get("description") == COPIED and isinstance(value, str):
        return own(value) if value.strip() or "null" not in form.get("type", ()) else None
    for other in (other for either in _EITHER for other in form.get(either, ())):
        value = _each_quote(other, value, own)
    if isinstance(value, list):
        return [_each_quote(form.get("items"), item, own) for item in value]
    if isinstance(value, dict):
        known = form.get("properties", {})
        return {name: _each_quote(known.get(name), item, own) for name, item in value.items()}
    return value
