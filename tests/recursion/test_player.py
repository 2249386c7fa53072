from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.errors import SettingsError
from rlm_ray.recursion.loop import loop
from rlm_ray.recursion.loop.cells import cells
from rlm_ray.recursion.loop.player import Player
from rlm_ray.testing import ModelServer, each


@pytest.mark.parametrize("code", ["n = 1", "text = '''\n```repl\nx\n```\n'''\nprint(text)", "a = '````'\n\nb = 2"])
def test_a_cell_comes_back_out_of_its_reply(code: str) -> None:
    reply = Player([code]).turn(1, None)
    assert isinstance(reply, loop.Replied)
    assert cells(reply.text) == [code]


@pytest.fixture
def lake(tmp_path: Path) -> str:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.log").write_text("".join(f"line {n} {'ERROR' if n % 5 == 0 else 'INFO'}\n" for n in range(20)))
    return str(folder)


Play = Callable[..., Any]


@pytest.fixture
def play(lake: str, model_server: Callable[..., ModelServer], run_dir: Path) -> Play:
    server = model_server(leaf=each(lambda text: "yes"), models=("leaf",))

    def played(*program: str, **options: Any) -> tuple[Any, ModelServer]:
        settings = rlm_ray.Settings(sub_model="leaf", base_url=server.base_url, run_dir=str(run_dir), **options)
        return rlm_ray.ask(rlm_ray.open(lake), "Which?", settings, program=program), server

    return played


def test_a_program_asks_leaves_and_no_root_model(play: Play) -> None:
    answer, server = play(
        "hits = context.grep('ERROR')",
        "rows = llm_each('Bad?', hits, schema={'bad': ['yes', 'no']})\nprint(rows.count())",
        "Final = rows.count_by('bad')",
    )
    assert (answer.value, answer.complete, answer.stop_reason) == ({"yes": 4}, True, "answered")
    assert {request["model"] for request in server.requests} == {"leaf"}
    assert answer.usage["calls"] == server.count


def test_a_cell_that_fails_ends_it(play: Play) -> None:
    answer, server = play("n = 1", "nothing_like_it", "Final = n")
    assert (answer.value, answer.complete, answer.stop_reason) == (None, False, "program")
    assert "Cell 2 of the program failed" in answer.message
    assert "nothing_like_it" in answer.message
    assert server.count == 0


def test_a_program_that_sets_no_answer(play: Play) -> None:
    answer, _ = play("n = 1", "print(n)")
    assert answer.stop_reason == "program"
    assert "without an answer" in answer.message


def test_a_finished_program_is_told_again_and_one_without_a_model_is_refused(play: Play, lake: str, run_dir: Path) -> None:
    answer, server = play("Final = llm_query('Bad?', context[:1])", run_id="night")
    again, _ = play("Final = llm_query('Bad?', context[:1])", run_id="night")
    assert answer.value == again.value == "yes"
    assert server.count == 1
    with pytest.raises(SettingsError, match="program's sub-calls"):
        rlm_ray.ask(rlm_ray.open(lake), "Which?", rlm_ray.Settings(run_dir=str(run_dir)), program=["Final = 1"])
