"""Joins several answers to one question: how many to ask for, and the majority, column by column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlm_ray.errors import InputError
from rlm_ray.subcalls.keys import canonical
from rlm_ray.subcalls.schema import AnswerSchema

#: Most answers to one question.
MOST = 99


@dataclass(frozen=True, slots=True)
class Votes:
    """How many answers are asked for: some at once, and some more only where those differ.

    Attributes
    ----------
    first, more : int

    Examples
    --------
    >>> Votes.of(3)
    Votes(first=3, more=0)
    >>> Votes.of("2+1").most
    3
    """

    first: int = 1
    more: int = 0

    @classmethod
    def of(cls, votes: Any) -> Votes:
        """Read what root code writes: a number, or "2+1" for two answers and a third where they differ.

        Raises
        ------
        InputError
            It is neither.
        """
        parts = re.fullmatch(r"([0-9]{1,9})\+([0-9]{1,9})", votes) if isinstance(votes, str) else None
        made = cls(int(parts[1]), int(parts[2])) if parts else cls(votes) if type(votes) is int else None
        if made is None or made.first < 1 or (parts and (made.first < 2 or made.more < 1)):
            raise InputError(
                f"votes = {votes!r:.80}: it is a whole number from 1, or '2+1' for two answers and a third only where they differ."
            )
        if made.most > MOST:
            raise InputError(f"votes = {votes!r:.80} is more than {MOST}.")
        return made

    @property
    def most(self) -> int:
        """How many there are at most."""
        return self.first + self.more


def differ(answers: Sequence[dict[str, Any] | None]) -> bool:
    """Whether answers are not all there and the same.

    Examples
    --------
    >>> differ([{"label": "ham"}, {"label": "ham"}]), differ([{"label": "ham"}, None])
    (False, True)
    """
    return len({None if answer is None else canonical(answer) for answer in answers}) > 1


def majority(answers: Sequence[dict[str, Any] | None], schema: AnswerSchema) -> tuple[dict[str, Any], float]:
    """The value that most answers give, for each column.

    A tie goes to the label that comes first in the schema, and where the column has no labels to the earliest vote, so
    that the result does not depend on which call came back first.

    Parameters
    ----------
    answers : sequence of dict or None
        In the order of the votes; None where a vote has no valid answer.

    Returns
    -------
    answer : dict
    agreed : float
        Share of all votes, those without an answer included, that gave the winning value; the lowest of the columns.

    Examples
    --------
    >>> schema = AnswerSchema.of({"label": ["spam", "ham"]})
    >>> majority([{"label": "ham"}, {"label": "spam"}, {"label": "ham"}], schema)
    ({'label': 'ham'}, 0.6666666666666666)
    >>> majority([{"label": "ham"}, {"label": "spam"}], schema)[0]
    {'label': 'spam'}
    """
    given = [answer for answer in answers if answer is not None]
    if not given:
        raise ValueError("There is no answer to take a majority of.")
    winner: dict[str, Any] = {}
    agreed = 1.0
    for column in schema.columns:
        values = {canonical(answer[column]): answer[column] for answer in reversed(given)}
        counts: dict[str, int] = {}
        for answer in given:
            form = canonical(answer[column])
            counts[form] = counts.get(form, 0) + 1
        order = [canonical(label) for label in schema.labels(column)] or list(counts)
        best = max(counts, key=lambda form: (counts[form], -order.index(form) if form in order else -len(order)))
        winner[column] = values[best]
        agreed = min(agreed, counts[best] / len(answers))
    return winner, agreed
