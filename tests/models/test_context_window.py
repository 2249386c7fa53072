"""A root model whose context window is smaller than `history_tokens`: its history is folded, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

import rlm_ray
from rlm_ray.settings import Settings
from tests.models.conftest import Raw, completion

WINDOW = 30_000


def test_a_history_longer_than_the_window_is_folded(raw_server: Callable[..., Raw], tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("one\ntwo\n")
    sizes: list[int] = []
    turns = 0

    async def answer(body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        nonlocal turns
        size = sum(len(message["content"]) for message in body["messages"])
        sizes.append(size)
        if size > WINDOW:
            told = {"error": {"message": "This model's maximum context length is 8192 tokens.", "code": "context_length_exceeded"}}
            return web.json_response(told, status=400)
        turns += body["max_tokens"] > 1  # the probe asks for one token
        code = "Final = context.count()" if turns >= 8 else "print(context.head(1), 'x' * 6000)"
        return web.json_response(completion(f"```repl\n{code}\n```"))

    settings = Settings(root_model="m", base_url=raw_server(answer).base_url, run_dir=str(tmp_path / "runs"))
    answered = rlm_ray.ask(rlm_ray.open(str(tmp_path / "a.log")), "How many?", settings)
    assert (answered.value, answered.complete) == (2, True)
    assert any(size > WINDOW for size in sizes)
