"""What the commands share: opening, watching, printing, exit codes, and errors as one paragraph."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from rlm_ray.errors import (
    ConfirmationNeeded,
    CredentialsError,
    InputError,
    MissingExtra,
    PlanMade,
    RlmRayError,
    RunNotFound,
    SandboxUnavailable,
)

if TYPE_CHECKING:
    from rlm_ray.types.estimate import Estimate
    from rlm_ray.types.json import JsonObject
    from rlm_ray.types.run import JobRecord

COMPLETE, NO_ANSWER, WRONG_USE, PARTIAL, FAILED_ON, UNCONFIRMED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


def open_corpora(uris: tuple[str, ...], format_: str | None, unit: str | None, settings: Any) -> Any:
    """Open what a command names: several URIs are one corpus, NAME=URI makes named ones."""
    from rlm_ray import api

    named: dict[str, list[str]] = {}
    for uri in uris:
        name, sign, rest = uri.partition("=")
        known = bool(sign) and name.isidentifier()
        named.setdefault(name if known else "", []).append(rest if known else uri)
    if "" in named and len(named) > 1:
        raise InputError(
            f"{named[''][0]!r} has no name, and {next(filter(None, named))!r} has. Name all of them, as NAME=URI, or none."
        )
    options = {"format": format_, "unit": unit, "encoding": settings.encoding}
    options |= {"tracked_changes": settings.tracked_changes, "shard_bytes": settings.shard_bytes}
    opened = {name: api.open(*group, settings=settings, **options) for name, group in named.items()}
    return opened.get("", opened)


def observed(call: Callable[[Any], Any], mode: Any = "auto") -> Any:
    """Run a call with its progress shown; end a SIGTERM as Ctrl-C ends."""
    from rlm_ray.report.progress import shown

    # begun with `&` in a script, SIGINT is ignored: then neither it nor SIGTERM, which is passed on as it, would end the run
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # a scheduler ends a job with SIGTERM: end it the same way as Ctrl-C
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    if sys.stdin.isatty() and sys.stderr.isatty():
        from rlm_ray.recursion.jobs import batch_plans

        batch_plans.CONFIRM = lambda plan: click.confirm(f"{batch_plans.plan_text(plan)}\nAsk it?", err=True)
    try:
        with shown(mode) as progress:
            return call(progress)
    finally:
        signal.signal(signal.SIGTERM, before)


def print_estimate(estimate: Estimate, as_json: bool) -> None:
    """Print what `--dry-run` found."""
    from rlm_ray.report.terminal import estimate_text

    click.echo(json.dumps(estimate, ensure_ascii=False) if as_json else estimate_text(estimate))


def print_answer(answer: Any, as_json: bool) -> None:
    """Print an answer: its value to stdout, what is to be known about it to stderr."""
    if as_json:
        click.echo(json.dumps(answer.to_json(), ensure_ascii=False))
        return
    from rich.console import Console

    from rlm_ray.report.terminal import summary, value_text

    if answer.table is not None:
        for row in answer.table:
            click.echo(json.dumps(row, ensure_ascii=False))
    elif answer.answered:
        click.echo(value_text(answer.value))
    summary(answer, Console(stderr=True, highlight=False))


def print_audited(spec: Any, audited: Any, as_json: bool) -> None:
    """Print what a job came to: its findings to stdout, on a terminal as a table, else a JSON object each; words to stderr."""
    if as_json:
        click.echo(json.dumps(audited.to_json(), ensure_ascii=False))
        return
    from rich.console import Console

    from rlm_ray.report.terminal import audited_lines, summary

    if sys.stdout.isatty():
        from rlm_ray.report.run_pages import findings_table

        Console(highlight=False).print(findings_table(audited.findings, [finding["id"] for finding in audited.failing]))
    else:
        for finding in audited.findings:
            click.echo(json.dumps(finding, ensure_ascii=False))
    summary(audited.answer, Console(stderr=True, highlight=False))
    for line in audited_lines(spec.fail_on, audited):
        click.echo(line, err=True)


def run_evaluation(path: Path, changes: tuple[str, ...], settings_file: Path | None, flags: JsonObject, as_json: bool) -> None:
    """Run an evaluation: a line a method to stderr, the table or one JSON object to stdout."""
    from rlm_ray import api, settings
    from rlm_ray.evals import methods, running
    from rlm_ray.evals import spec as specs

    made = specs.load(path, changes)
    base = settings.load(settings_file).model_dump(exclude_unset=True) if settings_file is not None else {}
    known = methods.simulated_prices(specs.settings_of(made, base | flags))
    tools = methods.Tools(api.ask, api.open, api.session, known, made.window)
    done = running.run(made, tools, lambda text: click.echo(text, err=True))
    click.echo(json.dumps(done.to_json(), ensure_ascii=False) if as_json else running.as_table(done.means), nl=as_json)
    for name, uri in done.written.items():
        click.echo(f"{name}: {uri}", err=True)


def end_job(spec: Any, audited: Any, as_json: bool) -> NoReturn:
    """Print what a job came to, and end with its exit code."""
    print_audited(spec, audited, as_json)
    sys.exit(FAILED_ON if audited.failing else NO_ANSWER if audited.broken else exit_code(audited.answer))


def resume_job(directory: Any, job: JobRecord, values: JsonObject, progress: Any, as_json: bool) -> NoReturn:
    """Go on with a job's run, up to the job's own end: its findings, its report, its exit code."""
    from rlm_ray import api
    from rlm_ray.audit import running
    from rlm_ray.audit.spec import Spec
    from rlm_ray.report.page import report

    try:
        os.chdir(job["folder"])  # the job's paths are meant from there
    except OSError as error:
        raise InputError(f"The job was run in {job['folder']}, which cannot be entered: {error.strerror}. Make it again.") from None
    spec, beside = Spec.model_validate(job["spec"]), Path(job["beside"])
    flags = values | {"run_id": directory.id, "run_dir": directory.uri.rsplit("/", 1)[0]}
    audited = observed(lambda observe: running.run(spec, beside, api.ask, api.open, report, flags, observe=observe), progress)
    end_job(spec, audited, as_json)


def interrupt_once() -> None:
    """Let the first Ctrl-C end the command in order, the second say so, and the third end the process at once."""
    presses = 0

    def pressed(number: int, frame: Any) -> None:
        nonlocal presses
        presses += 1
        if presses == 1:
            raise KeyboardInterrupt
        if presses > 2:
            os._exit(INTERRUPTED)
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(2, b"rlm-ray: ending what is under way; Ctrl-C once more ends at once\n")

    signal.signal(signal.SIGINT, pressed)


def exit_code(answer: Any) -> int:
    """Return the exit code of an answer."""
    if not answer.answered:
        return NO_ANSWER
    return COMPLETE if answer.complete else PARTIAL


def write_file(path: Path, text: str) -> None:
    """Write a text file, and say so."""
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}. Give another file.") from None
    click.echo(f"wrote {path}", err=True)


def read_schema(path: Path) -> Any:
    """Read the JSON file of an answer's shape."""
    from rlm_ray import api

    try:
        schema = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The schema file {path} cannot be read: {error}. Give a JSON file.") from None
    try:
        api.check_schema(schema)
    except InputError as error:
        raise InputError(f"The schema file {path} cannot be used: {error}") from None
    return schema


@contextmanager
def errors(as_json: bool = False) -> Iterator[None]:
    """Turn errors into one paragraph on stderr and an exit code; a plan that was asked for is the result."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not interrupt.args:
            fail("Interrupted before a run began.", INTERRUPTED)
        run = shlex.quote(interrupt.args[-1])
        fail(f"Interrupted. Nothing that was paid is lost: `rlm-ray resume {run}` goes on from here.", INTERRUPTED)
    except PlanMade as made:
        click.echo(json.dumps(made.plan, ensure_ascii=False) if as_json else str(made))
        sys.exit(COMPLETE)
    except ConfirmationNeeded as error:
        fail(str(error), UNCONFIRMED)
    except (InputError, CredentialsError, MissingExtra, RunNotFound, SandboxUnavailable) as error:
        fail(str(error), WRONG_USE)
    except RlmRayError as error:
        fail(str(error), NO_ANSWER)
    except BrokenPipeError:
        sys.exit(COMPLETE)


def fail(message: str, code: int) -> NoReturn:
    """Print an error and end."""
    from rlm_ray.report.terminal import safe

    click.echo(f"rlm-ray: {safe(message)}", err=True)
    sys.exit(code)
