"""The report: of synthetic runs full of hostile text, and of a real one."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.report import gathering
from rlm_ray.report.gathering import gather
from rlm_ray.report.page import page, report
from rlm_ray.testing import ModelServer, each

ALLOWED = {"a", "b", "body", "button", "code", "dd", "details", "div", "dl", "dt", "h1", "h2", "h3", "head", "header", "html"}
ALLOWED |= {"input", "label", "li", "main", "meta", "ol", "p", "polygon", "pre", "q", "rect", "script", "section", "span", "style"}
ALLOWED |= {"circle", "dl", "polyline"}
ALLOWED |= {"g", "summary", "svg", "table", "tbody", "td", "text", "th", "thead", "title", "tr", "ul"}


class Elements(html.parser.HTMLParser):
    """All elements, attributes and scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._script: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self._script = dict(attrs) if tag in ("script", "style") else None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts.append((self._script, data))
            self._script = None


@pytest.mark.parametrize("jobs", [False, True])
def test_text_of_a_corpus_or_a_model_never_becomes_part_of_the_page(run_of: Any, jobs: bool) -> None:
    found = Elements(page(run_of(30, jobs=jobs)))
    assert found.names <= ALLOWED
    assert not {name for name in found.attributes if name.startswith("on") or name in ("src", "srcset", "style", "action")}
    assert len([attributes for attributes, _ in found.scripts if not attributes]) == 2  # ours: one style, one script
    for attributes, text in found.scripts:
        if attributes:
            assert attributes["type"] == "application/json"
            json.loads(text)


def test_the_page_says_where_bytes_were_replaced(run_of: Any) -> None:
    assert "1,234 bytes that are no text are shown as \ufffd in <code>&lt;/script&gt;" in page(run_of(1))


def test_the_page_forbids_whatever_is_not_its_own(run_of: Any) -> None:
    text = page(run_of(1))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].replace("&#39;", "'").split(";"))
    assert rules["default-src"] == "'none'"
    for kind, element in (("style-src", "style"), ("script-src", "script")):
        own = re.findall(rf"<{element}>(.*?)</{element}>", text, re.S)
        assert len(own) == 1
        digest = base64.b64encode(hashlib.sha256(own[0].encode()).digest()).decode()
        assert rules[kind] == f"'sha256-{digest}'"
    assert "http:" not in text.split("</head>")[0]
    assert "https:" not in text.split("</head>")[0]


def test_a_run_without_an_answer_and_one_whose_question_was_not_stored(run_of: Any) -> None:
    told = run_of(3) | {"answer": None}
    told["about"]["question"] = None
    text = page(told)
    assert "no answer yet" in text
    assert "the question was not stored" in text


