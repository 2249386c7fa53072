"""How an answer is scored, from 0 to 1: the ways that OOLONG, OOLONG-Pairs and the others use. Pure.

An answer of another shape than the true one scores 0; it never raises.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from rlm_ray.types.json import JsonObject


def exact(answer: Any, gold: Any) -> float:
    """1 where both are equal; texts without regard to case and to space around them.

    Examples
    --------
    >>> exact(" Entity ", "entity"), exact(["5653497"], "5653497"), exact("7", 7)
    (1.0, 1.0, 1.0)
    """
    if isinstance(answer, list) and len(answer) == 1 and not isinstance(gold, list):
        answer = answer[0]
    return float(answer == gold or (_scalar(answer) and _scalar(gold) and _plain(answer) == _plain(gold)))


def near(answer: Any, gold: Any) -> float:
    """OOLONG's score of a number: 0.75 to the power of how far it is off.

    Examples
    --------
    >>> near(12, 12), near("11", 12), near("many", 12)
    (1.0, 0.75, 0.0)
    """
    try:
        off = abs(float(str(answer).replace(",", "").strip()) - float(gold))
    except (TypeError, ValueError):
        return 0.0
    return 0.75**off if off < 1e6 else 0.0


def f1(answer: Any, gold: Iterable[Any]) -> float:
    """Harmonic mean of precision and recall of a set; of pairs, in either order.

    Examples
    --------
    >>> f1([[1, 2], [4, 3]], [[2, 1], [3, 4]]), f1([], []), f1(["a"], ["a", "b"])
    (1.0, 1.0, 0.6666666666666666)
    """
    true = set(map(_member, gold))
    if isinstance(answer, str | bytes | Mapping) or not isinstance(answer, Iterable):
        return 0.0
    said = set(map(_member, answer))
    if not said and not true:
        return 1.0
    return 2 * len(said & true) / (len(said) + len(true))


def keys(answer: Any, gold: JsonObject) -> float:
    """Share of a histogram's keys whose value is right.

    Examples
    --------
    >>> keys({"a": 1, "b": 3}, {"a": 1, "b": 2})
    0.5
    """
    if not isinstance(answer, Mapping) or not gold:
        return float(isinstance(answer, Mapping) and not gold and not answer)
    names = {*map(str, gold), *(str(name) for name in answer if answer[name])}
    said, true = ({str(name): value for name, value in of.items()} for of in (answer, gold))
    return sum(said.get(name, 0) == true.get(name, 0) for name in names) / len(names)


def near_keys(answer: Any, gold: JsonObject) -> float:
    """Mean over a histogram's keys of `near`.

    Examples
    --------
    >>> near_keys({"a": 1, "b": 3}, {"a": 1, "b": 2})
    0.875
    """
    if not isinstance(answer, Mapping) or not gold:
        return 0.0
    return sum(near(answer.get(name, 0), value) for name, value in gold.items()) / len(gold)


#: By the name that a set of questions gives.
SCORES: dict[str, Callable[[Any, Any], float]] = {
    "exact": exact,
    "0.75**|d|": near,
    "near": near,
    "f1": f1,
    "per-key exact": keys,
    "keys": keys,
    "per-key 0.75**|d|": near_keys,
}


def _scalar(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _plain(value: Any) -> str:
    return " ".join(str(value).lower().split()).strip(" .'\"")


def _member(value: Any) -> Hashable:
    if isinstance(value, list | tuple):
        return tuple(sorted(map(str, value)))
    return str(value)
