"""What is handed over: a caller's corpora to a run, and a run's outcome to the caller as an Answer."""

from __future__ import annotations

import functools
import glob
import os
import re
from collections.abc import Mapping

from rlm_ray import storage
from rlm_ray.corpus.catalog.lakehouse.names import is_table
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.reading import decode_replacements
from rlm_ray.corpus.reading.logs import notes
from rlm_ray.errors import InputError
from rlm_ray.handle.corpus import Corpus
from rlm_ray.handle.plan import Keep, Plan, Source
from rlm_ray.ledger import coverage
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.recursion.answer import Answer, CitedRecord
from rlm_ray.recursion.ports import CallOutcome
from rlm_ray.report.sources import source_at
from rlm_ray.sandbox.outside import counts
from rlm_ray.settings import Settings
from rlm_ray.types.run import AnswerRecord, Context, Coverage, Failure
from rlm_ray.types.usage import RunUsage
from rlm_ray.workspace import Opened, Session

_URI = re.compile(r"\s*((s3a?|gs|az|file|memory):/|arn:[a-z-]+:s3:)", re.IGNORECASE)


def names_data(text: str) -> bool:
    """Whether a text that was given as a context is the name of data: a URI, a table, or an existing path.

    Examples
    --------
    >>> names_data("s3://lake/logs"), names_data("/"), names_data("Who wrote this? A. N. Other."), names_data("a/b.log is gone")
    (True, True, False, False)
    """
    if not text.strip() or "\n" in text or len(text) >= 2_000:
        return False
    if "://" in text[:20] or text.startswith("list+") or is_table(text) or _URI.match(text):
        return True
    path = os.path.expanduser(text.strip())
    try:
        return os.path.exists(path) or bool(glob.has_magic(path) and "/" in path and next(glob.iglob(path), None))
    except (OSError, ValueError):
        return False


def contexts_of(
    corpus: Corpus | Mapping[str, Corpus] | str,
) -> tuple[str | None, dict[str, Context], str | None, dict[str, Manifest]]:
    """Return the text, or the contexts by name, which of them is `context`, and their manifests."""
    if isinstance(corpus, str):
        if names_data(corpus):
            uri = storage.shown(corpus)
            call = f"pass rlm_ray.open({uri!r}) to read what is there."
            if os.path.exists(os.path.expanduser(corpus.strip())):
                raise InputError(f"{uri!r} is an existing path. A str is the text itself: {call}")
            raise InputError(f"{uri!r} looks like a URI. A str is the text itself: {call}")
        return corpus, {}, None, {}
    if not isinstance(corpus, Corpus | Mapping):
        given = f"rlm_ray.open({os.fspath(corpus)!r})" if isinstance(corpus, os.PathLike) else "what rlm_ray.open() returns"
        raise InputError(
            f"The corpus is a {type(corpus).__name__}, which is no handle. Pass {given}, a dict of handles, or a text."
        )
    named = {"context": corpus} if isinstance(corpus, Corpus) else dict(corpus)
    if not named:
        raise InputError("No corpus was given. Pass rlm_ray.open(uri), or a dict of them.")
    contexts: dict[str, Context] = {}
    manifests: dict[str, Manifest] = {}
    for name, item in named.items():
        if not isinstance(item, Corpus) or not isinstance(item.backend, Opened | Session):
            raise InputError(f"Corpus {name!r} is a {type(item).__name__}. Pass what rlm_ray.open() returns.")
        if not name.isidentifier():
            raise InputError(f"{name!r} cannot name a corpus: it must be usable as a variable. Use letters, digits and '_'.")
        if any(isinstance(step, Keep) for step in item.plan.steps):
            raise InputError(
                f"Corpus {name!r} was narrowed by .filter(), which belongs to its session. Narrow by where or grep instead."
            )
        manifest, info = item.backend.named(item, name)
        manifests[name] = manifest
        contexts[name] = {"plan": Plan((Source(name), *item.plan.steps)).to_json(), "info": info}
    return None, contexts, next(iter(named)) if len(named) == 1 else None, manifests


def answer_of(outcome: CallOutcome, run: RunDirectory, settings: Settings, corpora: dict[str, Manifest], seconds: float) -> Answer:
    """Return what a run came to, as its Answer."""
    failures: list[Failure] = [{"object": item.object, "shard": item.shard, "reason": item.reason} for item in outcome.failures]
    failures += [
        {"object": item["object"], "shard": None, "reason": item["reason"]}
        for manifest in corpora.values()
        for item in manifest.failed
    ]
    failures += [failure.shown() for failure in outcome.failed_verbs]
    usage = outcome.budget.usage
    reader = functools.partial(source_at, run)
    events, denied = counts.split(outcome.events)
    table = None
    if outcome.kind == "corpus":
        session = Session(settings, run=run, corpora=corpora)
        table = Corpus(Plan.from_json(outcome.value["plan"]), outcome.value["info"], session)
    return Answer(
        value=None if table is not None else outcome.value,
        complete=outcome.complete and not failures,
        stop_reason=outcome.stop_reason,
        run=run.uri,
        usage=RunUsage(
            calls=usage.calls,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            usd=usage.usd,
            seconds=round(seconds, 3),
            by_model=outcome.measured,
        ),
        coverage=_coverage(run, corpora, outcome),
        citations=[CitedRecord(item, reader) for item in outcome.citations],
        refused=list(outcome.refused),
        sure=list(outcome.sure),
        failures=failures,
        isolation=outcome.isolation,
        events=events,
        denied=denied,
        message=outcome.message,
        turns=outcome.turns,
        table=table,
    )


def saved_answer(saved: AnswerRecord, run: RunDirectory, settings: Settings, corpora: dict[str, Manifest]) -> Answer:
    """Return the answer of a finished run."""
    value = saved["value"]
    if not isinstance(value, dict) or "table" not in value:
        return Answer.from_json(saved, read=functools.partial(source_at, run))
    session = Session(settings, run=run, corpora=corpora)
    table = Corpus(Plan.from_json(value["table"]), value["info"], session)
    return Answer.from_json(saved, table, functools.partial(source_at, run))


def _coverage(run: RunDirectory, corpora: dict[str, Manifest], outcome: CallOutcome) -> Coverage:
    failed = [(item.object, item.shard) for item in outcome.failures]
    measured = coverage.measure(run.uri, corpora, failed)
    objects = {item.object for item in outcome.failures} | {
        item["object"] for manifest in corpora.values() for item in manifest.failed
    }
    return {
        **measured,
        "objects_failed": len(objects),
        "replaced": decode_replacements.found(run.uri),
        "unparsed": notes.found(run.uri),
    }
