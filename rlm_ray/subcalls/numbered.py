"""Puts many records into one call: numbers them in the prompt, matches answers by number, and lists those to ask again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlm_ray.models.thoughts import without_thoughts
from rlm_ray.subcalls.forms import strict_object
from rlm_ray.subcalls.keys import canonical
from rlm_ray.subcalls.prompts import Messages
from rlm_ray.subcalls.prompts import numbered as numbered_prompt
from rlm_ray.subcalls.render import indented
from rlm_ray.subcalls.replies import values_in
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.types.json import JsonObject

_LINE = re.compile(r"^\s*[\[(#]*\s*(\d{1,6})\s*[\])]*\s*[:.)\-–—=|]*\s*(\S.*?)\s*$")

#: Keys that may hold a record's number, in the order of choice.
_KEYS = ("n", "record", "record_number", "number_of_the_record")
#: Levels of a reply that are looked into for answers.
_DEEPEST = 5


def number_key(schema: AnswerSchema, texts: Sequence[str] = ()) -> str:
    """The key of an answer that holds the record's number: the first that is no column and no word of the records.

    A model that finds the key in a record copies the record's value in place of the number.

    Examples
    --------
    >>> schema = AnswerSchema.of({"label": ["spam", "ham"]})
    >>> number_key(schema, ["disk full"]), number_key(schema, ['{"n":7,"text":"disk full"}'])
    ('n', 'record')
    """
    for name in _KEYS:
        word = re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", re.IGNORECASE)
        if name not in schema.columns and not any(map(word.search, texts)):
            return name
    return next(
        name
        for name in map("record_{}".format, range(10**6))
        if name not in schema.columns and not any(name in text for text in texts)
    )


def pack_schema(schema: AnswerSchema, count: int, key: str = "n") -> dict[str, Any]:
    """JSON Schema of a reply about a pack of `count` records: one answer for each, no more and no less."""
    answer = strict_object({key: {"type": "integer"}, **schema.properties})
    return strict_object({"answers": {"type": "array", "items": answer, "minItems": count, "maxItems": count}})


def pack_line(number: int, text: str) -> str:
    """One record with its number; its further lines are set in, so that none can pass for another record."""
    return f"[{number}] {indented(text)}"


def pack_messages(prompt: str, texts: Sequence[str], schema: AnswerSchema, notes: tuple[str, ...] = (), key: str = "n") -> Messages:
    """The question about a pack of rendered records, numbered from 1."""
    lines = "\n".join(pack_line(number, text) for number, text in enumerate(texts, 1))
    return numbered_prompt(prompt, lines, key, schema, notes)


@dataclass(slots=True)
class PackReply:
    """What a reply says about a pack of records, by number.

    Attributes
    ----------
    answers : dict of int to dict
        Valid answers.
    invalid : dict of int to str
        Why an answer is not valid; a number with two different answers is here too.
    missing : list of int
        Numbers without any answer.
    unreadable : bool
        The reply has no form at all: neither JSON nor numbered lines.
    suspect : str
        Why no answer of the reply is taken: it names a record that is not in the pack, so its other numbers may be shifted.
    """

    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    invalid: dict[int, str] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)
    unreadable: bool = False
    suspect: str = ""


def read_pack(
    text: str,
    count: int,
    schema: AnswerSchema,
    key: str = "n",
    checked: Callable[[int, JsonObject], JsonObject] = lambda number, answer: answer,
) -> PackReply:
    """Read a reply about `count` records: JSON of any likely form, else lines `number: value` where there is one column.

    Parameters
    ----------
    key : str
        The answers' key that holds the number.
    checked : callable
        Gets the number and the answer of a record; returns the answer, or raises ValueError where it is not one about that record.

    Examples
    --------
    >>> schema = AnswerSchema.of({"label": ["spam", "ham"]})
    >>> reply = read_pack('{"answers": [{"n": 1, "label": "spam"}, {"n": 3, "label": "egg"}]}', 3, schema)
    >>> reply.answers, reply.missing, list(reply.invalid)
    ({1: {'label': 'spam'}}, [2], [3])
    >>> read_pack("1: spam\\n2: ham", 2, schema).answers
    {1: {'label': 'spam'}, 2: {'label': 'ham'}}
    """
    reply = PackReply()
    values = values_in(text)
    said = list(_numbered(values, key, count, schema))
    if not said and schema.single is not None:
        said = [(number, value) for number, value in _lines(without_thoughts(text), schema) if 1 <= number <= count]
    outside = next((number for number, _ in said if not 1 <= number <= count), None)
    if outside is not None:
        reply.suspect = f"It named record {outside}, but the records are numbered 1 to {count}: use the numbers in square brackets."
        reply.missing = list(range(1, count + 1))
        return reply
    first: dict[int, str] = {}
    for number, value in said:
        try:
            answer = checked(number, schema.validate(value))
        except ValueError as error:
            if number not in first:
                reply.invalid.setdefault(number, str(error))
            continue
        form = canonical(answer)
        if first.setdefault(number, form) != form:
            reply.answers.pop(number, None)
            reply.invalid[number] = f"Record {number} was answered twice, differently."
        elif number not in reply.invalid:
            reply.answers[number] = answer
    reply.unreadable = not values and not said
    reply.missing = [n for n in range(1, count + 1) if n not in reply.answers and n not in reply.invalid]
    return reply


def _numbered(values: list[Any], key: str, count: int, schema: AnswerSchema, depth: int = 0) -> Iterator[tuple[int, Any]]:
    """(number, answer) of every answer that names its record."""
    if depth > _DEEPEST:
        return
    for value in values:
        if isinstance(value, list):
            yield from _numbered(value, key, count, schema, depth + 1)
        elif isinstance(value, dict):
            number = _number(value.get(key))
            if number is not None:
                yield number, {name: item for name, item in value.items() if name != key}
            elif value and all(_number(name) is not None for name in value):  # {"1": "spam", "2": …}
                for name, item in value.items():
                    yield int(name), item if isinstance(item, dict) else {schema.single or "": item}
            elif count == 1 and set(value) & set(schema.columns):
                yield 1, value
            else:  # {"answers": […]}, under whatever name
                inner = [item for item in value.values() if isinstance(item, (list, dict))]
                yield from _numbered(inner, key, count, schema, depth + 1)


def _lines(text: str, schema: AnswerSchema) -> Iterator[tuple[int, Any]]:
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None:
            yield int(match[1]), {schema.single or "": match[2]}


def _number(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, str, float)):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e9 else None
    if isinstance(value, int):
        return value
    text = value.strip(" []().#:")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
