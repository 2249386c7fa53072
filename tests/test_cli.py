"""The command line: exit codes, one JSON object on stdout, words on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rlm_ray import __version__
from rlm_ray.cli import main
from rlm_ray.testing import ModelServer

Run = Callable[..., Result]


@pytest.fixture
def lake(tmp_path: Path) -> str:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.log").write_text("".join(f"line {n} {'ERROR' if n % 5 == 0 else 'INFO'}\n" for n in range(20)))
    return str(folder)


@pytest.fixture
def run(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """`run("ask", …)` in this process; it restores the handler of SIGTERM that a command sets."""
    import signal

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("RLM_RAY_RUN_DIR", str(run_dir))
    yield lambda *arguments: CliRunner().invoke(main, list(arguments))
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def ask(run: Run, lake: str, model_server: Callable[..., ModelServer]) -> Run:
    """`ask(code, *flags)`: a root whose one cell is `code`."""

    def asked(code: str, *flags: str, uris: tuple[str, ...] | None = None) -> Result:
        server = model_server(root=[f"```repl\n{code}\n```"] * 3)
        models = ("--root-model", "root", "--sub-model", "leaf", "--base-url", server.base_url)
        return run("ask", *(uris or (lake,)), "-q", "How many?", *models, *flags)

    return asked


def test_help_and_version(run: Run) -> None:
    assert "Exit codes: 0 complete; 1 no answer; 2 wrong usage" in run("--help").stdout
    assert run("--version").stdout.strip().endswith(__version__)
    for command in main.commands:
        assert run(command, "--help").exit_code == 0


def test_an_answer_goes_to_stdout_and_words_to_stderr(ask: Run) -> None:
    done = ask("Final = context.grep('ERROR').count()")
    assert (done.exit_code, done.stdout) == (0, "4\n")
    assert "answered: 1 turn, 1 call, " in done.stderr


def test_a_run_as_a_page_and_a_finding_with_its_neighbours(ask: Run, run: Run, tmp_path: Path) -> None:
    ask("cite(context[5], 'ERROR')\nFinal = 1", "--run-id", "night")
    page = tmp_path / "night.html"
    done = run("show", "night", "--html", str(page))
    assert (done.exit_code, done.stdout) == (0, "")
    assert "How many?" in page.read_text()
    shown = run("show", "night", "--finding", "1").stdout
    assert "> line 5 ERROR" in shown
    assert "  line 4 INFO" in shown
    assert json.loads(run("show", "night", "--finding", "1", "--json").stdout)["record"]["text"] == "line 5 ERROR"
    for arguments, message in (
        (["--finding", "2"], "has 1 citation;"),
        (["--html", str(tmp_path / "no" / "x.html")], "cannot be written"),
    ):
        failed = run("show", "night", *arguments)
        assert failed.exit_code == 2
        assert message in failed.stderr


def test_json_is_one_object(ask: Run) -> None:
    done = ask("Final = {'n': context.count()}", "--json")
    assert done.exit_code == 0
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["value"] == {"n": 20}
    assert {"value", "complete", "stop_reason", "usage", "coverage", "citations", "failures", "run"} <= set(told)
    assert {"calls", "prompt_tokens", "completion_tokens", "usd", "seconds"} <= set(told["usage"])


def test_a_table_is_printed_row_by_row(ask: Run) -> None:
    done = ask("Final = context.grep('ERROR')")
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == [f"line {n} ERROR" for n in (0, 5, 10, 15)]


def test_named_corpora(ask: Run, lake: str) -> None:
    done = ask("Final = sorted(context)", "--json", uris=(f"one={lake}", f"two={lake}"))
    assert json.loads(done.stdout)["value"] == ["one", "two"]
    mixed = ask("Final = 1", uris=(lake, f"two={lake}"))
    assert mixed.exit_code == 2
    assert "Name all of them, as NAME=URI, or none" in mixed.stderr


def test_no_answer_is_1_and_a_partial_one_3(ask: Run) -> None:
    assert ask("print(context.count())", "--max-turns", "1").exit_code == 1
    assert ask("print(context.count())\n```\nAbout 20.\n```text\n", "--max-turns", "1").exit_code in (1, 3)


def test_prose_in_the_last_turn_is_partial(run: Run, lake: str, model_server: Callable[..., ModelServer]) -> None:
    server = model_server(root=["About 20."])
    done = run("ask", lake, "-q", "How many?", "--root-model", "root", "--base-url", server.base_url, "--max-turns", "1")
    assert (done.exit_code, done.stdout) == (3, "About 20.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask"],
        ["ask", "x"],
        ["nope"],
        ["ask", "x", "-q", "y", "--no-such-flag"],
        ["ask", "x", "-q", "y", "--isolation", "loose"],
        ["ask", "x", "-q", "y", "--max-calls", "many"],
        ["ask", "no such file", "-q", "y", "--root-model", "m"],
        ["ask", "x", "-q", "y", "--max-calls", "0"],
        ["ask", "x", "-q", "y", "--settings", "no such file.yaml"],
        ["inspect", "no such file"],
        ["show", "no-such-run"],
        ["resume", "no-such-run"],
    ],
)
def test_wrong_usage_is_2_and_says_what(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_inspect_reads_and_asks_nothing(run: Run, lake: str) -> None:
    assert "kind: lines" in run("inspect", lake).stdout
    told = json.loads(run("inspect", lake, "--json").stdout)
    assert told["unit"] == "line"


def test_runs_and_show(ask: Run, run: Run) -> None:
    assert "no runs yet" in run("runs").stdout
    ask("print('looking')\nFinal = context.count()", "--run-id", "night")
    (listed,) = map(json.loads, run("runs", "--json").stdout.splitlines())
    assert (listed["run"], listed["state"], listed["calls"]) == ("night", "complete", 1)
    shown = json.loads(run("show", "night", "--json").stdout)
    assert shown["answer"]["value"] == 20
    assert shown["turns"][0]["cells"][0]["output"] == "looking\n"
    text = run("show", "night").stdout
    assert "How many?" in text
    assert "looking" in run("show", "night", "--turns").stdout


def test_control_characters_of_a_corpus_never_reach_a_terminal(ask: Run) -> None:
    done = ask("context.count(); Final = 'red \\x1b[31m alert\\x07'")
    assert done.stdout == "red [31m alert\n"
