"""The engine loses nothing: a perfect reader scores 1, a fallible one what its readings give when code counts them."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import rlm_ray
from rlm_ray import cli
from rlm_ray.evals import methods
from rlm_ray.evals.cases import Case
from rlm_ray.evals.methods import Tools, Way
from rlm_ray.evals.running import SOURCES, means
from rlm_ray.settings import Settings
from rlm_ray.testing import ModelServer, each

JOBS = Path(__file__).resolve().parents[2] / "jobs" / "evals"
#: Of OOLONG's questions and of the twenty queries, one of each kind; all of them with RLM_RAY_TEST_FULL=1.
FULL = os.environ.get("RLM_RAY_TEST_FULL") == "1"
SOME = {"oolong": (-9, -5, -1), "oolong-pairs": (-17, -5)}
SIZE = 8_192 if FULL else 1_536


@pytest.fixture
def tools(ray_local: Any, run_dir: Path) -> Tools:
    settings = methods.simulated_prices(Settings(run_dir=str(run_dir), second_readings=0))
    return Tools(rlm_ray.ask, rlm_ray.open, rlm_ray.session, settings, window=1_024)


def some(name: str, size: int = SIZE, data: str | None = None) -> list[Case]:
    cases = list(SOURCES[name]([size], 1, 1, data))
    return cases if FULL or name not in SOME else [cases[at] for at in SOME[name]]


@pytest.mark.parametrize("name", ["sniah", "oolong", "oolong-pairs", "alerts", "clauses"])
def test_a_perfect_reader_scores_one(tools: Tools, name: str) -> None:
    for case in some(name):
        said = methods.answer(case, Way("engine", 1, 1.0), tools)
        assert said is not None
        assert said.trouble == ""
        assert case.score(said.answer, case.gold) == 1, (case.id, said.answer, case.gold)
        assert (said.coverage, said.calls > 0, (said.usd or 0) > 0) == (1, True, True)
        assert said.shown is not None
        assert said.shown > 0.95  # a window's heading is read by code alone


@pytest.mark.parametrize("accuracy", [0.7, 0.8, 0.9, 0.99])
def test_a_fallible_reader_loses_nothing_on_the_way(tools: Tools, accuracy: float) -> None:
    """Exactly: each record gets the reading that its draw gives. And so, three standard errors: no fewer are right than is said."""
    [case] = some("alerts", 4 * SIZE)
    way = Way("engine", 5, accuracy)
    said = methods.answer(case, way, tools)
    assert said is not None
    assert case.whole is not None
    assert said.answer == case.whole(methods.reader_of(case, way), case.records)
    right = len(case.records) - len(set(said.answer) ^ set(case.gold))
    n = len(case.records)
    assert right >= n * accuracy - 3 * math.sqrt(n * accuracy * (1 - accuracy))
    for name in ("oolong", "clauses"):
        case = some(name)[0]
        told = methods.answer(case, way, tools)
        assert told is not None
        assert case.score(told.answer, case.gold) == methods.by_arithmetic(case, way)


@pytest.mark.parametrize("accuracy", [0.7, 0.9])
def test_votes_buy_what_arithmetic_says_and_the_third_costs_only_where_two_differ(tools: Tools, accuracy: float) -> None:
    [case] = some("alerts", 4 * SIZE)
    n, right, calls = len(case.records), {}, {}
    for votes in (1, "2+1", 3):
        way = Way("engine", 5, accuracy, votes)
        said = methods.answer(case, way, tools)
        assert said is not None
        assert case.score(said.answer, case.gold) == methods.by_arithmetic(case, way)
        right[votes], calls[votes] = n - len(set(said.answer) ^ set(case.gold)), said.calls
    assert right["2+1"] == right[3]  # of two labels, the third decides exactly where it is asked
    majority = accuracy**3 + 3 * accuracy**2 * (1 - accuracy)
    assert right[3] >= n * majority - 3 * math.sqrt(n * majority * (1 - majority))
    assert right[3] > right[1]
    # a pack holds fifty records, and a root call is none: 2 + 2a(1-a) readings of each, but for packs that are not full
    packs = math.ceil(n / 50)
    assert (calls[1], calls[3]) == (packs, 3 * packs)
    assert 2 * packs < calls["2+1"] <= 2 * packs + math.ceil(1.3 * 2 * accuracy * (1 - accuracy) * packs) + 1 < calls[3]


@pytest.mark.parametrize(
    ("name", "data_of"),
    [("sniah", "sniah"), ("oolong", "oolong"), ("oolong-pairs", "oolong"), ("alerts", "logs/parquet/system=BGL"),
     pytest.param("clauses", "contracts", marks=pytest.mark.skipif(not FULL, reason="510 contracts: RLM_RAY_TEST_FULL=1"))],
)  # fmt: skip
def test_a_perfect_reader_scores_one_on_real_data(tools: Tools, data: Path, name: str, data_of: str) -> None:
    for case in some(name, data=str(data / data_of))[:2]:
        said = methods.answer(case, Way("engine", 1, 1.0), tools)
        assert said is not None
        assert case.score(said.answer, case.gold) == 1, (case.id, said.trouble)


def test_baselines_are_run_and_score_less_where_reading_is_needed(tools: Tools) -> None:
    [case] = some("alerts", 4 * SIZE)
    scores = {}
    for method in ("one-prompt", "no-sub-calls", "code", "keyword", "constant"):
        said = methods.answer(case, Way(method, 1, 1.0), tools)
        assert said is not None
        assert said.trouble == ""
        scores[method] = case.score(said.answer, case.gold)
    assert 0 < scores["one-prompt"] < 1  # a sixth of it fits
    assert scores["no-sub-calls"] == 1  # a reader that has all of so little before it
    assert max(scores["code"], scores["keyword"], scores["constant"]) < 1


def test_models_at_an_endpoint(tools: Tools, model_server: Any) -> None:
    [case] = some("sniah")
    assert case.truth is not None

    def root(messages: list[Any]) -> str:
        if "Do not call a language model" in str(messages):
            return f"```repl\nprint(context.count())\nFinal = {case.gold!r}\n```"
        return f"```repl\nVOTES = 1\n{case.program[0]}\n```"

    asked: list[str] = []

    def reader(prompt: str) -> str | None:
        asked.append(prompt)
        return next((said for line in prompt.splitlines() if (said := case.truth and case.truth(line))), None)

    server: ModelServer = model_server(root=root, leaf=each(reader))
    live = Tools(rlm_ray.ask, rlm_ray.open, rlm_ray.session, server.settings(run_dir=tools.settings.run_dir), window=4_096)
    for method in ("engine", "one-prompt", "no-sub-calls"):
        said = methods.answer(case, Way(method, 1, None), live)
        assert said is not None
        assert case.score(said.answer, case.gold) == 1, (method, said)
    assert asked[-1].count("Question: One sentence tells") == 1  # the one long prompt was the last that a leaf read


def test_the_command_prints_a_table_and_writes_parquet(ray_local: Any, run_dir: Path, tmp_path: Path) -> None:
    arguments = ["run", str(JOBS / "sniah.yaml"), "--run-dir", str(run_dir)]
    changes = ["sizes=[600]", "seeds=[1,2]", "accuracies=[1.0]", "votes=[1]", f"output={tmp_path / 'out'}"]
    done = CliRunner().invoke(cli.main, [*arguments, *(word for change in changes for word in ("--set", change))])
    assert done.exit_code == 0, done.output
    assert "| sniah | engine, reader 100 % | 2 | 1.000 ± 0.000 | 1.000 |" in done.stdout
    assert "sniah, engine, reader 100 %, seed 1: 1 case, score 1.000\n" in done.stderr
    assert (tmp_path / "out" / "results.md").read_text() in done.stdout
    rows = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    assert [row["seed"] for row in rows if row["method"] == "engine"] == [1, 2]
    assert {row["method"] for row in means(rows)} == {"engine", "one-prompt", "no-sub-calls", "code", "keyword", "constant"}
    own = tmp_path / "questions.jsonl"
    (tmp_path / "log.txt").write_text("started\nfailed\nfailed\n")
    program = ["Final = context.grep('failed').count()"]
    own.write_text(json.dumps({"data": "log.txt", "question": "How many failed?", "gold": 2, "program": program}))
    arguments = ["run", str(JOBS / "questions.yaml"), "--run-dir", str(run_dir), "--sub-model", "none", "--json"]
    arguments += ["--base-url", "http://127.0.0.1:9/v1", "--set", f"data={own}", "--set", f"output={tmp_path / 'own'}"]
    done = CliRunner().invoke(cli.main, arguments)
    assert done.exit_code == 0, done.output
    assert [(row["method"], row["score"]) for row in json.loads(done.stdout)["rows"]] == [("engine", 1.0)]