def test_logs_are_read_one_at_a_time(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory.create(str(run_dir), "many", {"question": "Which?", "corpora": {}})
    for number, call in enumerate(["0", *(f"0-{n:02d}" for n in range(1, 41))]):
        log = run.log(call)
        begun = 1_000.0 - number if number else 900.0  # of those below the root, the last began first
        log.append({"event": "Started", "at": begun, "depth": int(call != "0"), "task": f"Question: {call}?\n\n"})
        log.append({"event": "Replied", "at": begun + 5, "seconds": 4.0, "given": {"text": f"reply {call}"}})
        given = {"output": "x" * 500_000, "error": None, "problem": None, "requests": 1}
        failures = [{"object": f"a{number % 2}", "reason": "gone", "shard": None}]
        told = {"event": "CellDone", "at": begun + 7, "cell": "1.1", "code": "look()", "given": given, "failures": failures}
        log.append(told)
        log.reply("1.1", "1.1-a begun", {"verb": "llm_each", "prompt": "Is it?", "parts": None})
        log.reply("1.1", "1.1-b", ["a head", "that", "is no sub-call"])
        log.close()
    gather(run)  # what is imported for it is here
    tracemalloc.start()
    told = gather(run)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20, "all outputs together are 20 MB, the first 20,000 characters of each less than one"
    assert [call["id"] for call in told["calls"]] == ["0", *(f"0-{n:02d}" for n in range(40, 0, -1))]
    assert told["calls"][1]["question"] == "0-40?"
    (turn,) = told["calls"][1]["turns"]
    assert (turn["reply"], len(turn["cells"][0]["output"]) < 21_000) == ("reply 0-40", True)
    assert [item["prompt"] for item in turn["cells"][0]["asked"]] == ["Is it?"]
    by_lane = {(span.lane, span.begun, span.ended) for span in told["spans"]}
    assert {("root", 1.0, 5.0), ("cell", 5.0, 7.0), ("call", 60.0, 67.0), ("call", 99.0, 106.0)} <= by_lane
    assert told["seconds"] == 106.0
    monkeypatch.setattr(gathering, "MAX_TEXT", 100_000)
    turns = [call["id"] for call in gather(run)["calls"] if call["turns"] is not None]
    assert turns == ["0", "0-03", "0-02", "0-01"], "of the others, the report says that they are not in it"


@pytest.fixture
def asked(model_server: Callable[..., ModelServer], run_dir: Path, tmp_path: Path) -> RunDirectory:
    folder = tmp_path / "logs"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.log").write_text("".join(f"line {n} {'ERROR' if n % 5 == 0 else 'INFO'}\n" for n in range(20)))
    root = {
        "": [
            '```repl\nrows = llm_each("Is it bad?", context.grep("ERROR"), schema={"bad": ["yes", "no"]})\n'
            'print(rows.count_by("bad"))\n```',
            "```repl\nfirst = context.grep('ERROR').head(1)[0]\ncite(first, 'line 0')\n"
            "try:\n    cite(first, 'nowhere')\nexcept InputError as error:\n    print(error)\n"
            "Final = rlm_query('How many lines?', context)\n```",
        ],
        "How many lines?": ["```repl\nFinal = str(context.count())\n```"],
    }
    server = model_server(leaf=each(lambda text: "yes"), root=root)
    answer = rlm_ray.ask(rlm_ray.open(str(folder)), "Which lines are bad?", server.settings(run_dir=str(run_dir), num_cpus=2))
    return RunDirectory(answer.run)


def test_the_report_of_a_real_run(asked: RunDirectory) -> None:
    told = gather(asked)
    assert told["answer"]["value"] == "40"
    assert [call["depth"] for call in told["calls"]] == [0, 1]
    assert told["calls"][1]["question"] == "How many lines?"
    assert told["calls"][1]["outcome"]["value"] == "40"
    model, code, excluded, unread = map(sum, zip(*told["shards"]["context"]["shares"], strict=True))
    assert (model + code, excluded, unread) == (told["shards"]["context"]["nbytes"], 0, 0)
    assert 0 < model < code  # one line in five was read by a model
    # every leaf call has its time; the eight lines are one call
    assert len(told["leaves"].begins) == 1
    assert all(
        0 <= begun < ended <= told["seconds"] for begun, ended in zip(told["leaves"].begins, told["leaves"].ends, strict=True)
    )
    rows = next(item for item in told["results"].values() if "bad" in item["columns"])
    assert rows["total"] == 8
    assert rows["asked"] == "llm_each: Is it bad?"
    assert {span.lane for span in told["spans"]} == {"root", "cell", "call"}
    (refused,) = told["answer"]["refused"]
    assert refused["quote"] == "nowhere"
    text = report(asked.uri)
    assert "Which lines are bad?" in text
    assert "citation of" in text
    (source,) = told["sources"]
    assert (source["problem"], source["quote"] in source["record"]) == ("", True)
    assert source["behind"].startswith("line 1 INFO")
    first, second = ([told["messages"][place] for place in places] for places in told["prompts"])
    assert [message["role"] for message in first] == ["system", "user"]
    assert "Which lines are bad?" in first[1]["content"]
    assert second[: len(first)] == first
    assert second[2]["content"] == told["calls"][0]["turns"][0]["reply"]
    assert "1 record is cited; " in text
    assert "shown to a model: " in text
    assert re.search(r"\b1 (calls|cells|rows|parts|times)\b", text) is None
