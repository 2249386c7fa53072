"""Turns the schema that a person or a root model wrote into columns, a JSON Schema and a check.

Two ways to write a schema::

    {"label": ["spam", "ham"], "amount": "number", "words": "quote", "tags": ["string"]}
    {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]}

In the short form a list of words is a closed set of labels, `["string"]` (one type's name) is a list of strings, and
everything but a label may be null: a model that finds no amount must be able to say so. A quote (in a JSON Schema: a string of
the format "quote") is words that stand in what the model was shown; see `quotes`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rlm_ray.errors import InputError
from rlm_ray.subcalls.forms import (
    EXAMPLE,
    check_json_schema,
    check_name,
    column_type,
    is_json_schema,
    property_of,
    shape,
    shown,
    strict,
    strict_object,
)

_QUOTES = " \t\r\n\"'`“”‘’«».:;,!*[]()"


@dataclass(frozen=True)
class AnswerSchema:
    """The shape of one answer.

    Attributes
    ----------
    properties : dict
        JSON Schema by column, as endpoints in strict mode want it.
    columns : dict of str to str
        Type by column: string, double, int64, bool, or json (JSON text).
    typed : bool
        False where no schema was given: the answer is one text, the column `answer`.

    Examples
    --------
    >>> schema = AnswerSchema.of({"label": ["spam", "ham"], "amount": "number"})
    >>> schema.columns
    {'label': 'string', 'amount': 'double'}
    >>> schema.validate({"label": " SPAM. ", "amount": "12.5"})
    {'label': 'spam', 'amount': 12.5}
    >>> schema.validate({"label": "egg", "amount": 1})
    Traceback (most recent call last):
    ...
    ValueError: "label" is "egg"; it must be one of "spam", "ham".
    """

    properties: dict[str, dict[str, Any]]
    columns: dict[str, str]
    typed: bool = True
    _short: bool = True
    _optional: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, schema: Mapping[str, Any] | None) -> AnswerSchema:
        """Read a schema in either form; None is one text.

        Raises
        ------
        InputError
            It cannot work; names the key and the value.
        """
        if schema is None:
            return cls({"answer": {"type": "string"}}, {"answer": "string"}, typed=False)
        if not isinstance(schema, Mapping) or not schema:
            raise InputError(f"schema = {shown(schema)}: it must be a mapping of column to type, as {EXAMPLE}.")
        if is_json_schema(schema):
            return cls._of_json_schema(schema)
        properties = {}
        for name, kind in schema.items():
            check_name(name, schema)
            properties[name] = property_of(name, kind)
        return cls(properties, {name: column_type(form) for name, form in properties.items()})

    @classmethod
    def _of_json_schema(cls, schema: Mapping[str, Any]) -> AnswerSchema:
        properties = schema.get("properties")
        if schema.get("type", "object") != "object" or not isinstance(properties, Mapping) or not properties:
            raise InputError(
                f"schema = {shown(schema)}: a JSON Schema of an answer must be an object with properties, one per column. "
                f"Write it so, or in the short form {EXAMPLE}."
            )
        for name in properties:
            check_name(name, properties)
        check_json_schema(schema)
        optional = frozenset(properties) - frozenset(schema.get("required", properties))
        forms = strict(dict(schema))["properties"]
        return cls(forms, {name: column_type(form) for name, form in forms.items()}, _short=False, _optional=optional)

    @property
    def json_schema(self) -> dict[str, Any]:
        """The answer's JSON Schema: every column required, no other allowed."""
        return strict_object(self.properties)

    @property
    def single(self) -> str | None:
        """The only column, if there is only one."""
        return next(iter(self.columns)) if len(self.columns) == 1 else None

    def labels(self, column: str) -> tuple[Any, ...]:
        """The values that a column may have, in order; empty where it is open."""
        return tuple(self.properties[column].get("enum", ()))

    def shape(self) -> str:
        """The shape in a few words, for a prompt.

        Examples
        --------
        >>> AnswerSchema.of({"label": ["spam", "ham"], "amount": "number"}).shape()
        '{"label": "spam" | "ham", "amount": number or null}'
        """
        return shape(self.json_schema)

    def validate(self, value: Any) -> dict[str, Any]:
        """Return the answer with canonical labels and types, every column there.

        Tolerant of case, white space and quotes around a label, of numbers and flags written as text, of a bare value where
        there is one column, and of further keys, which are dropped.

        Raises
        ------
        ValueError
            What is wrong, in words that a model can act on.
        """
        if not isinstance(value, dict):
            if self.single is None or (isinstance(value, list) and self.columns[self.single] != "json"):
                raise ValueError(f"The answer is {shown(value)}; it must be a JSON object {self.shape()}.")
            value = {self.single: value}
        answer = {}
        for name, form in self.properties.items():
            given = value.get(name, _ABSENT)
            if given is _ABSENT:
                given = next((item for key, item in value.items() if str(key).strip().casefold() == name.casefold()), _ABSENT)
            if given is _ABSENT:
                if name not in self._optional:
                    raise ValueError(f'"{name}" is missing; the answer must be {self.shape()}.')
                given = None
            answer[name] = self._value(name, form, given)
        return answer

    def _value(self, name: str, form: dict[str, Any], given: Any) -> Any:
        if "enum" in form:
            if given is None and name in self._optional:
                return None
            return _label(name, form["enum"], given)
        kinds = form.get("type")
        allowed = kinds if isinstance(kinds, list) else [kinds]
        if given is None and ("null" in allowed or name in self._optional):
            return None
        if allowed[0] in ("string", "number", "integer", "boolean"):
            given = _scalar(name, allowed[0], given)
        if not self._short or self.columns[name] == "json":
            problem = self._validators[name](given)
            if problem is not None:
                raise ValueError(f'"{name}" is {shown(given)}: {problem}.')
        return given

    @cached_property
    def _validators(self) -> dict[str, Any]:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import best_match

        def check(validator: Any) -> Any:
            def problem(value: Any) -> str | None:
                error = best_match(validator.iter_errors(value))
                return None if error is None else f"{error.json_path.removeprefix('$')} {error.message:.200}".strip()

            return problem

        return {name: check(Draft202012Validator(form)) for name, form in self.properties.items()}


