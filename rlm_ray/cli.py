"""`rlm-ray`: parses, calls, prints. Results go to stdout, everything else to stderr.

Imports nothing heavy before a command needs it: `rlm-ray --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import click

from rlm_ray import __version__, console
from rlm_ray.corpus.catalog.formats import FORMATS, UNITS
from rlm_ray.text import counted

FORMAT = click.Choice(FORMATS.options)
UNIT = click.Choice(UNITS)


class _Commands(click.Group):
    """Tells of a wrong flag as of every other mistake: one paragraph, and what to do."""

    def main(self, *arguments: Any, **options: Any) -> NoReturn:
        try:
            code = super().main(*arguments, **(options | {"standalone_mode": False}))
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(console.WRONG_USE)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "rlm-ray"
            console.fail(f"{error.format_message().strip()} `{command} --help` lists what there is.", console.WRONG_USE)
        except click.Abort:
            sys.exit(console.INTERRUPTED)
        except BrokenPipeError:  # `rlm-ray --help | head`: who reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(console.COMPLETE)
        sys.exit(code if isinstance(code, int) else console.COMPLETE)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rlm-ray")
def main() -> None:
    """Ask questions that need reading all of a data lake: a Recursive Language Model on Ray.

    Exit codes: 0 complete; 1 no answer; 2 wrong usage, input or credentials; 3 answered, but partial; 4 a job's fail_on was met;
    5 a batch costs more than confirm_over_usd; 130 interrupted.
    """


_progress = click.option(
    "--progress",
    type=click.Choice(["auto", "json", "none"]),
    default="auto",
    help="On stderr: a line that moves on a terminal and one line a step elsewhere (auto), JSON lines, or nothing.",
)


_KINDS: dict[str, click.ParamType] = {"str": click.STRING, "int": click.INT, "float": click.FLOAT, "bool": click.BOOL}


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flags of `Settings`, and a file of settings. The flags come from a table: pydantic is slow to import."""
    table = json.loads(files("rlm_ray").joinpath("flags.json").read_text("utf-8"))
    path = click.Path(dir_okay=False, path_type=Path)
    options = [click.option("--settings", "settings_file", type=path, help="YAML or JSON file of settings.")]
    for flag in table:
        kind = click.Choice(flag["kind"]) if isinstance(flag["kind"], list) else _KINDS[flag["kind"]]
        options.append(click.option(f"--{flag['name'].replace('_', '-')}", type=kind, metavar=flag["metavar"], help=flag["help"]))
    for option in reversed(options):
        command = option(command)
    return command


_plan = click.option("--plan", is_flag=True, help="Stop before the first batch of sub-calls, and say what it will take.")


@main.command()
@click.argument("uris", nargs=-1, required=True, metavar="[NAME=]URI…")
@click.option("-q", "--question", required=True, help="What is to be answered.")
@click.option("--format", "format_", type=FORMAT, help="By the names' endings where not given.")
@click.option("--unit", type=UNIT, help="What a record is.")
@click.option(
    "--schema", "schema_file", type=click.Path(dir_okay=False, path_type=Path), help="JSON file with the shape of the answer."
)
@_settings
@_progress
@click.option("--dry-run", is_flag=True, help="Say what it would read and roughly cost, from a sample; call no model.")
@_plan
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def ask(uris: tuple[str, ...], question: str, format_: str | None, unit: str | None, schema_file: Path | None,
        settings_file: Path | None, progress: str, dry_run: bool, plan: bool, as_json: bool, **flags: Any) -> None:  # fmt: skip
    """Answer a question about the data at URI… (several URIs are one corpus; NAME=URI makes named ones)."""
    with console.errors(as_json):
        from rlm_ray import api, settings

        made = settings.load(settings_file, **flags, **({"plan": True} if plan else {}))
        schema = console.read_schema(schema_file) if schema_file is not None else None
        corpora = console.open_corpora(uris, format_, unit, made)
        if dry_run:
            console.print_estimate(api.estimate(corpora, made), as_json)
            return
        answer = console.observed(lambda observe: api.ask(corpora, question, made, schema, observe=observe), progress)
        console.print_answer(answer, as_json)
        sys.exit(console.exit_code(answer))


