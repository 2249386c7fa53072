"""The ways to answer a case: the engine, and what it must be better than. Knows the API only as functions that are passed in."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_ray.evals.cases import Case, Fallible, Reader, voted
from rlm_ray.settings import Price, Settings
from rlm_ray.testing import ModelServer, each
from rlm_ray.testing.scripts import tokens_of

#: Characters of a corpus that a root model without sub-calls can have in its conversation at once, by default settings.
_MOST_READ = 48_000 * 4
READER = "reader"
SILENT = "Do not call a language model from your code (no llm_… and no rlm_… verb): read what you print yourself.\n\n"
ONE_PROMPT = "Below is a text and a question about it. Reply with the answer alone{form}.\n\nQuestion: {question}\n\n{text}"


@dataclass(frozen=True)
class Way:
    """How cases are answered: by a method, and by which readers.

    Attributes
    ----------
    method : str
    seed : int
    accuracy : float or None
        Of a simulated reader; None: models of the settings.
    votes : int or str
    """

    method: str
    seed: int
    accuracy: float | None
    votes: int | str = 1


@dataclass(frozen=True)
class Tools:
    """What answering needs: `rlm_ray.ask`, `rlm_ray.open`, `rlm_ray.session`; settings; the tokens of one long prompt."""

    ask: Callable[..., Any]
    open: Callable[..., Any]
    session: Callable[..., Any]
    settings: Settings
    window: int
    observe: Any = None


@dataclass(frozen=True)
class Reply:
    """What a way came to for one case. `coverage` and `shown` are shares of the bytes: read at all, and put before a model."""

    answer: Any
    calls: int = 0
    tokens: int = 0
    usd: float | None = 0.0
    seconds: float = 0.0
    coverage: float | None = None
    shown: float | None = None
    trouble: str = ""


def answer(case: Case, way: Way, tools: Tools) -> Reply | None:
    """Answer a case; None where the method has no way for it."""
    begun = time.monotonic()
    if way.method == "constant":
        return Reply(case.constant) if case.constant is not None or case.records else None
    if way.method in ("code", "keyword"):
        cells = case.code if way.method == "code" else case.keyword
        return _asked(case, way, tools, cells) if cells else None
    if way.accuracy is None:
        return _live(case, way, tools)
    if way.method == "engine":
        return _asked(case, way, tools, case.program) if case.program and case.truth is not None else None
    if case.whole is None:
        return None
    # a reader who has so much before it at once, and reads each record of it as well as it reads one alone
    room = tools.window * 4 if way.method == "one-prompt" else _MOST_READ
    shown: list[str] = []
    for record in case.records:
        room -= len(record)
        if room < 0:
            break
        shown.append(record)
    said = case.whole(reader_of(case, way), shown)
    tokens = tokens_of("\n".join(shown)) + tokens_of(json.dumps(said))
    price = tools.settings.prices.get(READER)
    usd = None if price is None else tokens * price.input / 1e6
    share = sum(map(len, shown)) / max(1, sum(map(len, case.records)))
    calls = 1 if way.method == "one-prompt" else 2 + sum(map(len, shown)) // tools.settings.output_chars
    return Reply(said, calls, tokens, usd, time.monotonic() - begun, share, share)


def by_arithmetic(case: Case, way: Way) -> float | None:
    """Return the score that such a reader gives when nothing is lost on the way: its readings, counted in plain code."""
    if case.whole is None or way.accuracy is None or way.method != "engine":
        return None
    return case.score(case.whole(voted(reader_of(case, way), way.votes, case.labels), case.records), case.gold)


def reader_of(case: Case, way: Way) -> Reader:
    """Return the simulated reader of a way, as it is before it has read anything."""
    assert case.truth is not None
    assert way.accuracy is not None
    return Fallible(case.truth, way.accuracy, case.labels, way.seed, case.key)


@contextmanager
def placed(case: Case, tools: Tools) -> Iterator[Any]:
    """The corpus of a case, opened; what is made lives in a folder that ends with it."""
    if case.uri is not None:
        yield tools.open(case.uri, unit=case.unit)
        return
    with tempfile.TemporaryDirectory(prefix="rlm_ray-evals-") as folder:
        for name, text in case.files.items():
            (Path(folder) / name).write_text(text, "utf-8")
        yield tools.open(folder, unit=case.unit)


def _asked(case: Case, way: Way, tools: Tools, cells: Sequence[str]) -> Reply:
    """Run a program over the case's corpus, with a simulated reader or with the sub-model of the settings."""
    cells = [f"VOTES = {way.votes!r}\n{cells[0]}", *cells[1:]]
    if way.accuracy is None:
        with placed(case, tools) as corpus:
            settings = tools.settings
            if way.method != "engine" and not settings.leaf_model:
                settings = settings.with_(sub_model="none")
            return measured_reply(tools.ask(corpus, case.question, settings, program=cells, observe=tools.observe))
    reader = reader_of(case, way) if case.truth is not None else lambda text: None
    with placed(case, tools) as corpus, ModelServer(leaf=each(reader), models=(READER,)) as server:
        settings = tools.settings.with_(sub_model=READER, base_url=server.base_url, sub_base_url=server.base_url, api_key_env=KEY)
        return measured_reply(tools.ask(corpus, case.question, settings, program=cells, observe=tools.observe))


