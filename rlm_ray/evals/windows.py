"""OOLONG's trec_coarse windows: dated questions of users, each of one of six kinds that the window does not tell.

From a seed; from files that carry the labels (`*.labelled.txt`); or the official data set's Parquet files.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import functools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from rlm_ray.errors import InputError
from rlm_ray.types.json import JsonObject

LABELS = ("abbreviation", "description and abstract concept", "entity", "human being", "location", "numeric value")

#: Questions of each kind: their first words alone do not tell the kind.
_FORMS: dict[str, tuple[str, ...]] = {
    "abbreviation": ("What does {a} stand for ?", "What is the full form of {a} ?", "How is the term {a} spelled out ?"),
    "description and abstract concept": (
        "What causes {t} ?",
        "Why do people collect {t} ?",
        "How do you explain {t} to a child ?",
        "What is meant by {t} ?",
    ),
    "entity": (
        "What animal is known for its {t} ?",
        "What instrument plays the {t} ?",
        "Name a dish that is made with {t} .",
        "Which language has the most words for {t} ?",
    ),
    "human being": ("Who first wrote about {t} ?", "What painter was fond of {t} ?", "Name the president who banned {t} .",
                    "Which scientist explained {t} ?"),
    "location": ("Where were {t} first found ?", "What city is famous for {t} ?", "Which country exports the most {t} ?",
                 "Name the river where {t} are washed ."),
    "numeric value": ("How many {t} are there in the world ?", "When were {t} invented ?", "What year brought {t} to Europe ?",
                      "What is the price of {t} ?"),
}  # fmt: skip
_THINGS = "bells", "candles", "maps", "feathers", "pearls", "kites", "lamps", "mirrors", "roses", "drums", "shells", "masks"
_PLACES = "Aldmoor", "Brinley", "Corvane", "Dunmere", "Eastwick", "Farrow", "Glenhaven", "Harsk", "Ivoria", "Jorvale"
_LINE = re.compile(r"^Date: (?P<date>\w+ \d+, \d+) \|\| User: (?P<user>\d+) \|\| Instance: (?P<text>.*)$")


class OfficialQuestion(TypedDict):
    """A question of the official data set."""

    id: str
    question: str
    answer: Any
    answer_type: str


@dataclass(frozen=True)
class Window:
    """One context window.

    Attributes
    ----------
    name, text : str
        The text is the prompt's, without labels.
    lines : tuple of str
        Of the text, those that are instances.
    labels : dict of str to str
        By line.
    asked : tuple of dict
        Questions that came with it, of the official data set: `id`, `question`, `answer`, `answer_type`.
    """

    name: str
    text: str
    lines: tuple[str, ...]
    labels: dict[str, str]
    asked: tuple[OfficialQuestion, ...] = ()


def windows(sizes: Sequence[int], count: int, seed: int, data: str | None) -> Iterator[Window]:
    """Make windows of about so many tokens, or read those of a folder or file.

    Raises
    ------
    InputError
        The folder has no windows.
    """
    if data is None:
        for size in sizes:
            for number in range(count):
                yield _made(f"{size}-{seed}-{number}", size)
        return
    path = Path(data)
    labelled = sorted(path.glob("*.labelled.txt"))
    official = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if labelled:
        yield from (_read(file.name.removesuffix(".labelled.txt"), file.read_text("utf-8")) for file in labelled)
    elif official:
        yield from _official(official, sizes, count)
    else:
        raise InputError(f"data: {data} has no *.labelled.txt and no Parquet files. Name the folder of OOLONG windows.")


@functools.lru_cache(maxsize=20_000)
def date_of(line: str) -> datetime.date:
    """Return the date of an instance."""
    found = _LINE.match(line)
    assert found is not None
    return datetime.datetime.strptime(found["date"], "%b %d, %Y").date()


@functools.lru_cache(maxsize=20_000)
def user_of(line: str) -> int:
    """Return the user of an instance."""
    found = _LINE.match(line)
    assert found is not None
    return int(found["user"])


def _made(name: str, size: int) -> Window:
    chance = random.Random(f"window {name}")
    mix = [chance.uniform(0.4, 1.6) for _ in LABELS]
    users = [chance.randrange(10_000, 99_999) for _ in range(max(6, size // 140))]
    begin = datetime.date(2022, 1, 1)
    labels: dict[str, str] = {}
    while sum(map(len, labels)) < (size - 150) * 4:
        [label] = chance.choices(LABELS, mix)
        thing, place = chance.choice(_THINGS), chance.choice(_PLACES)
        letters = "".join(chance.choices("ABCDEFGHIKLMNOPRSTUVW", k=3))
        text = chance.choice(_FORMS[label]).format(t=f"{thing} of {place}", a=letters)
        date = begin + datetime.timedelta(days=chance.randrange(1_200))
        user = users[int(len(users) * chance.random() ** 1.7)]
        labels[f"Date: {date:%b %d, %Y} || User: {user} || Instance: {text}"] = label
    lines = tuple(labels)
    names = ", ".join(f"'{label}'" for label in LABELS)
    head = (
        f"The following lines contain {len(lines)} general-knowledge questions, one per line. Each question has an answer that can "
        f"be described as one of 6 categories: {names}."
    )
    return Window(name, "\n".join([head, "", *lines]) + "\n", lines, labels)


def _read(name: str, text: str) -> Window:
    labels: dict[str, str] = {}
    plain = []
    for line in text.splitlines():
        bare, sign, label = line.partition(" || Label: ")
        plain.append(bare)
        if sign and _LINE.match(bare):
            labels[bare] = label.strip()
    return Window(name, "\n".join(plain) + "\n", tuple(line for line in plain if line in labels), labels)


def _official(files: Sequence[Path], sizes: Sequence[int], count: int) -> Iterator[Window]:
    """Windows of trec_coarse of the data set oolong-synth, with the questions that belong to each."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = ["id", "context_window_id", "context_len", "dataset", "context_window_text_with_labels", "question", "answer",
               "answer_type"]  # fmt: skip
    taken: dict[int, int] = {}
    for file in files:
        if missing := sorted(set(columns) - set(pq.read_schema(file).names)):
            raise InputError(f"{file} is no file of the data set oolong-synth: it lacks {', '.join(missing)}.")
        found: dict[Any, list[dict[str, Any]]] = {}
        for batch in pq.ParquetFile(file).iter_batches(batch_size=64, columns=columns):
            long = pa.array(list(sizes), batch["context_len"].type)
            wanted = pc.and_(pc.equal(batch["dataset"], "trec_coarse"), pc.is_in(batch["context_len"], long))
            for row in batch.filter(wanted).to_pylist():
                key = row["context_window_id"]
                if key not in found and taken.get(row["context_len"], 0) >= count:
                    continue
                if key not in found:
                    taken[row["context_len"]] = taken.get(row["context_len"], 0) + 1
                    found[key] = [row]
                else:
                    found[key].append({name: row[name] for name in ("id", "question", "answer", "answer_type")})
        for key, rows in found.items():
            made = _read(str(key), rows[0]["context_window_text_with_labels"])
            yield Window(made.name, made.text, made.lines, made.labels, tuple(map(_asked, rows)))


def _asked(row: JsonObject) -> OfficialQuestion:
    answer: Any = row["answer"]
    with contextlib.suppress(ValueError, SyntaxError):  # a label is no literal, a list of one is
        answer = ast.literal_eval(answer) if isinstance(answer, str) else answer
    answer = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
    return {"id": row["id"], "question": row["question"], "answer": answer, "answer_type": str(row["answer_type"]).rsplit(".")[-1]}
