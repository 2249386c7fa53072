from __future__ import annotations

import re
from typing import Any

import pytest

from rlm_ray.recursion.loop import prompts
from rlm_ray.recursion.loop.cells import cells
from rlm_ray.settings import Settings

INFO = {
    "kind": "text",
    "unit": "line",
    "objects": 3,
    "shards": 12,
    "nbytes": 7_500_000_000,
    "records": None,
    "estimate": 60_000_000,
    "schema": {"text": "string"},
    "partitions": {"day": ["2026-01-01", "2026-02-01"]},
    "conflicts": [],
    "failed": [],
}


def system(settings: Settings | None = None, **changes: Any) -> str:
    given: dict[str, Any] = {"text": False, "names": ["context"], "unit": "line", "depth": 0}
    return prompts.system(settings or Settings(), **(given | changes))


def task(**changes: Any) -> str:
    given: dict[str, Any] = {"schema": None, "depth": 0, "parent": False, "fits": None, "text": False, "left": "Left: 9 calls."}
    return prompts.task(
        changes.pop("question", "How many?"), changes.pop("contexts", {"context": "3 objects"}), **(given | changes)
    )


def test_every_limit_is_a_number() -> None:
    said = system(Settings(max_turns=7, max_calls=1_234, max_tokens=5_000_000, max_usd=2.5, max_seconds=99, call_tokens=1_000))
    for told in (
        "7 turns",
        "1,234 model calls",
        "5,000,000 tokens",
        "$2.5",
        "99 seconds",
        "about 1,000 tokens of text (4,000 characters)",
    ):
        assert told in said
    assert "tokens=8000" in said
    assert "up to 50 records" in said


def test_a_limit_of_one_is_no_plural() -> None:
    said = system(Settings(max_turns=1, max_calls=1, max_tokens=1_000, max_seconds=0.5, cell_seconds=1, records_per_call=1))
    for told in (
        "- 1 turn; 1 model call for everything; 1,000 tokens; 0.5 seconds.",
        "up to 1 record.",
        "computes at most 1 second (",
    ):
        assert told in said


def test_limits_that_are_not_set_are_not_told() -> None:
    assert "$" not in system().partition("## Limits")[2]
    assert "Depth 0 of 1." in system()
    assert "Depth 1 of 1: no deeper recursive calls." in system(depth=1)
    assert "Not possible at this depth" in system(depth=1)
    assert "Not possible at this depth" not in system(Settings(max_depth=2), depth=1)


@pytest.mark.parametrize(
    "changes", [{}, {"text": True, "names": [], "unit": "text"}, {"names": ["logs", "mails"]}, {"unit": "row"}]
)
def test_its_examples_are_cells_over_what_is_there(changes: dict[str, Any]) -> None:
    said = system(**changes)
    shown = cells(said)
    assert len(shown) >= 2
    names = {name for cell in shown for name in re.findall(r"(\w+)\.(?:describe|grep|sample|split)\b", cell)}
    assert names - {"hits"} == (set() if changes.get("text") else {"logs"} if "names" in changes else {"context"})
    for cell in shown:
        compile(cell, "cell", "exec")


def test_a_text_context_is_not_taught_the_handle() -> None:
    said = system(text=True, names=[], unit="text")
    assert "## The handle" not in said
    assert "context[:500]" in said


def test_several_corpora_are_named() -> None:
    assert "a dict of handles; each is also a variable by its name: logs, mails" in system(names=["logs", "mails"])


def test_the_task_says_what_is_asked_and_what_is_known() -> None:
    said = task(contexts={"context": prompts.metadata(INFO, [{"_address": "a@1#bytes=0-9", "text": "a line"}])})
    assert said.startswith("Question: How many?")
    for told in (
        "kind: text",
        "7.5 GB",
        "about 60,000,000 records (an estimate)",
        "2026-01-01",
        '"text": "a line"',
        "Left: 9 calls.",
    ):
        assert told in said


