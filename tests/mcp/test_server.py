"""The server for agents, by the SDK's own client: what an agent does, and what a hostile one tries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlm_ray
from rlm_ray.testing import ModelServer, each

pytest.importorskip("mcp", reason="pip install 'rlm-ray[mcp]'")

from rlm_ray.mcp import server as servers
from rlm_ray.mcp.notebook import MAX_OUTPUT, Notebook


@pytest.fixture
def notebook(tmp_path: Path, run_dir: Path, model_server: Callable[..., ModelServer]) -> Notebook:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.log").write_text("".join(f"line {n} {'ERROR' if n % 5 == 0 else 'INFO'}\n" for n in range(20)))
    server = model_server(leaf=each(lambda text: "yes"), root=["```repl\nFinal = logs.count()\n```"])
    settings = server.settings(run_dir=str(run_dir), max_calls=4)
    return Notebook({"logs": rlm_ray.open(str(folder), settings=settings)}, settings)


def session(notebook: Notebook, work: Callable[[Any], Any]) -> Any:
    from mcp.client.client import Client

    async def run() -> Any:
        async with Client(servers.make(notebook)) as client:
            return await work(client)

    return asyncio.run(run())


def test_an_agent_looks_counts_and_cites(notebook: Notebook) -> None:
    async def work(client: Any) -> None:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {"describe", "execute_code", "ask", "show", "cite", "restart"}
        (resource,) = (await client.list_resources()).resources
        assert "line 0 ERROR" in (await client.read_resource(resource.uri)).contents[0].text
        first = await client.call_tool("execute_code", {"code": "hits = logs.grep('ERROR')\nprint(hits.count())"})
        assert first.structured_content["output"] == "4\n"
        second = await client.call_tool("execute_code", {"code": "cite(hits.head(1)[0], 'line 0')\nprint(len(hits.head(9)))"})
        told = second.structured_content
        assert (told["output"], told["error"], told["calls_left"]) == ("4\n", None, 4)
        assert told["coverage"]["bytes"]["total"] > 0
        cited = await client.call_tool("cite", {"run": told["run"], "number": 1})
        assert cited.structured_content["record"]["text"] == "line 0 ERROR"
        assert "hits.count()" in (await client.call_tool("show", {"run": told["run"]})).content[0].text
        answer = (await client.call_tool("ask", {"question": "How many lines?"})).structured_content
        assert (answer["value"], answer["complete"], answer["calls_left"]) == ("20", True, 3)

    session(notebook, work)


HOSTILE = {
    "a file of the host": ("print(open('/etc/passwd').read())", "root:"),
    "the environment": ("import os\nprint(os.environ)", "test-key"),
    "a process": ("import subprocess\nprint(subprocess.run(['id'], capture_output=True))", "uid="),
    "the network": ("import socket\nsocket.create_connection(('127.0.0.1', 22), 1)\nprint('out')", "out\n"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_code_that_tries_to_leave_does_not(notebook: Notebook, name: str) -> None:
    code, prize = HOSTILE[name]

    async def work(client: Any) -> None:
        told = (await client.call_tool("execute_code", {"code": code})).structured_content
        assert prize not in told["output"]

    session(notebook, work)


def test_what_is_wrong_is_said_and_changes_nothing(notebook: Notebook) -> None:
    async def work(client: Any) -> None:
        failed = (await client.call_tool("execute_code", {"code": "n = 1\nprint(undefined)"})).structured_content
        assert "NameError" in failed["error"]
        after = (await client.call_tool("execute_code", {"code": "print('n' in dir())"})).structured_content
        assert after["output"] == "False\n"
        for tool, given, said in [
            ("execute_code", {"code": "print(1)", "limit": 5}, "limit"),
            ("execute_code", {"code": " "}, "The cell is empty"),
            ("describe", {"corpus": "other"}, "There is no corpus 'other'"),
            ("show", {"run": "/etc"}, "no run of this agent"),
            ("cite", {"run": after["run"], "number": 1}, "there is none with the number 1"),
        ]:
            refused = await client.call_tool(tool, given)
            assert refused.is_error
            assert said in refused.content[0].text
        long = (await client.call_tool("execute_code", {"code": "print('x' * 10**6)"})).structured_content
        assert len(long["output"]) < MAX_OUTPUT + 100

    session(notebook, work)


def test_the_budget_is_one_for_all_that_an_agent_does(notebook: Notebook) -> None:
    async def work(client: Any) -> None:
        spend = "print(llm_query_batched([f'{n}?' for n in range(3)]))"
        assert (await client.call_tool("execute_code", {"code": spend})).structured_content["calls_left"] == 1
        # what the first cell paid is not paid again; what would pass the limit is refused
        more = (await client.call_tool("execute_code", {"code": "print(llm_query_batched(['a?', 'b?']))"})).structured_content
        assert more["error"] is not None or more["calls_left"] == 0
        await client.call_tool("execute_code", {"code": "print(llm_query('c?'))"})
        refused = await client.call_tool("ask", {"question": "How many?"})
        assert refused.is_error
        assert "budget" in refused.content[0].text

    session(notebook, work)


def test_nobody_without_the_token_is_answered(notebook: Notebook) -> None:
    guarded = servers.http_app(servers.make(notebook), "secret")
    for header in ([], [(b"authorization", b"Bearer wrong")]):
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any], sent: list[dict[str, Any]] = sent) -> None:
            sent.append(message)

        asyncio.run(guarded({"type": "http", "headers": header}, None, send))
        assert sent[0]["status"] == 401


def test_the_skill_names_every_tool() -> None:
    assert all(f"`{name}" in servers.skill() for name in ("describe", "execute_code", "cite", "ask"))
