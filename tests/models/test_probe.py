"""A wrong model, key or address ends a run before anything is spent; an endpoint that cannot be judged does not."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import rlm_ray
from rlm_ray.errors import CredentialsError, SettingsError
from rlm_ray.models.contract import Usage
from rlm_ray.models.probe import endpoints_of, probe
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.settings import Settings
from rlm_ray.testing import ModelServer
from rlm_ray.testing.faults import Faults
from tests.models.conftest import Raw, completion
from tests.servers import free_ports

Start = Callable[..., Raw]


def probed(settings: Settings) -> Usage:
    """Probe and return what it cost."""
    meter = BudgetMeter(Budget.of(settings))
    asyncio.run(probe(endpoints_of(settings), meter))
    return meter.sums[2]


def settings_at(base_url: str, **more: Any) -> Settings:
    return Settings(root_model="large", sub_model="small", base_url=base_url, **more)


def test_listed_models_cost_nothing() -> None:
    with ModelServer(models=("large", "small", "other")) as server:
        assert probed(settings_at(server.base_url, models=("other",))).calls == 0
        assert server.stats()["count"] == 0


def test_a_model_that_is_not_there_is_named_with_those_that_are() -> None:
    with ModelServer(models=("large", "tiny")) as server, pytest.raises(SettingsError) as caught:
        probed(settings_at(server.base_url))
    assert "has no model 'small' (HTTP 404). It has: large, tiny. Correct --sub-model." in str(caught.value)


def test_a_further_model_is_looked_for_too() -> None:
    with ModelServer(models=("large", "small")) as server, pytest.raises(SettingsError, match=r"no model 'huge'.*Correct models"):
        probed(settings_at(server.base_url, models=("huge",)))


def test_a_wrong_key_is_refused() -> None:
    server = ModelServer(models=("large", "small"), faults=Faults(key="right"))
    with server, pytest.raises(CredentialsError, match="refused the key in OPENAI_API_KEY"):
        probed(settings_at(server.base_url))


@pytest.mark.parametrize("address", ["localhost:8000/v1", "//models.example/v1", "models.example"])
def test_an_address_without_a_scheme(address: str) -> None:
    with pytest.raises(SettingsError, match=r"has no scheme. Write it as 'http://host:port/v1'"):
        probed(settings_at(address))


def test_nothing_listens() -> None:
    with pytest.raises(SettingsError, match=r"Nothing answers at http://127.0.0.1"):
        probed(settings_at(f"http://127.0.0.1:{free_ports(1)[0]}/v1"))


def test_a_proxy_that_says_400_for_a_wrong_key(raw_server: Start) -> None:
    async def answer(body: Any, request: web.Request) -> web.StreamResponse:
        told = {
            "error": {"message": "Authentication Error, Invalid proxy server token passed.", "type": "auth_error", "code": "400"}
        }
        return web.json_response(told, status=400)

    with pytest.raises(CredentialsError, match="refused the key"):
        probed(settings_at(raw_server(answer).base_url))


def test_a_proxy_that_says_400_for_a_wrong_model(raw_server: Start) -> None:
    async def answer(body: Any, request: web.Request) -> web.StreamResponse:
        told = "Invalid model name passed in model=small. Call `/v1/models` to view available models for your key."
        if body["model"] == "small":
            return web.json_response({"error": {"message": told, "code": "400"}}, status=400)
        return web.json_response(completion())

    with pytest.raises(SettingsError, match=r"no model 'small' \(HTTP 400\). It lists no models"):
        probed(settings_at(raw_server(answer).base_url))


def test_a_server_without_a_list_is_asked_for_one_token_a_model(raw_server: Start) -> None:
    async def answer(body: Any, request: web.Request) -> web.StreamResponse:
        return web.json_response(completion())

    raw = raw_server(answer)
    assert probed(settings_at(raw.base_url)).calls == 2
    assert [(body["model"], body["max_tokens"]) for body in raw.bodies] == [("large", 1), ("small", 1)] or len(raw.bodies) == 2


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_an_endpoint_that_cannot_be_judged_is_not(raw_server: Start, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm_ray.models.probe.TOKEN_SECONDS", 0.3)

    async def answer(body: Any, request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "max_tokens must be at least 16."}}, status=status)

    probed(settings_at(raw_server(answer).base_url))


def test_a_run_ends_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("one\ntwo\n")
    with ModelServer(root=["```repl\nFinal = context.count()\n```"], models=("root", "leaf")) as server:
        settings = server.settings(run_dir=str(tmp_path / "runs"), sub_model="leef")
        with pytest.raises(SettingsError, match=r"no model 'leef'.*root, leaf"):
            rlm_ray.ask(rlm_ray.open(str(tmp_path / "a.log")), "How many?", settings)
    assert not (tmp_path / "runs").exists()


def test_a_session_looks_before_its_first_call(tmp_path: Path) -> None:
    with ModelServer(leaf=lambda prompt, schema: "yes", models=("root", "leaf")) as server:
        settings = server.settings(run_dir=str(tmp_path / "runs"))
        (tmp_path / "a.log").write_text("one\ntwo\n")
        with rlm_ray.session(settings.with_(sub_model="leef")) as session:
            assert session.open(str(tmp_path / "a.log")).count() == 2, "what asks no model needs none"
            for _ in range(2):
                with pytest.raises(SettingsError, match=r"no model 'leef'.*root, leaf"):
                    session.llm_query("Is it so?")
        with rlm_ray.session(settings) as session:
            assert session.llm_query("Is it so?") == "yes"


def test_the_command_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("one\n")
    command = [sys.executable, "-m", "rlm_ray", "ask", str(tmp_path / "a.log"), "-q", "How many?", "--root-model", "m"]
    command += ["--base-url", "localhost:8000/v1", "--run-dir", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"OPENAI_API_KEY": "none"})
    assert done.returncode == 2, done.stderr
    assert "has no scheme" in done.stderr


def test_single_tokens_are_paid_in_the_run(raw_server: Start, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("one\ntwo\n")

    async def answer(body: Any, request: web.Request) -> web.StreamResponse:
        return web.json_response(completion("```repl\nFinal = context.count()\n```"))

    raw = raw_server(answer)
    settings = settings_at(raw.base_url, run_dir=str(tmp_path / "runs"))
    answered = rlm_ray.ask(rlm_ray.open(str(tmp_path / "a.log")), "How many?", settings)
    assert answered.value == 2
    assert answered.usage["calls"] == len(raw.bodies) == 3
    log = next((tmp_path / "runs").glob("*/calls/0/events.jsonl")).read_text()
    assert next(json.loads(line)["event"] for line in log.splitlines()) == "Probed"