def test_failed_objects_are_told() -> None:
    failed = [{"object": f"s3://lake/{number}.parquet", "reason": "it is no Parquet file"} for number in range(5)]
    said = prompts.metadata(INFO | {"failed": failed}, [])
    assert "5 objects cannot be read and are not part of it" in said
    assert "s3://lake/2.parquet: it is no Parquet file" in said
    assert "s3://lake/3.parquet" not in said


def test_a_recursive_call_is_told_that_it_is_one() -> None:
    assert task(parent=True, depth=2).startswith("You are a recursive call, at depth 2")


def test_a_schema_is_shown() -> None:
    assert 'JSON Schema: {"type": "integer"}' in task(schema={"type": "integer"})


def test_a_context_that_fits_one_call_is_told_so() -> None:
    assert "`llm_query(question, context)`" in task(fits="about 9 of 24,000 tokens")
    assert "`llm_query(question, logs)`" in task(fits="about 9 of 24,000 tokens", contexts={"logs": "x"})
    assert "fits one model call" not in task(fits="about 9 of 24,000 tokens", contexts={"logs": "x", "mails": "y"})
    assert "fits one model call" not in task()
    assert "`print(logs.text())`" in task(fits="about 9 of 24,000 tokens", contexts={"logs": "x"}, printable=True)
    assert "print(" not in task(fits="about 9 of 24,000 tokens", contexts={"logs": "x"}, printable=False)


HUGE = {
    "kind": "parquet",
    "unit": "row",
    "objects": 4_000_000,
    "shards": 90_000_000,
    "nbytes": 10**16,
    "records": 10**13,
    "schema": {f"a_column_with_a_rather_long_name_{number}": "list<struct<a: int64>>" * 40 for number in range(20_000)},
    "partitions": {f"key{key}": [f"value {number}" * 50 for number in range(5_000)] for key in range(100)},
    "conflicts": [f"column {number}" for number in range(100_000)],
    "failed": [{"object": "s3://" + "x" * 5_000, "reason": "y" * 50_000}] * 1_000,
}


def test_the_size_does_not_depend_on_the_corpus() -> None:
    record = {f"column{number}": "z" * 100_000 for number in range(1_000)}
    metadata = prompts.metadata(HUGE, [record] * 3)
    assert len(metadata) <= prompts.METADATA_CHARS + 100
    said = task(question="q" * 10**6, contexts={"context": metadata})
    assert len(said) <= prompts.METADATA_CHARS + prompts.QUESTION_CHARS + 1_000
    assert system(unit=HUGE["unit"]) == system(unit="row")


def test_the_size_does_not_grow_with_the_number_of_corpora() -> None:
    metadata = prompts.metadata(HUGE, [])
    sizes = [len(task(contexts={f"corpus{number}": metadata for number in range(count)})) for count in (1, 2, 8, 40)]
    assert max(sizes) <= 2 * prompts.METADATA_CHARS + 40 * 100 + 1_000


def test_the_metadata_of_a_text_is_short_too() -> None:
    text = "first line\n" + "x" * 10**6
    said = prompts.text_metadata(text)
    assert said.startswith("a str of 1,000,011 characters in 2 lines\nit begins: 'first line")
    assert len(said) < 3 * prompts.SAMPLE_CHARS


@pytest.mark.parametrize(
    "text", ["{{ question }}", "{% for x in range(9) %}x{% endfor %}", "{# gone #}", "{{ ''.__class__ }}", "{{"]
)
def test_text_of_a_corpus_or_a_person_is_never_a_template(text: str) -> None:
    metadata = prompts.metadata(INFO | {"schema": {text: "string"}}, [{"_address": "a@1#row=0", text: text}])
    said = task(question=f"What does {text} mean?", contexts={"context": metadata}, schema={"const": text})
    assert f"What does {text} mean?" in said
    assert said.count(text) == 5
    assert text in prompts.text_metadata(text)


def test_nothing_is_escaped() -> None:
    assert 'Is "a < b & c" there?' in task(question='Is "a < b & c" there?')
