"""A run is replayed without a model: the same, or where it first differs; what a run would cost is said without a model too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import rlm_ray
from rlm_ray import api
from rlm_ray.cli import main
from rlm_ray.errors import InputError
from rlm_ray.settings import Price
from rlm_ray.testing import Faults, ModelServer, each

ROOT = [
    "```repl\nfound = llm_each('Which?', context, schema={'n': 'integer'})\nprint(found.ok.count(), found.head(2))\n```",
    "```repl\nsaid = rlm_query('inner', context[:4])\nword = llm_query('one word')\nprint(said, word, budget())\n```",
    "```repl\nprint(context.map(lambda record: {'size': len(record['text'])}).head(1))\nFinal = [said, found.count()]\n```",
]
CHILD = ["```repl\nprint(context.count())\n```", "```repl\nFinal = llm_map('All?', context.chunks(tokens=50)).count()\n```"]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    (folder / "a.log").write_text("".join(f"number {number} here\n" for number in range(30)))
    return folder


def files(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "lease" not in path.parts
    }


def reads(text: str) -> dict[str, int]:
    return {"n": int(text.split()[1])} if text.startswith("number") else {"n": 0}


def test_the_same_and_the_first_difference(
    lake: Path, ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    server = model_server(root={"": ROOT, "inner": CHILD}, leaf=each(reads))
    answer = rlm_ray.ask(rlm_ray.open(str(lake)), "outer", server.settings(run_dir=str(run_dir), records_per_call=5))
    assert answer.complete, answer.message
    asked, before = server.count, files(run_dir)
    told = api.verify(answer.run)
    assert told == {"run": answer.run, "same": True, "cells": len(ROOT) + len(CHILD), "difference": None}
    assert server.count == asked, "no model was called"
    assert files(run_dir) == before, "nothing was written"

    child = next(Path(answer.run, "calls").glob("0-*")) / "events.jsonl"
    child.write_text(child.read_text().replace('"output":"4', '"output":"5'))
    told = api.verify(answer.run)
    assert not told["same"]
    assert told["difference"]["call"] == child.parent.name
    assert (told["difference"]["cell"], told["difference"]["part"]) == ("1.1", "output")
    ended = CliRunner().invoke(main, ["verify", answer.run])
    assert ended.exit_code == 1
    assert f"turn 1, cell 1 of call {child.parent.name}: the output differs, after 3 cells" in ended.output


FAILING = [
    "```repl\ntry:\n    llm_query('broken')\nexcept SubcallFailed as error:\n    first = str(error)\nprint(first)\n```",
    "```repl\ntry:\n    llm_query_batched(['good', 'broken', 'fine'])\nexcept SubcallsFailed as error:\n"
    "    second = [error.answers, sorted(error.errors)]\nprint(second)\n```",
    "```repl\nparts = [context[:4], context[4:8]]\nbelow = rlm_map('inner', parts)\n"
    "said = [below.ok.count(), below.failed.count()]\n"
    "try:\n    rlm_query('lost', context[:3])\nexcept SubcallFailed as error:\n    said.append(str(error)[:30])\nprint(said)\n```",
    "```repl\nfound = llm_each('Which?', context, schema={'n': 'integer'})\nprint(found.ok.count(), found.failed.count())\n"
    "try:\n    llm_query_batched([str(n) for n in range(9_999)])\nexcept BudgetExceeded as error:\n    print(error)\n"
    "Final = [first[:20], second, said]\n```",
]


def test_what_failed_fails_again_in_the_same_way(
    lake: Path, ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    """Failed calls are not kept as answers, so a replay is told of them; recursive calls are replayed whatever came of it."""

    def leaf(prompt: str, schema: Any) -> Any:
        if "broken" in prompt:
            raise InputError("broken")  # answered 400: not tried again
        return each(reads)(prompt, schema) if schema else "word"

    def leaves(prompt: str, schema: Any) -> Any:
        return "no number" if "number 7 here" in prompt else leaf(prompt, schema)

    server = ModelServer(root={"": FAILING, "inner": CHILD, "lost": CHILD[:1]}, leaf=leaves)
    with server:
        settings = server.settings(run_dir=str(run_dir), records_per_call=1, max_calls=1_000, max_turns=6)
        answer = rlm_ray.ask(rlm_ray.open(str(lake)), "outer", settings)
        assert answer.stop_reason == "answered", answer.message
        assert answer.value[1:] == [[["word", None, "word"], [1]], [2, 0, "The recursive call failed: no "]]
        asked, before = server.count, files(run_dir)
        told = api.verify(answer.run)
        assert told["same"], json.dumps(told["difference"], indent=1)
        assert told["cells"] == len(FAILING) + 2 * len(CHILD) + 1
        assert (server.count, files(run_dir)) == (asked, before)


def test_what_a_cell_makes_up_anew_is_a_difference(
    lake: Path, ray_local: Any, model_server: Callable[..., ModelServer], run_dir: Path
) -> None:
    server = model_server(root=["```repl\nimport time\nprint(context.count())\nFinal = time.time()\n```"])
    answer = rlm_ray.ask(rlm_ray.open(str(lake)), "q", server.settings(run_dir=str(run_dir)))
    told = api.verify(answer.run)
    assert (told["difference"]["cell"], told["difference"]["part"]) == ("1.1", "final")


def test_a_dry_run_calls_no_model(lake: Path, model_server: Callable[..., ModelServer], run_dir: Path, tmp_path: Path) -> None:
    server = model_server(root=ROOT)
    settings = tmp_path / "settings.json"
    prices = {name: Price(input=1, output=2).model_dump() for name in ("root", "leaf")}
    settings.write_text(json.dumps({"prices": prices, "chunk_tokens": 64, "max_usd": 0.001, "run_dir": str(run_dir)}))
    command = ["ask", str(lake), "-q", "how many?", "--dry-run", "--root-model", "root", "--sub-model", "leaf"]
    command += ["--base-url", server.base_url, "--settings", str(settings)]
    ended = CliRunner().invoke(main, [*command, "--json"])
    assert ended.exit_code == 0, ended.output
    told = json.loads(ended.stdout)
    size = (lake / "a.log").stat().st_size
    assert told["corpora"]["context"]["records"] == pytest.approx(30, abs=2)
    assert told["tokens"] == pytest.approx(size / 4, rel=0.1)
    way = told["ways"]["llm_map"]
    assert way["calls"] == -(-told["tokens"] // 64)
    assert way["usd"] == pytest.approx((way["prompt_tokens"] + 2 * way["completion_tokens"]) / 1e6, rel=0.05)
    assert told["enough"] == []
    text = CliRunner().invoke(main, command)
    assert text.exit_code == 0
    assert "the limits do not reach for reading all of it" in text.output
    assert "No model was called." in text.output
    assert server.count == 0
    assert list(run_dir.iterdir()) == []


@pytest.mark.parametrize("where", ["root", "leaf", "below"])
def test_a_refused_key_ends_the_run_at_once(
    where: str,
    lake: Path,
    ray_local: Any,
    model_server: Callable[..., ModelServer],
    run_dir: Path,
    monkeypatch: Any,
    tmp_path: Path,
) -> None:
    """Also in a sub-call, and in a sub-call of a recursive call, whatever root code does about it."""
    quiet = "try:\n    {}\nexcept BaseException as error:\n    print(error)"
    batch = "found = llm_each('Which?', context, schema={'n': 'integer'})\n" + quiet.format("print(found.count())")
    asks = {"leaf": batch, "below": quiet.format("rlm_query('inner', context[:9])")}
    root = [f"```repl\n{asks.get(where, 'pass')}\n```", *["```repl\nprint('going on')\n```"] * 20]
    good = model_server(root={"": root, "inner": [f"```repl\n{batch}\n```"] * 5}, faults=Faults(key="test-key"))
    bad = model_server(faults=Faults(key="another"))
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"sub_base_url": bad.base_url, "records_per_call": 1}))
    command = ["ask", str(lake), "-q", "outer", "--root-model", "root", "--sub-model", "leaf", "--settings", str(settings)]
    command += ["--base-url", (bad if where == "root" else good).base_url, "--run-dir", str(run_dir), "--run-id", "night"]
    ended = CliRunner().invoke(main, command)
    assert ended.exit_code == 2, ended.output
    assert "refused the key in OPENAI_API_KEY (HTTP 401)" in ended.output
    assert "Set OPENAI_API_KEY to a key that this endpoint accepts" in ended.output
    assert good.count <= {"root": 0, "leaf": 2, "below": 3}[where]
    assert bad.count <= 64
