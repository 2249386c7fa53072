"""What functions and sub-calls fail on reaches the root model after the cell, and the person with the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import rlm_ray
from rlm_ray import api, history
from rlm_ray.cli import main
from rlm_ray.errors import FunctionFailed, InputError, SubcallFailed
from rlm_ray.report.page import report
from rlm_ray.testing import ModelServer, each
from rlm_ray.testing.scripts import Message, text_of
from rlm_ray.worker import work
from tests.recursion.conftest import World

Make = Callable[..., World]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """2,000 records."""
    folder = tmp_path / "rows"
    folder.mkdir()
    made = [{"n": n} for n in range(2_000)]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    return folder


def asked(rows: Path, server: ModelServer, run_dir: Path, **settings: Any) -> Any:
    return rlm_ray.ask(rlm_ray.open(str(rows)), "How many?", server.settings(run_dir=str(run_dir), **settings))


class Root:
    """Replies from a list, and remembers what it was told before each."""

    def __init__(self, *cells: str) -> None:
        self._cells = cells
        self.told: list[str] = []

    def __call__(self, messages: list[Message]) -> str:
        self.told.append(text_of(messages[-1]))
        return self._cells[len(self.told) - 1]


MAP = "def double(record):\n    return {'twice': 2 * record['n'] if record['n'] >= 1279 else record['none']}\n"


def test_a_function_that_fails_on_most_records_raises(rows: Path, model_server: Callable[..., ModelServer], run_dir: Path) -> None:
    cells = [f"```repl\n{MAP}made = context.map(double)\nprint(made.count())\n```", "```repl\nFinal = context.count()\n```"]
    root = Root(*cells)
    answer = asked(rows, model_server(root=root), run_dir)
    told = root.told[1]
    assert "FunctionFailed: map(double) failed on 1,279 of 2,000: in double, line 2" in told
    assert "KeyError: 'none'" in told
    assert "a.jsonl@" in told
    assert "on_error='keep'" in told
    assert (answer.value, answer.complete, answer.failures) == (2_000, True, [])  # it gave nothing to rest on
    assert api.verify(answer.run)["difference"] is None


def test_kept_failures_are_told_counted_apart_and_make_the_answer_partial(
    rows: Path, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    cells = [
        f"```repl\n{MAP}made = context.map(double, on_error='keep')\n"
        "print(made.count(), made.failed.count(), sum(1 for _ in made))\n```",
        "```repl\nFinal = [made.count(), len(made.head(5000)), made.count_by('twice', 9999).get(None)]\n```",
    ]
    root = Root(*cells)
    answer = asked(rows, model_server(root=root), run_dir)
    told = root.told[1]
    assert "721 1279 721" in told
    assert "[map(double) failed on 1,279 of 2,000: in double, line 2" in told
    assert "the failed rows are in .failed]" in told
    assert answer.value == [721, 721, None]
    assert not answer.complete
    (failure,) = answer.failures
    assert (failure["verb"], failure["what"], failure["failed"], failure["of"]) == ("map", "double", 1_279, 2_000)
    assert "#" in failure["address"]
    assert api.verify(answer.run)["difference"] is None


def test_a_verb_that_is_done_again_without_failures_takes_the_place_of_the_one_that_failed(
    rows: Path, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    cells = [
        f"```repl\n{MAP}made = context.map(double, on_error='keep')\n```",
        "```repl\nmade = context.map(lambda record: {'twice': 2 * record['n']})\nFinal = made.count()\n```",
    ]
    answer = asked(rows, model_server(root=cells), run_dir)
    assert (answer.value, answer.complete, answer.failures) == (2_000, True, [])


@pytest.mark.parametrize("verb", ["map", "filter"])
def test_a_function_that_fails_on_everything_is_stopped_early(world: Make, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.setattr(work, "STOP_AFTER", 20)
    made = world()

    def broken(record: dict[str, Any]) -> Any:
        return record["no such column"]

    # the batches of an object are as large as it is here: it is stopped after the first object
    with pytest.raises(FunctionFailed, match=rf"{verb}\(broken\) failed on 40 of 40 that were tried, and was stopped there"):
        getattr(made["logs"], verb)(broken)


def test_a_filter_that_fails_on_some_has_them_in_failed(world: Make) -> None:
    made = world()
    kept = made["logs"].filter(lambda record: {"auth": True, "cart": False}[record["text"].split()[0]])
    assert kept.count() == 40
    assert kept.failed.count() == 40
    assert {row["_error"].split("\n")[-1] for row in kept.failed} == {"KeyError: 'mail' is not a key"}
    assert kept.grep("ERROR").failed.count() == 40
    (failure,) = made.service.failures.verbs.found.values()
    assert (failure.verb, failure.failed, failure.of) == ("filter", 40, 120)


def test_an_aggregate_that_fails_raises_or_leaves_the_batch_out(world: Make) -> None:
    def tally(records: list[dict[str, Any]]) -> int:
        return len(records) if "mail" not in records[0]["text"] else records[0]["none"]

    made = world()
    with pytest.raises(FunctionFailed, match=r"aggregate\(tally\) failed on 40 of 120"):
        made["logs"].aggregate(tally, lambda a, b: a + b)
    assert made["logs"].aggregate(tally, lambda a, b: a + b, on_error="keep") == 80
    with pytest.raises(InputError, match="on_error = 'ignore' is no choice"):
        made["logs"].map(len, on_error="ignore")


def test_failed_rows_are_on_no_way_into_other_verbs(world: Make, model_server: Callable[..., ModelServer]) -> None:
    server = model_server(leaf=each(lambda text: "perhaps" if "mail" in text else "yes"))
    made = world(base_url=server.base_url)
    result = made.verbs.llm_each("Is it well?", made["logs"], {"verdict": ["yes", "no"]})
    assert (result.count(), result.failed.count(), result.ok.count(), len(result)) == (80, 40, 80, 80)
    assert sum(1 for _ in result) == len(result.head(500)) == len(result.sample(500)) == 80
    assert result.count_by("verdict") == {"yes": 80}
    assert "mail" not in result.text()
    assert result[79]["text"].startswith("cart")
    assert result.map(lambda row: {"text": row["text"]}).count() == 80
    assert sum(chunk.count() for chunk in result.chunks(tokens=200)) == 80
    assert result.sql("select count(*) n from context", "select sum(n) n from context").head(1)[0]["n"] == 80
    assert result.failed.map(lambda row: {"text": row["text"]}).count() == 40


def test_sub_calls_that_all_fail_never_make_a_complete_answer(
    rows: Path, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    cells = [
        "```repl\nsaid = llm_each('Is it?', context[:4], {'v': ['yes']})\n"
        "try:\n    print(said.count())\nexcept SubcallFailed:\n    print('quiet')\n```",
        "```repl\nfor question in 'ab':\n    try:\n        llm_query(question, context.where([('n', '==', -1)]))\n"
        "    except SubcallFailed:\n        pass\n```",
        "```repl\nFinal = 'all is well'\n```",
    ]
    root = Root(*cells)
    answer = asked(rows, model_server(root=root, leaf=lambda prompt, schema: "no form at all"), run_dir)
    assert "quiet" in root.told[1]
    assert "[llm_each failed on 4 of 4: " in root.told[1]
    assert "in .failed]" in root.told[1]
    assert "[llm_query failed on 2 of 2: " in root.told[2]
    assert not answer.complete
    assert {item["verb"] for item in answer.failures} == {"llm_each", "llm_query"}
    assert api.verify(answer.run)["difference"] is None


def test_the_person_gets_the_same_and_exit_code_3(rows: Path, model_server: Callable[..., ModelServer], run_dir: Path) -> None:
    cells = [f"```repl\n{MAP}Final = context.map(double, on_error='keep').count()\n```"]
    for form in ((), ("--json",)):
        server = model_server(root=cells)
        flags = ("--root-model", "root", "--sub-model", "leaf", "--base-url", server.base_url, "--run-dir", str(run_dir))
        ended = CliRunner(env={"OPENAI_API_KEY": "none"}).invoke(main, ["ask", str(rows), "-q", "How many?", *flags, *form])
        assert ended.exit_code == 3, ended.output
        assert "map(double) failed on 1,279 of 2,000" in ended.output
        assert ("1 verb failed on what the answer may rest on:" in ended.output) is (not form)
        assert ('"verb": "map"' in ended.output) is bool(form)
    listed = history.runs(str(run_dir)).rows()
    assert {row["state"] for row in listed} == {"partial (1 failure)"}
    head = report(str(run_dir / listed[0]["run"])).partition("</header>")[0]
    assert "answered in part: 1 failure" in head
    assert "map(double) failed on 1,279 of 2,000" in head


def test_a_batch_with_few_failures_is_read_and_one_with_many_raises(world: Make, model_server: Callable[..., ModelServer]) -> None:
    server = model_server(leaf=each(lambda text: "perhaps" if "mail" in text else "yes"))
    made = world(base_url=server.base_url, max_failed_share=0.2)
    result = made.verbs.llm_each("Is it well?", made["logs"], {"verdict": ["yes", "no"]})
    with pytest.raises(SubcallFailed, match=r"llm_each failed on 40 of 120: No valid answer.*first at .*mail\.log@.*\.failed"):
        list(result)
    assert result.failed.count() == 40
    kept = made.verbs.llm_each("Is it well?", made["logs"], {"verdict": ["yes", "no"]}, on_error="keep")
    assert kept.count() == 80
