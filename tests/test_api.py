"""`open`, `ask`, `resume` as a person calls them. Little data needs no Ray; scripted models, everything else real."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.errors import InputError, RunNotFound, SettingsError
from rlm_ray.handle.corpus import Corpus
from rlm_ray.recursion.answer import Answer
from rlm_ray.recursion.jobs.progress import Progress
from rlm_ray.testing import ModelServer

Ask = Callable[..., Answer]


def cells(*codes: str) -> list[str]:
    return [f"```repl\n{code}\n```" for code in codes]


@pytest.fixture
def logs(tmp_path: Path) -> str:
    folder = tmp_path / "logs"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.log").write_text("".join(f"{name} {n} {'ERROR' if n % 5 == 0 else 'INFO'}\n" for n in range(20)))
    return str(folder)


@pytest.fixture
def ask(model_server: Callable[..., ModelServer], run_dir: Path) -> Ask:
    def run(
        corpus: Any, root: Any, question: str = "How many?", schema: Any = None, observe: Any = None, **settings: Any
    ) -> Answer:
        server = model_server(root=root)
        return rlm_ray.ask(corpus, question, server.settings(run_dir=str(run_dir), **settings), schema, observe=observe)

    return run


def test_a_number_counted_in_code(ask: Ask, logs: str) -> None:
    answer = ask(rlm_ray.open(logs), cells("print(context.head(1))", "Final = context.grep('ERROR').count()"))
    assert (answer.value, answer.text, answer.complete, answer.stop_reason, answer.turns) == (8, "8", True, "answered", 2)
    assert answer.usage["calls"] == answer.usage.calls == 2
    assert answer.usage.tokens == answer.usage["prompt_tokens"] + answer.usage["completion_tokens"]
    assert json.loads(json.dumps(answer.usage)) == answer.usage == answer.to_json()["usage"]
    assert answer.usage["prompt_tokens"] > 100
    assert answer.usage["usd"] is None or answer.usage["usd"] >= 0
    assert answer.coverage["shards"] == 2
    assert answer.coverage["bytes"]["read_by_code"] == answer.coverage["bytes"]["total"] > 0
    assert answer.failures == []
    assert answer.isolation == "strict"
    json.dumps(answer.to_json())


def test_an_answer_that_is_a_table(ask: Ask, logs: str) -> None:
    answer = ask(rlm_ray.open(logs), cells("Final = context.map(lambda r: {'n': int(r['text'].split()[1])})"))
    assert answer.value is None
    assert isinstance(answer.table, Corpus)
    assert [row["n"] for row in answer.rows()] == [*range(20), *range(20)]
    assert answer.table.where([("n", ">=", 15)]).count() == 10
    assert answer.to_json()["value"]["rows"] == 40


def test_a_text_is_the_context(ask: Ask) -> None:
    answer = ask("one two\nthree", cells("Final = len(context.split())"))
    assert answer.value == 3
    assert answer.coverage["shards"] == 0


def test_several_corpora_by_name(ask: Ask, logs: str, tmp_path: Path) -> None:
    (tmp_path / "mail.txt").write_text("hello\n")
    answer = ask(
        {"logs": rlm_ray.open(logs), "mails": rlm_ray.open(str(tmp_path / "mail.txt"))},
        cells("Final = {'logs': logs.count(), 'mails': context['mails'].count(), 'names': sorted(context)}"),
    )
    assert answer.value == {"logs": 40, "mails": 1, "names": ["logs", "mails"]}


def test_a_narrowed_corpus(ask: Ask, logs: str) -> None:
    assert ask(rlm_ray.open(logs).grep("ERROR")[2:], cells("Final = context.count()")).value == 6


def test_an_answer_must_fit_its_schema(ask: Ask, logs: str) -> None:
    root = cells("Final = {'count': 'many', 'seen': context.count()}", "Final = {'count': 8, 'seen': 40}")
    answer = ask(rlm_ray.open(logs), root, schema={"count": "integer", "seen": "integer"})
    assert answer.value == {"count": 8, "seen": 40}
    assert answer.turns == 2


def test_turns_run_out(ask: Ask, logs: str) -> None:
    answer = ask(rlm_ray.open(logs), ["I wonder.", "It may be 8."], max_turns=2)
    assert (answer.value, answer.complete, answer.stop_reason) == ("It may be 8.", False, "turns")


def test_progress_is_observed(ask: Ask, logs: str) -> None:
    seen: list[tuple[int, str]] = []

    def observe(progress: Progress) -> None:
        seen.append((progress.turn, progress.doing))

    ask(rlm_ray.open(logs), cells("Final = context.count()"), observe=observe)
    assert (1, "asking the root model") in seen
    assert (1, "Final = context.count()") in seen


def test_asking_without_blocking(logs: str, model_server: Callable[..., ModelServer], run_dir: Path) -> None:
    server = model_server(root=cells("Final = context.count()"))
    answer = asyncio.run(rlm_ray.aask(rlm_ray.open(logs), "How many?", server.settings(run_dir=str(run_dir))))
    assert answer.value == 40


def test_a_finished_run_is_not_run_again(ask: Ask, logs: str, run_dir: Path) -> None:
    first = ask(rlm_ray.open(logs), cells("Final = context.count()"), run_id="night")
    again = ask(rlm_ray.open(logs), [], run_id="night")
    assert (again.value, again.run) == (first.value, first.run)
    assert rlm_ray.resume(first.run).value == 40
    with pytest.raises(InputError, match=r"asked another question.*Give another run id"):
        ask(rlm_ray.open(logs), [], "Something else?", run_id="night")


def test_a_run_that_is_not_there(run_dir: Path) -> None:
    with pytest.raises(RunNotFound):
        rlm_ray.resume(str(run_dir / "nope"))


@pytest.mark.parametrize(
    ("corpus", "said"),
    [
        ("s3://lake/logs/", "looks like a URI"),
        ({}, "No corpus was given"),
        ({"logs": "a text"}, "is a str. Pass what rlm_ray.open"),
        ({"not a name": None}, "is a NoneType"),
        (5, "int"),
    ],
)
def test_what_is_no_corpus(ask: Ask, corpus: Any, said: str) -> None:
    with pytest.raises((InputError, TypeError), match=said):
        ask(corpus, [])


def test_a_name_that_no_variable_can_have(ask: Ask, logs: str) -> None:
    with pytest.raises(InputError, match="cannot name a corpus"):
        ask({"my logs": rlm_ray.open(logs)}, [])


@pytest.mark.parametrize("question", ["", "  \n", None, 5])
def test_what_is_no_question(ask: Ask, question: Any) -> None:
    with pytest.raises(InputError, match="The question is empty"):
        ask("a text", [], question)


def test_no_model_is_set() -> None:
    with pytest.raises(SettingsError, match="No root model is set"):
        rlm_ray.ask("a text", "How many?", rlm_ray.Settings())


@pytest.mark.parametrize("schema", [{}, {"type": "object", "properties": 5}, {"x": "no such type"}, {"label": []}])
def test_what_is_no_schema(ask: Ask, schema: Any) -> None:
    with pytest.raises(InputError):
        ask("a text", [], schema=schema)


def test_nothing_at_a_uri(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        rlm_ray.open(str(tmp_path / "nope"))
