"""A run that goes on, as its page tells of it: seen from another thread while a real run waits for its model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import rlm_ray
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.testing import ModelServer
from rlm_ray.ui.live import live

CODE = "```repl\nprint(context.count())\n```"
ASK = "```repl\nprint(llm_query('Is it late?'))\n```"
END = "```repl\nFinal = 7\n```"


def test_a_run_is_followed_from_its_first_turn_to_its_answer(
    tmp_path: Path, run_dir: Path, model_server: Callable[..., ModelServer]
) -> None:
    (tmp_path / "a.log").write_text("one\ntwo\n")
    asked, answered = threading.Event(), threading.Event()

    def leaf(prompt: str, schema: object) -> str:
        asked.set()
        assert answered.wait(60)
        return "yes"

    settings = model_server(root=[CODE, ASK, END], leaf=leaf).settings(run_dir=str(run_dir), run_id="night")
    thread = threading.Thread(target=rlm_ray.ask, args=(rlm_ray.open(str(tmp_path / "a.log")), "How many?", settings))
    thread.start()
    try:
        assert asked.wait(60)
        run = RunDirectory.find("night", str(run_dir))
        going = live(run)
        assert (going.state, going.where) == ("running", "turn 2: after 0 cells of it")
        assert [turn["cells"][0]["output"] for turn in going.turns[:1]] == ["2\n"]
        assert [(item["verb"], item["prompt"]) for item in going.under_way] == [("llm_query", "Is it late?")]
        assert "process" in going.holder
        assert dict(going.numbers)["turns"] == "2"
    finally:
        answered.set()
        thread.join(60)
    ended = live(run)
    assert (ended.state, ended.holder, ended.under_way) == ("answered", "", [])
    assert dict(ended.numbers)["model calls"] == "4"
