"""What a person calls: open, ask, resume, session. Wires the rooms together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
import logging
import os
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from rlm_ray import __version__, estimates
from rlm_ray import settings as settings_module
from rlm_ray.conversion import answer_of, contexts_of, saved_answer
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.reading.logs.layout import LogOptions, log_options
from rlm_ray.corpus.reading.text.dialect import Given
from rlm_ray.errors import InputError, MissingExtra, RunError, SettingsError, TraceNotSent
from rlm_ray.handle.corpus import Corpus
from rlm_ray.handle.plan import Plan, Source
from rlm_ray.ledger.lease import Lease
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.models.contract import Endpoint, Usage
from rlm_ray.recursion.answer import Answer
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.jobs.progress import Progress
from rlm_ray.recursion.ports import Call
from rlm_ray.report.progress import in_notebook
from rlm_ray.sandbox.outside import isolation, parsing
from rlm_ray.settings import Settings
from rlm_ray.subcalls.forms import check_json_schema, json_schema_of, model_of
from rlm_ray.subcalls.quotes import refuse_quotes
from rlm_ray.subcalls.schema import AnswerSchema
from rlm_ray.text import counted
from rlm_ray.types.estimate import Estimate
from rlm_ray.types.json import JsonSchema, Record
from rlm_ray.types.run import About, Verified
from rlm_ray.workspace import Opened, Session

if TYPE_CHECKING:
    from rlm_ray.audit.running import JobResult
    from rlm_ray.evals.running import Evaluated

_P = ParamSpec("_P")
_T = TypeVar("_T")
Observer = Callable[[Progress], None]

_log = logging.getLogger(__name__)

# tqdm, which Ray imports, fills a red box in a notebook without ipywidgets; nothing here needs them
warnings.filterwarnings("ignore", message="IProgress not found")
# in a notebook without ipywidgets, the import of Ray would log that they are missing, in a red box; nothing here needs them
logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)


def open(
    *uris: str,
    format: str | None = None,
    unit: str | None = None,
    event_start: str | None = None,
    parse: str | None = None,
    encoding: str = "utf-8",
    tracked_changes: Literal["accepted", "shown"] = "accepted",
    shard_bytes: int = 64 << 20,
    settings: Settings | None = None,
) -> Corpus:
    """Open a corpus: list its objects and read footers; no data but a small sample of text.

    Parameters
    ----------
    *uris : str
        Paths, folders, globs, `s3://…`, `memory://…`; several are one corpus. Or one table, in a version: `delta+s3://…?version=3`,
        `iceberg:catalogue/namespace.table` (docs/data.md).
    format : {"parquet", "text", "jsonl", "json", "csv", "avro", "orc", "sheet", "mail"}, optional
        By the names' endings where not given.
    unit : {"line", "event", "document", "row"}, optional
        What a record is; an event is a line with those that belong to it, as a stack trace does.
    event_start : str, optional
        A pattern that the lines which begin an event have (Rust's); found from samples where not given.
    parse : str, optional
        Columns of logs, as time, level and message: "auto", a format's name (docs/data.md), or a pattern with names.
    encoding : str
        Of text objects.
    tracked_changes : {"accepted", "shown"}
        Of documents: as if all changes were accepted, or with each change marked.
    shard_bytes : int
        About the bytes of one shard.
    settings : Settings, optional
        Of the session that answers this handle's verbs; also what is set of encoding, of events and of the dialect of CSV.

    Returns
    -------
    Corpus

    Raises
    ------
    InputError
        Nothing is there, kinds are mixed, or nothing of it can be read; a table uses what is not read here.
    MissingExtra
        A table, without the extra `tables`.
    CredentialsError, StorageError
        The store refuses or cannot be reached.

    Examples
    --------
    >>> import tempfile, pathlib, rlm_ray
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "app.log").write_text("started\\nstopped\\n")
    >>> rlm_ray.open(str(folder)).head(1)[0]["text"]
    'started'
    """
    dialect, logs = Given(), LogOptions(event_start, parse=parse)
    if settings is not None:
        dialect = Given(settings.csv_separator, settings.csv_quote, settings.csv_escape)
        logs = log_options(settings, event_start, parse)
        encoding = settings.encoding if encoding == "utf-8" else encoding
    manifest = open_manifest(
        *uris,
        format=format,
        unit=unit,
        encoding=encoding,
        tracked_changes=tracked_changes,
        shard_bytes=shard_bytes,
        dialect=dialect,
        logs=logs,
        parsers=parsing.PARSERS,
    )
    return Corpus(Plan((Source(manifest.name),)), manifest.info(), Opened(manifest, settings))


def session(settings: Settings | None = None) -> Session:
    """Return a workspace for a notebook: `open`, and the sub-call functions that root code has, over its own run directory.

    Raises
    ------
    SettingsError
        The settings cannot work.
    """
    return Session(settings if settings is not None else settings_module.load())


def ask(
    corpus: Corpus | Mapping[str, Corpus] | str,
    question: str,
    settings: Settings | None = None,
    schema: Record | type | None = None,
    *,
    program: Sequence[str] = (),
    reuse: Sequence[str] = (),
    observe: Observer | None = None,
) -> Answer:
    """Answer a question by a Recursive Language Model over a corpus. Calls models; runs on Ray.

    Parameters
    ----------
    corpus : Corpus, mapping of str to Corpus, or str
        A handle; several, each a variable by its name; or a text that *is* the context.
    question : str
    settings : Settings, optional
        Models, limits, where it runs; from the environment where not given.
    schema : mapping or type, optional
        Shape of the answer: `{"count": "integer", "hosts": ["string"]}`, a JSON Schema, or a pydantic model or `list[Model]`, as
        which `answer.parsed` has the answer.
    program : sequence of str, optional
        Cells that run in the place of a root model's, one a turn; the last sets `Final`. No root model is asked then, and a
        cell that fails ends the run, with `stop_reason` "program".
    reuse : sequence of str
        Run directories whose finished sub-calls may be used, beside that of the settings.
    observe : callable, optional
        Gets a `Progress` now and then. Without it, a notebook shows a line that is updated.

    Returns
    -------
    Answer
        Also where a limit ended the run: `complete` is False then, and `stop_reason` says why.

    Raises
    ------
    InputError, SettingsError, CredentialsError
        Before any model call: what is wrong and what to do.
    SandboxUnavailable
        Root code cannot be shut in on this machine.
    KeyboardInterrupt
        After everything under way was ended; the run directory stays, and the arguments are the run's id and its directory.
    """
    settings = _ready(settings if settings is not None else settings_module.load(), question, program)
    if settings.run_id is not None and (begun := RunDirectory.existing(settings.run_dir, settings.run_id)) is not None:
        asked = begun.about().get("question")
        if asked is not None and asked != question:
            raise InputError(f"The run {settings.run_id} was asked another question: {asked!r:.200}. Give another run id.")
        return _typed(resume(begun.uri, settings, observe=observe), schema)
    text, contexts, main, corpora = contexts_of(corpus)
    answer_schema = check_schema(schema)
    others = [RunDirectory.find(settings.reuse, settings.run_dir).uri] if settings.reuse else []
    others += [RunDirectory.find(run).uri for run in reuse]
    from rlm_ray.cluster import connect
    from rlm_ray.worker import meters

    meters.require_prices(meters.meter_of(Budget.of(settings), settings), settings)
    probed = _probe(settings, program)
    connect.prepare(settings)
    about: About = {
        "question": question,
        "version": __version__,
        "settings": settings.model_dump(exclude_none=True, exclude={"plan"}),
        "corpora": {name: {"uris": manifest.uris, "fingerprint": manifest.fingerprint} for name, manifest in corpora.items()},
        "contexts": contexts,
        "main": main,
        "schema": answer_schema,
        "others": others,
        "program": list(program),
        "is_text": text is not None,
    }
    run = RunDirectory.create(
        settings.run_dir, settings.run_id, about, text=text, store_prompts=settings.store_prompts, manifests=corpora
    )
    connect.check_reach([*(uri for manifest in corpora.values() for uri in manifest.uris), run.uri])
    return _typed(_carry_on(run, about, text, settings, corpora, observe, probed), schema)


def run_job(
    spec: str | os.PathLike[str] | Mapping[str, object],
    settings: Settings | None = None,
    *,
    changes: Mapping[str, object] | None = None,
    observe: Observer | None = None,
) -> JobResult:
    """Run a job: its question over its corpora, each finding checked against the record that it rests on.

    Reads its corpora, calls models, and writes its findings, a report and a summary; what `rlm-ray run SPEC.yaml` does.

    Parameters
    ----------
    spec : path or mapping
        The YAML file of the job, or what would stand in it.
    settings : Settings, optional
        What is set here goes before the job's own settings.
    changes : mapping, optional
        Replaces what the file says: `{"corpora.logs.uris": "s3://logs/", "settings.max_usd": 2}`.
    observe : callable, optional
        As of `ask`.

    Returns
    -------
    JobResult
        `findings`, `rejected`, `failing`, `answer`, and where the results were `written`.

    Raises
    ------
    SpecError
        Names the file, the line, the key and the value, and what to do.
    AssumptionBroken
        Before any model call: the program was made for data of another shape.
    """
    from rlm_ray.audit import running
    from rlm_ray.audit import spec as specs
    from rlm_ray.report.page import report

    made, beside = specs.read(spec, _assignments(changes))
    flags = settings.model_dump(exclude_unset=True) if settings is not None else {}
    return running.run(made, beside, ask, open, report, flags, observe=observe)


def evaluate(
    spec: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    changes: Mapping[str, object] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Evaluated:
    """Run an evaluation: every method on every case. Calls models, where the file does not simulate them; writes its results.

    Parameters
    ----------
    spec : path
        The YAML file of the evaluation.
    settings, changes
        As of `run_job`.
    say : callable
        Gets a line for each method that is done.

    Returns
    -------
    Evaluated
        `rows`, `means`, and where the results were `written`.

    Raises
    ------
    SpecError
        Names the file, the line, the key and the value, and what to do.
    """
    from rlm_ray.evals import methods, running
    from rlm_ray.evals import spec as specs

    made = specs.load(Path(spec), _assignments(changes))
    flags = settings.model_dump(exclude_unset=True) if settings is not None else {}
    known = methods.simulated_prices(specs.settings_of(made, flags))
    return running.run(made, methods.Tools(ask, open, session, known, made.window), say)


def _assignments(changes: Mapping[str, object] | None) -> list[str]:
    return [f"{key}={json.dumps(value, default=str)}" for key, value in (changes or {}).items()]


def _typed(answer: Answer, schema: Record | type | None) -> Answer:
    return answer if model_of(schema) is None else dataclasses.replace(answer, model=schema)


def resume(run: str, settings: Settings | None = None, *, observe: Observer | None = None) -> Answer:
    """Go on with a run that was interrupted or killed, inside its cell; nothing that was paid is asked again.

    A run that has its answer returns it.

    Parameters
    ----------
    run : str
        Its directory or id.
    settings : Settings, optional
        Where the model is and what limits hold now; the run's own where not given.

    Raises
    ------
    RunNotFound, RunBusy
        There is no such run; another process works on it.
    ObjectChanged
        In the answer's failures, where an object of the corpus is no longer what it was.
    """
    directory = RunDirectory.find(run, settings.run_dir if settings is not None else None)
    about = directory.about()
    question = about.get("question")
    if question is None:
        raise RunError(f"The run {directory.id} was made with store_prompts = False and keeps nothing to go on from. Ask again.")
    known = settings_module.make(about["settings"])
    settings = _ready(known if settings is None else settings.with_(run_id=directory.id), question, about.get("program", ()))
    if not directory.is_whole():
        raise RunError(
            f"The run {directory.id} was killed before it had written down what it reads. Ask again with the run id "
            f"{directory.id!r}: nothing was paid yet."
        )
    from rlm_ray.cluster import calls, connect

    connect.prepare(settings)
    connect.check_reach([*(uri for item in about["corpora"].values() for uri in item["uris"]), directory.uri])
    corpora = calls.load_corpora(directory.uri, tuple(about["corpora"]))
    saved = directory.answer()
    if saved is not None:
        return saved_answer(saved, directory, settings, corpora)
    probed = _probe(settings, about.get("program", ()))
    return _carry_on(directory, about, directory.text(), settings, corpora, observe, probed)


def verify(run: str, settings: Settings | None = None) -> Verified:
    """Replay a whole run, and report the first difference. Calls no model, and writes nothing but its lease.

    Every cell runs again in a fresh sandbox, its requests answered from the run's journal and ledger; so do the cells of the
    recursive calls.

    Parameters
    ----------
    run : str
        Its directory or id.
    settings : Settings, optional
        Where run directories are.

    Returns
    -------
    dict
        `run`, `same`, `cells` (that were the same), and `difference`: None, or `call`, `cell`, `part`, `logged`, `replayed`.

    Raises
    ------
    RunNotFound, RunBusy, RunError
        There is no such run; another process works on it; it keeps nothing to replay.
    """
    directory = RunDirectory.find(run, settings.run_dir if settings is not None else None)
    about = directory.about()
    if about.get("question") is None:
        raise RunError(f"The run {directory.id} was made with store_prompts = False and keeps nothing to replay. Ask again.")
    made = settings_module.make(about["settings"])
    isolation.choose(made.isolation)
    from rlm_ray.cluster import calls

    with Lease(directory.uri):
        call = _call(directory, about, directory.text(), made, Budget.of(made))
        cells, difference = calls.verify_call(call, calls.load_corpora(directory.uri, tuple(about["corpora"])))
    return {
        "run": directory.uri,
        "same": difference is None,
        "cells": cells,
        "difference": None if difference is None else difference.to_json(),
    }


def estimate(corpus: Corpus | Mapping[str, Corpus] | str, settings: Settings | None = None) -> Estimate:
    """Say what reading all of a corpus once would take and roughly cost, from a sample. Calls no model.

    See `rlm_ray.estimates.estimate` for what it returns.
    """
    settings = settings if settings is not None else settings_module.load()
    text, _, _, corpora = contexts_of(corpus)
    return estimates.estimate(corpora, settings, text)


def _call(run: RunDirectory, about: About, text: str | None, settings: Settings, budget: Budget) -> Call:
    from rlm_ray.cluster import calls

    return Call(
        run_dir=run.uri,
        run_id=run.id,
        id="0",
        depth=0,
        question=about["question"] or "",
        settings=settings,
        budget=budget,
        text=text,
        contexts=about["contexts"],
        main=about["main"],
        width=calls.width(settings),
        others=tuple(about["others"]),
        schema=about["schema"],
        program=tuple(about.get("program", ())),
    )


def _probe(settings: Settings, program: Sequence[str]) -> Usage:
    """Look whether the endpoints have the models and take the key; return what that cost. A program that asks none needs none."""
    if program and not any(verb in cell for cell in program for verb in ("llm_", "rlm_")):
        return Usage()
    from rlm_ray.models import probe
    from rlm_ray.worker import meters, threads

    meter = meters.meter_of(Budget.of(settings), settings)
    threads.run_async(probe.probe(probe.endpoints_of(settings, root=not program), meter)).result()
    return meter.sums[2]


def _carry_on(
    run: RunDirectory,
    about: About,
    text: str | None,
    settings: Settings,
    corpora: dict[str, Manifest],
    observe: Observer | None,
    probed: Usage,
) -> Answer:
    """Run a run from where its directory says it is, to its end. In a notebook that is given no observer, its place is shown."""
    from rlm_ray.cluster import calls, connect, ports
    from rlm_ray.worker import threads

    observe = observe if observe is not None else in_notebook()
    to_begin = [settings] if sum(manifest.nbytes for manifest in corpora.values()) > ports.INLINE_BYTES else []

    last: list[Progress] = []

    def waits(doing: str) -> None:
        if observe is not None and last:
            last[0].doing = doing
            observe(last[0])

    def watch(progress: Progress) -> None:
        last[:] = [progress]
        lease.check()
        while to_begin:
            connect.begin(to_begin.pop())  # the verbs will need it; the root model, which was asked by now, does not
        if observe is not None:
            observe(progress)

    with Lease(run.uri) as lease:
        if probed.calls:
            with contextlib.closing(run.log("0")) as log:
                log.append({"event": "Probed", "usage": probed.to_json()})
        before = run.spent()
        if before.cut_lines:
            _log.warning(
                "%s in the logs of %s left out, as not done: a process was killed, or the disk was full, while it was written.",
                counted(before.cut_lines, "half-written line is", "half-written lines are"),
                run.uri,
            )
        budget = Budget.of(settings.with_(max_seconds=max(1.0, settings.max_seconds - before.seconds))).charge(before.usage)
        connect.waiters.append(waits)
        try:
            outcome = calls.run_call(_call(run, about, text, settings, budget), watch, corpora)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(run.id, run.uri) from None  # so that the caller can say how to go on
        finally:
            connect.waiters.remove(waits)
            threads.close_finished(run.uri)
        lease.check()
        answer = answer_of(outcome, run, settings, corpora, run.spent().seconds)
        run.save_answer(answer.to_json())
    if settings.trace:
        _send_trace(run)
    return answer


def _send_trace(run: RunDirectory) -> None:
    """Send the trace of a run that has ended; what a collector does not take ends no run."""
    from rlm_ray.traces import sending

    try:
        sending.send(run)
    except (TraceNotSent, MissingExtra) as error:
        _log.warning("%s", error)


def _awaitable(call: Callable[_P, _T]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Return a function with the same parameters that runs `call` in a thread of its own."""

    @functools.wraps(call)
    async def run(*args: _P.args, **options: _P.kwargs) -> _T:
        return await asyncio.to_thread(call, *args, **options)

    run.__name__ = run.__qualname__ = f"a{call.__name__}"
    run.__doc__ = f"As `{call.__name__}`, awaitable: the run has a thread of its own."
    return run


