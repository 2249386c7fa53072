"""Ready leaves, and the way to make one that answers record by record, whatever form a call has.

A *reader* is a function of one record's text. `each(reader)` makes a leaf of it: the leaf finds the records in a prompt
of `llm_each`, or the one part in a prompt of `llm_query` and `llm_map`, and replies in the form that was asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rlm_ray.errors import InputError
from rlm_ray.testing.scripts import Leaf
from rlm_ray.types.json import JsonObject, JsonSchema

Reader = Callable[[str], Any]

_DATA = re.compile(r"^----- data (?P<mark>[0-9a-f]{10}) -----\n(?P<data>.*?)\n----- end (?P=mark) -----$", re.DOTALL | re.MULTILINE)
_PACK = re.compile(r'"answers": \[\{"(?P<key>\w+)": its number, (?P<words>.*?)\}?, …\]\}')
_RECORD = re.compile(r"^\[(\d+)\] (.*(?:\n    .*)*)$", re.MULTILINE)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(?:: )?|[{}\[\]]')


@dataclass(frozen=True)
class Asked:
    """What a leaf's prompt asks.

    Attributes
    ----------
    instruction : str
        Everything in front of the data.
    texts : dict of int to str
        Records by number; the number 0 is the one part of a prompt that is not numbered.
    columns : dict of str to list
        Columns of a typed answer; the labels of those that have any. Empty where the answer is a plain text.
    key : str or None
        Key of a record's number in the reply; None where the prompt is not numbered.
    """

    instruction: str
    texts: dict[int, str]
    columns: dict[str, list[Any]]
    key: str | None

    def reply(self, answers: Mapping[int, Any]) -> str:
        """Return the reply that gives these answers, by number: a mapping of columns, or the value of the only column."""
        if self.key is not None:
            rows = [{self.key: number, **self._row(answer)} for number, answer in answers.items()]
            return json.dumps({"answers": rows}, ensure_ascii=False)
        answer = answers[0]
        if self.columns:
            return json.dumps(self._row(answer), ensure_ascii=False)
        return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)

    def _row(self, answer: Any) -> JsonObject:
        if isinstance(answer, Mapping):
            return dict(answer)
        if len(self.columns) > 1:
            raise InputError(
                f"A reader returned {answer!r:.80} for an answer with columns {list(self.columns)}. Return a dict of them."
            )
        return {next(iter(self.columns), "answer"): answer}


def asked(prompt: str, schema: JsonSchema | None = None) -> Asked:
    """Take a leaf's prompt apart.

    Parameters
    ----------
    prompt : str
        As a leaf gets it.
    schema : mapping, optional
        The JSON Schema that came with it. Without one the columns are read from the prompt's words.

    Examples
    --------
    >>> asked("Is it good?").texts
    {0: 'Is it good?'}
    """
    blocks = list(_DATA.finditer(prompt))
    if not blocks:
        return Asked(prompt, {0: prompt}, _columns(prompt, schema, None), None)
    block = blocks[-1]
    instruction, data = prompt[: block.start()], block["data"]
    pack = _PACK.search(instruction)
    if pack is None:
        return Asked(instruction, {0: data}, _columns(instruction, schema, None), None)
    texts = {int(number): text.replace("\n    ", "\n") for number, text in _RECORD.findall(data)}
    return Asked(instruction, texts, _columns(pack["words"], schema, pack["key"]), pack["key"])


def _columns(words: str, schema: JsonSchema | None, key: str | None) -> dict[str, list[Any]]:
    if schema is not None:
        properties = schema.get("properties", {})
        if key is not None:
            properties = properties["answers"]["items"]["properties"]
        return {name: list(form.get("enum", ())) for name, form in properties.items() if name != key}
    if key is None:
        _, said, words = words.partition("Reply with one JSON object and nothing else: {")
        words = words if said else ""
    fields: dict[str, list[Any]] = {}
    name, depth = None, 0
    for token in _TOKEN.findall(words.split("\n")[0]):
        depth += (token in "{[") - (token in "}]")
        if depth < 0:
            break
        if depth == 0 and token.endswith('": '):
            name = json.loads(token[:-2])
            fields[name] = []
        elif depth == 0 and name is not None and token.startswith('"'):
            fields[name].append(json.loads(token))
    return fields


def each(reader: Reader) -> Leaf:
    """Make a leaf of a reader: `reader(text)` returns a value for the only column, or a dict of columns.

    Examples
    --------
    >>> leaf = each(lambda text: "spam" if "win" in text else "ham")
    >>> leaf("Spam?", None)
    'ham'
    """
    return partial(_answer, reader)


def _answer(reader: Reader, prompt: str, schema: JsonSchema | None = None) -> str:
    question = asked(prompt, schema)
    return question.reply({number: reader(text) for number, text in question.texts.items()})


def from_gold(mapping: JsonObject) -> Leaf:
    """Make a leaf that knows the answers, by a record's text.

    A record fits a key that is its whole text, the value of one of its columns, or, the longest first, a part of it.
    A record that fits none is an error that the test sees.

    Examples
    --------
    >>> from_gold({"disk full": "bad", "started": "good"})("disk full", None)
    'bad'
    """
    return each(_Gold(mapping))


class _Gold:
    def __init__(self, mapping: JsonObject) -> None:
        self._mapping = dict(mapping)
        self._longest_first = sorted(self._mapping, key=len, reverse=True)

    def __call__(self, text: str) -> Any:
        for candidate in (text, *_values(text)):
            if candidate in self._mapping:
                return self._mapping[candidate]
        for key in self._longest_first:
            if key in text:
                return self._mapping[key]
        raise InputError(f"There is no gold answer for {text!r:.200}. Add it to the mapping.")


def _values(text: str) -> list[str]:
    try:
        row = json.loads(text) if text.startswith("{") else None
    except ValueError:
        return []
    return [value for value in row.values() if isinstance(value, str)] if isinstance(row, dict) else []


def noisy(leaf: Leaf, accuracy: float, seed: int = 0, labels: Sequence[Any] = ()) -> Leaf:
    """Make a leaf that is right in this share of its answers and wrong in the others.

    Which records it gets wrong depends on the seed and on their text alone, so that asking again, in another pack, gives
    the same answer, as a model at temperature 0 would.

    Parameters
    ----------
    leaf : callable
        Made by `each` or `from_gold`, or any that replies in the form that was asked for.
    accuracy : float
        0 to 1.
    labels : sequence, optional
        What a wrong answer is drawn from, where the schema has no labels. Else a number is one too high, a text gets a
        mark.

    Examples
    --------
    >>> noisy(from_gold({"a": 1}), accuracy=0.0)("a", None)
    '2'
    """
    if not 0 <= accuracy <= 1:
        raise InputError(f"accuracy = {accuracy!r}: it lies between 0 and 1.")
    return partial(_noisy, leaf, accuracy, seed, tuple(labels))


def _noisy(leaf: Leaf, accuracy: float, seed: int, labels: tuple[Any, ...], prompt: str, schema: JsonSchema | None = None) -> str:
    text = leaf(prompt, schema)
    if not isinstance(text, str):
        raise InputError("noisy takes a leaf that is a plain function, not an async one.")
    question = asked(prompt, schema)

    def perturbed(number: int, answer: JsonObject) -> JsonObject:
        draw = hashlib.blake2b(f"{seed} {question.texts.get(number)}".encode("utf-8", "replace"), digest_size=8).digest()
        at = int.from_bytes(draw, "big") / 2**64
        if at < accuracy:
            return answer
        return {name: _wrong(value, question.columns.get(name) or labels, at) for name, value in answer.items()}

    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if question.key is not None:
        rows = value["answers"]
        bare = [(row[question.key], {name: item for name, item in row.items() if name != question.key}) for row in rows]
        return question.reply({number: perturbed(number, answer) for number, answer in bare})
    if question.columns:
        return question.reply({0: perturbed(0, value)})
    return question.reply({0: perturbed(0, {"answer": value})["answer"]})


def _wrong(value: Any, labels: Sequence[Any], at: float) -> Any:
    others = [label for label in labels if label != value]
    if others:
        return others[int(at * 1e6) % len(others)]
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return f"not {value}"