@main.command()
@click.argument("uris", nargs=-1, required=True, metavar="URI…")
@click.option("--format", "format_", type=FORMAT)
@click.option("--unit", type=UNIT)
@click.option("--parse", metavar="FORMAT", help="Columns of logs: 'auto', a format's name, or a pattern with names.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(uris: tuple[str, ...], format_: str | None, unit: str | None, parse: str | None, as_json: bool) -> None:
    """Say what is known of a corpus without reading it: objects, columns, sizes, partitions. Calls no model."""
    with console.errors():
        from rlm_ray import api

        info = api.open(*uris, format=format_, unit=unit, parse=parse).info
        if as_json:
            click.echo(json.dumps(info, ensure_ascii=False))
        else:
            from rlm_ray.report.terminal import corpus_text

            click.echo(corpus_text(info))
        sys.exit(console.PARTIAL if info["failed"] else console.COMPLETE)


@main.command()
@click.argument("run")
@_settings
@_progress
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def resume(run: str, settings_file: Path | None, progress: str, as_json: bool, **flags: Any) -> None:
    """Go on with a run that was interrupted or killed; what was paid is not asked again. RUN is an id or a directory."""
    with console.errors():
        from rlm_ray import api, settings
        from rlm_ray.ledger.rundir import RunDirectory

        changed = settings.load(settings_file, **flags)
        directory = RunDirectory.find(run, changed.run_dir)
        given = changed.model_dump(include=settings.given(settings_file, **flags))
        values = directory.about().get("settings", {}) | given
        if (job := directory.job()) is not None:
            console.resume_job(directory, job, values, progress, as_json)
            return
        made = settings.make(values)
        answer = console.observed(lambda observe: api.resume(directory.uri, made, observe=observe), progress)
        console.print_answer(answer, as_json)
        sys.exit(console.exit_code(answer))


@main.command()
@click.argument("run")
@click.option("--run-dir", metavar="URL", help="Where run directories are.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(run: str, run_dir: str | None, yes: bool) -> None:
    """Remove a run's directory, with all prompts, records and answers in it. RUN is an id or a directory."""
    with console.errors():
        from rlm_ray import history

        found = history.load(run, run_dir)
        where = found.uri
        if not yes and not sys.stdin.isatty():
            console.fail(f"{where} is not removed: there is no terminal to ask at. Give --yes.", console.WRONG_USE)
        if not yes:
            click.confirm(f"Remove {where}?", abort=True, err=True)
        found.forget()
        click.echo(f"removed {where}", err=True)


@main.command()
@click.argument("run")
@click.option("--run-dir", metavar="URL", help="Where run directories are.")
def trace(run: str, run_dir: str | None) -> None:
    """Send the trace of a run to the OpenTelemetry collector of OTEL_EXPORTER_OTLP_ENDPOINT. RUN is an id or a directory."""
    with console.errors():
        from rlm_ray import history
        from rlm_ray.text import counted

        found = history.load(run, run_dir)
        click.echo(f"{counted(found.send_trace(), 'span')} of {found.id} sent", err=True)


@main.command()
@click.argument("run")
@click.option("--run-dir", metavar="URL", help="Where run directories are.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a report: one file that loads nothing.")
@click.option("--finding", type=int, metavar="N", help="Show the N-th citation with the records around it.")
@click.option("--turns", is_flag=True, help="Show every turn's code and output.")
@click.option("--citations", is_flag=True, help="Show all citations.")
@click.option("--failures", is_flag=True, help="Show all that could not be read, failed, or was refused, with the reasons.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(run: str, run_dir: str | None, html: Path | None, finding: int | None, turns: bool, citations: bool, failures: bool,
         as_json: bool) -> None:  # fmt: skip
    """Show a run on a page: its question, the answer, what it rests on. RUN is an id, the beginning of one, or a directory."""
    with console.errors():
        from rlm_ray import history

        found = history.load(run, run_dir)
        if html is not None:
            console.write_file(html, found.report())
            return
        from rlm_ray.report import run_pages

        if finding is not None:
            from rlm_ray.report.sources import source

            record = source(found.uri, finding)
            click.echo(json.dumps(record, ensure_ascii=False) if as_json else run_pages.source_text(record))
            return
        if as_json:
            click.echo(json.dumps(found.record, ensure_ascii=False))
            return
        from rich.console import Console

        out = Console(highlight=False)
        parts = {run_pages.show_turns: turns, run_pages.show_citations: citations, run_pages.show_failures: failures}
        for part in [part for part, wanted in parts.items() if wanted] or [run_pages.show_page]:
            part(found.record, out)


@main.command()
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed makes another lake and other incidents.")
@click.option("--live", is_flag=True, help="Ask real models, as the settings and flags name them; it costs money.")
@_settings
@_progress
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def demo(seed: int, live: bool, settings_file: Path | None, progress: str, as_json: bool, **flags: Any) -> None:
    """Make a lake of service logs, look for its incidents, and compare the answer with what was planted.

    Needs no key and no server: the root model's replies are recorded ones, really executed, and a small language model in this
    process reads the lines.
    """
    with console.errors():
        from rlm_ray import api, settings
        from rlm_ray.demo import run, show

        made = settings.load(settings_file, **flags)
        told = console.observed(
            lambda observe: run.run(
                api.ask, api.open, made, seed, live, observe=observe, say=lambda text: click.echo(text, err=True)
            ),
            progress,
        )
        if as_json:
            click.echo(json.dumps(told.to_json(), ensure_ascii=False))
        else:
            from rich.console import Console

            show.show(told, Console(highlight=False))
        sys.exit(console.exit_code(told.answer))


@main.command("run")
@click.argument("spec", type=click.Path(dir_okay=False, path_type=Path), metavar="SPEC.yaml")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Replace what the file says, as in settings.max_usd=2.")
@_settings
@_progress
@_plan
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def run_job(spec: Path, changes: tuple[str, ...], settings_file: Path | None, progress: str, plan: bool, as_json: bool,
            **flags: Any) -> None:  # fmt: skip
    """Run a job: its question over its corpora, each finding checked against the record that it rests on; or an evaluation.

    Exit code 4: a finding fulfils the job's `fail_on`. Exit code 5: a batch costs more than `confirm_over_usd`.
    """
    with console.errors(as_json):
        from rlm_ray.evals.spec import is_evaluation

        if is_evaluation(spec):
            console.run_evaluation(spec, changes, settings_file, flags, as_json)
            return
        from rlm_ray import api, settings
        from rlm_ray.audit import running
        from rlm_ray.audit import spec as specs
        from rlm_ray.report.page import report

        made = specs.load(spec, changes)
        base = settings.load(settings_file).model_dump(exclude_unset=True) if settings_file is not None else {}
        flags = base | {name: value for name, value in flags.items() if value is not None} | ({"plan": True} if plan else {})
        audited = console.observed(
            lambda observe: running.run(made, spec.parent, api.ask, api.open, report, flags, observe=observe), progress
        )
        console.end_job(made, audited, as_json)


@main.command()
@click.argument("spec", type=click.Path(dir_okay=False, path_type=Path), metavar="SPEC.yaml")
@click.option("--address", metavar="http://HEAD:8265", required=True, help="The dashboard of the cluster's head.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Replace what the file says.")
@click.option("--run-id", metavar="ID", help="Name of the run; one that exists is followed, or taken up where it stopped.")
@click.option("--wait", is_flag=True, help="Follow the job, and end with its exit code.")
def submit(spec: Path, address: str, changes: tuple[str, ...], run_id: str | None, wait: bool) -> None:
    """Run a job on a cluster, through Ray Jobs. Its files travel; keys do not: the cluster's nodes have them.

    Ctrl-C ends the following, not the job. The same command with the same --run-id follows it again, and takes it up where it
    stopped.
    """
    with console.errors():
        from rlm_ray.audit import spec as specs
        from rlm_ray.audit import submission
        from rlm_ray.cluster.jobs import JobServer
        from rlm_ray.ledger.rundir import new_id

        made = specs.load(spec, changes)
        submission.check_places(made)
        server = JobServer(address)
        done = submission.submit(made, spec, changes, server, run_id or f"{made.name}-{new_id()}")
        for line in submission.instructions(done, made, spec, changes, server.address):
            click.echo(line, err=True)
        if wait:
            try:
                sys.exit(submission.follow(server, done, lambda text: click.echo(text, nl=False, err=True)))
            except KeyboardInterrupt:
                console.fail(f"No longer followed. The job {done.job} goes on.", console.INTERRUPTED)


@main.command()
@click.argument("spec", type=click.Path(dir_okay=False, path_type=Path), metavar="SPEC.yaml")
@click.option("--kind", type=click.Choice(["rayjob", "raycronjob", "cronjob"]), help="What runs it; else as it is scheduled.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Replace what the file says.")
def manifest(spec: Path, kind: Any, changes: tuple[str, ...]) -> None:
    """Print the Kubernetes form of a job: a ConfigMap with its files, and what runs it."""
    with console.errors():
        from rlm_ray.audit import manifests
        from rlm_ray.audit import spec as specs

        made = specs.load(spec, changes)
        kind = kind or ("rayjob" if made.schedule is None else "raycronjob")
        click.echo(manifests.manifest(made, kind, specs.files_of(made, spec, changes)), nl=False)


@main.command()
def schema() -> None:
    """Print the JSON Schema of a job's specification, for editors: `# yaml-language-server: $schema=FILE` names it in the file."""
    from rlm_ray.audit.editors import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@main.command()
@click.argument("run")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="A folder that is not there yet."
)
@click.option("--run-dir", metavar="URL", help="Where run directories are.")
def pin(run: str, output: Path, run_dir: str | None) -> None:
    """Turn the cells of a run into a program: files that a person reads and edits, and a job runs without a root model."""
    with console.errors():
        from rlm_ray import settings
        from rlm_ray.audit import programs
        from rlm_ray.ledger.rundir import RunDirectory

        program = programs.of_run(RunDirectory.find(run, settings.load(run_dir=run_dir).run_dir))
        programs.save(program, output)
        cells = counted(len(program.cells), "cell")
        click.echo(f"wrote {cells} to {output}/cells, and what they expect to {output}/program.yaml", err=True)


@main.command()
@click.argument("run")
@click.option("--run-dir", metavar="URL", help="Where run directories are.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(run: str, run_dir: str | None, as_json: bool) -> None:
    """Replay a whole run and report the first difference; calls no model. RUN is an id or a directory. Exit code 1: it differs."""
    with console.errors():
        from rlm_ray import api, settings
        from rlm_ray.report.terminal import verified_text

        told = api.verify(run, settings.load(run_dir=run_dir))
        click.echo(json.dumps(told, ensure_ascii=False) if as_json else verified_text(told))
        sys.exit(console.COMPLETE if told["same"] else console.NO_ANSWER)


@main.command()
@click.argument("run")
@click.option("--sample", type=click.IntRange(1, 10_000), metavar="N", help="Draw so many records for people to label.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed draws other records.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where the sheet goes: .html or .csv.")
@click.option("--labels", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Labels as CSV: id, label.")
@click.option("--run-dir", metavar="URL", help="Where run directories are.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def validate(
    run: str, sample: int | None, seed: int, output: Path | None, labels: Path | None, run_dir: str | None, as_json: bool
) -> None:
    """Let people check a run: draw records to label, then read the labels and say precision, recall and what was missed.

    First `--sample 200 -o sheet.html`, a page that works offline and does not show what the machine said; then
    `--labels labels.csv`. Calls no model. RUN is an id or a directory.
    """
    with console.errors():
        if (sample is None) == (labels is None) or (sample is not None and output is None):
            console.fail("Give --sample N -o sheet.html, or --labels labels.csv.", console.WRONG_USE)
        from rlm_ray import settings
        from rlm_ray.ledger.rundir import RunDirectory
        from rlm_ray.validation import sheet as sheets

        directory = RunDirectory.find(run, settings.load(run_dir=run_dir).run_dir)
        if labels is not None:
            said = sheets.labels_of(labels.read_text("utf-8"))
            told = sheets.keep(directory, said, sheets.judge(sheets.load(directory), said))
            click.echo(json.dumps(told, ensure_ascii=False) if as_json else told["sentence"])
            return
        from rlm_ray.validation.drawing import draw_sheet
        from rlm_ray.validation.page import page

        assert sample is not None
        assert output is not None
        sheet = draw_sheet(directory, sample, seed)
        console.write_file(output, sheets.as_csv(sheet) if output.suffix == ".csv" else page(sheet, directory.id))
        words = ", ".join(f"{size:,} {name}" for name, size in sheet["sizes"].items())
        click.echo(f"wrote {counted(len(sheet['items']), 'record')} to {output}, drawn of {words}", err=True)
        click.echo(sheets.forecast(sheet["sizes"]), err=True)


@main.command("runs")
@click.argument("beginning", default="", metavar="[BEGINNING]")
@click.option("--run-dir", metavar="URL", help="Where run directories are.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def list_runs(beginning: str, run_dir: str | None, as_json: bool) -> None:
    """List the runs, newest first; with BEGINNING those whose ids begin so. Not on a terminal, ids and questions are whole."""
    with console.errors():
        from rlm_ray import history

        rows = [run.summary for run in history.runs(run_dir) if run.id.startswith(beginning)]
        if as_json:
            for row in rows:
                click.echo(json.dumps(row, ensure_ascii=False))
            return
        from rich.console import Console

        from rlm_ray.report.run_pages import runs_lines, runs_table

        if not rows:
            click.echo(f"no run begins with {beginning}" if beginning else "no runs yet")
        elif sys.stdout.isatty():
            Console(highlight=False).print(runs_table(rows))
        else:  # nothing is cut where no person looks
            for line in runs_lines(rows):
                click.echo(line)


@main.command("mcp")
@click.argument("uris", nargs=-1, metavar="NAME=URI…")
@click.option("--format", "format_", type=FORMAT, help="By the names' endings where not given.")
@click.option("--unit", type=UNIT, help="What a record is.")
@click.option("--http", type=int, metavar="PORT", help="Serve HTTP on 127.0.0.1, with a token; else stdio.")
@click.option("--skill", is_flag=True, help="Print the skill file for coding agents, and end.")
@_settings
def serve_mcp(uris: tuple[str, ...], format_: str | None, unit: str | None, http: int | None, skill: bool,
              settings_file: Path | None, **flags: Any) -> None:  # fmt: skip
    """Serve corpora to a coding agent by the Model Context Protocol. All that it does is paid from --max-calls and --max-usd.

    With --http, the token is that of the variable RLM_RAY_MCP_TOKEN, or a new one that is printed.
    """
    with console.errors():
        from rlm_ray import settings
        from rlm_ray.mcp import server as servers
        from rlm_ray.mcp.notebook import Notebook

        if skill:
            click.echo(servers.skill(), nl=False)
            return
        if not uris:
            console.fail("No corpus was given. Name at least one, as logs=s3://lake/logs.", console.WRONG_USE)
        made = settings.load(settings_file, **flags)
        opened = console.open_corpora(uris, format_, unit, made)
        server = servers.make(Notebook(opened if isinstance(opened, dict) else {"context": opened}, made))
        if http is None:
            server.run("stdio")
            return
        import secrets

        import uvicorn

        token = os.environ.get("RLM_RAY_MCP_TOKEN") or secrets.token_urlsafe(24)
        if "RLM_RAY_MCP_TOKEN" not in os.environ:
            click.echo(f"token: {token}", err=True)
        click.echo(f"http://127.0.0.1:{http}/mcp", err=True)
        uvicorn.run(servers.http_app(server, token), host="127.0.0.1", port=http, log_level="warning")


@main.command("ui")
@click.option("--run-dir", metavar="URL", help="Where run directories are: a path, or a folder of object storage.")
@click.option("--port", type=click.IntRange(0, 65535), default=8420, show_default=True, help="On 127.0.0.1; 0 takes a free one.")
@click.option("--open", "opens", is_flag=True, help="Open it in the browser of this machine.")
def serve_ui(run_dir: str | None, port: int, opens: bool) -> None:
    """Show all runs in a browser: list, filter, open, compare, follow; jobs with their history. It only reads.

    It answers on this machine alone, to browsers that opened the address with the token: that of the variable RLM_RAY_UI_TOKEN, or
    a new one. Ctrl-C ends it.
    """
    with console.errors():
        from rlm_ray import settings
        from rlm_ray.ledger.rundir import default_base
        from rlm_ray.ui.server import Server

        server = Server(settings.load(run_dir=run_dir).run_dir or default_base(), os.environ.get("RLM_RAY_UI_TOKEN"), port)
        click.echo(server.address)
        if opens:
            click.launch(server.address)
        server.serve()


def program() -> None:
    """Run the command line as a process of its own: it ends quietly, however often Ctrl-C is pressed."""
    console.interrupt_once()
    main(prog_name="rlm-ray")