_ABSENT = object()


_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−", "-") | dict.fromkeys("‘’", "'") | dict.fromkeys("“”", '"') | {"\xad": ""})


def _plain(label: Any) -> str:
    return re.sub(r"\s+", " ", str(label).translate(_DASHES).strip(_QUOTES)).casefold() or str(label).casefold()


def _label(name: str, labels: list[Any], given: Any) -> Any:
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    for label in labels:
        if given == label and type(given) is type(label):
            return label
    if isinstance(given, (str, int, float, bool)):
        wanted = _plain(given)
        meant = [label for label in labels if label is not None and _plain(label) == wanted]
        if len(meant) == 1:
            return meant[0]
    choices = ", ".join(json.dumps(label, ensure_ascii=False) for label in labels)
    raise ValueError(f'"{name}" is {shown(given)}; it must be one of {choices}.')


def _scalar(name: str, kind: str, given: Any) -> Any:
    """`given` as a value of a plain type, where it can only mean one."""
    if kind == "string":
        if isinstance(given, (int, float, bool)):
            return json.dumps(given)
        if isinstance(given, str):
            return given
    elif kind == "boolean":
        if isinstance(given, bool):
            return given
        word = given.strip(_QUOTES).casefold() if isinstance(given, str) else None
        if word in ("true", "yes", "false", "no"):
            return word in ("true", "yes")
    else:
        number = given
        if isinstance(given, str):
            try:
                number = int(given) if re.fullmatch(r"\s*[+-]?\d{1,18}\s*", given) else float(given)
            except ValueError:
                number = None
        if isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number):
            if kind == "number":
                return number
            if float(number).is_integer() and abs(number) < 2**63:
                return int(number)
    article = "an" if kind == "integer" else "a"
    raise ValueError(f'"{name}" is {shown(given)}; it must be {article} {kind}.')