aask = _awaitable(ask)
aresume = _awaitable(resume)
arun_job = _awaitable(run_job)


def _ready(settings: Settings, question: str, program: Sequence[str]) -> Settings:
    if settings.trace:
        from rlm_ray.traces import sending

        sending.check()
    if not isinstance(question, str) or not question.strip():
        raise InputError("The question is empty. Say what is to be answered, as in --question 'How many …?'.")
    if program:
        if not settings.leaf_model:
            raise SettingsError("No model is set for the program's sub-calls. Name one with --sub-model (or RLM_RAY_SUB_MODEL).")
        # a recursive call would need a root model of its own
        settings = settings.with_(max_turns=len(program) + 2, max_depth=0, root_model=settings.root_model or settings.leaf_model)
    elif not settings.root_model:
        raise SettingsError(
            "No root model is set. Name one that writes code with --root-model (or RLM_RAY_ROOT_MODEL), and an endpoint with "
            "--base-url where it is not OpenAI's; `rlm-ray demo` needs neither."
        )
    for root in (True, False):
        Endpoint.of(settings, root=root).key()
    isolation.choose(settings.isolation)
    return settings


def check_schema(schema: Record | type | None) -> JsonSchema | None:
    """Return the JSON Schema of an answer, from any form that `ask` takes; None stays None.

    Raises
    ------
    InputError
        It is neither form; names what is wrong.
    """
    if schema is None:
        return None
    if model_of(schema) is not None:
        schema = json_schema_of(schema)
    if not isinstance(schema, Mapping):
        kind = type(schema).__name__
        raise InputError(
            f"The answer's schema is a {kind}, not a mapping. Write it as {{'count': 'integer'}}, or as a JSON Schema."
        )
    if "$schema" in schema or schema.get("type") in ("object", "array", "string", "number", "integer", "boolean"):
        check_json_schema(schema)
        return dict(schema)
    answer = AnswerSchema.of(schema)
    refuse_quotes(answer, "the answer of a run")
    return answer.json_schema
