"""The demo's readers: who decides what a log line says, from a handful of examples and nothing else.

The prompt of the root program brings the examples, one per line, `- text => label`, in two lists: the first teaches, the
second is for finding one's own bias. Both readers see only these, the text and the labels.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rlm_ray.demo.model import Scorer
from rlm_ray.errors import InputError
from rlm_ray.testing import asked
from rlm_ray.types.json import JsonSchema

#: The line of a prompt between the examples that teach and those that check.
CHECK = "Check yourself on these:"

#: What a piece counts that no example of a label has.
_UNSEEN = 0.3
_EXAMPLE = re.compile(r"^- (.+) => (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Lesson:
    """What a prompt teaches about one column.

    Attributes
    ----------
    column : str
    labels : tuple of str
    examples, checks : tuple of (str, str)
        Text and label.
    """

    column: str
    labels: tuple[str, ...]
    examples: tuple[tuple[str, str], ...]
    checks: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, instruction: str, columns: dict[str, list[Any]]) -> Lesson:
        """Read the lesson from a prompt's instruction and the labels that are asked for.

        Examples
        --------
        >>> text = "Good or bad?\\n- all well => good\\n- it broke => bad\\nCheck yourself on these:\\n- it works => good"
        >>> lesson = Lesson.of(text, {"outcome": ["good", "bad"]})
        >>> len(lesson.examples), lesson.checks
        (2, (('it works', 'good'),))
        """
        if len(columns) != 1 or not (labels := next(iter(columns.values()))):
            raise InputError(
                f"The demo's reader answers one column of labels, not {list(columns)}. Give schema={{'name': [labels]}}."
            )
        shown, _, checked = instruction.partition(CHECK)
        examples, checks = (
            tuple((text, label) for text, label in _EXAMPLE.findall(part) if label in labels) for part in (shown, checked)
        )
        if {label for _, label in examples} != set(labels):
            raise InputError("The demo's reader learns from examples: give at least one line '- text => label' for every label.")
        return cls(next(iter(columns)), tuple(labels), examples, checks)


class Reader(Protocol):
    """Labels texts after a lesson."""

    def read(self, lesson: Lesson, texts: Sequence[str]) -> list[str]:
        """Return one of the lesson's labels per text."""


class FewShot:
    """Asks a language model to go on after the examples, and lets it choose among the labels only.

    What the model says of the checks shows how much it favours each label anyway; that is taken off.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._bias: dict[Lesson, list[float]] = {}

    def read(self, lesson: Lesson, texts: Sequence[str]) -> list[str]:
        """Return one label per text; one prompt per text."""
        if lesson not in self._bias:
            self._bias[lesson] = self._favour(lesson)
        bias = self._bias[lesson]
        found = []
        for text in texts:
            scores = self._scores(lesson, text)
            found.append(max(zip(lesson.labels, scores, bias, strict=True), key=lambda item: item[1] - item[2])[0])
        return found

    def _favour(self, lesson: Lesson) -> list[float]:
        by_label: dict[str, list[list[float]]] = {}
        for text, label in lesson.checks:
            by_label.setdefault(label, []).append(self._scores(lesson, text))
        if len(by_label) < len(lesson.labels):
            return [0.0] * len(lesson.labels)
        means = [[math.fsum(column) / len(rows) for column in zip(*rows, strict=True)] for rows in by_label.values()]
        return [math.fsum(column) / len(means) for column in zip(*means, strict=True)]

    def _scores(self, lesson: Lesson, text: str) -> list[float]:
        cue = lesson.column.replace("_", " ").capitalize()
        shown = "".join(f"{example}\n{cue}: {label}\n\n" for example, label in lesson.examples)
        return self._scorer.scores(f"{shown}{_one_line(text)}\n{cue}:", [f" {label}" for label in lesson.labels])


class Words:
    """Needs no model: weighs the pieces of words that each label's examples use. A weak reader, and said to be one."""

    def read(self, lesson: Lesson, texts: Sequence[str]) -> list[str]:
        """Return one label per text."""
        seen: dict[str, list[set[str]]] = {label: [] for label in lesson.labels}
        for text, label in (*lesson.examples, *lesson.checks):
            seen[label].append(_pieces(text))
        known = set().union(*(pieces for examples in seen.values() for pieces in examples))

        def weight(label: str, pieces: set[str]) -> float:
            examples = seen[label]
            shares = ((sum(piece in example for example in examples) + _UNSEEN) / (len(examples) + 2 * _UNSEEN) for piece in pieces)
            return math.fsum(map(math.log, shares))

        return [max(lesson.labels, key=lambda label: weight(label, _pieces(text) & known)) for text in texts]


def _pieces(text: str) -> set[str]:
    """Three letters in a row, begin and end of a word among them."""
    words = (f"^{word}$" for word in re.findall(r"[a-z]+", text.lower()))
    return {word[at : at + 3] for word in words for at in range(len(word) - 2)}


def _one_line(text: str) -> str:
    return " ".join(text.split())


class Leaf:
    """A reader behind a model server: takes prompts apart, asks the reader, replies in the form that was asked for."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._one_at_a_time = threading.Lock()
        self.texts_read = 0

    async def __call__(self, prompt: str, schema: JsonSchema | None) -> str:
        """Answer one prompt; the reader works on a thread."""
        return await asyncio.to_thread(self._answer, prompt, schema)

    def _answer(self, prompt: str, schema: JsonSchema | None) -> str:
        question = asked(prompt, schema)
        lesson = Lesson.of(question.instruction, question.columns)
        texts = {number: _plain(text) for number, text in question.texts.items()}
        with self._one_at_a_time:
            labels = self._reader.read(lesson, list(texts.values()))
            self.texts_read += len(texts)
        return question.reply(dict(zip(texts, labels, strict=True)))


def _plain(text: str) -> str:
    """The text of a record that was rendered as an object with one text."""
    try:
        row = json.loads(text) if text.startswith("{") else None
    except ValueError:
        return text
    values = [value for value in row.values() if isinstance(value, str)] if isinstance(row, dict) else []
    return values[0] if len(values) == 1 else text