def _live(case: Case, way: Way, tools: Tools) -> Reply | None:
    settings = tools.settings
    with placed(case, tools) as corpus:
        if way.method == "engine":
            if settings.root_model is None:
                return _asked(case, way, tools, case.program) if case.program else None
            return measured_reply(tools.ask(corpus, case.question, settings, observe=tools.observe))
        if settings.root_model is None:
            return None
        if way.method == "no-sub-calls":
            answer = tools.ask(corpus, SILENT + case.question, settings.with_(max_depth=0), observe=tools.observe)
            reply = measured_reply(answer)
            if answer.usage["calls"] > answer.turns + 1:
                return Reply(None, reply.calls, reply.tokens, reply.usd, reply.seconds, trouble="it called models all the same")
            return reply
        text = corpus.text(max_chars=tools.window * 4)
        begun = time.monotonic()
        form = ", as JSON" if isinstance(case.gold, list | dict) else ""
        room = settings.with_(sub_model=settings.root_model, call_tokens=tools.window * 4 + 8_000, completion_tokens=8_192)
        with tools.session(room) as session:
            reply = session.llm_query(ONE_PROMPT.format(form=form, question=case.question, text=text))
            spent = session.budget()
        return Reply(_read(reply), 1, int(spent["tokens spent"]), spent.get("dollars spent"), time.monotonic() - begun)


def measured_reply(answer: Any) -> Reply:
    """Return the value of an answer, with its cost and coverage."""
    usage, coverage = answer.usage, answer.coverage
    value = list(answer.table) if answer.table is not None else answer.value
    # a program's answer may rest on a reader that failed: what is incomplete says so
    trouble = "" if answer.complete else f"{answer.stop_reason}: {answer.message}"[:200]
    nbytes = coverage["bytes"]
    total = nbytes["total"]
    return Reply(
        value,
        usage["calls"],
        usage["prompt_tokens"] + usage["completion_tokens"],
        usage["usd"],
        usage["seconds"],
        (nbytes["read_by_model"] + nbytes["read_by_code"]) / total if total else None,
        nbytes["read_by_model"] / total if total else None,
        trouble,
    )


def _read(reply: str) -> Any:
    text = reply.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    try:
        return json.loads(text)
    except ValueError:
        return text


#: A variable that is not set: a key of the person does not even go to a server of our own.
KEY = "RLM_RAY_EVALS_KEY"


def simulated_prices(settings: Settings) -> Settings:
    """Return settings in which the simulated reader has a price, so that dollars mean something: that of a small model."""
    if READER in settings.prices:
        return settings
    return settings.with_(prices={**settings.prices, READER: Price(input=0.25, cached_input=0.025, output=2.0)})
