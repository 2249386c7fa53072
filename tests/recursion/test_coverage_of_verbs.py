"""What counts as read, and what does not: failures, functions, SQL, text that is no record's, results asked about again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from rlm_ray.corpus.opening import open_manifest
from rlm_ray.handle.corpus import Corpus
from rlm_ray.handle.plan import Plan, Source
from rlm_ray.ledger.coverage import measure
from rlm_ray.ledger.read_log import ReadLog
from rlm_ray.subcalls.render import render
from rlm_ray.testing import ModelServer, each
from tests.recursion.conftest import World

Make = Callable[..., World]
SCHEMA = {"verdict": ["yes", "no"]}


@pytest.fixture
def served(world: Make, model_server: Callable[..., ModelServer]) -> Make:
    """`served(reader, **settings)`: a world whose leaf answers by a reader."""

    def make(reader: Callable[[str], Any] = lambda text: "yes", **options: Any) -> World:
        server = model_server(leaf=each(reader))
        return world(base_url=server.base_url, **options)

    return make


def test_what_was_not_answered_was_not_read_by_a_model(served: Make) -> None:
    made = served(lambda text: "perhaps" if "mail" in text else "yes")
    result = made.verbs.llm_each("Is it well?", made["logs"], schema=SCHEMA)
    assert result.failed.count() == 40
    told = made.coverage("logs")
    assert (told["read_by_model"], told["read_by_code"], told["total"]) == (80, 40, 120)


def test_a_failed_row_that_is_asked_again_is_read_then(served: Make) -> None:
    asked: set[str] = set()

    def reader(text: str) -> str:
        return "yes" if "again" in asked else "perhaps"

    made = served(reader)
    result = made.verbs.llm_each("Is it well?", made["logs"].grep("ERROR"), schema=SCHEMA)
    assert result.failed.count() == 30
    assert made.coverage("logs")["read_by_model"] == 0
    asked.add("again")
    once_more = made.verbs.llm_each("Once more: is it well?", result.failed.select("text"), schema={"second": ["yes", "no"]})
    assert once_more.ok.count() == 30
    told = made.coverage("logs")
    assert told["unattributed"] == {"calls": 0, "characters": 0}
    lines = made["logs"].grep("ERROR").head(100)
    assert told["bytes"]["read_by_model"] == sum(len(line["text"]) + 1 for line in lines)


def test_what_a_model_said_of_records_is_not_the_records(served: Make) -> None:
    made = served()
    result = made.verbs.llm_each("Is it well?", made["logs"].grep("auth"), schema=SCHEMA)
    assert result.ok.count() == 40
    before = made.coverage("logs")
    said = made.verbs.llm_map("Sum up.", result.select("verdict").chunks(tokens=8000))
    assert said.failed.count() == 0
    after = made.coverage("logs")
    assert after["bytes"] == before["bytes"]
    assert after["unattributed"] == {"calls": 0, "characters": 0}
    assert after["shown"]["derived"] == {"calls": 1, "records": 40, "characters": 40 * len('{"verdict":"yes"}')}
    assert {name: after["shown"][name] for name in ("calls", "records", "characters")} == {
        name: before["shown"][name] for name in ("calls", "records", "characters")
    }


def test_what_a_model_was_shown_is_counted_in_characters_not_in_bytes_of_whole_rows(served: Make) -> None:
    made = served(records_per_call=7)
    assert made.verbs.llm_each("Is it well?", made["rows"].select("msg"), schema=SCHEMA).ok.count() == 100
    rows = made["rows"].select("msg").head(10_000)
    told = made.coverage("rows")
    shown = told["shown"]
    assert shown["records"] == told["read_by_model"] == len(rows)
    assert shown["characters"] == sum(len(render({"msg": row["msg"]})) for row in rows) < told["bytes"]["read_by_model"]
    assert shown["calls"] >= len(rows) / 7
    assert made.verbs.llm_each("Once more: is it well?", made["rows"].select("msg"), schema=SCHEMA).ok.count() == 100
    again = made.coverage("rows")["shown"]
    assert again["calls"] == 2 * shown["calls"]
    assert again["characters"] == shown["characters"]  # the same of the same records


def test_parts_of_a_record_are_added_up_and_the_record_counts_once(served: Make) -> None:
    made = served()
    spans = made["docs"].split("text", by="paragraph")
    every = spans.head(10_000)
    assert made.verbs.llm_each("Is it well?", spans, schema=SCHEMA).ok.count() == len(every)
    shown = made.coverage("docs")["shown"]
    assert shown["records"] == 5
    assert shown["characters"] == sum(len(render(span)) for span in every)


def test_text_that_code_made_of_records_is_said_with_how_many(served: Make) -> None:
    def first(record: dict[str, Any]) -> dict[str, Any]:
        return {"first": record["msg"][:3]}

    made = served(records_per_call=5)
    found = made.ask("map", cloudpickle.dumps(first), plan=made["rows"].grep("message 1").plan.to_json())
    result = Corpus(Plan.from_json(found["plan"]), found["info"], made.service)
    rows = result.count()
    assert made.verbs.llm_each("Is it well?", result.select("first"), schema=SCHEMA).ok.count() == rows
    told = made.coverage("rows")
    assert told["shown"]["records"] == told["shown"]["characters"] == told["read_by_model"] == 0
    assert told["shown"]["derived"]["records"] == rows > 0
    assert told["shown"]["derived"]["characters"] == rows * len('{"first":"mes"}')
    assert told["shown"]["derived"]["calls"] == 1  # all rows say the same
    assert told["unattributed"] == {"calls": 0, "characters": 0}


def test_packs_of_texts_are_counted_as_calls(served: Make) -> None:
    made = served(lambda text: text[-7:], records_per_call=10)
    texts = [f"text {number:02}" for number in range(30)]
    result = made.verbs.llm_map("Say it.", texts, schema={"said": "string"})
    answers = made.verbs.llm_each("Say it again.", result.select("said"), schema={"again": "string"})
    assert answers.ok.count() == 30
    told = made.coverage("logs")["unattributed"]
    assert told == {"calls": 30 + 3, "characters": sum(map(len, texts)) + 30 * len('{"said":"text 00"}')}


def test_text_in_prompts_is_counted_once_per_call(served: Make) -> None:
    made = served()
    prompts = ["What of this: auth 00 ERROR?", "What of that?", "What of that?"]
    made.verbs.llm_query_batched(prompts)
    made.verbs.llm_query("Sum up.", "a text as a part")
    told = made.coverage("logs")["unattributed"]
    assert told == {"calls": 3, "characters": len(prompts[0]) + len(prompts[1]) + len("a text as a part")}


def test_functions_and_sql_read_what_they_are_given(served: Make) -> None:
    def first(record: dict[str, Any]) -> dict[str, Any]:
        return {"first": record["msg"][:1]}

    made = served()
    made.ask("map", cloudpickle.dumps(first), plan=made["rows"].grep("message 1").plan.to_json())
    told = made.coverage("rows")
    assert told["bytes"]["read_by_code"] == told["bytes"]["total"]
    other = served()
    assert other.ask("sql", plan=other["docs"].plan.to_json(), query="select count(*) n from context", combine=None)
    assert other.coverage("docs")["read_by_code"] == 5


def test_looking_is_as_far_as_it_went(served: Make) -> None:
    made = served()
    (first,) = made["logs"].head(1)
    assert made.coverage("logs")["bytes"]["read_by_code"] == len(first["text"]) + 1
    made.verbs.cite(made["logs"].head(1)[0], first["text"])
    assert made.coverage("logs")["bytes"]["read_by_code"] == len(first["text"]) + 1
    assert made["docs"].count() == 5  # the listing says it
    assert made.coverage("docs")["not_read"] == 5


def test_a_shard_that_failed_is_not_read(served: Make, lake: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "a.log").write_text("one\ntwo\n")
    (folder / "b.log.gz").write_bytes(b"\x1f\x8b no gzip")
    made = served()
    manifest = open_manifest(str(folder), name="damaged", format="text")
    made._corpora["damaged"] = manifest
    corpus = Corpus(Plan((Source("damaged"),)), manifest.info(), made.service)
    assert corpus.count() == 2
    told = made.coverage("damaged")["bytes"]
    assert told["read_by_code"] == 8
    assert told["not_read"] == manifest.shards[1].nbytes > 0


def test_a_run_that_goes_on_keeps_what_was_noted(served: Make) -> None:
    made = served()
    made["logs"].grep("auth").count()
    made.marks.close()
    again = ReadLog(made.call.run_dir, "0")
    below = ReadLog(made.call.run_dir, "0-1")
    again.whole("model", "docs", [])
    below.whole("code", "docs", [1, 3])
    below.whole("code", "docs", [3, 4])
    again.close()
    below.close()
    told = measure(made.call.run_dir, {name: made._corpora[name] for name in ("logs", "docs")})
    assert told["corpora"]["docs"]["records"]["read_by_code"] == 3
    assert told["corpora"]["logs"]["bytes"]["not_read"] == 0
