"""The pages as a browser shows them: widths, hostile texts, accessibility, a live run. Skips where there is no Chromium."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rlm_ray.ledger.calllog import CallLog
from rlm_ray.ledger.lease import Lease
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.ui.server import Server
from tests.report.browser import Browser, binary

pytestmark = pytest.mark.skipif(binary() is None, reason="no chromium: apt-get install chromium")

AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
PAGES = [
    "/",
    "/run/night-1",
    "/run/20260101-a",
    "/run/hostile",
    "/run/stopped",
    "/run/torn",
    "/jobs",
    "/job?name=log-audit",
    "/none",
]
PAGES += ["/compare?run=20260101-a&run=20260102-b", "/compare?run=night-1&run=night-2", "/?q=x"]


def looked(tmp_path: Path, server: Server, look: Callable[[Browser, str], Awaitable[None]]) -> list[str]:
    """Open the address with the token, then look; returns errors of scripts and policies, and requests that leave the server."""

    async def run() -> list[str]:
        async with Browser(tmp_path / "profile") as browser:
            await browser.send("Page.navigate", wanted="Page.loadEventFired", url=server.address)
            await look(browser, f"http://127.0.0.1:{server.port}")
            own = f"http://127.0.0.1:{server.port}/"
            return [error for error in browser.errors if not error.startswith(own) and "status of 40" not in error]

    return asyncio.run(run())


async def visit(browser: Browser, url: str, width: int = 1280, dark: bool = False) -> None:
    await browser.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    await browser.send("Emulation.setEmulatedMedia", features=scheme)
    await browser.send("Page.navigate", wanted="Page.loadEventFired", url=url)


def test_pages_fit_a_phone_and_a_desk_and_run_nothing_that_a_run_says(
    tmp_path: Path, runs: Path, serve: Callable[[Path], Server]
) -> None:
    async def look(browser: Browser, base: str) -> None:
        assert await browser.ask("location.search") == ""  # the token is gone from the address
        assert await browser.ask("document.cookie") == ""  # and no script sees the cookie
        for path in [*PAGES, "/run/hostile/report"]:
            for width in (1280, 400):
                await visit(browser, base + path, width)
                assert await browser.ask("document.documentElement.scrollWidth <= innerWidth"), (path, width)
                assert await browser.ask("document.title") != "broken"
                assert await browser.ask("document.querySelectorAll('img, iframe').length") == 0
        assert await browser.ask("origin") == "null"  # the report's scripts have no origin
        await visit(browser, base + "/")
        await browser.ask(
            "document.querySelectorAll('ol.runs input').forEach((box, number) => { box.checked = [2, 3].includes(number) })"
        )
        await browser.send(
            "Runtime.evaluate", wanted="Page.loadEventFired", expression="document.querySelector('ol + p button').click()"
        )
        assert await browser.ask("location.pathname + location.search.length + document.querySelector('h1').textContent") == (
            "/compare24Two runs compared"
        )

    assert looked(tmp_path, serve(runs), look) == []


@pytest.mark.skipif(not AXE.exists(), reason="no axe: npm install axe-core")
def test_axe_finds_no_violation(tmp_path: Path, runs: Path, serve: Callable[[Path], Server]) -> None:
    async def look(browser: Browser, base: str) -> None:
        for path in [*PAGES, "/run/night-1/report"]:
            for dark in (False, True):
                await visit(browser, base + path, 400 if dark else 1280, dark)
                await browser.ask(f"{AXE.read_text('utf-8')};0")
                found = await browser.ask("axe.run().then((told) => JSON.stringify([told.violations, told.passes.length]))")
                violations, passes = json.loads(found)
                assert violations == [], path
                assert passes > 20

    assert looked(tmp_path, serve(runs), look) == []


def test_a_live_run_is_followed_without_loading_the_page_again(
    tmp_path: Path, run_dir: Path, serve: Callable[[Path], Server]
) -> None:
    run = RunDirectory.create(str(run_dir), "night", {"question": "How long?", "settings": {}})
    log = CallLog(run.uri, "0")

    def turn(number: int, output: str) -> None:
        log.append({"event": "Asking", "most": [1, 1, 1]})
        log.append({"event": "Replied", "given": {"text": f"reply {number}"}, "at": float(number)})
        given = {"output": output, "error": None, "problem": None, "requests": 0}
        log.append({"event": "CellDone", "cell": f"{number}.1", "code": f"print({number})", "given": given, "at": float(number)})
        log.flush()

    async def until(browser: Browser, expression: str) -> None:
        await browser.ask(f"new Promise((done) => {{ const look = () => {expression} ? done() : setTimeout(look, 50); look(); }})")

    async def look(browser: Browser, base: str) -> None:
        await visit(browser, f"{base}/run/night")
        await browser.ask("window.mark = 1")
        assert await browser.ask("document.querySelector('#live [role=status]').textContent") == (
            f"running turn 1: after 1 cell of it {await browser.ask('document.querySelector(`#live .none`).textContent')}"
        )
        turn(2, "<img src=x onerror=document.title='broken'>")
        await until(browser, "document.querySelectorAll('#live details').length === 2")
        assert await browser.ask("[...document.querySelectorAll('#live details')].map((item) => item.open)") == [True, False]
        assert await browser.ask("window.mark") == 1
        assert await browser.ask("document.querySelectorAll('img').length") == 0
        run.save_answer(ANSWER)
        await browser.send("Runtime.evaluate", wanted="Page.loadEventFired", expression="0")  # the page loads itself again
        assert await browser.ask("document.querySelector('.big').textContent") == "7"

    with Lease(run.uri):
        turn(1, "one")
        assert looked(tmp_path, serve(run_dir), look) == []
    log.close()


ANSWER = {
    "value": 7, "complete": True, "stop_reason": "answered", "citations": [], "refused": [], "failures": [], "message": "",
    "usage": {"calls": 2, "prompt_tokens": 1, "completion_tokens": 1, "cached_tokens": 0, "usd": 0.0, "seconds": 1.0},
    "coverage": {"bytes": {}, "records": {}}, "events": {}, "denied": {}, "isolation": "strict", "run": "night", "turns": 2,
}  # fmt: skip
