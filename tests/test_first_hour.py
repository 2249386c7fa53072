"""The commands of docs/first-hour.md run in their order, over a folder of logs, with a scripted model server as the endpoint."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rlm_ray.cli import main
from rlm_ray.testing import ModelServer, each
from tests.test_docs import ROOT

PAGE = (ROOT / "docs" / "first-hour.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
ENDPOINT = "http://localhost:8000/v1"


def commands() -> list[list[str]]:
    """The page's commands, in order, in words."""
    text = "\n".join(body for language, body in BLOCKS if language == "bash").replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.strip()]


@pytest.fixture
def home(tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with the folder of the page; the runs lie where the tests keep them."""
    (tmp_path / "logs").mkdir()
    lines = [f"host-{n % 3} {'ERROR disk is failing' if n % 7 == 3 else 'INFO all is well'} {n}\n" for n in range(40)]
    (tmp_path / "logs" / "a.log").write_text("".join(lines))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RLM_RAY_RUN_DIR", str(run_dir))
    monkeypatch.setenv("RLM_RAY_SUB_MODEL", "leaf")
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def server(model_server: Callable[..., ModelServer]) -> ModelServer:
    """The endpoint of the page: it asks for the hosts first, later for the job's findings."""
    ask = "Final = llm_each('How bad?', context.grep('ERROR'), schema={'severity': ['low', 'high']}).count_by('severity')"
    job = (
        "rows = llm_each('How bad?', logs.grep('ERROR'), schema={'severity': ['low', 'medium', 'high']})\n"
        "Final = [{'severity': row['severity'], 'host': row['text'].split()[0], 'address': row['_address'], 'quote': row['text']}"
        " for row in rows]"
    )
    return model_server(
        root=lambda messages: f"```repl\n{job if 'how bad is it' in str(messages) else ask}\n```",
        leaf=each(lambda text: "high" if "10" in text else "low"),
    )


def test_the_commands_run_in_their_order(home: Path, server: ModelServer) -> None:
    job = next(body for language, body in BLOCKS if language == "yaml")
    (home / "trouble.yaml").write_text(job.replace(ENDPOINT, server.base_url).replace("my-model", "root, sub_model: leaf"))
    results: dict[str, Result] = {}
    for program, *arguments in commands():
        if program == "pip" or arguments == ["demo"]:  # the demo has tests of its own
            continue
        assert program == "rlm-ray"
        # a shell would do the same to the folder
        places = [str(home / word[2:]) if word.startswith("~/") else word for word in arguments]
        words = [word.replace(ENDPOINT, server.base_url).replace("my-model", "root") for word in places]
        done = CliRunner().invoke(main, words)
        assert done.exit_code in ({0, 4} if words[0] == "run" else {0}), f"{shlex.join(arguments)}: {done.stderr}"
        results[" ".join(words[:2]) + " --dry-run" * ("--dry-run" in words)] = done

    assert (home / "report.html").read_text().count("<html") == 1
    assert {"first", "night"} <= set(re.findall(r"\b(?:first|night)\b", results["runs"].stdout))
    assert list((home / "audits" / "findings").rglob("*.parquet"))


def test_the_python_of_the_page_runs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(next(body for language, body in BLOCKS if language == "python"), {})
    first, *records = capsys.readouterr().out.splitlines()
    assert first == "40 6"
    assert len(records) == 3


def test_every_command_of_the_page_and_the_readme_is_one_there_is() -> None:
    text = PAGE + (ROOT / "README.md").read_text("utf-8")
    named = set(re.findall(r"rlm-ray ([a-z]+)\b", text))
    assert named <= set(main.commands), named - set(main.commands)
    for command in named:
        shown = CliRunner().invoke(main, [command, "--help"]).stdout
        lines = re.findall(rf"rlm-ray {command}\b([^\n]*(?:\\\n[^\n]*)*)", text)
        flags = {flag for line in lines for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line.split("#")[0].split("`")[0])}
        assert {flag for flag in flags if flag not in shown} == set(), command
