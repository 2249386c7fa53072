"""OOLONG's counting tasks over trec_coarse windows, in the official words and scoring."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rlm_ray.evals.cases import Case, Reader
from rlm_ray.evals.scoring import exact, near
from rlm_ray.evals.windows import LABELS, Window, windows

_FORM = "Give your final answer in the form"
MOST = ("In the above data, which of the labels is the {which} common? {form} 'Label: answer' where answer is one of the labels: "
        "{labels}.")  # fmt: skip
COUNT = "In the above data, how many data points should be classified as label '{label}'? {form} 'Answer: number'."
THAN = ("In the above data, is label '{one}' more common, less common, or the same frequency as label '{other}'? {form} "
        "'Answer: {one} is [X] {other}', where [X] is 'more common than', 'less common than', or 'same frequency as'.")  # fmt: skip
#: What a question asks, by its words.
_ASKS: dict[str, re.Pattern[str]] = {
    "most": re.compile(r"which of the labels is the (?P<one>most|least|second most) common"),
    "count": re.compile(r"how many data points should be classified as label '(?P<one>[^']+)'"),
    "than": re.compile(r"is label '(?P<one>[^']+)' more common, less common, or the same frequency as label '(?P<other>[^']+)'"),
}

#: The tail of each program: from `labels`, a dict of counts, to the answer.
TAIL = """
def answer(counts):
    order = sorted(counts, key=lambda label: (-counts[label], label))
    if KIND == "count":
        return counts.get(ONE, 0)
    if KIND == "than":
        a, b = counts.get(ONE, 0), counts.get(OTHER, 0)
        return "more common than" if a > b else "less common than" if a < b else "same frequency as"
    return {"most": order[0], "least": order[-1], "second most": order[1]}[ONE]
Final = answer({label: labels.get(label, 0) for label in LABELS})
"""
PROGRAM = r"""
questions = context.grep(r"^Date: .* \|\| Instance: ")
print(context.count(), questions.count(), questions.head(1))
labelled = llm_each("What kind of answer does the question after 'Instance:' ask for?", questions, schema={"label": LABELS}, votes=VOTES)
print(labelled.failed.count())
labels = dict(labelled.ok.count_by("label"))
"""  # noqa: E501 - a program as data
#: What a search of one word for each label gives.
SEARCH = r"""
WORDS = {"abbreviation": "stand for", "human being": "Who ", "location": "Where ", "numeric value": "How many",
         "description and abstract concept": "Why ", "entity": "What "}
labels = {label: context.grep("Instance: .*" + word).count() for label, word in WORDS.items()}
"""
#: The best rules that one thinks of without having read: the first words decide, then the noun behind them.
CODE = r"""
import re
RULES = [
    ("abbreviation", r"stand for|abbreviation|acronym|full form"),
    ("numeric value", r"^(How (many|much|long|far|old|tall|fast|often)|When)\b|^What (year|date|day|is the (population|price|number|distance))\b"),
    ("human being", r"^Who\b|^(What|Which|Name the|Name a)\b.{0,20}\b(president|actor|actress|author|singer|king|queen|writer|man|woman|person)\b"),
    ("location", r"^Where\b|^(What|Which|Name the|Name a)\b.{0,20}\b(city|country|state|river|mountain|island|capital|continent)\b"),
    ("description and abstract concept", r"^(Why|How)\b|^What (is|are|does .* mean|causes?)\b|meant by|origin of|difference between"),
    ("entity", r""),
]
def label(record):
    text = record["text"].split("Instance: ", 1)[1]
    return {"label": next(label for label, pattern in RULES if re.search(pattern, text))}
labels = dict(context.grep(r"^Date: .* \|\| Instance: ").map(label).count_by("label"))
"""  # noqa: E501 - a program as data


def cases(sizes: Sequence[int], count: int, seed: int, data: str | None) -> Iterator[Case]:
    """Yield the questions over each window; of official windows those that came with them."""
    for window in windows(sizes, count, seed, data):
        if window.asked:
            for row in window.asked:
                yield _case(window, f"{window.name}-{row['id']}", row["question"], row["answer"], row["answer_type"])
            continue
        for number, question in enumerate(_questions(window)):
            yield _case(window, f"{window.name}-{number}", question)


def _questions(window: Window) -> Iterator[str]:
    """As many of each task as a window has in the data set, about."""
    counts = Counter(window.labels.values())
    known = sorted(set(LABELS) | set(counts))
    order = sorted(known, key=lambda label: (-counts[label], label))
    names = ", ".join(known)
    if counts[order[0]] > counts[order[1]]:  # a question has one true answer
        yield MOST.format(which="most", form=_FORM, labels=names)
    if counts[order[-1]] < counts[order[-2]]:
        yield MOST.format(which="least", form=_FORM, labels=names)
    yield from (COUNT.format(label=label, form=_FORM) for label in known)
    yield from (THAN.format(one=one, other=other, form=_FORM) for one, other in zip(known[::2], known[1::2], strict=False))


def _case(window: Window, name: str, question: str, answer: Any = None, kind_of_answer: str = "") -> Case:
    known = sorted(set(LABELS) | set(window.labels.values()))
    found = next(((kind, match) for kind, pattern in _ASKS.items() if (match := pattern.search(question))), None)
    score = near if (kind_of_answer or (found and found[0] == "count" and "NUMERIC")) == "NUMERIC" else exact
    if found is None:  # of the official data set: users and dates; for a root model
        return Case(f"oolong-{name}", question, answer, lenient(score), {"window.txt": window.text})
    kind, match = found
    one, other = match["one"], match.groupdict().get("other")

    def whole(reader: Reader, records: Sequence[str]) -> Any:
        counts = Counter(reader(line) for line in records)
        order = sorted(known, key=lambda label: (-counts[label], label))
        if kind == "count":
            return counts[one]
        if kind == "than":
            a, b = counts[one], counts[str(other)]
            return "more common than" if a > b else "less common than" if a < b else "same frequency as"
        return {"most": order[0], "least": order[-1], "second most": order[1]}[one]

    head = f"KIND, ONE, OTHER = {kind!r}, {one!r}, {other!r}\nLABELS = {known!r}\n"
    return Case(
        id=f"oolong-{name}",
        question=question,
        files={"window.txt": window.text},
        gold=whole(window.labels.__getitem__, window.lines) if answer is None else answer,
        score=lenient(score),
        program=[head + PROGRAM, TAIL],
        keyword=[head + SEARCH, TAIL],
        code=[head + CODE, TAIL],
        constant={"count": len(window.lines) // len(known), "than": "more common than"}.get(kind, known[0]),
        records=window.lines,
        truth=window.labels.__getitem__,
        labels=tuple(known),
        whole=whole,
    )


def lenient(score: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
    """Return a score that reads an answer as the official one does: behind the last colon, and a comparison's words alone.

    Examples
    --------
    >>> lenient(exact)("Label: entity", "entity"), lenient(exact)("Answer: a is more common than b", "more common than")
    (1.0, 1.0)
    """

    def scored(answer: Any, gold: Any) -> float:
        if isinstance(answer, str):
            words = re.search(r"more common than|less common than|same frequency as", answer)
            answer = words[0] if words else answer.rpartition(":")[2].strip()
        return score(answer, gold)

    return scored
